//! One transaction: all of its changes happen at one moment, or none. Each message carries a
//! label, so that a refusal can say what was refused.

use super::super::error::NetError;
use super::super::netlink::{APPEND, CREATE, Message, Socket};
use super::TABLE;
use super::codec::Element;
use super::layout::{Chain, Set};
use super::wire::{IPV4, Step, header, kind};
use nix::errno::Errno;

/// Elements in one message: well below the 64 KiB that a list may have.
const ELEMENTS_A_MESSAGE: usize = 256;
const COMMENT: u8 = 0;

/// Words about a table or a rule, as `nft` writes and reads them.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("invariant: our comments are short");
    [&[COMMENT, length][..], text.as_bytes(), &[0]].concat()
}

/// What `nft` does not show of a rule: the maps that it asks on its way.
fn remark(rule: &[Step]) -> Option<String> {
    let asked = rule.iter().filter_map(|step| match step {
        Step::Find { map, .. } => Some(format!("@{map}")),
        _ => None,
    });
    let asked: Vec<String> = asked.collect();
    if rule.iter().any(|step| matches!(step, Step::Remember { .. })) {
        return Some("remembers its target".to_owned());
    }
    let shown = rule.iter().any(|step| matches!(step, Step::Redirect { .. }));
    (!asked.is_empty() && !shown).then(|| format!("by the answer of {}", asked.join(", ")))
}

/// A transaction in the making.
#[derive(Debug)]
pub(super) struct Batch {
    family: u8,
    table: &'static str,
    message: Message,
    labels: Vec<(&'static str, String)>,
}

impl Batch {
    /// For the table of Services.
    pub(super) fn new() -> Batch {
        Batch::of(IPV4, TABLE)
    }

    /// For a table.
    pub(super) fn of(family: u8, table: &'static str) -> Batch {
        let opening = header(0, kind::BATCH_SUBSYSTEM);
        Batch {
            family,
            table,
            message: Message::new(kind::BATCH_BEGIN, 0, &opening),
            labels: vec![("change the rules of", format!("table {table}"))],
        }
    }

    fn next(&mut self, kind: u16, flags: u16, operation: &'static str, object: String) {
        self.message.next(kind, flags, &header(self.family, 0));
        self.message.put_str(1, self.table);
        self.labels.push((operation, object));
    }

    /// True while nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.len() == 1
    }

    /// Makes the table, with a comment; it may be there.
    pub(super) fn add_table(&mut self, comment: &str) {
        self.next(kind::NEW_TABLE, CREATE, "create the table", self.table.to_owned());
        self.message.put(6, &self::comment(comment));
    }

    /// Removes the table with all that is in it.
    pub(super) fn remove_table(&mut self) {
        self.next(kind::DELETE_TABLE, 0, "remove the table", self.table.to_owned());
    }

    /// Makes a set or map. `number` tells it from the others of the transaction.
    pub(super) fn add_set(&mut self, set: &Set, number: u32) {
        self.next(kind::NEW_SET, CREATE, "create the map", set.name.to_owned());
        let message = &mut self.message;
        message.put_str(2, set.name);
        message.put_be32(3, set.flags);
        let (key_kind, key_length) = set.describe();
        message.put_be32(4, key_kind);
        message.put_be32(5, key_length);
        if let Some(data) = &set.data {
            let (data_kind, data_length) = data.describe();
            message.put_be32(6, data_kind);
            message.put_be32(7, data_length);
        }
        message.put_be32(10, number);
        if let Some(size) = set.size {
            message.nest(9, |description| description.put_be32(1, size));
        }
        if key_kind == super::layout::NUMBER {
            // For `nft`: the key's first byte weighs most.
            message.put(13, &[&[0, 4][..], &2u32.to_ne_bytes()].concat());
        }
    }

    /// Makes a chain, without rules yet.
    pub(super) fn add_chain(&mut self, chain: &Chain) {
        self.next(kind::NEW_CHAIN, CREATE, "create the chain", chain.name.clone());
        self.message.put_str(3, &chain.name);
        if let Some(hook) = &chain.hook {
            self.message.nest(4, |data| {
                data.put_be32(1, hook.number);
                data.put(2, &hook.priority.to_be_bytes());
            });
            self.message.put_str(7, hook.kind);
        }
    }

    /// Adds a chain's rules, in their order.
    pub(super) fn add_rules(&mut self, chain: &Chain) {
        for (index, rule) in chain.rules.iter().enumerate() {
            let object = format!("{} of chain {}", index + 1, chain.name);
            self.next(kind::NEW_RULE, CREATE | APPEND, "add rule", object);
            self.message.put_str(2, &chain.name);
            self.message.nest(4, |list| rule.iter().for_each(|step| step.write(list)));
            if let Some(remark) = remark(rule) {
                self.message.put(7, &comment(&remark));
            }
        }
    }

    /// Removes a chain that nothing leads to any more, with its rules.
    pub(super) fn remove_chain(&mut self, name: &str) {
        self.next(kind::DELETE_CHAIN, 0, "remove the chain", name.to_owned());
        self.message.put_str(3, name);
    }

    /// Puts elements into a set or map.
    pub(super) fn add_elements(&mut self, set: &'static str, elements: &[Element]) {
        self.elements(kind::NEW_ELEMENTS, CREATE, "add to the map", set, elements);
    }

    /// Takes elements out.
    pub(super) fn remove_elements(&mut self, set: &'static str, elements: &[Element]) {
        self.elements(kind::DELETE_ELEMENTS, 0, "remove from the map", set, elements);
    }

    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        operation: &'static str,
        set: &'static str,
        elements: &[Element],
    ) {
        for part in elements.chunks(ELEMENTS_A_MESSAGE) {
            self.next(kind, flags, operation, set.to_owned());
            self.message.put_str(2, set);
            let with_value = kind == super::wire::kind::NEW_ELEMENTS;
            self.message.nest(3, |list| {
                for element in part {
                    element.write(list, with_value);
                }
            });
        }
    }

    /// Hands the transaction to the kernel.
    pub(super) fn commit(mut self, socket: &mut Socket) -> Result<(), NetError> {
        let last = self.message.count() - 1;
        self.message.next(kind::BATCH_END, 0, &header(0, kind::BATCH_SUBSYSTEM));
        socket.transact(self.message, last).map_err(|refusal| {
            let index = refusal.index as usize;
            let (operation, object) = self.labels.swap_remove(index.min(self.labels.len() - 1));
            match refusal.errno {
                Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => {
                    NetError::NoNfTables { errno: refusal.errno }
                }
                errno => NetError::Kernel { operation, object, errno },
            }
        })
    }
}
