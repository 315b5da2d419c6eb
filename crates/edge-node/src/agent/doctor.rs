//! What `edged doctor` would say, looked at while the agent runs: the Node has what stays until
//! somebody does something about it. Only what is cheap is looked at, and nothing is written unless
//! it changed. All of it is looked at once, after the start, by `edged` itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use edge_core::doctor::{Condition, conditions};

use super::board::Board;
use super::events::Grade::{Normal, Warning};
use super::events::Subject;
use crate::doctor::{glance, keep_awake};

/// The board's pods come first.
const FIRST: Duration = Duration::from_secs(10);
/// How often it is looked at again.
const EVERY: Duration = Duration::from_secs(600);

/// Looks for as long as the agent runs.
pub(crate) async fn run(board: Arc<Board>) {
    let (mut pause, mut said) = (FIRST, Vec::new());
    loop {
        tokio::time::sleep(pause).await;
        let dir = board.data_dir.clone();
        let look = move || {
            let facts = glance(Path::new("/"), &dir);
            let awake = keep_awake(Path::new("/"), &facts);
            (facts, awake)
        };
        if let Ok((mut facts, awake)) = tokio::task::spawn_blocking(look).await {
            awake.iter().filter(|line| !said.contains(*line)).for_each(|l| tracing::info!("{l}"));
            // One that sleeps no more is news when it sleeps again.
            said = awake;
            // The alarm is about the last seconds; the beats see more of it.
            let alarmed = board.alarmed.load(Ordering::Relaxed);
            facts.voltage_alarm = facts.voltage_alarm.map(|now| now || alarmed);
            if facts.voltage_alarm == Some(true) {
                board.alarmed.store(true, Ordering::Relaxed);
            }
            tell(&board, conditions(&facts));
        }
        pause = EVERY;
    }
}

/// Puts on the Node what is wrong with the board, if that has changed.
fn tell(board: &Board, found: Vec<Condition>) {
    let mut known = board.conditions();
    let before = known.replace(found.clone()).unwrap_or_default();
    drop(known);
    if before == found {
        return;
    }
    let about = Subject::node(&board.name, &board.name);
    for new in found.iter().filter(|new| !before.contains(new)) {
        board.events.say(&about, Warning, new.kind, new.message.clone());
    }
    for gone in before.iter().filter(|gone| found.iter().all(|new| new.kind != gone.kind)) {
        board.events.say(&about, Normal, gone.kind, format!("no longer: {}", gone.reason));
    }
    board.node_changed.notify_one();
}
