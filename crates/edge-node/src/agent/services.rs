//! Services and their endpoints as this board sees them: followed from the API, and turned into
//! the kernel's tables, change by change.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use edge_api::kinds::{ENDPOINT_SLICE, SERVICE};
use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_client::{WatchParams, Watcher};
use edge_core::proxy::Name;

use tokio::time::Instant;

use super::announce::Announcer;
use super::board::Board;
use super::events::Grade::Warning;
use super::events::Subject;
use super::health_checks::HealthChecks;
use super::recall::{self, Recall};
use super::{host_ports, remembered};

/// So long after a change the next ones wait for each other, and are applied together.
const SETTLE: Duration = Duration::from_millis(10);
/// Tables that could not be applied are tried again after this long.
const RETRY: Duration = Duration::from_secs(5);
/// Whoever has not answered a connection by then, and is no endpoint any more, will not.
const ANSWER: Duration = Duration::from_millis(300);
/// While no server answers, the board's own pods are looked at so often.
const REMIND: Duration = Duration::from_secs(1);
/// Somebody may have flushed the board's rules: so often we look. It costs next to nothing when
/// nobody has.
const LOOK: Duration = Duration::from_secs(60);

/// What is known, from where, and what is to be done about it.
struct Follower {
    board: Arc<Board>,
    heard_services: bool,
    heard_slices: bool,
    /// What the disk holds, for as long as no server has been heard.
    remembered: Vec<Object>,
    recall: Recall,
    applied: Applied,
    apply_at: Option<Instant>,
    applied_at: Option<Instant>,
    /// When connections that are still unanswered are forgotten.
    forget_at: Option<Instant>,
}

/// Follows Services and EndpointSlices, and keeps the kernel's tables as they want them.
pub(crate) async fn run(board: Arc<Board>) {
    let watch = |kind| Watcher::new(board.client.clone(), kind, "", WatchParams::default());
    let (mut services, mut slices) = (watch(SERVICE), watch(ENDPOINT_SLICE));
    let mut follower = Follower::new(board.clone());
    let mut remind = Instant::now() + recall::PATIENCE;
    loop {
        let due = follower.apply_at.unwrap_or(remind);
        let forget = follower.forget_at.unwrap_or(remind);
        tokio::select! {
            event = services.next() => follower.services(event),
            event = slices.next() => follower.slices(event),
            () = board.ports_changed.notified() => {
                follower.applied.pods_moved = true;
                follower.apply_soon();
            }
            () = tokio::time::sleep_until(remind), if follower.unheard() => {
                follower.remind();
                remind = Instant::now() + REMIND;
            }
            () = follower.recall.due() => follower.save().await,
            () = tokio::time::sleep_until(forget), if follower.forget_at.is_some() => {
                follower.forget_unanswered().await;
            }
            () = tokio::time::sleep_until(due), if follower.apply_at.is_some() => {
                follower.apply().await;
            }
        }
    }
}

impl Follower {
    fn new(board: Arc<Board>) -> Follower {
        let mut recall = Recall::new(&board.data_dir, "services");
        let remembered = recall.load();
        board.net.keep_addresses(remembered::addresses(&remembered, &board.name));
        Follower {
            board,
            heard_services: false,
            heard_slices: false,
            remembered,
            recall,
            applied: Applied::default(),
            apply_at: None,
            applied_at: None,
            forget_at: None,
        }
    }

    fn services(&mut self, event: Event) {
        self.heard_services = true;
        self.take_services(event);
        self.heard();
    }

    fn slices(&mut self, event: Event) {
        self.heard_slices = true;
        self.take_slices(event);
        self.heard();
    }

    fn take_services(&self, event: Event) {
        self.board.names.write().unwrap_or_else(PoisonError::into_inner).services(&event);
        let mut table = self.board.services.write().unwrap_or_else(PoisonError::into_inner);
        table.take_services(event);
    }

    fn take_slices(&self, event: Event) {
        self.board.names.write().unwrap_or_else(PoisonError::into_inner).slices(&event);
        let mut table = self.board.services.write().unwrap_or_else(PoisonError::into_inner);
        table.take_slices(event);
    }

    fn heard(&mut self) {
        if self.heard_services && self.heard_slices {
            self.remembered = Vec::new();
            self.recall.changed();
        }
        self.apply_soon();
    }

    /// True while what the disk holds is all there is.
    fn unheard(&self) -> bool {
        !self.remembered.is_empty() && !self.heard_services && !self.heard_slices
    }

    /// What stands in the kernel stays until both lists are known; after a boot nothing does.
    fn apply_soon(&mut self) {
        let booted = self.unheard() && self.board.net.is_fresh();
        if booted || (self.heard_services && self.heard_slices) {
            self.board.endpoints_changed.notify_one();
            let soon = self.applied_at.map_or_else(Instant::now, |at| at + SETTLE);
            self.apply_at = Some(self.apply_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// No server answers: takes in what the disk holds, with the board's own pods as they are now.
    fn remind(&mut self) {
        let (slices, services): (Vec<&Object>, Vec<&Object>) =
            self.remembered.iter().partition(|object| remembered::is_slice(object));
        let pods = self.board.pod_views();
        let name = &self.board.name;
        let now = slices.iter().map(|slice| remembered::refreshed(slice, name, &pods)).collect();
        let first = {
            let table = self.board.services.read().unwrap_or_else(PoisonError::into_inner);
            let (services, slices) = (table.live.services(), table.live.slices());
            let same = |now: &Vec<Object>| now.iter().eq(slices.values());
            if !services.is_empty() && same(&now) {
                return;
            }
            services.is_empty()
        };
        if first {
            tracing::info!(
                "no server answers: {} Services and their endpoints as the disk has them",
                services.len()
            );
            self.take_services(Event::Restarted(services.into_iter().cloned().collect()));
        }
        self.take_slices(Event::Restarted(now));
        self.apply_soon();
    }

    async fn save(&mut self) {
        let lines: Vec<Object> = {
            let table = self.board.services.read().unwrap_or_else(PoisonError::into_inner);
            let (services, slices) = table.all();
            services.map(remembered::service).chain(slices.map(remembered::slice)).collect()
        };
        self.recall.save(lines.into_iter()).await;
    }

    async fn apply(&mut self) {
        let again = if self.applied.apply(&self.board).await { RETRY } else { LOOK };
        let now = Instant::now();
        (self.applied_at, self.apply_at) = (Some(now), Some(now + again));
        self.forget_at = Some(now + ANSWER);
    }

    async fn forget_unanswered(&mut self) {
        self.forget_at = None;
        match self.board.net.forget_unanswered().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!("{count} unanswered connections forgotten"),
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

/// What stands of the tables beside the kernel's maps.
#[derive(Default)]
struct Applied {
    checks: HealthChecks,
    announcer: Announcer,
    /// True when the kernel's maps are what the changes so far have led to.
    in_step: bool,
    /// True when ports that pods have of the board may be others.
    pods_moved: bool,
    /// When everything was looked at, not only what had changed.
    looked: Option<Instant>,
}

/// Tells people about a Service.
fn say(board: &Board, namespace: &str, name: &str, reason: &'static str, message: String) {
    let key: Name = (namespace.to_owned(), name.to_owned());
    let table = board.services.read().unwrap_or_else(PoisonError::into_inner);
    let service = table.live.services().get(&key);
    let uid = service.map_or("", |service| meta::uid(service)).to_owned();
    drop(table);
    tracing::warn!("Service {namespace}/{name}: {message}");
    let (namespace, name) = key;
    let about = Subject { kind: "Service", namespace, name, uid, field_path: None };
    board.events.say(&about, Warning, reason, message);
}

impl Applied {
    /// Applies what has changed; true when that has to be tried again.
    async fn apply(&mut self, board: &Arc<Board>) -> bool {
        let begin = Instant::now();
        let all = self.looked.is_none_or(|at| at + LOOK <= begin);
        let looks = all || self.pods_moved;
        let pods = looks.then(|| host_ports::routes(&board.pod_views()));
        let (patch, health, announced) = {
            let mut table = board.services.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(pods) = pods {
                table.live.set_pods(pods);
            }
            let patch = table.live.patch();
            let health = (all || patch.health).then(|| table.live.health());
            let announced = (all || patch.announced).then(|| table.live.announced());
            (patch, health, announced)
        };
        self.pods_moved = false;
        if all {
            self.looked = Some(begin);
        }
        for (front, holder, other) in &patch.clashes {
            tracing::warn!("Service {other} doesn't get {front}: {holder} has it; choose another");
        }
        if let Some(health) = health {
            for (check, why) in self.checks.set(&health).await {
                let why = format!("node {} {why}", board.name);
                say(board, &check.namespace, &check.name, "FailedToStartServiceHealthcheck", why);
            }
        }
        let fronts = patch.fronts.len();
        if self.in_step {
            self.in_step = board.net.patch_proxy(patch).await.unwrap_or_else(|error| {
                tracing::debug!("{error}; all Services are looked at");
                false
            });
        }
        let mut outcome = Ok(());
        if !self.in_step {
            let tables = {
                let table = board.services.read().unwrap_or_else(PoisonError::into_inner);
                table.live.tables()
            };
            outcome = board.net.apply_proxy(&tables).await;
            self.in_step = outcome.is_ok();
        }
        // Whoever is called by the announcement finds the way.
        if let Some(announced) = announced {
            self.announcer.set(board, announced);
        }
        if let Err(error) = &outcome {
            tracing::warn!("set up Services on this board: {error}; tried again in 5 s");
        } else {
            tracing::debug!("{fronts} ways to Services set in {:?}", begin.elapsed());
        }
        outcome.is_err()
    }
}
