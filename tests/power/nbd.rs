//! The recording disk for a guest of QEMU: a server of the network block device's protocol
//! (fixed newstyle) on a socket of this machine. The guest sees a disk with a write-back cache.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;

const MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// Fixed newstyle, and no zeroes behind an export's answer.
const HANDSHAKE: u16 = 1 | 2;
/// It has flags, and takes flushes and writes that are durable at once.
const EXPORT: u16 = 1 | 4 | 8;
const UNSUPPORTED: u32 = 0x8000_0001;
/// More than any request of QEMU's.
const LENGTH_MAX: usize = 64 << 20;

/// Serves a disk on a socket, to one guest after the other, until the process ends.
pub(crate) fn serve(disk: Arc<Disk>, socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A guest that loses its power says no word of parting.
            let _ = talk(&disk, stream);
        }
    });
}

fn u16_of(stream: &mut impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

fn u32_of(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn u64_of(stream: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn bytes_of(stream: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    if length > LENGTH_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// One guest, from its greeting to its end.
fn talk(disk: &Disk, mut stream: UnixStream) -> io::Result<()> {
    let mut hello = MAGIC.to_be_bytes().to_vec();
    hello.extend_from_slice(&OPTION.to_be_bytes());
    hello.extend_from_slice(&HANDSHAKE.to_be_bytes());
    stream.write_all(&hello)?;
    u32_of(&mut stream)?;
    loop {
        if u64_of(&mut stream)? != OPTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let option = u32_of(&mut stream)?;
        let length = u32_of(&mut stream)? as usize;
        bytes_of(&mut stream, length)?;
        let size = (disk.length() as u64).to_be_bytes();
        match option {
            // EXPORT_NAME has no reply but this.
            1 => {
                stream.write_all(&size)?;
                stream.write_all(&EXPORT.to_be_bytes())?;
                return transmit(disk, &mut stream);
            }
            // ABORT.
            2 => return Ok(()),
            // INFO and GO.
            6 | 7 => {
                let mut info = vec![0, 0];
                info.extend_from_slice(&size);
                info.extend_from_slice(&EXPORT.to_be_bytes());
                reply(&mut stream, option, 3, &info)?;
                reply(&mut stream, option, 1, &[])?;
                if option == 7 {
                    return transmit(disk, &mut stream);
                }
            }
            _ => reply(&mut stream, option, UNSUPPORTED, &[])?,
        }
    }
}

fn reply(stream: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut out = OPTION_REPLY.to_be_bytes().to_vec();
    for word in [option, kind, data.len() as u32] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(data);
    stream.write_all(&out)
}

/// Requests, one after the other.
fn transmit(disk: &Disk, stream: &mut UnixStream) -> io::Result<()> {
    loop {
        if u32_of(stream)? != REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (flags, kind) = (u16_of(stream)?, u16_of(stream)?);
        let handle = u64_of(stream)?;
        let (at, length) = (u64_of(stream)?, u32_of(stream)? as usize);
        let (mut error, mut data) = (0, Vec::new());
        match kind {
            0 => data = disk.read(at, length),
            1 => {
                let bytes = bytes_of(stream, length)?;
                disk.write(at, &bytes, flags & 1 != 0);
            }
            2 => return Ok(()),
            3 => disk.flush(),
            _ => error = libc::EINVAL,
        }
        let mut out = REPLY.to_be_bytes().to_vec();
        out.extend_from_slice(&error.to_be_bytes());
        out.extend_from_slice(&handle.to_be_bytes());
        out.extend_from_slice(&data);
        stream.write_all(&out)?;
    }
}
