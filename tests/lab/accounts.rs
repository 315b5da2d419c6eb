//! A pod that speaks to the API as client libraries do, with what it finds in its own file system:
//! through the Service's address, with the cluster's authority and its account's token; whoever
//! leads, and until the pod ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::board::Board;
use super::cluster::Cluster;
use crate::board::command::{Outcome, has, must, run, until};
use crate::board::machine::busybox_archive;

const THINGS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: robot-sees}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: robot}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: a1
  serviceAccountName: robot
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'example.org/client:1', command: [/bin/busybox, sleep, '1000']}
";

/// Where pods have it.
const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// An image with the machine's kubectl in it, and whatever that is linked with.
fn client_archive(dir: &Path) -> String {
    busybox_archive(dir);
    let image = format!("{}:latest", dir.join("bb-layout").display());
    let named = std::env::var_os("KUBECTL").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let kubectl = named.into_iter().chain(std::env::split_paths(&path).map(|d| d.join("kubectl")));
    let kubectl = kubectl.into_iter().find(|path| path.is_file()).expect("kubectl");
    let kubectl = kubectl.canonicalize().expect("kubectl").display().to_string();
    let mut ldd = Command::new("ldd");
    ldd.arg(&kubectl);
    let linked = run(ldd).stdout;
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    let root = dir.join("client");
    for (from, to) in libraries.map(|path| (path, path)).chain([(&*kubectl, "/opt/kubectl")]) {
        let to = root.join(&to[1..]);
        std::fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        std::fs::copy(from, &to).expect("a copy");
    }
    for entry in std::fs::read_dir(&root).expect("a directory").flatten() {
        let (from, name) = (entry.path().display().to_string(), entry.file_name());
        let to = format!("/{}", name.to_string_lossy());
        // umoci doesn't fill up the last file of a layer: let something empty be the last.
        std::os::unix::fs::symlink(".", entry.path().join("zz")).expect("a link");
        must("umoci", &["insert", "--image", &image, &from, &to]);
    }
    let file = dir.join("client.tar").display().to_string();
    let to = format!("oci-archive:{file}:example.org/client:1");
    must("skopeo", &["copy", "-q", &format!("oci:{image}"), &to]);
    file
}

fn inside(cluster: &Cluster, words: &str) -> Outcome {
    let command = ["exec", "client", "--"].into_iter();
    let all: Vec<&str> = command.chain(words.split_whitespace()).collect();
    cluster.kubectl(alive(cluster), &all)
}

/// A server that runs.
fn alive(cluster: &Cluster) -> &Board {
    cluster.servers().find(|server| server.pid().is_some()).expect("a server runs")
}

/// Files below a directory that hold these words; what is mounted below it is somebody else's.
fn files_with(dir: &Path, words: &str) -> Vec<PathBuf> {
    let mut command = Command::new("find");
    command.arg(dir).args(["-xdev", "-type", "f", "-size", "-4096k"]);
    command.args(["-exec", "grep", "-lF", "-e", words, "{}", "+"]);
    run(command).stdout.lines().map(PathBuf::from).collect()
}

#[test]
fn a_client_in_a_pod_works_whoever_leads() {
    if !super::can_run() {
        return;
    }
    assert!(has("kubectl"), "kubectl is missing: tests/setup.sh test installs it");
    let _alone = super::alone();
    let cluster = Cluster::start(3, 1);
    let leader = cluster.wait_leader();
    let archive = client_archive(&cluster.dir);
    cluster.ctl(leader, &["image", "load", "--node", "a1", &archive]).ok();
    let things = cluster.file("things.yaml", THINGS);
    cluster.kubectl(leader, &["apply", "-f", &things]).ok();
    cluster.kubectl(leader, &["wait", "--for=condition=Ready", "pod/client", "--timeout=50s"]).ok();

    let seen = inside(&cluster, "/opt/kubectl get pods -o name").ok();
    assert_eq!(seen, "pod/client\n");
    let version = inside(&cluster, "/opt/kubectl version").ok();
    assert!(version.contains("Server Version: v1.33"), "{version}");
    let refused = inside(&cluster, "/opt/kubectl get secrets").fails();
    let who = "User \"system:serviceaccount:default:robot\" cannot list resource \"secrets\"";
    assert!(refused.contains(who), "{refused}");
    let read = |file: &str| inside(&cluster, &format!("/bin/busybox cat {PLACE}/{file}")).ok();
    assert_eq!(read("namespace"), "default");
    assert!(read("ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));
    let token = read("token");
    let mounted = inside(&cluster, "/bin/busybox cat /proc/mounts").ok();
    let mounted = mounted.lines().find(|line| line.contains(PLACE)).expect("a mount");
    assert!(mounted.starts_with("tmpfs ") && mounted.contains(" ro,"), "{mounted}");
    // Neither its signature nor its claims are anywhere on the card or in what edged says.
    let signature = token.rsplit('.').next().expect("a token");
    for board in &cluster.boards {
        assert_eq!(files_with(&board.dir, signature), [] as [PathBuf; 0], "{}", board.name);
        assert!(!board.log().contains(signature), "{}", board.name);
    }

    leader.kill();
    until("the token is as good with another leader", || {
        let seen = inside(&cluster, "/opt/kubectl get pods -o name");
        if seen.stdout == "pod/client\n" { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    assert_eq!(read("token"), token);
    let leader = alive(&cluster);
    let url = format!("https://{}:6443/api/v1/namespaces/default/pods", leader.ip);
    let asked = || {
        let mut curl = cluster.person("curl", leader);
        curl.args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", "-m", "5", "-H"]);
        curl.arg(format!("Authorization: Bearer {token}")).arg(&url);
        run(curl).stdout
    };
    assert_eq!(asked(), "200");
    cluster.kubectl(leader, &["delete", "pod", "client", "--timeout=30s"]).ok();
    assert_eq!(asked(), "401", "it ends with its pod");
}
