//! One changed endpoint among few and many Services: from the bytes of the watch to the kernel's
//! rules, the way that an agent takes, in time and in CPU of this process; the part of it that is
//! the kernel's; and what looking at everything takes beside it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edge_api::Object;
use edge_core::proxy::{Live, Tables};
use edge_node::net::{Net, NetConfig};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::policies;
use crate::lab::namespace::Namespace;
use crate::table::{Table, percentile};

const SERVICES: [usize; 3] = [10, 1000, 10_000];
/// Between two changes.
pub(super) const PAUSE: Duration = Duration::from_millis(30);

fn service(n: usize) -> Object {
    let [_, _, high, low] = u32::try_from(n).expect("few").to_be_bytes();
    json!({"metadata": {"namespace": "default", "name": format!("s{n}"),
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"type": "ClusterIP", "clusterIP": Ipv4Addr::new(10, 43, high + 1, low),
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}]}})
}

fn slice(n: usize, last: u8) -> Object {
    let endpoint = |ip: Ipv4Addr| {
        json!({"addresses": [ip], "conditions": {"ready": true, "serving": true},
            "nodeName": "other"})
    };
    json!({"metadata": {"namespace": "default", "name": format!("s{n}-x"),
            "labels": {"kubernetes.io/service-name": format!("s{n}")}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [endpoint(Ipv4Addr::new(10, 42, 1, last)),
            endpoint(Ipv4Addr::new(10, 42, 2, 7))]})
}

fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock");
    time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6
}

/// Times of single changes, in milliseconds.
#[derive(Default)]
struct Times {
    whole: Vec<f64>,
    cpu: Vec<f64>,
    kernel: Vec<f64>,
    all: Vec<f64>,
}

pub(super) fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

pub(super) fn measure(table: &mut Table, quick: bool) {
    let changes = if quick { 20 } else { 200 };
    let mut few = None;
    for count in SERVICES {
        let times = apart(|dir| async move { one(&dir, count, changes).await });
        let what = |part: &str| format!("one endpoint among {count} Services: {part}");
        let whole = percentile(&times.whole, 0.5);
        few.get_or_insert(whole);
        let to = few.map(|few| ("10 Services", few)).filter(|_| count > SERVICES[0]);
        table.add(&what("whole"), "ms", &times.whole, Some(1.0), to);
        table.add(&what("CPU"), "ms", &times.cpu, None, None);
        table.add(&what("difference and kernel"), "ms", &times.kernel, None, None);
        let to = Some(("the change alone", whole));
        table.add(&what("everything made and compared"), "ms", &times.all, None, to);
    }
    apart(|dir| async move {
        let net = open(&dir, false);
        policies::measure(table, &net, changes).await;
        net.cleanup().await.expect("all of it goes");
    });
}

/// Does some work in a network of its own.
fn apart<T: Send, F: Future<Output = T>>(work: impl FnOnce(PathBuf) -> F + Send) -> T {
    let name = format!("edb{}", std::process::id());
    let namespace = Namespace::new(&name);
    let dir = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(&dir).expect("a fresh directory");
    let done = namespace.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work(dir.clone()))
    });
    let _ = std::fs::remove_dir_all(&dir);
    done
}

/// A board's network of its own in `dir`.
pub(super) fn open(dir: &Path, without_nf_tables: bool) -> Net {
    let config = NetConfig {
        without_nf_tables,
        run_dir: dir.join("run"),
        data_dir: dir.join("data"),
        pod_cidr: "10.42.0.0/24".into(),
        cluster_cidr: "10.42.0.0/16".into(),
        service_cidr: "10.43.0.0/16".into(),
        node_ip: IpAddr::from([192, 0, 2, 1]),
        encrypt_pods: false,
        wireguard_port: 51820,
    };
    Net::open(config).expect("a network")
}

async fn one(dir: &Path, count: usize, changes: u8) -> Times {
    let net = open(dir, false);
    let mut live = Live::new("me");
    live.set_services((0..count).map(service).collect());
    live.set_slices((0..count).map(|n| slice(n, 1)).collect());
    live.patch();
    net.apply_proxy(&live.tables()).await.expect("rules");
    let mut times = Times::default();
    for n in 0..changes {
        let at = usize::from(n) * 37 % count;
        let told = slice(at, n % 200 + 2).to_string();
        // The kernel frees what an earlier change took out before it begins another.
        tokio::time::sleep(PAUSE).await;
        let (begin, cpu) = (Instant::now(), cpu_ms());
        live.set_slice(serde_json::from_str(&told).expect("an object"));
        let patch = live.patch();
        let gathered = Instant::now();
        assert!(net.patch_proxy(patch).await.expect("rules"), "nobody else changes rules");
        times.kernel.push(ms(gathered));
        times.whole.push(ms(begin));
        times.cpu.push(cpu_ms() - cpu);
    }
    for _ in 0..changes.min(5) {
        let begin = Instant::now();
        let (services, slices) = (live.services().values(), live.slices().values());
        net.apply_proxy(&Tables::gather(services, slices, "me")).await.expect("rules");
        times.all.push(ms(begin));
    }
    net.cleanup().await.expect("all of it goes");
    times
}
