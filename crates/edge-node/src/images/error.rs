//! What can go wrong with an image, in one line each, with the reason that Kubernetes shows for it.
//! Errors are plain data: a failed pull is shown to several waiting containers.

use std::fmt;
use std::io;
use std::path::Path;

/// A failed operation on an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageError {
    /// The name can't be an image reference.
    InvalidName {
        /// As the user wrote it.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry, or the archive, has no such image.
    NotFound {
        /// The reference asked for.
        reference: String,
        /// What was missing.
        detail: String,
    },
    /// The registry wants other credentials, or any.
    Denied {
        /// The reference asked for.
        reference: String,
        /// The registry's own words.
        detail: String,
    },
    /// No manifest fits this board.
    NoPlatform {
        /// The reference asked for.
        reference: String,
        /// This board's platform.
        wanted: String,
        /// What the image has.
        offered: Vec<String>,
    },
    /// The registry can't be reached or talks nonsense.
    Registry {
        /// Host and port.
        host: String,
        /// What was being done.
        operation: String,
        /// What came back.
        detail: String,
    },
    /// Bytes don't have the digest or the size that names them.
    Corrupt {
        /// Which blob or layer.
        what: String,
        /// What differs.
        detail: String,
    },
    /// A layer, or an archive, that is malformed or would do harm.
    Malformed {
        /// Which layer, archive or document.
        what: String,
        /// What is wrong with it, naming the entry.
        detail: String,
    },
    /// The disk is full, or would be.
    Full {
        /// What was being written.
        what: String,
        /// How much was needed or left.
        detail: String,
    },
    /// The image is not on the board.
    Absent {
        /// The reference asked for.
        reference: String,
    },
    /// The configuration for registries can't be used.
    Config {
        /// What is wrong, naming the key or file.
        detail: String,
    },
    /// The operating system refused something.
    Io {
        /// What was being done, naming the file.
        operation: String,
        /// The system's words.
        detail: String,
    },
}

impl ImageError {
    /// The reason that Kubernetes puts in a waiting container's status.
    pub fn reason(&self) -> &'static str {
        match self {
            ImageError::InvalidName { .. } => "InvalidImageName",
            ImageError::Absent { .. } => "ErrImageNeverPull",
            ImageError::Io { .. } => "ImageInspectError",
            _ => "ErrImagePull",
        }
    }

    /// True when another try, with nothing changed, may succeed.
    pub(crate) fn transient(&self) -> bool {
        matches!(self, ImageError::Registry { .. })
    }

    /// An input or output error; a full disk is told apart from all others.
    pub(crate) fn io(operation: impl Into<String>, source: &io::Error) -> ImageError {
        let operation = operation.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ImageError::Full {
                what: operation,
                detail: "no space left on the disk: remove images or files, then try again".into(),
            },
            _ => ImageError::Io { operation, detail: source.to_string() },
        }
    }

    /// As [`ImageError::io`], naming a file.
    pub(crate) fn file(verb: &str, path: &Path, source: &io::Error) -> ImageError {
        ImageError::io(format!("{verb} {}", path.display()), source)
    }

    /// A malformed layer, archive or document.
    pub(crate) fn malformed(what: impl Into<String>, detail: impl Into<String>) -> ImageError {
        ImageError::Malformed { what: what.into(), detail: detail.into() }
    }

    /// A failed conversation with a registry.
    pub(crate) fn registry(
        host: impl Into<String>,
        operation: impl Into<String>,
        detail: impl Into<String>,
    ) -> ImageError {
        ImageError::Registry {
            host: host.into(),
            operation: operation.into(),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::InvalidName { name, why } => {
                write!(f, "couldn't parse image name \"{name}\": invalid reference format: {why}")
            }
            ImageError::NotFound { reference, detail } => {
                write!(f, "image \"{reference}\": not found: {detail}")
            }
            ImageError::Denied { reference, detail } => write!(
                f,
                "image \"{reference}\": pull access denied, repository does not exist or may \
                 require authorization (check imagePullSecrets): {detail}"
            ),
            ImageError::NoPlatform { reference, wanted, offered } => write!(
                f,
                "image \"{reference}\": no match for platform in manifest: this board is {wanted}, \
                 the image has {}",
                if offered.is_empty() { "none".to_string() } else { offered.join(", ") }
            ),
            ImageError::Registry { host, operation, detail } => {
                write!(f, "registry {host}: {operation}: {detail}")
            }
            ImageError::Corrupt { what, detail } => write!(f, "{what} is corrupt: {detail}"),
            ImageError::Malformed { what, detail } => write!(f, "{what} is malformed: {detail}"),
            ImageError::Full { what, detail } => write!(f, "{what}: {detail}"),
            ImageError::Absent { reference } => write!(
                f,
                "Container image \"{reference}\" is not present with pull policy of Never"
            ),
            ImageError::Config { detail } => write!(f, "registry configuration: {detail}"),
            ImageError::Io { operation, detail } => write!(f, "{operation}: {detail}"),
        }
    }
}

impl std::error::Error for ImageError {}

/// Carries an [`ImageError`] through an [`io::Error`], for readers stacked on readers.
pub(crate) fn smuggle(error: ImageError) -> io::Error {
    io::Error::other(error)
}

/// Takes a smuggled [`ImageError`] out again, or makes one by `otherwise`.
pub(crate) fn unsmuggle(
    source: io::Error,
    otherwise: impl FnOnce(&io::Error) -> ImageError,
) -> ImageError {
    match source.get_ref().and_then(|inner| inner.downcast_ref::<ImageError>()) {
        Some(error) => error.clone(),
        None => otherwise(&source),
    }
}
