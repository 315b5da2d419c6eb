//! What the kernel has: our table as it stands, and other tables' chains that would drop what
//! we forward.

use super::super::error::NetError;
use super::super::netlink::{ACK, Attributes, DUMP, Message, Reply, Socket};
use super::TABLE;
use super::codec;
use super::guests::Guests;
use super::layout::{
    ADDRESSES, ANSWERS, HAIRPINS, INSIDE, REFUSED, RESTRICTED, SERVICES, SOURCES, SPREADS, TARGETS,
};
use super::patch::Uses;
use super::spread::Spread;
use super::wire::{IPV4, LIST_ITEM, header, kind};
use edge_core::doctor::{Chain as Found, Hook};
use edge_core::proxy::Elements;
use nix::errno::Errno;
use std::collections::BTreeSet;

/// Our table as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// The elements of its maps.
    pub(super) elements: Elements,
    /// Its chains that pick targets.
    pub(super) spreads: BTreeSet<Spread>,
    /// Its chains that ask who comes.
    pub(super) guests: BTreeSet<Guests>,
    /// How often what is made when it is needed is used; known once it has been made so.
    pub(super) uses: Uses,
}

const HEADER: usize = 4;
const SERVICES_TABLE: (u8, &str) = (IPV4, TABLE);
const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
const FAMILY_INET: u8 = 1;
/// Chains that are named at most.
const CHAINS: usize = 8;

fn body(reply: &Reply) -> Attributes<'_> {
    Attributes(reply.body.get(HEADER..).unwrap_or(&[]))
}

/// The number of the last change of any table; also the question whether there is nf_tables.
pub(super) fn generation(socket: &mut Socket) -> Result<u32, NetError> {
    let request = Message::new(kind::GET_GENERATION, ACK, &header(0, 0));
    let replies = socket.dump(request).map_err(|refusal| match refusal.errno {
        Errno::EPERM => NetError::refused("read", "the rules' generation")(refusal),
        errno => NetError::NoNfTables { errno },
    })?;
    Ok(replies.iter().find_map(|reply| body(reply).be32(1)).unwrap_or(0))
}

/// The comment of the table of Services; `None` when there is no such table.
pub(super) fn comment(socket: &mut Socket) -> Result<Option<String>, NetError> {
    comment_of(socket, IPV4, TABLE)
}

/// The comment of a table; `None` when there is no such table.
pub(super) fn comment_of(
    socket: &mut Socket,
    family: u8,
    table: &'static str,
) -> Result<Option<String>, NetError> {
    let mut request = Message::new(kind::GET_TABLE, ACK, &header(family, 0));
    request.put_str(1, table);
    let replies = match socket.dump(request) {
        Ok(replies) => replies,
        Err(refusal) if refusal.errno == Errno::ENOENT => return Ok(None),
        Err(refusal) => return Err(NetError::refused("read the table", table)(refusal)),
    };
    let comment = replies.iter().find_map(|reply| {
        let field = body(reply).find(6)?.get(2..)?;
        String::from_utf8(field.strip_suffix(&[0]).unwrap_or(field).to_vec()).ok()
    });
    Ok(Some(comment.unwrap_or_default()))
}

fn list(
    socket: &mut Socket,
    (family, table): (u8, &str),
    kind: u16,
    set: Option<&str>,
    object: &str,
) -> Result<Vec<Reply>, NetError> {
    let mut request = Message::new(kind, DUMP, &header(family, 0));
    request.put_str(1, table);
    if let Some(set) = set {
        request.put_str(2, set);
    }
    let replies = socket.dump(request).map_err(NetError::refused("list", object))?;
    let ours = |reply: &Reply| body(reply).text(1) == Some(table);
    Ok(replies.into_iter().filter(ours).collect())
}

/// Our table, if it is whole: `None` when somebody has taken chains, maps or rules out.
pub(super) fn observe(
    socket: &mut Socket,
    fixed_chains: usize,
    fixed_rules: usize,
) -> Result<Option<Observed>, NetError> {
    let mut observed = Observed::default();
    let chains = list(socket, SERVICES_TABLE, kind::GET_CHAIN, None, "chains")?;
    for chain in &chains {
        observed.spreads.extend(body(chain).text(3).and_then(Spread::parse));
        observed.guests.extend(body(chain).text(3).and_then(Guests::parse));
    }
    let rules = list(socket, SERVICES_TABLE, kind::GET_RULE, None, "rules")?.len();
    let wanted: usize = observed.spreads.iter().map(|spread| spread.chain().rules.len()).sum();
    let asking: usize = observed.guests.iter().map(Guests::rules).sum();
    let made = fixed_chains + observed.spreads.len() + observed.guests.len();
    if chains.len() != made || rules != fixed_rules + wanted + asking {
        return Ok(None);
    }
    // Somebody may also have emptied the maps that the fixed part brings.
    for (set, wanted) in [
        (SPREADS, observed.spreads.len()),
        (SOURCES, observed.guests.len()),
        (ANSWERS, codec::answers().len()),
    ] {
        let mut found = 0;
        let counted = elements(socket, set, |_| {
            found += 1;
            Some(())
        });
        match counted {
            Ok(_) if found == wanted => {}
            Ok(_) | Err(NetError::Kernel { errno: Errno::ENOENT, .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let mut read = codec::Read::default();
    for set in [SERVICES, INSIDE, REFUSED, TARGETS, HAIRPINS, RESTRICTED, ADDRESSES] {
        let found = elements(socket, set, |item| match set {
            TARGETS => codec::read_target(item, &mut read),
            HAIRPINS => codec::read_hairpin(item, &mut read),
            RESTRICTED => codec::read_restriction(item, &mut read),
            ADDRESSES => codec::read_address(item, &mut read),
            verdicts => codec::read_verdict(verdicts, item, &mut read),
        });
        match found {
            Ok(true) => {}
            Ok(false) | Err(NetError::Kernel { errno: Errno::ENOENT, .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let Some(found) = Elements::assemble(read.verdicts, read.targets) else {
        return Ok(None);
    };
    let codec::Read { hairpins, restricted, addresses, .. } = read;
    observed.elements = Elements { hairpins, restricted, addresses, ..found };
    Ok(Some(observed))
}

/// How many chains and rules a table has.
pub(super) fn size(socket: &mut Socket, table: (u8, &str)) -> Result<(usize, usize), NetError> {
    let chains = list(socket, table, kind::GET_CHAIN, None, "chains")?.len();
    Ok((chains, list(socket, table, kind::GET_RULE, None, "rules")?.len()))
}

/// Shows each element of a set of Services; false when one of them made no sense.
pub(super) fn elements(
    socket: &mut Socket,
    set: &'static str,
    show: impl FnMut(Attributes<'_>) -> Option<()>,
) -> Result<bool, NetError> {
    elements_of(socket, SERVICES_TABLE, set, show)
}

/// Shows each element of a set of a table; false when one of them made no sense.
pub(super) fn elements_of(
    socket: &mut Socket,
    table: (u8, &str),
    set: &'static str,
    mut show: impl FnMut(Attributes<'_>) -> Option<()>,
) -> Result<bool, NetError> {
    let mut sound = true;
    for reply in list(socket, table, kind::GET_ELEMENTS, Some(set), set)? {
        for (kind, item) in body(&reply).within(3) {
            if kind == LIST_ITEM {
                sound &= show(Attributes(item)).is_some();
            }
        }
    }
    Ok(sound)
}

/// Other tables' chains that drop what nobody accepts on its way through the board.
pub(super) fn forward_droppers(socket: &mut Socket) -> Result<Vec<String>, NetError> {
    let chains = base_chains(socket)?.into_iter();
    let dropping = chains.filter(|one| one.drops && matches!(one.hook, Some(Hook::Forward)));
    Ok(dropping.map(|one| format!("{}/{}", one.table, one.name)).collect())
}

/// Other tables' chains of packets that come to the board or through it, and what stands beside
/// them in their tables: names tell who made them.
pub(in crate::net) fn base_chains(socket: &mut Socket) -> Result<Vec<Found>, NetError> {
    let request = Message::new(kind::GET_CHAIN, DUMP, &header(0, 0));
    let replies = socket.dump(request).map_err(NetError::refused("list", "chains"))?;
    let mut found = Vec::new();
    for reply in &replies {
        let chain = body(reply);
        let family = reply.body.first().copied().unwrap_or(0);
        let (Some(table), Some(name)) = (chain.text(1), chain.text(3)) else { continue };
        if !matches!(family, IPV4 | FAMILY_INET) || table.starts_with(TABLE) {
            continue;
        }
        let hook = match chain.within(4).be32(1) {
            Some(HOOK_INPUT) => Some(Hook::Input),
            Some(HOOK_FORWARD) => Some(Hook::Forward),
            _ => None,
        };
        let drops = hook.is_some() && chain.be32(5) == Some(0);
        found.push(Found { table: table.to_owned(), name: name.to_owned(), hook, drops });
    }
    Ok(found)
}

/// Other tables' chains with a rule that drops or rejects; of many, some.
pub(super) fn dropping_rules(socket: &mut Socket) -> Result<Vec<String>, NetError> {
    let request = Message::new(kind::GET_RULE, DUMP, &header(0, 0));
    let replies = socket.dump(request).map_err(NetError::refused("list", "rules"))?;
    let mut found = Vec::new();
    for reply in &replies {
        let rule = body(reply);
        let family = reply.body.first().copied().unwrap_or(0);
        let (Some(table), Some(chain)) = (rule.text(1), rule.text(2)) else { continue };
        let concerns = matches!(family, IPV4 | FAMILY_INET) && !table.starts_with(TABLE);
        let mut expressions = rule.within(4).map(|(_, item)| Attributes(item));
        let name = format!("{table}/{chain}");
        if concerns && expressions.any(drops) && !found.contains(&name) && found.len() < CHAINS {
            found.push(name);
        }
    }
    Ok(found)
}

/// True for an expression that ends a packet.
fn drops(expression: Attributes<'_>) -> bool {
    match expression.text(1) {
        Some("reject") => true,
        // The verdict of the data: 0 drops.
        Some("immediate") => expression.within(2).within(2).within(2).be32(1) == Some(0),
        _ => false,
    }
}
