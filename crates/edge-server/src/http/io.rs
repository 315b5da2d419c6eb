//! A connection that gives up on a peer which stops reading: without this, a stalled client would
//! hold its answer, and the objects in it, for ever. Streams of an agent are another matter: they
//! hold nothing here, and people do pause a log.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a single write may make no progress.
const WRITE_STALL: Duration = Duration::from_secs(60);

/// Whether a connection may stall, set once it carries an agent's stream.
#[derive(Clone, Default)]
pub(crate) struct Patience(Arc<AtomicBool>);

impl Patience {
    /// Lets the connection stall from now on.
    pub(crate) fn grant(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Wraps a stream with a limit on how long a write may stall.
pub(crate) struct Patient<T> {
    inner: T,
    patience: Patience,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    /// Wraps a stream.
    pub(crate) fn new(inner: T, patience: Patience) -> Patient<T> {
        Patient { inner, patience, stalled: None }
    }

    fn judge<V>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<V>>,
    ) -> Poll<io::Result<V>> {
        if result.is_ready() || self.patience.0.load(Ordering::Relaxed) {
            self.stalled = None;
            return result;
        }
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_STALL)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.judge(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.judge(cx, result)
    }
}
