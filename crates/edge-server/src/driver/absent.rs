//! The servers of which this one, which leads, has not heard for a while. Those that run no pods do
//! not beat, so that this is all that is known of how they live.

use edge_core::consensus::{MemberId, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a server is not heard of before it counts as away: an election makes all of them
/// unheard of for a moment, and what follows from this is written.
const AFTER: Duration = Duration::from_secs(2);

/// Since when servers are not heard of.
pub(super) struct Absent {
    news: watch::Receiver<Arc<Standing>>,
    since: BTreeMap<MemberId, Instant>,
}

impl Absent {
    pub(super) fn new(news: watch::Receiver<Arc<Standing>>) -> Absent {
        Absent { news, since: BTreeMap::new() }
    }

    /// The names of those that are away now, and when one more may be.
    pub(super) fn look(&mut self, now: Instant) -> (BTreeSet<String>, Option<Instant>) {
        let standing = self.news.borrow_and_update().clone();
        let quiet = |id: &MemberId| standing.progress.get(id).is_some_and(|peer| !peer.active);
        self.since.retain(|id, _| quiet(id));
        for id in standing.progress.keys().filter(|id| quiet(id)) {
            self.since.entry(*id).or_insert(now);
        }
        let away = self.since.iter().filter(|(_, since)| **since + AFTER <= now);
        let name = |(id, _): (&MemberId, _)| Some(standing.members.info(*id)?.name.clone());
        let names = away.filter_map(name).collect();
        (names, self.since.values().map(|since| *since + AFTER).filter(|due| *due > now).min())
    }

    /// Waits for news, or until `due`. False when there will be none any more.
    pub(super) async fn changed(&mut self, due: Option<Instant>) -> bool {
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.news.changed() => changed.is_ok(),
            () = due => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_core::consensus::{MemberInfo, Members, Progress};

    #[test]
    fn a_server_is_away_after_a_while_and_back_at_once() {
        let standing = |active| {
            let info = |id| MemberInfo { id, name: format!("s{id}"), ..MemberInfo::default() };
            let peer = |active| Progress { matched: 0, active, snapshot: false };
            let progress = BTreeMap::from([(2, peer(active)), (3, peer(true))]);
            let members = Members::founders([info(1), info(2), info(3)]);
            Arc::new(Standing { me: 1, members, progress, ..Standing::default() })
        };
        let (told, news) = watch::channel(standing(true));
        let (mut absent, t) = (Absent::new(news), Instant::now());
        assert_eq!(absent.look(t), (BTreeSet::new(), None));
        told.send_replace(standing(false));
        assert_eq!(absent.look(t), (BTreeSet::new(), Some(t + AFTER)));
        assert_eq!(absent.look(t + AFTER / 2), (BTreeSet::new(), Some(t + AFTER)));
        assert_eq!(absent.look(t + AFTER), (BTreeSet::from(["s2".to_owned()]), None));
        told.send_replace(standing(true));
        assert_eq!(absent.look(t + AFTER), (BTreeSet::new(), None));
    }
}
