//! What is known of a board before anybody judges it: plain values, each absent where nobody could
//! look. Whoever gathers them decides nothing.

use crate::podnet::Range;

/// All that was seen of a board.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's release, `6.12.25+rpt-rpi-v8`.
    pub kernel: Option<String>,
    /// Bytes of a page of memory.
    pub page_bytes: Option<u64>,
    /// The control groups that the kernel has.
    pub cgroups: Option<Cgroups>,
    /// The file that holds the kernel's command line, on boards that have one.
    pub cmdline: Option<CmdlineFile>,
    /// The directory of a boot partition that is not mounted.
    pub unmounted: Option<&'static str>,
    /// What of the kernel's abilities is there.
    pub modules: Vec<Module>,
    /// Links of Wi-Fi.
    pub wifi: Vec<Wifi>,
    /// The board's time in milliseconds since 1970.
    pub now_ms: Option<i64>,
    /// Whether the kernel's clock follows a source of time.
    pub synchronised: Option<bool>,
    /// Whether packets for elsewhere have a way.
    pub default_route: Option<bool>,
    /// The file systems that matter.
    pub filesystems: Vec<Filesystem>,
    /// Cards and built-in flash that tell how worn they are.
    pub flash: Vec<Flash>,
    /// The Raspberry Pi firmware's word about power and heat; see [`super::power`].
    pub throttled: Option<u32>,
    /// The voltage alarm, where the firmware's word can't be read.
    pub voltage_alarm: Option<bool>,
    /// Whether the board is a Raspberry Pi, whose firmware measures its supply.
    pub raspberry: bool,
    /// The hottest zone, in thousandths of a degree Celsius.
    pub temperature_milli: Option<i64>,
    /// Ports that edged needs and others hold; `None` where nobody could look.
    pub taken: Option<Vec<Taken>>,
    /// Chains of nf_tables that are not ours.
    pub chains: Option<Vec<Chain>>,
    /// Whether the older iptables has a table of rules beside nf_tables.
    pub legacy_rules: bool,
    /// What that table does with packets that pass; `None` where it could not be read.
    pub legacy: Option<Legacy>,
    /// Whom the board asks for names; `None` where nobody could look.
    pub resolvers: Option<Vec<String>>,
    /// Why the cluster does not let this board in, as it said last.
    pub refused: Option<String>,
    /// Why Ingresses that there are can't be served here, as the agent said last.
    pub ingress_closed: Option<String>,
    /// Networks that the board is on, or has routes to, other than ours.
    pub networks: Vec<Network>,
    /// The ranges that the cluster uses, by the names of their settings.
    pub ranges: Vec<(&'static str, Range)>,
    /// Programs that run pods as well, by name.
    pub rivals: Vec<String>,
    /// Where memory is swapped to.
    pub swaps: Vec<Swap>,
    /// Whether the kernel passes packets on.
    pub forwarding: Option<Forwarding>,
    /// Files that a process may have open at most.
    pub open_files: Option<u64>,
    /// Inotify handles that a user may have.
    pub inotify_instances: Option<u64>,
    /// Files that a user may watch.
    pub inotify_watches: Option<u64>,
    /// The machine's name.
    pub hostname: Option<String>,
    /// Whether the board's name was chosen, so that the machine's does not matter.
    pub named: bool,
    /// Bits of chance that the kernel has gathered, of 256.
    pub entropy: Option<u64>,
    /// Files that hold secrets, with their modes.
    pub secrets: Vec<Secret>,
    /// Files that a board in a cluster must have and that are not there.
    pub lost: Vec<String>,
    /// Certificates of the board.
    pub certificates: Vec<Certificate>,
    /// Whose edged's systemd units are on this board, and which of them differ from those that the
    /// running program carries; `None` where there are none.
    pub units: Option<(UnitsOf, Vec<UnitFile>)>,
    /// What could not be looked at, and why: each a check's id and words.
    pub unseen: Vec<(&'static str, String)>,
}

/// How control groups are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Version 1 alone.
    V1,
    /// Version 1 for controllers, version 2 beside it.
    Hybrid,
    /// Version 2.
    V2,
}

/// The control groups that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// How they are laid out.
    pub layout: Layout,
    /// Names of the controllers that can be used.
    pub controllers: Vec<String>,
}

/// A file that holds the kernel's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmdlineFile {
    /// Where it is, from the root.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// Whether the kernel can do what a module brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// It can.
    There,
    /// It could once the module is loaded, which is on the disk.
    OnDisk,
    /// The kernel has no such module.
    Missing,
}

/// A module that edged needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name, as `modprobe` takes it.
    pub name: &'static str,
    /// Whether it is there.
    pub ability: Ability,
}

/// A link of Wi-Fi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wifi {
    /// The link's name.
    pub link: String,
    /// Whether it sleeps between packets; `None` where the driver does not say.
    pub power_save: Option<bool>,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// A directory on it.
    pub path: String,
    /// True for the one that holds edged's data.
    pub data: bool,
    /// `ext4`.
    pub kind: String,
    /// Whether nothing can be written.
    pub read_only: bool,
    /// Bytes that it holds.
    pub bytes: u64,
    /// Bytes that are free for us.
    pub bytes_free: u64,
    /// Files that it can hold; 0 where it does not count.
    pub files: u64,
    /// Files that it can still take.
    pub files_free: u64,
}

/// Flash that tells how worn it is (JEDEC eMMC 5.0; some cards have it too).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flash {
    /// `mmcblk0`.
    pub device: String,
    /// Used life of each type of its cells in tenths, 1 for less than a tenth, 11 for over.
    pub life: Vec<u32>,
    /// Spare blocks: 1 enough, 2 four fifths are used, 3 nearly all are.
    pub spare: Option<u32>,
}

/// A port that edged needs and somebody else holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// What edged needs it for.
    pub purpose: &'static str,
    /// Who holds it; `None` where that could not be seen.
    pub owner: Option<String>,
}

/// Where a chain is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// What is for the board itself.
    Input,
    /// What passes through it.
    Forward,
}

/// A chain of nf_tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is asked; `None` for one that others lead to.
    pub hook: Option<Hook>,
    /// Whether it drops what none of its rules accepts.
    pub drops: bool,
}

/// What the older iptables does with packets that pass through the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Legacy {
    /// Whether it drops what none of its rules accepts.
    pub drops: bool,
    /// How many rules of its chain for them drop or reject something.
    pub rules: usize,
}

/// A network that the board is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The link that leads there.
    pub link: String,
    /// Its addresses.
    pub range: Range,
}

/// A place that memory is swapped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// The file or device.
    pub path: String,
    /// Whether it is on flash that wears out soon: a card, eMMC or a stick.
    pub flash: bool,
    /// Its size.
    pub bytes: u64,
}

/// Whether the kernel passes packets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarding {
    /// Whether it does.
    pub on: bool,
    /// Whether we may turn it on.
    pub settable: bool,
}

/// A file that holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Where it is.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Where it is.
    pub path: String,
    /// When it ends, in milliseconds since 1970.
    pub ends_ms: i64,
}

/// Who put edged's systemd units onto the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitsOf {
    /// `edged install`.
    Install,
    /// A package.
    Package,
    /// Whoever made the image: nobody can write there.
    Image,
    /// `edged install`, on a disk that is read-only by now.
    Closed,
}

/// A systemd unit as a program carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitFile {
    /// Where it belongs, from the root, without a slash.
    pub path: &'static str,
    /// All of it.
    pub text: &'static str,
}
