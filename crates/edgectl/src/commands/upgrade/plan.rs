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

/// The boards that get this version; refused as a whole where one cannot take part.
pub(super) fn due<'a>(
    boards: &'a Boards,
    new: &Version,
    only: &[String],
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
        due.push(board);
    }
    Ok(due)
}

/// What is to be done; refused as a whole where one board cannot take part.
pub(super) fn steps(
    boards: &Boards,
    programs: &[Program],
    only: &[String],
) -> Result<Vec<Step>, String> {
    let new = &programs.first().ok_or("no program")?.version;
    let mut steps = Vec::new();
    for board in due(boards, new, only)? {
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
mod tests {
    use super::super::file::Content;
    use super::*;
    use serde_json::json;

    fn program(arch: &str, version: &str) -> Program {
        Program {
            shown: "f".into(),
            content: Content::Held(bytes::Bytes::new()),
            version: Version::parse(version).unwrap(),
            arch: arch.into(),
            bytes: 1,
            sha256: String::new(),
            signature: None,
        }
    }

    fn node(name: &str, version: &str, arch: &str, ready: &str) -> Object {
        json!({"metadata": {"name": name}, "status": {
            "nodeInfo": {"kubeletVersion": format!("v1.33.0+edged.{version}"),
                         "architecture": arch},
            "conditions": [{"type": "Ready", "status": ready}]}})
    }

    fn boards(nodes: &[Object], servers: &Object) -> Boards {
        Boards::read(&json!({"items": nodes}), &json!({"servers": servers}))
    }

    fn three() -> Object {
        json!([{"name": "s1", "leader": true, "voter": true, "api": "https://1"},
               {"name": "s2", "voter": true, "api": "https://2"},
               {"name": "s3", "voter": true, "api": "https://3"}])
    }

    fn names(boards: &Boards, programs: &[Program], only: &[String]) -> Vec<String> {
        let steps = steps(boards, programs, only).unwrap();
        steps.into_iter().map(|step| step.node).collect()
    }

    #[test]
    fn the_leader_is_last_of_the_servers_and_agents_follow() {
        let all: Vec<Object> = ["a1", "s1", "s2", "s3"]
            .iter()
            .map(|name| node(name, "0.1.0", "arm64", "True"))
            .collect();
        let cluster = boards(&all, &three());
        let up = [program("arm64", "0.2.0")];
        assert_eq!(names(&cluster, &up, &[]), ["s2", "s3", "s1", "a1"]);
        let down = [program("arm64", "0.0.9")];
        assert_eq!(names(&cluster, &down, &[]), ["a1", "s2", "s3", "s1"]);
        assert_eq!(names(&cluster, &up, &["s1".into()]), ["s1"]);
        assert_eq!(names(&cluster, &[program("arm64", "0.1.0")], &[]), [""; 0]);
        assert_eq!(cluster.addresses("https://2"), ["https://2", "https://1", "https://3"]);
    }

    #[test]
    fn what_is_done_already_is_left_out() {
        let all = [
            node("s1", "0.1.0", "arm64", "True"),
            node("s2", "0.2.0", "arm64", "True"),
            node("s3", "0.1.0", "arm", "True"),
        ];
        let cluster = boards(&all, &three());
        let both = [program("arm64", "0.2.0"), program("arm", "0.2.0")];
        assert_eq!(names(&cluster, &both, &[]), ["s3", "s1"]);
        let steps = steps(&cluster, &both, &[]).unwrap();
        assert_eq!((steps[0].program, steps[1].program), (1, 0));
    }

    #[test]
    fn a_board_that_cannot_take_part_stops_it_before_it_begins() {
        let refused = |node: Object, program: Program, word: &str| {
            let line = steps(&boards(&[node], &three()), &[program], &[]).unwrap_err();
            assert!(line.contains(word), "{line}");
        };
        refused(node("s1", "0.1.0", "arm", "True"), program("arm64", "0.2.0"), "s1 is arm: give");
        refused(node("s1", "0.1.0", "arm", "False"), program("arm", "0.2.0"), "not Ready");
        refused(node("s1", "0.1.0", "arm", "True"), program("arm", "0.3.0"), "too new");
        refused(node("s1", "0.3.0", "arm", "True"), program("arm", "0.1.0"), "too old");
        refused(node("s1", "x", "arm", "True"), program("arm", "0.1.0"), "does not say");
        let nowhere = steps(&boards(&[], &three()), &[program("arm", "0.1.0")], &["x".into()]);
        assert!(nowhere.unwrap_err().contains("no node \"x\""));
    }

    #[test]
    fn the_next_one_waits_for_the_others() {
        let all = |ready| [node("s1", "0.1.0", "arm", "True"), node("a1", "0.1.0", "arm", ready)];
        assert_eq!(boards(&all("False"), &three()).lacks(None), None, "an agent votes on nothing");
        let lacks = boards(&all("False"), &three()).lacks(Some("a1")).unwrap();
        assert!(lacks.contains("a1 is not Ready"), "{lacks}");
        let cases = [
            (json!([{"name": "s1", "voter": true}]), "no server leads"),
            (
                json!([{"name": "s1", "leader": true, "voter": true},
                       {"name": "s2", "voter": true, "away": true}]),
                "s2 is away",
            ),
            (json!([{"name": "s1", "leader": true, "voter": true}, {"name": "s2"}]), "caught up"),
        ];
        for (servers, word) in cases {
            let lacks = boards(&all("True"), &servers).lacks(None).unwrap();
            assert!(lacks.contains(word), "{lacks}");
        }
        assert_eq!(boards(&all("True"), &three()).voters(), 3);
    }

    #[test]
    fn servers_without_agents_are_asked_themselves() {
        let mut cluster = boards(&[node("s1", "0.1.0", "arm", "True")], &three());
        let bare = |name: &str, api: &str| (name.to_owned(), api.to_owned());
        assert_eq!(cluster.bare(), [bare("s2", "https://2"), bare("s3", "https://3")]);
        let program = [program("arm", "0.2.0")];
        assert_eq!(names(&cluster, &program, &[]), ["s1"], "nobody has said what the others run");
        let only = ["s3".to_owned()];
        assert!(steps(&cluster, &program, &only).unwrap_err().contains("s3"));
        let version = Version::parse("0.1.0");
        cluster.nodeless =
            vec![Board { name: "s3".into(), version, arch: "arm".into(), ready: true }];
        let all = steps(&cluster, &program, &[]).unwrap();
        let told: Vec<_> = all.iter().map(|s| (s.node.as_str(), s.api.as_deref())).collect();
        assert_eq!(told, [("s3", Some("https://3")), ("s1", None)]);
        assert_eq!(names(&cluster, &program, &only), ["s3"]);
    }
}
