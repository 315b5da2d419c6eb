//! Which objects a command is about: `TYPE NAME…`, `TYPE/NAME…`, `TYPE,TYPE`, `-f`, `-l`, `--all`.

use crate::fault::Fault;
use crate::input::manifest;
use crate::resource::{self, Resource};
use crate::session::Session;
use edge_api::Object;
use edge_client::Call;
use edge_client::query::Query;

/// A kind, and the names asked for; none means the whole collection.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) resource: Resource,
    pub(crate) names: Vec<String>,
}

/// One object.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The file that names it, if one does.
    pub(crate) source: Option<String>,
}

impl Target {
    /// Its path, or that of a subresource.
    pub(crate) fn path(&self, sub: Option<&str>) -> String {
        self.resource.path(&self.namespace, &self.name, sub)
    }

    /// `deployment.apps/web`.
    pub(crate) fn reference(&self) -> String {
        format!("{}/{}", self.resource.singular_name(), self.name)
    }

    /// Reads it.
    pub(crate) async fn read(&self, session: &mut Session) -> Result<Object, Fault> {
        Ok(session.client()?.call(&Call::get(self.path(None))).await?.object)
    }
}

/// Which of a collection.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Which {
    /// Only objects with these labels (`app=web`, `tier!=db`, `env in (a,b)`)
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
    /// Only objects with these fields (`status.phase=Running`)
    #[arg(long)]
    pub(crate) field_selector: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
}

impl Which {
    /// Whether it narrows a collection down.
    pub(crate) fn selects(&self) -> bool {
        self.selector.is_some() || self.field_selector.is_some()
    }

    /// The query that asks for it.
    pub(crate) fn query(&self) -> Query {
        let mut query = Query::new();
        query.add_some("labelSelector", self.selector.as_deref());
        query.add_some("fieldSelector", self.field_selector.as_deref());
        query
    }
}

/// Where objects are described in files.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Files {
    /// A file or a directory that holds the objects, or `-` for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) filename: Vec<String>,
    /// Look into the directories below, too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

/// Reads the words after a command: `deploy,rs`, `pod a b`, `pod/a svc/b`.
pub(crate) async fn select(
    session: &mut Session,
    words: &[String],
) -> Result<Vec<Selection>, Fault> {
    let Some(first) = words.first() else {
        return Err(Fault::text(
            "You must specify the type of resource, as in `pods`, `deployment/web` or `all`. \
             See `edgectl api-resources` for what there is",
        ));
    };
    let client = session.client()?;
    let mut found: Vec<Selection> = Vec::new();
    if words.iter().any(|word| word.contains('/')) {
        for word in words {
            let parts = word.split_once('/').filter(|(t, n)| !t.is_empty() && !n.is_empty());
            let Some((kind, name)) = parts.filter(|(_, name)| !name.contains('/')) else {
                return Err(Fault::text(format!(
                    "{word:?} is not in the form TYPE/NAME; either all words are \
                     (`pod/a service/b`) or none is (`pods a b`)"
                )));
            };
            for kind in kind.split(',') {
                let resource = resource::by_name(&client, kind).await?;
                found.push(Selection { resource, names: vec![name.to_string()] });
            }
        }
        return Ok(found);
    }
    let names = &words[1..];
    for kind in first.split(',').filter(|kind| !kind.is_empty()) {
        let several = resource::category(kind);
        if !several.is_empty() {
            if let Some(name) = names.first() {
                return Err(Fault::text(format!(
                    "{kind:?} stands for several types, so {name:?} needs one: TYPE/{name}"
                )));
            }
            found.extend(several.into_iter().map(|resource| Selection { resource, names: vec![] }));
            continue;
        }
        let resource = resource::by_name(&client, kind).await?;
        found.push(Selection { resource, names: names.to_vec() });
    }
    Ok(found)
}

/// The objects that files name.
pub(crate) async fn in_files(session: &mut Session, files: &Files) -> Result<Vec<Target>, Fault> {
    let manifests = manifest::read(&files.filename, files.recursive, &mut session.io)?;
    let client = session.client()?;
    let mut found = Vec::new();
    for manifest in manifests {
        let resource = resource::of_object(&client, &manifest.object).await?;
        let namespace = namespace_for(session, &resource, &manifest.object)?;
        let name = manifest.object["metadata"]["name"].as_str().unwrap_or("").to_string();
        found.push(Target { resource, namespace, name, source: Some(manifest.source) });
    }
    Ok(found)
}

/// The namespace of an object in a file: its own, unless another one was typed.
pub(crate) fn namespace_for(
    session: &mut Session,
    resource: &Resource,
    object: &Object,
) -> Result<String, Fault> {
    if !resource.namespaced {
        return Ok(String::new());
    }
    let own = object["metadata"]["namespace"].as_str().unwrap_or("");
    match session.typed_namespace() {
        Some(typed) if !own.is_empty() && own != typed => Err(Fault::text(format!(
            "the namespace from the provided object {own:?} does not match the namespace \
             {typed:?}. You must pass '--namespace={own}' to perform this operation."
        ))),
        _ if !own.is_empty() => Ok(own.to_string()),
        _ => session.namespace(),
    }
}

/// Every object that words, files and selectors name; collections are listed.
pub(crate) async fn expand(
    session: &mut Session,
    words: &[String],
    files: &Files,
    which: &Which,
    all: bool,
) -> Result<Vec<Target>, Fault> {
    if !files.filename.is_empty() {
        if !words.is_empty() {
            return Err(Fault::text("name objects either in words or with -f, not both"));
        }
        return in_files(session, files).await;
    }
    let mut found = Vec::new();
    for Selection { resource, names } in select(session, words).await? {
        let namespace = session.namespace()?;
        if !names.is_empty() {
            if which.selects() || all {
                return Err(Fault::text("name objects either by name or by selector, not both"));
            }
            for name in names {
                let namespace = namespace.clone();
                found.push(Target { resource: resource.clone(), namespace, name, source: None });
            }
            continue;
        }
        if !which.selects() && !all {
            return Err(Fault::text(
                "resource(s) were provided, but no name was specified: add names, -l or --all",
            ));
        }
        let within = if which.all_namespaces { "" } else { &namespace };
        let path = which.query().on(&resource.path(within, "", None));
        let list = session.client()?.call(&Call::get(path)).await?.object;
        for item in list["items"].as_array().into_iter().flatten() {
            let text = |field: &str| item["metadata"][field].as_str().unwrap_or("").to_string();
            found.push(Target {
                resource: resource.clone(),
                namespace: text("namespace"),
                name: text("name"),
                source: None,
            });
        }
    }
    Ok(found)
}

/// Exactly one object from words like `deployment/web` or `deployment web`.
pub(crate) async fn one(session: &mut Session, words: &[String]) -> Result<Target, Fault> {
    let found = expand(session, words, &Files::default(), &Which::default(), false).await?;
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(target), None) => Ok(target),
        _ => Err(Fault::text("exactly one object is needed here")),
    }
}
