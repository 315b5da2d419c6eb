//! The cluster's DNS address: on the board itself, for its pods and the board, whatever Services,
//! node ports and host ports there are, and for nobody outside.

mod lab;

use edge_core::proxy::{Choice, Front, Protocol, Route, Tables, Target};
use lab::{Lab, in_pod, ip};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const ADDRESS: &str = "10.43.0.10:53";

/// Asks, and says where the answer came from.
fn ask(to: &str) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.connect(to)?;
    socket.send(b"question")?;
    let mut buffer = [0; 16];
    socket.recv_from(&mut buffer).map(|(_, from)| from)
}

/// A `hostPort: 53`, and a Service that has the DNS address and nobody behind it.
fn takers(address: std::net::Ipv4Addr) -> Tables {
    let choice = Choice::Spread(vec![Target { address, port: 5353 }]);
    let route = |choice: &Choice| Route {
        name: "default/taker:53".to_owned(),
        inside: choice.clone(),
        outside: choice.clone(),
        affinity_seconds: None,
    };
    let front = |address| Front { address, protocol: Protocol::Udp, port: 53 };
    let dns = "10.43.0.10".parse().ok();
    let routes = [(front(None), route(&choice)), (front(dns), route(&Choice::Refuse))];
    Tables { routes: routes.into(), ..Tables::default() }
}

#[test]
fn the_boards_own_server_answers_its_pods_and_nobody_else() {
    Lab::run("net-dns", async |lab| {
        let net = lab.open();
        assert_eq!(net.dns_address().map(|ip| ip.to_string()).as_deref(), Some("10.43.0.10"));
        let pod = net.create_pod("pod", "pod", false).await.expect("a pod");
        let Some(std::net::IpAddr::V4(own)) = pod.ip else { panic!("an IPv4 address") };
        net.apply_proxy(&takers(own)).await.expect("rules");
        let refused = |asked: io::Result<SocketAddr>| asked.expect_err("nobody is there").kind();
        let early = in_pod(&pod.namespaces, || ask(ADDRESS));
        assert_eq!(refused(early), io::ErrorKind::ConnectionRefused, "at once");
        let socket = UdpSocket::bind(ADDRESS).expect("the address is on the board");
        let server = std::thread::spawn(move || {
            let mut buffer = [0; 16];
            let mut seen = Vec::new();
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                seen.push(from.ip());
                socket.send_to(&buffer[..length], from).expect("answer");
                if seen.len() == 4 {
                    break;
                }
            }
            seen
        });
        let dns: SocketAddr = ADDRESS.parse().expect("an address");
        assert_eq!(in_pod(&pod.namespaces, || ask(ADDRESS)).expect("an answer"), dns);
        assert_eq!(ask(ADDRESS).expect("an answer"), dns, "from the board");
        let stranger = lab.outside(|| {
            ip("route add 10.43.0.10 via 192.0.2.1");
            ask(ADDRESS)
        });
        assert!(stranger.is_err(), "from outside: {stranger:?}");
        assert!(in_pod(&pod.namespaces, || ask("10.43.0.10:54")).is_err(), "another port");
        // A restarted edged finds it all in place.
        drop(net);
        let net = lab.open();
        assert_eq!(in_pod(&pod.namespaces, || ask(ADDRESS)).expect("an answer"), dns);
        assert_eq!(ask(ADDRESS).expect("an answer"), dns);
        let seen = server.join().expect("the server");
        assert_eq!((seen[0], seen[1]), (own.into(), dns.ip()), "nobody's source is changed");
        net.cleanup().await.expect("cleanup");
        UdpSocket::bind(ADDRESS).expect_err("the address is gone");
    });
}
