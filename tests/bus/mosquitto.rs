//! Mosquitto's clients with our broker, over mutual TLS.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Client, Files, Pki, broker, topic, until, wish};

/// A Mosquitto client with the certificate of server `name`.
fn client(program: &str, pki: &Pki, name: &str, port: u16, args: &[&str]) -> Command {
    let Files { ca, cert, key } = pki.files(&format!("system:server:{name}"), "edged:servers");
    let mut command = Command::new(program);
    command.args(["-V", "mqttv5", "-h", "127.0.0.1", "-p", &port.to_string()]);
    command.arg("--cafile").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key).args(args);
    command
}

fn lines(child: Child) -> Vec<String> {
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(Into::into).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_clients_publish_and_subscribe_at_our_broker() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let port = broker.address().port();
    let to = topic("raft/s");
    let mut sub = client("mosquitto_sub", &pki, "s", port, &["-t", &to, "-q", "1", "-C", "3"]);
    let sub = sub.stdout(Stdio::piped()).spawn().expect("mosquitto-clients: tests/setup.sh test");
    until("subscribed", || broker.counters().clients == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut ours = Client::server(&pki, "o", broker.address(), wish(&[("raft/o", 0)])).up().await;
    for qos in ["0", "1"] {
        let args = ["-t", &to, "-q", qos, "-m", "from mosquitto"];
        let status = client("mosquitto_pub", &pki, "p", port, &args).status().unwrap();
        assert!(status.success());
    }
    ours.session.publish(&to, "from us".into(), 1, false).unwrap();
    let heard = tokio::task::spawn_blocking(|| lines(sub)).await.unwrap();
    assert_eq!(heard, ["from mosquitto", "from mosquitto", "from us"]);
    let to = topic("raft/o");
    let args = ["-t", &to, "-m", "hello", "-i", "system:server:p"];
    assert!(client("mosquitto_pub", &pki, "p", port, &args).status().unwrap().success());
    assert_eq!(ours.message().await.1, "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_clients_get_retained_messages_and_leave_wills() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let port = broker.address().port();
    let to = topic("leader");
    let args = ["-t", &to, "-r", "-q", "1", "-m", "kept"];
    assert!(client("mosquitto_pub", &pki, "p", port, &args).status().unwrap().success());
    let mut sub = client("mosquitto_sub", &pki, "s", port, &["-t", &to, "-C", "1", "-F", "%r %p"]);
    let sub = sub.stdout(Stdio::piped()).spawn().unwrap();
    let heard = tokio::task::spawn_blocking(|| lines(sub)).await.unwrap();
    assert_eq!(heard, ["1 kept"]);
    // A will, after kill -9.
    let mut watcher = Client::server(&pki, "w", broker.address(), wish(&[("gone/+/+", 0)]));
    let gone = topic("gone/s/b");
    let args = ["-t", &to, "--will-topic", &gone, "--will-payload", "died", "-k", "60"];
    let mut dying = client("mosquitto_sub", &pki, "s", port, &args);
    let mut dying = dying.stdout(Stdio::null()).spawn().unwrap();
    watcher = watcher.up().await;
    until("both there", || broker.counters().clients == 2).await;
    dying.kill().unwrap();
    dying.wait().unwrap();
    assert_eq!(watcher.message().await, (gone, "died".into(), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_clients_are_told_what_they_may_not() {
    let pki = Pki::new();
    let broker = broker(&pki).await;
    let port = broker.address().port();
    let run = |program: &str, args: &[&str]| {
        let output = client(program, &pki, "s", port, args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap().to_lowercase())
    };
    let to = topic("beat/other");
    let (_, text) = run("mosquitto_pub", &["-t", &to, "-q", "1", "-m", "x"]);
    assert!(text.contains("not authorized"), "{text}");
    let (_, text) = run("mosquitto_sub", &["-t", "#", "-C", "1", "-W", "2"]);
    assert!(text.contains("denied") || text.contains("not authorized"), "{text}");
    let mut old = client("mosquitto_pub", &pki, "s", port, &["-t", &to, "-m", "x"]);
    old.args(["-V", "mqttv311"]);
    let old = old.output().unwrap();
    let text = String::from_utf8_lossy(&old.stderr).to_lowercase();
    assert!(!old.status.success() && text.contains("protocol version"), "{text}");
}
