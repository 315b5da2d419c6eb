//! A DNS server outside the cluster that knows a single name; and questions to the cluster's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use edge_core::dns::{Data, Name, Record, Reply, code, encode, kind, parse};

use super::asking::DATAGRAM;
pub(crate) use super::asking::addresses;
use super::board::address;
use super::cluster::{Cluster, PERSON};
use super::namespace::Namespace;

/// Starts a server where the person is, which knows this name and no other; gives the text of a
/// `resolv.conf` that leads to it.
pub(crate) fn outside(cluster: &Cluster, name: &'static str, ip: Ipv4Addr) -> String {
    serve(&cluster.person, address(PERSON), name, ip)
}

/// The same at an address of any namespace.
pub(crate) fn serve(
    namespace: &Namespace,
    at: Ipv4Addr,
    name: &'static str,
    ip: Ipv4Addr,
) -> String {
    let to = SocketAddr::new(IpAddr::V4(at), 53);
    let socket = namespace.within(|| UdpSocket::bind(to).expect("port 53"));
    std::thread::spawn(move || {
        let mut buffer = [0; DATAGRAM];
        while let Ok((length, who)) = socket.recv_from(&mut buffer) {
            let Ok(query) = parse(&buffer[..length]) else { continue };
            let mut reply = Reply { code: code::NO_NAME, ..Reply::default() };
            if query.name.lower() == Name::new(name).expect("a name") {
                let record = Record { name: query.name.clone(), ttl: 1, data: Data::A(ip) };
                let answers = if query.kind == kind::A { vec![record] } else { Vec::new() };
                reply = Reply { answers, ..Reply::default() };
            }
            let _ = socket.send_to(&encode(&query, &reply, 512), who);
        }
    });
    format!("nameserver {at}\nsearch home.lan\n")
}
