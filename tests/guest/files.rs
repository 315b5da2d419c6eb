//! What is on a guest's disk: a shell, the modules that its kernel needs, the programs and files of
//! a test, and the script that brings it all up and then does what the console says.

use std::collections::BTreeSet;
use std::path::Path;

use super::archive::Archive;
use super::kernel::Kernel;
use crate::board::command::{must, run};

/// For the cards, and for all that edged uses.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "bridge",
    "veth",
    "overlay",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_numgen",
    "nft_reject_ipv4",
    "nft_reject_inet",
    "nft_fib_ipv4",
    "nft_fib_inet",
    "nft_ct",
    "nft_limit",
    "nft_hash",
    "nft_meta_bridge",
    "nf_conntrack_netlink",
];

/// What the console's commands use.
const APPLETS: &[&str] = &[
    "sh",
    "mount",
    "insmod",
    "ip",
    "cat",
    "ls",
    "mkdir",
    "cp",
    "switch_root",
    "stty",
    "sleep",
    "setsid",
    "nsenter",
    "wget",
    "nc",
    "kill",
    "grep",
    "tail",
    "pidof",
    "rm",
    "ping",
    "true",
    "test",
    "wc",
    "timeout",
    "netstat",
    "ps",
    "env",
    "hostname",
    "stat",
    "find",
    "sed",
    "cut",
];

/// The first program: the disk of the kernel's own can't be left as a container has to leave its,
/// so all is copied to another one.
const INIT: &str = "#!/bin/sh
mount -t devtmpfs dev /dev
mount -t tmpfs -o size=90%,mode=755 tmpfs /new
cp -a /bin /lib /lib64 /modules /stage /files /new/
mkdir -p /new/proc /new/sys /new/dev /new/run /new/tmp /new/etc /new/var /new/root
mount --move /dev /new/dev
exec switch_root /new /stage
";

/// The second: each line of the console is a command; what it prints ends with its status.
const STAGE: &str = "#!/bin/sh
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
while read -r name; do insmod /modules/$name; done < /modules/order
ip link set lo up
stty -F /dev/ttyS1 raw -echo
exec < /dev/ttyS1 > /dev/ttyS1 2>&1
echo; echo @@0
while read -r line; do
  sh -c \"$line\" < /dev/null
  status=$?; echo; echo @@$status
done
";

/// A guest's disk in the making.
pub(crate) struct Files {
    archive: Archive,
    libraries: BTreeSet<String>,
}

impl Files {
    /// With a shell, and these modules besides the usual.
    pub(crate) fn new(kernel: &Kernel, modules: &[&str]) -> Files {
        let mut archive = Archive::default();
        for directory in ["bin", "dev", "new", "lib", "lib64", "lib/x86_64-linux-gnu", "modules"] {
            archive.directory(directory);
        }
        archive.directory("files");
        let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
        archive.file("bin/busybox", 0o755, &busybox);
        for applet in APPLETS {
            archive.link(&format!("bin/{applet}"), "busybox");
        }
        let mut order = String::new();
        let wanted: Vec<&str> = MODULES.iter().chain(modules).copied().collect();
        for path in kernel.modules(&wanted) {
            let name = path.file_name().expect("a name").to_string_lossy();
            archive.file(
                &format!("modules/{name}"),
                0o644,
                &std::fs::read(path).expect("a module can be read"),
            );
            order += &format!("{name}\n");
        }
        archive.file("modules/order", 0o644, order.as_bytes());
        archive.file("init", 0o755, INIT.as_bytes());
        archive.file("stage", 0o755, STAGE.as_bytes());
        Files { archive, libraries: BTreeSet::new() }
    }

    /// A program of this machine, without what only debuggers read, and its libraries.
    pub(crate) fn program(mut self, path: &Path) -> Files {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let bare = std::env::temp_dir().join(format!("edged-{}-{name}", std::process::id()));
        let (from, to) = (path.display().to_string(), bare.display().to_string());
        must("strip", &["-o", &to, &from]);
        let content = std::fs::read(&bare).expect("a program");
        std::fs::remove_file(&bare).expect("a file of ours");
        self.archive.file(&format!("bin/{name}"), 0o755, &content);
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader without an arrow.
        // A static program has none, which `ldd` takes for a failure.
        let mut ldd = std::process::Command::new("ldd");
        ldd.arg(&from);
        let libraries = run(ldd).stdout;
        for word in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            if self.libraries.insert(word.to_owned()) {
                let library = std::fs::read(word).expect("a library");
                self.archive.file(word.trim_start_matches('/'), 0o755, &library);
            }
        }
        self
    }

    /// A file at `/files/<name>`.
    pub(crate) fn file(mut self, name: &str, content: &[u8]) -> Files {
        self.archive.file(&format!("files/{name}"), 0o644, content);
        self
    }

    /// The disk, as the kernel takes it.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.archive.finish()
    }
}
