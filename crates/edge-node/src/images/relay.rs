//! Handing an archive on while it is loaded: what comes in goes to one other board as well, which
//! may do the same, so that a push to many boards takes each link once. A follower that is slow
//! slows the push; one that takes nothing any more, or is gone, is left behind.

use super::progress::{Progress, Step};
use bytes::Bytes;
use hyper::body::Body;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// Pushes that are handed on at once.
const PUSHES: usize = 8;
/// Pieces that may wait for a follower, and the most bytes of one.
const PIECES: usize = 32;
const PIECE: usize = 64 * 1024;
/// Pieces that may wait for the load itself.
const LOADING: usize = 8;
/// Hexadecimal digits of a push's name.
const ID_DIGITS: usize = 32;

/// How patient a relay is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// How long a load waits for its follower before it begins.
    pub(crate) attach: Duration,
    /// How long a follower may wait for a push to begin.
    pub(crate) begin: Duration,
    /// How long a follower may take nothing.
    pub(crate) taking: Duration,
    /// How long a board that is read from may send nothing.
    pub(crate) giving: Duration,
}

impl Default for Waits {
    fn default() -> Waits {
        let seconds = Duration::from_secs;
        Waits { attach: seconds(1), begin: seconds(5), taking: seconds(5), giving: seconds(30) }
    }
}

/// Why a push is not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RelayError {
    /// The name of the push is none.
    BadId,
    /// A push of that name is here already.
    Exists,
    /// As many as may are.
    Busy,
    /// No such push has begun.
    Unknown,
    /// Another board reads along, or nobody may any more.
    Taken,
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RelayError::BadId => write!(f, "push: want {ID_DIGITS} hexadecimal digits"),
            RelayError::Exists => write!(f, "a push of that name is under way here; use another"),
            RelayError::Busy => write!(f, "{PUSHES} pushes are handed on here already; try later"),
            RelayError::Unknown => write!(f, "no such push has begun on this board"),
            RelayError::Taken => write!(f, "another board reads this push, or it is too late to"),
        }
    }
}

/// What a follower gets.
#[derive(Debug)]
pub(crate) struct Followed {
    /// Bytes in all.
    pub(crate) length: u64,
    /// They come here; fewer than said mean that the source broke off.
    pub(crate) pieces: mpsc::Receiver<Bytes>,
}

/// A push that this board hands on.
#[derive(Debug)]
enum Entry {
    /// It will come.
    Reserved,
    /// It is here, and a follower may take it.
    Offered(Followed, oneshot::Sender<()>),
    /// Nobody may any more.
    Closed,
}

/// The pushes that this board hands on; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Relays(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Counts pushes that have been offered.
    offers: watch::Sender<u64>,
    waits: Waits,
}

impl Relays {
    /// None yet.
    pub(crate) fn new(waits: Waits) -> Relays {
        Relays(Arc::new(Shared { entries: Mutex::default(), offers: watch::Sender::new(0), waits }))
    }

    /// How patient this board is.
    pub(crate) fn waits(&self) -> Waits {
        self.0.waits
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a push that a follower is to get.
    pub(crate) fn reserve(&self, id: &str) -> Result<Push, RelayError> {
        check(id)?;
        let mut entries = self.entries();
        if entries.contains_key(id) {
            return Err(RelayError::Exists);
        }
        if entries.len() >= PUSHES {
            return Err(RelayError::Busy);
        }
        entries.insert(id.to_owned(), Entry::Reserved);
        Ok(Push { relays: self.clone(), id: id.to_owned() })
    }

    /// What a follower reads; waits until the push has begun. There is one follower.
    pub(crate) async fn follow(&self, id: &str) -> Result<Followed, RelayError> {
        check(id)?;
        let mut offers = self.0.offers.subscribe();
        let found = async {
            loop {
                offers.borrow_and_update();
                match self.take(id) {
                    Err(RelayError::Unknown) => {}
                    other => return other,
                }
                if offers.changed().await.is_err() {
                    return Err(RelayError::Unknown);
                }
            }
        };
        timeout(self.0.waits.begin, found).await.unwrap_or(Err(RelayError::Unknown))
    }

    fn take(&self, id: &str) -> Result<Followed, RelayError> {
        let mut entries = self.entries();
        match entries.get_mut(id) {
            None | Some(Entry::Reserved) => Err(RelayError::Unknown),
            Some(entry) => match std::mem::replace(entry, Entry::Closed) {
                Entry::Offered(followed, attached) => {
                    let _ = attached.send(());
                    Ok(followed)
                }
                _ => Err(RelayError::Taken),
            },
        }
    }
}

/// Refuses what can't be the name of a push.
pub(crate) fn check(id: &str) -> Result<(), RelayError> {
    let hex = id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if id.len() == ID_DIGITS && hex { Ok(()) } else { Err(RelayError::BadId) }
}

/// A place that is taken; free again when dropped.
#[derive(Debug)]
pub(crate) struct Push {
    relays: Relays,
    id: String,
}

impl Drop for Push {
    fn drop(&mut self) {
        self.relays.entries().remove(&self.id);
    }
}

impl Push {
    /// Offers the push, of so many bytes, and waits a while for the follower.
    pub(crate) async fn offer(self, length: u64) -> Tee {
        let (follower, pieces) = mpsc::channel(PIECES);
        let (attached, attaches) = oneshot::channel();
        let offered = Entry::Offered(Followed { length, pieces }, attached);
        self.relays.entries().insert(self.id.clone(), offered);
        self.relays.0.offers.send_modify(|offers| *offers += 1);
        let waits = self.relays.waits();
        if timeout(waits.attach, attaches).await.is_err() {
            // Too late from now on; unless it has come this very moment.
            self.relays.entries().insert(self.id.clone(), Entry::Closed);
        }
        let follower = (!follower.is_closed()).then_some(follower);
        let lost = follower.is_none().then_some("none came");
        Tee { follower, lost, handed: 0, taking: waits.taking, _push: Some(self) }
    }
}

/// Where a follower gets what a load reads.
#[derive(Debug)]
pub(crate) struct Tee {
    follower: Option<mpsc::Sender<Bytes>>,
    lost: Option<&'static str>,
    handed: u64,
    taking: Duration,
    _push: Option<Push>,
}

impl Tee {
    /// Without a follower.
    pub(crate) fn none() -> Tee {
        Tee { follower: None, lost: None, handed: 0, taking: Duration::MAX, _push: None }
    }

    /// Hands a piece on; waits for a slow follower, and leaves one behind that has stopped.
    async fn hand(&mut self, data: &Bytes) {
        let Some(follower) = &self.follower else { return };
        let lost = match timeout(self.taking, follower.send(data.clone())).await {
            Ok(Ok(())) => {
                self.handed += data.len() as u64;
                return;
            }
            Ok(Err(_)) => "it went away",
            Err(_) => "it takes nothing any more",
        };
        self.follower = None;
        self.lost = Some(lost);
    }

    /// Tells, once, that no board reads along though one should.
    fn tell(&mut self, progress: &Progress) {
        if let Some(why) = self.lost.take() {
            progress.tell(Step::Alone { why });
        }
    }
}

/// Where a load reads what is pumped.
pub(crate) fn channel() -> (mpsc::Sender<io::Result<Bytes>>, Reader) {
    let (send, pieces) = mpsc::channel(LOADING);
    (send, Reader { pieces, left: Bytes::new() })
}

/// Reads a body to its end, for the load and for the follower; returns how many bytes came.
/// A load that has failed already changes nothing: the follower may fare better, and the sender
/// hears of the fault only if all that it sends is taken in. `giving` bounds how long nothing may
/// come.
pub(crate) async fn pump<B>(
    mut body: B,
    mut tee: Tee,
    load: mpsc::Sender<io::Result<Bytes>>,
    giving: Option<Duration>,
    progress: &Progress,
) -> u64
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    use http_body_util::BodyExt;
    let mut done = 0;
    tee.tell(progress);
    loop {
        let frame = match giving {
            None => body.frame().await,
            Some(limit) => match timeout(limit, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => {
                    let why = "nothing comes any more";
                    drop(load.send(Err(io::Error::new(io::ErrorKind::TimedOut, why))).await);
                    return done;
                }
            },
        };
        let mut data = match frame {
            None => break,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(_) => continue,
            },
            Some(Err(error)) => {
                drop(load.send(Err(io::Error::other(error.to_string()))).await);
                return done;
            }
        };
        done += data.len() as u64;
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE));
            tee.hand(&piece).await;
            tee.tell(progress);
            drop(load.send(Ok(piece)).await);
        }
    }
    if tee.handed > 0 && tee.follower.is_some() {
        progress.tell(Step::HandedOn { bytes: tee.handed });
    }
    done
}

/// What is pumped, as a stream of bytes.
#[derive(Debug)]
pub(crate) struct Reader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: Bytes,
}

impl tokio::io::AsyncRead for Reader {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        use std::task::{Poll, ready};
        while self.left.is_empty() {
            match ready!(self.pieces.poll_recv(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(piece) => self.left = piece?,
            }
        }
        let count = self.left.len().min(buf.remaining());
        buf.put_slice(&self.left.split_to(count));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
