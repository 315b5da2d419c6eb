//! `describe`: reads an object and what belongs to it, and writes the page about it.

use crate::describe::{Subject, page};
use crate::fault::Fault;
use crate::pods::{selected, selector_text};
use crate::resource::Resource;
use crate::session::Session;
use crate::targets::{Files, Selection, Target, Which, in_files, select};
use edge_api::kinds::{self, Kind};
use edge_api::{Object, meta};
use edge_client::Call;
use edge_client::query::Query;
use jiff::Timestamp;

/// Where the leases of nodes are.
const NODE_LEASES: &str = "kube-node-lease";

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Show all about objects, with their events
#[derive(Debug, clap::Args)]
pub(crate) struct Describe {
    /// TYPE [NAME…], or TYPE/NAME…; a name may be the beginning of several
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    which: Which,
    /// Leave the events out
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = clap::ArgAction::Set)]
    show_events: bool,
}

pub(crate) async fn run(args: Describe, session: &mut Session) -> Result<(), Fault> {
    let mut faults = Vec::new();
    let found = objects(&args, session, &mut faults).await?;
    let nothing = found.is_empty() && faults.is_empty();
    for (n, (target, object)) in found.into_iter().enumerate() {
        if n > 0 {
            session.io.print("\n\n")?;
        }
        let subject = subject(&target, object, args.show_events, session).await?;
        let text = page(&subject, Timestamp::now());
        session.io.print(&text)?;
    }
    if nothing {
        match args.which.all_namespaces {
            true => session.io.say("No resources found"),
            false => {
                let namespace = session.namespace()?;
                session.io.say(format!("No resources found in {namespace} namespace."));
            }
        }
    }
    Fault::all(faults)
}

async fn objects(
    args: &Describe,
    session: &mut Session,
    faults: &mut Vec<Fault>,
) -> Result<Vec<(Target, Object)>, Fault> {
    let mut found = Vec::new();
    if !args.files.filename.is_empty() {
        for target in in_files(session, &args.files).await? {
            match target.read(session).await {
                Ok(object) => found.push((target, object)),
                Err(fault) => faults.push(fault),
            }
        }
        return Ok(found);
    }
    for Selection { resource, names } in select(session, &args.words).await? {
        let namespace =
            if args.which.all_namespaces { String::new() } else { session.namespace()? };
        if names.is_empty() {
            let query = args.which.query();
            found.extend(list(session, &resource, &namespace, &query, "").await?);
        }
        for name in names {
            let (resource, namespace) = (resource.clone(), namespace.clone());
            let target = Target { resource, namespace, name, source: None };
            match target.read(session).await {
                Ok(object) => found.push((target, object)),
                Err(fault) if fault.is_not_found() => {
                    let (resource, name) = (&target.resource, &target.name);
                    let query = Query::new();
                    let alike = list(session, resource, &target.namespace, &query, name).await;
                    match alike {
                        Ok(alike) if !alike.is_empty() => found.extend(alike),
                        _ => faults.push(fault),
                    }
                }
                Err(fault) => faults.push(fault),
            }
        }
    }
    Ok(found)
}

/// The objects of a collection whose names begin so.
async fn list(
    session: &mut Session,
    resource: &Resource,
    namespace: &str,
    query: &Query,
    beginning: &str,
) -> Result<Vec<(Target, Object)>, Fault> {
    let path = query.on(&resource.path(namespace, "", None));
    let mut list = session.client()?.call(&Call::get(path)).await?.object;
    let Object::Array(items) = list["items"].take() else { return Ok(Vec::new()) };
    let items = items.into_iter().filter(|item| meta::name(item).starts_with(beginning));
    Ok(items
        .map(|mut item| {
            item["kind"] = Object::from(resource.kind.as_str());
            item["apiVersion"] = Object::from(resource.api_version());
            let target = Target {
                resource: resource.clone(),
                namespace: meta::namespace(&item).to_string(),
                name: meta::name(&item).to_string(),
                source: None,
            };
            (target, item)
        })
        .collect())
}

/// Reads what the page about an object needs besides the object. What cannot be read is left out.
async fn subject(
    target: &Target,
    object: Object,
    with_events: bool,
    session: &mut Session,
) -> Result<Subject, Fault> {
    let mut subject = Subject { object, ..Subject::default() };
    let (namespace, name) = (target.namespace.as_str(), target.name.as_str());
    match target.resource.kind.as_str() {
        "Deployment" => {
            let mut query = Query::new();
            query.add_some("labelSelector", selector_text(&subject.object).as_deref());
            let sets = related(session, kinds::REPLICA_SET, namespace, &query).await;
            subject.replica_sets = owned(sets, &subject.object);
        }
        "ReplicaSet" => {
            if let Some(selector) = selector_text(&subject.object) {
                let pods = selected(session, namespace, &selector).await.unwrap_or_default();
                subject.pods = owned(pods, &subject.object);
            }
        }
        "Service" => {
            let mut query = Query::new();
            query.add("labelSelector", &format!("{SERVICE_NAME}={name}"));
            subject.slices = related(session, kinds::ENDPOINT_SLICE, namespace, &query).await;
        }
        "Node" => {
            let mut query = Query::new();
            query.add("fieldSelector", &format!("spec.nodeName={name}"));
            subject.pods = related(session, kinds::POD, "", &query).await;
            let path = Resource::from(kinds::LEASE).path(NODE_LEASES, name, None);
            if let Ok(answer) = session.client()?.call(&Call::get(path)).await {
                subject.lease = answer.object;
            }
        }
        _ => {}
    }
    let speaks = !matches!(target.resource.kind.as_str(), "Namespace" | "Secret" | "Event");
    if with_events && speaks {
        subject.events = Some(events(session, &subject.object).await);
    }
    Ok(subject)
}

async fn related(
    session: &mut Session,
    kind: &Kind,
    namespace: &str,
    query: &Query,
) -> Vec<Object> {
    let path = query.on(&Resource::from(kind).path(namespace, "", None));
    let Ok(client) = session.client() else { return Vec::new() };
    match client.call(&Call::get(path)).await {
        Ok(mut answer) => match answer.object["items"].take() {
            Object::Array(items) => items,
            _ => Vec::new(),
        },
        Err(_) => Vec::new(),
    }
}

fn owned(objects: Vec<Object>, owner: &Object) -> Vec<Object> {
    let uid = meta::uid(owner);
    let by_it = |object: &Object| meta::controller(object).is_some_and(|o| o.uid == uid);
    objects.into_iter().filter(by_it).collect()
}

async fn events(session: &mut Session, object: &Object) -> Vec<Object> {
    let mut parts = vec![format!("involvedObject.name={}", meta::name(object))];
    let kind = object["kind"].as_str().unwrap_or("");
    parts.push(format!("involvedObject.kind={kind}"));
    // A node's events carry its name where others carry their uid.
    if !meta::uid(object).is_empty() && kind != "Node" {
        parts.push(format!("involvedObject.uid={}", meta::uid(object)));
    }
    let mut query = Query::new();
    query.add("fieldSelector", &parts.join(","));
    let mut found = related(session, kinds::EVENT, meta::namespace(object), &query).await;
    let moment = |event: &Object| {
        let fields = ["lastTimestamp", "eventTime", "firstTimestamp"];
        let found = fields.iter().find_map(|field| event[*field].as_str());
        // Within a second, the store's order is the order of what happened.
        (found.unwrap_or("").to_string(), meta::revision(event))
    };
    found.sort_by_key(moment);
    found
}
