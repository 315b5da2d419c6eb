//! Services and their endpoints as this board sees them: followed from the API, turned into
//! the kernel's tables, and into the variables that containers get about them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use edge_api::kinds::{ENDPOINT_SLICE, SERVICE};
use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_client::{WatchParams, Watcher};
use edge_core::proxy::{Front, Tables};

use super::board::Board;
use super::events::Grade::Warning;
use super::events::Subject;
use super::health_checks::HealthChecks;
use super::host_ports;

/// Changes that come within this time of each other are applied together.
const SETTLE: Duration = Duration::from_millis(10);
/// Tables that could not be applied are tried again after this long.
const RETRY: Duration = Duration::from_secs(5);
/// Somebody may have flushed the board's rules: so often we look. It costs next to nothing when
/// nobody has.
const LOOK: Duration = Duration::from_secs(60);

/// A front that two Services claim: see [`Tables::clashes`].
type Clash = (Front, String, String);

/// All Services and EndpointSlices, by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct ServiceTable {
    services: BTreeMap<(String, String), Object>,
    slices: BTreeMap<(String, String), Object>,
}

fn take(map: &mut BTreeMap<(String, String), Object>, event: Event) {
    let key = |o: &Object| (meta::namespace(o).to_owned(), meta::name(o).to_owned());
    match event {
        Event::Restarted(list) => *map = list.into_iter().map(|o| (key(&o), o)).collect(),
        Event::Applied(object) => {
            map.insert(key(&object), object);
        }
        Event::Deleted(object) => {
            map.remove(&key(&object));
        }
    }
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

impl ServiceTable {
    /// All Services, and all EndpointSlices.
    pub(crate) fn all(&self) -> (impl Iterator<Item = &Object>, impl Iterator<Item = &Object>) {
        (self.services.values(), self.slices.values())
    }

    /// The variables of Services in the pod's namespace, if it wants them, and of the API itself.
    pub(crate) fn environment(&self, namespace: &str, links: bool) -> BTreeMap<String, String> {
        let (mut chosen, mut out) = (BTreeMap::new(), BTreeMap::new());
        for ((of, name), service) in &self.services {
            let api = of == "default" && name == "kubernetes";
            let own = links && of == namespace;
            let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default();
            if !(api || own) || ip.is_empty() || ip == "None" {
                continue;
            }
            // A namespace's own Service of that name hides the API's, as in Kubernetes.
            if own || !chosen.contains_key(name) {
                chosen.insert(name, (ip, service));
            }
        }
        for (name, (ip, service)) in chosen {
            describe(&variable(name), ip, &service["spec"]["ports"], &mut out);
        }
        out
    }
}

fn describe(prefix: &str, ip: &str, ports: &Object, out: &mut BTreeMap<String, String>) {
    let Some(ports) = ports.as_array().filter(|ports| !ports.is_empty()) else { return };
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    for (index, port) in ports.iter().enumerate() {
        let number = port["port"].as_u64().unwrap_or(0);
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        let lower = protocol.to_ascii_lowercase();
        let url = format!("{lower}://{ip}:{number}");
        if index == 0 {
            out.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
            out.insert(format!("{prefix}_PORT"), url.clone());
        }
        if let Some(name) = port["name"].as_str().filter(|name| !name.is_empty()) {
            out.insert(format!("{prefix}_SERVICE_PORT_{}", variable(name)), number.to_string());
        }
        let stem = format!("{prefix}_PORT_{number}_{protocol}");
        out.insert(stem.clone(), url);
        out.insert(format!("{stem}_PROTO"), lower);
        out.insert(format!("{stem}_PORT"), number.to_string());
        out.insert(format!("{stem}_ADDR"), ip.to_owned());
    }
}

/// Follows Services and EndpointSlices, and keeps the kernel's tables as they want them.
pub(crate) async fn run(board: Arc<Board>) {
    let watch = |kind| Watcher::new(board.client.clone(), kind, "", WatchParams::default());
    let (mut services, mut slices) = (watch(SERVICE), watch(ENDPOINT_SLICE));
    let (mut heard_services, mut heard_slices) = (false, false);
    let mut applied = Applied::default();
    let mut apply_at: Option<tokio::time::Instant> = None;
    loop {
        let due = async {
            match apply_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = services.next() => {
                heard_services = true;
                board.names.write().unwrap_or_else(PoisonError::into_inner).services(&event);
                let mut table = board.services.write().unwrap_or_else(PoisonError::into_inner);
                take(&mut table.services, event);
            }
            event = slices.next() => {
                heard_slices = true;
                board.names.write().unwrap_or_else(PoisonError::into_inner).slices(&event);
                let mut table = board.services.write().unwrap_or_else(PoisonError::into_inner);
                take(&mut table.slices, event);
            }
            () = board.ports_changed.notified() => {}
            () = due => {
                let again = if apply(&board, &mut applied).await { RETRY } else { LOOK };
                apply_at = Some(tokio::time::Instant::now() + again);
                continue;
            }
        }
        // What stands in the kernel stays until both lists are known.
        if heard_services && heard_slices {
            board.endpoints_changed.notify_one();
            let soon = tokio::time::Instant::now() + SETTLE;
            apply_at = Some(apply_at.map_or(soon, |at| at.min(soon)));
        }
    }
}

/// What stands of the tables beside the kernel's maps, and what was said of them.
#[derive(Default)]
struct Applied {
    told: Vec<Clash>,
    checks: HealthChecks,
}

/// Tells people about a Service.
fn say(board: &Board, namespace: &str, name: &str, reason: &'static str, message: String) {
    let key = (namespace.to_owned(), name.to_owned());
    let table = board.services.read().unwrap_or_else(PoisonError::into_inner);
    let uid = table.services.get(&key).map_or("", |service| meta::uid(service)).to_owned();
    drop(table);
    tracing::warn!("Service {namespace}/{name}: {message}");
    let (namespace, name) = key;
    let about = Subject { kind: "Service", namespace, name, uid, field_path: None };
    board.events.say(&about, Warning, reason, message);
}

/// Applies the tables; true when that has to be tried again.
async fn apply(board: &Board, applied: &mut Applied) -> bool {
    let mut tables = {
        let table = board.services.read().unwrap_or_else(PoisonError::into_inner);
        Tables::gather(table.services.values(), table.slices.values(), &board.name)
    };
    host_ports::add(&mut tables, &board.pod_views());
    for clash in tables.clashes.iter().filter(|clash| !applied.told.contains(clash)) {
        let (front, holder, other) = clash;
        tracing::warn!("Service {other} doesn't get {front}: {holder} has it; choose another");
    }
    applied.told.clone_from(&tables.clashes);
    for (check, why) in applied.checks.set(&tables.health).await {
        let why = format!("node {} {why}", board.name);
        say(board, &check.namespace, &check.name, "FailedToStartServiceHealthcheck", why);
    }
    match board.net.apply_proxy(&tables).await {
        Ok(()) => false,
        Err(error) => {
            tracing::warn!("set up Services on this board: {error}; tried again in 5 s");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_as_kubernetes_names_them() {
        let service = |ns: &str, name: &str, ip: &str| {
            json!({ "metadata": { "namespace": ns, "name": name }, "spec": { "clusterIP": ip,
                "ports": [{ "port": 80, "name": "web-ui" }, { "port": 53, "protocol": "UDP" }] } })
        };
        let mut table = ServiceTable::default();
        take(
            &mut table.services,
            Event::Restarted(vec![
                service("ns", "my-web", "10.43.0.7"),
                service("ns", "headless", "None"),
                service("other", "x", "10.43.0.8"),
                service("default", "kubernetes", "10.43.0.1"),
            ]),
        );
        let env = table.environment("ns", true);
        let want = [
            ("MY_WEB_SERVICE_HOST", "10.43.0.7"),
            ("MY_WEB_SERVICE_PORT", "80"),
            ("MY_WEB_SERVICE_PORT_WEB_UI", "80"),
            ("MY_WEB_PORT", "tcp://10.43.0.7:80"),
            ("MY_WEB_PORT_53_UDP", "udp://10.43.0.7:53"),
            ("MY_WEB_PORT_53_UDP_PROTO", "udp"),
            ("MY_WEB_PORT_53_UDP_ADDR", "10.43.0.7"),
            ("KUBERNETES_SERVICE_HOST", "10.43.0.1"),
        ];
        for (name, value) in want {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!env.keys().any(|k| k.starts_with("X_") || k.starts_with("HEADLESS")));
        assert!(!table.environment("ns", false).contains_key("MY_WEB_PORT"));
        take(&mut table.services, Event::Deleted(service("ns", "my-web", "10.43.0.7")));
        assert!(!table.environment("ns", true).contains_key("MY_WEB_PORT"));
    }
}
