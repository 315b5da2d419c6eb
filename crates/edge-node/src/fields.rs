//! Fields and resources of a pod by path, for `fieldRef` and `resourceFieldRef` in environments and
//! downward API volumes.

use std::collections::BTreeMap;

use edge_api::k8s::api::core::v1::Container;
use edge_api::quantity::Quantity;
use edge_core::pod::Desired;

/// A pod as its own containers may see it.
pub struct Fields<'a> {
    /// The pod.
    pub pod: &'a Desired,
    /// The board's name.
    pub node: &'a str,
    /// The board's addresses.
    pub host_ips: &'a [String],
    /// The pod's addresses.
    pub pod_ips: &'a [String],
    /// What the board can give in all: the limit where a container sets none.
    pub allocatable: &'a BTreeMap<String, String>,
}

/// Maps as the downward API writes them: sorted `key="value"` lines.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The key in `metadata.labels['key']`.
fn subscript<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    let key = path.strip_prefix(field)?.strip_prefix("['")?;
    key.strip_suffix("']")
}

impl Fields<'_> {
    /// The value of a `fieldRef`.
    pub fn field(&self, path: &str) -> Result<String, String> {
        let meta = &self.pod.pod.metadata;
        let value = |map: Option<&BTreeMap<String, String>>, key: &str| {
            map.and_then(|m| m.get(key)).cloned().unwrap_or_default()
        };
        if let Some(key) = subscript(path, "metadata.labels") {
            return Ok(value(meta.labels.as_ref(), key));
        }
        if let Some(key) = subscript(path, "metadata.annotations") {
            return Ok(value(meta.annotations.as_ref(), key));
        }
        let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
        let pod_ips = if self.pod.host_network() { self.host_ips } else { self.pod_ips };
        let spec = self.pod.spec();
        Ok(match path {
            "metadata.name" => self.pod.name().to_owned(),
            "metadata.namespace" => self.pod.namespace().to_owned(),
            "metadata.uid" => self.pod.uid().to_owned(),
            "metadata.labels" => lines(meta.labels.as_ref()),
            "metadata.annotations" => lines(meta.annotations.as_ref()),
            "spec.nodeName" => self.node.to_owned(),
            "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
            "status.hostIP" => first(self.host_ips),
            "status.hostIPs" => self.host_ips.join(","),
            "status.podIP" => first(pod_ips),
            "status.podIPs" => pod_ips.join(","),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        })
    }

    /// The value of a `resourceFieldRef`, divided and rounded up.
    pub fn resource(
        &self,
        container: &str,
        resource: &str,
        divisor: &str,
    ) -> Result<String, String> {
        let found = self.pod.container(container);
        let container = found.ok_or_else(|| format!("container {container} not found"))?;
        let (side, name) = resource
            .split_once('.')
            .ok_or_else(|| format!("unsupported container resource: {resource}"))?;
        let amount = match side {
            "limits" => self.limit(container, name),
            "requests" => request(container, name),
            _ => return Err(format!("unsupported container resource: {resource}")),
        };
        let divisor = if divisor == "0" || divisor.is_empty() { "1" } else { divisor };
        let divisor = Quantity::parse(divisor).map_err(|e| format!("divisor: {e}"))?;
        let nano = |q: &Quantity| i128::from(q.milli());
        let amount = amount.map_or(0, |q| nano(&q));
        let divisor = nano(&divisor).max(1);
        Ok(((amount + divisor - 1) / divisor).to_string())
    }

    fn limit(&self, container: &Container, name: &str) -> Option<Quantity> {
        let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
        let set = limits.and_then(|map| map.get(name)).map(|q| q.0.as_str());
        let text = set.or_else(|| self.allocatable.get(name).map(String::as_str))?;
        Quantity::parse(text).ok()
    }
}

fn request(container: &Container, name: &str) -> Option<Quantity> {
    let resources = container.resources.as_ref()?;
    let map = resources.requests.as_ref()?;
    Quantity::parse(&map.get(name)?.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_resources() {
        let pod = json!({
            "metadata": { "name": "web", "namespace": "ns", "uid": "u",
                "labels": { "b": "2", "a": "x\"y" } },
            "spec": { "serviceAccountName": "sa", "containers": [{ "name": "app", "resources": {
                "limits": { "cpu": "1500m" }, "requests": { "memory": "100Mi" } } }] },
        });
        let pod = Desired::new(serde_json::from_value(pod).unwrap());
        let allocatable = BTreeMap::from([("memory".to_owned(), "1Gi".to_owned())]);
        let ips = ["10.0.0.1".to_owned()];
        let fields = Fields {
            pod: &pod,
            node: "board",
            host_ips: &ips,
            pod_ips: &[],
            allocatable: &allocatable,
        };
        let cases = [
            ("metadata.name", "web"),
            ("metadata.labels", "a=\"x\\\"y\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.annotations['none']", ""),
            ("spec.nodeName", "board"),
            ("spec.serviceAccountName", "sa"),
            ("status.hostIP", "10.0.0.1"),
            ("status.podIP", ""),
        ];
        for (path, want) in cases {
            assert_eq!(fields.field(path).as_deref(), Ok(want), "{path}");
        }
        assert!(fields.field("spec.secrets").is_err());
        let cases = [
            ("limits.cpu", "1", "2"),
            ("limits.cpu", "1m", "1500"),
            ("requests.memory", "1Mi", "100"),
            ("limits.memory", "1Mi", "1024"),
            ("requests.cpu", "0", "0"),
        ];
        for (resource, divisor, want) in cases {
            assert_eq!(fields.resource("app", resource, divisor).as_deref(), Ok(want));
        }
    }
}
