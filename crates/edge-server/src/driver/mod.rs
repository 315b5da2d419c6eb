//! The leader's loop: gather what changed, let every controller plan, carry the plans out, and
//! sleep until something changes. All decisions are in `edge-core`; all effects go through the
//! same pipeline as anybody's requests.

mod absent;
mod beats;
mod carry;
mod feed;
mod record;

use std::time::Duration;

use edge_core::controllers::{self, Controller};
use edge_core::plan::Plan;
use edge_core::scheduler;
use edge_core::view::Round;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::api::{Api, now_ms};
use absent::Absent;
pub use beats::Beats;
use feed::Feed;
use record::Recorder;

/// Everything is planned again after this long without a change: it repairs whatever a lost
/// wake-up left behind, and writes nothing when nothing is wrong.
const RESYNC: Duration = Duration::from_secs(300);

/// Rounds in a row that may act with no news from outside before the loop slows down: a plan
/// that never settles must not spin.
const BRISK_ROUNDS: u32 = 20;

/// The first and the longest pause of a loop that does not settle.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(30);

/// The scheduler plans last: what controllers made in this round it places in this round.
const SCHEDULER: Controller = Controller { name: scheduler::NAME, plan: scheduler::plan };

/// Runs until `stop` turns true or its sender is gone.
pub(crate) async fn run(api: Api, mut stop: watch::Receiver<bool>) {
    let recorder = Recorder::start(api.clone());
    loop {
        tokio::select! {
            () = lead(&api, &recorder) => {}
            _ = stop.wait_for(|stopped| *stopped) => return,
        }
    }
}

/// From a fresh reading of everything to the moment when the watch is lost.
async fn lead(api: &Api, recorder: &Recorder) {
    api.beats().lead();
    let mut feed = match Feed::open(api) {
        Ok(feed) => feed,
        Err(error) => {
            tracing::warn!("controllers: read the cluster's state: {error}");
            sleep(PAUSE_LONGEST).await;
            return;
        }
    };
    let mut absent = Absent::new(api.inner.leadership.news());
    let mut unsettled = 0;
    loop {
        if !feed.drain() {
            return;
        }
        feed.miss(absent.look(Instant::now()).0);
        let (acted, wake_at_ms) = round(api, &mut feed, recorder).await;
        if acted {
            unsettled += 1;
            if unsettled > BRISK_ROUNDS {
                sleep(pause(unsettled - BRISK_ROUNDS)).await;
            }
            continue;
        }
        match wait(api.beats(), &mut absent, &mut feed, wake_at_ms).await {
            Some(true) => unsettled = 0,
            Some(false) => {}
            None => return,
        }
    }
}

/// Waits for news (`Some(true)`) or the time to look again (`Some(false)`); `None` when the
/// watch is lost.
async fn wait(
    beats: &Beats,
    absent: &mut Absent,
    feed: &mut Feed,
    wake_at_ms: Option<i64>,
) -> Option<bool> {
    let due = wake_at_ms.map_or(RESYNC, |at| {
        let left = u64::try_from(at - now_ms()).unwrap_or(0);
        Duration::from_millis(left + 1).min(RESYNC)
    });
    let due = Instant::now() + due;
    loop {
        let (away, next) = absent.look(Instant::now());
        if away != feed.view().away {
            return Some(true);
        }
        tokio::select! {
            more = absent.changed(next) => if !more { return None },
            alive = feed.next() => return alive.then_some(true),
            () = sleep_until(due) => return Some(false),
            () = beats.changed() => {
                if feed.compare(beats).0 {
                    return Some(true);
                }
            }
        }
    }
}

fn pause(over: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(over.min(16))).min(PAUSE_LONGEST)
}

/// One round of all controllers. Says whether any of them acted, and when to look again.
async fn round(api: &Api, feed: &mut Feed, recorder: &Recorder) -> (bool, Option<i64>) {
    let mut all = Plan::default();
    let mut acted = false;
    if feed.compare(api.beats()).1 {
        api.beats().doubt(api.store()).await;
    }
    feed.listen(api.beats());
    for controller in controllers::ALL.iter().chain([&SCHEDULER]) {
        let moment = Round { now_ms: now_ms(), seed: api.random() };
        let plan = (controller.plan)(feed.view(), &moment);
        if let Some(at) = plan.wake_at_ms {
            all.wake(at);
        }
        if plan.actions.is_empty() {
            continue;
        }
        acted = true;
        carry::out(api, controller.name, plan.actions, recorder).await;
        // Our own writes are in the history by now: the next controller sees them.
        if !feed.drain() {
            break;
        }
    }
    (acted, all.wake_at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_settle_slows_down() {
        assert!(pause(1) < pause(2));
        assert_eq!(pause(1000), PAUSE_LONGEST);
    }
}
