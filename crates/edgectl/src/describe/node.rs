//! The page about a node: what it is, what it has, and who uses it.

use super::paper::Paper;
use super::{Subject, items, or_none, text};
use edge_api::quantity::Quantity;
use edge_api::{Object, meta};

const ROLE: &str = "node-role.kubernetes.io/";

pub(super) fn write(subject: &Subject, paper: &mut Paper) {
    let node = &subject.object;
    let (spec, status) = (&node["spec"], &node["status"]);
    paper.line(0, format!("Name:\t{}", meta::name(node)));
    let roles: Vec<&str> = meta::labels(node)
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix(ROLE))
        .collect();
    let roles = roles.join(",");
    paper.line(0, format!("Roles:\t{}", or_none(&roles)));
    paper.labels(node);
    paper.annotations(&node["metadata"]["annotations"]);
    let created = paper.moment(&node["metadata"]["creationTimestamp"]);
    paper.line(0, format!("CreationTimestamp:\t{created}"));
    taints(spec, paper);
    paper.line(0, format!("Unschedulable:\t{}", spec["unschedulable"] == true));
    lease(&subject.lease, paper);
    conditions(status, paper);
    paper.line(0, "Addresses:");
    for address in items(&status["addresses"]) {
        paper.line(1, format!("{}:\t{}", text(&address["type"]), text(&address["address"])));
    }
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        paper.line(0, format!("{title}:"));
        for (name, amount) in status[field].as_object().into_iter().flatten() {
            paper.line(1, format!("{name}:\t{}", text(amount)));
        }
    }
    system(&status["nodeInfo"], paper);
    let range = text(&spec["podCIDR"]);
    if !range.is_empty() {
        paper.line(0, format!("PodCIDR:\t{range}"));
        let all: Vec<String> = items(&spec["podCIDRs"]).iter().map(text).collect();
        paper.line(0, format!("PodCIDRs:\t{}", all.join(",")));
    }
    pods(&subject.pods, &status["allocatable"], paper);
}

fn taints(spec: &Object, paper: &mut Paper) {
    let mut title = "Taints:";
    for taint in items(&spec["taints"]) {
        let value = text(&taint["value"]);
        let value = if value.is_empty() { value } else { format!("={value}") };
        let line = format!("{}{value}:{}", text(&taint["key"]), text(&taint["effect"]));
        paper.line(0, format!("{title}\t{line}"));
        title = "";
    }
    if !title.is_empty() {
        paper.line(0, "Taints:\t<none>");
    }
}

fn lease(lease: &Object, paper: &mut Paper) {
    if !lease.is_object() {
        return;
    }
    let spec = &lease["spec"];
    let holder = text(&spec["holderIdentity"]);
    paper.line(0, "Lease:");
    paper.line(
        1,
        format!("HolderIdentity:\t{}", if holder.is_empty() { "<unset>" } else { &holder }),
    );
    paper.line(1, format!("AcquireTime:\t{}", paper.moment(&spec["acquireTime"])));
    paper.line(1, format!("RenewTime:\t{}", paper.moment(&spec["renewTime"])));
}

fn conditions(status: &Object, paper: &mut Paper) {
    let all = items(&status["conditions"]);
    if all.is_empty() {
        return;
    }
    paper.line(0, "Conditions:");
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|one| {
            let cells = [
                text(&one["type"]),
                text(&one["status"]),
                paper.moment(&one["lastHeartbeatTime"]),
                paper.moment(&one["lastTransitionTime"]),
                text(&one["reason"]),
            ];
            // `kubectl` ends all cells but the last with a space.
            let mut row: Vec<String> = cells.into_iter().map(|cell| cell + " ").collect();
            row.push(text(&one["message"]));
            row
        })
        .collect();
    let header = ["Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message"];
    paper.table(1, &header, &rows);
}

fn system(info: &Object, paper: &mut Paper) {
    paper.line(0, "System Info:");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
        ("Kube-Proxy Version", "kubeProxyVersion"),
    ] {
        paper.line(1, format!("{title}:\t{}", text(&info[field])));
    }
}

const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// How many of them each pod's line shows.
const SHOWN: usize = 2;

fn pods(pods: &[Object], allocatable: &Object, paper: &mut Paper) {
    let living: Vec<&Object> = pods
        .iter()
        .filter(|pod| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")))
        .collect();
    paper.line(0, format!("Non-terminated Pods:\t({} in total)", living.len()));
    let mut totals = [[0i64; 2]; 3];
    let mut rows = Vec::new();
    for pod in living {
        let mut row = [meta::namespace(pod), meta::name(pod), ""].map(str::to_string).to_vec();
        for (n, resource) in RESOURCES.iter().enumerate() {
            for (m, field) in ["requests", "limits"].iter().enumerate() {
                let amount = sum(pod, field, resource);
                totals[n][m] += amount;
                if n < SHOWN {
                    row.push(share(amount, resource, allocatable));
                }
            }
        }
        row.push(paper.age(&pod["metadata"]["creationTimestamp"]));
        rows.push(row);
    }
    let header = [
        "Namespace",
        "Name",
        "",
        "CPU Requests",
        "CPU Limits",
        "Memory Requests",
        "Memory Limits",
        "Age",
    ];
    paper.table(1, &header, &rows);
    paper.line(0, "Allocated resources:");
    paper.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)");
    let rows: Vec<Vec<String>> = RESOURCES
        .iter()
        .enumerate()
        .map(|(n, resource)| {
            let part = |m: usize| share(totals[n][m], resource, allocatable);
            vec![resource.to_string(), part(0), part(1)]
        })
        .collect();
    paper.table(1, &["Resource", "Requests", "Limits"], &rows);
}

/// What the containers of a pod ask for together, in thousandths.
fn sum(pod: &Object, field: &str, resource: &str) -> i64 {
    let containers = items(&pod["spec"]["containers"]);
    containers.iter().map(|c| Quantity::milli_of(&c["resources"][field][resource])).sum()
}

/// `100m (5%)`.
fn share(milli: i64, resource: &str, allocatable: &Object) -> String {
    let whole = Quantity::milli_of(&allocatable[resource]);
    let percent = if whole > 0 { i128::from(milli) * 100 / i128::from(whole) } else { 0 };
    let amount = match resource {
        "memory" | "ephemeral-storage" => Quantity::from_bytes(milli / 1000).to_string(),
        _ => Quantity::from_milli(milli).to_string(),
    };
    format!("{amount} ({percent}%)")
}
