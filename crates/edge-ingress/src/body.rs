//! Bodies on their way through: nothing is kept of them, silence has a limit, and a connection to
//! an endpoint is free again when its answer has passed.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::endpoint::Lease;

/// Why a body broke off.
pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// When something last moved.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    /// Milliseconds after that.
    moved: AtomicU64,
    /// A request's body is through, or given up.
    sent: AtomicBool,
    /// A request's body made no sense, or broke off.
    spoilt: AtomicBool,
    /// Requests under way.
    busy: AtomicUsize,
}

impl Progress {
    /// It moved just now.
    pub(super) fn new() -> Arc<Progress> {
        Arc::new(Progress {
            began: Instant::now(),
            moved: AtomicU64::new(0),
            sent: AtomicBool::new(false),
            spoilt: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
        })
    }

    /// Something moves.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// When something moved last.
    pub(super) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// Whether nothing more is sent of the request's body.
    pub(super) fn sent(&self) -> bool {
        self.sent.load(Ordering::Acquire)
    }

    /// Whether it was the client's own doing that a request came to nothing.
    pub(super) fn spoilt(&self) -> bool {
        self.spoilt.load(Ordering::Acquire)
    }

    /// Whether a request is under way.
    pub(super) fn busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// Ends when nothing has moved for so long.
    pub(super) async fn silent(&self, limit: Duration) {
        loop {
            let due = self.last() + limit;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// A request that is under way on a connection, until its answer has passed.
#[derive(Debug)]
pub(super) struct Busy(Arc<Progress>);

impl Busy {
    /// Begins.
    pub(super) fn new(progress: &Arc<Progress>) -> Busy {
        progress.busy.fetch_add(1, Ordering::AcqRel);
        Busy(progress.clone())
    }

    /// The same connection is busy with something else as well.
    pub(super) fn too(&self) -> Busy {
        Busy::new(&self.0)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // From here on the next request may be waited for.
        self.0.touch();
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A limit on how long a body may be silent.
#[derive(Debug)]
struct Stall {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Stall {
    fn new(limit: Duration) -> Stall {
        Stall { limit, timer: None, armed: false }
    }

    /// Looks at what a body gave; silence beyond the limit is an error.
    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        frame: Poll<Option<Result<T, hyper::Error>>>,
    ) -> Poll<Option<Result<T, Failure>>> {
        if let Poll::Ready(frame) = frame {
            self.armed = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Failure::from)));
        }
        let due = Instant::now() + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if !self.armed {
            timer.as_mut().reset(due);
            self.armed = true;
        }
        match timer.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let silent = io::Error::new(io::ErrorKind::TimedOut, "a body fell silent");
                Poll::Ready(Some(Err(silent.into())))
            }
        }
    }
}

/// A request's body, on its way to an endpoint.
#[derive(Debug)]
pub(super) struct RequestBody {
    inner: Incoming,
    stall: Stall,
    progress: Arc<Progress>,
    /// It may go on when its answer has passed.
    _busy: Option<Busy>,
}

impl RequestBody {
    /// A body that may be silent for `limit`, and tells `progress` when it moves; until it has
    /// ended, the connection that it comes over is `busy`.
    pub(super) fn new(
        inner: Incoming,
        limit: Duration,
        progress: Arc<Progress>,
        busy: &Busy,
    ) -> RequestBody {
        let busy = (!inner.is_end_stream()).then(|| busy.too());
        RequestBody { inner, stall: Stall::new(limit), progress, _busy: busy }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.progress.sent.store(true, Ordering::Release);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(frame) = &frame {
            self.progress.touch();
            if matches!(frame, Some(Err(_))) {
                self.progress.spoilt.store(true, Ordering::Release);
            }
        }
        self.stall.judge(cx, frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An endpoint's answer, on its way to the client.
#[derive(Debug)]
pub(super) struct Streamed {
    inner: Incoming,
    /// Why it broke off, told when what came before is on its way to the client.
    broken: Option<hyper::Error>,
    stall: Stall,
    lease: Option<Lease>,
    _held: Held,
}

/// What a request holds while it is under way: a place among all, and that of its connection.
pub(super) type Held = (OwnedSemaphorePermit, Busy);

impl Streamed {
    /// What comes next; the connection moves only as long as somebody asks for that. A waker is
    /// left behind only when there is nothing: it would be rung when something is taken.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(line) = self.lease.as_mut().and_then(Lease::driven) else {
            return Pin::new(&mut self.inner).poll_frame(cx);
        };
        let quiet = &mut Context::from_waker(Waker::noop());
        let mut frame = Pin::new(&mut self.inner).poll_frame(quiet);
        if frame.is_pending() {
            line.drive(quiet);
            frame = Pin::new(&mut self.inner).poll_frame(quiet);
        }
        if frame.is_pending() {
            line.drive(cx);
            let cx = if line.driven() { quiet } else { cx };
            frame = Pin::new(&mut self.inner).poll_frame(cx);
        }
        frame
    }

    fn finished(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // Bodies that are empty from the start are never asked for.
        if self.inner.is_end_stream() {
            self.finished();
        }
    }
}

/// What a client gets.
#[derive(Debug)]
pub(super) enum ReplyBody {
    /// Our own words.
    Words(Option<Bytes>),
    /// An endpoint's.
    Streamed(Box<Streamed>),
}

impl ReplyBody {
    /// Our own words.
    pub(super) fn words(text: String) -> ReplyBody {
        ReplyBody::Words(Some(text.into()).filter(|text: &Bytes| !text.is_empty()))
    }

    /// An endpoint's answer, which may be silent for `limit`.
    pub(super) fn stream(inner: Incoming, limit: Duration, lease: Lease, held: Held) -> ReplyBody {
        let stall = Stall::new(limit);
        let streamed = Streamed { inner, broken: None, stall, lease: Some(lease), _held: held };
        ReplyBody::Streamed(Box::new(streamed))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.get_mut() {
            ReplyBody::Words(words) => Poll::Ready(words.take().map(|text| Ok(Frame::data(text)))),
            ReplyBody::Streamed(streamed) => {
                if let Some(error) = streamed.broken.take() {
                    return Poll::Ready(Some(Err(error.into())));
                }
                let frame = match streamed.next(cx) {
                    Poll::Ready(Some(Err(error))) => {
                        streamed.broken = Some(error);
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    frame => frame,
                };
                let ended = matches!(frame, Poll::Ready(None));
                if ended || (frame.is_ready() && streamed.inner.is_end_stream()) {
                    streamed.finished();
                }
                streamed.stall.judge(cx, frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Words(words) => words.is_none(),
            ReplyBody::Streamed(streamed) => streamed.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Words(None) => SizeHint::with_exact(0),
            ReplyBody::Words(Some(text)) => SizeHint::with_exact(text.len() as u64),
            ReplyBody::Streamed(streamed) => streamed.inner.size_hint(),
        }
    }
}
