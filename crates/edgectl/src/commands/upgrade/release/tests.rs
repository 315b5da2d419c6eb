//! Web servers that have what is asked for, and all the others.

use super::super::file::tests::{Dir, program, zstd};
use super::*;
use crate::args::Global;
use crate::io::Io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn session() -> Session {
    let io = Io::over(std::io::sink(), std::io::sink(), std::io::empty());
    Session::new(io, Global::default())
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A web server that gives each path what `says` says of it, and ends the connection.
async fn web(says: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let path = asked(&mut stream).await;
            let _ = stream.write_all(&says(&path)).await;
        }
    });
    address
}

async fn asked(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

async fn loaded(from: &str, arches: &[&str]) -> Result<Vec<Program>, String> {
    let arches: Vec<String> = arches.iter().map(|arch| (*arch).to_owned()).collect();
    let version = Version::parse("0.2.0").unwrap();
    let programs = load(from, &version, &arches, &mut session()).await;
    programs.map_err(|fault| fault.to_string())
}

#[tokio::test]
async fn a_release_has_what_the_boards_need() {
    let none = || answer("404 Not Found", b"nothing here");
    let server = web(move |path| match path {
        "/r/v0.2.0/edged-aarch64.zst" => answer("200 OK", &zstd(&program(183, "0.2.0"))),
        "/r/v0.2.0/edged-aarch64.minisig" => answer("200 OK", b"a signature"),
        "/r/v0.2.0/edged-x86_64" => {
            answer("302 Found\r\nLocation: ../elsewhere/edged?a=b", b"there")
        }
        "/r/v0.2.0/../elsewhere/edged?a=b" => answer("200 OK", &program(62, "0.2.0")),
        // As pages do that want to be nice.
        "/r/v0.2.0/edged-x86_64.zst" => answer("200 OK", b"<!doctype html><h1>Oh no</h1>"),
        _ => none(),
    })
    .await;
    let programs = loaded(&format!("http://{server}/r/"), &["arm64", "amd64"]).await.unwrap();
    let told = |p: &Program| (p.arch.clone(), p.signature.clone(), p.bytes);
    let signature = Some("a signature".to_owned());
    assert_eq!(told(&programs[0]), ("arm64".into(), signature, 248));
    assert_eq!(told(&programs[1]), ("amd64".into(), None, 248));
    let mut content = Vec::new();
    programs[0].content.open("x").unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content, program(183, "0.2.0"));
    let line = loaded(&format!("http://{server}/r"), &["arm"]).await.unwrap_err();
    assert!(line.contains("there is no http://") && line.contains("edged-armv7.zst"), "{line}");
}

#[tokio::test]
async fn what_a_server_may_do_wrong_is_one_line() {
    let server = web(|path| {
        let whole = program(183, "0.2.0");
        match path {
            "/page/v0.2.0/edged-aarch64" => answer("200 OK", b"<html>Log in, please</html>"),
            "/old/v0.2.0/edged-aarch64" => answer("200 OK", &program(183, "0.1.0")),
            "/other/v0.2.0/edged-aarch64" => answer("200 OK", &program(62, "0.2.0")),
            "/cut/v0.2.0/edged-aarch64" => answer("200 OK", &whole)[..100].to_vec(),
            "/long/v0.2.0/edged-aarch64" => {
                b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()
            }
            "/signed/v0.2.0/edged-aarch64" => answer("200 OK", &whole),
            "/signed/v0.2.0/edged-aarch64.minisig" => answer("200 OK", &[b'a'; 5000]),
            "/round/v0.2.0/edged-aarch64.zst" => {
                answer("301 Moved\r\nLocation: /round/v0.2.0/edged-aarch64.zst", b"")
            }
            "/lost/v0.2.0/edged-aarch64.zst" => answer("302 Found", b""),
            "/ftp/v0.2.0/edged-aarch64.zst" => answer("302 Found\r\nLocation: ftp://a/b", b""),
            "/ill/v0.2.0/edged-aarch64.zst" => answer("500 Internal Server Error", b""),
            "/none/v0.2.0/edged-aarch64.zst" => b"SSH-2.0-no\r\n".to_vec(),
            _ => answer("404 Not Found", b""),
        }
    })
    .await;
    for (place, word) in [
        ("page", "it is a web page"),
        ("old", "is edged 0.1.0, not 0.2.0"),
        ("other", "is for amd64, not for arm64"),
        ("cut", "it broke off"),
        ("long", "it has more than"),
        ("signed", "it has more than 4096 bytes"),
        ("round", "moved more than 5 times"),
        ("lost", "does not say where to"),
        ("ftp", "https or http"),
        ("ill", "500"),
        ("none", "get http://"),
        ("empty", "there is no http://"),
        ("q?x=y", "no ? and no #"),
    ] {
        let line = loaded(&format!("http://{server}/{place}"), &["arm64"]).await.unwrap_err();
        assert!(line.contains(word) && !line.contains('\n'), "{place}: {line}");
    }
    let line = loaded("http://127.0.0.1:1/x", &["arm64"]).await.unwrap_err();
    assert!(line.contains("127.0.0.1:1"), "{line}");
}

/// Who sends for ever is not listened to for ever.
#[tokio::test]
async fn an_endless_answer_has_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        asked(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    let line = get(&url, 1 << 20, &mut session()).await.unwrap_err().to_string();
    assert!(line.contains("more than 1048576 bytes"), "{line}");
}

#[tokio::test]
async fn a_directory_is_a_place_for_releases_too() {
    let dir = Dir::new("release");
    dir.put("v0.2.0/edged-aarch64", &program(183, "0.2.0"));
    dir.put("v0.2.0/edged-aarch64.minisig", b"a signature");
    dir.put("v0.2.0/edged-x86_64.zst", &zstd(&program(62, "0.2.0")));
    let from = dir.0.display().to_string();
    let programs = loaded(&from, &["arm64", "amd64"]).await.unwrap();
    assert_eq!(programs[0].signature.as_deref(), Some("a signature"));
    assert!(matches!(programs[1].content, Content::Held(_)));
    let line = loaded(&from, &["arm"]).await.unwrap_err();
    assert!(line.contains("v0.2.0/edged-armv7.zst"), "{line}");
    assert!(loaded(&from, &["riscv64"]).await.unwrap_err().contains("no edged is made for"));
}

#[test]
fn where_a_server_sends_us() {
    let to = |from: &str, to: &str| next(&from.parse().unwrap(), to);
    let at = "https://a:1/b/c?d";
    assert_eq!(to(at, "/x").unwrap(), "https://a:1/x");
    assert_eq!(to(at, "x?y#z").unwrap(), "https://a:1/b/x?y");
    assert_eq!(to(at, "//x/y").unwrap(), "https://x/y");
    assert_eq!(to(at, "HTTPS://x/y").unwrap(), "HTTPS://x/y");
    assert_eq!(to("http://a", "http://b/c").unwrap(), "http://b/c");
    assert!(to(at, "http://x/y").unwrap_err().contains("not secure"));
    assert!(to(at, "").is_err());
}
