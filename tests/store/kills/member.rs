//! The child: one member of three, with a real store, that writes, and tells the parent what was
//! acknowledged and what it holds. All it says goes through the parent's wire.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{Cursor, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use edge_core::consensus::{Change, MemberId, Role, Tuning};
use edge_store::{Disk, DiskFile, Expect, Founding, Options, Peers, ProposeError, RealDisk, Store};

use super::super::cluster::info;
use super::super::{CHILD, Random, all, put};
use super::{LIFE, MEMBERS, PARENT, REGISTERS, Say, address, register};

const TASKS: u64 = 6;

/// What a child is told when it starts.
struct Life {
    base: PathBuf,
    id: MemberId,
    segment_bytes: u64,
    seed: u64,
    /// A sync takes up to so many microseconds.
    sync_micros: u64,
}

impl Life {
    fn told() -> Option<Life> {
        let base = PathBuf::from(std::env::var_os(CHILD)?);
        let words = std::env::var(LIFE).ok()?;
        let numbers: Vec<u64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
        let [id, segment_bytes, seed, sync_micros] = numbers[..] else { panic!("{words}") };
        Some(Life { base, id, segment_bytes, seed, sync_micros })
    }
}

/// A real disk whose syncs take their time.
struct Slow(Mutex<Random>, u64);

impl Disk for Slow {
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
        RealDisk.write_at(file, bytes, offset)
    }

    fn sync(&self, file: &DiskFile) -> std::io::Result<()> {
        let micros = self.0.lock().unwrap().below(self.1 + 1);
        std::thread::sleep(Duration::from_micros(micros));
        RealDisk.sync(file)
    }

    fn allocate(&self, file: &DiskFile, length: u64) -> std::io::Result<()> {
        RealDisk.allocate(file, length)
    }
}

/// The way to the others, and to the parent.
struct Wire {
    me: MemberId,
    base: PathBuf,
    socket: UnixDatagram,
}

impl Wire {
    fn new(me: MemberId, base: &Path) -> Wire {
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        Wire { me, base: base.to_owned(), socket }
    }

    fn say(&self, say: &Say) {
        self.datagram(PARENT, &say.encode());
    }

    /// What does not fit is lost.
    fn datagram(&self, to: MemberId, bytes: &[u8]) {
        let mut whole = self.me.to_le_bytes().to_vec();
        whole.extend_from_slice(&to.to_le_bytes());
        whole.extend_from_slice(bytes);
        let _ = self.socket.send_to(&whole, address(&self.base, PARENT));
    }
}

fn snapshots(base: &Path, id: MemberId) -> PathBuf {
    base.join(format!("snapshots-{id}"))
}

impl Peers for Wire {
    fn send(&self, to: MemberId, message: Bytes) {
        self.datagram(to, &message);
    }

    fn fetch(&self, from: MemberId, _at: u64) -> Result<Box<dyn Read + Send>, String> {
        let connected = UnixStream::connect(snapshots(&self.base, from));
        let mut stream = connected.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(Box::new(Cursor::new(bytes)))
    }
}

fn options(life: &Life, wire: Arc<Wire>) -> Options {
    let founding = if life.id == 1 { Founding::Found } else { Founding::Join };
    let tuning = Tuning { tick_ms: 10, max_message_bytes: 32 * 1024, ..Tuning::default() };
    let disk = Arc::new(Slow(Mutex::new(Random(life.seed | 1)), life.sync_micros));
    Options {
        me: info(life.id),
        founding,
        peers: wire,
        tuning,
        seed: life.seed,
        segment_bytes: life.segment_bytes,
        disk,
        ..Options::default()
    }
}

#[test]
fn lives() {
    let Some(life) = Life::told() else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wire = Arc::new(Wire::new(life.id, &life.base));
    let inbox = address(&life.base, life.id);
    let _ = std::fs::remove_file(&inbox);
    let inbox = UnixDatagram::bind(inbox).unwrap();
    let dir = life.base.join(format!("member-{}", life.id));
    let store = Store::open(&dir, options(&life, wire.clone())).unwrap();
    hand_out(&store, &snapshots(&life.base, life.id));
    let working = Arc::new(AtomicBool::new(false));
    for task in 0..TASKS {
        let random = Random((life.seed << 8 | task) | 1);
        runtime.spawn(write(store.clone(), wire.clone(), working.clone(), random));
    }
    runtime.spawn(admit(store.clone()));
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = inbox.recv(&mut buffer).unwrap();
        let (from, bytes) = buffer[..length].split_first_chunk::<8>().unwrap();
        match MemberId::from_le_bytes(*from) {
            PARENT => match Say::decode(bytes) {
                Say::Work(work) => working.store(work, Ordering::SeqCst),
                Say::Show(question) => wire.say(&show(&store, question)),
                other => panic!("{other:?}"),
            },
            from => store.deliver(from, Bytes::copy_from_slice(bytes)),
        }
    }
}

/// Gives its state to whoever asks.
fn hand_out(store: &Store, path: &Path) {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let store = store.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut bytes = Vec::new();
            store.snapshot(&mut bytes).unwrap();
            // Whoever asked may have been killed.
            let _ = (&stream).write_all(&bytes);
        }
    });
}

/// A leader takes the others in.
async fn admit(store: Store) {
    loop {
        let standing = store.standing().borrow().clone();
        if standing.role == Role::Leader && standing.ready {
            let absent = MEMBERS.into_iter().find(|id| !standing.members.contains(*id));
            if let Some(id) = absent {
                // It is tried again until it is there.
                let _ = store.change(Change::Add { info: info(id), voter: true }).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Registers are only written by who knows what they hold, so that one lost entry shows for ever.
async fn write(store: Store, wire: Arc<Wire>, working: Arc<AtomicBool>, mut random: Random) {
    loop {
        let leads = store.standing().borrow().role == Role::Leader;
        if !leads || !working.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(3)).await;
            continue;
        }
        let number = random.below(REGISTERS);
        let key = register(number);
        let held = store.get(&key).unwrap().map(|entry| entry.revision);
        let filler = "x".repeat(random.below(900) as usize);
        let value = format!("{}.{} {filler}", store.revision(), random.below(u64::MAX));
        let expect = held.map_or(Expect::Absent, Expect::Revision);
        match store.propose(put(&key, &value, expect)).await {
            Ok(applied) => wire.say(&Say::Written(number, applied.revision)),
            Err(ProposeError::Broken { detail }) => {
                eprintln!("{detail}");
                std::process::exit(3);
            }
            Err(_) => {}
        }
    }
}

/// What it holds: the revision, a digest of everything, and the registers' revisions.
fn show(store: &Store, question: u64) -> Say {
    let listing = store.list("", all(None)).unwrap();
    let mut hasher = DefaultHasher::new();
    let mut registers = vec![0; REGISTERS as usize];
    for entry in &listing.entries {
        (&entry.key, entry.revision, &entry.value[..]).hash(&mut hasher);
        let number = (0..REGISTERS).find(|number| register(*number) == *entry.key);
        if let Some(number) = number {
            registers[number as usize] = entry.revision;
        }
    }
    let voters = store.standing().borrow().members.voters().len() as u64;
    let digest = hasher.finish();
    Say::Shown { question, revision: listing.revision, digest, voters, registers }
}
