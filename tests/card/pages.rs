//! One card under kernels with pages of 4 KiB, of 16 KiB as a Raspberry Pi 5 has them, and of 4 KiB
//! again: what was kept by one is there for the next, and its pods run.

use super::board::{Board, key};
use super::person::Person;
use super::{Place, Steps, asked, image, patient};

/// Objects that are written under each kernel.
const WRITES: usize = 20;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: page, labels: {app: page}}
spec:
  containers:
  - name: c
    image: IMAGE
    imagePullPolicy: IfNotPresent
    command: [/bin/busybox, sh, -c]
    args: ['echo here > /page; exec /bin/busybox httpd -f -p 8080 -h /']
    resources: {limits: {memory: 16Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: page}
spec:
  type: NodePort
  selector: {app: page}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
";

#[test]
fn a_card_serves_with_pages_of_either_size() {
    if !asked() {
        return;
    }
    let place = Place::new("pages");
    let dir = place.0.as_path();
    let mut steps = Steps::new();
    let small = image::with_kernel(dir, "arm64");
    let large = image::with_kernel(dir, "arm64-16k");
    let archive = image::archive(&small, dir);
    let person = Person::new("pages", dir, &["t1"]);
    let mut board = Board::new(&small, dir, "one", 11, 512);
    // The Pi 5's; a Cortex-A53 has no pages of 16 KiB.
    board.processor = "cortex-a76";
    board.settings(&format!("role: server\n{}", key(dir)));
    steps.done("two images and a card are ready");
    person.founds(&mut board, "t1", &mut steps);
    person.ctl(&["image", "push", &archive.display().to_string()]).ok();
    person.apply("page.yaml", &POD.replace("IMAGE", image::BOX));
    serves(&person, &board, 4);
    steps.done("a pod serves, with pages of 4 KiB");
    write(&person, 4);
    for (card, size) in [(&large, 16), (&small, 4)] {
        board.cut();
        board.renew(card);
        steps.done(&format!("the card has the system with pages of {size} KiB"));
        board.on(&person.lan, "t1");
        serves(&person, &board, size);
        steps.done(&format!("the same card serves with pages of {size} KiB"));
        let have = person.ctl_until(&["get", "configmaps", "-o", "name"], |text| !text.is_empty());
        let kept = have.lines().filter(|line| line.contains("/kept-")).count();
        assert_eq!(kept, if size == 16 { WRITES } else { 2 * WRITES }, "{have}");
        write(&person, if size == 16 { 16 } else { 5 });
        let out = person.ctl(&["exec", "page", "--", "/bin/busybox", "cat", "/page"]).ok();
        assert_eq!(out.trim(), "here");
        steps.done("what was written before is there, more is written, exec answers");
    }
}

/// The pod's page is served, by a kernel with pages of so many KiB.
fn serves(person: &Person, board: &Board, size: u32) {
    patient("a page", || person.page(&board.ip, 30080, "/page").map(|_| ()));
    let line = "awk '/^KernelPageSize/ {print $2; exit}' /proc/self/smaps";
    assert_eq!(person.ssh(board, line).ok().trim(), size.to_string());
}

fn write(person: &Person, under: u32) {
    for n in 0..WRITES {
        let name = format!("kept-{under}-{n}");
        let text = format!("--from-literal=text={}", "x".repeat(512));
        person.ctl(&["create", "configmap", &name, &text]).ok();
    }
}
