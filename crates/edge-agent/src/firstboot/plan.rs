//! What the board's files are to be, given what a person asks for and what the board has. Nothing
//! is written here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use edge_server::join::{Role, Token};

use super::text::Mistake;
use super::wish::{Secret, Wish};
use super::{links, nm, wifi};
use crate::part::Part;

pub(super) const HOSTNAME: &str = "etc/hostname";
pub(super) const HOSTS: &str = "etc/hosts";
pub(super) const CONFIG: &str = "etc/edged/config.yaml";
pub(super) const DEFAULTS: &str = "etc/default/edged";
pub(super) const TOKEN: &str = "etc/edged/token";
pub(super) const WPA: &str = "etc/wpa_supplicant/wpa_supplicant-wlan0.conf";
pub(super) const WIRED: &str = "etc/systemd/network/10-edged-wired.network";
pub(super) const WIRELESS: &str = "etc/systemd/network/10-edged-wifi.network";
pub(super) const KEYS: &str = "root/.ssh/authorized_keys";

/// All files that may be written, beneath the root.
pub(super) const FILES: [&str; 13] = [
    HOSTNAME,
    HOSTS,
    CONFIG,
    DEFAULTS,
    TOKEN,
    WPA,
    WIRED,
    WIRELESS,
    KEYS,
    nm::WIFI,
    nm::WIRED,
    nm::COUNTRY,
    nm::STATE,
];

/// The mode of one of them that goes.
pub(super) fn mode_of(path: &str) -> u32 {
    if [WPA, nm::WIFI, nm::WIRED].contains(&path) { 0o600 } else { 0o644 }
}

/// What a file begins with that is ours alone.
pub(super) const OURS: &str =
    "# Written by `edged firstboot` from edged.yaml on the boot partition.\n";

/// Our part of a file that is a person's as well.
pub(super) const PART: Part = Part {
    begin: "# begin: edged.yaml of the boot partition",
    end: "# end: edged.yaml of the boot partition",
};

/// What the board has.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Those of [`FILES`] that exist.
    pub(super) files: BTreeMap<&'static str, String>,
    /// As what it joined a cluster.
    pub(super) joined: Option<Role>,
    /// Whether it began a cluster of its own.
    pub(super) founder: bool,
    /// What it is called in its cluster.
    pub(super) name: Option<String>,
    /// Of which cluster it is: [`Token::pin`].
    pub(super) pin: Option<String>,
    /// Whether it knows the time zone that is asked for.
    pub(super) knows_zone: bool,
    /// Whether NetworkManager runs its network; systemd-networkd else.
    pub(super) network_manager: bool,
}

/// A file as it is to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) text: String,
    pub(super) mode: u32,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) files: Vec<File>,
    /// Files of ours that are to be gone.
    pub(super) gone: Vec<&'static str>,
    pub(super) zone: Option<String>,
    pub(super) hostname: Option<String>,
    /// Whether radios that the system keeps off are to send from now on.
    pub(super) radio_on: bool,
    /// Where secrets stand in `edged.yaml`, in their order.
    pub(super) secrets: Vec<Range<usize>>,
    /// What a person should know.
    pub(super) notes: Vec<String>,
    /// A file that is to change and can't be, and why: nothing is to be done then.
    pub(super) torn: Option<String>,
}

/// Decides.
///
/// # Errors
/// What does not fit this board.
pub(super) fn plan(wish: &Wish, board: &Board) -> Result<Plan, Mistake> {
    let mut plan = Plan::default();
    if let Some(name) = &wish.name {
        named(&mut plan, name, board);
    }
    let token = joining(&mut plan, wish, board)?;
    let role = role(wish, board)?.map(|role| format!("EDGED_ROLE={role}\n"));
    plan.part(board, DEFAULTS, role, 0o644);
    plan.part(board, CONFIG, join_block(wish, token), 0o644);
    let key = radio(&mut plan, wish, board)?;
    links::network(&mut plan, wish, board);
    nm::network(&mut plan, wish, board, key.as_deref());
    let local = |url: &&String| url.rsplit_once(':').is_some_and(|(at, _)| at.ends_with(".local"));
    if let Some(url) = wish.join.iter().find(local) {
        plan.notes.push(format!(
            "join: {url}: a board asks DNS for names, and that seldom knows those in .local: write \
             the server's address, or auto"
        ));
    }
    if wish.address.is_some() && wish.gateway.is_none() {
        let names = if wish.dns.is_empty() { " and knows no names" } else { "" };
        plan.notes.push(format!(
            "address: the gateway is missing (gateway: 192.168.1.1): without it the board reaches \
             its own network alone{names}"
        ));
    }
    if let Some((zone, line)) = &wish.timezone {
        if !board.knows_zone {
            let what = format!("timezone: this system knows no {zone:?} (is tzdata installed?)");
            return Err(Mistake::at(*line, what));
        }
        plan.zone = Some(zone.clone());
    }
    let keys = wish.ssh_keys.iter().fold(String::new(), |text, key| text + key + "\n");
    plan.part(board, KEYS, Some(keys).filter(|keys| !keys.is_empty()), 0o600);
    plan.secrets.sort_by_key(|span| span.start);
    Ok(plan)
}

/// Lets people in with these keys, beside those that may already: what a file asks for otherwise
/// is not taken. Nothing is to be done when they may all.
pub(super) fn let_in(keys: &[String], board: &Board) -> Plan {
    let mut plan = Plan::default();
    let had = board.files.get(KEYS).map(|text| PART.within(text)).unwrap_or_default();
    let more = keys.iter().filter(|key| !had.lines().any(|line| line == *key));
    let all = more.fold(had.clone(), |text, key| text + key + "\n");
    if all != had {
        plan.part(board, KEYS, Some(all), 0o600);
    }
    plan
}

impl Plan {
    pub(super) fn put(&mut self, path: &'static str, text: String, mode: u32) {
        self.files.push(File { path, text, mode });
    }

    /// A file of ours alone: `text`, or none.
    pub(super) fn own(
        &mut self,
        board: &Board,
        path: &'static str,
        text: Option<String>,
        mode: u32,
    ) {
        match text {
            Some(text) => self.put(path, format!("{OURS}{text}"), mode),
            None if board.files.get(path).is_some_and(|old| old.starts_with(OURS)) => {
                self.gone.push(path);
            }
            None => {}
        }
    }

    /// Our part of a file, at its end.
    fn part(&mut self, board: &Board, path: &'static str, text: Option<String>, mode: u32) {
        let old = board.files.get(path);
        let rest = match PART.without(old.map_or("", String::as_str)) {
            Ok(rest) => rest,
            Err(torn) => {
                self.torn.get_or_insert(format!("/{path}: {torn}"));
                return;
            }
        };
        match text {
            Some(text) => self.put(path, PART.add(&rest, &text), mode),
            None if rest.is_empty() && old.is_some_and(|old| !old.is_empty()) => {
                self.gone.push(path);
            }
            None if old.is_some_and(|old| *old != rest) => self.put(path, rest, mode),
            None => {}
        }
    }
}

/// What others wrote into a file.
fn others(text: &str) -> String {
    PART.without(text).unwrap_or_else(|_| text.to_owned())
}

fn named(plan: &mut Plan, name: &str, board: &Board) {
    plan.put(HOSTNAME, format!("{name}\n"), 0o644);
    plan.hostname = Some(name.to_owned());
    if let Some(hosts) = board.files.get(HOSTS) {
        let own = |line: &&str| line.split_whitespace().next() == Some("127.0.1.1");
        let mut text: String =
            hosts.lines().filter(|line| !own(line)).map(|line| format!("{line}\n")).collect();
        let _ = writeln!(text, "127.0.1.1\t{name}");
        // A file that says it somewhere else in it stays as it is.
        let says = |line: &str| line.split_whitespace().eq(["127.0.1.1", name]);
        if !hosts.lines().any(says) {
            plan.put(HOSTS, text, 0o644);
        }
    }
    if let Some(had) = board.name.as_deref().filter(|had| *had != name) {
        plan.notes.push(format!(
            "name: this board's hostname is {name:?} now; in its cluster it stays {had:?}"
        ));
    }
}

/// As what the board is to run: as the file says, as it joined, or as one that joins.
fn role(wish: &Wish, board: &Board) -> Result<Option<Role>, Mistake> {
    let again = "take it out of its cluster first (`edgectl node revoke`) and empty it with `edged \
                 cleanup --data`";
    let wrong = |line: usize, what: String| Err(Mistake::at(line, what));
    match (wish.role, board.joined) {
        (Some((role, line)), Some(joined)) if role != joined => {
            wrong(line, format!("role: this board joined its cluster as {joined}: {again}"))
        }
        (Some((Role::Agent, line)), None) if board.founder => {
            let what = "role: this board leads a cluster of its own, which would be lost: empty it \
                        with `edged cleanup --data` first";
            wrong(line, what.to_owned())
        }
        (Some((Role::Agent, line)), None) if !will_join(wish, board) => {
            let what = "role: an agent is told nowhere what cluster it is of: write a token of \
                        `edged token create` as well (and a join, if it is not on this LAN)";
            wrong(line, what.to_owned())
        }
        (Some((role, _)), _) => Ok(Some(role)),
        (None, Some(joined)) => Ok(Some(joined)),
        (None, None) if !wish.join.is_empty() || wish.token.is_some() => Ok(Some(Role::Agent)),
        (None, None) => Ok(None),
    }
}

/// Whether a board that is of no cluster gets to know one, from the file or from its own settings.
fn will_join(wish: &Wish, board: &Board) -> bool {
    let has = |path: &str, own: fn(&str) -> bool| board.files.get(path).is_some_and(|t| own(t));
    !wish.join.is_empty()
        || wish.token.is_some()
        || has(CONFIG, |config| has_own(config, "join"))
        || has(DEFAULTS, |text| others(text).lines().any(|line| line.starts_with("EDGED_JOIN=")))
}

/// Checks that what is asked for can be joined with; whether a token is kept on the board.
fn joining(plan: &mut Plan, wish: &Wish, board: &Board) -> Result<bool, Mistake> {
    let line = wish.token.as_ref().map_or(wish.join_line, Secret::line);
    let asked = !wish.join.is_empty() || wish.token.is_some();
    if asked && board.founder && board.joined.is_none() {
        let what = "join: this board leads a cluster of its own, which would be lost by joining \
                    another: empty it with `edged cleanup --data` first";
        return Err(Mistake::at(line, what));
    }
    match &wish.token {
        Some(Secret::New(word)) => {
            let token = Token::parse(&word.text).map_err(|e| Mistake::at(line, e.to_string()))?;
            if board.pin.as_ref().is_some_and(|pin| *pin != token.pin) {
                let what = "token: it is of another cluster than this board's: empty the board \
                            with `edged cleanup --data` to move it there";
                return Err(Mistake::at(line, what));
            }
            plan.secrets.push(word.span.clone());
            plan.put(TOKEN, format!("{token}\n"), 0o600);
            Ok(true)
        }
        kept => {
            let there = board.files.contains_key(TOKEN);
            if kept.is_some() && !there {
                let what = "token: \"stored\" stands for one that this board has taken, and it has \
                            none: write the token itself";
                return Err(Mistake::at(line, what));
            }
            if asked && !there && board.joined.is_none() {
                let what = "join: a token is missing: `edged token create` on a server prints one";
                return Err(Mistake::at(line, what));
            }
            if let Some(table) = board.files.get(CONFIG)
                && asked
                && has_own(table, "join")
            {
                let what = "join: /etc/edged/config.yaml has a join of its own: remove it there";
                return Err(Mistake::at(line, what));
            }
            Ok(there)
        }
    }
}

/// Whether a person wrote this key into the file beside our part.
fn has_own(config: &str, key: &str) -> bool {
    let rest = others(config);
    rest.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))
}

/// Where to join, and with what. A token alone is for the servers of the LAN.
fn join_block(wish: &Wish, token: bool) -> Option<String> {
    let auto = [crate::config::AUTO.to_owned()];
    let servers = match (wish.join.as_slice(), &wish.token) {
        ([], None) => return None,
        ([], Some(_)) => &auto[..],
        (some, _) => some,
    };
    let mut text = "join:\n".to_owned();
    for server in servers {
        let _ = writeln!(text, "  - {server:?}");
    }
    if token {
        let _ = writeln!(text, "token-file: /{TOKEN}");
    }
    Some(text)
}

/// What wpa_supplicant reads, where NetworkManager does not tell it; gives the network's key.
fn radio(plan: &mut Plan, wish: &Wish, board: &Board) -> Result<Option<String>, Mistake> {
    let Some(asked) = &wish.wifi else {
        plan.own(board, WPA, None, 0o600);
        return Ok(None);
    };
    if asked.country.is_none() {
        let what = "wifi: the country is missing (country: DE): some channels stay closed, and \
                    some systems keep the radio off without it";
        plan.notes.push(what.to_owned());
    }
    let key = match &asked.password {
        None => None,
        Some(Secret::New(word)) => {
            plan.secrets.push(word.span.clone());
            Some(wifi::key(&asked.ssid, &word.text))
        }
        Some(Secret::Stored(line)) => {
            let mut files = [WPA, nm::WIFI].iter().filter_map(|path| board.files.get(path));
            let old = files.find_map(|text| wifi::stored(text, &asked.ssid));
            let missing = || {
                let what = "wifi: password: \"stored\" stands for one that this board has taken, \
                            and it has none for this network: write the password itself";
                Mistake::at(*line, what)
            };
            Some(old.ok_or_else(missing)?)
        }
    };
    let conf = (!board.network_manager).then(|| wifi::conf(asked, key.as_deref()));
    plan.own(board, WPA, conf, 0o600);
    Ok(key)
}
