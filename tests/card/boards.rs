//! The whole story: a card in two boards, from a file on a laptop to a Service on both, and then
//! the power of the first is cut while it writes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::board::{Board, key};
use super::person::Person;
use super::{Place, Steps, asked, image, patient};

/// Where the Service is, on every board.
const PORT: u16 = 30080;
/// Writes that must have been answered before the power is cut.
const WRITES: usize = 20;
/// Seconds after which nobody waits for the answer to a write any more.
const ANSWER: &str = "15";

const MANIFESTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: pages}
spec:
  replicas: 2
  selector: {matchLabels: {app: pages}}
  template:
    metadata: {labels: {app: pages}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: IMAGE
        imagePullPolicy: IfNotPresent
        command: [/bin/busybox, sh, -c]
        args: ['echo $HOSTNAME > /hostname; exec /bin/busybox httpd -f -p 8080 -h /']
        readinessProbe: {httpGet: {path: /hostname, port: 8080}, periodSeconds: 2}
        resources: {limits: {memory: 16Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: pages}
spec:
  type: NodePort
  selector: {app: pages}
  ports: [{port: 80, targetPort: 8080, nodePort: PORT}]
";

#[test]
fn a_card_in_two_boards_and_a_power_cut() {
    if !asked() {
        return;
    }
    let place = Place::new("boards");
    let dir = place.0.as_path();
    let mut steps = Steps::new();
    let card = image::card(dir);
    let archive = image::archive(&card, dir);
    steps.done("the image is made");
    let person = Person::new("card", dir, &["t1", "t2"]);
    let key = key(dir);
    let mut one = Board::new(&card, dir, "one", 11, 512);
    let mut two = Board::new(&card, dir, "two", 12, 512);
    one.settings(&format!("role: server\n{key}"));
    steps.done("two cards are flashed; edged.yaml of the first is written");

    person.founds(&mut one, "t1", &mut steps);
    let token = person.ssh_until(&one, "edged token create");
    let token = token.lines().last().expect("a token").to_owned();
    two.settings(&format!("join: https://{}:6443\ntoken: {token}\n{key}", one.ip));
    two.on(&person.lan, "t2");
    person.ctl_until(&["get", "nodes"], |text| text.matches(" Ready").count() == 2);
    steps.done("board 2 has joined by the token on its boot partition, and is Ready");

    person.ctl(&["image", "push", &archive.display().to_string()]).ok();
    let manifests = MANIFESTS.replace("IMAGE", image::BOX).replace("PORT", &PORT.to_string());
    person.apply("pages.yaml", &manifests);
    steps.done("edgectl image push, edgectl apply -f");
    running(&person);
    steps.done("the Deployment runs on both");
    answered(&person, &[&one, &two]);
    steps.done("the Service answers through either board, by either pod");

    let acknowledged = cut_amid_writes(&person, &mut one);
    steps.done(&format!("board 1's power is cut after {} writes", acknowledged.len()));
    patient("board 2's pod", || person.page(&two.ip, PORT, "/hostname"));
    steps.done("board 2 answers alone");
    one.on(&person.lan, "t1");
    let names = ["get", "configmaps", "-o", "name"];
    let have = person.ctl_until(&names, |text| !text.is_empty());
    steps.done("board 1 is back, and its API answers");
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|name| !have.lines().any(|line| line.ends_with(*name)))
        .collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?} of {acknowledged:?}");
    println!("             {} acknowledged writes, none lost", acknowledged.len());
    running(&person);
    answered(&person, &[&one, &two]);
    steps.done("the Service answers through either board again");

    one.cut();
    two.cut();
    let left = two.on_boot("edged.yaml");
    assert!(left.contains("token: stored") && !left.contains(&token), "{left}");
}

/// A pod on each board, and both are ready.
fn running(person: &Person) {
    person.ctl_until(&["get", "pods", "-o", "wide"], |text| {
        let ready = |board: &str| {
            text.lines().any(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                words.contains(&"1/1") && words.contains(&"Running") && words.contains(&board)
            })
        };
        ready("one") && ready("two")
    });
}

/// Each board leads to both pods.
fn answered(person: &Person, boards: &[&Board]) {
    for board in boards {
        let mut seen = std::collections::BTreeSet::new();
        patient(&format!("both pods through {}", board.name), || {
            seen.insert(person.page(&board.ip, PORT, "/hostname")?);
            if seen.len() == boards.len() { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
}

/// Cuts the board's power in the middle of writes; gives the names of those that were answered.
fn cut_amid_writes(person: &Person, board: &mut Board) -> Vec<String> {
    let done = AtomicBool::new(false);
    let acknowledged = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (done, acknowledged) = (&done, &acknowledged);
            scope.spawn(move || {
                for n in 0.. {
                    if done.load(Ordering::Acquire) {
                        return;
                    }
                    let name = format!("w{writer}-{n}");
                    let text = format!("--from-literal=text={}", "x".repeat(512));
                    let args = ["create", "configmap", &name, &text];
                    if person.ctl_within(ANSWER, &args).status == 0 {
                        acknowledged.lock().expect("no panic").push(name);
                    }
                }
            });
        }
        patient("writes", || {
            let count = acknowledged.lock().expect("no panic").len();
            if count >= WRITES { Ok(()) } else { Err(format!("{count}")) }
        });
        std::thread::sleep(Duration::from_millis(137));
        board.cut();
        done.store(true, Ordering::Release);
    });
    acknowledged.into_inner().expect("no panic")
}
