//! Two processes with one identity: a copied data directory, a cloned card.

use std::time::{Duration, Instant};

use edge_bus::{Keys, Role};

use super::PATIENCE;
use super::boards::{Cluster, SECRET};

/// Two processes with one identity: the later one learns of the first before it takes part, and
/// nobody hears of the later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_finds_the_one_that_lives() {
    let cluster = Cluster::new();
    let [mut a, mut b, mut c] = cluster.three().await;
    let copy = cluster.config("a", Role::Server, Keys::of_server(&SECRET));
    let begin = Instant::now();
    let met = edge_bus::twin(&copy).await.expect("it can be asked");
    eprintln!("{met:?} after {:?}", begin.elapsed());
    assert!(met.is_some());
    // The first goes on as if nothing had been.
    a.bus.send("b", "one".into());
    b.bus.send("a", "two".into());
    assert_eq!(b.raft().await, ("a".into(), "one".into()));
    assert_eq!(a.raft().await, ("b".into(), "two".into()));
    for board in [&mut a, &mut b, &mut c] {
        board.sessions(2).await;
        board.nobody_gone(Duration::from_millis(100)).await;
    }
    // Not known as itself at its own address any more: the others' brokers tell.
    let port = a.bus.broker_address().unwrap().port();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    cluster.place("a", nowhere.local_addr().unwrap().port());
    b.sessions(1).await;
    assert!(edge_bus::twin(&copy).await.unwrap().is_some());
    cluster.place("a", port);
    b.sessions(2).await;
    // A real restart: nobody answers, and nothing is waited for.
    drop(a);
    assert_eq!(b.notice().await, ("a".into(), true));
    let begin = Instant::now();
    assert_eq!(edge_bus::twin(&copy).await.unwrap(), None);
    eprintln!("nobody after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_millis(700));
    // Nor is one of another cluster, or of another secret, anybody's twin.
    let again = cluster.server("a").await;
    again.sessions(2).await;
    let stranger = cluster.config("a", Role::Server, Keys::of_server(&[6; 32]));
    assert_eq!(edge_bus::twin(&stranger).await.unwrap(), None);
}

/// Two processes of one agent: the later one learns of the first before it takes part; if it could
/// not, once both can be reached; and the first goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_an_agent_finds_the_one_that_lives() {
    let cluster = Cluster::new();
    let [mut a, _b, _c] = cluster.three().await;
    let config = || cluster.config("n", Role::Agent, Keys::of_agent(&SECRET, "n"));
    assert_eq!(edge_bus::twin(&config()).await.unwrap(), None);
    let first = cluster.agent("n").await;
    first.sessions(1).await;
    first.bus.beat("1".into());
    assert_eq!(a.beat().await, ("n".into(), "1".into()));
    let begin = Instant::now();
    assert!(edge_bus::twin(&config()).await.unwrap().is_some());
    eprintln!("met after {:?}", begin.elapsed());
    // A copy that was cut off when it began; its beats count until it ends.
    let copy = cluster.agent("n").await;
    copy.sessions(1).await;
    let begin = Instant::now();
    let mut doubled = copy.bus.doubled();
    let met = tokio::time::timeout(PATIENCE, doubled.wait_for(Option::is_some)).await;
    assert!(met.is_ok(), "it finds the first one");
    eprintln!("a later one met it after {:?}", begin.elapsed());
    copy.bus.close().await;
    assert_eq!(*first.bus.doubled().borrow(), None);
    first.sessions(1).await;
    // Its beats count again once the copy has been silent for long enough.
    let heard = async {
        loop {
            first.bus.beat("2".into());
            if a.beat().await == ("n".into(), "2".into()) {
                return;
            }
        }
    };
    let again = async {
        loop {
            first.bus.beat("2".into());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let heard = tokio::time::timeout(PATIENCE, async {
        tokio::select! { () = heard => {}, () = again => {} }
    });
    heard.await.expect("it counts again");
    // A real restart: nobody answers, and nothing is waited for.
    drop(first);
    let begin = Instant::now();
    assert_eq!(edge_bus::twin(&config()).await.unwrap(), None);
    eprintln!("nobody after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_millis(900));
}
