//! A Service under watch: its pod is asked through its address without pause, from the board
//! where it runs, while something happens that must not concern it.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::unistd::Pid;

use super::Ended;
use super::board::Board;
use super::cluster::Cluster;
use super::pods::{deployment, programs};
use crate::board::command::until;

/// What the Deployment, its pods and its Service are called.
const NAME: &str = "quiet";

/// How long one request may take: far longer than it does, far shorter than a broker is away.
const ANSWER: Duration = Duration::from_secs(2);

/// Pause between two requests of one board.
const PAUSE: Duration = Duration::from_millis(20);

/// A pod behind a Service, on the last board.
pub(crate) struct Served<'a> {
    cluster: &'a Cluster,
    address: IpAddr,
}

/// What of a pod changes when it is touched.
type Trace = (Vec<Pid>, String, String);

impl<'a> Served<'a> {
    /// A pod and its Service; its board reaches it when this returns.
    pub(crate) fn start(cluster: &'a Cluster) -> Served<'a> {
        cluster.load_example();
        let board = cluster.boards.last().expect("boards");
        let place =
            format!("    spec:\n      nodeSelector: {{kubernetes.io/hostname: {}}}\n", board.name);
        let deployment = deployment(NAME, 1).replacen("    spec:\n", &place, 1);
        let service = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {NAME}}}\nspec:\n  selector: \
             {{app: {NAME}}}\n  ports: [{{port: 80, targetPort: 8080}}]\n"
        );
        let file = cluster.file("quiet.yaml", deployment + &service);
        let server = &cluster.boards[0];
        cluster.ctl(server, &["apply", "-f", &file]).ok();
        cluster.wait_running(NAME, 1);
        let args = ["get", "service", NAME, "-o", "jsonpath={.spec.clusterIP}"];
        let address = cluster.ctl(server, &args).ok().parse().expect("an address");
        let served = Served { cluster, address };
        until("the board reaches the Service", || served.ask(board));
        served
    }

    /// One request from a board, over a connection of its own.
    fn ask(&self, board: &Board) -> Result<(), String> {
        let told = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let dial = || TcpStream::connect_timeout(&(self.address, 80).into(), ANSWER);
        let mut stream = board.within(dial).map_err(|error| told("connect", error))?;
        stream.set_read_timeout(Some(ANSWER)).expect("a timeout");
        let request = "GET /healthz HTTP/1.1\r\nHost: quiet\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).map_err(|error| told("ask", error))?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map_err(|error| told("listen", error))?;
        let answer = String::from_utf8_lossy(&answer);
        (answer == "HTTP/1.1 200").then_some(()).ok_or_else(|| answer.into_owned())
    }

    /// Asks from a board until all is done; how often, or why one request came to nothing.
    fn ask_until(&self, board: &Board, done: &AtomicBool) -> Result<u32, String> {
        let mut count = 0;
        while !done.load(Ordering::Acquire) {
            self.ask(board).map_err(|why| format!("request {count} of {}: {why}", board.name))?;
            count += 1;
            std::thread::sleep(PAUSE);
        }
        Ok(count)
    }

    /// The pods' processes, what the API says of their containers, and their endpoints.
    fn trace(&self) -> Trace {
        let of_pods = "jsonpath={range .items[*]}{.metadata.uid} \
                       {.status.containerStatuses[0].restartCount} \
                       {.status.containerStatuses[0].containerID} \
                       {.status.containerStatuses[0].state.running.startedAt}{\"\\n\"}{end}";
        let of_slices = "jsonpath={range .items[*]}{.metadata.resourceVersion} {.endpoints}{end}";
        let told = |kind: &str, label: String, path: &str| {
            // Right after an outage a server may still say that nobody leads.
            until(&format!("{kind} are listed"), || {
                let args = ["get", kind, "-l", &label, "-o", path];
                let outcome = self.cluster.ctl(&self.cluster.boards[0], &args);
                if outcome.status == 0 { Ok(outcome.stdout) } else { Err(outcome.stderr) }
            })
        };
        let pods = told("pods", format!("app={NAME}"), of_pods);
        let slices =
            told("endpointslices", format!("kubernetes.io/service-name={NAME}"), of_slices);
        (self.cluster.boards.iter().flat_map(programs).collect(), pods, slices)
    }

    /// Asks without pause while `work` is done and until the cluster is itself again: every
    /// request is answered, and no process, container or endpoint changes.
    pub(crate) fn untouched(&self, what: &str, work: impl FnOnce()) {
        self.cluster.wait_leader();
        let before = self.trace();
        let done = AtomicBool::new(false);
        let board = self.cluster.boards.last().expect("boards");
        let asked = std::thread::scope(|scope| {
            let ended = Ended(&done);
            let asking = scope.spawn(|| self.ask_until(board, &done));
            work();
            self.cluster.wait_leader();
            let names: Vec<&str> = self.cluster.boards.iter().map(|b| b.name.as_str()).collect();
            self.cluster.wait_ready(&self.cluster.boards[0], &names);
            drop(ended);
            asking.join().expect("no panic").unwrap_or_else(|why| panic!("{what}: {why}"))
        });
        assert_eq!(self.trace(), before, "{what} touched the pod or its endpoints");
        eprintln!("{what}: {asked} requests answered, the pod and its endpoints untouched");
        assert!(asked > 50, "{what}: {asked} requests are none");
    }
}
