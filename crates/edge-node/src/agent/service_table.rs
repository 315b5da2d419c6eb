//! All Services and their endpoints, as this board knows them: what the kernel's tables are made
//! of, and the variables that containers get about them.

use std::collections::BTreeMap;

use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_core::ingress::{Stock, Table};
use edge_core::podnet::Range;
use edge_core::proxy::{Live, Name};

/// All Services and EndpointSlices, and the tables that they make.
#[derive(Debug)]
pub(crate) struct ServiceTable {
    pub(super) live: Live,
}

fn name(object: &Object) -> Name {
    (meta::namespace(object).to_owned(), meta::name(object).to_owned())
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

impl ServiceTable {
    /// Nothing yet, on the board of this name; within `ranges`, the cluster's own, a Service has
    /// no address from outside.
    pub(crate) fn new(board: &str, ranges: [&str; 2]) -> ServiceTable {
        let ranges = ranges.into_iter().filter_map(Range::parse);
        ServiceTable { live: Live::new(board).guarding(ranges) }
    }

    /// Brings Services to where their watch is.
    pub(crate) fn take_services(&mut self, event: Event) {
        match event {
            Event::Restarted(list) => self.live.set_services(list),
            Event::Applied(object) => self.live.set_service(object),
            Event::Deleted(object) => self.live.remove_service(&name(&object)),
        }
    }

    /// Brings EndpointSlices to where their watch is.
    pub(crate) fn take_slices(&mut self, event: Event) {
        match event {
            Event::Restarted(list) => self.live.set_slices(list),
            Event::Applied(object) => self.live.set_slice(object),
            Event::Deleted(object) => self.live.remove_slice(&name(&object)),
        }
    }

    /// All Services, and all EndpointSlices.
    pub(crate) fn all(&self) -> (impl Iterator<Item = &Object>, impl Iterator<Item = &Object>) {
        (self.live.services().values(), self.live.slices().values())
    }

    /// Where requests for these Ingresses go: what they name is looked up, nothing is listed.
    pub(crate) fn routes<'a>(&'a self, ingresses: impl IntoIterator<Item = &'a Object>) -> Table {
        let name = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        Table::look_up(
            ingresses,
            &Stock {
                service: &|of, service| self.live.services().get(&name(of, service)),
                slices: &|of, service| self.live.slices_of(&name(of, service)).collect(),
            },
        )
    }

    /// The variables of Services in the pod's namespace, if it wants them, and of the API itself.
    pub(crate) fn environment(&self, namespace: &str, links: bool) -> BTreeMap<String, String> {
        let (mut chosen, mut out) = (BTreeMap::new(), BTreeMap::new());
        for ((of, name), service) in self.live.services() {
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
        let mut table = ServiceTable::new("here", ["10.42.0.0/16", "10.43.0.0/16"]);
        table.take_services(Event::Restarted(vec![
            service("ns", "my-web", "10.43.0.7"),
            service("ns", "headless", "None"),
            service("other", "x", "10.43.0.8"),
            service("default", "kubernetes", "10.43.0.1"),
        ]));
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
        table.take_services(Event::Deleted(service("ns", "my-web", "10.43.0.7")));
        assert!(!table.environment("ns", true).contains_key("MY_WEB_PORT"));
    }
}
