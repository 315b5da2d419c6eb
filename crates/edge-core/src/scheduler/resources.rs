//! What a pod asks for and what a board has left, in whole units: millicores, bytes, pods, and
//! whatever else a board reports.

use std::collections::BTreeMap;

use edge_api::quantity::Quantity;
use edge_api::{Object, meta};
use serde_json::Value;

use crate::liveness::Standing;

/// Resource name → amount: thousandths for `cpu`, whole units for all others.
pub(super) type Amounts = BTreeMap<String, i64>;

fn amount(name: &str, value: &Value) -> i64 {
    if name == "cpu" { Quantity::milli_of(value) } else { Quantity::value_of(value) }
}

fn read(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries.map(|(name, value)| (name.clone(), amount(name, value))).collect()
}

fn add(to: &mut Amounts, from: &Amounts) {
    for (name, value) in from {
        *to.entry(name.clone()).or_default() += value;
    }
}

fn raise(to: &mut Amounts, from: &Amounts) {
    for (name, value) in from {
        let known = to.entry(name.clone()).or_default();
        *known = (*known).max(*value);
    }
}

/// What a pod requests (`PodRequests` in `k8s.io/component-helpers/resource`): its containers
/// together, or its largest init container if that is more; sidecars count all along.
pub(super) fn requests(pod: &Object) -> Amounts {
    let each = |field: &str| {
        let list = pod["spec"][field].as_array().cloned().unwrap_or_default();
        list.into_iter()
            .map(|c| (c["restartPolicy"] == "Always", read(&c["resources"]["requests"])))
    };
    let mut total = Amounts::new();
    each("containers").for_each(|(_, amounts)| add(&mut total, &amounts));
    let mut sidecars = Amounts::new();
    let mut init = Amounts::new();
    for (sidecar, amounts) in each("initContainers") {
        if sidecar {
            add(&mut total, &amounts);
            add(&mut sidecars, &amounts);
            raise(&mut init, &sidecars.clone());
        } else {
            let mut with = amounts;
            add(&mut with, &sidecars);
            raise(&mut init, &with);
        }
    }
    raise(&mut total, &init);
    add(&mut total, &read(&pod["spec"]["overhead"]));
    total.retain(|_, value| *value > 0);
    total
}

/// A board, what it can carry and what it carries.
pub(super) struct Board<'a> {
    pub node: &'a Object,
    pub standing: Standing,
    pub allocatable: Amounts,
    pub requested: Amounts,
    pub pods: Vec<&'a Object>,
}

impl<'a> Board<'a> {
    pub(super) fn new(node: &'a Object, standing: Standing) -> Board<'a> {
        let mut allocatable = read(&node["status"]["allocatable"]);
        if allocatable.is_empty() {
            allocatable = read(&node["status"]["capacity"]);
        }
        Board { node, standing, allocatable, requested: Amounts::new(), pods: Vec::new() }
    }

    pub(super) fn name(&self) -> &'a str {
        meta::name(self.node)
    }

    /// Counts a pod that is, or will be, on the board.
    pub(super) fn add(&mut self, pod: &'a Object) {
        add(&mut self.requested, &requests(pod));
        self.pods.push(pod);
    }

    /// What is left of a resource.
    pub(super) fn free(&self, name: &str) -> i64 {
        let of = |amounts: &Amounts| amounts.get(name).copied().unwrap_or(0);
        of(&self.allocatable) - of(&self.requested)
    }
}
