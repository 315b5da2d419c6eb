//! The hands of `edged doctor`: gathers what is to be known of the board, and carries out what
//! `edge_core::doctor` says can be set right. Files are read beneath a root, so that tests plant
//! a board's; what only the kernel says is asked of the real one.

mod files;
mod fix;
mod kernel;
mod keys;
mod made;
mod network;
mod ports;
pub(crate) mod power;
mod storage;
mod units;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use edge_core::doctor::{Facts, UnitFile};
use edge_core::podnet::Range;

use crate::runtime::calls;
pub(crate) use files::Files;

pub use fix::{keep_awake, repair};
pub use made::{Made, cmdline, made};
pub use units::is_packaged;

/// The file in the run directory that says why the cluster does not let this board in.
pub const REFUSED: &str = "join-refused";
/// The file in the run directory that says why Ingresses can't be served.
pub(crate) const INGRESS_CLOSED: &str = "ingress-closed";

/// A port that edged needs.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its number.
    pub port: u16,
    /// True for UDP.
    pub udp: bool,
    /// The address that it is needed on; unspecified for all.
    pub address: Ipv4Addr,
    /// What for.
    pub purpose: &'static str,
}

/// Which board to look at, and what edged wants of it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where the board's files are; `/` but for tests.
    pub root: PathBuf,
    /// Where edged keeps its data; not beneath `root`.
    pub data_dir: PathBuf,
    /// Where edged keeps what a boot forgets; not beneath `root` either.
    pub run_dir: PathBuf,
    /// Whether the board's name was chosen.
    pub named: bool,
    /// Ports that edged needs.
    pub ports: Vec<Wanted>,
    /// Ranges of the cluster, by the names of their settings.
    pub ranges: Vec<(&'static str, Range)>,
    /// The systemd units that this program carries.
    pub units: &'static [UnitFile],
    /// The board's time in milliseconds since 1970.
    pub now_ms: i64,
    /// Whether edged runs here and asks. Then nothing is looked at that it would disturb: the boot
    /// partition of a card, which is mounted for whoever looks at it, and a module that the kernel
    /// would load only to answer.
    pub runs: bool,
}

impl Place {
    fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }
}

/// Looks at all of the board. Some tens of milliseconds, most of it for ports and kinds of links.
#[must_use]
pub fn gather(place: &Place) -> Facts {
    let mut facts = glance(&place.root, &place.data_dir);
    let files = Files(&place.root);
    facts.ranges.clone_from(&place.ranges);
    (facts.hostname, facts.named) = (files.line("proc/sys/kernel/hostname"), place.named);
    facts.now_ms = Some(place.now_ms);
    let told = files.0.join("run/systemd/timesync/synchronized").exists();
    facts.synchronised = match place.is_real() {
        true => calls::clock_is_synchronised().map(|kernel| kernel || told),
        false => told.then_some(true),
    };
    kernel::modules(place, &mut facts);
    kernel::limits(&files, &mut facts);
    facts.taken = ports::taken(&files, &place.ports);
    facts.rivals = ports::rivals(&files);
    if !place.runs {
        kernel::gather(&files, &mut facts);
    }
    keys::gather(&place.data_dir, &mut facts);
    facts.units = units::gather(&place.root, place.units);
    let said = |name: &str| std::fs::read_to_string(place.run_dir.join(name)).ok();
    (facts.refused, facts.ingress_closed) = (said(REFUSED), said(INGRESS_CLOSED));
    facts
}

/// Looks at what is cheap: some tens of small files and two questions to the kernel.
#[must_use]
pub fn glance(root: &Path, data_dir: &Path) -> Facts {
    let files = Files(root);
    let mut facts = Facts::default();
    kernel::glance(&files, &mut facts);
    storage::gather(&files, data_dir, &mut facts);
    network::gather(&files, &mut facts);
    facts
}
