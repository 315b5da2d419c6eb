//! The part of a page about containers, of a pod or of a template.

use super::paper::Paper;
use super::{items, or_none, text};
use edge_api::Object;

/// Where the containers stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Within a pod template, everything moves to the right by one.
    pub(super) in_template: bool,
}

impl Style {
    /// Before a title.
    pub(super) fn title(self) -> &'static str {
        if self.in_template { "  " } else { "" }
    }

    /// Before a name, in addition to its level.
    pub(super) fn name(self) -> &'static str {
        if self.in_template { " " } else { "" }
    }
}

pub(super) fn containers(
    title: &str,
    list: &Object,
    statuses: &Object,
    style: Style,
    paper: &mut Paper,
) {
    let none = if items(list).is_empty() { " <none>" } else { "" };
    paper.line(0, format!("{}{title}:{none}", style.title()));
    for container in items(list) {
        let status = items(statuses).iter().find(|status| status["name"] == container["name"]);
        paper.line(1, format!("{}{}:", style.name(), text(&container["name"])));
        basics(container, status, paper);
        for (title, field) in [("Command", "command"), ("Args", "args")] {
            let words = items(&container[field]);
            if !words.is_empty() {
                paper.line(2, format!("{title}:"));
                words.iter().for_each(|word| lines(3, &text(word), paper));
            }
        }
        if let Some(status) = status {
            states(status, paper);
        }
        resources(&container["resources"], paper);
        for (title, field) in [
            ("Liveness", "livenessProbe"),
            ("Readiness", "readinessProbe"),
            ("Startup", "startupProbe"),
        ] {
            if container[field].is_object() {
                paper.line(2, format!("{title}:\t{}", probe(&container[field])));
            }
        }
        env_from(container, paper);
        environment(container, paper);
        mounts(container, paper);
    }
}

fn lines(level: usize, text: &str, paper: &mut Paper) {
    for line in text.lines() {
        paper.line(level, line.replace('\t', " "));
    }
}

fn basics(container: &Object, status: Option<&Object>, paper: &mut Paper) {
    if let Some(status) = status {
        paper.line(2, format!("Container ID:\t{}", text(&status["containerID"])));
    }
    paper.line(2, format!("Image:\t{}", text(&container["image"])));
    if let Some(status) = status {
        paper.line(2, format!("Image ID:\t{}", text(&status["imageID"])));
    }
    for (title, field) in [("Port", "containerPort"), ("Host Port", "hostPort")] {
        let ports: Vec<String> = items(&container["ports"])
            .iter()
            .map(|port| {
                let number = port[field].as_i64().unwrap_or(0);
                format!("{number}/{}", port["protocol"].as_str().unwrap_or("TCP"))
            })
            .collect();
        let plural = if ports.len() > 1 { "s" } else { "" };
        let ports = ports.join(", ");
        paper.line(2, format!("{title}{plural}:\t{}", or_none(&ports)));
    }
}

fn states(status: &Object, paper: &mut Paper) {
    state("State", &status["state"], paper);
    if status["lastState"]["terminated"].is_object() {
        state("Last State", &status["lastState"], paper);
    }
    let ready = if status["ready"] == true { "True" } else { "False" };
    paper.line(2, format!("Ready:\t{ready}"));
    paper.line(2, format!("Restart Count:\t{}", status["restartCount"].as_i64().unwrap_or(0)));
}

fn state(title: &str, state: &Object, paper: &mut Paper) {
    let (running, ended) = (&state["running"], &state["terminated"]);
    if running.is_object() {
        paper.line(2, format!("{title}:\tRunning"));
        paper.line(3, format!("Started:\t{}", paper.moment(&running["startedAt"])));
    } else if ended.is_object() {
        paper.line(2, format!("{title}:\tTerminated"));
        for (title, field) in [("Reason", "reason"), ("Message", "message")] {
            let value = text(&ended[field]);
            if !value.is_empty() {
                paper.line(3, format!("{title}:\t{}", value.trim_end().replace('\n', " ")));
            }
        }
        paper.line(3, format!("Exit Code:\t{}", ended["exitCode"].as_i64().unwrap_or(0)));
        if let Some(signal) = ended["signal"].as_i64().filter(|signal| *signal > 0) {
            paper.line(3, format!("Signal:\t{signal}"));
        }
        paper.line(3, format!("Started:\t{}", paper.moment(&ended["startedAt"])));
        paper.line(3, format!("Finished:\t{}", paper.moment(&ended["finishedAt"])));
    } else {
        paper.line(2, format!("{title}:\tWaiting"));
        let reason = text(&state["waiting"]["reason"]);
        if !reason.is_empty() {
            paper.line(3, format!("Reason:\t{reason}"));
        }
    }
}

fn resources(resources: &Object, paper: &mut Paper) {
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        if let Some(map) = resources[field].as_object().filter(|map| !map.is_empty()) {
            paper.line(2, format!("{title}:"));
            for (name, amount) in map {
                paper.line(3, format!("{name}:\t{}", text(amount)));
            }
        }
    }
}

/// `http-get http://:80/ delay=0s timeout=1s period=10s #success=1 #failure=3`.
fn probe(probe: &Object) -> String {
    let number = |field: &str, default: i64| probe[field].as_i64().unwrap_or(default);
    let times = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds", 0),
        number("timeoutSeconds", 1),
        number("periodSeconds", 10),
        number("successThreshold", 1),
        number("failureThreshold", 3),
    );
    let (get, socket) = (&probe["httpGet"], &probe["tcpSocket"]);
    let what = if probe["exec"].is_object() {
        let words: Vec<String> = items(&probe["exec"]["command"]).iter().map(text).collect();
        format!("exec [{}]", words.join(" "))
    } else if get.is_object() {
        let scheme = get["scheme"].as_str().unwrap_or("HTTP").to_ascii_lowercase();
        let path = text(&get["path"]);
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("http-get {scheme}://{}:{}{slash}{path}", text(&get["host"]), text(&get["port"]))
    } else if socket.is_object() {
        format!("tcp-socket {}:{}", text(&socket["host"]), text(&socket["port"]))
    } else if probe["grpc"].is_object() {
        format!("grpc <pod>:{} {}", text(&probe["grpc"]["port"]), text(&probe["grpc"]["service"]))
    } else {
        "unknown".to_string()
    };
    format!("{what} {times}")
}

fn env_from(container: &Object, paper: &mut Paper) {
    let sources = items(&container["envFrom"]);
    if sources.is_empty() {
        return;
    }
    paper.line(2, "Environment Variables from:");
    for source in sources {
        let (kind, from) = match source["configMapRef"].is_object() {
            true => ("ConfigMap", &source["configMapRef"]),
            false => ("Secret", &source["secretRef"]),
        };
        let prefix = text(&source["prefix"]);
        let prefix =
            if prefix.is_empty() { String::new() } else { format!(" with prefix '{prefix}'") };
        let optional = from["optional"] == true;
        let name = text(&from["name"]);
        paper.line(3, format!("{name}\t{kind}{prefix}\tOptional: {optional}"));
    }
}

fn environment(container: &Object, paper: &mut Paper) {
    let all = items(&container["env"]);
    let none = if all.is_empty() { "\t<none>" } else { "" };
    paper.line(2, format!("Environment:{none}"));
    for one in all {
        let (name, from) = (text(&one["name"]), &one["valueFrom"]);
        let (secret, map) = (&from["secretKeyRef"], &from["configMapKeyRef"]);
        let line = if secret.is_object() {
            format!(
                "<set to the key '{}' in secret '{}'>\tOptional: {}",
                text(&secret["key"]),
                text(&secret["name"]),
                secret["optional"] == true
            )
        } else if map.is_object() {
            format!(
                "<set to the key '{}' of config map '{}'>\tOptional: {}",
                text(&map["key"]),
                text(&map["name"]),
                map["optional"] == true
            )
        } else if from["fieldRef"].is_object() {
            let version = from["fieldRef"]["apiVersion"].as_str().unwrap_or("v1");
            format!(" ({version}:{})", text(&from["fieldRef"]["fieldPath"]))
        } else if from["resourceFieldRef"].is_object() {
            format!(" ({})", text(&from["resourceFieldRef"]["resource"]))
        } else {
            let value = text(&one["value"]);
            let mut parts = value.lines();
            paper.line(3, format!("{name}:\t{}", parts.next().unwrap_or("")));
            parts.for_each(|part| paper.line(3, format!("\t{part}")));
            continue;
        };
        paper.line(3, format!("{name}:\t{line}"));
    }
}

fn mounts(container: &Object, paper: &mut Paper) {
    let all = items(&container["volumeMounts"]);
    let none = if all.is_empty() { "\t<none>" } else { "" };
    paper.line(2, format!("Mounts:{none}"));
    for mount in all {
        let mut flags = if mount["readOnly"] == true { "ro" } else { "rw" }.to_string();
        let sub = text(&mount["subPath"]);
        if !sub.is_empty() {
            flags.push_str(&format!(",path={sub:?}"));
        }
        let (path, name) = (text(&mount["mountPath"]), text(&mount["name"]));
        paper.line(3, format!("{path} from {name} ({flags})"));
    }
}
