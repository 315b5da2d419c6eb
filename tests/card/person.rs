//! Who sits beside the boards: a network namespace with `ssh`, `edgectl` and a browser.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::board::{Board, PERSON};
use super::{Steps, patient};
use crate::board::command::Outcome;
use crate::board::machine::built;
use crate::guest::Lan;

/// Longest that a page may take to answer.
const PAGE: Duration = Duration::from_secs(20);
/// Longest that one program may run: a board whose power was cut never says that it is gone.
const PROGRAM: &str = "300";

/// A person, with a switch between the boards.
pub(super) struct Person {
    pub(super) lan: Lan,
    pub(super) dir: PathBuf,
}

impl Person {
    /// With a cable for each board, by these names.
    pub(super) fn new(what: &str, dir: &Path, taps: &[&str]) -> Person {
        let lan = Lan::new(what);
        lan.namespace.ip(&format!(
            "link add br0 type bridge\naddr add {PERSON}/24 dev br0\nlink set br0 up\n"
        ));
        for tap in taps {
            lan.tap(tap);
            lan.namespace.ip(&format!("link set {tap} master br0\n"));
        }
        Person { lan, dir: dir.to_owned() }
    }

    /// Runs a line of shell on a board, by SSH.
    pub(super) fn ssh(&self, board: &Board, line: &str) -> Outcome {
        let mut command = self.lan.namespace.command("timeout");
        command.args([PROGRAM, "ssh"]);
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        command.args(["-o", "ConnectTimeout=30", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"]);
        command.arg("-i").arg(self.dir.join("key"));
        command.arg(format!("root@{}", board.ip)).arg(line);
        finished(command)
    }

    /// The same again and again, until it succeeds; gives what it printed.
    #[track_caller]
    pub(super) fn ssh_until(&self, board: &Board, line: &str) -> String {
        patient(&format!("{}: {line}", board.name), || {
            let outcome = self.ssh(board, line);
            match outcome.status {
                0 => Ok(outcome.stdout),
                _ => Err(outcome.stderr),
            }
        })
    }

    /// `edgectl` from beside the boards.
    pub(super) fn ctl(&self, args: &[&str]) -> Outcome {
        self.ctl_within(PROGRAM, args)
    }

    /// The same within so many seconds.
    pub(super) fn ctl_within(&self, seconds: &str, args: &[&str]) -> Outcome {
        let mut command = self.lan.namespace.command("timeout");
        command.arg(seconds).arg(built("edgectl"));
        command.arg("--kubeconfig").arg(self.dir.join("kubeconfig")).args(args);
        finished(command)
    }

    /// The same until what it prints is `good`.
    #[track_caller]
    pub(super) fn ctl_until(&self, args: &[&str], good: impl Fn(&str) -> bool) -> String {
        patient(&format!("edgectl {args:?}"), || {
            let outcome = self.ctl(args);
            match outcome.status == 0 && good(&outcome.stdout) {
                true => Ok(outcome.stdout),
                false => Err(outcome.stdout + &outcome.stderr),
            }
        })
    }

    /// Writes a file of manifests, and has the cluster take it.
    pub(super) fn apply(&self, name: &str, text: &str) {
        let file = self.dir.join(name);
        std::fs::write(&file, text).expect("a file");
        self.ctl(&["apply", "-f", &file.display().to_string()]).ok();
    }

    /// Lets a board start alone, and waits until it is a cluster of one.
    pub(super) fn founds(&self, board: &mut Board, tap: &str, steps: &mut Steps) {
        let name = board.name.clone();
        board.on(&self.lan, tap);
        self.ssh_until(board, "true");
        steps.done(&format!("board {name} lets its person in by SSH"));
        // A board that starts before it has an address writes the file once more when it has one.
        let file = "/var/lib/edged/admin.kubeconfig";
        let line = format!("grep -qF //{}: {file} && cat {file}", board.ip);
        let kubeconfig = self.ssh_until(board, &line);
        std::fs::write(self.dir.join("kubeconfig"), kubeconfig).expect("a file");
        // Its Node has the address as well by then, and its agent listens there.
        let ready = |text: &str| text.contains(" Ready") && text.contains(&board.ip);
        self.ctl_until(&["get", "nodes", "-o", "wide"], ready);
        steps.done(&format!("board {name} is a cluster, and Ready"));
    }

    /// What a page says, without its head.
    pub(super) fn page(&self, ip: &str, port: u16, path: &str) -> Result<String, String> {
        let at: SocketAddr = format!("{ip}:{port}").parse().expect("an address");
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&at, PAGE)?;
            stream.set_read_timeout(Some(PAGE))?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = self.lan.namespace.within(ask).map_err(|error| error.to_string())?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| text.clone())?;
        match head.contains(" 200 ") {
            true => Ok(body.trim().to_owned()),
            false => Err(text),
        }
    }
}

/// Runs a command to its end, however long that takes: a board without hardware help is slow.
fn finished(mut command: Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().expect("a program that is installed");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Outcome {
        status: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
