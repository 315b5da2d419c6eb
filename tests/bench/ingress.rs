//! Our proxy for Ingresses beside nginx and haproxy: each in a process of its own, in front of the
//! same endpoints, asked in turns in one run over connections that are kept. Requests a second,
//! latency, memory under load and with connections that only sit there.
//!
//! `edge-bench ingress [--quick] [--out NAME]`, without root; Debian's `nginx` and `haproxy`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edge_core::ingress::Table as Routes;
use edge_ingress::{Ports, Proxy};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::table::{Table, percentile};

/// Bytes of an answer's body: a small page, or an answer of an API.
const BODY: usize = 1024;
/// Connections that ask at the same time.
const CLIENTS: usize = 64;
/// Connections that say nothing while memory is measured.
const SILENT: usize = 500;
/// Endpoints behind each proxy.
const ENDPOINTS: usize = 3;
const ASK: &[u8] = b"GET /some/page HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench\r\n\r\n";

/// A proxy in a process of its own.
struct Peer {
    name: &'static str,
    child: Child,
    address: SocketAddr,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx ends its workers when it is asked, not when it is killed.
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// What was measured of one proxy.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    latency_ms: Vec<f64>,
    loaded_mib: Vec<f64>,
    silent_mib: Vec<f64>,
}

/// The whole subcommand.
pub(crate) fn compare(quick: bool) -> Table {
    let (rounds, length) = if quick { (2, 2) } else { (7, 8) };
    let length = Duration::from_secs(length);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = std::env::temp_dir().join(format!("edb-ingress-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a fresh directory");
    let endpoints: Vec<SocketAddr> = (0..ENDPOINTS).map(|_| runtime.block_on(endpoint())).collect();
    let peers = [nginx(&dir, &endpoints), haproxy(&dir, &endpoints), ours(&endpoints)];
    let mut figures = [Figures::default(), Figures::default(), Figures::default()];
    let alone: Vec<f64> = (0..2).map(|_| runtime.block_on(load(endpoints[0], length)).0).collect();
    for _ in 0..rounds {
        for (peer, figures) in peers.iter().zip(&mut figures) {
            let (rate, latency) = runtime.block_on(load(peer.address, length));
            figures.rate.push(rate);
            figures.latency_ms.extend(latency);
            figures.loaded_mib.push(memory(peer.child.id()));
        }
    }
    for (peer, figures) in peers.iter().zip(&mut figures) {
        let before = memory(peer.child.id());
        let silent = runtime.block_on(sit(peer.address));
        figures.silent_mib.push(memory(peer.child.id()) - before);
        drop(silent);
    }
    let names = peers.each_ref().map(|peer| peer.name);
    drop(peers);
    let _ = std::fs::remove_dir_all(&dir);
    tell(&alone, &names, &figures)
}

fn tell(alone: &[f64], names: &[&'static str; 3], figures: &[Figures; 3]) -> Table {
    let mut table = Table::new();
    table.add("an endpoint alone: requests", "1/s", alone, None, None);
    let nginx = |of: fn(&Figures) -> &Vec<f64>| ("nginx", percentile(of(&figures[0]), 0.5));
    for (name, figures) in names.iter().zip(figures) {
        let against = |of| (*name != "nginx").then(|| nginx(of));
        let what = format!("{name}: requests over {CLIENTS} connections");
        table.add(&what, "1/s", &figures.rate, None, against(|f| &f.rate));
        let what = format!("{name}: time of one");
        table.add(&what, "ms", &figures.latency_ms, None, against(|f| &f.latency_ms));
        let what = format!("{name}: memory under load");
        table.add(&what, "MiB", &figures.loaded_mib, None, against(|f| &f.loaded_mib));
        let what = format!("{name}: memory of {SILENT} silent connections");
        table.add(&what, "MiB", &figures.silent_mib, None, None);
    }
    table
}

/// Resident memory of a process and its children, in MiB.
fn memory(id: u32) -> f64 {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let children = read(format!("/proc/{id}/task/{id}/children"));
    let all = children.split_whitespace().filter_map(|id| id.parse().ok()).chain([id]);
    let sizes = all.map(|id: u32| {
        let rollup = read(format!("/proc/{id}/smaps_rollup"));
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap_or_default();
        let kib: f64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
        kib / 1024.0
    });
    sizes.sum()
}

/// An endpoint that answers each request with the same page.
async fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("a port");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n{}", "x".repeat(BODY));
    let answer: Arc<[u8]> = answer.into_bytes().into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let (mut buffer, mut held) = ([0; 4096], Vec::new());
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    held.extend_from_slice(&buffer[..count]);
                    if held.ends_with(b"\r\n\r\n") {
                        held.clear();
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// Asks for so long over all connections: requests a second, and each one's time in ms.
async fn load(address: SocketAddr, length: Duration) -> (f64, Vec<f64>) {
    let done = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| tokio::spawn(client(address, done.clone()))).collect();
    tokio::time::sleep(length).await;
    done.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.expect("every request is answered"));
    }
    (times.len() as f64 / begin.elapsed().as_secs_f64(), times)
}

async fn client(address: SocketAddr, done: Arc<AtomicBool>) -> Vec<f64> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let (mut times, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    while !done.load(Ordering::Relaxed) {
        let begin = Instant::now();
        stream.write_all(ASK).await.expect("a request");
        let mut have = 0;
        loop {
            let count = stream.read(&mut buffer[have..]).await.expect("an answer");
            assert!(count > 0, "the connection ended");
            have += count;
            let head = buffer[..have].windows(4).position(|end| end == b"\r\n\r\n");
            if head.is_some_and(|head| have >= head + 4 + BODY) {
                break;
            }
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "an answer that is none");
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times
}

async fn sit(address: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..SILENT {
        held.push(TcpStream::connect(address).await.expect("a connection"));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    held
}

/// The hidden subcommand: our proxy alone, in front of these endpoints; says its port.
pub(crate) fn alone(endpoints: &[String]) {
    let endpoints: Vec<SocketAddr> =
        endpoints.iter().map(|text| text.parse().expect("an address")).collect();
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let ingress = json!({"metadata": {"name": "i", "namespace": "a"},
        "spec": {"rules": [{"host": "bench.test", "http": {"paths":
            [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}});
    let service = json!({"metadata": {"name": "s", "namespace": "a"},
                         "spec": {"ports": [{"port": 80}]}});
    let slice = |at: &SocketAddr| {
        json!({"metadata": {"namespace": "a", "labels": {"kubernetes.io/service-name": "s"}},
               "ports": [{"port": at.port()}],
               "endpoints": [{"addresses": [at.ip().to_string()]}]})
    };
    let slices: Vec<_> = endpoints.iter().map(slice).collect();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let proxy = Proxy::start(Ports { http: 0, https: 0 }).await.expect("ports");
        proxy.route(Routes::gather([&ingress], [&service], &slices));
        println!("{}", proxy.http());
        std::future::pending::<()>().await;
    });
}

fn ours(endpoints: &[SocketAddr]) -> Peer {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("ingress-alone").args(endpoints.iter().map(ToString::to_string));
    let mut child = command.stdout(Stdio::piped()).spawn().expect("this program starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("an address");
    Peer { name: "edged", child, address: line.trim().parse().expect("an address") }
}

fn free() -> SocketAddr {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("a port")
}

fn started(name: &'static str, mut command: Command, address: SocketAddr) -> Peer {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}: install it"));
    while std::net::TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Peer { name, child, address }
}

/// nginx as one sets it up for this: two workers, connections kept on both sides, no log.
fn nginx(dir: &Path, endpoints: &[SocketAddr]) -> Peer {
    let (address, place) = (free(), dir.display());
    let servers: String = endpoints.iter().map(|at| format!("server {at};")).collect();
    let text = format!(
        "daemon off;\nworker_processes 2;\npid {place}/nginx.pid;\nerror_log /dev/null;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {place}/b;\n  proxy_temp_path {place}/p;\n  \
         fastcgi_temp_path {place}/f;\n  \
         uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n  \
         keepalive_requests 100000000;\n  \
         upstream all {{ {servers} keepalive 64; keepalive_requests 100000000; }}\n  \
         server {{\n    listen {address};\n    server_name bench.test;\n    location / {{\n      \
         proxy_pass http://all;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      proxy_set_header Host $host;\n      \
         proxy_set_header X-Real-IP $remote_addr;\n      \
         proxy_set_header X-Forwarded-For $remote_addr;\n      \
         proxy_set_header X-Forwarded-Proto $scheme;\n    }}\n  }}\n}}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, text).expect("a configuration");
    let mut command = Command::new(std::env::var("NGINX").unwrap_or("/usr/sbin/nginx".into()));
    command.arg("-c").arg(file).arg("-p").arg(dir);
    started("nginx", command, address)
}

/// haproxy likewise: two threads, connections kept and shared, no log.
fn haproxy(dir: &Path, endpoints: &[SocketAddr]) -> Peer {
    let address = free();
    let servers: String =
        endpoints.iter().enumerate().map(|(n, at)| format!("  server s{n} {at}\n")).collect();
    let text = format!(
        "global\n  nbthread 2\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 2s\n  \
         timeout client 60s\n  timeout server 60s\n  http-reuse always\n  \
         option forwardfor\nfrontend in\n  bind {address}\n  \
         use_backend all if {{ hdr(host) -i bench.test }}\nbackend all\n  \
         balance leastconn\n{servers}"
    );
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, text).expect("a configuration");
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(file);
    started("haproxy", command, address)
}
