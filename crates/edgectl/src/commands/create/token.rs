//! `create token`: a token of a ServiceAccount, printed alone, for programs that speak to the API
//! from elsewhere.

use crate::fault::Fault;
use crate::output::Format;
use crate::output::age::parse_duration;
use crate::session::Session;
use crate::writing;
use edge_api::kinds;
use edge_client::Call;
use http::Method;
use serde_json::{Value, json};

/// A token of a ServiceAccount
#[derive(Debug, clap::Args)]
pub(super) struct TokenArgs {
    /// The ServiceAccount
    name: String,
    /// For whom it is, instead of the API itself; may be given more than once
    #[arg(long)]
    audience: Vec<String>,
    /// For how long it counts (10m, 8h); the server may shorten it
    #[arg(long)]
    duration: Option<String>,
    /// What it ends with
    #[arg(long, value_parser = ["Pod", "Secret", "Node"], ignore_case = true,
          requires = "bound_object_name")]
    bound_object_kind: Option<String>,
    /// The name of that
    #[arg(long, requires = "bound_object_kind")]
    bound_object_name: Option<String>,
    /// The uid of that
    #[arg(long, requires = "bound_object_kind")]
    bound_object_uid: Option<String>,
    /// json, yaml, jsonpath=TEMPLATE: the whole answer
    #[arg(short, long)]
    output: Option<String>,
}

impl TokenArgs {
    fn request(&self) -> Result<Value, Fault> {
        let mut spec = json!({});
        if !self.audience.is_empty() {
            spec["audiences"] = json!(self.audience);
        }
        if let Some(text) = &self.duration {
            let duration = parse_duration(text).filter(|duration| duration.subsec_nanos() == 0);
            let duration = duration.ok_or_else(|| {
                Fault::text(format!(
                    "invalid --duration {text:?}: give whole seconds, as in 10m or 24h"
                ))
            })?;
            if duration.is_zero() {
                return Err(Fault::text("--duration must be greater than 0"));
            }
            spec["expirationSeconds"] = json!(duration.as_secs());
        }
        if let (Some(kind), Some(name)) = (&self.bound_object_kind, &self.bound_object_name) {
            let kinds = ["Pod", "Secret", "Node"];
            let kind = kinds.into_iter().find(|known| known.eq_ignore_ascii_case(kind));
            spec["boundObjectRef"] = json!({ "apiVersion": "v1", "kind": kind, "name": name });
            if let Some(uid) = &self.bound_object_uid {
                spec["boundObjectRef"]["uid"] = json!(uid);
            }
        }
        Ok(json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": spec,
        }))
    }
}

pub(super) async fn run(args: TokenArgs, session: &mut Session) -> Result<(), Fault> {
    let format = Format::parse(args.output.as_deref())?;
    let request = args.request()?;
    let namespace = session.namespace()?;
    let path = kinds::SERVICE_ACCOUNT.path(&namespace, Some(&args.name), Some("token"));
    let call = Call::new(Method::POST, path).json(&request);
    let answer = writing::send(session, &call)
        .await
        .map_err(|error| Fault::when(error, "failed to create token".to_owned()))?;
    if !format.is_table() {
        return session.io.print(&format.render(&answer.object)?);
    }
    match answer.object["status"]["token"].as_str().filter(|token| !token.is_empty()) {
        Some(token) => session.io.line(token),
        None => Err(Fault::text("failed to create token: no token in server response")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TokenArgs,
    }

    fn request(line: &str) -> Result<Value, String> {
        let words = ["token"].into_iter().chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.args.request().map_err(|fault| fault.to_string())
    }

    #[test]
    fn flags_are_kubectls() {
        let spec = |line: &str| request(line).unwrap()["spec"].clone();
        assert_eq!(spec("robot"), json!({}));
        let line = "robot --duration 1h30m --audience a --audience b --bound-object-kind Pod \
                    --bound-object-name p --bound-object-uid u";
        assert_eq!(
            spec(line),
            json!({
                "audiences": ["a", "b"],
                "expirationSeconds": 5400,
                "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u" },
            })
        );
        assert!(request("robot --duration soon").is_err());
        assert!(request("robot --duration 0s").is_err());
        assert!(request("robot --bound-object-kind Pod").is_err());
        assert!(request("robot --bound-object-kind Cat --bound-object-name p").is_err());
    }
}
