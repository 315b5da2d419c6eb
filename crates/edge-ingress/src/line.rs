//! One connection of HTTP/1.1 to an endpoint. No task of its own drives it, but whoever has its
//! request on it: a request and its answer cost the turns of one task instead of two that wake
//! each other. While it waits for its next request nobody drives it; that it was closed meanwhile
//! is seen when it is taken, before anything is sent.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};

use super::body::{Progress, RequestBody};
use super::limits::{HEAD_BYTES, IDLE_FOR};

type Wire = http1::Connection<TokioIo<TcpStream>, RequestBody>;

/// A connection of HTTP/1.1.
pub(super) struct Line {
    sender: http1::SendRequest<RequestBody>,
    /// `None`: it has ended, or a task of its own brings it to its end.
    wire: Option<Box<Wire>>,
    alarm: Alarm,
}

/// Why there is no answer.
pub(super) enum Broken {
    /// The connection had ended before anything was sent.
    Unsent(Box<Request<RequestBody>>, String),
    /// The request may have been sent.
    Lost(String),
    /// It was sent, and nothing came for too long.
    Silent,
}

impl fmt::Debug for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line, driven here: {}", self.wire.is_some())
    }
}

impl Line {
    /// Begins to speak over a stream.
    pub(super) async fn open(stream: TcpStream) -> hyper::Result<Line> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES);
        let (sender, wire) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Line { sender, wire: Some(Box::new(wire)), alarm: Alarm::new() })
    }

    /// Whether it moves only when [`Line::drive`] is called.
    pub(super) fn driven(&self) -> bool {
        self.wire.is_some()
    }

    /// Lets it read and write as much as it can now.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(wire) = &mut self.wire else { return };
        if let Poll::Ready(ended) = Pin::new(&mut **wire).poll(cx) {
            if let Err(error) = ended {
                tracing::trace!("connection to an endpoint: {error}");
            }
            // What was not sent is given back by this, what waits for an answer learns of it.
            self.wire = None;
        }
    }

    /// Gives it a task of its own, up to its end: nobody sends a second request over it.
    fn apart(&mut self) {
        let Some(wire) = self.wire.take() else { return };
        tokio::spawn(async move {
            if let Err(error) = wire.with_upgrades().await {
                tracing::trace!("connection to an endpoint: {error}");
            }
        });
    }

    /// Sends a request. The endpoint may be silent for `limit`, counted from the last that moved
    /// of the request's body. `upgrade`: the answer may change the protocol.
    pub(super) async fn ask(
        &mut self,
        request: Box<Request<RequestBody>>,
        upgrade: bool,
        limit: Duration,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Broken> {
        // Not by tokio's budget: nobody else wakes this, so that what is there must be taken.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(*request)));
        if upgrade {
            self.apart();
        }
        let mut woken = false;
        let answer = poll_fn(|cx| {
            let quiet = &mut Context::from_waker(Waker::noop());
            // What is there already comes without a waker left behind: that would be rung when
            // the answer's body is taken, for nothing. Nor has the answer one: nothing but
            // `drive` brings it here.
            let mut polled = Poll::Pending;
            if std::mem::replace(&mut woken, true) && self.driven() {
                self.drive(quiet);
                polled = answer.as_mut().poll(quiet);
            }
            if polled.is_pending() {
                self.drive(cx);
                polled = answer.as_mut().poll(if self.driven() { quiet } else { cx });
            }
            match polled {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => self.alarm.poll(cx, progress.last() + limit).map(|()| None),
            }
        });
        match answer.await {
            Some(Ok(response)) => {
                // A client may send on for as long as it likes without reading: that must not
                // stop since nobody asks for more of the answer.
                if !progress.sent() {
                    self.apart();
                }
                Ok(response)
            }
            Some(Err(mut error)) => {
                let why = error.error().to_string();
                Err(match error.take_message() {
                    Some(unsent) => Broken::Unsent(Box::new(unsent), why),
                    None => Broken::Lost(why),
                })
            }
            None => Err(Broken::Silent),
        }
    }

    /// Lets go of the task that drove it; false when it is not free for another request.
    pub(super) fn rest(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driven() && self.sender.is_ready()
    }
}

/// A timer that is put off without being set anew: most requests never wait for it.
struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    fn new() -> Alarm {
        Alarm(Box::pin(tokio::time::sleep(IDLE_FOR)))
    }

    /// Whether `due` has come.
    fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        if due < self.0.deadline() {
            self.0.as_mut().reset(due);
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(due);
        }
    }
}
