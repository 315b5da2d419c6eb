//! What a cluster promises in numbers, on boards in the laboratory, with etcd on the same
//! laboratory in the same run: `edge-bench cluster [--quick] [--only WORD]`.

mod agents;
mod boards;
mod image;
mod leaders;
mod writes;

use crate::table::Table;
pub(crate) use leaders::lose;

/// How much is measured.
pub(crate) struct Effort {
    /// Leaders killed; a fifth as many are unplugged, handed over and stopped.
    pub(crate) losses: usize,
    /// Seconds of each load of writes.
    pub(crate) load_s: u64,
    /// Seconds of rest over which written bytes are counted.
    pub(crate) rest_s: u64,
    /// Seconds in bad weather in which nobody may be elected.
    pub(crate) calm_s: u64,
    /// Agents, at first and in the end.
    pub(crate) agents: (usize, usize),
    /// Times that an image is brought onto boards in each way.
    pub(crate) images: usize,
}

/// Runs all parts, or the one whose name is given.
pub(crate) fn run(quick: bool, only: Option<&str>) -> Table {
    let effort = if quick {
        Effort { losses: 10, load_s: 3, rest_s: 20, calm_s: 20, agents: (5, 10), images: 1 }
    } else {
        Effort { losses: 50, load_s: 10, rest_s: 600, calm_s: 600, agents: (10, 100), images: 3 }
    };
    let mut table = Table::new();
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    if wanted("leaders") {
        leaders::measure(&mut table, &effort);
    }
    if wanted("writes") {
        writes::measure(&mut table, &effort);
    }
    if wanted("agents") {
        agents::measure(&mut table, &effort);
    }
    if wanted("boards") {
        boards::measure(&mut table, &effort);
    }
    if wanted("image") {
        image::measure(&mut table, &effort);
    }
    table
}
