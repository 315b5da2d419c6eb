//! What a file of edged says of itself, without being run: its version, the machine it is for, and
//! how long it must at least be. Read here from bytes that anybody may have sent.

mod elf;
mod look;
mod mark;
mod version;

pub use elf::{Elf, ElfError, HEAD_BYTES};
pub use look::{Found, Look, LookError};
pub use mark::{MARK_BYTES, Scan, mark, marked, said};
pub use version::{Skew, Version};

/// A machine, as Go and Kubernetes call it: `amd64`, `arm64`, `arm`.
pub type Arch = &'static str;
