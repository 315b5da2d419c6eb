//! What both boards' tables make of some policies, for the cast of the recipes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use edge_api::Object;
use edge_core::policy::{Compiled, Labels, Pod, Policy, Traffic, World};

use super::policy_recipes::{DNS, NAMESPACES, OUTSIDE, PODS, RECIPES, Way, What};

/// The cast, each with an address, and what both boards make of some policies.
pub(crate) struct Model {
    pub(crate) addresses: BTreeMap<String, Ipv4Addr>,
    boards: [Compiled; 2],
}

fn labels(text: &str) -> Labels {
    serde_yaml::from_str(&format!("{{{text}}}")).expect("labels")
}

impl Model {
    pub(crate) fn new(addresses: &BTreeMap<String, Ipv4Addr>, policies: &[Object]) -> Model {
        let mut world = World::default();
        for policy in policies {
            let mut policy = policy.clone();
            edge_api::kinds::NETWORK_POLICY.default(&mut policy);
            let policy = Policy::read(&policy);
            world.policies.insert((policy.namespace.clone(), policy.name.clone()), policy);
        }
        let all = NAMESPACES.into_iter().chain([("kube-system", "")]);
        for (name, text) in all {
            let mut labels = labels(text);
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
            world.namespaces.insert(name.to_owned(), labels);
        }
        for pod in [World::dns_pod(DNS)].into_iter().chain(PODS.iter().map(|pod| {
            let pod = Pod::read(&manifest(*pod, ""));
            Pod { address: addresses.get(&pod.uid).copied(), ..pod }
        })) {
            world.pods.insert(pod.uid.clone(), pod);
        }
        let board = |n: usize| {
            let own = PODS.iter().filter(|(_, _, board, _)| *board == n);
            world.compile(&own.map(|(uid, ..)| ((*uid).to_owned(), addresses[*uid])).collect())
        };
        Model { addresses: addresses.clone(), boards: [board(0), board(1)] }
    }

    /// What the boards say of a way.
    pub(crate) fn allows(&self, (from, to, what): &Way) -> bool {
        let address = |name: &str| if name == "dns" { DNS } else { self.addresses[name] };
        let traffic = match *what {
            What::Tcp(port) => Traffic::new(6, port),
            What::Udp(port) => Traffic::new(17, port),
            What::Name => Traffic::new(17, 53),
        };
        let (from, to) = (address(from), address(to));
        self.boards.iter().all(|board| board.rules.allow(from, to, traffic))
    }
}

/// A pod of the cast; its uid is its namespace and name, until the API gives it one.
pub(crate) fn manifest((uid, text, _, http): (&str, &str, usize, u16), node: &str) -> Object {
    let (namespace, name) = uid.split_once('/').expect("a namespace and a name");
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "uid": uid, "labels": labels(text)},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "c", "image": "edged/webserver:1", "imagePullPolicy": "IfNotPresent",
            "ports": [{"name": "http", "containerPort": http}]}]},
    })
}

#[test]
fn the_table_says_of_every_recipe_what_its_words_say() {
    assert!(RECIPES.len() >= 20);
    let mut addresses: BTreeMap<String, Ipv4Addr> = PODS
        .iter()
        .zip(2..)
        .map(|((uid, _, board, _), n)| {
            let board = u8::try_from(*board).expect("small");
            ((*uid).to_owned(), Ipv4Addr::new(10, 42, board, n))
        })
        .collect();
    addresses.insert(OUTSIDE.to_owned(), Ipv4Addr::new(192, 168, 78, 10));
    for recipe in RECIPES {
        let model = Model::new(&addresses, &recipe.objects("p"));
        for (ways, want) in [(recipe.allowed(), true), (recipe.denied(), false)] {
            for way in ways {
                assert_eq!(model.allows(&way), want, "{}: {way:?}", recipe.name);
            }
        }
    }
}
