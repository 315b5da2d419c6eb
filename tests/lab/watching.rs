//! Watches under faults, and their judge: whatever server a watch is on, and however often it
//! has to begin again at the last revision it saw, it gives every change once and in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use edge_api::kinds;
use edge_client::{ListParams, WatchEvent, WatchParams, WatchStream};

use super::history::{History, Told};
use super::load::{Common, LABEL, SPACE, parse};

/// A watch that is silent this long under load is given up and begun again, as a client does
/// whose connection a pulled cable left open.
const SILENCE: Duration = Duration::from_millis(1500);

/// How long a watch may take to come to the last write once all is well.
const CATCH_UP: Duration = Duration::from_secs(30);

/// What one watch was told.
#[derive(Default)]
pub(crate) struct Account {
    /// The server that it stays on; none for the one that moves.
    pub(crate) home: Option<usize>,
    /// Revision, register and value of each event, as they came.
    pub(crate) events: Vec<(u64, String, u64)>,
    /// Where history was gone, and a list took its place: after the first, up to the second.
    pub(crate) gaps: Vec<(u64, u64)>,
    /// How often it had to begin again.
    pub(crate) resumed: u32,
    /// What it was told that no watch may be told.
    pub(crate) offences: Vec<String>,
    /// The revision that it came to.
    pub(crate) reached: u64,
}

/// Follows the registers until the last write was seen.
pub(crate) async fn follow(common: Arc<Common>, home: Option<usize>, from: u64) -> Account {
    let mut account = Account { home, reached: from, ..Account::default() };
    let mut server = home.unwrap_or(0);
    let mut deadline: Option<Instant> = None;
    loop {
        let until = common.until.load(Ordering::Acquire);
        if until > 0 {
            let end = *deadline.get_or_insert_with(|| Instant::now() + CATCH_UP);
            if account.reached >= until {
                return account;
            }
            if Instant::now() > end {
                let reached = account.reached;
                account.offences.push(format!("came to {reached} only, not to {until}"));
                return account;
            }
        }
        let params = WatchParams {
            label_selector: Some(format!("{}={}", LABEL.0, LABEL.1)),
            resource_version: Some(account.reached.to_string()),
            ..WatchParams::default()
        };
        let stream = common.clients[server].watch(kinds::CONFIG_MAP, SPACE, &params).await;
        let gone = match stream {
            Ok(stream) => account.read(&common, stream).await,
            Err(error) => error.is_gone(),
        };
        if gone {
            account.relist(&common, server).await;
        }
        account.resumed += 1;
        if home.is_none() {
            server = (server + 1) % common.clients.len();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Account {
    /// Reads a stream to its end; says whether it ended because history is gone.
    async fn read(&mut self, common: &Common, mut stream: WatchStream) -> bool {
        let begin = self.events.len();
        loop {
            let until = common.until.load(Ordering::Acquire);
            if until > 0 && self.reached >= until {
                return false;
            }
            // The one that moves, moves on also when nothing is wrong.
            if self.home.is_none() && self.events.len() > begin + 200 {
                return false;
            }
            let event = match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return error.is_gone(),
                Ok(None) | Err(_) => return false,
            };
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let Some((value, revision)) = parse(&object) else {
                        self.offences.push(format!("an event without its parts: {object}"));
                        continue;
                    };
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    if revision <= self.reached {
                        let reached = self.reached;
                        self.offences.push(format!("{name} at {revision}, after {reached}"));
                    }
                    self.reached = revision;
                    self.events.push((revision, name.to_owned(), value));
                }
                WatchEvent::Deleted(object) => {
                    self.offences.push(format!("nobody deletes, and yet: {object}"));
                }
                WatchEvent::Bookmark(revision) => {
                    let revision = revision.parse().unwrap_or(0);
                    if revision < self.reached {
                        let reached = self.reached;
                        self.offences.push(format!("a bookmark of {revision} after {reached}"));
                    }
                    self.reached = self.reached.max(revision);
                }
            }
        }
    }

    /// History was gone: the present takes its place, as every client does it.
    async fn relist(&mut self, common: &Common, server: usize) {
        let client = &common.clients[server];
        let Ok(list) = client.list(kinds::CONFIG_MAP, SPACE, &ListParams::default()).await else {
            return;
        };
        let revision = list.resource_version.parse().unwrap_or(0);
        if revision < self.reached {
            let reached = self.reached;
            self.offences
                .push(format!("a list of {revision} when history up to {reached} is gone"));
            return;
        }
        self.gaps.push((self.reached, revision));
        self.reached = revision;
    }

    fn missed(&self, revision: u64) -> bool {
        self.gaps.iter().any(|(after, to)| revision > *after && revision <= *to)
    }
}

/// Holds the watches against each other and against the history: all saw the same events, in
/// the order of their revisions, and every acknowledged write is among them as it was
/// acknowledged. Gives every offence.
pub(crate) fn check(watches: &[Account], history: &History) -> Vec<String> {
    let mut offences = Vec::new();
    let mut all: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    for watch in watches {
        let who =
            watch.home.map_or("the moving watch".into(), |n| format!("the watch on s{}", n + 1));
        offences.extend(watch.offences.iter().map(|what| format!("{who}: {what}")));
        for (revision, name, value) in &watch.events {
            let event = (name.clone(), *value);
            let first = all.entry(*revision).or_insert_with(|| event.clone());
            if *first != event {
                offences.push(format!("{who}: {revision} is {event:?}, elsewhere {first:?}"));
            }
        }
    }
    for watch in watches {
        let who =
            watch.home.map_or("the moving watch".into(), |n| format!("the watch on s{}", n + 1));
        let own: BTreeSet<u64> = watch.events.iter().map(|(revision, ..)| *revision).collect();
        let missed = all
            .range(..=watch.reached)
            .filter(|(revision, _)| !own.contains(*revision) && !watch.missed(**revision));
        offences.extend(
            missed.map(|(revision, event)| format!("{who} missed revision {revision}: {event:?}")),
        );
    }
    for (key, value, revision) in history.acknowledged() {
        let wanted = (super::load::register(key), value);
        match all.get(&revision) {
            Some(event) if *event == wanted => {}
            // A write before the watches began, or in a gap that all of them have.
            None if watches.iter().all(|watch| watch.missed(revision)) => {}
            found => offences.push(format!(
                "an acknowledged write is lost: {wanted:?} at {revision}, watches saw {found:?}"
            )),
        }
    }
    offences.extend(read_but_unseen(&all, watches, history));
    offences
}

/// What was read has also been an event, at its revision.
fn read_but_unseen(
    all: &BTreeMap<u64, (String, u64)>,
    watches: &[Account],
    history: &History,
) -> Vec<String> {
    let begin = all.keys().next().copied().unwrap_or(u64::MAX);
    let seen = history.records.iter().filter_map(|record| match record.told {
        Told::Done { value, revision } => Some((record, value, revision)),
        _ => None,
    });
    seen.filter(|(record, value, revision)| {
        let wanted = (super::load::register(record.key), *value);
        *revision >= begin
            && all.get(revision) != Some(&wanted)
            && !watches.iter().all(|watch| watch.missed(*revision))
    })
    .map(|(record, ..)| format!("{record:?} is not what watches saw"))
    .collect()
}
