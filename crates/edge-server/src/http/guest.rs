//! A connection's place: on the porch until it has shown who it is, by a certificate or by a token,
//! and inside from then on. Whoever shows nothing makes room for others, and does not stay.

use edge_core::porch::Place;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

/// A place on the porch.
pub(super) type OnPorch = Place<oneshot::Sender<()>>;

/// How one connection comes in: its place until it has shown who it is, what tells it that it has
/// to make room, and where it gets its place then.
pub(super) struct Way {
    pub(super) place: OnPorch,
    pub(super) kicked: oneshot::Receiver<()>,
    pub(super) room: Arc<Semaphore>,
}

/// What a connection holds for as long as it is served.
enum Held {
    Porch { _place: OnPorch },
    Inside { _permit: OwnedSemaphorePermit },
}

/// A connection that is served.
pub(super) struct Guest {
    held: Option<Held>,
    kicked: oneshot::Receiver<()>,
    room: Arc<Semaphore>,
    /// Told when a token has proven who this is.
    pub(super) proven: Arc<Notify>,
    /// What it asks, and when it asked last.
    pub(super) pace: Arc<Pace>,
    patience: Duration,
}

impl Guest {
    /// Lets a connection in that is `known` by its certificate, or to the porch; `None`: there is
    /// no room. One on the porch may be quiet for `patience`, and so long may getting in take.
    pub(super) async fn enter(way: Way, known: bool, patience: Duration) -> Option<Guest> {
        let Way { place, kicked, room } = way;
        let held = match known {
            true => inside(place, &room, patience).await?,
            // Whoever showed nothing stays where it is: it has little to ask, and that soon.
            false => Held::Porch { _place: place },
        };
        let (proven, pace) = (Arc::default(), Arc::new(Pace::begin()));
        Some(Guest { held: Some(held), kicked, room, proven, pace, patience })
    }

    /// Waits until the connection has to go; says why. Lets it in once it has proven itself.
    pub(super) async fn unwelcome(&mut self) -> &'static str {
        if !matches!(self.held, Some(Held::Porch { .. })) {
            return std::future::pending().await;
        }
        tokio::select! {
            _ = &mut self.kicked => return "made room for another",
            () = self.pace.quiet(self.patience) => return "asked nothing, and showed nothing",
            () = self.proven.notified() => {}
        }
        let Some(Held::Porch { _place: place }) = self.held.take() else { return "has no place" };
        match inside(place, &self.room, self.patience).await {
            Some(held) => self.held = Some(held),
            None => return "is let go: there is no room",
        }
        std::future::pending().await
    }
}

/// A place inside, in exchange for the one on the porch.
async fn inside(place: OnPorch, room: &Arc<Semaphore>, patience: Duration) -> Option<Held> {
    let permit = timeout(patience, room.clone().acquire_owned()).await.ok()?.ok()?;
    drop(place);
    Some(Held::Inside { _permit: permit })
}

/// When a connection asked last, and whether it waits for an answer.
pub(super) struct Pace(Mutex<(usize, Instant)>);

/// A request that is being answered.
pub(super) struct Asking<'a>(&'a Pace);

impl Pace {
    fn begin() -> Pace {
        Pace(Mutex::new((0, Instant::now())))
    }

    fn state(&self) -> MutexGuard<'_, (usize, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request, until what this gives is dropped.
    pub(super) fn ask(&self) -> Asking<'_> {
        self.state().0 += 1;
        Asking(self)
    }

    /// Waits until nothing was asked for so long.
    async fn quiet(&self, patience: Duration) {
        loop {
            let (asking, last) = *self.state();
            let due = if asking > 0 { Instant::now() + patience } else { last + patience };
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        *state = (state.0.saturating_sub(1), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_core::porch::{Porch, Room};

    const PATIENCE: Duration = Duration::from_millis(40);

    async fn guest(room: usize) -> (Arc<Porch<oneshot::Sender<()>>>, Guest) {
        let porch = Porch::new(Room { each: 1, all: 1 });
        let (kick, kicked) = oneshot::channel();
        let (place, _) = porch.enter(Some(1), kick);
        let way = Way { place, kicked, room: Arc::new(Semaphore::new(room)) };
        (porch, Guest::enter(way, false, PATIENCE).await.unwrap())
    }

    #[tokio::test]
    async fn whoever_shows_nothing_does_not_stay() {
        let (_porch, mut guest) = guest(1).await;
        let began = Instant::now();
        assert!(guest.unwelcome().await.contains("nothing"));
        assert!(began.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn an_answer_may_take_its_time() {
        let (_porch, mut guest) = guest(1).await;
        let pace = guest.pace.clone();
        let began = Instant::now();
        let asking = async {
            let _asking = pace.ask();
            tokio::time::sleep(PATIENCE * 3).await;
        };
        tokio::join!(guest.unwelcome(), asking);
        assert!(began.elapsed() >= PATIENCE * 4);
    }

    #[tokio::test]
    async fn a_token_leads_inside_where_nobody_pushes() {
        let (porch, mut guest) = guest(1).await;
        guest.proven.notify_one();
        let stays = timeout(PATIENCE * 4, guest.unwelcome()).await;
        assert!(stays.is_err(), "{stays:?}");
        assert!(matches!(guest.held, Some(Held::Inside { .. })));
        let (_place, pushed) = porch.enter(Some(1), oneshot::channel().0);
        assert!(pushed.is_none(), "its place is free");
    }

    #[tokio::test]
    async fn the_porch_is_for_the_newest() {
        let (porch, mut guest) = guest(0).await;
        let (_place, pushed) = porch.enter(Some(1), oneshot::channel().0);
        drop(pushed);
        assert_eq!(guest.unwelcome().await, "made room for another");
    }
}
