//! Ingresses from a few words: `--rule=HOST/PATH=SERVICE:PORT[,tls[=SECRET]]`, as kubectl has it.

use crate::fault::Fault;
use crate::writing::Writing;
use edge_api::Object;
use serde_json::{Map, Value, json};

/// Where HTTP requests go
#[derive(Debug, clap::Args)]
pub(super) struct Ingress {
    /// Its name
    name: String,
    /// The class; the cluster's default one when left out
    #[arg(long)]
    class: Option<String>,
    /// HOST/PATH=SERVICE:PORT[,tls[=SECRET]]; a path that ends in * is a prefix; may be given
    /// several times
    #[arg(long, value_name = "RULE")]
    rule: Vec<String>,
    /// Where all else goes
    #[arg(long, value_name = "SERVICE:PORT")]
    default_backend: Option<String>,
    /// An annotation; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    #[command(flatten)]
    pub(super) writing: Writing,
}

/// A `--rule`.
#[derive(Debug, PartialEq, Eq)]
struct Rule<'a> {
    host: &'a str,
    path: &'a str,
    backend: (&'a str, &'a str),
    /// The Secret, if there is TLS; empty where it has none of its own.
    tls: Option<&'a str>,
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

impl<'a> Rule<'a> {
    fn parse(text: &'a str) -> Option<Rule<'a>> {
        let slash = text.find('/')?;
        let (host, rest) = text.split_at(slash);
        let (path, rest) = rest.split_once('=')?;
        let (backend, tls) = match rest.split_once(',') {
            Some((backend, tls)) => (backend, Some(tls)),
            None => (rest, None),
        };
        let backend = backend.split_once(':')?;
        let tls = match tls {
            None => None,
            Some(tls) => {
                let rest = tls.strip_prefix("tls")?;
                let secret = rest.strip_prefix('=').unwrap_or(rest);
                if !is_word(secret) {
                    return None;
                }
                Some(rest.strip_prefix('=').unwrap_or_default())
            }
        };
        let hosts = |c: char| c.is_ascii_alphanumeric() || "_-.*".contains(c);
        let named = |word: &str| !word.is_empty() && is_word(word);
        let good = host.chars().all(hosts) && !path.contains([',', '\n']);
        (good && named(backend.0) && named(backend.1)).then_some(Rule { host, path, backend, tls })
    }

    fn http_path(&self) -> Value {
        let (path, kind) = match self.path.strip_suffix('*') {
            Some(prefix) => (prefix, "Prefix"),
            None => (self.path, "Exact"),
        };
        json!({"path": path, "pathType": kind, "backend": service(self.backend)})
    }
}

fn service((name, port): (&str, &str)) -> Value {
    let port = match port.parse::<i32>() {
        Ok(number) => json!({"number": number}),
        Err(_) => json!({"name": port}),
    };
    json!({"service": {"name": name, "port": port}})
}

impl Ingress {
    pub(super) fn object(&self) -> Result<Object, Fault> {
        let default = self.default_backend.as_deref().filter(|text| !text.is_empty());
        if default.is_none() && self.rule.is_empty() {
            return Err(Fault::text(
                "not enough information provided: every ingress has to either specify a \
                 default-backend (which catches all traffic) or a list of rules (which catch \
                 specific paths)",
            ));
        }
        let mut rules = Vec::new();
        for text in &self.rule {
            rules.push(Rule::parse(text).ok_or_else(|| {
                Fault::text(format!(
                    "rule {text} is invalid and should be in format \
                     host/path=svcname:svcport[,tls[=secret]]"
                ))
            })?);
        }
        let mut metadata = json!({"name": self.name});
        let annotations = self.annotations()?;
        if !annotations.is_empty() {
            metadata["annotations"] = Value::Object(annotations);
        }
        let mut spec = Map::new();
        if let Some(class) = self.class.as_ref().filter(|class| !class.is_empty()) {
            spec.insert("ingressClassName".to_owned(), json!(class));
        }
        if let Some(text) = default {
            let backend = text.split_once(':').filter(|(_, port)| !port.contains(':'));
            let wrong =
                || Fault::text("default-backend should be in format servicename:serviceport");
            spec.insert("defaultBackend".to_owned(), service(backend.ok_or_else(wrong)?));
        }
        for (field, list) in [("rules", by_host(&rules)), ("tls", by_secret(&rules))] {
            if !list.is_empty() {
                spec.insert(field.to_owned(), json!(list));
            }
        }
        Ok(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                  "metadata": metadata, "spec": spec}))
    }

    fn annotations(&self) -> Result<Map<String, Value>, Fault> {
        let one = |text: &String| match text.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), json!(value))),
            None => Err(Fault::text(format!(
                "annotation {text} is invalid and should be in format key=[value]"
            ))),
        };
        self.annotation.iter().map(one).collect()
    }
}

/// The paths of each host.
fn by_host(rules: &[Rule<'_>]) -> Vec<Value> {
    let mut hosts: Vec<(&str, Vec<Value>)> = Vec::new();
    for rule in rules {
        match hosts.iter_mut().find(|(host, _)| *host == rule.host) {
            Some((_, paths)) => paths.push(rule.http_path()),
            None => hosts.push((rule.host, vec![rule.http_path()])),
        }
    }
    let one = |(host, paths): (&str, Vec<Value>)| {
        let mut rule = json!({"http": {"paths": paths}});
        if !host.is_empty() {
            rule["host"] = json!(host);
        }
        rule
    };
    hosts.into_iter().map(one).collect()
}

/// The hosts of each Secret; each host once.
fn by_secret(rules: &[Rule<'_>]) -> Vec<Value> {
    let mut secrets: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    for rule in rules {
        let Some(secret) = rule.tls.filter(|_| !known.contains(&rule.host)) else { continue };
        known.push(rule.host);
        let host = Some(rule.host).filter(|host| !host.is_empty());
        match secrets.iter_mut().find(|(name, _)| *name == secret) {
            Some((_, hosts)) => hosts.extend(host),
            None if secret.is_empty() && host.is_none() => {}
            None => secrets.push((secret, host.into_iter().collect())),
        }
    }
    let one = |(secret, hosts): (&str, Vec<&str>)| {
        let mut tls = Map::new();
        if !hosts.is_empty() {
            tls.insert("hosts".to_owned(), json!(hosts));
        }
        if !secret.is_empty() {
            tls.insert("secretName".to_owned(), json!(secret));
        }
        Value::Object(tls)
    };
    secrets.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        ingress: Ingress,
    }

    fn made(line: &str) -> Result<Object, String> {
        let line = Line::parse_from(line.split(' '));
        line.ingress.object().map_err(|fault| fault.to_string().replacen("error: ", "", 1))
    }

    #[test]
    fn rules_with_hosts_paths_and_certificates() {
        let object = made(
            "x web --class=edged --rule=a.b/=web:80,tls=cert --rule=a.b/api*=api:http \
             --rule=*.c/x=web:80,tls=cert --rule=/*=all:1,tls --annotation=k=v=w",
        );
        assert_eq!(
            object.unwrap(),
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"name": "web", "annotations": {"k": "v=w"}},
                "spec": {
                    "ingressClassName": "edged",
                    "rules": [
                        {"host": "a.b", "http": {"paths": [
                            {"path": "/", "pathType": "Exact", "backend":
                                {"service": {"name": "web", "port": {"number": 80}}}},
                            {"path": "/api", "pathType": "Prefix", "backend":
                                {"service": {"name": "api", "port": {"name": "http"}}}},
                        ]}},
                        {"host": "*.c", "http": {"paths": [
                            {"path": "/x", "pathType": "Exact", "backend":
                                {"service": {"name": "web", "port": {"number": 80}}}},
                        ]}},
                        {"http": {"paths": [
                            {"path": "/", "pathType": "Prefix", "backend":
                                {"service": {"name": "all", "port": {"number": 1}}}},
                        ]}},
                    ],
                    "tls": [{"hosts": ["a.b", "*.c"], "secretName": "cert"}],
                },
            })
        );
        let spec = &made("x web --default-backend=web:http").unwrap()["spec"];
        let web = json!({"service": {"name": "web", "port": {"name": "http"}}});
        assert_eq!(spec, &json!({"defaultBackend": web}));
    }

    #[test]
    fn what_is_wrong_is_said_as_kubectl_says_it() {
        for rule in
            ["a.b=web:80", "a.b/=web", "a.b/=web:", "a/=b:1,ssl", "a/=b:1,tls=x.y", "a b/=c:1"]
        {
            let ingress = Ingress {
                name: "x".into(),
                class: None,
                rule: vec![rule.to_owned()],
                default_backend: None,
                annotation: Vec::new(),
                writing: Writing::default(),
            };
            let said = ingress.object().unwrap_err().to_string();
            assert!(
                said.starts_with(&format!("error: rule {rule} is invalid and should be in")),
                "{said}"
            );
        }
        assert!(made("x web").unwrap_err().starts_with("not enough information provided"));
        let said = made("x web --default-backend=web").unwrap_err();
        assert_eq!(said, "default-backend should be in format servicename:serviceport");
        let said = made("x web --rule=/=a:1 --annotation=k").unwrap_err();
        assert_eq!(said, "annotation k is invalid and should be in format key=[value]");
    }
}
