//! A cluster goes into a file and comes out of it, and files that are no whole backup do nothing.

use crate::world::{Outcome, World, deployment, run_words};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A cluster with a little in it.
pub(crate) async fn world() -> World {
    let world = World::new().await;
    world.run_with("apply -f -", &deployment("web", 2, "c:1")).await.ok();
    world.run("create secret generic kept --from-literal=a=confidential").await.ok();
    let pods = "apiVersion: v1\nkind: Node\nmetadata: {name: board}\n---\n\
                apiVersion: v1\nkind: Node\nmetadata: {name: far}\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {name: here}\nspec:\n  nodeName: board\n  \
                tolerations: [{operator: Exists}]\n  containers: [{name: c, image: \"c:1\"}]\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {name: there}\nspec:\n  nodeName: far\n  \
                tolerations: [{operator: Exists}]\n  containers: [{name: c, image: \"c:1\"}]\n";
    world.run_with("apply -f -", pods).await.ok();
    world
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// One line with these words in it, but for the one that says what the backup is.
#[track_caller]
pub(crate) fn refused(outcome: Outcome, words: &str) {
    let why = outcome.fails();
    let said: Vec<&str> = why.lines().filter(|line| !line.contains(" as of revision ")).collect();
    assert!(said.len() == 1 && said[0].contains(words), "{why:?} and {words:?}");
}

pub(crate) async fn get(world: &World, kubeconfig: &Path, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let server = format!("https://{}", world.server.address());
    run_words(kubeconfig, &[&["--server", &server, "get"], &words[..]].concat(), "").await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_comes_back_the_same_in_an_empty_directory() {
    let world = world().await;
    let file = shown(&world.dir().join("b.edgebak"));
    let said = world.run(&format!("backup {file}")).await.ok();
    assert!(said.contains("objects of the cluster") && said.contains("not encrypted"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    world.run(&format!("backup --verify {file}")).await.ok();
    let all = "deployments,replicasets,secrets,services -A -o jsonpath={.items[*].metadata.uid}";
    let uids = world.run(&format!("get {all}")).await.ok();
    let revision = "jsonpath={.metadata.resourceVersion}";
    let before: u64 =
        world.run(&format!("get secret kept -o {revision}")).await.ok().parse().unwrap();

    // Elsewhere, with the kubeconfig of before.
    let other = PathBuf::from(format!("{}-other", world.dir().display()));
    let data = other.join("data");
    let into = format!("restore {file} --data-dir {} --force", shown(&data));
    world.run(&into).await.ok();
    refused(world.run(&into).await, "waits in");
    let kubeconfig = other.join("old.kubeconfig");
    fs::copy(world.kubeconfig(), &kubeconfig).unwrap();
    assert!(edge_server::backup::is_pending(&data));
    let staged = data.join("restore/backup");
    let kept = fs::read(&staged).unwrap();
    let again = |wish: &str| {
        fs::create_dir_all(data.join("restore/store")).unwrap();
        fs::write(&staged, &kept).unwrap();
        fs::write(data.join("restore/wish.json"), wish).unwrap();
        edge_server::backup::install(&data, "board")
    };
    let done = edge_server::backup::install(&data, "board").unwrap();
    // As after a kill between its last steps; and a cluster that nobody has found to be empty.
    assert_eq!(again("{\"replaces\": true}").unwrap(), done);
    let why = again("{}").unwrap_err().to_string();
    assert!(why.contains("holds a cluster already") && !why.contains('\n'), "{why}");
    fs::write(&staged, &kept[..kept.len() / 2]).unwrap();
    let why = edge_server::backup::install(&data, "board").unwrap_err().to_string();
    assert!(
        why.contains("ends too early") && why.contains("; to start without it, remove"),
        "{why}"
    );
    fs::remove_dir_all(data.join("restore")).unwrap();
    assert!(!edge_server::backup::is_pending(&data) && !data.join("restore").exists());
    let back = World::over(other).await;
    assert!(back.server.api().store().revision() >= done.revision);
    assert_eq!(get(&back, &kubeconfig, all).await, uids);
    let kept = get(&back, &kubeconfig, &format!("secret kept -o {revision}")).await;
    assert_eq!(kept.parse(), Ok(before), "what did not change kept its revision");
    let nodes = get(&back, &kubeconfig, "nodes -o name").await;
    assert_eq!(nodes, "node/far\n", "the server's own board comes anew");
    let boards = get(&back, &kubeconfig, "pods -o jsonpath={.items[*].spec.nodeName}").await;
    let boards: Vec<&str> = boards.split_whitespace().collect();
    assert!(boards.contains(&"far") && !boards.contains(&"board"), "{boards:?}");
    refused(world.run(&into).await, "not empty, it has store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_whole_backup_is_refused_in_one_line() {
    let world = world().await;
    let file = world.dir().join("b.edgebak");
    let path = shown(&file);
    let said = world.run(&format!("backup {path}")).await;
    assert!(said.err.contains("private keys and Secrets in the clear"), "{said:?}");
    refused(world.run(&format!("backup {path}")).await, "is there already");
    let phrase = world.file("phrase", "s3cret\n");
    let sealed = world.dir().join("sealed.edgebak");
    let line = format!("backup {} --passphrase-file {phrase}", shown(&sealed));
    world.run(&line).await.ok();
    let wrong = world.file("wrong", "wrong");
    let (good, secret) = (fs::read(&file).unwrap(), fs::read(&sealed).unwrap());
    let write = |bytes: &[u8]| {
        let path = world.dir().join("bad.edgebak");
        fs::write(&path, bytes).unwrap();
        shown(&path)
    };
    let middle = good.len() / 2;
    let changed = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let newer = [b"edgebak\x02", &good[8..]].concat();
    for (bytes, words) in [
        (good[..middle].to_vec(), "ends too early"),
        (good[..3].to_vec(), "no backup of edged"),
        (Vec::new(), "no backup of edged"),
        (b"apiVersion: v1\nkind: List\n".to_vec(), "no backup of edged"),
        (changed(&good, middle), "it is damaged"),
        (changed(&good, good.len() - 1), "it is damaged"),
        ([&good[..], b"x"].concat(), "something follows its end"),
        (newer, "form 2, and this program knows forms up to 1"),
        (secret.clone(), "it is encrypted"),
    ] {
        let path = write(&bytes);
        for line in [format!("backup --verify {path}"), format!("restore {path}")] {
            refused(world.run(&line).await, words);
        }
    }
    let with =
        |file: &str, phrase: &str| format!("restore --check {file} --passphrase-file {phrase}");
    world.run(&with(&shown(&sealed), &phrase)).await.ok();
    refused(world.run(&with(&shown(&sealed), &wrong)).await, "passphrase is not the one");
    refused(world.run(&with(&shown(&world.dir().join("none")), &phrase)).await, "read ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_administrators_get_it_and_only_an_empty_cluster_takes_it() {
    let world = world().await;
    let file = shown(&world.dir().join("b.edgebak"));
    let line = format!("backup {file}");
    world.run(&line).await.ok();
    let token = world.run("create token default").await.ok();
    let server = format!("https://{}", world.server.address());
    let nobody = world.dir().join("nobody.kubeconfig");
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: \
         {{server: \"{server}\", insecure-skip-tls-verify: true}}}}], contexts: [{{name: c, \
         context: {{cluster: c, user: u}}}}], users: [{{name: u, user: {{token: {}}}}}]}}",
        token.trim()
    );
    fs::write(&nobody, text).unwrap();
    let again = shown(&world.dir().join("again.edgebak"));
    refused(run_words(&nobody, &["backup", &again], "").await, "cannot post path");
    // Nor does somebody get the keys who may look at everything.
    let reader = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: \
                  {name: reader}\nrules:\n- {nonResourceURLs: ['*'], verbs: [get]}\n\
                  - {apiGroups: ['*'], resources: ['*'], verbs: [get, list, watch]}\n";
    let role = world.file("reader.yaml", reader);
    world.run(&format!("create -f {role}")).await.ok();
    let binding = "create clusterrolebinding reader --clusterrole=reader";
    world.run(&format!("{binding} --serviceaccount=default:default")).await.ok();
    refused(run_words(&nobody, &["backup", &again], "").await, "cannot post path");
    assert!(!Path::new(&again).exists() && !Path::new(&format!("{again}.part")).exists());
    refused(run_words(&nobody, &["restore", &file, "--force"], "").await, "cannot post path");

    refused(world.run(&format!("restore {file}")).await, "server board of that cluster still");
    let before = world.server.api().store().revision();
    let forced = world.run(&format!("restore {file} --force")).await;
    refused(forced, "the cluster is not empty, it has ");
    assert!(!world.dir().join("data/restore").exists());
    assert_eq!(world.server.api().store().revision(), before);
    // One that has nothing but what it made by itself takes it, and nothing more after that.
    let empty = World::new().await;
    let _running = empty.start(&format!("restore {file} --force"));
    let taken = tokio::time::timeout(std::time::Duration::from_secs(20), empty.server.restored());
    taken.await.expect("it is taken");
    assert!(edge_server::backup::is_pending(&empty.dir().join("data")));
    let late = empty.run("create configmap late").await.fails();
    assert!(late.contains("a backup is being restored here"), "{late}");
}
