//! How the demo looks: one line a step, moving on a terminal, plain in a pipe.

use std::io::{IsTerminal, Write, stdout};
use std::net::IpAddr;
use std::path::Path;

/// The lines of the demo.
pub(super) struct Show {
    terminal: bool,
    step: String,
    open: bool,
    last: String,
}

impl Show {
    pub(super) fn new() -> Show {
        let terminal = stdout().is_terminal();
        Show { terminal, step: String::new(), open: false, last: String::new() }
    }

    /// Begins a step. On a terminal it shows at once that work is going on.
    pub(super) fn begin(&mut self, step: &str) {
        self.step = step.to_owned();
        self.open = true;
        if self.terminal {
            self.write(&format!("  … {step}"));
        }
    }

    /// Says how far the open step has come; only a change is worth a line.
    pub(super) fn progress(&mut self, how_far: &str) {
        if self.last == how_far {
            return;
        }
        self.last = how_far.to_owned();
        if self.terminal {
            self.write(&format!("\r\x1b[K  … {}: {how_far}", self.step));
        } else {
            self.write(&format!("  … {}: {how_far}\n", self.step));
        }
    }

    /// Ends the open step with its result.
    pub(super) fn done(&mut self, result: &str) {
        let start = if self.terminal { "\r\x1b[K" } else { "" };
        self.write(&format!("{start}  ✓ {}: {result}\n", self.step));
        self.open = false;
        self.last.clear();
    }

    /// A line below the last step.
    pub(super) fn line(&mut self, text: &str) {
        self.write(&format!("      {text}\n"));
    }

    /// Leaves the terminal's cursor on a fresh line, whatever was going on.
    pub(super) fn interrupted(&mut self) {
        if self.terminal {
            self.write("\r\x1b[K");
        }
        if self.open {
            self.open = false;
        }
    }

    /// What to type next.
    pub(super) fn next(&mut self, kubeconfig: &Path, node: IpAddr, port: u64) {
        let exe = std::env::current_exe().unwrap_or_else(|_| "edged".into());
        let exe = exe.display();
        self.write(&format!(
            "\nThe cluster runs until you press Ctrl-C. In another terminal:\n\n\
             \x20 export KUBECONFIG={}\n\
             \x20 {exe} ctl get pods -o wide\n\
             \x20 {exe} ctl scale deployment web --replicas=5\n\
             \x20 {exe} ctl logs deploy/web\n\
             \x20 curl http://{node}:{port}/\n\n\
             kubectl works with the same KUBECONFIG.\n",
            kubeconfig.display()
        ));
    }

    fn write(&self, text: &str) {
        let mut out = stdout().lock();
        // A reader that has gone away does not stop the cluster.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
