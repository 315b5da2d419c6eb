//! `edged doctor`: says what is wrong with this board and what to do about it, and with `--fix`
//! sets right what it can. What is looked at and how it is judged is in `edge-node` and
//! `edge-core`; here it is asked for and shown.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use edge_core::doctor::{Finding, Fix, Severity, judge};
use edge_core::podnet::Range;
use edge_node::doctor::{Place, Wanted, gather, keep_awake, repair};
use serde_json::{Value, json};

use crate::config::{Config, Settings};
use crate::identity;
use crate::install::UNITS;
use crate::systemd::Systemd;

/// Exit status when there are errors left.
const ERRORS: i32 = 1;
/// Exit status for a setting that is wrong.
const USAGE: i32 = 64;
/// The cluster's DNS server is the tenth address of Services.
const DNS: u32 = 10;
const DNS_PORT: u16 = 53;
/// What an Ingress is answered on.
const WEB: [u16; 2] = [80, 443];
/// How long after its start edged looks at its board: the pods come first, and the clock may hear
/// the time until then.
const START: Duration = Duration::from_secs(12);
/// What other parts tell already while an agent runs: the runtime, the pods' network, the kubelet,
/// Ingresses.
const TOLD: [&str; 5] =
    ["memory-cgroup", "firewall-forward", "disk-space", "default-route", "ingress-ports"];
/// What matters to pods alone, beside modules: a server without an agent has none.
const OF_PODS: [&str; 8] = [
    "memory-cgroup",
    "cgroup-controllers",
    "firewall-forward",
    "firewall-legacy",
    "networks",
    "ip-forward",
    "inotify",
    "ingress-ports",
];
/// Columns for a check's name.
const NAMES: usize = 19;

/// How findings are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What was typed after `edged doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    settings: Box<Settings>,
    /// Set right what can be; each finding says what that is
    #[arg(long)]
    fix: bool,
    /// How to show what was found
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// Read the board's files beneath this directory: for tests
    #[arg(long, hide = true, default_value = "/")]
    root: PathBuf,
}

/// A repair, and how it ended.
struct Repair {
    id: &'static str,
    outcome: Result<String, String>,
}

/// Looks, repairs if it was asked to, shows; gives the exit status.
pub(crate) fn run(doctor: &Doctor) -> i32 {
    let place = match place(&doctor.settings, &doctor.root) {
        Ok(place) => place,
        Err(error) => {
            eprintln!("edged: {error}");
            return USAGE;
        }
    };
    let mut findings = judge(&gather(&place));
    let mut repairs = Vec::new();
    if doctor.fix {
        for finding in findings.iter().filter(|finding| finding.is_bad()) {
            let Some(fix) = &finding.fix else { continue };
            let outcome = repair(&place.root, fix).map_err(|error| error.to_string());
            let outcome = match fix {
                Fix::Units(_) => outcome.and_then(|words| reread(&place.root).map(|()| words)),
                _ => outcome,
            };
            repairs.push(Repair { id: finding.id, outcome });
        }
        if !repairs.is_empty() {
            findings = judge(&gather(&place));
        }
    }
    let shown = match doctor.output {
        Output::Json => format!("{:#}\n", as_json(&findings, &repairs)),
        Output::Text => as_text(&findings, &repairs, std::io::stdout().is_terminal()),
    };
    // A reader that has gone away is no reason to fail.
    let _ = std::io::stdout().write_all(shown.as_bytes());
    let failed = repairs.iter().any(|repair| repair.outcome.is_err());
    let wrong = findings.iter().any(|finding| finding.severity == Severity::Error);
    if wrong || failed { ERRORS } else { 0 }
}

/// Has systemd read its units anew.
fn reread(root: &Path) -> Result<(), String> {
    if root != Path::new("/") {
        return Ok(());
    }
    Systemd::reach()?.map_or(Ok(()), |mut manager| manager.call("Reload", &[]))
}

/// Looks at all of the board once, soon after edged has started there, and says in the log what is
/// wrong: each in one line. What the agent sees later is on its Node.
pub(crate) async fn once(place: Place, with_agent: bool) {
    tokio::time::sleep(START).await;
    let look = move || {
        let now_ms = edge_server::clock::read().wall_ms;
        let facts = gather(&Place { now_ms, runs: true, ..place });
        if !with_agent {
            keep_awake(Path::new("/"), &facts).iter().for_each(|line| tracing::info!("{line}"));
        }
        judge(&facts)
    };
    let Ok(findings) = tokio::task::spawn_blocking(look).await else { return };
    for finding in findings.iter().filter(|it| it.is_bad() && is_news(it.id, with_agent)) {
        tracing::warn!("{}: {}; {}", finding.what, finding.why, finding.todo);
    }
}

/// Whether it is for [`once`] to say.
fn is_news(id: &str, with_agent: bool) -> bool {
    match with_agent {
        true => !TOLD.contains(&id),
        false => !OF_PODS.contains(&id) && !id.starts_with("module-"),
    }
}

/// What to look at. A hostname that can't be a Node's is for the doctor to find.
fn place(settings: &Settings, root: &Path) -> Result<Place, String> {
    let config = Config::settle(settings).or_else(|error| {
        let settings = Settings { name: Some("board".to_owned()), ..settings.clone() };
        let unnamed = |config| Config { named: false, ..config };
        Config::settle(&settings).map(unnamed).map_err(|_| error.to_string())
    })?;
    Ok(of(&config, root))
}

/// The place that a configuration is for.
pub(crate) fn of(config: &Config, root: &Path) -> Place {
    let data_dir = config.data_dir.clone();
    let named = config.named
        || identity::remembered(&data_dir).is_some()
        || data_dir.join("cluster.json").exists();
    let range = |name, text: &str| Some((name, Range::parse(text)?));
    let ranges = [
        range("cluster-cidr", &config.ranges.cluster_cidr),
        range("service-cidr", &config.ranges.service_cidr),
    ];
    let ranges: Vec<_> = ranges.into_iter().flatten().collect();
    let now_ms = edge_server::clock::read().wall_ms;
    let (root, run_dir) = (root.to_owned(), config.run_dir.clone());
    let (ports, units) = (ports(config, &ranges), &UNITS);
    Place { root, data_dir, run_dir, named, ports, ranges, units, now_ms, runs: false }
}

fn ports(config: &Config, ranges: &[(&'static str, Range)]) -> Vec<Wanted> {
    let tcp = |address: &SocketAddr, purpose| {
        let IpAddr::V4(ip) = address.ip() else { return None };
        Some(Wanted { port: address.port(), udp: false, address: ip, purpose })
    };
    let broker = config.brokers.is_empty().then_some(&config.broker_listen);
    let mut wanted: Vec<Wanted> = [
        tcp(&config.listen, "the API"),
        broker.and_then(|address| tcp(address, "the bus")),
        tcp(&config.agent_listen, "the agent"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let everywhere =
        |port, udp, purpose| Wanted { port, udp, address: Ipv4Addr::UNSPECIFIED, purpose };
    wanted.push(everywhere(config.wireguard_port, true, "tunnels"));
    wanted.extend(WEB.map(|port| everywhere(port, false, "Ingress")));
    let services = ranges.iter().find(|(name, _)| *name == "service-cidr");
    if let Some((_, services)) = services {
        let address = Ipv4Addr::from(u32::from(services.base()) + DNS);
        let purpose = "names for pods";
        wanted.extend([true, false].map(|udp| Wanted { port: DNS_PORT, udp, address, purpose }));
    }
    wanted
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

/// Fields that stay: see `docs/doctor.md`.
fn as_json(findings: &[Finding], repairs: &[Repair]) -> Value {
    let shown: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "id": finding.id,
                "severity": finding.severity.as_str(),
                "what": finding.what,
                "why": finding.why,
                "todo": finding.todo,
                "fix": finding.fix.as_ref().map(|fix| fix.words()),
            })
        })
        .collect();
    let repaired: Vec<Value> = repairs
        .iter()
        .map(|repair| {
            let (done, words) = match &repair.outcome {
                Ok(words) => (true, words),
                Err(words) => (false, words),
            };
            json!({ "id": repair.id, "done": done, "words": words })
        })
        .collect();
    json!({
        "findings": shown,
        "repairs": repaired,
        "errors": count(findings, Severity::Error),
        "warnings": count(findings, Severity::Warning),
    })
}

fn as_text(findings: &[Finding], repairs: &[Repair], colour: bool) -> String {
    let mut out = String::new();
    let mut line = |mark: &str, shade: u8, id: &str, words: &str| {
        let mark = match colour {
            true => format!("\x1b[{shade}m{mark:<8}\x1b[0m"),
            false => format!("{mark:<8}"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(out, "{mark} {id:<NAMES$} {words}");
    };
    for repair in repairs {
        match &repair.outcome {
            Ok(words) => line("fixed", 32, repair.id, words),
            Err(words) => line("failed", 31, repair.id, words),
        }
    }
    for finding in findings {
        let (mark, shade) = match finding.severity {
            Severity::Ok => ("ok", 32),
            Severity::Unknown => ("unseen", 36),
            Severity::Warning => ("warning", 33),
            Severity::Error => ("error", 31),
        };
        let words = match finding.why {
            "" => finding.what.clone(),
            why => format!("{}: {why}", finding.what),
        };
        line(mark, shade, finding.id, &words);
        if !finding.todo.is_empty() {
            line("", 0, "", &format!("to do: {}", finding.todo));
        }
        if let Some(fix) = &finding.fix {
            line("", 0, "", &format!("edged doctor --fix: {}", fix.words()));
        }
    }
    let (errors, warnings) = (count(findings, Severity::Error), count(findings, Severity::Warning));
    let _ = match (errors, warnings) {
        (0, 0) => writeln!(out, "nothing is wrong"),
        _ => writeln!(out, "errors: {errors}, warnings: {warnings}"),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_core::doctor::{Facts, Swap};

    fn findings() -> Vec<Finding> {
        let swap = Swap { path: "/var/swap".into(), flash: true, bytes: 100 << 20 };
        judge(&Facts { swaps: vec![swap], ..Facts::default() })
    }

    #[test]
    fn what_others_say_and_what_is_of_no_use_is_not_said_again() {
        assert!(is_news("clock", true) && is_news("clock", false));
        assert!(is_news("module-overlay", true) && !is_news("module-overlay", false));
        assert!(!is_news("disk-space", true) && is_news("disk-space", false), "no kubelet says it");
    }

    #[test]
    fn text_is_plain_and_json_has_the_fields_that_stay() {
        let repairs = [Repair { id: "hostname", outcome: Err("no".into()) }];
        let text = as_text(&findings(), &repairs, false);
        assert!(
            text.starts_with("failed   hostname            no\nwarning  swap-on-flash"),
            "{text}"
        );
        assert!(
            text.contains("to do: take the swap away") && text.contains("--fix: stop swapping")
        );
        assert!(text.ends_with("errors: 0, warnings: 1\n") && !text.contains('\x1b'));
        assert!(as_text(&findings(), &[], true).contains("\x1b[33mwarning"));
        let value = as_json(&findings(), &repairs);
        let first = &value["findings"][0];
        assert_eq!(
            (&first["id"], &first["severity"]),
            (&json!("swap-on-flash"), &json!("warning"))
        );
        assert_eq!(first["fix"], json!(Fix::SwapOff("/var/swap".into()).words()));
        assert_eq!(value["repairs"][0], json!({"id": "hostname", "done": false, "words": "no"}));
        assert_eq!((&value["errors"], &value["warnings"]), (&json!(0), &json!(1)));
        assert_eq!(value["findings"][1]["fix"], Value::Null);
    }
}
