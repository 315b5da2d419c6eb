//! Whether this server still is one of its cluster's. The log does not tell a server that was taken
//! out of it, nor one that was forgotten by a recovery: nobody sends it anything any more. So one
//! that hears no leader asks the others, whose leader answers once it is certain that it leads.

use super::channel::{CallError, Channel};
use super::{ELECTION, Leadership};
use crate::join::MemberAnswer;
use edge_core::consensus::{MemberInfo, Standing};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// The longest pause between two questions; the first is as long as an election may take.
const SELDOM: Duration = Duration::from_secs(60);
/// How long one server may take to answer: as long as it waits for a leader, and a little more.
const ANSWER: Duration = Duration::from_secs(12);
/// Bytes of an answer at most.
const ANSWER_BYTES: usize = 16 * 1024;
/// The path at which a server asks about itself.
const PATH: &str = "/edged/v1/servers/member";

/// This server is none of its cluster's any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Whether it was so when this process began.
    pub from_start: bool,
    /// Why the others turn it away, when its key does not count any more; empty when it was taken
    /// out of the servers.
    pub refusal: String,
}

/// Watches whether anybody leads this server, and asks when nobody does; ends when the answer is
/// that it is outside.
pub(crate) async fn belong(
    own: MemberInfo,
    seeds: Vec<MemberInfo>,
    leadership: Leadership,
    channel: Arc<Channel>,
    told: watch::Sender<Option<Outside>>,
) {
    let mut news = leadership.news();
    let (mut led, mut doubt) = (false, Doubt::default());
    loop {
        let standing = news.borrow_and_update().clone();
        led |= standing.leader.is_some();
        let due = doubt.look(doubtful(&standing, &own), Instant::now());
        if due.is_some_and(|due| due <= Instant::now()) {
            let places = others(&standing, &seeds, &own);
            if let Some(refusal) = outside(&places, &channel).await {
                told.send_replace(Some(Outside { from_start: !led, refusal }));
                return;
            }
            doubt.asked(Instant::now());
            continue;
        }
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            () = until(due) => {}
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// When the others are to be asked.
#[derive(Debug, Default)]
struct Doubt {
    due: Option<Instant>,
    pause: Duration,
}

impl Doubt {
    /// Takes in whether there is doubt now; says when to ask.
    fn look(&mut self, doubtful: bool, now: Instant) -> Option<Instant> {
        if !doubtful {
            *self = Doubt::default();
        } else if self.due.is_none() {
            self.pause = ELECTION;
            self.due = Some(now + self.pause);
        }
        self.due
    }

    /// It was asked in vain: the next time is later.
    fn asked(&mut self, now: Instant) {
        self.pause = (self.pause * 2).min(SELDOM);
        self.due = Some(now + self.pause);
    }
}

/// Nobody leads this server, or its own state does not have it: then it may be behind as well.
fn doubtful(standing: &Standing, own: &MemberInfo) -> bool {
    let members = &standing.members;
    standing.leader.is_none() || (!members.is_empty() && !members.contains(own.id))
}

/// Where the other servers answer, as far as is known.
fn others(standing: &Standing, seeds: &[MemberInfo], own: &MemberInfo) -> BTreeSet<String> {
    let known = standing.members.all().chain(seeds).filter(|info| info.id != own.id);
    known.map(|info| info.api.trim_start_matches("https://").to_owned()).collect()
}

/// Why this server is outside, if one of the others is certain of it.
async fn outside(places: &BTreeSet<String>, channel: &Channel) -> Option<String> {
    for place in places {
        match timeout(ANSWER, ask(place, channel)).await {
            Ok(Ok(Verdict::Member)) => return None,
            Ok(Ok(Verdict::Outside(why))) => return Some(why),
            Ok(Err(why)) => tracing::debug!("ask {place} whether this is a server: {why}"),
            Err(_) => tracing::debug!("ask {place} whether this is a server: no answer"),
        }
    }
    None
}

enum Verdict {
    Member,
    Outside(String),
}

async fn ask(place: &str, channel: &Channel) -> Result<Verdict, String> {
    let mut request = Request::new(Full::default());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = PATH.parse().map_err(|_| "no path".to_owned())?;
    let answer = channel.call(place, request).await.map_err(|error| match error {
        CallError::Unsent(why) | CallError::Unknown(why) => why,
    })?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    match code {
        StatusCode::OK => {
            let answer: MemberAnswer =
                serde_json::from_slice(&body).map_err(|error| error.to_string())?;
            Ok(if answer.member { Verdict::Member } else { Verdict::Outside(String::new()) })
        }
        StatusCode::UNAUTHORIZED => {
            let status: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let why = status["message"].as_str().unwrap_or("its key does not count any more");
            Ok(Verdict::Outside(why.to_owned()))
        }
        code => Err(format!("it answered {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_asks_after_an_election_and_then_less_and_less() {
        let mut doubt = Doubt::default();
        let mut now = Instant::now();
        assert_eq!(doubt.look(false, now), None);
        assert_eq!(doubt.look(true, now), Some(now + ELECTION));
        let later = now + ELECTION / 2;
        assert_eq!(doubt.look(true, later), Some(now + ELECTION), "changes put nothing off");
        let mut pauses = Vec::new();
        for _ in 0..6 {
            doubt.asked(now);
            pauses.push(doubt.pause.as_secs());
            now += doubt.pause;
        }
        assert_eq!(pauses, [6, 12, 24, 48, 60, 60]);
        assert_eq!(doubt.look(false, now), None);
        assert_eq!(doubt.look(true, now), Some(now + ELECTION));
    }

    #[test]
    fn an_answer_must_say_it() {
        assert!(serde_json::from_slice::<MemberAnswer>(b"{}").is_err());
        let said = serde_json::from_slice::<MemberAnswer>(br#"{"member":false,"more":1}"#);
        assert_eq!(said.ok(), Some(MemberAnswer { member: false }));
    }
}
