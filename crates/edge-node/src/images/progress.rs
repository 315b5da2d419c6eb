//! What a pull or a load tells while it works, for a person at a terminal or for an event.

use super::digest::Digest;
use std::fmt;
use std::sync::Arc;

/// One step of a pull or a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Asking a registry what the reference means.
    Resolving {
        /// The complete reference.
        reference: String,
    },
    /// Reading an archive.
    Reading {
        /// Bytes read so far.
        done: u64,
    },
    /// Fetching a layer; told about once a megabyte.
    Downloading {
        /// Which one.
        layer: Digest,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A layer comes from another board.
    From {
        /// Which one.
        layer: Digest,
        /// The board's name.
        board: String,
    },
    /// An archive is read along with its push to another board.
    Along {
        /// The board's name.
        board: String,
    },
    /// The board that should read along doesn't, or no longer.
    Alone {
        /// What became of it.
        why: &'static str,
    },
    /// Another board has read along to the end.
    HandedOn {
        /// How much.
        bytes: u64,
    },
    /// A failed download is tried again, from where it stopped if the registry can.
    Retrying {
        /// Which one.
        layer: Digest,
        /// What went wrong.
        why: String,
    },
    /// Unpacking a layer.
    Unpacking {
        /// Counted from 1.
        number: usize,
        /// Layers of the image.
        of: usize,
    },
    /// A layer that is on the board already.
    Present {
        /// Counted from 1.
        number: usize,
        /// Layers of the image.
        of: usize,
    },
    /// Device nodes of an image were left out.
    Skipped {
        /// Their paths, the first few.
        paths: Vec<String>,
    },
    /// The image is complete and can be used.
    Done {
        /// The complete reference, or the id of an image without a name.
        reference: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |d: &Digest| d.hex()[..12].to_string();
        match self {
            Step::Resolving { reference } => write!(f, "resolving {reference}"),
            Step::Reading { done } => write!(f, "read {} of the archive", Size(*done)),
            Step::Downloading { layer, done, total } => {
                write!(f, "layer {}: {} of {}", short(layer), Size(*done), Size(*total))
            }
            Step::From { layer, board } => {
                write!(f, "layer {}: from board {board}", short(layer))
            }
            Step::Along { board } => write!(f, "reading along with board {board}"),
            Step::Alone { why } => write!(f, "no board reads along: {why}"),
            Step::HandedOn { bytes } => write!(f, "handed on {}", Size(*bytes)),
            Step::Retrying { layer, why } => write!(f, "layer {}: again: {why}", short(layer)),
            Step::Unpacking { number, of } => write!(f, "unpacking layer {number} of {of}"),
            Step::Present { number, of } => write!(f, "layer {number} of {of} is here already"),
            Step::Skipped { paths } => {
                write!(f, "left out device nodes: {}", paths.join(", "))
            }
            Step::Done { reference } => write!(f, "{reference} is ready"),
        }
    }
}

/// Bytes, as people read them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        match self.0 {
            n if n >= MIB => write!(f, "{}.{} MiB", n / MIB, n % MIB * 10 / MIB),
            n => write!(f, "{} KiB", n.div_ceil(1024)),
        }
    }
}

type Tell = dyn Fn(&Step) + Send + Sync;

/// Where steps are told; cheap to clone, and silent by default.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Tell>>);

impl Progress {
    /// Tells each step to `tell`, which must not block.
    pub fn new(tell: impl Fn(&Step) + Send + Sync + 'static) -> Progress {
        Progress(Some(Arc::new(tell)))
    }

    /// Tells nobody.
    pub fn none() -> Progress {
        Progress(None)
    }

    pub(crate) fn tell(&self, step: Step) {
        if let Some(tell) = &self.0 {
            tell(&step);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Progress(told)" } else { "Progress(silent)" })
    }
}
