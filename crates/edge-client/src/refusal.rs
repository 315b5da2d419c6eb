//! Whether the servers refuse who this client is. A board whose certificate was revoked meets that
//! in every request that it makes; here it is gathered, so that somebody can say it once.

use crate::error::Error;
use http::StatusCode;
use tokio::sync::watch;

/// The servers' last word on a client, shared by all clients that are made with it.
#[derive(Clone, Debug)]
pub struct Refusals(watch::Sender<Option<String>>);

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals(watch::Sender::new(None))
    }
}

impl Refusals {
    /// Follows it: why the servers refuse this client; `None` while they do not.
    pub fn follow(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }

    /// Whether the servers refuse this client, as far as is known.
    pub fn any(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// An answer that is no refusal.
    pub(crate) fn took(&self, status: StatusCode) {
        if status != StatusCode::UNAUTHORIZED {
            self.set(None);
        }
    }

    /// A failure, which may be one.
    pub(crate) fn failed(&self, error: &Error) {
        if let Some(status) = error.status().filter(|status| status.code == 401) {
            self.set(Some(status.message.clone()));
        }
    }

    fn set(&self, next: Option<String>) {
        self.0.send_if_modified(|known| {
            let changed = *known != next;
            *known = next;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Call, failure};

    #[test]
    fn a_refusal_is_told_once_and_ends_with_an_answer() {
        let refusals = Refusals::default();
        let mut told = refusals.follow();
        let call = Call::get("/x");
        refusals.failed(&failure(&call, 403, b"not this"));
        refusals.took(StatusCode::FORBIDDEN);
        assert!(!refusals.any() && !told.has_changed().unwrap());
        for _ in 0..2 {
            refusals.took(StatusCode::UNAUTHORIZED);
            refusals.failed(&failure(&call, 401, b"this key was revoked"));
        }
        assert_eq!(told.borrow_and_update().as_deref(), Some("this key was revoked"));
        assert!(refusals.any() && !told.has_changed().unwrap());
        refusals.took(StatusCode::OK);
        assert!(told.has_changed().unwrap() && !refusals.any());
    }
}
