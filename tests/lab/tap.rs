//! The socket in a board's wall: a TAP device inside its namespace, whose other end is a file
//! that the laboratory's switch reads and writes. With the kernel's segmentation offload, a
//! frame may carry up to 64 KiB of TCP, which is what keeps a switch in user space cheap.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use super::namespace::Namespace;

/// The name of every board's only network card.
pub(crate) const CARD: &str = "lan0";

/// `struct virtio_net_hdr` before each frame: it says what the kernel left to be done, and is
/// handed to the other kernel as it came.
pub(crate) const HEADER: usize = 10;

/// The largest frame: 64 KiB of offloaded TCP, its Ethernet header, and the header above.
pub(crate) const FRAME: usize = 65536 + 64;

/// Checksums, and TCP over IPv4 in large pieces (`TUN_F_CSUM | TUN_F_TSO4`).
const OFFLOAD: libc::c_int = 1 | 2;

const TUN: u8 = b'T';
const INT: usize = std::mem::size_of::<libc::c_int>();

nix::ioctl_write_ptr_bad!(set_interface, nix::request_code_write!(TUN, 202, INT), libc::ifreq);
nix::ioctl_write_int_bad!(set_offload, nix::request_code_write!(TUN, 208, INT));

/// Makes the card inside the namespace, up, with this address in a /24, and gives the other end.
/// The card is gone when that file is closed.
pub(crate) fn plug(namespace: &Namespace, mac: [u8; 6], address: &str) -> File {
    let file = namespace.within(open);
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    namespace.ip(&format!(
        "link set {CARD} address {mac}\naddr add {address}/24 dev {CARD}\nlink set {CARD} up\n"
    ));
    file
}

fn open() -> File {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .expect("/dev/net/tun can be opened by root");
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(CARD.bytes()) {
        *to = libc::c_char::try_from(from).expect("ASCII");
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let flags = libc::c_short::try_from(flags).expect("flags of 15 bits");
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    // SAFETY: both requests are defined for this file; the structure outlives the call and the
    // kernel writes at most its size.
    unsafe {
        set_interface(file.as_raw_fd(), &request).expect("a TAP device");
        set_offload(file.as_raw_fd(), OFFLOAD).expect("offload");
    }
    file
}
