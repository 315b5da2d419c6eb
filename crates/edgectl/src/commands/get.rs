//! `get`: objects as tables, or in any other format; once, or as they change.

mod table;
mod watch;

use crate::fault::Fault;
use crate::output::jsonpath::{Template, relaxed};
use crate::output::{self, Format};
use crate::session::Session;
use crate::targets::{Files, Selection, Target, Which, in_files, select};
use edge_api::Object;
use edge_client::Call;
use edge_client::query::Query;
use std::cmp::Ordering;
use table::Printer;
pub(crate) use watch::follow_object;

/// Asks for a table, and takes plain objects from a server that makes none.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Rows per request.
const PAGE: &str = "500";

/// Show objects
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// TYPE[,TYPE…] [NAME…], or TYPE/NAME…; `all` for the usual ones
    words: Vec<String>,
    /// wide, yaml, json, name, jsonpath=TEMPLATE, custom-columns=HEADER:PATH,…
    #[arg(short, long)]
    output: Option<String>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    files: Files,
    /// Then show changes as they happen
    #[arg(short, long)]
    watch: bool,
    /// Show changes only, without what is there already
    #[arg(long)]
    watch_only: bool,
    /// Add a column with all labels
    #[arg(long)]
    show_labels: bool,
    /// Add a column for each of these labels
    #[arg(short = 'L', long, value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Leave the headers out
    #[arg(long)]
    no_headers: bool,
    /// Put the type before each name
    #[arg(long)]
    show_kind: bool,
    /// An object that does not exist is no error
    #[arg(long)]
    ignore_not_found: bool,
    /// Sort by a field, as in `.metadata.creationTimestamp`
    #[arg(long, value_name = "PATH")]
    sort_by: Option<String>,
    /// Show what the server answers to this path, as it is
    #[arg(long, value_name = "PATH", conflicts_with_all = ["words", "watch", "output"])]
    raw: Option<String>,
    /// Keep metadata.managedFields in YAML and JSON
    #[arg(long)]
    show_managed_fields: bool,
}

/// One request: a collection, or one object of it.
#[derive(Debug, Clone)]
struct Ask {
    target: Target,
    /// Whether a namespace column tells objects apart.
    across: bool,
    /// What narrows the collection down.
    query: Query,
}

pub(crate) async fn run(args: Get, session: &mut Session) -> Result<(), Fault> {
    if let Some(path) = &args.raw {
        let text = session.client()?.text(&Call::get(path.as_str()).accept("*/*")).await?;
        return session.io.print(&text);
    }
    if matches!(args.words.as_slice(), [word] if word == "servers" || word == "server") {
        return super::boards::servers(args.output.as_deref(), args.no_headers, session).await;
    }
    let format = Format::parse(args.output.as_deref())?;
    let asks = asks(&args, session).await?;
    if args.watch || args.watch_only {
        return watch::run(&args, &format, asks, session).await;
    }
    if format.is_table() {
        tables(&args, &format, asks, session).await
    } else {
        objects(&args, &format, asks, session).await
    }
}

async fn asks(args: &Get, session: &mut Session) -> Result<Vec<Ask>, Fault> {
    if !args.files.filename.is_empty() {
        let targets = in_files(session, &args.files).await?;
        return Ok(targets.into_iter().map(Ask::one).collect());
    }
    let mut found = Vec::new();
    for Selection { resource, names } in select(session, &args.words).await? {
        if args.which.all_namespaces && !names.is_empty() {
            return Err(Fault::text(
                "a resource cannot be retrieved by name across all namespaces",
            ));
        }
        if args.which.selects() && !names.is_empty() {
            return Err(Fault::text("name objects either by name or by selector, not both"));
        }
        let across = args.which.all_namespaces && resource.namespaced;
        let namespace = if across { String::new() } else { session.namespace()? };
        let names = if names.is_empty() { vec![String::new()] } else { names };
        for name in names {
            let namespace = namespace.clone();
            let target = Target { resource: resource.clone(), namespace, name, source: None };
            let query = args.which.query();
            found.push(Ask { target, across, query });
        }
    }
    Ok(found)
}

impl Ask {
    fn one(target: Target) -> Ask {
        Ask { target, across: false, query: Query::new() }
    }
}

async fn tables(
    args: &Get,
    format: &Format,
    asks: Vec<Ask>,
    session: &mut Session,
) -> Result<(), Fault> {
    let first = asks.first().map(|ask| ask.target.resource.clone());
    let with_kind =
        args.show_kind || asks.iter().any(|ask| Some(&ask.target.resource) != first.as_ref());
    let mut faults = Vec::new();
    let mut shown = 0;
    let mut printer: Option<(String, Printer)> = None;
    for ask in &asks {
        let table = match fetch_table(args, ask, session).await {
            Ok(table) => table,
            Err(fault) if fault.is_not_found() && args.ignore_not_found => continue,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        let rows = table["rows"].as_array().map_or(0, Vec::len);
        if rows == 0 {
            continue;
        }
        let kind = ask.target.resource.plural_name();
        if printer.as_ref().is_none_or(|(last, _)| *last != kind) {
            if printer.is_some() {
                session.io.line("")?;
            }
            printer = Some((kind, Printer::new(args, format, ask, with_kind)));
        }
        if let Some((_, printer)) = &mut printer {
            session.io.print(&printer.render(&table))?;
        }
        shown += rows;
    }
    session.io.flush()?;
    if shown == 0 && faults.is_empty() && !args.ignore_not_found {
        nothing(args, &asks, session)?;
    }
    Fault::all(faults)
}

fn nothing(args: &Get, asks: &[Ask], session: &mut Session) -> Result<(), Fault> {
    let namespaced = asks.iter().any(|ask| ask.target.resource.namespaced);
    if args.which.all_namespaces || !namespaced {
        session.io.say("No resources found");
    } else {
        let namespace = session.namespace()?;
        session.io.say(format!("No resources found in {namespace} namespace."));
    }
    Ok(())
}

async fn fetch_table(args: &Get, ask: &Ask, session: &mut Session) -> Result<Object, Fault> {
    let client = session.client()?;
    let mut query = ask.query.clone();
    if args.sort_by.is_some() {
        query.add("includeObject", "Object");
    }
    let path = ask.target.path(None);
    if !ask.target.name.is_empty() {
        let answer = client.call(&Call::get(query.on(&path)).accept(TABLE)).await?;
        return Ok(table::of(answer.object));
    }
    query.add("limit", PAGE);
    let mut whole = table::of(client.call(&Call::get(query.on(&path)).accept(TABLE)).await?.object);
    while let Some(token) = whole["metadata"]["continue"].as_str().filter(|t| !t.is_empty()) {
        let mut next = query.clone();
        next.add("continue", token);
        let answer = client.call(&Call::get(next.on(&path)).accept(TABLE)).await?;
        let mut page = table::of(answer.object);
        whole["metadata"] = page["metadata"].take();
        if let (Some(rows), Object::Array(more)) =
            (whole["rows"].as_array_mut(), page["rows"].take())
        {
            rows.extend(more);
        }
    }
    if let (Some(path), Some(rows)) = (&args.sort_by, whole["rows"].as_array_mut()) {
        let path = Template::parse(&relaxed(path))?;
        rows.sort_by(|a, b| by_path(&path, &a["object"], &b["object"]));
    }
    Ok(whole)
}

/// Orders objects by a field; those without it come first.
fn by_path(path: &Template, a: &Object, b: &Object) -> Ordering {
    let first = |object| path.values(object).ok().and_then(|found| found.first().copied());
    match (first(a), first(b)) {
        (Some(Object::Number(a)), Some(Object::Number(b))) => {
            a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0))
        }
        (Some(Object::String(a)), Some(Object::String(b))) => a.cmp(b),
        (Some(a), Some(b)) => a.to_string().cmp(&b.to_string()),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

async fn objects(
    args: &Get,
    format: &Format,
    asks: Vec<Ask>,
    session: &mut Session,
) -> Result<(), Fault> {
    let client = session.client()?;
    let mut items = Vec::new();
    let mut faults = Vec::new();
    let single = asks.len() == 1 && !asks[0].target.name.is_empty();
    for ask in &asks {
        let path = ask.query.on(&ask.target.path(None));
        let mut object = match client.call(&Call::get(path)).await {
            Ok(answer) => answer.object,
            Err(error) if error.is_not_found() && args.ignore_not_found => continue,
            Err(error) => {
                faults.push(Fault::from(error));
                continue;
            }
        };
        match object["items"].take() {
            Object::Array(list) => items.extend(list.into_iter().map(|item| named(item, ask))),
            _ => {
                if let Some(map) = object.as_object_mut() {
                    map.remove("items");
                }
                items.push(object);
            }
        }
    }
    if let Some(path) = &args.sort_by {
        let path = Template::parse(&relaxed(path))?;
        items.sort_by(|a, b| by_path(&path, a, b));
    }
    if !args.show_managed_fields {
        items.iter_mut().for_each(output::tidy);
    }
    let text = match (single, items.pop()) {
        (true, Some(item)) => format.render(&item)?,
        (true, None) => String::new(),
        (false, last) => {
            items.extend(last);
            if items.is_empty() && faults.is_empty() && matches!(format, Format::Columns(_)) {
                nothing(args, &asks, session)?;
            }
            format.render(&output::list_of(items))?
        }
    };
    session.io.print(&text)?;
    session.io.flush()?;
    Fault::all(faults)
}

/// An item of a list with the kind that lists leave out.
fn named(mut item: Object, ask: &Ask) -> Object {
    if let Some(map) = item.as_object_mut() {
        let resource = &ask.target.resource;
        map.entry("kind").or_insert_with(|| Object::from(resource.kind.as_str()));
        map.entry("apiVersion").or_insert_with(|| Object::from(resource.api_version()));
    }
    item
}
