//! What systemd hears of a start that takes long: it kills whoever says nothing.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::stat::Mode;

use super::machine::built;

/// A backup that is read for as long as the test likes: the other end of a pipe.
#[test]
fn a_restore_that_takes_long_is_alive() {
    let dir = std::env::temp_dir().join(format!("edt-beats-{}", std::process::id()));
    let backup = dir.join("data/restore/backup");
    std::fs::create_dir_all(dir.join("data/restore")).expect("a directory");
    nix::unistd::mkfifo(&backup, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
    let socket = dir.join("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(20))).expect("a bound");
    let mut command = Command::new(built("edged"));
    command.args(["server", "--name", "b", "--node-ip", "127.0.0.1", "--no-agent"]);
    command.arg("--data-dir").arg(dir.join("data")).arg("--run-dir").arg(dir.join("run"));
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "300000").env_remove("WATCHDOG_PID");
    let server = command.stderr(Stdio::piped()).spawn().expect("edged starts");
    let hear = || {
        let mut said = [0; 512];
        let count = manager.recv(&mut said).expect("a sign of life");
        String::from_utf8_lossy(&said[..count]).into_owned()
    };
    let first = [hear(), hear()].concat();
    assert!(first.contains("STATUS=making a backup the cluster"), "{first}");
    for _ in 0..3 {
        let beat = hear();
        assert!(beat.contains("EXTEND_TIMEOUT_USEC=") && beat.contains("WATCHDOG=1"), "{beat}");
    }
    let mut pipe = OpenOptions::new().write(true).open(&backup).expect("it is being read");
    pipe.write_all(b"no backup").expect("a pipe");
    drop(pipe);
    let ended = server.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && said.contains("to start without it"), "{said}");
    assert!(backup.exists() && !dir.join("data/store").exists(), "nothing was changed");
    std::fs::remove_dir_all(&dir).expect("nobody uses it");
}
