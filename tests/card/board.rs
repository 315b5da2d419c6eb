//! A board that is a `qemu-system-aarch64`: its card, its power, its console.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::image::BOOT;
use crate::board::command::must;
use crate::board::machine::built;
use crate::guest::Lan;

/// UEFI for such a machine, and where it keeps its variables.
const FIRMWARE: &str = "/usr/share/AAVMF/AAVMF_CODE.fd";
const VARIABLES: &str = "/usr/share/AAVMF/AAVMF_VARS.fd";
/// Bytes of a card.
const CARD: u64 = 4 << 30;
/// The network of all boards, and the person's address in it.
pub(super) const PERSON: &str = "192.168.76.1";

/// A board. Its power is off at first and after this is dropped; the card's file stays.
pub(super) struct Board {
    pub(super) name: String,
    /// Its address, in a network of 24 bits.
    pub(super) ip: String,
    dir: PathBuf,
    memory: u32,
    /// QEMU's name of its processor.
    pub(super) processor: &'static str,
    power: Option<Child>,
    boots: u32,
}

impl Board {
    /// A card of its own, as `edgectl flash` would have written it, in a board with so many MiB.
    pub(super) fn new(image: &Path, dir: &Path, name: &str, last: u8, memory: u32) -> Board {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        let card = dir.join("card.img");
        let copy = |from: &str, to: &Path| {
            must("cp", &["--sparse=always", from, &to.display().to_string()]);
        };
        copy(&image.display().to_string(), &card);
        let file = std::fs::OpenOptions::new().write(true).open(&card).expect("the card");
        file.set_len(CARD).expect("a sparse file");
        copy(VARIABLES, &dir.join("variables"));
        let ip = format!("192.168.76.{last}");
        let (name, processor) = (name.to_owned(), "cortex-a53");
        Board { name, ip, dir, memory, processor, power: None, boots: 0 }
    }

    /// Gives the card another system and leaves its data, by the command that people type.
    pub(super) fn renew(&self, image: &Path) {
        let [image, card] = [image, &self.dir.join("card.img")].map(|p| p.display().to_string());
        let edgectl = built("edgectl").display().to_string();
        must(&edgectl, &["flash", "--keep-data", "--yes", "--file", &image, &card]);
    }

    /// Writes `edged.yaml` on the boot partition: this name and address, and further lines.
    pub(super) fn settings(&self, lines: &str) {
        let text =
            format!("name: {}\naddress: {}/24\ngateway: {PERSON}\n{lines}", self.name, self.ip);
        let file = self.dir.join("edged.yaml");
        std::fs::write(&file, text).expect("a file");
        must("mcopy", &["-o", "-i", &self.boot(), &file.display().to_string(), "::edged.yaml"]);
    }

    /// What stands in a file of the boot partition, while the power is off.
    pub(super) fn on_boot(&self, name: &str) -> String {
        must("mtype", &["-i", &self.boot(), &format!("::{name}")])
    }

    fn boot(&self) -> String {
        format!("{}{BOOT}", self.dir.join("card.img").display())
    }

    /// Switches the power on; returns at once.
    pub(super) fn on(&mut self, lan: &Lan, tap: &str) {
        let path = |name: &str| self.dir.join(name).display().to_string();
        self.boots += 1;
        let mut command = lan.namespace.command("qemu-system-aarch64");
        command.args(["-accel", "tcg,thread=multi", "-M", "virt", "-cpu", self.processor]);
        command.args(["-smp", "1", "-m", &self.memory.to_string()]);
        command.args(["-nodefaults", "-display", "none"]);
        let flash = format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}");
        command.args(["-drive", &flash]);
        command.args(["-drive", &format!("if=pflash,format=raw,file={}", path("variables"))]);
        let card = format!("if=none,id=card,format=raw,cache=writeback,file={}", path("card.img"));
        command.args(["-drive", &card, "-device", "virtio-blk-pci,drive=card,romfile="]);
        let cable = format!("tap,id=lan,ifname={tap},script=no,downscript=no");
        let last = self.ip.rsplit('.').next().expect("a number").parse::<u8>().expect("a number");
        let mac = format!("virtio-net-pci,netdev=lan,mac=52:54:00:00:76:{last:02x},romfile=");
        command.args(["-netdev", &cable, "-device", &mac]);
        command.args(["-device", "virtio-rng-pci", "-device", "i6300esb"]);
        command.args(["-serial", &format!("file:{}", path(&format!("console-{}", self.boots)))]);
        let _ = std::fs::remove_file(self.dir.join("monitor"));
        command.args(["-qmp", &format!("unix:{},server=on,wait=off", path("monitor"))]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.power = Some(command.spawn().expect("qemu-system-aarch64 starts"));
    }

    /// Cuts the power: the machine is gone at once, with all that its kernel had not yet written.
    pub(super) fn cut(&mut self) {
        let Some(mut child) = self.power.take() else { return };
        let stream = UnixStream::connect(self.dir.join("monitor")).expect("the monitor");
        let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
        let mut say = |line: &str| {
            writeln!(&stream, "{line}").expect("the monitor reads");
            lines.next();
        };
        say("{\"execute\":\"qmp_capabilities\"}");
        say("{\"execute\":\"quit\"}");
        child.wait().expect("the machine ends");
    }

    /// The end of what the console said.
    pub(super) fn console(&self) -> String {
        let path = self.dir.join(format!("console-{}", self.boots));
        let text = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(4000)..]).into_owned()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(mut child) = self.power.take() {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                println!("console of {}:\n{}", self.name, self.console());
            }
        }
    }
}

/// A key that lets its owner in, in `dir`; gives the line for `edged.yaml`.
pub(super) fn key(dir: &Path) -> String {
    let file = dir.join("key");
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "person", "-f"]).arg(&file);
    assert!(command.status().expect("ssh-keygen starts").success());
    let public = std::fs::read_to_string(file.with_extension("pub")).expect("a public key");
    format!("ssh-key: {public}")
}
