//! A whole laboratory: boards on a switch, and a person's place beside them from which
//! `kubectl` and `edgectl` reach any board.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::board::{Board, Role, address};
use super::broker::{self, Broker};
use super::fabric::{Fabric, Port, mac};
use super::namespace::Namespace;
use super::processes::Marks;
use super::tap;
use crate::board::command::{Outcome, run, until};
use crate::board::machine::built;

/// Laboratories of this process so far.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The person's port. It is also where the boards' default route points.
pub(crate) const PERSON: Port = 0;

/// How a laboratory's names begin; the process that made it follows.
const PREFIX: &str = "edl";

/// Boards, switch and person. All is gone when this is dropped.
pub(crate) struct Cluster {
    // Declared first, so that boards lose their power before the switch ends.
    pub(crate) boards: Vec<Board>,
    /// The user's own broker, if the cluster has no other.
    pub(crate) broker: OnceLock<Broker>,
    pub(crate) person: Arc<Namespace>,
    pub(crate) fabric: Arc<Fabric>,
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
}

impl Cluster {
    /// Boards with power and cables on which nothing runs yet. Servers are `s1`, `s2`, …, and
    /// agents `a1`, `a2`, ….
    pub(crate) fn dark(servers: usize, agents: usize) -> Cluster {
        sweep();
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir(&dir).expect("a fresh directory");
        let seed = seed();
        let fabric = Arc::new(Fabric::new(1 + servers + agents, seed));
        let person = Arc::new(Namespace::new(&format!("{name}-person")));
        fabric.plug(PERSON, tap::plug(&person, mac(PERSON), &address(PERSON).to_string()));
        let servers = (1..=servers).map(|n| (format!("s{n}"), Role::Server));
        let agents = (1..=agents).map(|n| (format!("a{n}"), Role::Agent));
        let boards = servers.chain(agents).enumerate();
        let boards =
            boards.map(|(n, (board, role))| Board::new(&name, &board, role, n + 1, &fabric));
        let (boards, broker) = (boards.collect(), OnceLock::new());
        Cluster { boards, broker, person, fabric, name, dir }
    }

    /// Gives a dark laboratory Mosquitto as its only broker.
    pub(crate) fn on_mosquitto(&self) -> &Broker {
        self.broker.get_or_init(|| {
            // Whoever joins is told.
            self.boards[0].with(&["--broker", &Broker::url()]);
            Broker::start(&self.person, &self.dir.join("broker"))
        })
    }

    /// The broker that `EDGED_LAB_BROKER` names, before the first `edged` starts.
    fn choose_broker(&self) {
        if broker::is_wished() {
            self.on_mosquitto();
        }
    }

    /// Servers that know nothing of each other, each Ready.
    pub(crate) fn strangers(servers: usize) -> Cluster {
        let cluster = Cluster::dark(servers, 0);
        cluster.choose_broker();
        for board in &cluster.boards {
            board.spawn();
        }
        for board in &cluster.boards {
            cluster.wait_ready(board, &[&board.name]);
        }
        cluster
    }

    /// A cluster: the first server founds it, the others join it with a token each. All nodes
    /// are Ready when this returns.
    pub(crate) fn start(servers: usize, agents: usize) -> Cluster {
        let cluster = Cluster::dark(servers, agents);
        cluster.form(&[]);
        cluster
    }

    /// Founds and joins, on a dark laboratory; `arguments` go to every `edged`, at each start.
    pub(crate) fn form(&self, arguments: &[&str]) {
        self.found(arguments);
        for board in &self.boards[1..] {
            self.join(board.with(arguments));
        }
        let names: Vec<&str> = self.boards.iter().map(|board| board.name.as_str()).collect();
        for server in self.servers() {
            self.wait_ready(server, &names);
        }
    }

    /// Founds a cluster on the first server.
    pub(crate) fn found(&self, arguments: &[&str]) {
        self.choose_broker();
        let first = &self.boards[0];
        first.with(arguments).spawn();
        self.wait_ready(first, &[&first.name]);
    }

    /// Lets a board join by the first one.
    pub(crate) fn join(&self, board: &Board) {
        let kind = if board.role == Role::Server { "--server" } else { "--agent" };
        let token = self.token(kind);
        let url = format!("https://{}:6443", self.boards[0].ip);
        board.spawn_with(&["--join", &url, "--token", &token]);
    }

    /// A fresh token; it is printed alone on the last line.
    pub(crate) fn token(&self, kind: &str) -> String {
        self.token_of(&self.boards[0], kind)
    }

    /// A fresh token, made on this server.
    pub(crate) fn token_of(&self, server: &Board, kind: &str) -> String {
        let mut command = server.inside(built("edged"));
        command.args(["token", "create", kind]).args(["--data-dir"]).arg(server.dir.join("data"));
        let printed = run(command).ok();
        printed.lines().last().expect("a token is printed").trim().to_owned()
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &Board> {
        self.boards.iter().filter(|board| board.role == Role::Server)
    }

    pub(crate) fn board(&self, name: &str) -> &Board {
        self.boards.iter().find(|board| board.name == name).expect("a board of this name")
    }

    /// A kubeconfig that leads to this server: its own, or the founder's with the address
    /// replaced.
    pub(crate) fn kubeconfig(&self, server: &Board) -> PathBuf {
        let path = self.dir.join(format!("{}.kubeconfig", server.name));
        let own = server.dir.join("data/admin.kubeconfig");
        let founders = self.boards[0].dir.join("data/admin.kubeconfig");
        let from = if own.exists() { own } else { founders };
        let text = std::fs::read_to_string(&from).unwrap_or_default();
        let url = format!("server: https://{}:6443", server.ip);
        let lines = text.lines().map(|line| match line.find("server: ") {
            Some(at) => format!("{}{url}\n", &line[..at]),
            None => format!("{line}\n"),
        });
        // Others may read it right now: it changes at once or not at all.
        let fresh = path.with_extension(format!("{:?}", std::thread::current().id()));
        std::fs::write(&fresh, lines.collect::<String>()).expect("a kubeconfig");
        std::fs::rename(&fresh, &path).expect("a kubeconfig");
        path
    }

    /// A program in the person's place, talking to this server.
    pub(crate) fn person(&self, program: impl AsRef<std::ffi::OsStr>, server: &Board) -> Command {
        let mut command = self.person.command(program);
        command.env("KUBECONFIG", self.kubeconfig(server)).env("HOME", &self.dir);
        command
    }

    /// Runs `edgectl` against a server.
    pub(crate) fn ctl(&self, server: &Board, args: &[&str]) -> Outcome {
        let mut command = self.person(built("edgectl"), server);
        command.args(args);
        run(command)
    }

    /// Runs `kubectl` against a server.
    pub(crate) fn kubectl(&self, server: &Board, args: &[&str]) -> Outcome {
        let program = std::env::var("KUBECTL").unwrap_or("kubectl".into());
        let mut command = self.person(program, server);
        command.args(args);
        run(command)
    }

    /// Writes a file beside the boards and gives its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, content).expect("a file can be written");
        path.display().to_string()
    }

    /// Waits until a server says that these nodes are Ready.
    #[track_caller]
    pub(crate) fn wait_ready(&self, server: &Board, nodes: &[&str]) {
        let path = "jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type==\
                    \"Ready\")].status} {end}";
        until(&format!("{nodes:?} are Ready, as {} sees it", server.name), || {
            if server.pid().is_none() {
                return Err(format!("edged of {} ended: {}", server.name, server.log()));
            }
            if !server.dir.join("data/admin.kubeconfig").exists() && server.port == 1 {
                return Err("no kubeconfig yet".to_owned());
            }
            let outcome = self.ctl(server, &["get", "nodes", "-o", path]);
            let ready: Vec<&str> = outcome.stdout.split_whitespace().collect();
            let all = nodes.iter().all(|name| ready.contains(&format!("{name}=True").as_str()));
            all.then_some(()).ok_or_else(|| format!("{outcome:?}"))
        });
    }

    /// Bytes that crossed each direction of each link so far.
    pub(crate) fn crossed(&self) -> Vec<((Port, Port), u64)> {
        let ports = self.fabric.ports();
        let pairs = (0..ports).flat_map(|from| (0..ports).map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from != to);
        pairs.map(|(from, to)| ((from, to), self.fabric.count(from, to).bytes)).collect()
    }

    /// The ports of these boards.
    pub(crate) fn ports<'a>(&self, boards: impl IntoIterator<Item = &'a Board>) -> Vec<Port> {
        boards.into_iter().map(|board| board.port).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What is on the disks is what was there when the test failed.
            for board in &self.boards {
                board.kill();
            }
            for board in &self.boards {
                let log = board.log();
                let from = log.len().saturating_sub(20_000);
                let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
                eprintln!("---- {} of {} said:\n{}", board.name, self.name, &log[from..]);
            }
        }
        for board in &self.boards {
            board.power_cut();
        }
        if std::env::var_os("EDGED_LAB_KEEP").is_some() {
            // Under a name that no sweep looks for.
            let kept = self.dir.with_file_name(format!("kept-{}", self.name));
            let _ = std::fs::rename(&self.dir, &kept);
            eprintln!("kept: {}", kept.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// A laboratory to play in: starts a cluster, says how each board is reached, and stays until
/// its input ends.
#[allow(dead_code, reason = "the bench has the command")]
pub(crate) fn hold(servers: usize, agents: usize) {
    let cluster = Cluster::dark(servers, agents);
    cluster.found(&[]);
    cluster.boards[1..].iter().for_each(|board| cluster.join(board));
    for board in &cluster.boards {
        let path = cluster.kubeconfig(board);
        println!("{}: nsenter --net={}", board.name, board.marks().namespace.unwrap_or_default());
        println!("  KUBECONFIG={} {}", path.display(), board.dir.join("edged.log").display());
    }
    println!("kubectl from: nsenter --net={} -- kubectl …; Ctrl-D ends it", cluster.person.path());
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// The seed of this run's chance: `EDGED_LAB_SEED`, or one drawn anew. It is printed, so that a
/// run can be repeated as far as real programs on a real machine repeat anything.
pub(crate) fn seed() -> u64 {
    static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *SEED.get_or_init(|| {
        let named = std::env::var("EDGED_LAB_SEED").ok().and_then(|text| text.parse().ok());
        let seed = named.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |since| since.subsec_nanos().into())
        });
        eprintln!("EDGED_LAB_SEED={seed}");
        seed
    })
}

/// Removes what laboratories left whose process was killed before it could.
fn sweep() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
        for lab in entries.filter(|entry| is_orphan(&entry.file_name().to_string_lossy())) {
            remove_orphan(&lab.path());
        }
    });
}

fn is_orphan(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    let Some(pid) = pid.and_then(|(pid, _)| pid.parse::<u32>().ok()) else { return false };
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn remove_orphan(dir: &Path) {
    let lab = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for board in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{lab}-{}", board.file_name().to_string_lossy());
        let namespace = Some(format!("/run/netns/{name}"));
        let marks = Marks { dir: board.path(), cgroup: name.clone(), namespace };
        marks.kill();
        marks.unmount();
        marks.remove_cgroups();
    }
    for namespace in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = namespace.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{lab}-")) {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
    let _ = std::fs::remove_dir_all(dir);
}
