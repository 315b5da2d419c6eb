//! Services and their endpoints as this board sees them: followed from the API, turned into
//! the kernel's tables, and into the variables that containers get about them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use edge_api::kinds::{ENDPOINT_SLICE, SERVICE};
use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_client::{WatchParams, Watcher};
use edge_core::proxy::{Front, Tables, announced};

use tokio::time::Instant;

use super::announce::Announcer;
use super::board::Board;
use super::events::Grade::Warning;
use super::events::Subject;
use super::health_checks::HealthChecks;
use super::recall::{self, Recall};
use super::{host_ports, remembered};

/// Changes that come within this time of each other are applied together.
const SETTLE: Duration = Duration::from_millis(10);
/// Tables that could not be applied are tried again after this long.
const RETRY: Duration = Duration::from_secs(5);
/// Whoever has not answered a connection by then, and is no endpoint any more, will not.
const ANSWER: Duration = Duration::from_millis(300);
/// While no server answers, the board's own pods are looked at so often.
const REMIND: Duration = Duration::from_secs(1);
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

/// Brings what is known of a kind, by namespace and name, to where its watch is.
pub(super) fn take(map: &mut BTreeMap<(String, String), Object>, event: Event) {
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

/// What is known, from where, and what is to be done about it.
struct Follower {
    board: Arc<Board>,
    heard_services: bool,
    heard_slices: bool,
    /// What the disk holds, for as long as no server has been heard.
    remembered: Vec<Object>,
    recall: Recall,
    applied: Applied,
    apply_at: Option<Instant>,
    /// When connections that are still unanswered are forgotten.
    forget_at: Option<Instant>,
}

/// Follows Services and EndpointSlices, and keeps the kernel's tables as they want them.
pub(crate) async fn run(board: Arc<Board>) {
    let watch = |kind| Watcher::new(board.client.clone(), kind, "", WatchParams::default());
    let (mut services, mut slices) = (watch(SERVICE), watch(ENDPOINT_SLICE));
    let mut follower = Follower::new(board.clone());
    let mut remind = Instant::now() + recall::PATIENCE;
    loop {
        let due = follower.apply_at.unwrap_or(remind);
        let forget = follower.forget_at.unwrap_or(remind);
        tokio::select! {
            event = services.next() => follower.services(event),
            event = slices.next() => follower.slices(event),
            () = board.ports_changed.notified() => follower.apply_soon(),
            () = tokio::time::sleep_until(remind), if follower.unheard() => {
                follower.remind();
                remind = Instant::now() + REMIND;
            }
            () = follower.recall.due() => follower.save().await,
            () = tokio::time::sleep_until(forget), if follower.forget_at.is_some() => {
                follower.forget_unanswered().await;
            }
            () = tokio::time::sleep_until(due), if follower.apply_at.is_some() => {
                follower.apply().await;
            }
        }
    }
}

impl Follower {
    fn new(board: Arc<Board>) -> Follower {
        let mut recall = Recall::new(&board.data_dir, "services");
        let remembered = recall.load();
        board.net.keep_addresses(remembered::addresses(&remembered, &board.name));
        Follower {
            board,
            heard_services: false,
            heard_slices: false,
            remembered,
            recall,
            applied: Applied::default(),
            apply_at: None,
            forget_at: None,
        }
    }

    fn services(&mut self, event: Event) {
        self.heard_services = true;
        self.take_services(event);
        self.heard();
    }

    fn slices(&mut self, event: Event) {
        self.heard_slices = true;
        self.take_slices(event);
        self.heard();
    }

    fn take_services(&self, event: Event) {
        self.board.names.write().unwrap_or_else(PoisonError::into_inner).services(&event);
        let mut table = self.board.services.write().unwrap_or_else(PoisonError::into_inner);
        take(&mut table.services, event);
    }

    fn take_slices(&self, event: Event) {
        self.board.names.write().unwrap_or_else(PoisonError::into_inner).slices(&event);
        let mut table = self.board.services.write().unwrap_or_else(PoisonError::into_inner);
        take(&mut table.slices, event);
    }

    fn heard(&mut self) {
        if self.heard_services && self.heard_slices {
            self.remembered = Vec::new();
            self.recall.changed();
        }
        self.apply_soon();
    }

    /// True while what the disk holds is all there is.
    fn unheard(&self) -> bool {
        !self.remembered.is_empty() && !self.heard_services && !self.heard_slices
    }

    /// What stands in the kernel stays until both lists are known; after a boot nothing does.
    fn apply_soon(&mut self) {
        let booted = self.unheard() && self.board.net.is_fresh();
        if booted || (self.heard_services && self.heard_slices) {
            self.board.endpoints_changed.notify_one();
            let soon = Instant::now() + SETTLE;
            self.apply_at = Some(self.apply_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// No server answers: takes in what the disk holds, with the board's own pods as they are now.
    fn remind(&mut self) {
        let (slices, services): (Vec<&Object>, Vec<&Object>) =
            self.remembered.iter().partition(|object| remembered::is_slice(object));
        let pods = self.board.pod_views();
        let name = &self.board.name;
        let now = slices.iter().map(|slice| remembered::refreshed(slice, name, &pods)).collect();
        let first = {
            let table = self.board.services.read().unwrap_or_else(PoisonError::into_inner);
            let same = |slices: &Vec<Object>| slices.iter().eq(table.slices.values());
            if !table.services.is_empty() && same(&now) {
                return;
            }
            table.services.is_empty()
        };
        if first {
            tracing::info!(
                "no server answers: {} Services and their endpoints as the disk has them",
                services.len()
            );
            self.take_services(Event::Restarted(services.into_iter().cloned().collect()));
        }
        self.take_slices(Event::Restarted(now));
        self.apply_soon();
    }

    async fn save(&mut self) {
        let lines: Vec<Object> = {
            let table = self.board.services.read().unwrap_or_else(PoisonError::into_inner);
            let services = table.services.values().map(remembered::service);
            services.chain(table.slices.values().map(remembered::slice)).collect()
        };
        self.recall.save(lines.into_iter()).await;
    }

    async fn apply(&mut self) {
        let again = if apply(&self.board, &mut self.applied).await { RETRY } else { LOOK };
        self.apply_at = Some(Instant::now() + again);
        self.forget_at = Some(Instant::now() + ANSWER);
    }

    async fn forget_unanswered(&mut self) {
        self.forget_at = None;
        match self.board.net.forget_unanswered().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!("{count} unanswered connections forgotten"),
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

/// What stands of the tables beside the kernel's maps, and what was said of them.
#[derive(Default)]
struct Applied {
    told: Vec<Clash>,
    checks: HealthChecks,
    announcer: Announcer,
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
async fn apply(board: &Arc<Board>, applied: &mut Applied) -> bool {
    let (mut tables, announced) = {
        let table = board.services.read().unwrap_or_else(PoisonError::into_inner);
        let announced = announced(table.services.values());
        (Tables::gather(table.services.values(), table.slices.values(), &board.name), announced)
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
    let begin = Instant::now();
    let outcome = board.net.apply_proxy(&tables).await;
    // Whoever is called by the announcement finds the way.
    applied.announcer.set(board, announced);
    match outcome {
        Ok(()) => {
            tracing::debug!(
                "{} ways to Services set in {:?}",
                tables.routes.len(),
                begin.elapsed()
            );
            false
        }
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
