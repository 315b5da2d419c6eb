//! Where releases are: a directory, or the same on a web server, with `v<version>/edged-<machine>`
//! in it, packed or not, and its signature. What comes is judged as a file would be.

use super::file::{self, Content, HELD_BYTES, Program, SIGNATURE_BYTES};
use crate::commands::image::upload::{TICK, View};
use crate::commands::packed::Packing;
use crate::fault::Fault;
use crate::session::Session;
use bytes::{Bytes, BytesMut};
use edge_api::release::Version;
use edge_client::{Client, Config, body};
use http::{Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

/// What names the place where nobody typed one.
pub(super) const PLACE: &str = "EDGED_RELEASES";

/// What boards are called in Kubernetes, and what files are called.
const MACHINES: [(&str, &str); 3] = [("amd64", "x86_64"), ("arm64", "aarch64"), ("arm", "armv7")];
/// So many times a server may send us on to another place.
const REDIRECTS: usize = 5;
/// How long an answer may take to begin, and each further piece of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a file may take, however slowly it comes.
const WHOLE: Duration = Duration::from_secs(30 * 60);

/// Gets the programs of a release for these machines.
///
/// # Errors
/// When one is missing or can't be had, or is not what its name says.
pub(super) async fn load(
    from: &str,
    version: &Version,
    arches: &[String],
    session: &mut Session,
) -> Result<Vec<Program>, Fault> {
    let mut programs = Vec::new();
    for arch in arches {
        let machine = MACHINES.iter().find(|(name, _)| name == arch);
        let machine = machine.ok_or_else(|| Fault::text(format!("no edged is made for {arch}")))?.1;
        let name = format!("v{version}/edged-{machine}");
        let program = match from.contains("://") {
            true => fetch(from, &name, session).await?,
            false => find(Path::new(from), &name)?,
        };
        let (shown, its) = (&program.shown, &program.version);
        if its != version {
            return Err(Fault::text(format!("{shown} is edged {its}, not {version}")));
        }
        if program.arch != *arch {
            return Err(Fault::text(format!("{shown} is for {}, not for {arch}", program.arch)));
        }
        programs.push(program);
    }
    Ok(programs)
}

/// The program of this name in a directory.
fn find(dir: &Path, name: &str) -> Result<Program, Fault> {
    let bare = dir.join(name);
    let mut packed = bare.clone().into_os_string();
    packed.push(".zst");
    let there = [bare.clone(), packed.into()].into_iter().find(|path| path.exists());
    let missing = || Fault::text(format!("there is no {0}, nor {0}.zst", bare.display()));
    file::read(&there.ok_or_else(missing)?)
}

/// The program of this name on a web server.
async fn fetch(from: &str, name: &str, session: &mut Session) -> Result<Program, Fault> {
    if from.contains(['?', '#']) {
        return Err(Fault::text(format!("--from {from}: a directory's address has no ? and no #")));
    }
    let bare = format!("{}/{name}", from.trim_end_matches('/'));
    let packed = format!("{bare}.zst");
    let zstd = |bytes: &Bytes| Packing::of(bytes) == Packing::Zstd;
    // Some servers answer everything, if only with a page that says that there is nothing.
    let (shown, bytes) = match get(&packed, HELD_BYTES, session).await?.filter(zstd) {
        Some(bytes) => {
            let unpacked = file::unpacked(&packed, Cursor::new(bytes), HELD_BYTES)?;
            (packed, unpacked)
        }
        None => match get(&bare, HELD_BYTES, session).await? {
            Some(bytes) => (bare.clone(), bytes),
            None => return Err(Fault::text(format!("there is no {bare}, nor {bare}.zst"))),
        },
    };
    let mut program = Program::look(shown, Content::Held(bytes), None)?;
    let beside = format!("{bare}.minisig");
    if let Some(signature) = get(&beside, SIGNATURE_BYTES, session).await? {
        let text = String::from_utf8(signature.to_vec());
        let odd = |_| Fault::text(format!("{beside} is no signature of minisign"));
        program.signature = Some(text.map_err(odd)?);
    }
    Ok(program)
}

fn bad(url: &str, what: impl std::fmt::Display) -> Fault {
    Fault::text(format!("get {url}: {what}"))
}

/// Gets a file of at most `most` bytes; `None` when there is none.
async fn get(url: &str, most: u64, session: &mut Session) -> Result<Option<Bytes>, Fault> {
    let mut place = url.to_owned();
    for _ in 0..=REDIRECTS {
        let uri: Uri = place.parse().map_err(|_| bad(url, format!("{place:?} is no address")))?;
        let response = ask(&uri).await.map_err(|why| bad(&place, why))?;
        match response.status().as_u16() {
            200 => {
                let read = read(url, response, most, session);
                let read = tokio::time::timeout(WHOLE, read).await;
                let slow = |_| bad(url, "it took more than half an hour");
                return read.map_err(slow)?.map(Some);
            }
            301 | 302 | 303 | 307 | 308 => {
                let to = response.headers().get(header::LOCATION);
                let to = to.and_then(|to| to.to_str().ok()).unwrap_or_default();
                place = next(&uri, to).map_err(|why| bad(url, why))?;
            }
            404 | 410 => return Ok(None),
            _ => return Err(bad(&place, format!("the server says {}", response.status()))),
        }
    }
    Err(bad(url, format!("it was moved more than {REDIRECTS} times")))
}

/// Asks the server that an address names; gives what it answers, or why it doesn't.
async fn ask(uri: &Uri) -> Result<Response<Incoming>, String> {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("it begins with neither https:// nor http://".to_owned());
    };
    let servers = vec![format!("{scheme}://{authority}")];
    let client = Client::new(Config { servers, ..Config::default() });
    let client = client.map_err(|error| error.to_string())?;
    let mut request = Request::new(body::empty());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| format!("{path:?} is no path"))?;
    let asked = tokio::time::timeout(PATIENCE, client.request(request)).await;
    let slow = |_| format!("no answer for {} s", PATIENCE.as_secs());
    asked.map_err(slow)?.map_err(|error| error.to_string())
}

/// Where a server sends us (RFC 9110, 10.2.2), as seen from `uri`.
fn next(uri: &Uri, to: &str) -> Result<String, String> {
    let secure = uri.scheme_str() == Some("https");
    let scheme = if secure { "https" } else { "http" };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let to = to.split('#').next().unwrap_or_default();
    let next = match to {
        "" => return Err("it was moved, and the server does not say where to".to_owned()),
        _ if to.contains("://") => to.to_owned(),
        _ if to.starts_with("//") => format!("{scheme}:{to}"),
        _ if to.starts_with('/') => format!("{scheme}://{authority}{to}"),
        _ => {
            let dir = uri.path().rsplit_once('/').map_or("", |(dir, _)| dir);
            format!("{scheme}://{authority}{dir}/{to}")
        }
    };
    let plain = !next.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case("https://"));
    match secure && plain {
        true => Err(format!("it was moved to {next}, which is not secure")),
        false => Ok(next),
    }
}

/// Reads an answer whole.
async fn read(
    url: &str,
    response: Response<Incoming>,
    most: u64,
    session: &mut Session,
) -> Result<Bytes, Fault> {
    let too_long = |bytes: u64| bytes > most;
    let more = || bad(url, format!("it has more than {most} bytes: it is not what it is called"));
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(too_long) {
        return Err(more());
    }
    let name = url.rsplit('/').next().unwrap_or(url);
    let mut view = length.map(|length| View::new(session, name, length));
    let (mut body, mut bytes) = (response.into_body(), BytesMut::new());
    let mut shown = tokio::time::Instant::now();
    let outcome = loop {
        let frame = match tokio::time::timeout(PATIENCE, body.frame()).await {
            Err(_) => break Err(bad(url, format!("nothing came for {} s", PATIENCE.as_secs()))),
            Ok(None) => break Ok(()),
            Ok(Some(Err(error))) => break Err(bad(url, format!("it broke off: {error}"))),
            Ok(Some(Ok(frame))) => frame,
        };
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if too_long(bytes.len() as u64) {
            break Err(more());
        }
        if let Some(view) = view.as_mut().filter(|_| shown.elapsed() > TICK) {
            view.bar(bytes.len() as u64);
            shown = tokio::time::Instant::now();
        }
    };
    if let Some(view) = &mut view {
        view.clear();
    }
    outcome.map(|()| bytes.freeze())
}

#[cfg(test)]
#[path = "release/tests.rs"]
mod tests;
