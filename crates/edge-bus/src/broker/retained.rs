//! Retained messages: the last of each topic, for those who subscribe later. Bounded, and in
//! memory only: a broker that restarts has none, and its clients say theirs again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::packet::Message;
use crate::topics::{is_wild, matches};

/// Topics that may have one.
pub(crate) const TOPICS: usize = 4096;

/// Bytes of all.
pub(crate) const TOTAL_BYTES: usize = 4 * 1024 * 1024;

struct Kept {
    message: Arc<Message>,
    until: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Retained {
    kept: BTreeMap<String, Kept>,
    bytes: usize,
}

impl Retained {
    /// Keeps a message, or forgets the topic's if it has no payload. False: there is no room.
    pub(crate) fn set(&mut self, topic: &str, message: &Message, now: Instant) -> bool {
        if let Some(old) = self.kept.remove(topic) {
            self.bytes -= old.message.weight();
        }
        if message.payload.is_empty() {
            return true;
        }
        if self.kept.len() >= TOPICS || self.bytes + message.weight() > TOTAL_BYTES {
            return false;
        }
        // Copies: what is kept must not hold on to the buffer that it was read into.
        let copy = Message {
            topic: Bytes::copy_from_slice(&message.topic),
            payload: Bytes::copy_from_slice(&message.payload),
            properties: message.properties.clone(),
        };
        let expiry = message.properties.as_ref().and_then(|p| p.message_expiry_interval);
        let until = expiry.and_then(|s| now.checked_add(Duration::from_secs(s.into())));
        self.bytes += copy.weight();
        self.kept.insert(topic.to_owned(), Kept { message: Arc::new(copy), until });
        true
    }

    /// All that match a filter and have not expired, in the order of their topics.
    pub(crate) fn matching(&mut self, filter: &str, now: Instant) -> Vec<Arc<Message>> {
        let past = |kept: &Kept| kept.until.is_some_and(|until| until <= now);
        let bytes = &mut self.bytes;
        self.kept.retain(|_, kept| {
            let keep = !past(kept);
            if !keep {
                *bytes -= kept.message.weight();
            }
            keep
        });
        if !is_wild(filter) {
            return self.kept.get(filter).map(|k| k.message.clone()).into_iter().collect();
        }
        let found = self.kept.iter().filter(|(topic, _)| matches(filter, topic));
        found.map(|(_, kept)| kept.message.clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc::v5::mqttbytes::v5::PublishProperties;

    fn message(topic: &str, size: usize) -> Message {
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        Message { topic, payload: vec![1; size].into(), properties: None }
    }

    #[test]
    fn the_last_stays_and_an_empty_one_clears() {
        let (mut kept, now) = (Retained::default(), Instant::now());
        assert!(
            kept.set("a/b", &message("a/b", 3), now) && kept.set("a/b", &message("a/b", 5), now)
        );
        assert!(kept.set("a/c", &message("a/c", 1), now));
        assert_eq!(kept.matching("a/b", now)[0].payload.len(), 5);
        assert_eq!(kept.matching("a/+", now).len(), 2);
        assert!(kept.set("a/b", &message("a/b", 0), now));
        assert_eq!(kept.matching("a/+", now).len(), 1);
        kept.set("a/c", &message("a/c", 0), now);
        assert_eq!((kept.len(), kept.bytes), (0, 0));
    }

    #[test]
    fn it_is_bounded_in_topics_and_bytes() {
        let (mut kept, now) = (Retained::default(), Instant::now());
        let fit = (0..TOPICS + 10).filter(|n| kept.set(&n.to_string(), &message("x", 1), now));
        assert_eq!(fit.count(), TOPICS);
        let mut kept = Retained::default();
        let fit = (0..100).filter(|n| kept.set(&n.to_string(), &message("x", 100_000), now));
        assert_eq!(fit.count(), TOTAL_BYTES / 100_065);
    }

    #[test]
    fn what_expired_is_gone() {
        let (mut kept, now) = (Retained::default(), Instant::now());
        let mut short = message("a", 1);
        let properties = PublishProperties { message_expiry_interval: Some(5), ..<_>::default() };
        short.properties = Some(Arc::new(properties));
        kept.set("a", &short, now);
        assert_eq!(kept.matching("#", now + Duration::from_secs(4)).len(), 1);
        assert_eq!(kept.matching("#", now + Duration::from_secs(5)).len(), 0);
        assert_eq!(kept.bytes, 0);
    }
}
