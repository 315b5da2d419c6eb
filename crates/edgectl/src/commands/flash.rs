//! `flash`: an image onto a card. Everything that can be known before the first byte is written is
//! asked before: whether the image is whole, and whether the device is one that may be lost.

mod card;
mod disk;
mod image;
mod keep;

use crate::fault::Fault;
use crate::session::Session;
use card::Card;
use disk::{Facts, Machine};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes that are read and written at a time: some of a card's own blocks.
const CHUNK: usize = 4 << 20;

/// Write an image onto a card, and read it back
///
/// Everything on the card is lost, unless --keep-data is given. The image may be packed with zstd
/// or gzip; it is checked as a whole, against a .sha256 file beside it too if there is one, before
/// anything is written.
#[derive(Debug, clap::Args)]
pub(crate) struct Flash {
    /// The image: .img, .img.zst or .img.gz
    image: PathBuf,
    /// The card's device, such as /dev/sdb or /dev/mmcblk0
    device: PathBuf,
    /// Replace the system alone, on a card that was written with an image of edged: what the board
    /// is, its place in the cluster and all its data stay
    #[arg(long)]
    keep_data: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// The device may be a fixed disk, which a card never is
    #[arg(long)]
    force_fixed: bool,
    /// The device is a file, as for a virtual machine; it keeps its size
    #[arg(long)]
    file: bool,
}

pub(crate) fn run(args: &Flash, session: &mut Session) -> Result<(), Fault> {
    // What is typed wrong is said before minutes are spent on the image.
    let look = || match args.file {
        true => disk::file(&args.device),
        false => disk::facts(&Machine::this(), &args.device),
    };
    let facts = look()?;
    disk::judge(&facts, 0, args.force_fixed || args.file)?;
    card::allowed(&args.device)?;
    let mut steps = Steps::new(session);
    let (needed, head) =
        image::check(&args.image, &mut |done, all| steps.show("checking", done, all))?;
    steps.end(&format!("{} is whole: {}", args.image.display(), megabytes(needed)));
    disk::judge(&facts, needed, args.force_fixed || args.file)?;
    let kept = args.keep_data.then(|| keep::of(&args.device, &head)).transpose()?;
    let range = kept.unwrap_or(0..needed);
    if !args.yes && !args.file {
        ask(&facts, args.keep_data, session)?;
    }
    let mut card = Card::open(&args.device, args.file)?;
    // Minutes have passed, and cards are changed: what is open is what was judged and shown.
    if look()? != facts {
        let device = args.device.display();
        let words = format!("{device} is not what it was when this began: begin again");
        return Err(Fault::text(words));
    }
    let mut steps = Steps::new(session);
    each(&args.image, |at, bytes| {
        steps.show("writing", at, needed);
        keep::within(&range, at, bytes).map_or(Ok(()), |(at, bytes)| card.write(at, bytes))
    })?;
    card.settle()?;
    let written = megabytes(range.end - range.start);
    steps.end(&format!("{} is written: {written}", args.device.display()));
    let mut steps = Steps::new(session);
    let mut back = card.back()?;
    each(&args.image, |at, bytes| {
        steps.show("reading back", at, needed);
        keep::within(&range, at, bytes).map_or(Ok(()), |(at, bytes)| back.compare(at, bytes))
    })?;
    steps.end(&format!("{} reads back the same: it may be taken out", args.device.display()));
    Ok(())
}

/// Hands the unpacked image over in pieces, with the place of each.
fn each(image: &Path, mut take: impl FnMut(u64, &[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut reader = image::unpack(image)?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let have = fill(&mut reader, &mut buffer).map_err(|e| image::broken(image, &e))?;
        if have == 0 {
            return Ok(());
        }
        take(at, &buffer[..have])?;
        at += have as u64;
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match reader.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Tells what will be lost, and waits for a yes.
fn ask(facts: &Facts, keep: bool, session: &mut Session) -> Result<(), Fault> {
    if !session.io.in_terminal {
        return Err(Fault::text("flash: nobody is there to ask: say --yes"));
    }
    let lost = if keep { "The system" } else { "Everything" };
    let what = format!("{lost} on {} is lost. Type yes to go on: ", facts.shown());
    session.io.write_err(what.as_bytes());
    let mut input = session.io.take_input();
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < 16 && input.read(&mut byte).is_ok_and(|n| n == 1) && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    match line.trim_ascii() == b"yes" {
        true => Ok(()),
        false => Err(Fault::text("flash: nothing was written")),
    }
}

/// Decimal, as it is printed on cards.
fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// Progress, for a person; a pipe gets one line a step.
struct Steps<'a> {
    session: &'a mut Session,
    began: Instant,
    percent: u64,
}

impl Steps<'_> {
    fn new(session: &mut Session) -> Steps<'_> {
        Steps { session, began: Instant::now(), percent: u64::MAX }
    }

    fn show(&mut self, what: &str, done: u64, all: u64) {
        let percent = done.saturating_mul(100) / all.max(1);
        if percent != self.percent && self.session.io.err_terminal {
            self.percent = percent;
            let seconds = self.began.elapsed().as_secs_f64().max(0.001);
            let rate = done as f64 / 1e6 / seconds;
            let line = format!("\r{what}: {percent} %, {rate:.0} MB/s \u{1b}[K");
            self.session.io.write_err(line.as_bytes());
        }
    }

    fn end(&mut self, what: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let start = if self.session.io.err_terminal { "\r\u{1b}[K" } else { "" };
        self.session.io.write_err(format!("{start}{what} ({seconds:.1} s)\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `edgectl flash …` says, and its exit code.
    fn flash(words: &[&Path]) -> (i32, String) {
        let said = Said::default();
        let args = ["edgectl", "flash"].map(Path::new);
        let args = args.iter().chain(words).map(|word| word.as_os_str().to_owned());
        let io = crate::Io::over(io::sink(), said.clone(), io::empty());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let code = runtime.block_on(crate::run_on(args, io));
        let text = said.0.lock().unwrap();
        (code, String::from_utf8_lossy(&text).into_owned())
    }

    /// Six megabytes with a partition up to the end, and something in it.
    fn image() -> Vec<u8> {
        let mut image: Vec<u8> = (0..6u32 << 20).map(|n| (n / 600 * 7) as u8).collect();
        image[446..510].fill(0);
        image[450] = 0x0c;
        image[454] = 8;
        image[458..462].copy_from_slice(&((6u32 << 11) - 8).to_le_bytes());
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        image
    }

    #[test]
    fn whole_or_not_at_all() {
        let dir = std::env::temp_dir().join(format!("edgectl-flash-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let plain = image();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let zstd = ruzstd::encoding::compress_to_vec(&plain[..], level);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let [card, image] = ["card", "image"].map(|name| dir.join(name));
        let blank = vec![0xee; 7 << 20];
        let mut flipped = zstd.clone();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let mut bitten = gzip.clone();
        bitten[gzip.len() - 6] ^= 1;
        let tail = plain.len() - 1;
        for (name, bytes, words) in [
            ("plain", &plain[..], ""),
            ("zstd", &zstd, ""),
            ("gzip", &gzip, ""),
            ("cut", &plain[..tail], "cut off"),
            ("cut zstd", &zstd[..zstd.len() / 2], "cut off"),
            ("cut zstd's checksum", &zstd[..zstd.len() - 1], "cut off"),
            ("cut gzip", &gzip[..gzip.len() / 2], "cut off"),
            ("a bit of zstd", &flipped, "damaged"),
            ("a bit of gzip", &bitten, "damaged"),
            ("xz", b"\xfd7zXZ\0", "`xz -d` it"),
            ("text", b"not found", "no partition table"),
            ("nothing", b"", "no partition table"),
        ] {
            fs::write(&image, bytes).unwrap();
            fs::write(&card, &blank).unwrap();
            let (code, said) = flash(&[&image, &card, Path::new("--file")]);
            let is = fs::read(&card).unwrap();
            if words.is_empty() {
                assert_eq!(code, 0, "{name}: {said}");
                assert!(said.contains("is whole: 7 MB") && said.contains("reads back"), "{said}");
                assert!(is[..plain.len()] == plain && is[plain.len()..] == blank[plain.len()..]);
            } else {
                assert!(code == 1 && said.contains(words), "{name}: {said}");
                assert_eq!(said.trim_end().lines().count(), 1, "{name}: {said}");
                assert!(is == blank, "{name}: nothing was written");
            }
        }
        // Wherever a bit has changed, it is found, or it was none that means anything.
        for at in (0..zstd.len()).step_by(zstd.len() / 40) {
            let mut flipped = zstd.clone();
            flipped[at] ^= 4;
            fs::write(&image, &flipped).unwrap();
            let mut unpacked = Vec::new();
            if image::check(&image, &mut |_, _| ()).is_ok() {
                image::unpack(&image).unwrap().read_to_end(&mut unpacked).unwrap();
                assert!(unpacked == plain, "bit {at}");
            }
        }
        fs::write(&image, &plain).unwrap();
        let sum = dir.join("image.sha256");
        fs::write(&sum, format!("{}  image\n", "0".repeat(64))).unwrap();
        assert!(flash(&[&image, &card, Path::new("--file")]).1.contains("get both again"));
        fs::remove_file(sum).unwrap();
        let keep = flash(&[&image, &card, Path::new("--file"), Path::new("--keep-data")]);
        assert!(keep.0 == 1 && keep.1.contains("has not three partitions"), "{}", keep.1);
        fs::write(&card, &blank[..tail]).unwrap();
        assert!(flash(&[&image, &card, Path::new("--file")]).1.contains("it is too small"));
        assert!(flash(&[&image, &card]).1.contains("say --file"), "a file is no disk");
        assert!(fs::read(&card).unwrap() == blank[..tail]);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_new_system_leaves_the_data() {
        let dir = std::env::temp_dir().join(format!("edgectl-renew-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let mut new = image();
        let starts = [1u32 << 11, 2 << 11, 5 << 11];
        for (number, start) in starts.into_iter().enumerate() {
            let at = 446 + 16 * number;
            new[at + 4] = 0x83;
            new[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            new[at + 12..at + 16].copy_from_slice(&(1u32 << 11).to_le_bytes());
        }
        // The card: the same table, but for a third partition that has grown, and other bytes.
        let mut old = vec![0xee; 9 << 20];
        old[..512].copy_from_slice(&new[..512]);
        old[490..494].copy_from_slice(&(4u32 << 11).to_le_bytes());
        let [card, image] = ["card", "image"].map(|name| dir.join(name));
        fs::write(&image, &new).unwrap();
        fs::write(&card, &old).unwrap();
        let (code, said) = flash(&[&image, &card, Path::new("--file"), Path::new("--keep-data")]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("is written: 5 MB"), "{said}");
        let is = fs::read(&card).unwrap();
        let (begin, end) = (1 << 20, 5 << 20);
        assert!(is[begin..end] == new[begin..end]);
        assert!(is[..begin] == old[..begin] && is[end..] == old[end..]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
