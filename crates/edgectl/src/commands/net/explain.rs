//! Why a path fails: what the other paths and the boards themselves say about it, from what lies
//! lowest upwards, in one sentence that ends with what to do. No IO.

use super::board::{Board, Facts};
use super::plan::{Check, Group, Outcome, Path};
use std::net::Ipv4Addr;

/// What is known when all has been tried.
pub(super) struct Known<'a> {
    pub(super) boards: &'a [Board],
    pub(super) results: &'a [(Check, Outcome)],
}

impl<'a> Known<'a> {
    fn board(&self, name: Option<&str>) -> Option<&'a Board> {
        self.boards.iter().find(|board| Some(board.name.as_str()) == name)
    }

    /// Whether any path like this fails.
    fn fails(&self, like: impl Fn(&Check) -> bool) -> bool {
        self.results
            .iter()
            .any(|(check, outcome)| matches!(outcome, Outcome::Failed(..)) && like(check))
    }

    /// Whether any path like this works.
    fn works(&self, like: impl Fn(&Check) -> bool) -> bool {
        self.results
            .iter()
            .any(|(check, outcome)| matches!(outcome, Outcome::Passed(_)) && like(check))
    }
}

/// Why this path fails.
pub(super) fn explain(known: &Known<'_>, check: &Check, code: &str, error: &str) -> String {
    let from = known.board(check.from.as_deref());
    let to = known.board(check.to.as_deref());
    match (&check.path, from, to) {
        (Path::Agent, Some(board), _) => agent(board, error),
        (Path::Clock, ..) => format!(
            "the clock of {} is {error}: certificates and tokens may count as expired, or as not \
             valid yet. Set it right; without a network time service a board without a clock of \
             its own starts in the past",
            check.from.as_deref().unwrap_or_default()
        ),
        (Path::Port(port), Some(from), Some(to)) => port_of(known, from, to, *port, code),
        (Path::Pod, Some(from), Some(to)) => pod(known, from, to),
        (Path::Full(size), Some(from), Some(to)) => full(from, to, *size, code, error),
        (Path::Service { pod }, Some(from), _) => service(known, from, *pod),
        (Path::NodePort, Some(from), Some(to)) => node_port(known, from, to),
        (Path::Name { .. }, Some(from), _) => name(known, from, code, error),
        (Path::Upstream, Some(from), _) => upstream(known, from),
        (Path::Outside { pod }, Some(from), _) => outside(known, from, *pod),
        (Path::Person { balancer }, ..) => person(known, to, *balancer),
        _ => error.to_owned(),
    }
}

fn agent(board: &Board, error: &str) -> String {
    let name = &board.name;
    match &board.not_ready {
        Some(why) => format!(
            "board {name} is not Ready ({why}): is it on, does its link work, does edged run there \
             (`systemctl status edged`)? The server says: {error}"
        ),
        None => format!(
            "board {name} is Ready, and yet its agent (port 10250) does not answer the server: a \
             firewall between them? The server says: {error}"
        ),
    }
}

fn shown(address: Option<Ipv4Addr>) -> String {
    address.map_or("no address".to_owned(), |ip| ip.to_string())
}

/// True when no port of `to` answers `from`.
fn apart(known: &Known<'_>, from: &Board, to: &Board) -> bool {
    let between = |check: &Check| {
        check.group == Group::Boards
            && check.from.as_deref() == Some(&from.name)
            && check.to.as_deref() == Some(&to.name)
    };
    known.fails(between) && !known.works(between)
}

fn port_of(known: &Known<'_>, from: &Board, to: &Board, port: u16, code: &str) -> String {
    let (a, b, ip) = (&from.name, &to.name, shown(to.address));
    if code == "refused" {
        return format!(
            "board {b} ({ip}) refuses port {port}: edged does not listen there, or a firewall of \
             {b} rejects it. Look at `systemctl status edged` and the rules of {b}"
        );
    }
    if !apart(known, from, to) {
        return match to.known().map(|facts| facts.drops.as_slice()) {
            Some(drops @ [_, ..]) => format!(
                "port {port} of {b} does not answer {a} while others do: rules of {b} drop it \
                 (nftables chain {}); accept TCP {port} there from the other boards",
                drops.join(", ")
            ),
            _ => format!(
                "port {port} of {b} does not answer {a} while others do: something between drops \
                 it; open TCP {port}"
            ),
        };
    }
    let others = |check: &Check| {
        check.group == Group::Boards
            && check.to.as_deref() == Some(&to.name)
            && check.from.as_deref() != Some(&from.name)
    };
    let only = match known.works(others) {
        true => " Others reach it: look at the cable, switch port or WiFi between these two",
        false => " Look at its cable, switch or WiFi",
    };
    match code {
        "noRoute" => format!(
            "board {a} finds no way to {b} ({ip}): nobody has that address, or \
                              the link is down.{only}"
        ),
        _ => format!(
            "board {a} gets no answer from {b} ({ip}) at all.{only} (guest WiFi often \
                      isolates its clients from each other), and at firewalls that drop"
        ),
    }
}

/// What the boards say of themselves that ends pods' packets, the first thing that counts.
fn board_trouble(board: &Board) -> Option<String> {
    let facts = board.known()?;
    let name = &board.name;
    if facts.forwarding == Some(false) {
        return Some(format!(
            "forwarding is off on board {name} (net.ipv4.ip_forward=0), so it passes no pod's \
             packets on. edged switches it on again within a minute; find out who switches it off \
             (sysctl.d, a firewall program)"
        ));
    }
    if let [_, ..] = facts.drops.as_slice() {
        return Some(format!(
            "board {name} has rules of its own that drop packets (nftables chain {}): accept there \
             what comes from and goes to edge0, as long as these rules are wanted",
            facts.drops.join(", ")
        ));
    }
    facts.problem.as_ref().map(|problem| {
        format!("board {name} says itself that its pod network is not whole: {problem}")
    })
}

/// Why packets to `to`'s pods don't leave `from` the right way.
fn route_trouble(from: &Board, to: &Board) -> Option<String> {
    let facts: &Facts = from.known()?;
    let (a, b, pods) = (&from.name, &to.name, &to.pods);
    let said = facts.problem.as_ref().map(|text| format!(" It says: {text}")).unwrap_or_default();
    match facts.way_to(pods) {
        _ if a == b => None,
        None => Some(format!(
            "board {a} has no route to the pods of {b} ({pods} via {}): edged sets it within a \
             second when it can, so look at edged's log on {a}.{said}",
            shown(to.address)
        )),
        Some(None) if to.address.is_some() => Some(format!(
            "board {a} sends what is for the pods of {b} ({pods}) into a tunnel: let its UDP port \
             (51820, or --wireguard-port) through between {a} and {b}, both ways.{said}"
        )),
        Some(via) if via != to.address => Some(format!(
            "board {a} sends what is for the pods of {b} ({pods}) to {} instead of {}: somebody \
             else has made that route; remove it (`ip route del {pods}`) and edged makes its \
             own.{said}",
            via.map_or("nobody".to_owned(), |ip| ip.to_string()),
            shown(to.address)
        )),
        Some(_) => None,
    }
}

fn pod(known: &Known<'_>, from: &Board, to: &Board) -> String {
    let (a, b) = (&from.name, &to.name);
    if a != b && (apart(known, from, to) || apart(known, to, from)) {
        return format!(
            "the boards {a} and {b} themselves don't reach each other: that comes first"
        );
    }
    let found = route_trouble(from, to)
        .or_else(|| route_trouble(to, from))
        .or_else(|| board_trouble(from))
        .or_else(|| board_trouble(to));
    found.unwrap_or_else(|| {
        format!(
            "neither board knows why. Rules that nftables does not show (iptables-legacy), or a \
             switch that passes only what has the boards' own addresses, may drop it: look with \
             `tcpdump -ni any host {}` on {a} and {b}",
            to.sandbox.as_ref().map_or("POD".to_owned(), |sandbox| sandbox.address.to_string())
        )
    })
}

fn full(from: &Board, to: &Board, size: usize, code: &str, error: &str) -> String {
    let (a, b) = (&from.name, &to.name);
    let mtu = |board: &Board| board.known().map(|facts| facts.mtu);
    let advice = "Give the links of all boards, and the switches between them, the same MTU, and \
                  restart edged";
    if let (Some(ours), Some(theirs)) = (mtu(from), mtu(to))
        && ours != theirs
    {
        return format!(
            "packets of {size} bytes don't arrive while small ones do: the link of {a} takes \
             {ours} bytes and that of {b} {theirs}. {advice}"
        );
    }
    let how = match code {
        "tooLarge" => format!("{error}, as the boards learn"),
        _ => "something between them loses large packets without a word".to_owned(),
    };
    format!(
        "packets of {size} bytes don't get from {a} to {b} while small ones do: {how}. {advice}"
    )
}

fn service(known: &Known<'_>, from: &Board, in_pod: bool) -> String {
    let name = &from.name;
    let pods = |check: &Check| check.path == Path::Pod && check.from.as_deref() == Some(name);
    if known.fails(pods) && !known.works(pods) {
        return format!("pods on {name} reach no other pod: that comes first");
    }
    let others = |check: &Check| {
        check.path == Path::Service { pod: !in_pod } && check.from.as_deref() == Some(name)
    };
    let trouble = board_trouble(from).unwrap_or_else(|| {
        format!(
            "the rules for Services on {name} are not there, or not up to date: look at edged's \
             log there"
        )
    });
    match (in_pod, known.works(others)) {
        (true, true) => format!("the board itself reaches the Service, its pods don't: {trouble}"),
        (false, true) => format!("pods reach the Service, the board itself does not: {trouble}"),
        _ => trouble,
    }
}

fn node_port(known: &Known<'_>, from: &Board, to: &Board) -> String {
    let (a, b) = (&from.name, &to.name);
    if apart(known, from, to) {
        return format!("board {a} does not reach board {b} at all: that comes first");
    }
    let own = |check: &Check| {
        matches!(check.path, Path::Service { .. }) && check.from.as_deref() == Some(b)
    };
    if known.fails(own) {
        return format!("Services don't work on {b} either: that comes first");
    }
    let fallback = format!("something between {a} and {b} drops ports 30000-32767: open them");
    board_trouble(to).unwrap_or(fallback)
}

fn name(known: &Known<'_>, from: &Board, code: &str, error: &str) -> String {
    let board = &from.name;
    if code == "wrong" {
        return format!(
            "the names on {board} are not up to date ({error}): it gets no news of Services from \
             the API. Look at edged's log there"
        );
    }
    let own = |check: &Check| {
        check.path == Path::Pod && check.from.as_deref() == Some(board) && check.to == check.from
    };
    if known.fails(own) {
        return format!("pods on {board} reach nobody, not even beside them: that comes first");
    }
    board_trouble(from).unwrap_or_else(|| {
        format!(
            "the board's own name server does not answer pods: does another program on {board} \
             hold port 53 (`ss -lunp`)? Look at edged's log there"
        )
    })
}

fn upstream(known: &Known<'_>, from: &Board) -> String {
    let board = &from.name;
    let dns = from.known().and_then(|facts| facts.dns.as_ref());
    let servers: Vec<String> =
        dns.into_iter().flat_map(|dns| &dns.upstreams).map(Ipv4Addr::to_string).collect();
    let servers = servers.join(", ");
    let own = |check: &Check| {
        matches!(check.path, Path::Name { .. }) && check.from.as_deref() == Some(board)
    };
    if known.fails(own) && !known.works(own) {
        return format!("no name at all is answered on {board}: that comes first");
    }
    format!(
        "the board's own name server works, but whom {board} asks for other names ({servers}, from \
         its /etc/resolv.conf) does not answer: is that server on, and does the board reach it \
         (`nslookup example.com {}`)?",
        servers.split(", ").next().unwrap_or_default()
    )
}

fn outside(known: &Known<'_>, from: &Board, in_pod: bool) -> String {
    let board = &from.name;
    let gateway = shown(from.known().and_then(Facts::gateway));
    let itself = |check: &Check| {
        check.path == Path::Outside { pod: false } && check.from.as_deref() == Some(board)
    };
    if in_pod && known.works(itself) {
        let why = board_trouble(from).unwrap_or_else(|| {
            "its rules don't hide pods behind its address: look at edged's log there".to_owned()
        });
        return format!("board {board} itself gets out, its pods don't: {why}");
    }
    format!(
        "board {board} gets no answer from its router ({gateway}), nor from whom it asks for \
         names: look at its default route (`ip route`), and at the router"
    )
}

fn person(known: &Known<'_>, to: Option<&Board>, balancer: bool) -> String {
    let what = if balancer { "the load balancer's address" } else { "the node port" };
    if let Some(trouble) = to.and_then(board_trouble) {
        return trouble;
    }
    let from_boards = |check: &Check| {
        check.path == Path::NodePort && to.is_none_or(|to| check.to.as_deref() == Some(&to.name))
    };
    if known.works(from_boards) {
        return format!(
            "boards get an answer there from each other, this computer does not from {what}: a \
             firewall between drops it, or one on the board that looks at where packets come from"
        );
    }
    if known.fails(from_boards) {
        return format!("{what} does not answer other boards either: that comes first");
    }
    format!(
        "{what} does not answer: something between this computer and the board drops it, or \
         Services don't work there"
    )
}
