//! `get -w`: what is there, then every change, until interrupted.

use super::table::{self, Printer};
use super::{Ask, Get, TABLE, fetch_table};
use crate::fault::Fault;
use crate::output::{self, Format};
use crate::session::Session;
use crate::targets::Target;
use edge_api::Object;
use edge_client::{Call, Client, Error, WatchEvent};
use std::time::Duration;

/// Between two attempts to take a watch up again.
const PAUSE: Duration = Duration::from_secs(1);

/// Attempts in a row that may fail before it is given up.
const ATTEMPTS: u32 = 5;

pub(super) async fn run(
    args: &Get,
    format: &Format,
    asks: Vec<Ask>,
    session: &mut Session,
) -> Result<(), Fault> {
    let [ask] = asks.as_slice() else {
        return Err(Fault::text("you may only watch a single type, or a single object"));
    };
    let mut view = View { printer: Printer::new(args, format, ask, args.show_kind), format, args };
    let mut revision = view.start(ask, session).await?;
    let client = session.client()?;
    let mut failures = 0;
    loop {
        let ended = follow(&client, ask, &mut revision, &mut view, session).await;
        failures = match &ended {
            Ok(()) => 0,
            Err(Fault::Api(error, _)) if error.is_gone() => return ended,
            Err(Fault::Api(Error::Status(_), _)) => return ended,
            Err(Fault::Api(..)) if failures + 1 < ATTEMPTS => failures + 1,
            Err(_) => return ended,
        };
        tokio::time::sleep(PAUSE).await;
    }
}

/// How events are shown.
struct View<'a> {
    printer: Printer,
    format: &'a Format,
    args: &'a Get,
}

impl View<'_> {
    /// Shows what is there; gives the revision to watch from.
    async fn start(&mut self, ask: &Ask, session: &mut Session) -> Result<String, Fault> {
        let ask = &as_list(ask);
        if self.format.is_table() {
            let table = fetch_table(self.args, ask, session).await?;
            if !self.args.watch_only && !is_empty(&table["rows"]) {
                self.show_table(&table, session)?;
            }
            return Ok(revision_of(&table));
        }
        let path = ask.query.on(&ask.target.path(None));
        let list = session.client()?.call(&Call::get(path)).await?.object;
        for item in list["items"].as_array().into_iter().flatten() {
            if !self.args.watch_only {
                self.show(super::named(item.clone(), ask), session)?;
            }
        }
        Ok(revision_of(&list))
    }

    fn show(&mut self, mut object: Object, session: &mut Session) -> Result<(), Fault> {
        if self.format.is_table() {
            return self.show_table(&table::of(object), session);
        }
        if !self.args.show_managed_fields {
            output::tidy(&mut object);
        }
        if matches!(self.format, Format::Yaml) {
            session.io.line("---")?;
        }
        let text = self.format.render(&object)?;
        session.io.print(&text)?;
        session.io.flush()
    }

    fn show_table(&mut self, table: &Object, session: &mut Session) -> Result<(), Fault> {
        let text = self.printer.render(table);
        session.io.print(&text)?;
        session.io.flush()
    }
}

fn is_empty(rows: &Object) -> bool {
    rows.as_array().is_none_or(Vec::is_empty)
}

fn revision_of(list: &Object) -> String {
    list["metadata"]["resourceVersion"].as_str().unwrap_or("").to_string()
}

/// One object is watched through its collection, narrowed down to its name.
fn as_list(ask: &Ask) -> Ask {
    let mut list = ask.clone();
    let name = std::mem::take(&mut list.target.name);
    if !name.is_empty() {
        list.query.add("fieldSelector", &format!("metadata.name={name}"));
    }
    list
}

async fn follow(
    client: &Client,
    ask: &Ask,
    revision: &mut String,
    view: &mut View<'_>,
    session: &mut Session,
) -> Result<(), Fault> {
    let list = as_list(ask);
    let mut query = list.query.clone();
    query.add("watch", "true").add("allowWatchBookmarks", "true");
    query.add("resourceVersion", revision);
    let mut call = Call::get(query.on(&list.target.path(None)));
    if view.format.is_table() {
        call = call.accept(TABLE);
    }
    let mut stream = client.watch_call(&call).await?;
    while let Some(event) = stream.next().await {
        let object = match event? {
            WatchEvent::Added(object)
            | WatchEvent::Modified(object)
            | WatchEvent::Deleted(object) => object,
            WatchEvent::Bookmark(new) => {
                if !new.is_empty() {
                    *revision = new;
                }
                continue;
            }
        };
        let metadata = match object["kind"] == "Table" {
            true => &object["rows"][0]["object"]["metadata"],
            false => &object["metadata"],
        };
        if let Some(new) = metadata["resourceVersion"].as_str() {
            *revision = new.to_string();
        }
        view.show(object, session)?;
    }
    Ok(())
}

/// Shows an object to `seen` as it is now and at every change, until that says it has seen
/// enough. `None` is shown while the object does not exist.
pub(crate) async fn follow_object(
    session: &mut Session,
    target: &Target,
    mut seen: impl FnMut(&mut Session, Option<&Object>) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let client = session.client()?;
    let mut ask = as_list(&Ask::one(target.clone()));
    let path = ask.target.path(None);
    loop {
        let list = client.call(&Call::get(ask.query.on(&path))).await?.object;
        if seen(session, list["items"].get(0))? {
            return Ok(());
        }
        let revision = revision_of(&list);
        let query = ask.query.clone();
        ask.query.add("watch", "true").add("allowWatchBookmarks", "true");
        ask.query.add("resourceVersion", &revision);
        let call = Call::get(ask.query.on(&path));
        ask.query = query;
        let Ok(mut stream) = client.watch_call(&call).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while let Some(Ok(event)) = stream.next().await {
            let enough = match &event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    seen(session, Some(object))?
                }
                WatchEvent::Deleted(_) => seen(session, None)?,
                WatchEvent::Bookmark(_) => false,
            };
            if enough {
                return Ok(());
            }
        }
    }
}
