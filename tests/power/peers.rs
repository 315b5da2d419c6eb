//! SQLite and etcd on the same disk, cut in the same way: how often they do not open, and what
//! they lose. For comparison; nothing here can fail but the comparison itself.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::cut::{Cutter, Fate};
use super::disk::Disk;
use super::fuse::{Left, Mounted, can_run, empty};
use crate::board::command::{has, run};
use crate::store::{Directory, Random};

/// MiB of the disk; etcd's log alone has 64 MB ahead of itself.
const DISK: u64 = 320;
const WRITES: u64 = 500;
const KEYS: u64 = 40;
const PORT: u16 = 23_790;
/// Longest that etcd may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was acknowledged: a key's number, and how long the disk's record was then.
struct Ack {
    moment: usize,
    key: u64,
    number: u64,
}

/// What became of one cut.
#[derive(Debug, PartialEq)]
enum Verdict {
    Whole,
    Lost(String),
    Shut(String),
}

/// A database that writes and is judged.
trait Peer {
    fn name(&self) -> String;
    /// Makes all writes; `told` hears of each that is acknowledged.
    fn write(&self, dir: &Path, told: &mut dyn FnMut(u64, u64));
    /// By key, the number found; or why it does not open.
    fn read(&self, dir: &Path) -> Result<BTreeMap<u64, u64>, String>;
}

struct Sqlite {
    journal: &'static str,
    synchronous: &'static str,
}

impl Peer for Sqlite {
    fn name(&self) -> String {
        format!("SQLite, {} and synchronous={}", self.journal, self.synchronous)
    }

    fn write(&self, dir: &Path, told: &mut dyn FnMut(u64, u64)) {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "sqlite3"]).arg(dir.join("db"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("sqlite3 starts");
        let mut input = child.stdin.take().expect("piped");
        let Sqlite { journal, synchronous } = self;
        let begin = format!(
            "PRAGMA journal_mode={journal}; PRAGMA synchronous={synchronous};\n\
             CREATE TABLE t(k INTEGER PRIMARY KEY, n INTEGER, a TEXT, b TEXT);\n"
        );
        let feeder = std::thread::spawn(move || {
            let mut random = Random(9);
            input.write_all(begin.as_bytes()).expect("sqlite3 reads");
            for number in 1..=WRITES {
                let (key, length) = (random.below(KEYS), random.below(5000));
                let line = format!(
                    "REPLACE INTO t VALUES({key}, {number}, printf('%.*c', {length}, 'x'), \
                     printf('%.*c', {length}, 'x'));\n.print ack {key} {number}\n"
                );
                input.write_all(line.as_bytes()).expect("sqlite3 reads");
            }
            input.write_all(b".print done\n").expect("sqlite3 reads");
            input
        });
        let output = BufReader::new(child.stdout.take().expect("piped"));
        for line in output.lines().map_while(Result::ok).take_while(|line| line != "done") {
            let words: Vec<u64> = line.split(' ').skip(1).flat_map(str::parse).collect();
            if let [key, number] = words[..] {
                told(key, number);
            }
        }
        // It has not closed its files.
        let _ = child.kill();
        let _ = child.wait();
        drop(feeder.join());
    }

    fn read(&self, dir: &Path) -> Result<BTreeMap<u64, u64>, String> {
        let path = dir.join("db");
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        let mut command = Command::new("sqlite3");
        command.arg(&path).arg(
            "PRAGMA integrity_check; SELECT count(*) FROM sqlite_master; \
             SELECT k, n, a = b FROM t;",
        );
        let outcome = run(command);
        let mut lines = outcome.stdout.lines();
        if lines.next() != Some("ok") {
            return Err(format!("{}{}", outcome.stdout, outcome.stderr));
        }
        if lines.next() == Some("0") {
            return Ok(BTreeMap::new());
        }
        let row = |line: &str| {
            let numbers: Vec<u64> = line.split('|').flat_map(str::parse).collect();
            if let [key, number, 1] = numbers[..] { Ok((key, number)) } else { Err(line.into()) }
        };
        lines.map(row).collect()
    }
}

struct Etcd;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Etcd {
    fn start(dir: &Path) -> Process {
        let url = |port| format!("http://127.0.0.1:{port}");
        let mut command = Command::new("etcd");
        command.args(["--name", "a", "--log-level", "error", "--data-dir"]).arg(dir.join("etcd"));
        command.args(["--listen-client-urls", &url(PORT), "--advertise-client-urls", &url(PORT)]);
        command.args(["--listen-peer-urls", &url(PORT + 1)]);
        command.args(["--initial-advertise-peer-urls", &url(PORT + 1)]);
        command.args(["--initial-cluster", &format!("a={}", url(PORT + 1))]);
        let log = std::fs::File::create(dir.with_extension("etcd.log")).expect("a log");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        Process(command.spawn().expect("etcd starts"))
    }

    fn ask(path: &str, body: &Value) -> Result<Value, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", PORT)).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let body = body.to_string();
        let head = format!("Host: a\r\nConnection: close\r\nContent-Length: {}", body.len());
        let request = format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).map_err(text)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(text)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(answer);
        }
        // Long answers come in chunks, whose lengths stand on lines of their own.
        let json = body.find('{').zip(body.rfind('}')).ok_or("no answer")?;
        let whole: String = if head.contains("chunked") {
            body.split("\r\n").skip(1).step_by(2).collect()
        } else {
            body[json.0..=json.1].to_owned()
        };
        serde_json::from_str(&whole).map_err(|error| error.to_string())
    }

    fn wait(dir: &Path, process: &mut Process, ask: &Value) -> Result<Value, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let ended = process.0.try_wait().ok().flatten();
            match Etcd::ask("/v3/kv/range", ask) {
                Ok(answer) => return Ok(answer),
                Err(why) if ended.is_some() || Instant::now() > end => {
                    let log = std::fs::read_to_string(dir.with_extension("etcd.log"));
                    let log = log.unwrap_or_default();
                    let last: Vec<&str> = log.lines().rev().take(3).collect();
                    return Err(format!("{why}, {ended:?}: {last:?}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(30)),
            }
        }
    }
}

impl Peer for Etcd {
    fn name(&self) -> String {
        "etcd".to_owned()
    }

    fn write(&self, dir: &Path, told: &mut dyn FnMut(u64, u64)) {
        let mut process = Etcd::start(dir);
        Etcd::wait(dir, &mut process, &json!({"key": STANDARD.encode("a")})).expect("etcd answers");
        let mut random = Random(9);
        for number in 1..=WRITES {
            let (key, length) = (random.below(KEYS), random.below(5000) as usize);
            let value = format!("{number} {}", "x".repeat(2 * length));
            let (name, value) = (STANDARD.encode(format!("k{key}")), STANDARD.encode(value));
            let put = json!({"key": name, "value": value});
            Etcd::ask("/v3/kv/put", &put).expect("etcd answers");
            told(key, number);
        }
    }

    fn read(&self, dir: &Path) -> Result<BTreeMap<u64, u64>, String> {
        let mut process = Etcd::start(dir);
        let [from, to] = ["k", "l"].map(|word| STANDARD.encode(word));
        let answer = Etcd::wait(dir, &mut process, &json!({"key": from, "range_end": to}))?;
        let mut found = BTreeMap::new();
        for pair in answer["kvs"].as_array().into_iter().flatten() {
            let text = |name: &str| {
                let bytes = STANDARD.decode(pair[name].as_str().unwrap_or_default()).ok()?;
                String::from_utf8(bytes).ok()
            };
            let key = text("key").and_then(|key| key[1..].parse().ok()).ok_or("a key")?;
            let value = text("value").ok_or("a value")?;
            let number = value.split(' ').next().and_then(|n| n.parse().ok()).ok_or("a number")?;
            found.insert(key, number);
        }
        Ok(found)
    }
}

/// Records a peer's writes and cuts the record.
fn compare(peer: &dyn Peer, cuts: usize) -> String {
    let dir = Directory::quick();
    let disk = Arc::new(Disk::new(empty(&dir.0, DISK)));
    let mounted = Mounted::new(disk.clone(), &dir.0);
    let mut acks = Vec::new();
    let place = mounted.path().join("peer");
    std::fs::create_dir(&place).expect("a directory");
    peer.write(&place, &mut |key, number| {
        acks.push(Ack { moment: disk.moment(), key, number });
    });
    let record = disk.take();
    drop(mounted);
    let events = record.events.len() as u64;
    let mut random = Random(super::seed() | 1);
    // As soon as the first write is acknowledged: making a database is not compared.
    let first = acks.first().map_or(0, |ack| ack.moment) as u64;
    let mut moments: Vec<u64> =
        (0..cuts).map(|_| first + random.below(events + 1 - first)).collect();
    moments.sort_unstable();
    let (mut cutter, mut lost, mut shut) = (Cutter::new(&record), Vec::new(), Vec::new());
    for moment in moments {
        cutter.go(moment as usize);
        let fate = Fate::draw(cutter.pending(), &mut random);
        let known = acks.iter().take_while(|ack| ack.moment <= moment as usize);
        match judge(peer, &cutter.image(fate), &dir.0, known) {
            Verdict::Whole => {}
            Verdict::Lost(why) => lost.push(why),
            Verdict::Shut(why) => shut.push(why),
        }
    }
    let example = lost.first().or(shut.first()).cloned().unwrap_or_default();
    format!(
        "{}: {} acknowledged, {events} events, {cuts} cuts: {} lost acknowledged writes, {} did \
         not open {example}",
        peer.name(),
        acks.len(),
        lost.len(),
        shut.len()
    )
}

fn judge<'a>(
    peer: &dyn Peer,
    image: &[u8],
    dir: &Path,
    acks: impl Iterator<Item = &'a Ack>,
) -> Verdict {
    let left = match Left::mount(image, dir) {
        Ok(left) => left,
        Err(why) => return Verdict::Shut(why),
    };
    let found = match peer.read(&left.path().join("peer")) {
        Ok(found) => found,
        Err(why) => return Verdict::Shut(why),
    };
    for Ack { key, number, .. } in acks {
        if found.get(key) < Some(number) {
            return Verdict::Lost(format!("{key} is {:?}, {number} was told", found.get(key)));
        }
    }
    Verdict::Whole
}

#[test]
fn others_on_the_same_disk() {
    if std::env::var_os("EDGED_POWER_PEERS").is_none() || !can_run() {
        eprintln!("SKIPPED: a comparison that takes minutes; EDGED_POWER_PEERS=1 runs it");
        return;
    }
    let cuts = super::cuts(100);
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    let modes = [("WAL", "FULL"), ("DELETE", "EXTRA"), ("DELETE", "FULL"), ("WAL", "NORMAL")];
    for (journal, synchronous) in modes {
        peers.push(Box::new(Sqlite { journal, synchronous }));
    }
    peers.push(Box::new(Etcd));
    for peer in peers {
        println!("{}", compare(&*peer, cuts));
    }
    assert!(has("sqlite3") && has("etcd"), "apt-get install sqlite3 etcd-server");
}
