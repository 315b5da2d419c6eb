//! One pod of another board that changes among many pods and policies: from the object to the
//! kernel's rules, as an agent does it; and what it takes to make everything anew.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use edge_core::policy::{Live, Pod, Policy};
use edge_node::net::Net;
use serde_json::json;

use super::change::{PAUSE, ms};
use crate::table::{Table, percentile};

/// Pods of all boards, and of this one.
const PODS: usize = 1000;
const OWN: usize = 100;
const POLICIES: usize = 100;

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a2a_0100 + u32::try_from(n).expect("few"))
}

fn pod(n: usize, app: usize) -> Pod {
    let uid = format!("u{n}");
    let labels = json!({"app": format!("a{}", app % POLICIES), "team": format!("t{}", n % 7)});
    Pod::read(&json!({"metadata": {"namespace": "x", "name": uid, "uid": uid, "labels": labels},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": address(n)}}))
}

fn policy(n: usize) -> Policy {
    let app = |n: usize| json!({"matchLabels": {"app": format!("a{}", n % POLICIES)}});
    let team = json!({"matchExpressions":
        [{"key": "team", "operator": "In", "values": [format!("t{}", n % 7)]}]});
    Policy::read(&json!({"metadata": {"namespace": "x", "name": format!("p{n}"), "uid": "u"},
        "spec": {"podSelector": app(n), "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": app(n + 1)}, {"podSelector": team}],
                         "ports": [{"port": 80}]}],
            "egress": [{"to": [{"podSelector": app(n + 2)}]}]}}))
}

/// Adds what one changed pod takes on the board whose network this is.
pub(super) async fn measure(table: &mut Table, net: &Net, changes: u8) {
    let mut live = Live::default();
    live.set_policies(|all| {
        all.extend((0..POLICIES).map(|n| (("x".to_owned(), format!("p{n}")), policy(n))));
    });
    for n in 0..PODS {
        live.set_pod(&format!("u{n}"), Some(pod(n, n)));
    }
    let own: BTreeMap<String, Ipv4Addr> = (0..OWN).map(|n| (format!("u{n}"), address(n))).collect();
    net.apply_policies(Some(live.compile(&own))).await.expect("rules");
    let (mut whole, mut made, mut anew) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..changes {
        let at = OWN + usize::from(n) * 37 % (PODS - OWN);
        tokio::time::sleep(PAUSE).await;
        let begin = Instant::now();
        live.set_pod(&format!("u{at}"), Some(pod(at, at + usize::from(n) + 1)));
        let compiled = live.compile(&own);
        made.push(ms(begin));
        net.apply_policies(Some(compiled)).await.expect("rules");
        whole.push(ms(begin));
        if n < 5 {
            let begin = Instant::now();
            let compiled = live.world().compile(&own);
            anew.push(ms(begin));
            drop(compiled);
        }
    }
    let what = |part: &str| format!("one pod of {PODS} with {POLICIES} policies: {part}");
    table.add(&what("whole"), "ms", &whole, None, None);
    table.add(&what("what the board enforces"), "ms", &made, None, None);
    let to = Some(("what changed alone", percentile(&made, 0.5)));
    table.add(&what("that, made anew"), "ms", &anew, None, to);
}
