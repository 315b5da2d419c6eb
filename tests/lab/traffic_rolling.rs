//! A rolling update under load: new connections without pause, from a pod to the cluster address
//! and from outside to a node port, while every pod behind them is replaced; then requests on
//! connections that stay, to an Ingress. Not one may fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Ended;
use super::board::Board;
use super::cluster::Cluster;
use super::traffic_held::{by_http1, by_http2};
use super::traffic_places::Place;
use crate::board::command::until;

/// Requests a second of each of the two clients of the Service and of the one of the Ingress, and
/// how many of them at once at most.
const RATE: u32 = 500;
const PROXY_RATE: u32 = 200;
/// … and of each of the two clients of the Ingress that keep their connections.
const HELD_RATE: u32 = 250;
const AT_ONCE: usize = 16;
/// How often all pods are replaced.
const ROLLS: u32 = 3;
/// A request takes longer only when it is lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
const REPLICAS: u32 = 6;
const NODE_PORT: u16 = 30710;

/// Pods that take requests for two seconds more when they are to end, as every board needs a
/// moment to hear of it, and that say when they are ready.
fn manifest(version: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: rolling}}
spec:
  replicas: {REPLICAS}
  selector: {{matchLabels: {{app: rolling}}}}
  template:
    metadata:
      labels: {{app: rolling}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: c
        image: edged/webserver:1
        imagePullPolicy: IfNotPresent
        env: [{{name: VERSION, value: \"{version}\"}}]
        lifecycle: {{preStop: {{sleep: {{seconds: 2}}}}}}
        readinessProbe:
          httpGet: {{path: /healthz, port: 8080}}
          periodSeconds: 1
---
apiVersion: v1
kind: Service
metadata: {{name: rolling}}
spec:
  type: NodePort
  selector: {{app: rolling}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {NODE_PORT}}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: rolling}}
spec:
  ingressClassName: edged
  rules:
  - host: rolling.test
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: rolling, port: {{number: 80}}}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  nodeName: a1
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: \"edged/webserver:1\", imagePullPolicy: IfNotPresent}}]
"
    )
}

/// What one client saw.
#[derive(Default)]
pub(super) struct Seen {
    /// Requests by the pod that answered.
    pub(super) servers: BTreeMap<String, u32>,
    /// When each failed request began, and why it failed.
    pub(super) failed: Vec<(Duration, String)>,
    pub(super) slowest: Duration,
}

/// One request over a connection of its own; the pod that answered.
fn request(to: SocketAddr) -> Result<String, String> {
    let told = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(told("connect"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(told("set a timeout"))?;
    let question = b"GET /healthz HTTP/1.1\r\nHost: rolling.test\r\nConnection: close\r\n\r\n";
    stream.write_all(question).map_err(told("ask"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(told("listen"))?;
    let whole = answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n");
    let server = answer.lines().find_map(|line| line.strip_prefix("x-served-by: "));
    match server {
        Some(server) if whole => Ok(server.to_owned()),
        _ => Err(format!("answered {answer:?}")),
    }
}

/// Asks at a steady rate, whatever becomes of the requests before, until all is done.
pub(super) fn load(place: &Place, to: SocketAddr, rate: u32, done: &AtomicBool) -> Seen {
    let (next, begin) = (AtomicU32::new(0), Instant::now());
    let seen = Mutex::new(Seen::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                place.enter();
                while !done.load(Ordering::Acquire) {
                    let at = next.fetch_add(1, Ordering::Relaxed) * (1_000_000 / rate);
                    let at = begin + Duration::from_micros(at.into());
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                    let sent = Instant::now();
                    let outcome = request(to);
                    let mut seen = seen.lock().expect("what was seen");
                    seen.slowest = seen.slowest.max(sent.elapsed());
                    match outcome {
                        Ok(server) => *seen.servers.entry(server).or_default() += 1,
                        Err(why) => seen.failed.push((sent - begin, why)),
                    }
                }
            });
        }
    });
    seen.into_inner().expect("what was seen")
}

fn roll(cluster: &Cluster, server: &Board, version: u32) -> Duration {
    let file = cluster.file("rolling.yaml", manifest(version));
    let begin = Instant::now();
    cluster.kubectl(server, &["apply", "-f", &file]).ok();
    let wait = ["rollout", "status", "deployment/rolling", "--timeout=50s"];
    cluster.kubectl(server, &wait).ok();
    begin.elapsed()
}

#[test]
fn no_request_fails_while_all_pods_are_replaced() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(1, 2);
    let server = &cluster.boards[0];
    cluster.load_example();
    roll(&cluster, server, 1);
    cluster.kubectl(server, &["wait", "--for=condition=Ready", "pod/client"]).ok();
    let field = |kind: &str, name: &str, path: &str| {
        let path = format!("jsonpath={{{path}}}");
        cluster.kubectl(server, &["get", kind, name, "-o", &path]).ok()
    };
    let address = field("service", "rolling", ".spec.clusterIP");
    let inside = SocketAddr::new(address.parse().expect("an address"), 80);
    let outside = SocketAddr::new(cluster.boards[2].ip.into(), NODE_PORT);
    let uid = field("pod", "client", ".metadata.uid");
    let pod = Place::new("client", cluster.board("a1").dir.join("run1/pods").join(uid).join("net"));
    let person = Place::new("outside", cluster.person.path());
    let proxy = SocketAddr::new(cluster.boards[1].ip.into(), 80);
    for (place, to) in [(&pod, inside), (&person, outside), (&person, proxy)] {
        until("the Service answers", || {
            let place = place.clone();
            let asked = std::thread::spawn(move || {
                place.enter();
                request(to)
            });
            asked.join().expect("no panic")
        });
    }
    let done = AtomicBool::new(false);
    let begin = Instant::now();
    let (from_pod, from_outside, proxied) = std::thread::scope(|scope| {
        let ended = Ended(&done);
        let from_pod = scope.spawn(|| load(&pod, inside, RATE, &done));
        let from_outside = scope.spawn(|| load(&person, outside, RATE, &done));
        let proxied = scope.spawn(|| load(&person, proxy, PROXY_RATE, &done));
        std::thread::sleep(Duration::from_millis(500));
        for version in 2..=1 + ROLLS {
            println!("rolled out in {:?}", roll(&cluster, server, version));
            // The last of the old pods still have to end.
            until("the old pods are gone", || {
                let pods = cluster.pods("rolling").len();
                (pods == REPLICAS as usize).then_some(()).ok_or_else(|| format!("{pods} pods"))
            });
        }
        drop(ended);
        let [one, two, three] =
            [from_pod, from_outside, proxied].map(|seen| seen.join().expect("no panic"));
        (one, two, three)
    });
    let took = begin.elapsed();
    judge(&cluster, "a pod to the cluster address", &from_pod, took, 1 + ROLLS);
    judge(&cluster, "outside to a node port", &from_outside, took, 1 + ROLLS);
    judge(&cluster, "outside to an Ingress", &proxied, took, 1 + ROLLS);
    held(&cluster, &person, proxy);
}

/// One more update, while an Ingress is asked on connections that stay.
fn held(cluster: &Cluster, person: &Place, proxy: SocketAddr) {
    let done = AtomicBool::new(false);
    let begin = Instant::now();
    let (one, two) = std::thread::scope(|scope| {
        let ended = Ended(&done);
        let host = "rolling.test";
        let one = scope.spawn(|| by_http1(person, proxy, host, HELD_RATE, &done));
        let two = scope.spawn(|| by_http2(person, proxy, host, HELD_RATE, &done));
        std::thread::sleep(Duration::from_millis(500));
        roll(cluster, &cluster.boards[0], 2 + ROLLS);
        until("the old pods are gone", || {
            let pods = cluster.pods("rolling").len();
            (pods == REPLICAS as usize).then_some(()).ok_or_else(|| format!("{pods} pods"))
        });
        drop(ended);
        (one.join().expect("no panic"), two.join().expect("no panic"))
    });
    let took = begin.elapsed();
    judge(cluster, "an Ingress on kept connections", &one, took, 2);
    judge(cluster, "an Ingress by HTTP/2", &two, took, 2);
}

/// Not one request failed, all pods had their share, and the rate was kept.
fn judge(cluster: &Cluster, who: &str, seen: &Seen, took: Duration, versions: u32) {
    let count: u32 = seen.servers.values().sum();
    let rate = f64::from(count) / took.as_secs_f64();
    println!(
        "{who}: {count} requests in {took:?} ({rate:.0}/s), by {} pods, slowest {:?}, {} failed",
        seen.servers.len(),
        seen.slowest,
        seen.failed.len()
    );
    if !seen.failed.is_empty() {
        let first: Vec<_> = seen.failed.iter().take(20).collect();
        let logs =
            cluster.kubectl(&cluster.boards[0], &["get", "pods,endpointslices", "-o", "wide"]);
        panic!("{who}: {} failed: {first:#?}\n{logs:?}", seen.failed.len());
    }
    let pods: BTreeSet<&String> = seen.servers.keys().collect();
    assert_eq!(pods.len(), (versions * REPLICAS) as usize, "old and new pods: {pods:?}");
    assert!(rate > f64::from(PROXY_RATE) / 4.0, "{rate:.0} requests a second are no load");
}
