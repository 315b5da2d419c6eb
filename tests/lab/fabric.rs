//! The switch of the laboratory: frames between the boards' cards, each direction of each pair
//! with its own weather, changed while frames flow. One thread with epoll, a timer for what is
//! delayed, and no copy of a frame that may pass at once.

use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::chance::Chance;
use super::link::{Count, Fate, Link, Weather};
use super::tap::{FRAME, HEADER};

/// Frames taken from one card before the next card has its turn.
const TURN: usize = 64;

/// Frames that may be on their way at once; more are lost, as in a real switch.
const HELD: usize = 65536;

/// Marks in epoll that are no ports.
const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// A port's number.
pub(crate) type Port = usize;

/// A frame that is on its way. The heap gives the earliest first.
struct Flying {
    due: Instant,
    number: u64,
    from: Port,
    to: Port,
    frame: Vec<u8>,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Flying) -> bool {
        self.number == other.number
    }
}

impl Eq for Flying {}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Flying) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flying {
    fn cmp(&self, other: &Flying) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

struct State {
    /// The card on each port; none while the board has no power.
    cards: Vec<Option<Arc<File>>>,
    links: BTreeMap<(Port, Port), Link>,
    flying: BinaryHeap<Flying>,
    number: u64,
    chance: Chance,
}

struct Shared {
    state: Mutex<State>,
    epoll: Epoll,
    wake: EventFd,
    timer: TimerFd,
    stop: AtomicBool,
}

/// The switch. Its thread ends when this is dropped.
pub(crate) struct Fabric {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The hardware address of a port: its number is in it, so that nothing has to be learned.
pub(crate) fn mac(port: Port) -> [u8; 6] {
    [0x02, 0xed, 0, 0, 0, u8::try_from(port + 1).expect("at most 255 ports")]
}

fn port_of(mac: &[u8]) -> Option<Port> {
    match mac {
        [0x02, 0xed, 0, 0, 0, n] => usize::from(*n).checked_sub(1),
        _ => None,
    }
}

impl Fabric {
    /// A switch with this many empty ports, all of whose cables are perfect.
    pub(crate) fn new(ports: usize, seed: u64) -> Fabric {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let wake = wake.expect("an eventfd");
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).expect("a timer");
        let readable = |mark| EpollEvent::new(EpollFlags::EPOLLIN, mark);
        epoll.add(&wake, readable(WAKE)).expect("epoll takes it");
        epoll.add(&timer, readable(TIMER)).expect("epoll takes it");
        let state = State {
            cards: vec![None; ports],
            links: BTreeMap::new(),
            flying: BinaryHeap::new(),
            number: 0,
            chance: Chance::new(seed),
        };
        let stop = AtomicBool::new(false);
        let shared = Arc::new(Shared { state: Mutex::new(state), epoll, wake, timer, stop });
        let run = shared.clone();
        let thread = std::thread::Builder::new().name("lab-switch".into());
        let thread = thread.spawn(move || run.run()).expect("a thread");
        Fabric { shared, thread: Some(thread) }
    }

    /// Puts a board's card on a port.
    pub(crate) fn plug(&self, port: Port, card: File) {
        let mark = u64::try_from(port).expect("64 bits");
        let event = EpollEvent::new(EpollFlags::EPOLLIN, mark);
        self.shared.epoll.add(&card, event).expect("epoll takes a card");
        self.shared.lock().cards[port] = Some(Arc::new(card));
    }

    /// Takes a board's card from its port: what it sends or would get is lost.
    pub(crate) fn unplug(&self, port: Port) {
        if let Some(card) = self.shared.lock().cards[port].take() {
            let _ = self.shared.epoll.delete(card.as_fd());
        }
    }

    /// How many ports there are.
    pub(crate) fn ports(&self) -> usize {
        self.shared.lock().cards.len()
    }

    /// Changes the weather of one direction.
    pub(crate) fn set(&self, from: Port, to: Port, change: impl FnOnce(&mut Weather)) {
        let mut state = self.shared.lock();
        change(&mut state.links.entry((from, to)).or_default().weather);
    }

    /// Changes the weather of both directions between two ports.
    pub(crate) fn set_both(&self, one: Port, other: Port, change: impl Fn(&mut Weather)) {
        self.set(one, other, &change);
        self.set(other, one, &change);
    }

    /// Changes the weather between a port and all others, both ways.
    pub(crate) fn set_all_of(&self, port: Port, change: impl Fn(&mut Weather)) {
        for other in (0..self.ports()).filter(|other| *other != port) {
            self.set_both(port, other, &change);
        }
    }

    /// Changes the weather everywhere among these ports.
    pub(crate) fn set_among(&self, ports: &[Port], change: impl Fn(&mut Weather)) {
        for (n, one) in ports.iter().enumerate() {
            for other in &ports[n + 1..] {
                self.set_both(*one, *other, &change);
            }
        }
    }

    /// Makes all cables perfect again.
    pub(crate) fn heal(&self) {
        for link in self.shared.lock().links.values_mut() {
            link.weather = Weather::default();
        }
    }

    /// What crossed a direction so far.
    pub(crate) fn count(&self, from: Port, to: Port) -> Count {
        self.shared.lock().links.get(&(from, to)).map_or(Count::default(), |link| link.count)
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.shared.wake.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = [EpollEvent::empty(); 32];
        let mut buffer = vec![0; FRAME];
        let mut set_for = None;
        while !self.stop.load(Ordering::Acquire) {
            let Ok(count) = self.epoll.wait(&mut events, EpollTimeout::NONE) else { continue };
            let mut state = self.lock();
            for event in &events[..count] {
                match event.data() {
                    WAKE => {
                        let _ = self.wake.read();
                    }
                    TIMER => {
                        let _ = self.timer.wait();
                        set_for = None;
                    }
                    port => {
                        let port = usize::try_from(port).expect("a port");
                        state.take_from(port, &mut buffer);
                    }
                }
            }
            let next = state.land(Instant::now());
            if next != set_for {
                set_for = next;
                self.set_timer(next);
            }
        }
    }

    fn set_timer(&self, next: Option<Instant>) {
        let Some(next) = next else { return };
        let left = next.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let at = Expiration::OneShot(TimeSpec::from_duration(left));
        self.timer.set(at, TimerSetTimeFlags::empty()).expect("a timer can be set");
    }
}

impl State {
    /// Takes a turn's frames from a card and sends them on.
    fn take_from(&mut self, from: Port, buffer: &mut [u8]) {
        let Some(card) = self.cards.get(from).cloned().flatten() else { return };
        for _ in 0..TURN {
            let Ok(length) = (&*card).read(buffer) else { return };
            let frame = &buffer[..length];
            let Some(destination) = frame.get(HEADER..HEADER + 6) else { continue };
            if destination[0] & 1 == 1 {
                for to in (0..self.cards.len()).filter(|to| *to != from) {
                    self.offer(from, to, frame);
                }
            } else if let Some(to) = port_of(destination).filter(|to| *to < self.cards.len()) {
                self.offer(from, to, frame);
            }
        }
    }

    fn offer(&mut self, from: Port, to: Port, frame: &[u8]) {
        let link = self.links.entry((from, to)).or_default();
        let bytes = frame.len() - HEADER;
        match link.offer(Instant::now(), bytes, &mut self.chance) {
            Fate::Lost => {}
            Fate::Now => self.deliver(from, to, frame),
            Fate::At(_) if self.flying.len() >= HELD => link.count.lost += 1,
            Fate::At(due) => {
                self.number += 1;
                let (number, frame) = (self.number, frame.to_vec());
                self.flying.push(Flying { due, number, from, to, frame });
            }
        }
    }

    /// Delivers what is due; says when the next frame is.
    fn land(&mut self, now: Instant) -> Option<Instant> {
        while self.flying.peek().is_some_and(|flying| flying.due <= now) {
            let Some(flying) = self.flying.pop() else { break };
            self.deliver(flying.from, flying.to, &flying.frame);
        }
        self.flying.peek().map(|flying| flying.due)
    }

    fn deliver(&mut self, from: Port, to: Port, frame: &[u8]) {
        let link = self.links.entry((from, to)).or_default();
        let Some(card) = &self.cards[to] else {
            link.count.lost += 1;
            return;
        };
        if link.arrives(frame.len() - HEADER) {
            // A card that is down or full loses the frame, as a real one does.
            let _ = (&**card).write(frame);
        }
    }
}
