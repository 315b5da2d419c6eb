//! A stream that breaks when its owner is no longer trusted, whoever reads it by then: a connection
//! may have been handed on to a session of `exec`.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Ends what has to end; its word is for others.
type Cut = Pin<Box<dyn Future<Output = String> + Send>>;

/// A stream, and what it breaks by.
pub(super) struct Leash<S> {
    stream: S,
    cut: Option<Cut>,
    broken: bool,
}

impl<S> Leash<S> {
    /// Breaks when `cut` ends; never without one.
    pub(super) fn new(stream: S, cut: Option<Cut>) -> Leash<S> {
        Leash { stream, cut, broken: false }
    }

    fn whole(&self) -> Result<()> {
        if self.broken { Err(Error::from(ErrorKind::ConnectionAborted)) } else { Ok(()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Leash<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        // Asked for here alone: who reads waits for the end, and two who wait would forget one.
        if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready()) {
            self.cut = None;
            self.broken = true;
        }
        self.whole()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Leash<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn who_reads_is_woken_by_the_end() {
        let (near, mut far) = tokio::io::duplex(8);
        let (end, ended) = oneshot::channel::<()>();
        let cut = async move {
            let _ = ended.await;
            String::new()
        };
        let mut leash = Leash::new(near, Some(Box::pin(cut)));
        leash.write_all(b"a").await.unwrap();
        far.write_all(b"b").await.unwrap();
        assert_eq!(leash.read_u8().await.unwrap(), b'b');
        let reading = tokio::spawn(async move {
            let why = leash.read_u8().await.unwrap_err();
            (why.kind(), leash.write_all(b"c").await.unwrap_err().kind())
        });
        tokio::task::yield_now().await;
        end.send(()).unwrap();
        let aborted = ErrorKind::ConnectionAborted;
        assert_eq!(reading.await.unwrap(), (aborted, aborted));
    }
}
