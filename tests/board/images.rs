//! Images from where people keep them: a real registry, and archives that real tools made.

use std::process::{Child, Command, Stdio};

use super::command::{has, must, run, until};
use super::machine::{Board, built};

/// Debian's registry on the board's loopback; ends with the test.
struct Registry(Child);

impl Registry {
    fn start(board: &Board) -> Registry {
        assert!(has("docker-registry") && has("skopeo"), "tests/setup.sh test installs them");
        let storage = board.dir.join("registry");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: 127.0.0.1:5000}}\n",
            storage.display()
        );
        let path = board.file("registry.yml", config);
        let mut command = board.inside("docker-registry");
        command.args(["serve", &path]).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Registry(command.spawn().expect("the registry starts"));
        until("the registry answers", || {
            let mut curl = board.inside("curl");
            curl.args(["-sf", "http://127.0.0.1:5000/v2/"]);
            let outcome = run(curl);
            (outcome.status == 0).then_some(()).ok_or(outcome.stderr)
        });
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example's image as an OCI layout directory.
fn layout(board: &Board) -> String {
    let archive = board.dir.join("web.tar").display().to_string();
    let mut make = Command::new(built("edged"));
    make.args(["webserver", "--archive", &archive]);
    run(make).ok();
    let dir = board.dir.join("layout");
    std::fs::create_dir(&dir).expect("a fresh directory");
    let dir = dir.display().to_string();
    must("tar", &["-xf", &archive, "-C", &dir]);
    dir
}

fn pod(name: &str, image: &str, policy: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
         containers:\n  - {{name: c, image: '{image}', imagePullPolicy: {policy}, \
         command: [/edged, version]}}\n"
    )
}

#[track_caller]
fn phase(board: &Board, name: &str, want: &str) {
    until(&format!("pod {name} is {want}"), || {
        let phase = board.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.phase}"]).ok();
        (phase == want).then_some(()).ok_or_else(|| {
            let pod = board.kubectl(&["describe", "pod", name]).stdout;
            format!("{phase}: {pod}")
        })
    });
}

#[track_caller]
fn waits_for(board: &Board, name: &str, reasons: &[&str], words: &str) {
    let waiting = "{.status.containerStatuses[0].state.waiting";
    let path = format!("jsonpath={waiting}.reason}}|{waiting}.message}}");
    until(&format!("pod {name} waits for {reasons:?} with {words:?}"), || {
        let told = board.kubectl(&["get", "pod", name, "-o", &path]).ok();
        let (reason, message) = told.split_once('|').unwrap_or_default();
        let right = reasons.contains(&reason) && message.contains(words);
        right.then_some(()).ok_or(told.clone())
    });
}

#[test]
fn from_a_registry_by_tag_and_by_digest() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("registry");
    let _registry = Registry::start(&board);
    let layout = layout(&board);
    let image = "127.0.0.1:5000/team/web";
    let mut push = board.inside("skopeo");
    push.args(["copy", "-q", "--dest-tls-verify=false", "--digestfile"]);
    push.arg(board.dir.join("digest"));
    push.args([&format!("oci:{layout}"), &format!("docker://{image}:v1")]);
    run(push).ok();
    let digest = std::fs::read_to_string(board.dir.join("digest")).expect("skopeo wrote it");
    for (name, reference) in
        [("tag", format!("{image}:v1")), ("digest", format!("{image}@{}", digest.trim()))]
    {
        let file = board.file("pod.yaml", pod(name, &reference, "Always"));
        board.ctl(&["apply", "-f", &file]).ok();
        phase(&board, name, "Succeeded");
        let logs = board.kubectl(&["logs", name]).ok();
        assert!(logs.starts_with("edged "), "{logs}");
    }
    for (name, reference, policy, reasons, words) in [
        ("notag", format!("{image}:v2"), "Always", ["ErrImagePull", "ImagePullBackOff"], "v2"),
        ("never", format!("{image}:v3"), "Never", ["ErrImageNeverPull", "ErrImageNeverPull"], "v3"),
        ("odd", "Not/A:Name:x".into(), "Always", ["InvalidImageName"; 2], "Not/A:Name:x"),
    ] {
        let file = board.file("pod.yaml", pod(name, &reference, policy));
        board.ctl(&["apply", "-f", &file]).ok();
        waits_for(&board, name, &reasons, words);
    }
}

#[test]
fn from_archives_of_other_tools_without_a_registry() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("archive");
    let layout = layout(&board);
    for (name, target) in [("oci", "oci-archive"), ("docker", "docker-archive")] {
        let file = board.dir.join(format!("{name}.tar"));
        let to = format!("{target}:{}:example.org/{name}:v1", file.display());
        must("skopeo", &["copy", "-q", &format!("oci:{layout}"), &to]);
        let told = board.ctl(&["image", "load", &file.display().to_string()]).ok();
        assert!(told.contains(&format!("example.org/{name}:v1")), "{told}");
        let file = board.file("pod.yaml", pod(name, &format!("example.org/{name}:v1"), "Never"));
        board.ctl(&["apply", "-f", &file]).ok();
        phase(&board, name, "Succeeded");
    }
    let listed = board.ctl(&["image", "list"]).ok();
    assert!(listed.contains("example.org/oci"), "{listed}");
}

#[test]
fn what_is_no_image_is_refused_and_leaves_nothing() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("corrupt");
    let layout = layout(&board);
    let blobs = std::path::Path::new(&layout).join("blobs/sha256");
    let largest = std::fs::read_dir(&blobs)
        .expect("blobs")
        .flatten()
        .max_by_key(|entry| entry.metadata().map_or(0, |m| m.len()))
        .expect("a layer");
    let mut layer = std::fs::read(largest.path()).expect("the layer");
    let middle = layer.len() / 2;
    layer[middle] ^= 1;
    std::fs::write(largest.path(), layer).expect("written");
    let broken = board.dir.join("broken.tar").display().to_string();
    must("tar", &["-cf", &broken, "-C", &layout, "."]);
    let text = board.file("text.tar", "this is no archive\n");
    for (file, words) in [(broken.as_str(), "digest"), (text.as_str(), "archive")] {
        let why = board.ctl(&["image", "load", file]).fails();
        assert!(why.contains(words), "{file}: {why}");
        assert_eq!(why.trim().lines().count(), 1, "{why}");
    }
    let listed = board.ctl(&["image", "list"]).ok();
    assert!(!listed.contains("edged/webserver"), "{listed}");
    let ingest = board.dir.join("data/images/ingest");
    let left = std::fs::read_dir(ingest).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

/// Pushed names mean what was pushed, whatever the policy, and no registry is asked for them.
#[test]
fn a_pushed_image_runs_without_a_registry_and_its_name_can_move() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("push");
    let archive = board.dir.join("web.tar").display().to_string();
    let mut make = Command::new(built("edged"));
    make.args(["webserver", "--archive", &archive]);
    run(make).ok();
    let told = board.ctl(&["image", "push", &archive, "--name", "shop/web:1"]).ok();
    assert!(told.contains("docker.io/shop/web:1 pushed to node/board-1"), "{told}");
    let file = board.file("pod.yaml", pod("pushed", "shop/web:1", "Always"));
    board.ctl(&["apply", "-f", &file]).ok();
    phase(&board, "pushed", "Succeeded");
    until("the board has told what it holds", || {
        let listed = board.ctl(&["image", "list", "--pushed"]).ok();
        let line = listed.lines().find(|line| line.starts_with("docker.io/shop/web:1 "));
        let here = line.is_some_and(|line| line.trim_end().ends_with("board-1"));
        here.then_some(()).ok_or(listed.clone())
    });
    // What the board has does not travel again.
    let size = std::fs::metadata(&archive).expect("the archive").len();
    let again = board.ctl(&["image", "push", &archive, "--name", "shop/web:2"]).ok();
    let (sent, _) = again.split_once('(').and_then(|(_, rest)| rest.split_once(' ')).expect("told");
    assert!(size > 1 << 20 && sent.ends_with("KiB"), "{again}");
    let removed = board.ctl(&["image", "rm", "shop/web:1"]).ok();
    assert_eq!(removed.trim(), "docker.io/shop/web:1 removed");
    let listed = board.ctl(&["image", "list", "--pushed"]).ok();
    assert!(!listed.contains("web:1 ") && listed.contains("web:2 "), "{listed}");
    let why = board.ctl(&["image", "rm", "shop/web:1"]).fails();
    assert!(why.contains("shop/web:1") && why.trim().lines().count() == 1, "{why}");
}
