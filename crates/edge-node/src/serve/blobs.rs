//! What other boards may read here: what a name stands for, and blobs by digest, from any byte on.
//! A digest is parsed before anything is looked up, so no path comes from outside.

use edge_api::status::{Reason, Status};
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;

use super::query::Query;
use super::reply::{self, Reply};
use crate::images::{Digest, ImageStore, Refused};

/// The digest of what a name stands for.
const DIGEST: &str = "docker-content-digest";
/// A question about layers is no longer than this.
const QUESTION_MAX: usize = 1 << 20;
/// Images in one question about layers.
const IMAGES_MAX: usize = 256;

/// Whether a path is one that boards may read.
pub(super) fn is_for_boards(path: &str) -> bool {
    let below = ["/images/blob/", "/images/push/"];
    path == "/images/manifest" || below.iter().any(|prefix| path.starts_with(prefix))
}

/// The document that a name or a digest stands for, and its digest in a header.
pub(super) fn manifest(images: &ImageStore, query: &Query) -> Result<Reply, Status> {
    let digest = match (query.get("digest"), query.get("ref")) {
        (Some(text), _) => parse(text)?,
        (None, Some(name)) => images.told(name).ok_or_else(|| absent(name))?,
        (None, None) => return Err(Status::bad_request("say ?ref=… or ?digest=…")),
    };
    let mut reply = give(images, &digest, None)?;
    if let Ok(value) = HeaderValue::from_str(digest.as_str()) {
        reply.headers_mut().insert(DIGEST, value);
    }
    Ok(reply)
}

/// A blob, or what of it the `Range` header asks for.
pub(super) fn blob(images: &ImageStore, text: &str, headers: &HeaderMap) -> Result<Reply, Status> {
    let digest = parse(text)?;
    let range = match headers.get(RANGE).map(HeaderValue::to_str) {
        None => None,
        Some(Ok(text)) => from(text),
        Some(Err(_)) => None,
    };
    give(images, &digest, range)
}

fn give(images: &ImageStore, digest: &Digest, range: Option<u64>) -> Result<Reply, Status> {
    let shared = images.share(digest).ok_or_else(|| absent(digest.as_str()))?;
    let length = shared.length;
    let start = range.unwrap_or(0);
    if start > 0 && start >= length {
        let mut reply = reply::text(416, "the blob is shorter than that\n");
        set_range(&mut reply, format!("bytes */{length}"));
        return Ok(reply);
    }
    let pieces = match images.read(shared, start) {
        Ok(pieces) => pieces,
        Err(Refused::Unknown) => return Err(absent(digest.as_str())),
        Err(Refused::Busy) => {
            let mut reply = reply::text(503, "as many boards read here as may\n");
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return Ok(reply);
        }
    };
    let code = if range.is_some() { 206 } else { 200 };
    let mut reply = reply::pieces(code, length - start, pieces);
    reply.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if range.is_some() {
        set_range(&mut reply, format!("bytes {start}-{}/{length}", length.saturating_sub(1)));
    }
    Ok(reply)
}

fn set_range(reply: &mut Reply, text: String) {
    if let Ok(value) = HeaderValue::from_str(&text) {
        reply.headers_mut().insert(CONTENT_RANGE, value);
    }
}

/// Where `bytes=N-` begins. Every other form is ignored, as HTTP allows: the whole is sent.
fn from(range: &str) -> Option<u64> {
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// For each image of the question, a list of diff ids, the positions of layers that are not here.
pub(super) async fn missing(images: &ImageStore, body: Incoming) -> Result<Reply, Status> {
    let body = Limited::new(body, QUESTION_MAX).collect().await;
    let body = body.map_err(|error| Status::bad_request(format!("read the question: {error}")))?;
    let asked: Vec<Vec<Digest>> = serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Status::bad_request(format!("no lists of digests: {error}")))?;
    if asked.len() > IMAGES_MAX {
        return Err(Status::bad_request(format!("more than {IMAGES_MAX} images at once")));
    }
    let missing: Vec<Vec<usize>> = asked.iter().map(|diffs| images.missing(diffs)).collect();
    Ok(reply::json(200, &json!({ "missing": missing })))
}

fn parse(text: &str) -> Result<Digest, Status> {
    Digest::parse(text).map_err(|error| Status::bad_request(error.to_string()))
}

fn absent(what: &str) -> Status {
    Status::new(Reason::NotFound, format!("this board has no {what} to give"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_begin_somewhere_or_are_ignored() {
        for (text, expected) in [
            ("bytes=0-", Some(0)),
            ("bytes=4096-", Some(4096)),
            ("bytes=1-5", None),
            ("bytes=-5", None),
            ("bytes=1-,3-", None),
            ("lines=1-", None),
            ("bytes=99999999999999999999-", None),
        ] {
            assert_eq!(from(text), expected, "{text}");
        }
    }

    #[test]
    fn boards_may_read_nothing_else() {
        assert!(is_for_boards("/images/manifest") && is_for_boards("/images/blob/sha256:00"));
        assert!(is_for_boards("/images/push/00"));
        for path in [
            "/images",
            "/images/load",
            "/images/follow",
            "/images/push",
            "/images/pull",
            "/images/missing",
            "/exec/a/b/c",
            "/pods",
            "/",
        ] {
            assert!(!is_for_boards(path), "{path}");
        }
    }

    async fn body(reply: Reply) -> Vec<u8> {
        reply.into_body().collect().await.expect("a body").to_bytes().to_vec()
    }

    fn asking(range: &str) -> HeaderMap {
        HeaderMap::from_iter([(RANGE, HeaderValue::from_str(range).expect("a header"))])
    }

    #[tokio::test]
    async fn blobs_are_read_by_digest_from_any_byte_on() {
        use crate::images::build::{Content, Item, archive};
        use crate::images::{ImageConfig, ImagesConfig, Progress};
        let dir = std::env::temp_dir().join(format!("edge-blobs-{}", std::process::id()));
        let store = ImageStore::open(&dir, ImagesConfig::default()).expect("a store");
        let page = Item { path: "/page".into(), content: Content::Bytes(vec![7; 3000]) };
        let mut tar = Vec::new();
        archive("a:1", &[page], &ImageConfig::default(), &mut tar).expect("an archive");
        store.load(tar.as_slice(), &Progress::none()).await.expect("loaded");

        let found = manifest(&store, &Query::parse(Some("ref=a:1"))).expect("known");
        let digest = found.headers()[DIGEST].to_str().expect("text").to_owned();
        let document = body(found).await;
        assert_eq!(Digest::of(&document).as_str(), digest);
        let same = blob(&store, &digest, &HeaderMap::new()).expect("there");
        assert_eq!(same.headers()["content-length"], document.len().to_string().as_str());
        assert_eq!(body(same).await, document);
        for digest in store.holds() {
            let whole =
                body(blob(&store, digest.as_str(), &HeaderMap::new()).expect("there")).await;
            assert_eq!(Digest::of(&whole), digest);
            let rest = blob(&store, digest.as_str(), &asking("bytes=100-")).expect("there");
            assert_eq!(rest.status(), 206);
            let range = format!("bytes 100-{}/{}", whole.len() - 1, whole.len());
            assert_eq!(rest.headers()[CONTENT_RANGE], range.as_str());
            assert_eq!(body(rest).await, whole[100..]);
            let beyond = asking(&format!("bytes={}-", whole.len()));
            assert_eq!(blob(&store, digest.as_str(), &beyond).expect("told").status(), 416);
        }
        let absent = format!("sha256:{}", "0".repeat(64));
        assert_eq!(blob(&store, &absent, &HeaderMap::new()).expect_err("absent").code, 404);
        for bad in ["..", "sha256:..%2f", "sha256:../../../etc/passwd", "", "sha512:00", "a:1"] {
            assert_eq!(blob(&store, bad, &HeaderMap::new()).expect_err(bad).code, 400);
        }
        for (query, code) in [("ref=b:1", 404), ("ref=../x", 404), ("digest=..", 400), ("", 400)] {
            let refused = manifest(&store, &Query::parse(Some(query)));
            assert_eq!(refused.expect_err(query).code, code);
        }
        drop(store);
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
