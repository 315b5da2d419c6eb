//! Where a board takes an image from: a table of what boards hold and what is moving between them,
//! and the rule that picks a source. Boards that hold a blob are spread over; a board that is still
//! receiving one already hands it on, so many that start at once form a chain in which every link
//! carries the blob once; and the way out to the registry is given to one board at a time.

use std::collections::{BTreeMap, BTreeSet};

/// Something moving that nobody has confirmed for so long is taken for gone.
pub const LEASE_MS: i64 = 15_000;
/// Digests that are remembered of one board at most.
pub const DIGESTS_MAX: usize = 8192;
/// Names that are remembered of one board at most.
pub const NAMES_MAX: usize = 2048;
/// Boards that are remembered at most.
const BOARDS_MAX: usize = 1024;
/// Movements and questions that are remembered at most.
const MOVING_MAX: usize = 8192;

/// What a board says that it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Tells one state of the board from another; the board's own making.
    pub mark: String,
    /// Documents and layers (by diff id) that are whole.
    pub digests: BTreeSet<String>,
    /// Names that every board may know, and the digest of what they stand for.
    pub names: BTreeMap<String, String>,
}

/// A blob on its way to a board.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moving {
    /// The board that it comes from; `None` for the registry.
    from: Option<String>,
    until_ms: i64,
}

/// A board's question where to take a blob from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Want {
    /// Who asks.
    pub node: String,
    /// The digests that name the blob: of a layer its diff id, and that of its compressed form.
    pub digests: Vec<String>,
    /// What did not work: board and digest.
    pub refused: BTreeSet<(String, String)>,
    /// Whether the board could take it from a registry.
    pub uplink: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// From this board, under this digest.
    Board {
        /// The board's name.
        node: String,
        /// One of the digests asked for.
        digest: String,
    },
    /// From the registry.
    Uplink,
    /// From nowhere.
    Nowhere,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// It stands for this digest.
    Digest(String),
    /// Nobody knows; the board that asked may ask the registry.
    Ask,
    /// Another board is asking the registry.
    Wait,
}

/// The table.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    boards: BTreeMap<String, Held>,
    /// By receiving board and digest.
    moving: BTreeMap<(String, String), Moving>,
    /// Who asks a registry what a name means, and until when.
    asking: BTreeMap<String, (String, i64)>,
}

impl Sources {
    /// Whether this is what is remembered of the board.
    pub fn knows(&self, node: &str, mark: &str) -> bool {
        self.boards.get(node).is_some_and(|held| held.mark == mark)
    }

    /// Takes in all that a board holds.
    pub fn have(&mut self, node: &str, mut held: Held) {
        while held.digests.len() > DIGESTS_MAX {
            held.digests.pop_last();
        }
        while held.names.len() > NAMES_MAX {
            held.names.pop_last();
        }
        if self.boards.len() < BOARDS_MAX || self.boards.contains_key(node) {
            self.asking.retain(|name, (asker, _)| asker != node || !held.names.contains_key(name));
            self.boards.insert(node.to_owned(), held);
        }
    }

    /// The boards that hold all of a blob.
    pub fn holders<'a>(&'a self, digest: &'a str) -> impl Iterator<Item = &'a str> {
        let holding = self.boards.iter().filter(move |(_, held)| held.digests.contains(digest));
        holding.map(|(node, _)| node.as_str())
    }

    /// Picks a source, and remembers that the blob moves from there.
    pub fn want(
        &mut self,
        want: &Want,
        alive: impl Fn(&str) -> bool,
        now_ms: i64,
        seed: u64,
    ) -> Source {
        self.moving.retain(|_, moving| moving.until_ms > now_ms);
        for digest in &want.digests {
            self.moving.remove(&(want.node.clone(), digest.clone()));
        }
        let source = self.pick(want, alive, seed);
        let (from, digest) = match &source {
            Source::Board { node, digest } => (Some(node.clone()), digest),
            Source::Uplink => (None, want.digests.last().unwrap_or(&want.node)),
            Source::Nowhere => return source,
        };
        if self.moving.len() < MOVING_MAX {
            let moving = Moving { from, until_ms: now_ms + LEASE_MS };
            self.moving.insert((want.node.clone(), digest.clone()), moving);
        }
        source
    }

    fn pick(&self, want: &Want, alive: impl Fn(&str) -> bool, seed: u64) -> Source {
        let usable = |node: &str, digest: &str| {
            node != want.node
                && alive(node)
                && !want.refused.contains(&(node.to_owned(), digest.to_owned()))
        };
        let mut found: Vec<(usize, bool, u64, &str, &str)> = Vec::new();
        for digest in &want.digests {
            for node in self.holders(digest).filter(|node| usable(node, digest)) {
                found.push((self.load(node), false, mixed(seed, node), node, digest));
            }
            let arriving = self.moving.keys().filter(|(_, moving)| moving == digest);
            for (node, _) in arriving.filter(|(node, _)| usable(node, digest)) {
                if !self.leads_to(node, digest, &want.node) {
                    found.push((self.load(node), true, mixed(seed, node), node, digest));
                }
            }
        }
        match found.into_iter().min() {
            Some((_, _, _, node, digest)) => {
                Source::Board { node: node.to_owned(), digest: digest.to_owned() }
            }
            None if want.uplink => Source::Uplink,
            None => Source::Nowhere,
        }
    }

    /// How many boards read from this one.
    fn load(&self, node: &str) -> usize {
        self.moving.values().filter(|moving| moving.from.as_deref() == Some(node)).count()
    }

    /// Whether what `node` receives comes, in the end, from `origin`.
    fn leads_to(&self, node: &str, digest: &str, origin: &str) -> bool {
        let mut at = node;
        for _ in 0..=self.moving.len() {
            let Some(moving) = self.moving.get(&(at.to_owned(), digest.to_owned())) else {
                return false;
            };
            match &moving.from {
                Some(from) if from == origin => return true,
                Some(from) => at = from,
                None => return false,
            }
        }
        true
    }

    /// The blob is still on its way.
    pub fn going(&mut self, node: &str, digest: &str, now_ms: i64) {
        if let Some(moving) = self.moving.get_mut(&(node.to_owned(), digest.to_owned())) {
            moving.until_ms = now_ms + LEASE_MS;
        }
    }

    /// The blob has come, and its layer can be had under `diff`; or it will not come.
    pub fn ended(&mut self, node: &str, digest: &str, diff: Option<&str>) {
        self.moving.remove(&(node.to_owned(), digest.to_owned()));
        let Some(diff) = diff else { return };
        let held = match self.boards.len() < BOARDS_MAX {
            true => self.boards.entry(node.to_owned()).or_default(),
            false => match self.boards.get_mut(node) {
                Some(held) => held,
                None => return,
            },
        };
        if held.digests.len() < DIGESTS_MAX {
            held.digests.insert(diff.to_owned());
        }
    }

    /// What a name stands for on the boards; where they differ, what most of them say.
    pub fn meaning(
        &mut self,
        name: &str,
        node: &str,
        alive: impl Fn(&str) -> bool,
        now_ms: i64,
    ) -> Meaning {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for (board, held) in &self.boards {
            if let Some(digest) = held.names.get(name).filter(|_| alive(board)) {
                *votes.entry(digest).or_default() += 1;
            }
        }
        if let Some((digest, _)) = votes.into_iter().max_by_key(|(_, votes)| *votes) {
            return Meaning::Digest(digest.to_owned());
        }
        self.asking.retain(|_, (_, until_ms)| *until_ms > now_ms);
        match self.asking.get(name) {
            Some((asker, _)) if asker != node && alive(asker) => Meaning::Wait,
            _ => {
                if self.asking.len() < MOVING_MAX {
                    let until_ms = now_ms + LEASE_MS;
                    self.asking.insert(name.to_owned(), (node.to_owned(), until_ms));
                }
                Meaning::Ask
            }
        }
    }

    /// A board wants to remove images: which of these it must keep, being the last that has them.
    /// Of the others it counts as having none from now on, so that two boards that ask at the same
    /// time don't rely on each other.
    pub fn release(
        &mut self,
        node: &str,
        ids: &BTreeSet<String>,
        alive: impl Fn(&str) -> bool,
    ) -> BTreeSet<String> {
        let elsewhere =
            |id: &&String| self.holders(id.as_str()).any(|holder| holder != node && alive(holder));
        let (gone, keep): (Vec<&String>, Vec<&String>) = ids.iter().partition(elsewhere);
        let keep = keep.into_iter().cloned().collect();
        if let Some(held) = self.boards.get_mut(node) {
            for id in gone {
                held.digests.remove(id);
            }
            held.mark.clear();
        }
        keep
    }
}

/// Spreads boards in another order for each seed (FNV-1a).
fn mixed(seed: u64, node: &str) -> u64 {
    node.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(digests: &[&str]) -> Held {
        Held { digests: digests.iter().map(|d| d.to_string()).collect(), ..Held::default() }
    }

    fn want(node: &str, uplink: bool) -> Want {
        let digests = vec!["diff".to_owned(), "gz".to_owned()];
        Want { node: node.to_owned(), digests, uplink, ..Want::default() }
    }

    fn board(node: &str, digest: &str) -> Source {
        Source::Board { node: node.to_owned(), digest: digest.to_owned() }
    }

    fn all(_: &str) -> bool {
        true
    }

    #[test]
    fn boards_that_start_at_once_form_a_chain() {
        let mut table = Sources::default();
        table.have("a", held(&["diff"]));
        assert_eq!(table.want(&want("b", true), all, 0, 1), board("a", "diff"));
        assert_eq!(table.want(&want("c", true), all, 0, 2), board("b", "diff"));
        assert_eq!(table.want(&want("d", true), all, 0, 3), board("c", "diff"));
        // The one in the middle dies: who read from it goes on with whoever has fewest readers.
        let not_b = |node: &str| node != "b";
        assert_eq!(table.want(&want("c", true), not_b, 1, 3), board("a", "diff"));
    }

    #[test]
    fn one_board_goes_to_the_registry_and_the_others_read_along() {
        let mut table = Sources::default();
        assert_eq!(table.want(&want("a", true), all, 0, 1), Source::Uplink);
        assert_eq!(table.want(&want("b", true), all, 0, 1), board("a", "gz"));
        assert_eq!(table.want(&want("c", false), all, 0, 1), board("b", "gz"));
        // It is never heard of again: the next who asks goes.
        assert_eq!(table.want(&want("b", true), all, LEASE_MS, 1), Source::Uplink);
        assert_eq!(table.want(&want("d", false), |_| false, LEASE_MS, 1), Source::Nowhere);
    }

    #[test]
    fn a_finished_layer_is_had_under_its_own_digest() {
        let mut table = Sources::default();
        table.want(&want("a", true), all, 0, 1);
        table.going("a", "gz", LEASE_MS - 1);
        assert_eq!(table.want(&want("b", true), all, LEASE_MS + 1, 1), board("a", "gz"));
        table.ended("a", "gz", Some("diff"));
        table.ended("b", "gz", None);
        assert_eq!(table.want(&want("c", true), all, LEASE_MS + 2, 1), board("a", "diff"));
        assert_eq!(table.holders("diff").collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn what_did_not_work_is_not_tried_again() {
        let mut table = Sources::default();
        table.have("a", held(&["diff"]));
        table.have("b", held(&["diff"]));
        let mut asked = want("c", true);
        asked.refused.insert(("a".to_owned(), "diff".to_owned()));
        assert_eq!(table.want(&asked, all, 0, 1), board("b", "diff"));
        asked.refused.insert(("b".to_owned(), "diff".to_owned()));
        assert_eq!(table.want(&asked, all, 0, 1), Source::Uplink);
        asked.uplink = false;
        assert_eq!(table.want(&asked, all, 0, 1), Source::Nowhere);
    }

    #[test]
    fn nobody_reads_from_itself_around_a_corner() {
        let mut table = Sources::default();
        table.have("a", held(&["diff"]));
        assert_eq!(table.want(&want("b", true), all, 0, 1), board("a", "diff"));
        assert_eq!(table.want(&want("c", true), all, 0, 1), board("b", "diff"));
        let mut again = want("b", true);
        again.refused.insert(("a".to_owned(), "diff".to_owned()));
        assert_eq!(table.want(&again, all, 0, 1), Source::Uplink);
    }

    #[test]
    fn names_are_asked_for_once() {
        let mut table = Sources::default();
        assert_eq!(table.meaning("n:1", "a", all, 0), Meaning::Ask);
        assert_eq!(table.meaning("n:1", "b", all, 0), Meaning::Wait);
        assert_eq!(table.meaning("n:1", "a", all, 0), Meaning::Ask);
        let names = BTreeMap::from([("n:1".to_owned(), "d".to_owned())]);
        table.have("a", Held { names, ..Held::default() });
        assert_eq!(table.meaning("n:1", "b", all, 0), Meaning::Digest("d".into()));
        assert_eq!(table.meaning("n:1", "b", |n| n != "a", 0), Meaning::Ask);
        assert_eq!(table.meaning("n:2", "a", all, 0), Meaning::Ask);
        assert_eq!(table.meaning("n:2", "b", all, LEASE_MS), Meaning::Ask);
    }

    #[test]
    fn two_boards_do_not_both_drop_the_last_copies() {
        let mut table = Sources::default();
        table.have("a", held(&["x", "y"]));
        table.have("b", held(&["x"]));
        let ids = BTreeSet::from(["x".to_owned(), "y".to_owned()]);
        assert_eq!(table.release("a", &ids, all), BTreeSet::from(["y".to_owned()]));
        assert_eq!(table.release("b", &ids, all), BTreeSet::from(["x".to_owned()]));
        assert!(!table.knows("a", "mark"), "what is left of it is told anew");
    }

    #[test]
    fn what_boards_say_is_bounded() {
        let mut table = Sources::default();
        let many: Vec<String> = (0..DIGESTS_MAX + 10).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        table.have("a", held(&many));
        assert_eq!(table.boards["a"].digests.len(), DIGESTS_MAX);
        table.ended("a", "x", Some("one more"));
        assert_eq!(table.boards["a"].digests.len(), DIGESTS_MAX);
        for n in 0..BOARDS_MAX + 10 {
            table.have(&n.to_string(), Held::default());
        }
        assert_eq!(table.boards.len(), BOARDS_MAX);
    }
}
