//! What a program asked of its files, as `strace` saw it: the calls in the order in which they
//! ended, with the bytes of every write, and what the program said in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The calls that change files, make them durable, or move where the next write goes.
pub(super) const TRACED: &str = "trace=open,openat,close,dup,dup2,dup3,write,pwrite64,writev,\
    pwritev,lseek,truncate,ftruncate,fallocate,fsync,fdatasync,syncfs,sync_file_range,\
    msync,mmap,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat";

/// Something that changed the files, or was said.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// A file was made, or emptied if it was there.
    Create {
        path: PathBuf,
    },
    MakeDir {
        path: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    /// Bytes of a file; durable at once with `O_DSYNC`. The file had this number when opened.
    Write {
        file: usize,
        at: u64,
        bytes: Vec<u8>,
        durable: bool,
    },
    Length {
        file: usize,
        length: u64,
        grows: bool,
    },
    /// What was written to the file by the calls before the number `covers` is durable.
    Sync {
        file: usize,
        covers: usize,
    },
    SyncDir {
        path: PathBuf,
        covers: usize,
    },
    Said(String),
}

impl std::fmt::Debug for Call {
    /// Without the bytes of writes, which nobody reads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Call::Create { path } => write!(f, "create {}", path.display()),
            Call::MakeDir { path } => write!(f, "make {}", path.display()),
            Call::Remove { path } => write!(f, "remove {}", path.display()),
            Call::Rename { from, to } => write!(f, "rename {} {}", from.display(), to.display()),
            Call::Write { file, at, bytes, durable } => {
                write!(f, "write {file} at {at}: {} bytes, durable: {durable}", bytes.len())
            }
            Call::Length { file, length, .. } => write!(f, "length of {file}: {length}"),
            Call::Sync { file, covers } => write!(f, "sync {file} as of {covers}"),
            Call::SyncDir { path, covers } => write!(f, "sync {} as of {covers}", path.display()),
            Call::Said(text) => write!(f, "said {text:?}"),
        }
    }
}

/// What an open descriptor stands for.
#[derive(Clone)]
enum Open {
    File { number: usize, position: u64, append: bool, durable: bool },
    Dir(PathBuf),
}

/// Reads a trace. Only what lies beneath `root` counts; there was nothing at the beginning.
#[derive(Default)]
pub(super) struct Reader {
    root: PathBuf,
    pub(super) calls: Vec<Call>,
    open: BTreeMap<i64, Open>,
    /// Which file a path stands for now, and each file's length.
    names: BTreeMap<PathBuf, usize>,
    lengths: Vec<u64>,
    /// Calls that have begun: their words, and how many calls had ended by then.
    begun: BTreeMap<String, (String, usize)>,
}

impl Reader {
    pub(super) fn new(root: &Path) -> Reader {
        Reader { root: root.to_owned(), ..Reader::default() }
    }

    /// One line of the trace: `pid name(arguments) = result`, or a half of one.
    pub(super) fn line(&mut self, line: &str) {
        let Some((pid, rest)) = line.split_once(' ') else { return };
        let rest = rest.trim_start();
        if let Some(head) = rest.strip_suffix(" <unfinished ...>") {
            self.begun.insert(pid.to_owned(), (head.to_owned(), self.calls.len()));
        } else if let Some(rest) = rest.strip_prefix("<... ") {
            let (Some((head, covers)), Some((_, tail))) =
                (self.begun.remove(pid), rest.split_once(" resumed>"))
            else {
                return;
            };
            self.call(&(head + tail), covers);
        } else {
            self.call(rest, self.calls.len());
        }
    }

    /// The program has ended, and another one begins: nothing is open.
    pub(super) fn end_of_life(&mut self) {
        self.open.clear();
        self.begun.clear();
    }

    fn call(&mut self, text: &str, covers: usize) {
        let Some((call, result)) = text.rsplit_once(" = ") else { return };
        let Some((name, arguments)) = call.trim_end().split_once('(') else { return };
        let result = result.split(' ').next().and_then(|word| word.parse::<i64>().ok());
        let Some(result) = result.filter(|result| *result >= 0) else { return };
        let arguments = arguments.strip_suffix(')').unwrap_or(arguments);
        self.ended(name, &Arguments::new(arguments), result, covers);
    }

    fn ended(&mut self, name: &str, arguments: &Arguments<'_>, result: i64, covers: usize) {
        let fd = arguments.number(0);
        match name {
            "openat" => self.opened(&self.path(arguments, 1, Some(0)), arguments.word(2), result),
            "open" => self.opened(&self.path(arguments, 0, None), arguments.word(1), result),
            "close" => drop(self.open.remove(&fd)),
            "dup" | "dup2" | "dup3" => {
                if let Some(open) = self.open.get(&fd).cloned() {
                    self.open.insert(result, open);
                }
            }
            "write" | "writev" => self.written(fd, None, &arguments.bytes(), result),
            "pwrite64" => {
                self.written(fd, Some(arguments.number(3)), &arguments.bytes(), result);
            }
            "pwritev" => {
                self.written(fd, Some(arguments.number(3)), &arguments.bytes(), result);
            }
            "lseek" => {
                if let Some(Open::File { position, .. }) = self.open.get_mut(&fd) {
                    *position = result as u64;
                }
            }
            "ftruncate" => self.length(fd, arguments.number(1) as u64, false),
            "fallocate" => {
                assert_eq!(arguments.word(1), "0", "a mode of fallocate");
                let end = arguments.number(2) + arguments.number(3);
                self.length(fd, end as u64, true);
            }
            "fsync" | "fdatasync" => match self.open.get(&fd).cloned() {
                Some(Open::File { number, .. }) => {
                    self.calls.push(Call::Sync { file: number, covers });
                }
                Some(Open::Dir(path)) => self.calls.push(Call::SyncDir { path, covers }),
                None => {}
            },
            "mmap" => {
                // Through such a map bytes would change that no call tells of.
                let shared = arguments.word(3).contains("MAP_SHARED");
                let writes = arguments.word(2).contains("PROT_WRITE");
                let ours = self.open.contains_key(&arguments.number(4));
                assert!(!(shared && writes && ours), "a file is written through a map");
            }
            "rename" | "renameat" | "renameat2" => {
                let at = usize::from(name != "rename");
                let from = self.path(arguments, at, None);
                let to = self.path(arguments, if at == 0 { 1 } else { 3 }, None);
                self.renamed(from, to);
            }
            "unlink" | "rmdir" => self.removed(&self.path(arguments, 0, None)),
            "unlinkat" => self.removed(&self.path(arguments, 1, Some(0))),
            "mkdir" => self.made(self.path(arguments, 0, None)),
            "mkdirat" => self.made(self.path(arguments, 1, Some(0))),
            "truncate" | "link" | "linkat" | "syncfs" | "sync_file_range" | "msync" => {
                assert!(!call_touches(arguments, &self.root), "{name} is not understood here");
            }
            _ => {}
        }
    }

    /// A path among the arguments, seen from an open directory if there is one.
    fn path(&self, arguments: &Arguments<'_>, at: usize, dir: Option<usize>) -> PathBuf {
        let path = PathBuf::from(String::from_utf8_lossy(&unhex(arguments.word(at))).into_owned());
        match dir.and_then(|dir| self.open.get(&arguments.number(dir))) {
            Some(Open::Dir(dir)) if path.is_relative() => dir.join(path),
            _ => path,
        }
    }

    fn is_ours(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
    }

    fn opened(&mut self, path: &Path, flags: &str, fd: i64) {
        self.open.remove(&fd);
        if !self.is_ours(path) {
            return;
        }
        let has = |flag: &str| flags.split('|').any(|word| word == flag);
        if has("O_DIRECTORY") || (!self.names.contains_key(path) && !has("O_CREAT")) {
            self.open.insert(fd, Open::Dir(path.to_owned()));
            return;
        }
        let number = match self.names.get(path) {
            Some(number) => *number,
            None => {
                self.lengths.push(0);
                self.names.insert(path.to_owned(), self.lengths.len() - 1);
                self.calls.push(Call::Create { path: path.to_owned() });
                self.lengths.len() - 1
            }
        };
        if has("O_TRUNC") && self.lengths[number] > 0 {
            self.lengths[number] = 0;
            self.calls.push(Call::Length { file: number, length: 0, grows: false });
        }
        let (append, durable) = (has("O_APPEND"), has("O_DSYNC") || has("O_SYNC"));
        self.open.insert(fd, Open::File { number, position: 0, append, durable });
    }

    fn written(&mut self, fd: i64, at: Option<i64>, bytes: &[u8], count: i64) {
        let bytes = bytes[..count as usize].to_vec();
        let Some(open) = self.open.get_mut(&fd) else {
            if fd == 1 {
                self.calls.push(Call::Said(String::from_utf8_lossy(&bytes).into_owned()));
            }
            return;
        };
        let Open::File { number, position, append, durable } = open else { return };
        let file = *number;
        let from = match at {
            Some(at) => at as u64,
            None => {
                let from = if *append { self.lengths[file] } else { *position };
                *position = from + bytes.len() as u64;
                from
            }
        };
        self.lengths[file] = self.lengths[file].max(from + bytes.len() as u64);
        self.calls.push(Call::Write { file, at: from, bytes, durable: *durable });
    }

    fn length(&mut self, fd: i64, length: u64, grows: bool) {
        let Some(Open::File { number, .. }) = self.open.get(&fd) else { return };
        if grows && self.lengths[*number] >= length {
            return;
        }
        self.lengths[*number] = length;
        self.calls.push(Call::Length { file: *number, length, grows });
    }

    fn made(&mut self, path: PathBuf) {
        if self.is_ours(&path) {
            self.calls.push(Call::MakeDir { path });
        }
    }

    fn removed(&mut self, path: &Path) {
        if self.is_ours(path) {
            self.names.remove(path);
            self.calls.push(Call::Remove { path: path.to_owned() });
        }
    }

    fn renamed(&mut self, from: PathBuf, to: PathBuf) {
        if !self.is_ours(&to) {
            return;
        }
        if let Some(number) = self.names.remove(&from) {
            self.names.insert(to.clone(), number);
        }
        self.calls.push(Call::Rename { from, to });
    }
}

fn call_touches(arguments: &Arguments<'_>, root: &Path) -> bool {
    let root = root.display().to_string();
    arguments.0.iter().any(|word| String::from_utf8_lossy(&unhex(word)).starts_with(&root))
}

/// A call's arguments. Strings are in hexadecimal, so that nothing in them looks like a comma.
struct Arguments<'a>(Vec<&'a str>);

impl<'a> Arguments<'a> {
    fn new(text: &'a str) -> Arguments<'a> {
        Arguments(text.split(", ").collect())
    }

    fn word(&self, at: usize) -> &'a str {
        self.0.get(at).copied().unwrap_or_default()
    }

    /// A number; -1 for anything else. Vectors of buffers make numbers of places, so the last
    /// argument is asked for by the end.
    fn number(&self, at: usize) -> i64 {
        let vectors = self.0.iter().any(|word| word.starts_with("[{"));
        let at = if vectors && at > 0 { self.0.len() - 1 } else { at };
        self.word(at).parse().unwrap_or(-1)
    }

    /// All bytes of its buffers.
    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| unhex(word)).collect()
    }
}

/// The bytes of `"\x61\x62"`, wherever in the word it stands.
fn unhex(word: &str) -> Vec<u8> {
    let Some((_, rest)) = word.split_once('"') else { return Vec::new() };
    let text = rest.split('"').next().unwrap_or_default();
    let digits = text.as_bytes().chunks(4).filter_map(|chunk| chunk.get(2..4));
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.filter_map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::{Call, Reader};
    use std::path::{Path, PathBuf};

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    #[test]
    fn a_trace_is_read_with_its_halves() {
        let mut reader = Reader::new(Path::new("/d"));
        let flags = "O_WRONLY|O_CREAT|O_CLOEXEC";
        for line in [
            format!("7  openat(AT_FDCWD, \"{}\", {flags}, 0644) = 5", hex("/d/f")),
            format!("7  openat(AT_FDCWD, \"{}\", O_RDONLY) = 6", hex("/etc/x")),
            format!("7  write(5, \"{}\", 2) = 2", hex("ab")),
            "8  fdatasync(5 <unfinished ...>".to_owned(),
            format!("7  pwritev(5, [{{iov_base=\"{}\", iov_len=1}}, ", hex("c"))
                + &format!("{{iov_base=\"{}\", iov_len=1}}], 2, 4096) = 2", hex("d")),
            "8  <... fdatasync resumed>)     = 0".to_owned(),
            format!("7  rename(\"{}\", \"{}\") = 0", hex("/d/f"), hex("/d/g")),
            format!("7  unlink(\"{}\") = -1 ENOENT (No such file or directory)", hex("/d/h")),
            format!("7  write(1, \"{}\", 2) = 2", hex("x\n")),
        ] {
            reader.line(&line);
        }
        let (from, to) = (PathBuf::from("/d/f"), PathBuf::from("/d/g"));
        let write =
            |at, bytes: &[u8]| Call::Write { file: 0, at, bytes: bytes.to_vec(), durable: false };
        let wanted = [
            Call::Create { path: from.clone() },
            write(0, b"ab"),
            write(4096, b"cd"),
            Call::Sync { file: 0, covers: 2 },
            Call::Rename { from, to },
            Call::Said("x\n".to_owned()),
        ];
        assert_eq!(reader.calls, wanted);
    }
}
