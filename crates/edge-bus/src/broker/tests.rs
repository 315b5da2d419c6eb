//! The middle of the broker without connections: bounds, and who gets which copy.

use std::sync::Arc;

use bytes::Bytes;

use super::access::{Access, Identity};
use super::hub::{CLIENTS, Hub, Turned, Wish};
use crate::outbox::{MESSAGES, Outbox};
use crate::packet::{MAX_PACKET, Manner, Message};
use crate::topics::Topics;

const PLAIN: Wish = Wish { qos1: false, no_local: false, as_published: false, retained: 0 };
const QOS0: Manner = Manner { qos1: false, retain: false };
const QOS1: Manner = Manner { qos1: true, retain: false };
const KEPT: Manner = Manner { qos1: true, retain: true };

fn hub() -> Arc<Hub> {
    Hub::new(Access::new(Topics::new("c")))
}

fn enter(hub: &Hub, name: &str) -> (u64, Arc<Outbox>) {
    let identity = Identity::Server(name.into());
    let id = identity.common_name();
    let entered = hub.enter(&identity, &id, (8, MAX_PACKET), None);
    let (number, _, outbox) = entered.unwrap().unwrap();
    (number, outbox)
}

fn message(topic: &str, size: usize) -> Message {
    let topic = Bytes::copy_from_slice(topic.as_bytes());
    Message { topic, payload: vec![1; size].into(), properties: None }
}

fn publish(hub: &Hub, from: u64, topic: &str, manner: Manner) -> usize {
    hub.publish(Some(from), topic, message(topic, 1), manner).reached
}

#[test]
fn clients_are_bounded() {
    let hub = hub();
    for n in 0..CLIENTS {
        enter(&hub, &n.to_string());
    }
    let one_more = Identity::Server("more".into());
    let refused = hub.enter(&one_more, "system:server:more", (1, 100), None).map(|_| ());
    assert_eq!(refused, Err(Turned::Busy));
    // Who is in already may come in again, in place of itself.
    enter(&hub, "7");
    assert_eq!(hub.counters().clients, CLIENTS as u64);
}

#[test]
fn subscriptions_of_a_client_are_bounded() {
    let hub = hub();
    let (number, _outbox) = enter(&hub, "s");
    let fit = (0..100).filter(|n| hub.subscribe(number, &n.to_string(), PLAIN).is_some());
    assert_eq!(fit.count(), 64);
    assert!(hub.subscribe(number, "7", PLAIN).is_some(), "a known one may change");
    assert!(hub.unsubscribe(number, "7") && !hub.unsubscribe(number, "7"));
    assert!(hub.subscribe(number, "new", PLAIN).is_some());
}

#[test]
fn overlapping_subscriptions_give_one_copy_at_the_higher_qos() {
    let hub = hub();
    let (number, outbox) = enter(&hub, "s");
    hub.subscribe(number, "a/b", PLAIN);
    hub.subscribe(number, "a/+", Wish { qos1: true, ..PLAIN });
    hub.subscribe(number, "#", PLAIN);
    assert_eq!(publish(&hub, 0, "a/b", QOS1), 1);
    assert_eq!(outbox.take().map(|(_, manner)| manner), Some(QOS1));
    assert!(outbox.take().is_none());
    publish(&hub, 0, "a/b", QOS0);
    assert_eq!(outbox.take().map(|(_, manner)| manner), Some(QOS0));
    publish(&hub, 0, "x", QOS1);
    assert_eq!(outbox.take().map(|(_, manner)| manner), Some(QOS0), "only # matches, at QoS 0");
}

#[test]
fn options_of_subscriptions_are_kept() {
    let hub = hub();
    let (number, outbox) = enter(&hub, "s");
    hub.subscribe(number, "local", Wish { no_local: true, ..PLAIN });
    assert_eq!(publish(&hub, number, "local", QOS0), 0);
    assert_eq!(publish(&hub, number + 1, "local", QOS0), 1);
    outbox.take();
    // Live messages have no retain flag unless it was asked for.
    hub.subscribe(number, "kept", Wish { qos1: true, ..PLAIN });
    publish(&hub, 0, "kept", KEPT);
    assert_eq!(outbox.take().map(|(_, manner)| manner), Some(QOS1));
    let asked = Wish { qos1: true, as_published: true, ..PLAIN };
    assert_eq!(hub.subscribe(number, "kept", asked).map(|kept| kept.len()), Some(1));
    publish(&hub, 0, "kept", KEPT);
    assert_eq!(outbox.take().map(|(_, manner)| manner), Some(KEPT));
    // Retained messages: only for new subscriptions, or never.
    let only_new = Wish { retained: 1, ..PLAIN };
    assert_eq!(hub.subscribe(number, "kept", only_new).map(|kept| kept.len()), Some(0));
    hub.unsubscribe(number, "kept");
    assert_eq!(hub.subscribe(number, "kept", only_new).map(|kept| kept.len()), Some(1));
    hub.unsubscribe(number, "kept");
    let never = Wish { retained: 2, ..PLAIN };
    assert_eq!(hub.subscribe(number, "kept", never).map(|kept| kept.len()), Some(0));
}

#[test]
fn a_full_queue_drops_at_qos_0_and_ends_its_client_at_qos_1() {
    let hub = hub();
    let (deaf, deaf_box) = enter(&hub, "deaf");
    let (good, good_box) = enter(&hub, "good");
    for number in [deaf, good] {
        hub.subscribe(number, "t", Wish { qos1: true, ..PLAIN });
    }
    for _ in 0..MESSAGES + 5 {
        publish(&hub, 0, "t", QOS0);
        assert!(good_box.take().is_some());
    }
    assert_eq!((hub.counters().dropped, hub.counters().slow), (5, 0));
    assert!(deaf_box.closed().is_none());
    assert_eq!(publish(&hub, 0, "t", QOS1), 1);
    assert!(deaf_box.closed().is_some() && good_box.closed().is_none());
    assert_eq!(hub.counters().slow, 1);
}

#[test]
fn a_packet_is_never_larger_than_its_receiver_takes() {
    let hub = hub();
    let identity = Identity::Server("small".into());
    let entered = hub.enter(&identity, "system:server:small", (8, 1000), None);
    let (number, _, outbox) = entered.unwrap().unwrap();
    hub.subscribe(number, "t", PLAIN);
    hub.publish(None, "t", message("t", 1001), QOS0);
    assert!(outbox.take().is_none());
    hub.publish(None, "t", message("t", 900), QOS0);
    assert!(outbox.take().is_some());
}

#[test]
fn a_board_that_is_turned_out_loses_all_its_sessions() {
    let hub = hub();
    let identity = Identity::Agent("n".into());
    let session = |id: &str| hub.enter(&identity, id, (8, MAX_PACKET), None).unwrap().unwrap().2;
    let (first, second) = (session("system:node:n"), session("system:node:n/2"));
    let (_, other) = enter(&hub, "s");
    assert_eq!((hub.evict("n"), hub.evict("n")), (2, 0));
    assert!(first.closed().is_some() && second.closed().is_some() && other.closed().is_none());
    assert_eq!(hub.counters().clients, 1);
}
