//! The controllers: each looks at the whole view and says what is missing. They share nothing
//! but the view, hold no state, and may be run in any order; a realised plan plans nothing.

pub mod api_servers;
pub mod deployment;
pub mod endpoints;
pub mod eviction;
pub mod garbage;
pub mod load_balancer;
pub mod mirroring;
pub mod namespace;
pub mod node;
pub mod pod_gc;
pub mod replicaset;
pub mod role_aggregation;
pub mod root_ca;
pub mod service_account;
pub mod singleton;
pub mod taint;

use crate::ingress;
use crate::plan::Plan;
use crate::view::{Round, View};

/// A controller: its name, for logs and events, and its rule.
pub struct Controller {
    /// `deployment-controller` and the like.
    pub name: &'static str,
    /// The rule.
    pub plan: fn(&View, &Round) -> Plan,
}

/// All of them, owners before what they own, so that one round carries a change far.
pub const ALL: &[Controller] = &[
    // What a lost board means comes first: its endpoints, its taints, its pods, their successors.
    Controller { name: node::SOURCE, plan: node::plan },
    Controller { name: eviction::SOURCE, plan: eviction::plan },
    Controller { name: pod_gc::SOURCE, plan: pod_gc::plan },
    Controller { name: "namespace-controller", plan: namespace::plan },
    Controller { name: "serviceaccount-controller", plan: service_account::plan },
    Controller { name: "kubernetes-service-controller", plan: api_servers::plan },
    Controller { name: "root-ca-certificate-publisher", plan: root_ca::plan },
    Controller { name: "clusterrole-aggregation-controller", plan: role_aggregation::plan },
    Controller { name: deployment::SOURCE, plan: deployment::plan },
    Controller { name: replicaset::SOURCE, plan: replicaset::plan },
    Controller { name: "endpointslice-controller", plan: endpoints::plan },
    Controller { name: mirroring::SOURCE, plan: mirroring::plan },
    Controller { name: load_balancer::SOURCE, plan: load_balancer::plan },
    Controller { name: ingress::SOURCE, plan: ingress::plan },
    Controller { name: "garbage-collector", plan: garbage::plan },
];
