//! The way to other boards' pods: follows the Nodes and the board's own links, and keeps the
//! routes and tunnels that they ask for. Of each Node only its name, its address, its pods' and
//! what it says of tunnels are kept; its board's key goes to those who judge keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edge_api::kinds::NODE;
use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_client::{WatchParams, Watcher};
use edge_core::podnet::Peer;
use serde_json::json;
use tokio::time::Instant;

use super::board::Board;
use super::events::Grade::{Normal, Warning};
use super::events::Subject;
use super::recall::{self, Recall};
use crate::net::LinkEvents;

/// Changes that come within this time of each other are one.
const SETTLE: Duration = Duration::from_millis(50);
/// How long routes that could not be set, and trouble that is not told yet, wait for the next
/// look.
const AGAIN: Duration = Duration::from_secs(5);
/// Somebody may have changed what no news tell of: so often we look.
const LOOK: Duration = Duration::from_secs(60);
/// Trouble that passes within this time is nobody's concern: a link that flaps, a board that
/// starts.
const PASSING: Duration = Duration::from_secs(5);
/// Sentences of trouble that the Node shows; the log has all.
const SHOWN: usize = 4;

/// The boards that are known.
#[derive(Debug, Default)]
struct Boards {
    heard: bool,
    peers: BTreeMap<String, Peer>,
}

impl Boards {
    /// Takes in what a watch tells; true when that changes anything here.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Restarted(nodes) => {
                let peers = nodes.iter().filter_map(Peer::read);
                let peers = peers.map(|peer| (peer.name.clone(), peer)).collect();
                let news = !self.heard || self.peers != peers;
                (self.heard, self.peers) = (true, peers);
                news
            }
            Event::Applied(node) => self.put(&node),
            Event::Deleted(node) => self.peers.remove(meta::name(&node)).is_some(),
        }
    }

    fn put(&mut self, node: &Object) -> bool {
        match Peer::read(node) {
            Some(peer) => {
                let old = self.peers.insert(peer.name.clone(), peer.clone());
                old.is_none_or(|old| old != peer)
            }
            None => self.peers.remove(meta::name(node)).is_some(),
        }
    }
}

/// What is wrong, and since when; told once it has lasted.
#[derive(Debug, Default)]
struct Trouble {
    now: Vec<String>,
    since: Option<Instant>,
    told: Vec<String>,
}

impl Trouble {
    /// Takes in what is wrong now. Answers what is to be told, if anything: the whole of it.
    fn see(&mut self, sentences: Vec<String>, at: Instant) -> Option<&[String]> {
        if self.now != sentences {
            (self.now, self.since) = (sentences, Some(at));
        }
        let lasts = self.since.is_none_or(|since| at - since >= PASSING);
        if self.now == self.told || !(lasts || self.now.is_empty()) {
            return None;
        }
        self.told.clone_from(&self.now);
        Some(&self.told)
    }

    /// True while something waits to be told.
    fn pending(&self) -> bool {
        self.now != self.told
    }
}

/// All that is known from one look to the next.
#[derive(Debug, Default)]
struct Keeper {
    boards: Boards,
    trouble: Trouble,
    /// What drops packets here, and when that was looked for.
    obstacles: Vec<String>,
    looked: Option<Instant>,
}

/// Keeps routes and tunnels for as long as the agent runs.
pub(crate) async fn run(board: Arc<Board>) {
    let mut nodes = Watcher::new(board.client.clone(), NODE, "", WatchParams::default());
    let mut links = board.net.link_events().map_err(|error| tracing::warn!("{error}")).ok();
    let mut keeper = Keeper::default();
    let mut recall = Recall::new(&board.data_dir, "boards");
    let remembered = recall.load();
    // Pods that start before the others are known must not follow the board's default route.
    if remembered.iter().filter_map(Peer::read).any(|peer| peer.says.encrypts)
        && let Err(error) = board.net.shut_plain_ways().await
    {
        tracing::warn!("pod network: {error}");
    }
    let patience = Instant::now() + recall::PATIENCE;
    let mut due = Instant::now() + LOOK;
    loop {
        let news = tokio::select! {
            event = nodes.next() => {
                board.keys.nodes(&event);
                let news = keeper.boards.take(event);
                if news {
                    recall.changed();
                }
                news
            }
            () = tokio::time::sleep_until(patience),
                if !keeper.boards.heard && !remembered.is_empty() =>
            {
                tracing::info!("no server answers: routes to pods as the disk has them");
                keeper.boards.take(Event::Restarted(remembered.clone()))
            }
            () = recall.due() => {
                recall.save(keeper.boards.peers.values().map(line)).await;
                continue;
            }
            () = changed(&mut links) => true,
            () = tokio::time::sleep_until(due) => {
                due = Instant::now() + keeper.keep(&board).await;
                continue;
            }
        };
        // What stands in the kernel stays until all boards are known.
        if news && keeper.boards.heard {
            due = due.min(Instant::now() + SETTLE);
        }
    }
}

/// A board's line on the disk: of its Node, what is read of it. What it says of tunnels as well:
/// whoever forgot that would send in plain text what the board wants encrypted.
fn line(peer: &Peer) -> Object {
    let address = peer.address.map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}));
    let mut node = json!({"metadata": {"name": peer.name},
                          "spec": {"podCIDR": peer.pods.to_string()},
                          "status": {"addresses": address.as_slice()}});
    for (key, value) in peer.says.annotations() {
        if let Some(value) = value {
            node["metadata"]["annotations"][key] = json!(value);
        }
    }
    node
}

async fn changed(links: &mut Option<LinkEvents>) {
    match links {
        Some(links) => links.changed().await,
        None => std::future::pending().await,
    }
}

impl Keeper {
    /// Sets the routes right. Says when to look again.
    async fn keep(&mut self, board: &Board) -> Duration {
        if !self.boards.heard {
            return LOOK;
        }
        let peers = self.boards.peers.values().cloned().collect();
        let mut found = Vec::new();
        let mut again = LOOK;
        match board.net.sync_routes(&board.name, peers).await {
            Ok(synced) => {
                found.extend(synced.unreached.iter().map(ToString::to_string));
                board.announce(synced.announcement);
            }
            Err(error) => {
                found.push(error.to_string());
                again = AGAIN;
            }
        }
        // Rules of others tell no news, and every pod that comes is news of links.
        let now = Instant::now();
        if self.looked.is_none_or(|looked| now - looked >= LOOK) {
            self.looked = Some(now);
            match board.net.obstacles().await {
                Ok(obstacles) => self.obstacles = obstacles,
                Err(error) => tracing::debug!("look for what drops pods' packets: {error}"),
            }
        }
        found.extend(self.obstacles.iter().cloned());
        if let Some(told) = self.trouble.see(found, now) {
            tell(board, told);
        }
        if self.trouble.pending() { AGAIN } else { again }
    }
}

/// Tells people, in the log, by an event, and on the Node.
fn tell(board: &Board, sentences: &[String]) {
    for sentence in sentences {
        tracing::warn!("pod network: {sentence}");
    }
    let about = Subject::node(&board.name, &board.name);
    let message = summary(sentences);
    match &message {
        Some(message) => {
            board.events.say(&about, Warning, "PodNetworkIncomplete", message.clone());
        }
        None => {
            tracing::info!("pod network: every board's pods can be reached");
            let words = "Every board's pods can be reached.";
            board.events.say(&about, Normal, "PodNetworkComplete", words);
        }
    }
    board.set_network_problem(message);
    board.node_changed.notify_one();
}

fn summary(sentences: &[String]) -> Option<String> {
    let mut text = sentences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more) = sentences.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("; and {more} more"));
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_core::podnet::tunnel::{Announced, Announcement, Key};

    fn node(name: &str, ip: &str) -> Object {
        json!({"metadata": {"name": name}, "spec": {"podCIDR": "10.42.1.0/24"},
               "status": {"addresses": [{"type": "InternalIP", "address": ip}],
                          "images": [{"names": ["large"]}]}})
    }

    #[test]
    fn only_what_concerns_routes_is_news() {
        let mut boards = Boards::default();
        assert!(boards.take(Event::Restarted(Vec::new())), "the first list, even an empty one");
        assert!(!boards.take(Event::Restarted(Vec::new())));
        assert!(boards.take(Event::Applied(node("b", "192.0.2.2"))));
        let mut busy = node("b", "192.0.2.2");
        busy["status"]["images"] = json!([]);
        assert!(!boards.take(Event::Applied(busy)));
        assert!(boards.take(Event::Applied(node("b", "192.0.2.3"))));
        assert!(boards.take(Event::Deleted(node("b", "192.0.2.3"))));
        assert!(!boards.take(Event::Deleted(node("b", "192.0.2.3"))));
    }

    #[test]
    fn what_the_disk_holds_is_enough() {
        let plain = Peer::read(&node("b", "192.0.2.2")).expect("a board");
        let key = Announced::Key { key: Key([7; 32]), port: 51820 };
        for encrypts in [false, true] {
            for wireguard in [Announced::Nothing, Announced::Lacking, key] {
                let says = Announcement { encrypts, wireguard };
                let peer = Peer { says, ..plain.clone() };
                assert_eq!(Peer::read(&line(&peer)), Some(peer), "a tunnel is not forgotten");
            }
        }
    }

    #[test]
    fn trouble_is_told_once_and_only_when_it_lasts() {
        let mut trouble = Trouble::default();
        let start = Instant::now();
        let bad = || vec!["b".to_owned()];
        assert!(trouble.see(Vec::new(), start).is_none());
        assert!(trouble.see(bad(), start).is_none() && trouble.pending());
        assert!(trouble.see(Vec::new(), start + AGAIN / 2).is_none(), "it passed");
        let start = start + LOOK;
        assert!(trouble.see(bad(), start).is_none());
        assert_eq!(trouble.see(bad(), start + PASSING), Some(&bad()[..]));
        assert!(trouble.see(bad(), start + LOOK).is_none() && !trouble.pending());
        assert_eq!(trouble.see(Vec::new(), start + LOOK), Some(&[][..]), "good news at once");
    }

    #[test]
    fn a_summary_is_bounded() {
        assert_eq!(summary(&[]), None);
        let many: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        assert_eq!(summary(&many).as_deref(), Some("0; 1; 2; 3; and 5 more"));
    }
}
