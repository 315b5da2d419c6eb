//! What can go wrong with a container, in words that name the operation and the object, with the
//! reason and exit status that Kubernetes has for it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Exit status that Kubernetes shows for a container that could not be started.
pub const START_FAILED: i32 = 128;

/// An operation of the runtime that failed.
#[derive(Debug)]
pub enum RuntimeError {
    /// The container asks for something that cannot be; nothing was made.
    Config {
        /// Which container.
        id: String,
        /// What is wrong, for its status.
        message: String,
    },
    /// The container could not be made; nothing of it is left.
    Create {
        /// Which container.
        id: String,
        /// Why, for its status.
        message: String,
    },
    /// The container was made, but its command could not be started; nothing of it is left.
    Start {
        /// Which container.
        id: String,
        /// Why, in runc's words, for its status.
        message: String,
    },
    /// A command could not be run in a container.
    Exec {
        /// Which container.
        id: String,
        /// Why, in runc's words.
        message: String,
        /// What a shell would answer: 126 or 127.
        code: i32,
    },
    /// There is a container of this id already.
    Exists {
        /// Which container.
        id: String,
    },
    /// There is no container of this id.
    NotFound {
        /// Which container.
        id: String,
    },
    /// The container has ended.
    NotRunning {
        /// Which container.
        id: String,
    },
    /// The board lacks something that containers need.
    Board {
        /// What, and what to do about it.
        message: String,
    },
    /// A system call failed.
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

impl RuntimeError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        RuntimeError::Io { operation, path: path.into(), source: source.into() }
    }

    /// The reason of the container's waiting or terminated state.
    pub fn reason(&self) -> &'static str {
        match self {
            RuntimeError::Config { .. } => "CreateContainerConfigError",
            RuntimeError::Start { .. } => "StartError",
            RuntimeError::Exec { .. } => "ExecError",
            _ => "CreateContainerError",
        }
    }

    /// The exit status of a container that failed this way.
    pub fn exit_code(&self) -> i32 {
        match self {
            RuntimeError::Exec { code, .. } => *code,
            _ => START_FAILED,
        }
    }

    /// The message for the container's status, without operation and id.
    pub fn message(&self) -> String {
        match self {
            RuntimeError::Config { message, .. }
            | RuntimeError::Create { message, .. }
            | RuntimeError::Start { message, .. }
            | RuntimeError::Exec { message, .. }
            | RuntimeError::Board { message } => message.clone(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuntimeError::Config { id, message } => {
                write!(f, "configure container {id}: {message}")
            }
            RuntimeError::Create { id, message } => write!(f, "create container {id}: {message}"),
            RuntimeError::Start { id, message } => write!(f, "start container {id}: {message}"),
            RuntimeError::Exec { id, message, .. } => {
                write!(f, "exec in container {id}: {message}")
            }
            RuntimeError::Exists { id } => {
                write!(f, "start container {id}: it exists already; remove it first")
            }
            RuntimeError::NotFound { id } => write!(f, "container {id} does not exist"),
            RuntimeError::NotRunning { id } => write!(f, "container {id} is not running"),
            RuntimeError::Board { message } => f.write_str(message),
            RuntimeError::Io { operation, path, source } => {
                write!(f, "{operation} {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for RuntimeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RuntimeError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
