//! An Ingress on a real board, by real `kubectl` and `curl`: ports that open with the first one and
//! close with the last, a certificate that comes, breaks and changes, a path that two want, and a
//! rollout that no client notices.

use std::sync::atomic::{AtomicBool, Ordering};

use super::command::{Outcome, run, until};
use super::machine::{ADDRESS, Board};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/web.yaml");

fn ingress(name: &str, tls: bool) -> String {
    let tls = if tls { "  tls:\n  - {hosts: [web.test], secretName: web-cert}\n" } else { "" };
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}}}\nspec:\n\
         {tls}  rules:\n  - host: web.test\n    http:\n      paths:\n      - {{path: /, pathType: \
         Prefix, backend: {{service: {{name: web, port: {{name: http}}}}}}}}\n"
    )
}

/// `curl` on the board, with the name at the board's address.
fn curl(board: &Board, args: &[&str], url: &str) -> Outcome {
    let mut curl = board.inside("curl");
    curl.args(["-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"]);
    for port in [80, 443] {
        curl.args(["--resolve", &format!("web.test:{port}:{ADDRESS}")]);
    }
    curl.args(args).arg(url);
    run(curl)
}

#[track_caller]
fn answers(board: &Board, args: &[&str], url: &str, code: &str) {
    until(&format!("{url} {args:?} is answered with {code}"), || {
        let outcome = curl(board, args, url);
        (outcome.stdout == code).then_some(()).ok_or_else(|| format!("{outcome:?}"))
    });
}

#[track_caller]
fn told(board: &Board, ingress: &str, words: &str) {
    until(&format!("{ingress} is said to be {words:?}"), || {
        let page = board.kubectl(&["describe", "ingress", ingress]).ok();
        page.contains(words).then_some(()).ok_or(page)
    });
}

/// A certificate and its key, in files on the board.
fn pair(board: &Board, name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["web.test".to_owned()]).expect("a certificate");
    let chain = board.file(&format!("{name}.crt"), made.cert.pem());
    (chain, board.file(&format!("{name}.key"), made.signing_key.serialize_pem()))
}

fn secret(board: &Board, (chain, key): &(String, String)) {
    let (chain, key) = (format!("--cert={chain}"), format!("--key={key}"));
    let args = ["create", "secret", "tls", "web-cert", &chain, &key, "--dry-run=client", "-o"];
    let made = board.kubectl(&[&args[..], &["yaml"]].concat()).ok();
    let file = board.file("secret.yaml", made);
    board.kubectl(&["apply", "-f", &file]).ok();
}

#[test]
fn an_ingress_from_its_first_to_its_last() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("ingress");
    board.load_example();
    board.kubectl(&["apply", "-f", EXAMPLE]).ok();
    board.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    let classes = board.kubectl(&["get", "ingressclass"]).ok();
    assert!(classes.contains("edged.io/ingress"), "{classes}");
    assert_eq!(curl(&board, &[], "http://web.test/").status, 7, "nobody listens");

    let file = board.file("web.yaml", ingress("web", true));
    board.kubectl(&["apply", "-f", &file]).ok();
    answers(&board, &[], "http://web.test/", "308");
    answers(&board, &["-k"], "https://web.test/", "200");
    answers(&board, &["-k", "--http2"], "https://web.test/", "200");
    answers(&board, &[], &format!("http://{ADDRESS}/"), "404");
    told(&board, "web", "SecretNotFound");
    until("the table shows it", || {
        let table = board.kubectl(&["get", "ingress", "web", "--no-headers"]).ok();
        let words: Vec<&str> = table.split_whitespace().take(6).collect();
        let want = ["web", "edged", "web.test", ADDRESS, "80,", "443"];
        (words == want).then_some(()).ok_or(table)
    });

    let first = pair(&board, "first");
    secret(&board, &first);
    answers(&board, &["--cacert", &first.0], "https://web.test/", "200");
    let junk = r#"{"data": {"tls.crt": "bm9uZQ=="}}"#;
    board.kubectl(&["patch", "secret", "web-cert", "--type=merge", "-p", junk]).ok();
    told(&board, "web", "CertificateBroken");
    answers(&board, &["--cacert", &first.0], "https://web.test/", "200");
    let second = pair(&board, "second");
    secret(&board, &second);
    answers(&board, &["--cacert", &second.0], "https://web.test/", "200");

    let file = board.file("late.yaml", ingress("late", false));
    board.kubectl(&["apply", "-f", &file]).ok();
    told(&board, "late", "PathTaken");
    rollout(&board);
    board.kubectl(&["delete", "ingress", "late", "web"]).ok();
    until("its ports are closed", || {
        let outcome = curl(&board, &[], "http://web.test/");
        (outcome.status == 7).then_some(()).ok_or_else(|| format!("{outcome:?}"))
    });
}

/// Requests one after the other while all pods are replaced.
fn rollout(board: &Board) {
    let done = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Acquire) {
                let outcome = curl(board, &["-k"], "https://web.test/");
                assert_eq!(outcome.stdout, "200", "request {count}: {outcome:?}");
                count += 1;
            }
            count
        });
        board.kubectl(&["set", "env", "deployment/web", "VERSION=two"]).ok();
        let status = ["rollout", "status", "deployment/web", "--timeout=50s"];
        let outcome = board.kubectl(&status);
        done.store(true, Ordering::Release);
        outcome.ok();
        asking.join().expect("no request fails")
    });
    assert!(asked > 10, "only {asked} requests were made");
}
