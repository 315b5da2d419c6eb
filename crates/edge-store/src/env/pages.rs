//! The pages of a state: those of the board that made it. A card may move from a board whose kernel
//! has pages of 4 KiB to one with 16 KiB (a Raspberry Pi 5), and back; LMDB goes by what the file
//! says, and so must whoever judges a file by its length.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What precedes LMDB's description of a file: the header of a page.
const PAGE_HEADER: usize = size_of::<usize>() + 8;
const MAGIC: u32 = 0xBEEF_C0DE;
/// Where the page size stands: behind magic, version, an address and a length.
const SIZE_AT: usize = PAGE_HEADER + 4 + 4 + 2 * size_of::<usize>();

/// Sizes of pages that Linux has; anything else is no size, but damage.
const PAGES: std::ops::RangeInclusive<u32> = 4096..=65_536;

/// The size of the pages of the state in `data`, in bytes; the system's where it says none.
pub(super) fn page_size_of(data: &Path) -> u64 {
    let mut head = [0; SIZE_AT + 4];
    let read = File::open(data).and_then(|mut file| file.read_exact(&mut head));
    let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    match (read, word(PAGE_HEADER), word(SIZE_AT)) {
        (Ok(()), Some(MAGIC), Some(size)) if size.is_power_of_two() && PAGES.contains(&size) => {
            size.into()
        }
        _ => page_size(),
    }
}

/// The system's page size; a failing query can only make us more careful.
fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::super::{DATA, Env, Lock};
    use super::{page_size, page_size_of};

    const OBJECTS: u64 = 300;

    fn open(dir: PathBuf) -> Env {
        std::fs::create_dir_all(&dir).expect("a directory");
        let lock = Lock::take(&dir).expect("ours alone");
        Env::open(dir, Arc::new(lock)).expect("it opens")
    }

    fn objects(from: u64) -> Vec<(String, u64, Vec<u8>)> {
        let object = |n| (format!("key/{n}"), n, vec![b'x'; usize::try_from(n * 40).unwrap_or(0)]);
        (from..from + OBJECTS).map(object).collect()
    }

    /// With `EDGED_STATE_OF_ANOTHER` set to a directory, what is written to is the state that an
    /// earlier run, with other pages, left there.
    #[test]
    fn a_state_made_with_other_pages_is_read_and_written() {
        let kept = std::env::var_os("EDGED_STATE_OF_ANOTHER").map(PathBuf::from);
        let own = std::env::temp_dir().join(format!("pages-{}", std::process::id()));
        let dir = kept.clone().unwrap_or_else(|| own.clone());
        let data = dir.join(DATA);
        let made_here = !data.exists();
        let env = open(dir.clone());
        assert!(!made_here || page_size_of(&data) == page_size());
        let before = env.read().expect("a view").scan("key/", None).expect("a scan").count();
        env.fill(&objects(before as u64)).expect("it is written");
        drop(env);

        let env = open(dir);
        let view = env.read().expect("a view");
        let found = view.scan("key/", None).expect("a scan").map(|found| found.expect("an object"));
        let mut found: Vec<_> = found.map(|(key, r, v)| (key.to_owned(), r, v.to_vec())).collect();
        found.sort_by_key(|(_, revision, _)| *revision);
        let count = before as u64 + OBJECTS;
        let expected = (0..count).step_by(OBJECTS as usize).flat_map(objects);
        assert!(found.into_iter().eq(expected), "objects differ");
        println!("pages of {}, here {}; {count} objects", page_size_of(&data), page_size());
        let _ = std::fs::remove_dir_all(own);
    }

    #[test]
    fn the_system_says_how_large_its_pages_are() {
        let page = page_size();
        assert!(page.is_power_of_two() && page >= 4096, "{page}");
        assert_eq!(page_size_of("/nowhere".as_ref()), page);
    }
}
