//! Services on a board whose kernel has no nf_tables: edged carries them itself.

mod lab;

use edge_core::proxy::Tables;
use edge_node::net::Net;
use lab::objects::{CLUSTER_IP, NODE_PORT, here, ip, pod, service, slice, tables};
use lab::{Lab, in_pod};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

fn open(lab: &Lab) -> Net {
    let mut config = lab.config();
    config.without_nf_tables = true;
    Net::open(config).expect("the network opens")
}

/// On a thread of its own: this one's carries the connections.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = std::fs::File::open("/proc/thread-self/ns/net").expect("a namespace");
    let thread = std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("go there");
        work()
    });
    while !thread.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    thread.join().expect("no panic")
}

#[test]
fn services_answer_from_everywhere_without_rules_in_the_kernel() {
    Lab::run("splice", async |lab| {
        let lab = std::sync::Arc::new(lab);
        let net = open(&lab);
        assert!(net.warnings().iter().any(|text| text.contains("no nf_tables")));
        let told = net.obstacles().await.expect("obstacles");
        assert!(told.iter().any(|text| text.contains("edged carries")), "{told:?}");
        let (one, _one) = pod(&net, "one").await;
        let (two, _two) = pod(&net, "two").await;
        let client = net.create_pod("client", "client", false).await.expect("a pod");
        let both = here(&[&one, &two]);
        net.apply_proxy(&tables(json!({}), &both)).await.expect("served");
        for (address, port) in
            [(CLUSTER_IP, 80), ("192.0.2.1", NODE_PORT), ("127.0.0.1", NODE_PORT)]
        {
            let fetch = move || lab::try_fetch((address, port)).map_err(|e| e.to_string());
            let mut all = vec![apart(fetch).await, apart(fetch).await];
            if address != "127.0.0.1" {
                let paths = client.namespaces.clone();
                all.push(apart(move || in_pod(&paths, fetch)).await);
                let outside = lab.clone();
                all.push(apart(move || outside.outside(fetch)).await);
            }
            let mut names: Vec<String> = all.into_iter().map(|one| one.expect(address)).collect();
            names.sort();
            assert!(names[0] == "one" && names[names.len() - 1] == "two", "{names:?}");
        }
        assert!(!lab::nft("list table ip edged"), "no rules of ours");

        // Each client stays with its own, and goes to another when that one is gone.
        net.apply_proxy(&tables(json!({"sessionAffinity": "ClientIP"}), &both)).await.expect("ok");
        let fetch = || lab::fetch((CLUSTER_IP, 80));
        let first = apart(fetch).await;
        assert_eq!([apart(fetch).await, apart(fetch).await], [first.clone(), first.clone()]);
        let left = if first == "one" { &two } else { &one };
        net.apply_proxy(&tables(json!({}), &here(&[left]))).await.expect("served");
        assert_ne!(apart(fetch).await, first);

        net.apply_proxy(&Tables::default()).await.expect("nothing");
        let gone = apart(|| lab::try_fetch(("192.0.2.1", NODE_PORT))).await.expect_err("closed");
        assert_eq!(gone.kind(), ErrorKind::ConnectionRefused);
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn open_connections_stay_and_datagrams_find_their_way_back() {
    Lab::run("splice-open", async |lab| {
        let net = open(&lab);
        let one = net.create_pod("one", "one", false).await.expect("a pod");
        let listen = || TcpListener::bind("0.0.0.0:8080").expect("listen");
        let listener = in_pod(&one.namespaces, listen);
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer).expect("read") {
                    0 => return,
                    length => stream.write_all(&buffer[..length]).expect("written"),
                }
            }
        });
        net.apply_proxy(&tables(json!({}), &here(&[&one]))).await.expect("served");
        let mut stream = apart(|| TcpStream::connect((CLUSTER_IP, 80)).expect("connected")).await;
        let talk = |mut stream: TcpStream| {
            apart(move || {
                let sent = vec![7; 300_000];
                let mut writer = stream.try_clone().expect("a clone");
                let bytes = sent.clone();
                let write = std::thread::spawn(move || writer.write_all(&bytes).expect("sent"));
                let mut back = vec![0; sent.len()];
                stream.read_exact(&mut back).expect("echoed");
                write.join().expect("no panic");
                assert_eq!(sent, back);
                stream
            })
        };
        stream = talk(stream).await;
        // The Service goes; what is open goes on.
        net.apply_proxy(&Tables::default()).await.expect("nothing");
        stream = talk(stream).await;
        drop(stream);
        apart(move || echo.join().expect("no panic")).await;

        let socket = in_pod(&one.namespaces, || UdpSocket::bind("0.0.0.0:8080").expect("a socket"));
        std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                socket.send_to(&datagram[..length], from).expect("sent");
            }
        });
        let object =
            service(json!({"ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]}));
        let slices = [slice("web", 8080, "UDP", &[(ip(&one), "here")])];
        net.apply_proxy(&Tables::gather(&[object], &slices, "here")).await.expect("served");
        for front in [(CLUSTER_IP, 53), ("192.0.2.1", 30053)] {
            apart(move || {
                let asker = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                asker.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
                asker.connect(front).expect("connected");
                for length in [1, 1400] {
                    asker.send(&vec![1; length]).expect("sent");
                    assert_eq!(asker.recv(&mut [0; 2048]).expect("an answer"), length);
                }
            })
            .await;
        }
        net.cleanup().await.expect("cleanup");
    });
}
