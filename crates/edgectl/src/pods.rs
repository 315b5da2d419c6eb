//! From what a person names to the pods behind it: a pod itself, or those of a Deployment,
//! ReplicaSet or Service.

use crate::fault::Fault;
use crate::resource::{self, Resource};
use crate::session::Session;
use edge_api::{Object, kinds, meta};
use edge_client::Call;
use edge_client::query::Query;

/// What a command like `logs` was pointed at.
pub(crate) struct Pods {
    /// The namespace they are in.
    pub(crate) namespace: String,
    /// The pods, the most useful first.
    pub(crate) pods: Vec<Object>,
    /// Whether they stand for something else that was named.
    pub(crate) indirect: bool,
}

/// The pods behind `web-1`, `pod/web-1` or `deployment/web`.
pub(crate) async fn named(session: &mut Session, word: &str) -> Result<Pods, Fault> {
    let namespace = session.namespace()?;
    let client = session.client()?;
    let (kind, name) = match word.split_once('/') {
        Some((kind, name)) => (resource::by_name(&client, kind).await?, name),
        None => (Resource::from(kinds::POD), word),
    };
    let path = kind.path(&namespace, name, None);
    let object = client.call(&Call::get(path)).await?.object;
    if kind.plural == "pods" && kind.group.is_empty() {
        return Ok(Pods { namespace, pods: vec![object], indirect: false });
    }
    let selector = selector_text(&object).ok_or_else(|| {
        Fault::text(format!("{}/{name} does not select pods", kind.singular_name()))
    })?;
    let pods = selected(session, &namespace, &selector).await?;
    if pods.is_empty() {
        return Err(Fault::text(format!(
            "no pods found for {}/{name} in namespace {namespace:?}",
            kind.singular_name()
        )));
    }
    Ok(Pods { namespace, pods, indirect: true })
}

/// The pods that a label selector matches, those that are ready and running first.
pub(crate) async fn selected(
    session: &mut Session,
    namespace: &str,
    selector: &str,
) -> Result<Vec<Object>, Fault> {
    let mut query = Query::new();
    query.add("labelSelector", selector);
    let path = query.on(&Resource::from(kinds::POD).path(namespace, "", None));
    let mut list = session.client()?.call(&Call::get(path)).await?.object;
    let Object::Array(mut pods) = list["items"].take() else { return Ok(Vec::new()) };
    pods.sort_by_key(|pod| {
        let phase = match pod["status"]["phase"].as_str() {
            Some("Running") => 0,
            Some("Pending") => 1,
            _ => 2,
        };
        (!is_ready(pod), phase, std::cmp::Reverse(meta::creation_timestamp(pod).to_string()))
    });
    Ok(pods)
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// `spec.selector` as text: a map, or a label selector.
pub(crate) fn selector_text(object: &Object) -> Option<String> {
    let selector = object["spec"]["selector"].as_object()?;
    let structured = ["matchLabels", "matchExpressions"].iter().any(|k| selector.contains_key(*k));
    let labels = match structured {
        true => selector.get("matchLabels").and_then(Object::as_object),
        false => Some(selector),
    };
    let mut parts: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    let expressions = selector.get("matchExpressions").and_then(Object::as_array);
    for expression in expressions.into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or("");
        let values = expression["values"].as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Object::as_str).collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str().unwrap_or("") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_string(),
            _ => format!("!{key}"),
        });
    }
    if parts.is_empty() { None } else { Some(parts.join(",")) }
}

/// The names of a pod's containers: those that initialise it, then the others.
pub(crate) fn containers(pod: &Object, with_init: bool) -> Vec<String> {
    let fields: &[&str] =
        if with_init { &["initContainers", "containers"] } else { &["containers"] };
    let each = fields.iter().flat_map(|field| pod["spec"][*field].as_array().into_iter().flatten());
    each.filter_map(|container| container["name"].as_str().map(str::to_string)).collect()
}

/// The container to talk to when none was named; says which one it took, if there are several.
pub(crate) fn default_container(pod: &Object, session: &mut Session) -> Option<String> {
    const ANNOTATION: &str = "kubectl.kubernetes.io/default-container";
    let names = containers(pod, false);
    let wanted = meta::annotation(pod, ANNOTATION).filter(|name| names.iter().any(|n| n == name));
    let chosen = wanted.map(str::to_string).or(names.first().cloned())?;
    if names.len() > 1 && wanted.is_none() {
        let all = containers(pod, false)
            .into_iter()
            .chain(
                pod["spec"]["initContainers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|c| c["name"].as_str().map(|name| format!("{name} (init)"))),
            )
            .collect::<Vec<_>>();
        session.io.say(format!("Defaulted container {chosen:?} out of: {}", all.join(", ")));
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_as_text() {
        let text = |selector| selector_text(&json!({"spec": {"selector": selector}}));
        assert_eq!(text(json!({"app": "web", "tier": "f"})).unwrap(), "app=web,tier=f");
        let both = json!({"matchLabels": {"app": "web"},
                          "matchExpressions": [
                              {"key": "t", "operator": "In", "values": ["a", "b"]},
                              {"key": "u", "operator": "Exists"},
                              {"key": "v", "operator": "DoesNotExist"}]});
        assert_eq!(text(both).unwrap(), "app=web,t in (a,b),u,!v");
        assert_eq!(text(json!({})), None);
        assert_eq!(text(json!(null)), None);
    }
}
