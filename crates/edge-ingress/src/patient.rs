//! A connection that gives up on a peer which stops reading: a stalled client would hold its
//! answer, and a connection to an endpoint, for ever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::body::{Busy, Progress};
use super::limits::WRITE_STALL;

/// Wraps a stream with a limit on how long a write may stall.
pub(super) struct Patient<T> {
    inner: T,
    stalled: Option<Pin<Box<Sleep>>>,
    progress: Option<Arc<Progress>>,
    /// Whose silence does not count while a write stalls, and what says so.
    writes: Option<Arc<Progress>>,
    busy: Option<Busy>,
}

impl<T> Patient<T> {
    /// Wraps a stream; `writes` counts as busy while what was written waits for the peer.
    pub(super) fn new(inner: T, writes: Arc<Progress>) -> Patient<T> {
        Patient { inner, stalled: None, progress: None, writes: Some(writes), busy: None }
    }

    /// The same, and `progress` hears of every byte.
    pub(super) fn watched(inner: T, progress: Arc<Progress>) -> Patient<T> {
        Patient { inner, stalled: None, progress: Some(progress), writes: None, busy: None }
    }

    fn judge<V>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<V>>,
    ) -> Poll<io::Result<V>> {
        if result.is_ready() {
            (self.stalled, self.busy) = (None, None);
            if let Some(progress) = &self.progress {
                progress.touch();
            }
            return result;
        }
        if let (Some(writes), None) = (&self.writes, &self.busy) {
            self.busy = Some(Busy::new(writes));
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
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let (Poll::Ready(_), Some(progress)) = (&result, &self.progress) {
            progress.touch();
        }
        result
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
