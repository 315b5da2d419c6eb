//! Addresses of the LAN that the leader has this board answer for: asked for, announced, answered
//! for while the cluster is in reach, and given up when somebody else has them. Without such an
//! address nothing runs here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use edge_api::kinds::NAMESPACE;
use edge_client::Error;
use edge_core::controllers::load_balancer::{CONFLICTS, NETWORKS};
use edge_core::proxy::claims::{Arp, Claims, Mac, Say};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::board::Board;
use super::events::Grade::Warning;
use super::events::Subject;
use crate::net::ArpSocket;

/// So often the cluster is asked whether it is there, while the board answers for an address.
const ASK_EVERY: Duration = Duration::from_millis(400);
/// An answer that takes longer is none.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// A link that could not be heard is tried again after this long.
const LINK_AGAIN: Duration = Duration::from_secs(1);
/// Pieces of news that wait; readers of links wait with the next one.
const NEWS: usize = 64;
/// The longest wait of a board that nothing is due for.
const LONGEST: Duration = Duration::from_secs(3600);

/// Which addresses are wanted here, and which of them another board had until now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wish {
    wanted: BTreeSet<Ipv4Addr>,
    from_board: BTreeSet<Ipv4Addr>,
}

/// Who announces each address, and the task that does so here.
#[derive(Default)]
pub(crate) struct Announcer {
    known: BTreeMap<Ipv4Addr, String>,
    wish: watch::Sender<Wish>,
    tasks: JoinSet<()>,
}

impl Announcer {
    /// Takes in which board is to announce each address.
    pub(crate) fn set(&mut self, board: &Arc<Board>, holders: BTreeMap<Ipv4Addr, String>) {
        let mine = |(_, name): &(&Ipv4Addr, &String)| **name == board.name;
        let wanted: BTreeSet<Ipv4Addr> = holders.iter().filter(mine).map(|(ip, _)| *ip).collect();
        let others = |ip: &&Ipv4Addr| {
            self.known.get(*ip).is_some_and(|name| !name.is_empty() && *name != board.name)
        };
        let from_board = wanted.iter().filter(others).copied().collect();
        self.known = holders;
        while self.tasks.try_join_next().is_some() {}
        let idle = wanted.is_empty() && self.tasks.is_empty();
        let wish = Wish { wanted, from_board };
        self.wish.send_if_modified(|known| {
            let changed = known.wanted != wish.wanted;
            if changed {
                *known = wish;
            }
            changed
        });
        if !idle && self.tasks.is_empty() {
            let mut wish = self.wish.subscribe();
            wish.mark_changed();
            self.tasks.spawn(run(board.clone(), wish));
        }
    }
}

/// What the task hears.
enum News {
    Packet(Mac, Arp),
    /// The link can't be heard any more.
    Lost(String),
    /// The cluster answered what was asked then.
    Reached(Instant),
}

/// A link that is listened on.
struct Ear {
    socket: Arc<ArpSocket>,
    reader: AbortHandle,
}

/// All that is known while addresses are held.
struct Keeper {
    board: Arc<Board>,
    begin: Instant,
    claims: Claims,
    /// The link of each address.
    places: BTreeMap<Ipv4Addr, String>,
    ears: BTreeMap<String, Ear>,
    readers: JoinSet<()>,
    asker: Option<AbortHandle>,
    news: mpsc::Sender<News>,
    told: BTreeMap<Ipv4Addr, Mac>,
}

/// Runs as long as the agent; listens and asks only while there is something to claim.
async fn run(board: Arc<Board>, mut wish: watch::Receiver<Wish>) {
    let (news, mut inbox) = mpsc::channel(NEWS);
    let begin = Instant::now();
    let mut keeper = Keeper {
        board,
        begin,
        claims: Claims::new(0),
        places: BTreeMap::new(),
        ears: BTreeMap::new(),
        readers: JoinSet::new(),
        asker: None,
        news,
        told: BTreeMap::new(),
    };
    let mut listen_at = None;
    loop {
        let due = keeper.step();
        if keeper.claims.is_idle() {
            keeper.rest();
        }
        tokio::select! {
            changed = wish.changed() => {
                if changed.is_err() {
                    return;
                }
                let next = wish.borrow_and_update().clone();
                listen_at = keeper.listen(&next.wanted).await;
                let now = keeper.ms(Instant::now());
                keeper.claims.want(&next.wanted, &next.from_board, now);
            }
            Some(news) = inbox.recv() => {
                if keeper.take(news) {
                    listen_at = Some(Instant::now() + LINK_AGAIN);
                }
            }
            () = tokio::time::sleep_until(due) => {}
            () = tokio::time::sleep_until(listen_at.unwrap_or(due)), if listen_at.is_some() => {
                let wanted = wish.borrow().wanted.clone();
                listen_at = keeper.listen(&wanted).await;
            }
        }
    }
}

impl Keeper {
    fn ms(&self, at: Instant) -> i64 {
        i64::try_from((at - self.begin).as_millis()).unwrap_or(i64::MAX)
    }

    /// Says what is due, and tells people and the leader what was found. Answers when to go on.
    fn step(&mut self) -> Instant {
        let now = self.ms(Instant::now());
        for say in self.claims.tick(now) {
            self.say(&say);
        }
        let conflicts = self.claims.conflicts();
        if conflicts != self.told {
            self.tell(conflicts);
        }
        let due = self.claims.due_ms().unwrap_or(i64::MAX);
        let wait = u64::try_from(due - now).map_or(Duration::ZERO, Duration::from_millis);
        Instant::now() + wait.min(LONGEST)
    }

    /// Nothing is claimed: nothing is listened for, and nobody is asked.
    fn rest(&mut self) {
        self.ears.clear();
        self.places.clear();
        self.asker = None;
        self.readers.abort_all();
    }

    fn say(&self, say: &Say) {
        let (Say::Probe(ip) | Say::Announce(ip) | Say::Answer(ip, _)) = say;
        let ear = self.places.get(ip).and_then(|link| self.ears.get(link));
        if let Some(Err(error)) = ear.map(|ear| ear.socket.say(say)) {
            tracing::debug!("say {say:?}: {error}");
        }
    }

    /// Takes in news; true when a link was lost.
    fn take(&mut self, news: News) -> bool {
        let now = self.ms(Instant::now());
        match news {
            News::Packet(own, packet) => {
                if let Some(say) = self.claims.hear(&packet, own, now) {
                    self.say(&say);
                }
            }
            News::Reached(asked) => self.claims.reached(self.ms(asked), now),
            News::Lost(link) => {
                self.ears.remove(&link);
                return true;
            }
        }
        false
    }

    /// Listens on the links of these addresses and no others. Answers when to try again.
    async fn listen(&mut self, wanted: &BTreeSet<Ipv4Addr>) -> Option<Instant> {
        while self.readers.try_join_next().is_some() {}
        if wanted.is_empty() && self.claims.is_idle() {
            return None;
        }
        if self.asker.is_none() {
            let asking = ask(self.board.clone(), self.news.clone());
            self.asker = Some(self.readers.spawn(asking));
        }
        let networks = match self.board.net.networks().await {
            Ok(networks) => networks,
            Err(error) => {
                tracing::warn!("look for the links of the LAN: {error}");
                return Some(Instant::now() + LINK_AGAIN);
            }
        };
        let conflicts = self.claims.conflicts();
        let places = wanted.iter().chain(conflicts.keys()).filter_map(|ip| {
            let network = networks.iter().find(|network| network.range.contains(*ip))?;
            Some((*ip, network.link.clone()))
        });
        self.places = places.collect();
        let links: BTreeSet<&String> = self.places.values().collect();
        self.ears.retain(|link, ear| {
            let stays = links.contains(link);
            if !stays {
                ear.reader.abort();
            }
            stays
        });
        let mut again = (self.places.len() < wanted.len()).then_some(());
        for link in links {
            if self.ears.contains_key(link) {
                continue;
            }
            match self.board.net.hear_arp(link) {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    let (ear, news) = (socket.clone(), self.news.clone());
                    let reader = self.readers.spawn(read(link.clone(), ear, news));
                    self.ears.insert(link.clone(), Ear { socket, reader });
                }
                Err(error) => {
                    tracing::warn!("{error}: tried again in {LINK_AGAIN:?}");
                    again = Some(());
                }
            }
        }
        again.map(|()| Instant::now() + LINK_AGAIN)
    }

    fn tell(&mut self, conflicts: BTreeMap<Ipv4Addr, Mac>) {
        let board = &self.board;
        for (ip, mac) in conflicts.iter().filter(|(ip, _)| !self.told.contains_key(ip)) {
            let why = format!("somebody else on the LAN has {ip}: {} answered", written(mac));
            tracing::warn!("{why}");
            let about = Subject::node(&board.name, &board.name);
            board.events.say(&about, Warning, "LanAddressConflict", why);
        }
        let mut shared = board.lan_conflicts.lock().unwrap_or_else(PoisonError::into_inner);
        shared.clone_from(&conflicts);
        drop(shared);
        self.told = conflicts;
        board.node_changed.notify_one();
    }
}

async fn read(link: String, ear: Arc<ArpSocket>, news: mpsc::Sender<News>) {
    loop {
        let heard = match ear.hear().await {
            Ok(packet) => News::Packet(ear.mac(), packet),
            Err(error) => {
                tracing::debug!("hear ARP on {link}: {error}");
                let _ = news.send(News::Lost(link)).await;
                return;
            }
        };
        if news.send(heard).await.is_err() {
            return;
        }
    }
}

/// Asks the cluster, again and again, whether it is in reach: not some server, which may be cut
/// off as well, but one that most servers hear (a read that goes through the leader).
async fn ask(board: Arc<Board>, news: mpsc::Sender<News>) {
    loop {
        let asked = Instant::now();
        let answer = board.client.get(NAMESPACE, "", "default");
        let reached = match tokio::time::timeout(ASK_LIMIT, answer).await {
            Ok(Ok(_)) => true,
            // The hosts are there, and no server runs: nobody leads, so nobody takes over.
            Ok(Err(Error::Connect { source, .. })) => source.kind() == ErrorKind::ConnectionRefused,
            _ => false,
        };
        if reached && news.send(News::Reached(asked)).await.is_err() {
            return;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn written(mac: &Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What the board's Node says for the leader: where it can announce, and what it must not.
pub(crate) async fn notes(board: &Board) -> Vec<(&'static str, String)> {
    let conflicts = board.lan_conflicts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let listed = conflicts.iter().map(|(ip, mac)| format!("{ip}={}", written(mac)));
    let mut notes = vec![(CONFLICTS, listed.collect::<Vec<_>>().join(","))];
    if let Ok(networks) = board.net.networks().await {
        let listed: Vec<String> = networks.iter().map(|n| n.range.to_string()).collect();
        notes.push((NETWORKS, listed.join(",")));
    }
    notes
}
