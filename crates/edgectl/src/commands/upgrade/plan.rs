//! Which boards are to be upgraded, in which order, and whether the cluster bears the next one.
//! Servers come first, the leader last of them, since an agent must never be ahead of its servers.

use super::file::Program;
use edge_api::release::{Skew, Version};
use edge_api::{Object, meta};

/// A board with a Node, or one with a server alone.
#[derive(Debug, Clone)]
pub(super) struct Board {
    pub(super) name: String,
    pub(super) version: Option<Version>,
    pub(super) arch: String,
    pub(super) ready: bool,
}

#[derive(Debug, Clone)]
struct Server {
    name: String,
    api: String,
    leader: bool,
    voter: bool,
    away: bool,
}

/// The cluster as it was looked at.
#[derive(Debug, Clone)]
pub(super) struct Boards {
    pub(super) nodes: Vec<Board>,
    /// Servers without a Node, as far as they have said what they run.
    pub(super) nodeless: Vec<Board>,
    servers: Vec<Server>,
}

/// One board's upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) node: String,
    pub(super) from: Version,
    pub(super) server: bool,
    /// Where it answers itself, when it has no agent.
    pub(super) api: Option<String>,
    /// Which of the programs.
    pub(super) program: usize,
}

impl Step {
    /// Whether another board is of the same kind, and does the same.
    pub(super) fn is_like(&self, other: &Step) -> bool {
        (self.server, self.program) == (other.server, other.program)
    }
}

impl Boards {
    /// Reads a list of Nodes and the list of servers.
    pub(super) fn read(nodes: &Object, servers: &Object) -> Boards {
        let items = |list: &Object, key: &str| list[key].as_array().cloned().unwrap_or_default();
        let text = |object: &Object, key: &str| object[key].as_str().unwrap_or("").to_owned();
        let board = |node: Object| {
            let info = &node["status"]["nodeInfo"];
            let conditions = node["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            Board {
                name: meta::name(&node).to_owned(),
                version: Version::of_kubelet(&text(info, "kubeletVersion")),
                arch: text(info, "architecture"),
                ready: conditions.any(|c| c["type"] == "Ready" && c["status"] == "True"),
            }
        };
        let nodes: Vec<Board> = items(nodes, "items").into_iter().map(board).collect();
        let server = |server: Object| Server {
            name: text(&server, "name"),
            api: text(&server, "api"),
            leader: server["leader"] == true,
            voter: server["voter"] == true,
            away: server["away"] == true,
        };
        let servers: Vec<Server> = items(servers, "servers").into_iter().map(server).collect();
        Boards { nodes, nodeless: Vec::new(), servers }
    }

    /// Servers without a Node: their names, and where they answer.
    pub(super) fn bare(&self) -> Vec<(String, String)> {
        let has_node = |name: &str| self.nodes.iter().any(|node| node.name == name);
        let bare = self.servers.iter().filter(|server| !has_node(&server.name));
        bare.map(|server| (server.name.clone(), server.api.clone())).collect()
    }

    /// The boards that are well and run this version.
    pub(super) fn that_run<'a>(&'a self, new: &'a Version) -> impl Iterator<Item = &'a str> {
        let all = self.nodes.iter().chain(&self.nodeless);
        let run = all.filter(move |board| board.ready && board.version.as_ref() == Some(new));
        run.map(|board| board.name.as_str())
    }

    /// Whether the leader doesn't hear this server.
    pub(super) fn is_away(&self, name: &str) -> bool {
        self.server(name).is_some_and(|server| server.away)
    }

    /// Where a server answers that has no agent.
    pub(super) fn api(&self, name: &str) -> Option<String> {
        let bare = self.bare().into_iter().find(|(bare, _)| bare == name);
        bare.map(|(_, api)| api)
    }

    fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// Whether this board leads.
    pub(super) fn leads(&self, name: &str) -> bool {
        self.server(name).is_some_and(|server| server.leader)
    }

    /// Whether any does.
    pub(super) fn led(&self) -> bool {
        self.servers.iter().any(|server| server.leader)
    }

    /// How many servers vote.
    pub(super) fn voters(&self) -> usize {
        self.servers.iter().filter(|server| server.voter).count()
    }

    /// Where servers answer, `first` before all.
    pub(super) fn addresses(&self, first: &str) -> Vec<String> {
        let others = self.servers.iter().map(|server| server.api.clone());
        let others = others.filter(|api| !api.is_empty() && api != first);
        std::iter::once(first.to_owned()).chain(others).collect()
    }

    /// What forbids to take a server down now, and what of this board is not as it should be.
    pub(super) fn lacks(&self, last: Option<&str>) -> Option<String> {
        if !self.led() {
            return Some("no server leads".to_owned());
        }
        let away = self.servers.iter().find(|server| server.away);
        if let Some(away) = away {
            return Some(format!(
                "server/{} is away: bring it back, or `edgectl server remove {}`",
                away.name, away.name
            ));
        }
        let learning = self.servers.iter().find(|server| !server.voter);
        if let Some(learning) = learning {
            return Some(format!("server/{} has not caught up yet", learning.name));
        }
        let counts = |node: &&Board| {
            self.server(&node.name).is_some() || last.is_some_and(|last| last == node.name)
        };
        let lame = self.nodes.iter().filter(counts).find(|node| !node.ready);
        lame.map(|node| format!("node/{} is not Ready", node.name))
    }
}

/// The boards that get this version, which may be older than theirs if `back` says so; refused as
/// a whole where one cannot take part.
pub(super) fn due<'a>(
    boards: &'a Boards,
    new: &Version,
    only: &[String],
    back: bool,
) -> Result<Vec<&'a Board>, String> {
    let all = || boards.nodes.iter().chain(&boards.nodeless);
    for name in only {
        if !all().any(|board| board.name == *name) {
            return Err(format!("there is no node {name:?}"));
        }
    }
    let mut due = Vec::new();
    for board in all().filter(|b| only.is_empty() || only.contains(&b.name)) {
        let name = &board.name;
        let Some(own) = &board.version else {
            return Err(format!("node/{name} does not say which edged it runs"));
        };
        if own == new {
            continue;
        }
        if !board.ready {
            return Err(format!(
                "node/{name} is not Ready: mend it first, or name the others with --node"
            ));
        }
        match own.skew(new) {
            Skew::Near => {}
            Skew::TooOld => {
                let most = "one minor version at most";
                return Err(format!("edged {new} is too old for node/{name} ({own}): {most}"));
            }
            Skew::TooNew => {
                let first = "bring the minor versions between them first";
                return Err(format!("edged {new} is too new for node/{name} ({own}): {first}"));
            }
        }
        if new.is_before(own) && !back {
            return Err(format!(
                "edged {new} is older than {own}, which node/{name} runs: say --allow-downgrade \
                 if that is meant"
            ));
        }
        due.push(board);
    }
    together(boards, &due, new)?;
    Ok(due)
}

/// Whether the cluster bears it: those that change, beside those that stay as they are.
fn together(boards: &Boards, due: &[&Board], new: &Version) -> Result<(), String> {
    let changes = |board: &Board| due.iter().any(|due| due.name == board.name);
    let stays = || {
        let all = boards.nodes.iter().chain(&boards.nodeless).filter(|board| !changes(board));
        all.filter_map(|board| Some((board, board.version.as_ref()?)))
    };
    let Some(first) = due.first() else { return Ok(()) };
    if let Some((far, own)) = stays().find(|(_, own)| own.skew(new) != Skew::Near) {
        return Err(format!(
            "edged {new} on node/{} is too far from node/{} ({own}): one minor version at most \
             within a cluster; change that one first, or `edgectl node revoke` it if it is gone",
            first.name, far.name
        ));
    }
    let is_server = |board: &Board| boards.server(&board.name).is_some();
    let ahead = |a: &Version, b: &Version| b.is_before(a);
    for board in due {
        let own = board.version.as_ref();
        let mut others = stays().filter(|(other, _)| is_server(other) != is_server(board));
        match is_server(board) {
            false => {
                if let Some((server, has)) = others.find(|(_, has)| ahead(new, has)) {
                    return Err(format!(
                        "node/{} would be ahead of server/{} ({has}): servers come first",
                        board.name, server.name
                    ));
                }
            }
            true if own.is_some_and(|own| ahead(own, new)) => {
                if let Some((agent, has)) = others.find(|(_, has)| ahead(has, new)) {
                    return Err(format!(
                        "node/{} ({has}) would be ahead of server/{}: going down, agents come \
                         first",
                        agent.name, board.name
                    ));
                }
            }
            true => {}
        }
    }
    Ok(())
}

/// What is to be done; refused as a whole where one board cannot take part.
pub(super) fn steps(
    boards: &Boards,
    programs: &[Program],
    only: &[String],
    back: bool,
) -> Result<Vec<Step>, String> {
    let new = &programs.first().ok_or("no program")?.version;
    let mut steps = Vec::new();
    for board in due(boards, new, only, back)? {
        let Board { name, version: Some(own), arch, .. } = board else { continue };
        let program = programs.iter().position(|program| program.arch == *arch);
        let Some(program) = program else {
            return Err(format!("node/{name} is {arch}: give a --file for it as well"));
        };
        let (server, api) = (boards.server(name).is_some(), boards.api(name));
        steps.push(Step { node: name.clone(), from: own.clone(), server, api, program });
    }
    // Agents follow their servers when it goes up, and lead the way when it goes down.
    let down = steps.iter().any(|step| step.from > *new);
    let rank = |step: &Step| (step.server == down, boards.leads(&step.node), step.node.clone());
    steps.sort_by_key(rank);
    Ok(steps)
}

#[cfg(test)]
mod tests;
