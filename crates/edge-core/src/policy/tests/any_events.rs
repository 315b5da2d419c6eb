//! What is kept up event by event is what is made of everything, after any events.

use super::*;

/// A small pseudo-random source, so that the cases are many and the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("small")
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

const SPACES: [&str; 3] = ["x", "y", "z"];
const APPS: [&str; 3] = ["a", "b", "c"];

fn any_pod(chance: &mut Chance, uid: usize) -> Pod {
    let (space, app) = (chance.pick(&SPACES), chance.pick(&APPS));
    let mut found = Pod::read(&pod(space, &format!("u{uid}"), app, "none"));
    let address = Ipv4Addr::new(10, 42, 0, u8::try_from(chance.below(12)).expect("small"));
    found.address = (chance.below(5) > 0).then_some(address);
    for port in &mut found.ports {
        port.port = u16::try_from(8000 + chance.below(2)).expect("small");
        port.name = chance.pick(&["http", "metrics", "x"]).to_owned();
    }
    if chance.below(3) == 0 {
        found.ports.clear();
    }
    found
}

fn any_peers(chance: &mut Chance) -> Value {
    let app = json!({"matchLabels": {"app": chance.pick(&APPS)}});
    let space = json!({"matchLabels": {"team": chance.pick(&["red", "blue"])}});
    let one = match chance.below(6) {
        0 => json!({"podSelector": {}}),
        1 => json!({"podSelector": app}),
        2 => json!({"namespaceSelector": space}),
        3 => json!({"namespaceSelector": space, "podSelector": app}),
        4 => json!({"namespaceSelector": {}}),
        _ => json!({"ipBlock": {"cidr": format!("10.{}.0.0/15", chance.below(3))}}),
    };
    let list = vec![one; chance.below(4).min(1)];
    list.into()
}

fn any_policy(chance: &mut Chance) -> Policy {
    let ports = |chance: &mut Chance| match chance.below(4) {
        0 => json!([{"port": "http"}]),
        1 => json!([{"port": 8000, "endPort": 8000 + chance.below(3)}]),
        2 => json!([{"port": "metrics"}, {"port": 53, "protocol": "UDP"}]),
        _ => json!([]),
    };
    let ingress = json!([{"from": any_peers(chance), "ports": ports(chance)}]);
    let egress = json!([{"to": any_peers(chance), "ports": ports(chance)}]);
    let types = [json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])];
    let selector = match chance.below(3) {
        0 => json!({}),
        _ => json!({"matchLabels": {"app": chance.pick(&APPS)}}),
    };
    Policy::read(&json!({
        "metadata": {"namespace": chance.pick(&SPACES), "name": format!("p{}", chance.below(6))},
        "spec": {"podSelector": selector, "policyTypes": types[chance.below(3)],
                 "ingress": ingress, "egress": egress},
    }))
}

fn happen(chance: &mut Chance, live: &mut Live, own: &mut BTreeMap<String, Ipv4Addr>) {
    let uid = chance.below(14);
    match chance.below(20) {
        0 => {
            let policy = any_policy(chance);
            let key = (policy.namespace.clone(), policy.name.clone());
            live.set_policies(|all| _ = all.insert(key, policy));
        }
        1 => {
            let turn = chance.below(4);
            let mut number = 0;
            live.set_policies(|all| {
                all.retain(|_, _| {
                    number += 1;
                    number % 4 != turn
                });
            });
        }
        2 => {
            let team = [("team".to_owned(), chance.pick(&["red", "blue"]).into())];
            let labels = (chance.below(5) > 0).then(|| team.into_iter().collect());
            live.set_namespace(chance.pick(&SPACES), labels);
        }
        3..6 => _ = live.set_pod(&format!("u{uid}"), None),
        6 => _ = own.remove(&format!("u{uid}")),
        7 => {
            let address = Ipv4Addr::new(10, 42, 0, u8::try_from(uid).expect("small"));
            own.insert(format!("u{uid}"), address);
        }
        _ => _ = live.set_pod(&format!("u{uid}"), Some(any_pod(chance, uid))),
    }
}

#[test]
fn for_any_events_what_is_kept_up_is_what_everything_makes() {
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let (mut live, mut own) = (Live::default(), BTreeMap::new());
    let (mut allowed, mut unmatched, mut isolated) = (0, 0, 0);
    for round in 0..4000 {
        for _ in 0..=chance.below(2) {
            happen(&mut chance, &mut live, &mut own);
        }
        let (kept, made) = (live.compile(&own), live.world().compile(&own));
        assert_eq!(kept, made, "round {round}");
        allowed += made.rules.allowed.len();
        unmatched += made.unmatched.len();
        isolated += made.rules.ingress.len() + made.rules.egress.len();
    }
    let tried = allowed > 5_000 && unmatched > 500 && isolated > 10_000;
    assert!(tried, "{allowed} {unmatched} {isolated}: nothing was tried");
}

#[test]
fn one_pod_among_a_thousand_and_a_hundred_policies() {
    let mut live = Live::default();
    let app = |n: usize| format!("app{}", n % 100);
    live.set_policies(|all| {
        for n in 0..100 {
            let mut policy = json!({"metadata": {"namespace": "x", "name": format!("p{n}")},
                "spec": {"podSelector": {"matchLabels": {"app": app(n)}}, "ingress": [
                    {"from": [{"podSelector": {"matchLabels": {"app": app(n + 1)}}}],
                     "ports": [{"port": 8080}]}]}});
            edge_api::kinds::NETWORK_POLICY.default(&mut policy);
            all.insert(("x".to_owned(), format!("p{n}")), Policy::read(&policy));
        }
    });
    let address = |n: usize| Ipv4Addr::from(0x0a2a_0000 + u32::try_from(n).expect("small"));
    let read =
        |n: usize, app: &str| Pod::read(&pod("x", &format!("u{n}"), app, &address(n).to_string()));
    for n in 0..1000 {
        live.set_pod(&format!("u{n}"), Some(read(n, &app(n))));
    }
    let own = (0..100).map(|n| (format!("u{n}"), address(n))).collect();
    let before = live.compile(&own);
    assert!(!live.set_pod("u500", Some(read(500, &app(500)))), "no news");
    live.set_pod("u500", Some(read(500, &app(7))));
    let after = live.compile(&own);
    assert_eq!(after, live.world().compile(&own));
    let change = Change::between(&before.rules.elements(), &after.rules.elements());
    assert_eq!((change.old.len(), change.new.len()), (1, 1), "{change:?}");
}
