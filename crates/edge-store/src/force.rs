//! When the majority is lost for good: one member goes on alone, because a person says so.
//!
//! What the lost members acknowledged and this one never got is gone. Everything in this member's
//! log is kept, known as committed or not: what was acknowledged and reached it is certainly
//! there. Revisions jump, so that no number that clients may have seen is ever given out again.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use edge_core::consensus::{Index, MemberInfo, Members};

use crate::entry::Revision;
use crate::error::OpenError;
use crate::home::Home;
use crate::limits::{LOSS_GAP, SEGMENT_BYTES};
use crate::log::disk::RealDisk;
use crate::log::{Log, LogConfig, Recovery};
use crate::open::{begin_anew, settle};
use crate::replica;
use crate::store::fresh_id;

/// What a recovery kept, and what may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The last revision that this member knew to be acknowledged by a majority.
    pub committed: Index,
    /// The last one it had; those between may have been acknowledged, and are kept.
    pub kept: Index,
    /// The revision it goes on from.
    pub revision: Revision,
    /// The members that are not any more.
    pub lost: Vec<MemberInfo>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.lost.iter().map(|info| &*info.name).collect();
        write!(
            f,
            "This server goes on alone, without {}. It had revisions up to {}, and knew those up \
             to {} to be acknowledged; the {} between are kept. Writes that the others \
             acknowledged after revision {} without this server are lost. Revisions go on from \
             {}. Never start the others again with their old data: empty their directories and \
             join them anew.",
            if names.is_empty() { "any other".to_owned() } else { names.join(", ") },
            self.kept,
            self.committed,
            self.kept - self.committed,
            self.kept,
            self.revision
        )
    }
}

/// Makes the member `me`, whose stopped store is in `dir`, the only member of its cluster. A kill
/// at any moment leaves it as it was, or done; doing it again is safe.
pub fn recover_force(dir: &Path, me: MemberInfo) -> Result<Report, OpenError> {
    let home = Home::take(dir)?;
    let base = home.open()?;
    let foreign = |why: String| OpenError::Foreign { path: dir.to_owned(), why };
    let found = base.read()?.meta()?;
    let Some(meta) = found else {
        return Err(foreign("there is no store to recover; name the right directory".to_owned()));
    };
    replica::owner(&meta, &me).map_err(foreign)?;
    let disk = Arc::new(RealDisk);
    let config = LogConfig { dir: home.log(), disk, segment_bytes: SEGMENT_BYTES };
    if meta.prior != 0 {
        begin_anew(&config, &meta)?;
    }
    let (log, entries) = match Log::recover(config, meta.store, meta.outlived())? {
        Recovery::Whole(log, entries) => (log, entries),
        Recovery::Damaged(damage, ..) => return Err(OpenError::Damaged(damage)),
        Recovery::Absent => {
            let why = "the log is missing beside a state; put it back, or restore a snapshot";
            return Err(foreign(why.to_owned()));
        }
    };
    let kept = log.next() - 1;
    let committed = log.hard().commit.clamp(meta.applied.0, kept);
    let (id, mut members) = (me.id, Members::default());
    let store = fresh_id()?;
    let after = settle(&base, &meta, &entries, kept + LOSS_GAP, |after| {
        (after.prior, after.store, after.me) = (meta.store, store, me.id);
        members = std::mem::replace(&mut after.members, Members::genesis(me));
        after.batch = 0;
        // The lost ones may have elected without this one: what boards heard from them then is
        // older than whatever is said from now on.
        after.hard.term = after.hard.term.max(log.hard().term) + LOSS_GAP;
    })?;
    let mut lost: Vec<MemberInfo> = members.all().filter(|info| info.id != id).cloned().collect();
    lost.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Report { committed, kept, revision: after.applied.0, lost })
}
