//! Askers in great numbers, and odd ones: each waits for nobody but itself, what they make the
//! server hold is bounded, and names of the cluster are answered meanwhile.

use super::*;
use tokio::net::TcpSocket;

/// What the cluster itself knows: no such name, at once.
async fn answers_meanwhile(at: SocketAddr) {
    let begun = Instant::now();
    let none = query("nothing.ns.svc.cluster.local", kind::A);
    assert_eq!(look(at, &none).await.code, code::NO_NAME);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "answered after {took:?}");
}

fn framed(query: &Query) -> Vec<u8> {
    let packet = ask(query.id, query, &query.name, false);
    [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], &packet].concat()
}

fn somebody(n: usize) -> SocketAddr {
    let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
    ([127, 1, high, low], 0).into()
}

#[tokio::test]
async fn questions_sent_together_are_answered_in_their_order() {
    let board = board(&[], None).await;
    let mut stream = TcpStream::connect(board.at).await.unwrap();
    let questions = (0..100).map(|id| {
        let asked = query(&format!("n{id}.ns.svc.cluster.local"), kind::A);
        framed(&Query { id, ..asked })
    });
    let all: Vec<u8> = questions.flatten().collect();
    // In pieces that end anywhere.
    for piece in all.chunks(333) {
        stream.write_all(piece).await.unwrap();
    }
    for id in 0..100 {
        let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(u16::from_be_bytes([answer[0], answer[1]]), id);
        assert_eq!(answer[3] & 0xf, 3, "no such name");
    }
}

#[tokio::test]
async fn a_question_that_is_too_long_ends_its_connection() {
    let board = board(&[], None).await;
    for (length, ends) in [(4096u16, false), (4097, true), (65_535, true)] {
        let mut stream = TcpStream::connect(board.at).await.unwrap();
        let mut packet = framed(&query("nothing.ns.svc.cluster.local", kind::A));
        packet[..2].copy_from_slice(&length.to_be_bytes());
        packet.resize(2 + usize::from(length), 0);
        // It may be gone before it has all of that.
        let _ = stream.write_all(&packet).await;
        let answered = stream.read_u16().await;
        assert_eq!(answered.is_err(), ends, "{length}: {answered:?}");
    }
    // A datagram has no more than is read of it; the rest is not looked at.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let asked = query("nothing.ns.svc.cluster.local", kind::A);
    let mut packet = ask(asked.id, &asked, &asked.name, false);
    packet.resize(60_000, 0);
    socket.send_to(&packet, board.at).await.unwrap();
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer).await.unwrap();
    assert_eq!(listen(&buffer[..length], asked.id, &asked, &asked.name).unwrap().code, 3);
}

#[tokio::test]
async fn ten_thousand_questions_that_nobody_answers_hold_up_nobody() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let board = board(&[LOOPBACK], Some(silent.local_addr().unwrap().port())).await;
    for client in 0..200 {
        let socket = UdpSocket::bind(somebody(client)).await.unwrap();
        for n in 0..50 {
            let asked = query(&format!("n{n}.c{client}.lan"), kind::A);
            socket.send_to(&ask(n, &asked, &asked.name, false), board.at).await.unwrap();
        }
        if client % 50 == 0 {
            answers_meanwhile(board.at).await;
        }
    }
    answers_meanwhile(board.at).await;
    let mut names = std::collections::BTreeSet::new();
    let mut buffer = [0; 1500];
    while let Ok(Ok((length, _))) =
        tokio::time::timeout(Duration::from_millis(200), silent.recv_from(&mut buffer)).await
    {
        let asked = parse(&buffer[..length]).unwrap();
        if asked.kind == kind::A {
            names.insert(asked.name.to_string());
        }
    }
    // Those of the first round, and of who came after some of them had given up.
    assert!((100..=512).contains(&names.len()), "{} are asked for", names.len());
}

#[tokio::test]
async fn ten_thousand_connections_are_not_held() {
    let board = board(&[], None).await;
    let connect = async |n: usize| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(somebody(n)).unwrap();
        socket.connect(board.at).await.unwrap()
    };
    let mut held = Vec::new();
    for n in 0..64 {
        held.push(connect(n).await);
    }
    // Who says nothing for 5 s loses its place; these go on asking.
    let holding = tokio::spawn(async move {
        loop {
            for stream in &mut held {
                let asked = query("nothing.ns.svc.cluster.local", kind::A);
                stream.write_all(&framed(&asked)).await.unwrap();
                let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut answer).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    answers_meanwhile(board.at).await;
    for n in 64..10_000 {
        let mut stream = connect(n).await;
        assert!(stream.read_u8().await.is_err(), "connection {n} has a place");
        if n % 2500 == 0 {
            answers_meanwhile(board.at).await;
        }
    }
    assert!(!holding.is_finished(), "those that have a place keep it");
    holding.abort();
}
