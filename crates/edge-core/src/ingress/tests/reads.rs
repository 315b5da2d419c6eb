//! What is read when something changes: what the Ingresses name, and nothing else.

use std::cell::Cell;

use crate::proxy::{Live, Name};

use super::*;

fn named(service: &str, slice_name: &str, ip: &str) -> Object {
    let mut made = slice(service, &[(ip, json!({"ready": true}))]);
    made["metadata"]["name"] = json!(slice_name);
    made
}

/// The table of two Ingresses among so many other Services, and how many Services and slices were
/// read for it.
fn among(others: usize) -> (Table, usize, usize) {
    let mut live = Live::new("board");
    live.set_services((0..others).map(|n| service(&format!("other-{n}"))).collect());
    for n in 0..others {
        live.set_slice(named(&format!("other-{n}"), &format!("other-{n}-x"), "10.0.0.1"));
    }
    live.set_service(service("web"));
    live.set_slice(named("web", "web-1", "10.0.0.2"));
    live.set_slice(named("web", "web-2", "10.0.0.3"));
    let ingresses = [
        ingress("one", 1, &[("a.org", vec![path("/", "Prefix", "web")])]),
        ingress(
            "two",
            2,
            &[("b.org", vec![path("/", "Prefix", "web"), path("/no", "Prefix", "nobody")])],
        ),
    ];
    let key = |namespace: &str, name: &str| -> Name { (namespace.to_owned(), name.to_owned()) };
    let (services, slices) = (Cell::new(0), Cell::new(0));
    let service = |namespace: &str, name: &str| {
        services.set(services.get() + 1);
        live.services().get(&key(namespace, name))
    };
    let of = |namespace: &str, name: &str| {
        let found: Vec<&Object> = live.slices_of(&key(namespace, name)).collect();
        slices.set(slices.get() + found.len());
        found
    };
    let table = Table::look_up(&ingresses, &Stock { service: &service, slices: &of });
    let listed = Table::gather(&ingresses, live.services().values(), live.slices().values());
    assert_eq!(table, listed, "both ways make the same table");
    (table, services.get(), slices.get())
}

#[test]
fn a_change_costs_what_ingresses_name_however_many_services_there_are() {
    let (table, services, slices) = among(3000);
    assert_eq!((services, slices), (2, 2), "web and nobody; both slices of web");
    let targets: Vec<String> = table.backends[0].targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["10.0.0.2:8080", "10.0.0.3:8080"]);
    let few = among(0);
    assert_eq!((few.1, few.2), (services, slices));
    assert_eq!(few.0, table);
}
