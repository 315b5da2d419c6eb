//! Whether another living process has this board's identity: a data directory that was copied, or
//! a card that was cloned. Asked before a board takes part; by an agent also whenever it has met a
//! broker, for it runs its pods without one, and its copy may have been out of reach.
//!
//! A server's question is sealed as a raft message to itself, an agent's with the key of its beats
//! on a topic of its own; it goes to every broker that
//! the servers are known to have, its own address as the others know it among them, in a session
//! of its own that takes nobody's place. A living twin hears it as it hears its raft messages, and
//! answers. A broker says at once when nobody listens to that name; only where somebody does, which
//! after a power cut may be the dead connection of before, an answer is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    DisconnectReasonCode as Reason, Filter, Packet, PubAckReason, Subscribe,
};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::bus::Core;
use crate::config::{Config, Role, StartError};
use crate::dial::Target;
use crate::enter::{establish, next};
use crate::keys::{Keys, Secret};
use crate::opener::Opener;
use crate::packet::{Manner, Message, put, put_disconnect, put_publish};
use crate::seal::{Header, Kind, Place, Sealer};
use crate::session::{SessionConfig, SessionCounts};
use crate::topics::Topics;

/// How long a broker may take until it is heard of.
const MEET: Duration = Duration::from_millis(800);

/// How long the others are waited for once one broker has told that nobody is there.
const OTHERS: Duration = Duration::from_millis(250);

/// How long a twin may take to answer where somebody listens to the name.
const ANSWER: Duration = Duration::from_millis(1500);

/// How long an agent's may: its pods wait for that.
const AGENT_ANSWER: Duration = Duration::from_millis(800);

/// How often it is asked where somebody listens: it may have been about to start itself.
const AGAIN: Duration = Duration::from_millis(300);

/// The first byte of what a server says to its own name; parts of raft messages have 0 and 1.
const MARK: u8 = 2;

/// Random bytes by which an answer is known to be one.
const NONCE: usize = 8;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Is anybody of this name there?
    Question([u8; NONCE]),
    /// Yes.
    Answer([u8; NONCE]),
}

impl Word {
    pub(crate) fn write(self) -> Vec<u8> {
        let (kind, nonce) = match self {
            Word::Question(nonce) => (b'?', nonce),
            Word::Answer(nonce) => (b'!', nonce),
        };
        [&[MARK, kind], nonce.as_slice()].concat()
    }

    pub(crate) fn read(plain: &[u8]) -> Option<Word> {
        let (head, nonce) = plain.split_at_checked(2)?;
        let nonce = nonce.try_into().ok()?;
        match head {
            [MARK, b'?'] => Some(Word::Question(nonce)),
            [MARK, b'!'] => Some(Word::Answer(nonce)),
            _ => None,
        }
    }
}

/// What an agent that takes part keeps to find its like.
pub(crate) struct Lookout {
    /// Another process of this board is to be looked for.
    pub(crate) look: Notify,
    /// What this process asks with.
    pub(crate) nonce: [u8; NONCE],
    /// Where one was met that began before this one.
    pub(crate) doubled: watch::Sender<Option<String>>,
}

impl Lookout {
    /// # Errors
    /// Without random numbers there is no asking.
    pub(crate) fn new() -> Result<Lookout, StartError> {
        let nonce = crate::random::try_number().ok_or(StartError::Random)?.to_be_bytes();
        Ok(Lookout { look: Notify::new(), nonce, doubled: watch::Sender::new(None) })
    }
}

/// Who asks.
struct Asking {
    cluster: String,
    name: String,
    keys: Keys,
    kind: Kind,
    topic: String,
    session: u64,
    start: u64,
    /// The session of this process's bus, if it takes part already: of two that do, the one that
    /// began later gives way.
    running: Option<u64>,
    patience: Duration,
    nonce: [u8; NONCE],
    sealer: Sealer,
    /// Brokers at which somebody listens to the name and has not answered yet.
    expecting: AtomicUsize,
}

/// Asks whether another process of this board's name lives; where it was met, if so. Takes some
/// ten milliseconds on a LAN, 0.8 s when no server is in reach; 1.5 s (an agent: 0.8 s) after a
/// power cut whose dead connections still stand at another server.
///
/// # Errors
/// Without its keys, or without random numbers, nothing can be asked.
pub async fn twin(config: &Config) -> Result<Option<String>, StartError> {
    let number = || crate::random::try_number().ok_or(StartError::Random);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let asking = Asking::new(config, number()?, now.as_millis() as u64, number()?.to_be_bytes())?;
    Ok(meet(config, asking).await)
}

/// Looks, whenever an agent that takes part has reason to, for a process of its name that began
/// before it; ends when one was met.
pub(crate) async fn look_out(core: Arc<Core>, config: Config) {
    loop {
        core.lookout.look.notified().await;
        let Some(session) = crate::random::try_number() else { continue };
        let Ok(asking) = Asking::new(&config, session, core.start, core.lookout.nonce) else {
            return;
        };
        let asking = Asking { running: Some(core.session), ..asking };
        if let Some(place) = meet(&config, asking).await {
            core.lookout.doubled.send_replace(Some(place));
            return;
        }
    }
}

async fn meet(config: &Config, asking: Asking) -> Option<String> {
    let asking = Arc::new(asking);
    let external = config.external.iter().cloned().map(Target::External);
    let embedded = config.brokers.borrow().clone().into_iter().map(Target::Embedded);
    let targets: Vec<Target> =
        if config.external.is_empty() { embedded.collect() } else { external.collect() };
    let session = probe(config, &asking);
    let mut asked = JoinSet::new();
    for target in targets {
        let (asking, session) = (asking.clone(), session.clone());
        asked.spawn(async move {
            let found = ask(&asking, &session, &target).await;
            found.map(|found| found.then(|| target.to_string()))
        });
    }
    gather(asked, &asking.expecting).await
}

/// The first twin that is met; none once all brokers have told, or those that are in reach.
async fn gather(
    mut asked: JoinSet<Option<Option<String>>>,
    expecting: &AtomicUsize,
) -> Option<String> {
    let last = tokio::time::Instant::now() + MEET + ANSWER;
    let mut until = last;
    loop {
        tokio::select! {
            told = asked.join_next() => match told? {
                Ok(Some(Some(place))) => return Some(place),
                Ok(Some(None)) => until = until.min(tokio::time::Instant::now() + OTHERS),
                _ => {}
            },
            () = sleep_until(until) => {
                if until == last || expecting.load(Ordering::Relaxed) == 0 {
                    return None;
                }
                until = last;
            }
        }
    }
}

fn probe(config: &Config, asking: &Asking) -> SessionConfig {
    let client = match config.external.is_empty() {
        true => config.me.common_name(),
        false => format!("{}/{}", config.cluster, config.me.common_name()),
    };
    SessionConfig {
        client_id: match config.me.role {
            Role::Server => format!("{client}/twin"),
            Role::Agent => format!("{client}/twin-{:016x}", asking.session),
        },
        targets: watch::channel(Vec::new()).1,
        prefer_first: false,
        tls: config.tls.clone(),
        keepalive: Duration::from_secs(5),
        patience: asking.patience,
        eager: true,
        filters: Vec::new(),
        will: None,
        connections: Arc::new(AtomicU32::new(0)),
        counts: Arc::new(SessionCounts::default()),
    }
}

/// Asks one broker; `None`: it could not be asked.
async fn ask(asking: &Asking, session: &SessionConfig, target: &Target) -> Option<bool> {
    let met = timeout(MEET, establish(session, target, true, 0)).await;
    let mut link = met.ok()?.ok()?;
    let topic = asking.topic.clone();
    let mut filter = Filter::new(topic.clone(), QoS::AtMostOnce);
    filter.nolocal = true;
    let mut subscribe = Subscribe::new(filter, None);
    subscribe.pkid = 1;
    let mut bytes = BytesMut::new();
    put(&Packet::Subscribe(subscribe), &mut bytes);
    asking.put_question(&topic, &mut bytes);
    let opener = Opener::new(&asking.cluster, &asking.name, asking.keys.clone());
    let answered = timeout(asking.patience, async {
        let mut told = false;
        loop {
            link.writer.write_all(&bytes).await.ok()?;
            link.writer.flush().await.ok()?;
            bytes.clear();
            let packet = tokio::select! {
                packet = next(&mut link.reader, &mut link.buffer) => packet.ok()?,
                () = tokio::time::sleep(AGAIN) => {
                    asking.put_question(&topic, &mut bytes);
                    continue;
                }
            };
            match packet {
                Packet::PubAck(ack) if ack.reason == PubAckReason::NoMatchingSubscribers => {
                    return Some(false);
                }
                Packet::PubAck(_) if !std::mem::replace(&mut told, true) => {
                    asking.expecting.fetch_add(1, Ordering::Relaxed);
                }
                Packet::Publish(said) if said.topic == topic => {
                    let now = Instant::now();
                    let opened =
                        opener.fresh().open(asking.kind, &topic, &said.payload, false, now);
                    if opened.is_ok_and(|(header, plain)| asking.is_twin(&header, &plain)) {
                        return Some(true);
                    }
                }
                Packet::Disconnect(_) => return None,
                _ => {}
            }
        }
    });
    let told = answered.await.unwrap_or(Some(false));
    let mut bye = BytesMut::new();
    put_disconnect(Reason::NormalDisconnection, &mut bye);
    let _ = link.writer.write_all(&bye).await;
    told
}

impl Asking {
    fn new(
        config: &Config,
        session: u64,
        start: u64,
        nonce: [u8; NONCE],
    ) -> Result<Asking, StartError> {
        let (name, topics) = (&config.me.name, Topics::new(&config.cluster));
        let (kind, key, topic, patience) = match config.me.role {
            Role::Server => (Kind::Raft, config.keys.raft.map(Secret), topics.raft(name), ANSWER),
            Role::Agent => {
                (Kind::Beat, config.keys.beat(name, name), topics.twin(name), AGENT_ANSWER)
            }
        };
        let key = key.ok_or(StartError::NoKey { what: "key that its processes share" })?;
        Ok(Asking {
            cluster: config.cluster.clone(),
            name: name.clone(),
            keys: config.keys.clone(),
            kind,
            topic,
            session,
            start,
            running: None,
            patience,
            nonce,
            sealer: Sealer::new(&key, kind, name, session, start),
            expecting: AtomicUsize::new(0),
        })
    }

    fn put_question(&self, topic: &str, bytes: &mut BytesMut) {
        let receiver = if self.kind == Kind::Raft { self.name.as_str() } else { "" };
        let place = Place { cluster: &self.cluster, topic, receiver };
        let payload = self.sealer.seal(&place, 0, &[&Word::Question(self.nonce).write()]);
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        let message = Message { topic, payload, properties: None };
        put_publish(&message, Manner { qos1: true, retain: false }, 2, bytes);
    }

    /// An answer to this question; or a question of another process that began before this one. To
    /// one that takes part, an answer of a process that began before it.
    fn is_twin(&self, header: &Header, plain: &[u8]) -> bool {
        if header.sender != self.name || header.session == self.session {
            return false;
        }
        match Word::read(plain) {
            Some(Word::Answer(nonce)) if nonce != self.nonce => false,
            Some(Word::Answer(_)) => match self.running {
                None => true,
                Some(own) => header.session != own && header.start < self.start,
            },
            Some(Word::Question(_)) if self.running.is_some() => false,
            Some(Word::Question(_)) => (header.start, header.session) < (self.start, self.session),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_its_question_and_of_two_that_ask_the_first_one_stays() {
        let asking = Asking {
            cluster: "c".into(),
            name: "a".into(),
            keys: Keys::of_server(&[1; 32]),
            kind: Kind::Raft,
            topic: Topics::new("c").raft("a"),
            session: 7,
            start: 100,
            running: None,
            patience: ANSWER,
            nonce: [3; NONCE],
            sealer: Sealer::new(&Secret([1; 32]), Kind::Raft, "a", 7, 100),
            expecting: AtomicUsize::new(0),
        };
        let said = |sender: &str, session, start, word: Word| {
            let (kind, sender) = (Kind::Raft, sender.to_owned());
            let header = Header { kind, connection: 0, session, start, sequence: 0, sender };
            asking.is_twin(&header, &word.write())
        };
        assert!(said("a", 8, 200, Word::Answer([3; NONCE])));
        assert!(!said("a", 8, 200, Word::Answer([4; NONCE])), "to somebody else, or of before");
        assert!(!said("a", 7, 100, Word::Answer([3; NONCE])), "our own word");
        assert!(!said("b", 8, 200, Word::Answer([3; NONCE])), "not of this name");
        assert!(said("a", 8, 99, Word::Question([5; NONCE])));
        assert!(!said("a", 8, 101, Word::Question([5; NONCE])));
        assert_eq!(Word::read(b"\x00anything"), None);
        assert_eq!(Word::read(b"\x02?short"), None);
    }
}
