//! Sockets in a pod's network. A socket stays in the network in which it was made, so a thread
//! goes there, makes it, and ends: a thread that has left the board's network never serves anything
//! else.

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// Does `work`, which must be short, where the pod with this pinned network namespace is; on the
/// board's own network without one.
///
/// # Errors
/// Those of the work, and why the namespace can't be entered.
pub(crate) async fn within<T: Send + 'static>(
    namespace: Option<PathBuf>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let Some(namespace) = namespace else { return work() };
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("edged-net".to_owned()).spawn(move || {
        let done = File::open(&namespace)
            .and_then(|file| setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from))
            .and_then(|()| work());
        let _ = answer.send(done);
    })?;
    answered.await.unwrap_or_else(|_| Err(io::Error::other("the thread has ended too early")))
}
