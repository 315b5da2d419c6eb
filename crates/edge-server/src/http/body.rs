//! Answers as pieces of shared bytes: lists and watches hand the stored bytes to the connection
//! without copying or joining them first.

use bytes::{Buf, Bytes};
use futures_util::Stream;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A run of pieces written one after the other.
#[derive(Default)]
pub(crate) struct Pieces {
    parts: VecDeque<Bytes>,
    left: usize,
}

impl Pieces {
    /// Adds a piece at the end.
    pub(crate) fn push(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        if !piece.is_empty() {
            self.left += piece.len();
            self.parts.push_back(piece);
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(piece: Bytes) -> Pieces {
        let mut pieces = Pieces::default();
        pieces.push(piece);
        pieces
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part.as_ref())
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, part) in dst.iter_mut().zip(&self.parts) {
            *slot = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.left = self.left.saturating_sub(count);
        while count > 0 {
            let Some(front) = self.parts.front_mut() else { return };
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.parts.pop_front();
        }
    }
}

/// The body of an answer.
pub(crate) enum ReplyBody {
    /// Everything is known: the answer carries its length.
    Whole(Pieces),
    /// A watch: pieces come as things happen.
    Stream(Pin<Box<dyn Stream<Item = Pieces> + Send>>),
    /// What an agent answers, passed on as it comes.
    Passed(Incoming),
}

impl ReplyBody {
    /// A body of one piece.
    pub(crate) fn of(bytes: impl Into<Bytes>) -> ReplyBody {
        ReplyBody::Whole(Pieces::from(bytes.into()))
    }
}

impl Body for ReplyBody {
    type Data = Pieces;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Pieces>, hyper::Error>>> {
        match self.get_mut() {
            ReplyBody::Whole(pieces) if pieces.has_remaining() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(pieces)))))
            }
            ReplyBody::Whole(_) => Poll::Ready(None),
            ReplyBody::Stream(stream) => {
                stream.as_mut().poll_next(cx).map(|next| next.map(|p| Ok(Frame::data(p))))
            }
            ReplyBody::Passed(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(Pieces::from)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Whole(pieces) => !pieces.has_remaining(),
            ReplyBody::Stream(_) => false,
            ReplyBody::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(pieces) => SizeHint::with_exact(pieces.remaining() as u64),
            ReplyBody::Stream(_) => SizeHint::default(),
            ReplyBody::Passed(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_across_their_seams() {
        let mut pieces = Pieces::default();
        for part in ["ab", "", "cde", "f"] {
            pieces.push(Bytes::from_static(part.as_bytes()));
        }
        assert_eq!(pieces.remaining(), 6);
        let mut slots = [IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&[])];
        assert_eq!(pieces.chunks_vectored(&mut slots), 3);
        pieces.advance(3);
        assert_eq!(pieces.chunk(), b"de");
        assert_eq!(pieces.copy_to_bytes(3), "def");
        assert!(!pieces.has_remaining());
    }
}
