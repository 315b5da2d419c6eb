//! Which boards live: a table of when each was last heard, and what its silence means by now. Fed
//! with beats, wills and a monotonic clock; nothing of it is ever written to a disk.
//!
//! A board that falls silent goes through two steps: *silent* (its pods leave the proxies, nothing
//! else) and *lost* (what Kubernetes calls Unknown: taints, evictions). A link that is measured to
//! be irregular is given more time for both, within what the settings allow.

mod beat;
mod gaps;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use beat::{Beat, BeatError, MOST_BYTES, MOST_IMAGES, SLOWEST_MS, Usage, VERSION};
use gaps::Gaps;

/// Boards that the table holds at most.
pub const MOST_NODES: usize = 1024;

/// Beats of the same session this soon after its will were under way when the board fell.
const STILL_UNDER_WAY_MS: i64 = 100;

/// A beat may come this much late, and so may the one before it, without meaning anything.
const SPARE_MS: i64 = 100;

/// Time without a leader that elections don't take, unless messages are lost.
const ELECTION_MS: i64 = 1000;

/// When silence means something. All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A board is silent after this long, and at most after `node_grace_ms` on a bad link.
    pub silent_after_ms: i64,
    /// It is lost after this long; on a bad link later by as much as it was silent later.
    pub node_grace_ms: i64,
    /// After its will it is lost after this long, unless a beat comes: time to restart.
    pub crash_grace_ms: i64,
    /// A board that said it would be back is waited for this long.
    pub stopping_grace_ms: i64,
    /// A board that has a Node and was never heard is silent after this long …
    pub unheard_silent_ms: i64,
    /// … and lost after this long (Kubernetes' `nodeStartupGracePeriod`): boards that got their
    /// power back together do not start equally fast. A board that is new under this leader has
    /// just joined, and is lost as soon as it is silent.
    pub unheard_lost_ms: i64,
    /// A new leader gives every board at least this long to be heard by it.
    pub takeover_ms: i64,
    /// After an outage of the bus a board is back within this long: its longest pause between
    /// two attempts, and an attempt.
    pub reconnect_ms: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            silent_after_ms: 1000,
            node_grace_ms: 3000,
            crash_grace_ms: 1000,
            stopping_grace_ms: 30_000,
            unheard_silent_ms: 10_000,
            unheard_lost_ms: 60_000,
            takeover_ms: 1000,
            reconnect_ms: 5000,
        }
    }
}

/// What is to be thought of a board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Never heard, and not for so long that it would mean anything: its Node is believed.
    #[default]
    Unheard,
    /// It beats.
    Alive,
    /// It ended on request and means to be back; its pods run on.
    Stopping,
    /// It has been quiet for too long, or said that it goes off: nothing is sent to its pods.
    Silent,
    /// It is taken for dead or cut off.
    Lost,
}

/// A board as controllers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Liveness {
    /// What is thought of it.
    pub standing: Standing,
    /// Its will was heard and no beat since: its process ended, and our own link is well.
    pub crashed: bool,
    /// When it was heard last, in Unix milliseconds of this board's clock.
    pub heard_at_ms: Option<i64>,
    /// Its last beat.
    pub beat: Option<Arc<Beat>>,
}

/// A moment on two clocks: the monotonic one decides, the wall clock is shown to people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds of a clock that is never set.
    pub mono_ms: i64,
    /// Unix milliseconds.
    pub wall_ms: i64,
}

#[derive(Debug, Clone, Default)]
struct Record {
    beat: Option<Arc<Beat>>,
    heard: Option<Moment>,
    /// Since when it should be heard, if it never was.
    expected_ms: i64,
    /// It got its Node while this member had led for a while.
    new: bool,
    gone_ms: Option<i64>,
    gaps: Gaps,
}

/// The boards, and when each was heard.
#[derive(Debug, Clone, Default)]
pub struct Table {
    settings: Settings,
    /// What beats must carry; the last two, as a new one takes a while to get around.
    nonces: Vec<String>,
    leading_since_ms: Option<i64>,
    unled_since_ms: Option<i64>,
    /// When every board counts as heard: silence before that was ours, since `excused_from_ms`.
    excused_ms: i64,
    excused_from_ms: i64,
    nodes: BTreeMap<String, Record>,
}

impl Table {
    /// An empty table.
    pub fn new(settings: Settings) -> Table {
        Table { settings, ..Table::default() }
    }

    /// From now on beats carry `nonce`, or the one before it. Without any, all beats count.
    pub fn ask(&mut self, nonce: String) {
        if self.nonces.last() != Some(&nonce) {
            self.nonces.push(nonce);
            let old = self.nonces.len().saturating_sub(2);
            self.nonces.drain(..old);
        }
    }

    /// Somebody leads the servers, or nobody does. If nobody did for longer than an election takes,
    /// servers did not hear each other, so that nothing follows from what they did not hear of
    /// boards, nor from wills that come as soon as they hear again.
    pub fn led(&mut self, somebody: bool, now_ms: i64) {
        match (self.unled_since_ms, somebody) {
            (None, false) => self.unled_since_ms = Some(now_ms),
            (Some(since), true) => {
                self.unled_since_ms = None;
                if now_ms - since > ELECTION_MS {
                    self.excuse(now_ms - since, now_ms);
                }
            }
            _ => {}
        }
    }

    /// This member leads from now on: what it knows may be old, so everybody gets a moment.
    pub fn lead(&mut self, now_ms: i64) {
        self.led(true, now_ms);
        self.leading_since_ms = Some(now_ms);
    }

    /// For this long, up to now, nobody could be heard, whoever lived: no majority of the servers
    /// heard each other. Boards look for a broker at growing intervals, about as long as it was
    /// away: as much time as that they get to be back, before their silence or a will means
    /// anything. A broker that hung publishes, when it goes on, the wills of all who gave it up.
    pub fn excuse(&mut self, length_ms: i64, now_ms: i64) {
        let from = now_ms - length_ms.max(0);
        let goes_on = now_ms <= self.excused_ms;
        self.excused_from_ms = if goes_on { self.excused_from_ms.min(from) } else { from };
        let length = length_ms.max(0) + self.settings.silent_after_ms;
        let until = now_ms + (length + length / 2).min(self.settings.reconnect_ms);
        self.excused_ms = self.excused_ms.max(until);
    }

    /// Says which boards there are: those never heard are waited for from now on, those that
    /// are no more are forgotten.
    pub fn expect<'a>(&mut self, names: impl Iterator<Item = &'a str>, now_ms: i64) {
        let mut before = std::mem::take(&mut self.nodes);
        let wait = self.settings.unheard_silent_ms;
        let new = self.leading_since_ms.is_some_and(|since| now_ms - since > wait);
        for name in names.take(MOST_NODES) {
            let fresh = || Record { expected_ms: now_ms, new, ..Record::default() };
            let record = before.remove(name).unwrap_or_else(fresh);
            self.nodes.insert(name.to_owned(), record);
        }
        // A board beats before its Node is made: keep it while it does.
        let patience = self.settings.unheard_lost_ms;
        let beats = |record: &Record| record.heard.is_some_and(|m| now_ms - m.mono_ms < patience);
        self.nodes.extend(before.into_iter().filter(|(_, record)| beats(record)));
    }

    /// Takes in a beat that came from `sender`. Says whether the board stood worse before.
    ///
    /// # Errors
    /// The beat is malformed, old, or somebody else's; nothing has changed then.
    pub fn hear(&mut self, sender: &str, payload: &[u8], now: Moment) -> Result<bool, BeatError> {
        let beat = Beat::read(payload)?;
        if beat.node != sender {
            return Err(BeatError::Stranger { node: beat.node });
        }
        if !self.nonces.is_empty() && !self.nonces.contains(&beat.nonce) {
            return Err(BeatError::Stale);
        }
        if self.nodes.len() >= MOST_NODES && !self.nodes.contains_key(sender) {
            return Err(BeatError::TooMany);
        }
        let before = self.standing(sender, now.mono_ms);
        let longest = self.settings.node_grace_ms;
        let record = self.nodes.entry(sender.to_owned()).or_default();
        let known = record.beat.as_ref().filter(|known| known.session == beat.session);
        if known.is_some_and(|known| beat.sequence <= known.sequence) {
            return Err(BeatError::Repeated);
        }
        let same = known.is_some();
        let late = |at: i64| same && now.mono_ms - at < STILL_UNDER_WAY_MS;
        if !record.gone_ms.is_some_and(late) {
            record.gone_ms = None;
        }
        let pace = known.is_some_and(|known| known.every_ms == beat.every_ms);
        match record.heard {
            Some(last) if pace => record.gaps.take((now.mono_ms - last.mono_ms).min(longest)),
            _ => record.gaps = Gaps::default(),
        }
        record.heard = Some(now);
        record.beat = Some(Arc::new(beat));
        Ok(before != self.standing(sender, now.mono_ms))
    }

    /// The board's will was heard. Says whether that changes anything.
    pub fn gone(&mut self, node: &str, now_ms: i64) -> bool {
        if self.nodes.len() >= MOST_NODES && !self.nodes.contains_key(node) {
            return false;
        }
        let record = self.nodes.entry(node.to_owned()).or_default();
        let fresh = record.gone_ms.is_none();
        record.gone_ms.get_or_insert(now_ms);
        fresh
    }

    /// The board is connected again: its will is void, its silence counts by itself.
    pub fn back(&mut self, node: &str) -> bool {
        let record = self.nodes.get_mut(node);
        record.is_some_and(|record| record.gone_ms.take().is_some())
    }

    /// What is thought of a board now.
    pub fn standing(&self, node: &str, now_ms: i64) -> Standing {
        self.nodes.get(node).map_or(Standing::Unheard, |record| self.judge(record, now_ms).0)
    }

    /// All boards as controllers see them.
    pub fn all(&self, now_ms: i64) -> BTreeMap<String, Liveness> {
        let seen = |(name, record): (&String, &Record)| (name.clone(), self.seen(record, now_ms));
        self.nodes.iter().map(seen).collect()
    }

    /// How many boards are known.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// One board as controllers see it.
    pub fn one(&self, node: &str, now_ms: i64) -> Option<Liveness> {
        self.nodes.get(node).map(|record| self.seen(record, now_ms))
    }

    fn seen(&self, record: &Record, now_ms: i64) -> Liveness {
        Liveness {
            standing: self.judge(record, now_ms).0,
            crashed: record.gone_ms.is_some_and(|gone| now_ms >= self.told_ms(gone)),
            heard_at_ms: record.heard.map(|heard| heard.wall_ms),
            beat: record.beat.clone(),
        }
    }

    /// From when on a will counts that was heard at `gone`: one that came before the outage, at
    /// once.
    fn told_ms(&self, gone: i64) -> i64 {
        if gone < self.excused_from_ms { gone } else { gone.max(self.excused_ms) }
    }

    /// When the next board would stand worse if nothing is heard until then.
    pub fn due_ms(&self, now_ms: i64) -> Option<i64> {
        self.nodes.values().filter_map(|record| self.judge(record, now_ms).1).min()
    }

    /// The standing, and when it gets worse.
    fn judge(&self, record: &Record, now_ms: i64) -> (Standing, Option<i64>) {
        let set = &self.settings;
        let stopping = record.beat.as_ref().filter(|beat| beat.stopping);
        match (record.heard, record.gone_ms, stopping) {
            (Some(heard), _, Some(last)) => {
                let lost = heard.mono_ms + set.stopping_grace_ms.max(last.away_ms);
                // Its pods run on, unless they end with the board.
                let first = if last.off { Standing::Silent } else { Standing::Stopping };
                step(now_ms, first, &[(lost, Standing::Lost)])
            }
            (_, Some(gone), _) => {
                let gone = self.told_ms(gone);
                let steps = [(gone, Standing::Silent), (gone + set.crash_grace_ms, Standing::Lost)];
                step(now_ms, Standing::Alive, &steps)
            }
            (Some(heard), None, _) => {
                let (silent, lost) = self.patience(record);
                let since = heard.mono_ms.max(self.since_takeover(lost)).max(self.excused_ms);
                let steps = [(since + silent, Standing::Silent), (since + lost, Standing::Lost)];
                step(now_ms, Standing::Alive, &steps)
            }
            (None, None, _) => {
                let since = record.expected_ms.max(self.leading_since_ms.unwrap_or(i64::MIN));
                let lost = if record.new { set.unheard_silent_ms } else { set.unheard_lost_ms };
                let steps = [
                    (since + set.unheard_silent_ms, Standing::Silent),
                    (since + lost, Standing::Lost),
                ];
                step(now_ms, Standing::Unheard, &steps)
            }
        }
    }

    /// The earliest moment that a board may be taken to have been heard, so that it isn't lost
    /// before a new leader had a chance to hear it.
    fn since_takeover(&self, lost: i64) -> i64 {
        self.leading_since_ms.map_or(i64::MIN, |at| at + self.settings.takeover_ms.min(lost) - lost)
    }

    /// How long a board may be quiet before it is silent, and lost.
    fn patience(&self, record: &Record) -> (i64, i64) {
        let set = &self.settings;
        let every = record.beat.as_ref().map_or(0, |beat| beat.every_ms);
        let least = set.silent_after_ms.max(2 * every + SPARE_MS);
        let most = least.max(set.node_grace_ms);
        let silent = record.gaps.ordinary_ms().unwrap_or(least).clamp(least, most);
        (silent, set.node_grace_ms.max(set.silent_after_ms) + silent - set.silent_after_ms)
    }
}

/// Where `now` is on a way of steps, and when the next one comes.
fn step(now: i64, first: Standing, steps: &[(i64, Standing)]) -> (Standing, Option<i64>) {
    let mut standing = first;
    for (at, next) in steps {
        if now < *at {
            return (standing, Some(*at));
        }
        standing = *next;
    }
    (standing, None)
}
