//! Reading one object or a list: stored bytes are handed out as they are, and looked into only
//! when a selector asks about more than a name.

use super::options::{At, ListOptions};
use super::{Api, Place, events, now_ms, read_object, token};
use edge_api::kinds::{self, Kind};
use edge_api::selector::{FieldSelector, LabelSelector};
use edge_api::status::Status;
use edge_api::{Object, keys};
use edge_store::{Entry, Listing, ReadError, Revision};

/// How many objects are read at a time while a selector looks for a page's worth.
const CHUNK: usize = 500;

/// A list, or one page of it.
#[derive(Debug)]
pub struct Page {
    /// The revision that it shows.
    pub revision: Revision,
    /// The objects.
    pub entries: Vec<Entry>,
    /// The token for the page that follows.
    pub continue_token: Option<String>,
    /// How many objects follow, when that is known.
    pub remaining: Option<u64>,
}

/// Which objects of a kind are wanted.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) kind: &'static Kind,
    pub(super) labels: LabelSelector,
    pub(super) fields: FieldSelector,
}

impl Choice {
    /// Whether nothing needs to be looked into.
    pub(super) fn all(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether stored bytes are of an object that is wanted.
    pub(super) fn takes(&self, bytes: &[u8]) -> bool {
        self.all() || read_object(bytes).is_ok_and(|object| self.takes_object(&object))
    }

    fn takes_object(&self, object: &Object) -> bool {
        self.labels.matches(object) && self.fields.matches(self.kind, object)
    }
}

impl Api {
    /// One object.
    pub fn get(&self, place: Place<'_>) -> Result<Entry, Status> {
        self.entry(&place.key())?.ok_or_else(|| place.not_found())
    }

    /// One object by its key, if it is there.
    pub(crate) fn entry(&self, key: &str) -> Result<Option<Entry>, Status> {
        if let Some(lease) = self.held_lease(key) {
            return Ok(Some(lease));
        }
        let entry = self.inner.store.get(key).map_err(|e| read_error(e, None))?;
        let event = keys::kind_of(key) == Some(kinds::EVENT);
        Ok(entry.filter(|entry| !event || !events::expired(&entry.value, now_ms())))
    }

    /// One object, parsed.
    pub fn object(&self, place: Place<'_>) -> Result<Object, Status> {
        read_object(&self.get(place)?.value)
    }

    /// The objects of a kind in a namespace, or in all of them when it is empty.
    pub fn list(
        &self,
        kind: &'static Kind,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<Page, Status> {
        let prefix = kind.key_prefix(Some(namespace).filter(|n| !n.is_empty() && kind.namespaced));
        let choice =
            Choice { kind, labels: options.labels.clone(), fields: options.fields.clone() };
        let (mut at, mut after) = match (&options.continue_token, options.at) {
            (Some(token), _) => {
                let (revision, key) = token::decode(token, &prefix)?;
                (Some(revision), Some(key))
            }
            (None, At::Exact(revision)) => (Some(revision), None),
            (None, At::NotOlderThan(revision)) => {
                self.not_before(revision)?;
                (None, None)
            }
            (None, At::Latest) => (None, None),
        };
        let continued = options.continue_token.is_some();
        let mut page =
            Page { revision: 0, entries: Vec::new(), continue_token: None, remaining: None };
        let plain = choice.all() && kind != kinds::EVENT;
        // There are a handful of Leases, and some of them are not in the store: no pages of them.
        let wanted = if kind == kinds::LEASE { 0 } else { options.limit };
        loop {
            let limit = match wanted {
                0 => 0,
                limit if plain => limit - page.entries.len(),
                limit => limit.max(CHUNK),
            };
            let query = edge_store::ListOptions { after: after.take(), limit, at };
            let listing = self.inner.store.list(&prefix, query);
            let listing = listing.map_err(|error| read_error(error, Some(continued)))?;
            at = Some(listing.revision);
            page.revision = listing.revision;
            let rest = listing.more.then(|| listing.entries.last().map(|e| e.key.to_string()));
            let full = self.take(&mut page, listing, &choice, wanted, plain);
            match rest.flatten() {
                Some(last) if !full => after = Some(last),
                _ => break,
            }
        }
        if !continued {
            self.show_leases(kind, namespace, &choice, &mut page);
        }
        Ok(page)
    }

    /// Moves what is wanted into the page; true when the page is full.
    fn take(
        &self,
        page: &mut Page,
        listing: Listing,
        choice: &Choice,
        limit: usize,
        plain: bool,
    ) -> bool {
        let now = now_ms();
        let revision = listing.revision;
        let mut entries = listing.entries.into_iter().peekable();
        while let Some(entry) = entries.next() {
            let expired = || choice.kind == kinds::EVENT && events::expired(&entry.value, now);
            if !plain && (!choice.takes(&entry.value) || expired()) {
                continue;
            }
            let key = entry.key.clone();
            page.entries.push(entry);
            if limit > 0 && page.entries.len() == limit {
                if listing.more || entries.peek().is_some() {
                    page.continue_token = Some(token::encode(revision, &key));
                    page.remaining = plain.then_some(listing.remaining);
                }
                return true;
            }
        }
        false
    }

    /// Adds the Leases that the store does not have where they belong.
    fn show_leases(&self, kind: &Kind, namespace: &str, choice: &Choice, page: &mut Page) {
        if page.continue_token.is_some() {
            return;
        }
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        for lease in self.held_leases(kind, namespace) {
            if choice.takes(&lease.value) {
                page.entries.retain(|entry| entry.key != lease.key);
                let at = page.entries.partition_point(|entry| entry.key < lease.key);
                page.entries.insert(at, lease);
            }
        }
    }

    /// Refuses a revision that has not happened yet.
    fn not_before(&self, revision: Revision) -> Result<(), Status> {
        let current = self.inner.store.revision();
        if revision > current { Err(too_large(revision, current)) } else { Ok(()) }
    }
}

fn too_large(wanted: Revision, current: Revision) -> Status {
    let mut status =
        Status::timeout(format!("Too large resource version: {wanted}, current: {current}"));
    let cause = edge_api::status::Cause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        field: String::new(),
    };
    status.details = Some(Box::new(edge_api::status::Details {
        causes: vec![cause],
        retry_after_seconds: Some(1),
        ..Default::default()
    }));
    status
}

/// What a failed read means to a client; `continued` tells a page from a list at a revision.
pub(super) fn read_error(error: ReadError, continued: Option<bool>) -> Status {
    match error {
        ReadError::Compacted { .. } if continued == Some(true) => Status::continue_expired(),
        ReadError::Compacted { .. } => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        ReadError::Future { at, current } => too_large(at, current),
        error @ ReadError::Closed => Status::unavailable(error.to_string()),
        error @ ReadError::State(_) => Status::internal(error),
    }
}
