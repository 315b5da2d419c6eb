//! The leader's loop: gather what changed, let every controller plan, carry the plans out, and
//! sleep until something changes. All decisions are in `edge-core`; all effects go through the
//! same pipeline as anybody's requests.

mod absent;
mod beats;
mod carry;
mod feed;
mod pace;
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
use pace::{Outcome, Pace};
use record::Recorder;

/// Everything is planned again after this long without a change: it repairs whatever a lost
/// wake-up left behind, and writes nothing when nothing is wrong.
const RESYNC: Duration = Duration::from_secs(300);

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
            sleep(pace::REST_LONGEST).await;
            return;
        }
    };
    let mut absent = Absent::new(api.inner.leadership.news());
    let mut paces = vec![Pace::default(); controllers::ALL.len() + 1];
    loop {
        match feed.drain() {
            Some(true) => paces.iter_mut().for_each(Pace::news),
            Some(false) => {}
            None => return,
        }
        feed.miss(absent.look(Instant::now()).0);
        let done = round(api, &mut feed, recorder, &mut paces).await;
        if done.stirred {
            paces.iter_mut().for_each(Pace::stirred);
        }
        let again = match next(&paces, done.wake_at_ms) {
            // What came while a controller wrote, the ones before it have not seen.
            _ if done.news => Some(true),
            _ if done.stirred => Some(false),
            Some(due) => wait(api.beats(), &mut absent, &mut feed, due).await,
            None => Some(false),
        };
        match again {
            Some(true) => paces.iter_mut().for_each(Pace::news),
            Some(false) => {}
            None => return,
        }
    }
}

/// Until when the loop may sleep; `None` when some controller is to be asked again at once.
fn next(paces: &[Pace], wake_at_ms: Option<i64>) -> Option<Instant> {
    let left = wake_at_ms.map_or(RESYNC, |at| {
        let left = u64::try_from(at - now_ms()).unwrap_or(0);
        Duration::from_millis(left + 1).min(RESYNC)
    });
    if paces.iter().any(Pace::is_brisk) {
        return None;
    }
    let due = Instant::now() + left;
    Some(paces.iter().filter_map(Pace::rest_until).fold(due, Instant::min))
}

/// Waits for news (`Some(true)`) or the time to look again (`Some(false)`); `None` when the
/// watch is lost.
async fn wait(beats: &Beats, absent: &mut Absent, feed: &mut Feed, due: Instant) -> Option<bool> {
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

/// What came of a round.
#[derive(Default)]
struct Done {
    /// When to look again.
    wake_at_ms: Option<i64>,
    /// The view has changed meanwhile.
    stirred: bool,
    /// It was somebody else who changed it.
    news: bool,
}

/// One round of all controllers that do not rest.
async fn round(api: &Api, feed: &mut Feed, recorder: &Recorder, paces: &mut [Pace]) -> Done {
    let (mut all, mut done) = (Plan::default(), Done::default());
    if feed.compare(api.beats()).1 {
        api.beats().doubt(api.store()).await;
    }
    feed.listen(api.beats());
    let controllers = controllers::ALL.iter().chain([&SCHEDULER]);
    for (controller, pace) in controllers.zip(paces) {
        if !pace.is_due(Instant::now()) {
            continue;
        }
        let moment = Round { now_ms: now_ms(), seed: api.random() };
        let plan = (controller.plan)(feed.view(), &moment);
        if let Some(at) = plan.wake_at_ms {
            all.wake(at);
        }
        if plan.actions.is_empty() {
            pace.after(Outcome::Settled, Instant::now());
            continue;
        }
        let changed = carry::out(api, controller.name, plan.actions, recorder).await;
        let outcome = if changed { Outcome::Changed } else { Outcome::Nothing };
        if pace.after(outcome, Instant::now()) {
            tracing::warn!(
                "controllers: {} does not settle: it plans the same again and again; it is asked \
                 less often now, and the others are not held up",
                controller.name
            );
        }
        // Our own writes are in the history by now: the next controller sees them.
        let Some(stirred) = feed.drain() else { break };
        done.stirred |= stirred;
        done.news |= stirred && !changed;
    }
    done.wake_at_ms = all.wake_at_ms;
    done
}
