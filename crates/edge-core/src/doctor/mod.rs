//! `edged doctor`'s judgement: from what was seen of a board to what is wrong with it, why that
//! bites, what to do about it, and what edged can set right by itself. See `docs/doctor.md`.

mod cmdline;
mod facts;
mod identity;
mod kernel;
mod legacy;
mod network;
pub mod power;
mod storage;
#[cfg(test)]
mod tests;
mod units;

pub use cmdline::{is_cmdline, with_memory};
pub use facts::{
    Ability, Certificate, Cgroups, Chain, CmdlineFile, Facts, Filesystem, Flash, Forwarding, Hook,
    Layout, Legacy, Module, Network, Secret, Swap, Taken, UnitFile, UnitsOf, Wifi,
};
pub use legacy::{INFO_BYTES, entries_bytes, forward};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// It works, but will hurt.
    Warning,
    /// Something does not work.
    Error,
}

impl Severity {
    /// As `-o json` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Unknown => "unknown",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// What edged can set right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// Write this as the kernel's command line, and keep the old one beside it.
    Cmdline {
        /// The file, from the root.
        path: String,
        /// All of its new text.
        text: String,
    },
    /// Load a module now and at each boot.
    Module(&'static str),
    /// Keep a link of Wi-Fi awake.
    WifiAwake(String),
    /// Stop swapping to this file or device.
    SwapOff(String),
    /// Set a kernel setting now and at each boot.
    Sysctl {
        /// `fs/inotify/max_user_instances`
        name: &'static str,
        /// Its new value.
        value: &'static str,
    },
    /// Let the owner alone read the file.
    Private(String),
    /// Write systemd units as the running program carries them.
    Units(Vec<UnitFile>),
}

impl Fix {
    /// What `--fix` does, in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Fix::Cmdline { path, .. } => {
                format!("add \"cgroup_enable=memory cgroup_memory=1\" to {path} (then reboot)")
            }
            Fix::Module(name) => format!("load the module {name}, now and at each boot"),
            Fix::WifiAwake(link) => format!("turn power saving of {link} off"),
            Fix::SwapOff(path) => format!("stop swapping to {path} until the next boot"),
            Fix::Sysctl { name, value } => {
                format!("set {} to {value}, now and at each boot", name.replace('/', "."))
            }
            Fix::Private(path) => format!("let root alone read {path}"),
            Fix::Units(_) => "write them as this edged has them".to_owned(),
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check's name, which stays: `memory-cgroup`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// Why that bites; empty when nothing is wrong.
    pub why: &'static str,
    /// What a person is to do; empty when there is nothing.
    pub todo: String,
    /// What `--fix` does about it.
    pub fix: Option<Fix>,
}

impl Finding {
    fn ok(id: &'static str, what: impl Into<String>) -> Finding {
        let (severity, todo) = (Severity::Ok, String::new());
        Finding { id, severity, what: what.into(), why: "", todo, fix: None }
    }

    fn bad(
        id: &'static str,
        severity: Severity,
        what: impl Into<String>,
        why: &'static str,
        todo: impl Into<String>,
    ) -> Finding {
        Finding { id, severity, what: what.into(), why, todo: todo.into(), fix: None }
    }

    fn warning(
        id: &'static str,
        what: impl Into<String>,
        why: &'static str,
        todo: impl Into<String>,
    ) -> Finding {
        Finding::bad(id, Severity::Warning, what, why, todo)
    }

    fn error(
        id: &'static str,
        what: impl Into<String>,
        why: &'static str,
        todo: impl Into<String>,
    ) -> Finding {
        Finding::bad(id, Severity::Error, what, why, todo)
    }

    fn unseen(id: &'static str, what: impl Into<String>) -> Finding {
        Finding { severity: Severity::Unknown, ..Finding::ok(id, what) }
    }

    fn with(mut self, fix: Fix) -> Finding {
        self.fix = Some(fix);
        self
    }

    /// True for a warning or an error.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.severity >= Severity::Warning
    }
}

/// Judges a board. The worst comes first; each check says something, and says the same of the same
/// facts.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    kernel::judge(facts, &mut found);
    power::judge(facts, &mut found);
    storage::judge(facts, &mut found);
    network::judge(facts, &mut found);
    identity::judge(facts, &mut found);
    units::judge(facts, &mut found);
    for (id, why) in &facts.unseen {
        found.push(Finding::unseen(id, why.clone()));
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// Conditions of a Node that these checks answer for: their types.
pub const CONDITIONS: [&str; 4] = ["UnderVoltage", "Throttled", "StorageWorn", "SwapOnFlash"];

/// A condition that a board has: its type, its reason, its message. The message stays while the
/// condition does: nothing in it moves with time, since a Node is written when it changes only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// One of [`CONDITIONS`].
    pub kind: &'static str,
    /// In one word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

/// The condition of that type with this message; `None` for a type that is not of [`CONDITIONS`].
#[must_use]
pub fn condition(kind: &str, message: String) -> Option<Condition> {
    let reasons = ["SupplyTooWeak", "SlowedDown", "FlashNearItsEnd", "SwapWearsTheCard"];
    let (kind, reason) = CONDITIONS.into_iter().zip(reasons).find(|(known, _)| *known == kind)?;
    Some(Condition { kind, reason, message })
}

/// What of a board belongs on its Node: what stays until somebody does something.
#[must_use]
pub fn conditions(facts: &Facts) -> Vec<Condition> {
    let mut found = power::conditions(facts);
    let mut judged = Vec::new();
    storage::judge(facts, &mut judged);
    let wanted = [("storage-worn", "StorageWorn"), ("swap-on-flash", "SwapOnFlash")];
    for (id, kind) in wanted {
        let said = judged.iter().filter(|finding| finding.id == id && finding.is_bad());
        let said: Vec<String> =
            said.map(|finding| format!("{}: {}", finding.what, finding.todo)).collect();
        if !said.is_empty() {
            found.extend(condition(kind, said.join("; ")));
        }
    }
    found
}
