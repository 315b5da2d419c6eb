//! What edged takes on a small board: its memory with ten pods on a board of 512 MiB, its
//! processor and its writes at rest, the time from power to a served page; and that three pods run
//! on one of 256 MiB.

use std::time::{Duration, Instant};

use super::board::{Board, key};
use super::person::Person;
use super::{Place, Steps, asked, image, patient};

/// Seconds at rest, unless `EDGED_CARD_REST` says other.
const REST: u64 = 120;

const PODS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: pages}
spec:
  replicas: COUNT
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
        args: ['echo $HOSTNAME > /pages/name; exec /bin/busybox httpd -f -p 8080 -h /pages']
        volumeMounts: [{name: pages, mountPath: /pages}]
      volumes: [{name: pages, emptyDir: {medium: Memory}}]
---
apiVersion: v1
kind: Service
metadata: {name: pages}
spec:
  type: NodePort
  selector: {app: pages}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
";

/// What each of edged's processes takes: its words, resident and proportional kB, ticks.
const PROCESSES: &str = r#"for p in /proc/[0-9]*; do
a=$(tr '\0' ' ' < $p/cmdline 2>/dev/null); case "$a" in
*edged\ server*|*edged\ agent*|*edged\ shim*|/proc/self/exe*) ;; *) continue;; esac
echo "$(awk '/^Rss:/{r=$2} /^Pss:/{p=$2} END{print r, p}' $p/smaps_rollup) \
$(sed 's/.*) //' $p/stat | awk '{print $12+$13}') $a"; done"#;

#[test]
fn ten_pods_on_512_mib() {
    if asked() {
        on(512, 10, true);
    }
}

#[test]
fn three_pods_on_256_mib() {
    if asked() {
        on(256, 3, false);
    }
}

fn on(memory: u32, pods: usize, rest: bool) {
    let place = Place::new(&format!("small-{memory}"));
    let dir = place.0.as_path();
    let mut steps = Steps::new();
    let card = image::card(dir);
    let archive = image::archive(&card, dir);
    let person = Person::new(&format!("s{memory}"), dir, &["t1"]);
    let mut board = Board::new(&card, dir, "one", 11, memory);
    board.settings(&format!("role: server\n{}", key(dir)));
    steps.done("a card is ready");
    person.founds(&mut board, "t1", &mut steps);
    person.ctl(&["image", "push", &archive.display().to_string()]).ok();
    let manifests = PODS.replace("COUNT", &pods.to_string()).replace("IMAGE", image::BOX);
    person.apply("pages.yaml", &manifests);
    patient("a page", || person.page(&board.ip, 30080, "/name").map(|_| ()));
    steps.done("the first pod serves");
    person.ctl_until(&["get", "deployment", "pages"], |text| {
        text.contains(&format!("{pods}/{pods}"))
    });
    steps.done(&format!("{pods} pods are ready"));
    println!("{}", person.ssh(&board, PROCESSES).ok());
    println!("{}", person.ssh(&board, "free; ps -o rss,vsz,comm | sort -n | tail -n 30").ok());
    if rest {
        at_rest(&person, &board);
        steps.done("rested");
    }
    board.cut();
    let begin = Instant::now();
    board.on(&person.lan, "t1");
    patient("a page", || person.page(&board.ip, 30080, "/name").map(|_| ()));
    println!("             from power to a page that a pod serves: {:?}", begin.elapsed());
    steps.done("the board was switched off and on, and a pod serves again");
}

/// Ticks of edged's processes, and sectors written to the card, whichever partition.
fn spent(person: &Person, board: &Board) -> (u64, u64) {
    let text = person.ssh(board, PROCESSES).ok();
    let ticks = text.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    let disk = person.ssh(board, "awk '$3 == \"vda\" {print $10}' /proc/diskstats").ok();
    (ticks.sum(), disk.trim().parse().expect("sectors"))
}

fn at_rest(person: &Person, board: &Board) {
    let seconds = std::env::var("EDGED_CARD_REST").ok().and_then(|text| text.parse().ok());
    let seconds = seconds.unwrap_or(REST);
    // Whatever the start has left to write; the boot partition is left alone two minutes after it.
    person.ssh_until(board, "! grep -q ' /boot/firmware vfat ' /proc/mounts");
    std::thread::sleep(Duration::from_secs(60));
    person.ssh(board, "touch /run/rest").ok();
    let (ticks, sectors) = spent(person, board);
    std::thread::sleep(Duration::from_secs(seconds));
    let (later, more) = spent(person, board);
    if more != sectors {
        // Who it was: what is younger than the rest, and what was said since.
        println!(
            "{}",
            person.ssh(board, "find /data -xdev -newer /run/rest -exec ls -ld {} +").ok()
        );
        println!("{}", person.ssh(board, "journalctl -b --no-pager | tail -n 60").ok());
    }
    let share = (later - ticks) as f64 / seconds as f64;
    println!("             at rest for {seconds} s: {share:.2} % of a core");
    println!("             bytes written to the card: {}", (more - sectors) * 512);
    assert_eq!(more, sectors, "a board at rest writes nothing");
}
