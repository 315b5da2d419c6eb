//! The relay alone: bodies from channels, followers that read, are slow, stop or go away.

use super::*;
use http_body_util::StreamBody;
use hyper::body::Frame;
use std::collections::VecDeque;
use tokio::io::AsyncReadExt;

const ID: &str = "0123456789abcdef0123456789abcdef";
/// More than all channels hold together.
const BYTES: usize = (PIECES + LOADING + 8) * PIECE;

fn relays() -> Relays {
    let short = Duration::from_millis(50);
    Relays::new(Waits { attach: short, begin: short, taking: short, giving: short })
}

fn content() -> Vec<u8> {
    (0..BYTES).map(|n| (n / 7) as u8).collect()
}

type Frames = VecDeque<Result<Frame<Bytes>, String>>;

/// A body of frames of 100 kB, which are no multiple of pieces.
fn frames(content: &[u8]) -> Frames {
    content.chunks(100_000).map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect()
}

fn body(frames: Frames) -> impl Body<Data = Bytes, Error = String> + Unpin {
    StreamBody::new(futures_util::stream::iter(frames))
}

/// Loads a body while it is handed on: what the load read, or why it failed, and what was told.
async fn load(push: Push, frames: Frames) -> (Result<Vec<u8>, String>, Vec<String>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let steps = told.clone();
    let progress =
        Progress::new(move |step| steps.lock().expect("no panic").push(step.to_string()));
    let tee = push.offer(BYTES as u64).await;
    let (pieces, mut reader) = channel();
    let mut read = Vec::new();
    let (result, _) = tokio::join!(
        reader.read_to_end(&mut read),
        pump(body(frames), tee, pieces, None, &progress)
    );
    let told = told.lock().expect("no panic").clone();
    (result.map(|_| read).map_err(|error| error.to_string()), told)
}

async fn all(mut followed: Followed) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(piece) = followed.pieces.recv().await {
        assert!(piece.len() <= PIECE);
        read.extend_from_slice(&piece);
        tokio::task::yield_now().await;
    }
    read
}

#[tokio::test]
async fn a_follower_that_came_before_the_push_gets_all_of_it_and_no_other_does() {
    let relays = relays();
    let push = relays.reserve(ID).expect("free");
    let follower = async {
        let followed = relays.follow(ID).await.expect("it begins");
        assert_eq!(followed.length, BYTES as u64);
        assert_eq!(relays.follow(ID).await.expect_err("a second"), RelayError::Taken);
        all(followed).await
    };
    let ((loaded, told), read) = tokio::join!(load(push, frames(&content())), follower);
    assert!(loaded.expect("loaded") == content() && read == content());
    assert!(told.len() == 1 && told[0].starts_with("handed on "), "{told:?}");
    assert_eq!(relays.follow(ID).await.expect_err("over"), RelayError::Unknown);
}

#[tokio::test]
async fn without_a_follower_the_load_goes_on_alone_and_latecomers_hear_so() {
    let relays = relays();
    let tee = relays.reserve(ID).expect("free").offer(1).await;
    assert_eq!(relays.follow(ID).await.expect_err("late"), RelayError::Taken);
    drop(tee);
    let (loaded, told) = load(relays.reserve(ID).expect("free again"), frames(&content())).await;
    assert!(loaded.expect("loaded") == content());
    assert_eq!(told, ["no board reads along: none came"]);
}

#[tokio::test]
async fn a_follower_that_stops_or_goes_away_is_left_behind() {
    for (goes, words) in [(false, "it takes nothing any more"), (true, "it went away")] {
        let relays = relays();
        let push = relays.reserve(ID).expect("free");
        let follower = async {
            let mut followed = relays.follow(ID).await.expect("it begins");
            assert!(followed.pieces.recv().await.is_some());
            (!goes).then_some(followed)
        };
        let ((loaded, told), kept) = tokio::join!(load(push, frames(&content())), follower);
        assert!(loaded.expect("loaded") == content());
        assert_eq!(told, [format!("no board reads along: {words}")]);
        if let Some(kept) = kept {
            assert!(all(kept).await.len() < BYTES, "its board sees that this is not all");
        }
    }
}

#[tokio::test]
async fn a_source_that_breaks_off_fails_the_load_and_cuts_the_follower_short() {
    let relays = relays();
    let push = relays.reserve(ID).expect("free");
    let mut begin = frames(&content()[..300_000]);
    begin.push_back(Err("connection reset".to_owned()));
    let follower = async { all(relays.follow(ID).await.expect("it begins")).await };
    let ((loaded, told), read) = tokio::join!(load(push, begin), follower);
    assert_eq!(loaded.expect_err("it broke off"), "connection reset");
    assert!(read.len() == 300_000 && told.is_empty(), "{} {told:?}", read.len());
    assert!(relays.entries().is_empty());
}

#[tokio::test]
async fn a_load_that_has_failed_takes_nothing_from_its_follower() {
    let relays = relays();
    let push = relays.reserve(ID).expect("free");
    let (tee, followed) = tokio::join!(push.offer(BYTES as u64), relays.follow(ID));
    let (pieces, reader) = channel();
    drop(reader);
    let progress = Progress::none();
    let (done, read) = tokio::join!(
        pump(body(frames(&content())), tee, pieces, None, &progress),
        all(followed.expect("it begins"))
    );
    assert!(done == BYTES as u64 && read == content());
}

#[tokio::test]
async fn a_board_that_sends_nothing_is_not_waited_for_for_ever() {
    let silent = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, String>>());
    let (pieces, mut reader) = channel();
    let giving = Some(Duration::from_millis(20));
    let progress = Progress::none();
    let mut read = Vec::new();
    let (result, done) = tokio::join!(
        reader.read_to_end(&mut read),
        pump(silent, Tee::none(), pieces, giving, &progress)
    );
    assert_eq!(done, 0);
    assert!(result.expect_err("stalled").to_string().contains("nothing comes"));
}

#[tokio::test]
async fn names_and_numbers_of_pushes_are_bounded() {
    let relays = relays();
    let (short, long) = (&ID[1..], format!("{ID}0"));
    for bad in
        ["", short, &long, "0123456789ABCDEF0123456789abcdef", "../../../../../../etc/passwd/aaa"]
    {
        assert_eq!(relays.reserve(bad).expect_err(bad), RelayError::BadId);
        assert_eq!(relays.follow(bad).await.expect_err(bad), RelayError::BadId);
    }
    let name = |n: usize| format!("{n:032x}");
    let mut held: Vec<Push> =
        (0..PUSHES).map(|n| relays.reserve(&name(n)).expect("free")).collect();
    assert_eq!(relays.reserve(&name(0)).expect_err("twice"), RelayError::Exists);
    assert_eq!(relays.reserve(&name(PUSHES)).expect_err("full"), RelayError::Busy);
    assert_eq!(relays.follow(&name(1)).await.expect_err("not begun"), RelayError::Unknown);
    held.pop();
    assert!(relays.reserve(&name(PUSHES)).is_ok());
}

/// What fewer bytes than said become on the wire: an error, never an end.
#[tokio::test]
async fn a_follower_sees_a_push_that_broke_off_as_broken() {
    use http_body_util::{BodyExt, Empty};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    let (here, there) = tokio::io::duplex(1 << 16);
    let service = service_fn(|_| async {
        let (send, pieces) = mpsc::channel(PIECES);
        drop(send.send(Bytes::from_static(b"half")).await);
        Ok::<_, std::convert::Infallible>(crate::serve::pieces(200, 8, pieces))
    });
    let server = hyper::server::conn::http1::Builder::new();
    let serving = tokio::spawn(server.serve_connection(TokioIo::new(here), service));
    let io = TokioIo::new(there);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.expect("connected");
    let driving = tokio::spawn(connection);
    let request = http::Request::new(Empty::<Bytes>::new());
    let whole = async {
        let answer = sender.send_request(request).await?;
        answer.into_body().collect().await
    };
    assert!(whole.await.is_err());
    drop(sender);
    assert!(serving.await.expect("no panic").is_err());
    drop(driving.await);
}
