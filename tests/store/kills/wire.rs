//! The wire between the children: a socket in the parent that everything goes through.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edge_core::consensus::MemberId;

use super::super::Random;
use super::{PARENT, Say, address};

/// Lost and doubled, in thousandths, and milliseconds of delay at most.
type Weather = (u64, u64, u64);

/// The parent's end of it.
pub(super) struct Router {
    base: PathBuf,
    socket: UnixDatagram,
    weather: Arc<Mutex<Option<Weather>>>,
}

impl Router {
    pub(super) fn new(base: &Path, seed: u64) -> (Router, Receiver<(MemberId, Say)>) {
        let socket = UnixDatagram::bind(address(base, PARENT)).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let out = UnixDatagram::unbound().unwrap();
        out.set_nonblocking(true).unwrap();
        let weather = Arc::new(Mutex::new(Some((0, 0, 0))));
        let (say, heard) = channel();
        let (base, shared) = (base.to_owned(), weather.clone());
        let router = Router { base: base.clone(), socket: out.try_clone().unwrap(), weather };
        std::thread::spawn(move || carry(&base, &socket, &out, &shared, &say, Random(seed)));
        (router, heard)
    }

    pub(super) fn weather(&self, weather: Weather) {
        *self.weather.lock().unwrap() = Some(weather);
    }

    /// Says something to a child; what does not arrive is lost.
    pub(super) fn tell(&self, to: MemberId, say: &Say) {
        let mut whole = PARENT.to_le_bytes().to_vec();
        whole.extend(say.encode());
        let _ = self.socket.send_to(&whole, address(&self.base, to));
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        *self.weather.lock().unwrap() = None;
    }
}

fn carry(
    base: &Path,
    socket: &UnixDatagram,
    out: &UnixDatagram,
    weather: &Mutex<Option<Weather>>,
    say: &Sender<(MemberId, Say)>,
    mut random: Random,
) {
    let mut waiting: BTreeMap<(Instant, u64), (MemberId, Vec<u8>)> = BTreeMap::new();
    let (mut order, mut buffer) = (0, vec![0; 256 * 1024]);
    loop {
        let Some((lost, twice, delay)) = *weather.lock().unwrap() else { return };
        if let Ok(length) = socket.recv(&mut buffer) {
            let (from, rest) = buffer[..length].split_first_chunk::<8>().unwrap();
            let (to, rest) = rest.split_first_chunk::<8>().unwrap();
            let (id, to) = (MemberId::from_le_bytes(*from), MemberId::from_le_bytes(*to));
            if to == PARENT {
                // Whoever listens may have heard enough.
                let _ = say.send((id, Say::decode(rest)));
            } else if random.below(1000) >= lost {
                let message = [&from[..], rest].concat();
                for _ in 0..1 + u64::from(random.below(1000) < twice) {
                    order += 1;
                    let late = Duration::from_micros(random.below(delay * 1000 + 1));
                    waiting.insert((Instant::now() + late, order), (to, message.clone()));
                }
            }
        }
        while let Some(first) = waiting.first_entry().filter(|f| f.key().0 <= Instant::now()) {
            let (to, message) = first.remove();
            let _ = out.send_to(&message, address(base, to));
        }
    }
}
