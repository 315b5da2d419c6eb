//! Commands that change things.

use crate::board::Board;
use crate::world::{World, deployment};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_creates_configures_and_leaves_alone() {
    let world = World::new().await;
    let file = world.file("web.yaml", &deployment("web", 2, "web:1"));
    let apply = format!("apply -f {file}");
    let dry = world.run(&format!("{apply} --dry-run=client")).await.ok();
    assert_eq!(dry, "deployment.apps/web created (dry run)\n");
    let dry = world.run(&format!("{apply} --dry-run=server")).await.ok();
    assert_eq!(dry, "deployment.apps/web created (server dry run)\n");
    let missing = world.run("get deploy web").await.fails();
    assert_eq!(missing, "Error from server (NotFound): deployments.apps \"web\" not found\n");
    assert_eq!(world.run(&apply).await.ok(), "deployment.apps/web created\n");
    assert_eq!(world.run(&apply).await.ok(), "deployment.apps/web unchanged\n");
    let replicas = "get deploy web -o jsonpath={.spec.replicas}";
    // What another writer sets and the file does not name stays; what the file drops goes.
    world.run("label deploy web team=a").await.ok();
    world.file("web.yaml", &deployment("web", 3, "web:1"));
    assert_eq!(world.run(&apply).await.ok(), "deployment.apps/web configured\n");
    assert_eq!(world.run(replicas).await.ok(), "3");
    let label = world.run("get deploy web -o jsonpath={.metadata.labels.team}").await.ok();
    assert_eq!(label, "a");
    world.file("web.yaml", &deployment("web", 3, "web:1").replace("  replicas: 3\n", ""));
    assert_eq!(world.run(&apply).await.ok(), "deployment.apps/web configured\n");
    assert_eq!(world.run(replicas).await.ok(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_takes_directories_input_and_several_documents() {
    let world = World::new().await;
    let map = |name: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{k: v}}\n")
    };
    let both = format!("{}---\n{}", map("a"), map("b"));
    let out = world.run_with("apply -f -", &both).await.ok();
    assert_eq!(out, "configmap/a created\nconfigmap/b created\n");
    world.file("dir/1.yaml", &map("b"));
    world.file("dir/2.yaml", &map("c"));
    let dir = world.file("dir/readme.txt", "not a manifest");
    let dir = std::path::Path::new(&dir).parent().unwrap().display().to_string();
    let out = world.run(&format!("apply -f {dir}")).await.ok();
    assert_eq!(out, "configmap/b unchanged\nconfigmap/c created\n");
    let names = world.run_with("apply -o name -f -", &map("a")).await.ok();
    assert_eq!(names, "configmap/a\n");
    let out = world.run(&format!("delete -f {dir}")).await.ok();
    assert_eq!(out, "configmap \"b\" deleted\nconfigmap \"c\" deleted\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_with_their_place_and_the_rest_is_done() {
    let world = World::new().await;
    let broken = world.file("broken.yaml", "apiVersion: v1\nkind: Pod\n  metadata: x\n");
    let said = world.run(&format!("apply -f {broken}")).await.fails();
    assert!(said.starts_with(&format!("error: error parsing {broken}: line 3, column ")), "{said}");
    let unknown = "apiVersion: nope/v1\nkind: Foo\nmetadata: {name: x}\n---\n\
                   apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n";
    let outcome = world.run_with("apply -f -", unknown).await;
    assert_eq!((outcome.code, outcome.out.as_str()), (1, "configmap/good created\n"));
    assert!(
        outcome.err.contains("no matches for kind \"Foo\" in version \"nope/v1\""),
        "{}",
        outcome.err
    );
    let odd = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  contaners: []\n  \
               containers: [{name: c, image: i}]\n";
    let strict = world.run_with("apply --validate=strict -f -", odd).await.fails();
    assert!(strict.contains("unknown field \"spec.contaners\""), "{strict}");
    let warned = world.run_with("apply -f -", odd).await;
    assert_eq!((warned.code, warned.out.as_str()), (0, "pod/p created\n"));
    assert!(warned.err.contains("Warning: unknown field \"spec.contaners\""), "{}", warned.err);
    let bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n";
    let said = world.run_with("apply -f -", bad).await.fails();
    assert!(said.starts_with("error when creating") || said.contains("is invalid: metadata.name"));
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: a}\n";
    let said = world.run_with("apply -n b -f -", other).await.fails();
    assert!(said.contains("does not match the namespace"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_words_make_objects() {
    let world = World::new().await;
    let made = |line: &'static str| world.run(line);
    assert_eq!(made("create namespace shop").await.ok(), "namespace/shop created\n");
    assert_eq!(
        made("create deployment web --image=web:1 --replicas=2 -n shop").await.ok(),
        "deployment.apps/web created\n"
    );
    assert_eq!(
        made("expose deployment web --port=80 --target-port=8080 -n shop").await.ok(),
        "service/web exposed\n"
    );
    assert_eq!(made("create configmap c --from-literal=a=b").await.ok(), "configmap/c created\n");
    assert_eq!(
        made("create secret generic s --from-literal=p=hunter2").await.ok(),
        "secret/s created\n"
    );
    assert_eq!(
        made("run one --image=web:1 --port=80 --expose").await.ok(),
        "\
        service/one created\npod/one created\n"
    );
    let ports = made("get svc web -n shop -o jsonpath={.spec.ports[0].targetPort}").await.ok();
    assert_eq!(ports, "8080");
    let twice = made("create namespace shop").await.fails();
    assert_eq!(twice, "Error from server (AlreadyExists): namespaces \"shop\" already exists\n");
    let local = made("create deployment x --image=y --dry-run=client -o yaml").await.ok();
    assert!(local.starts_with("apiVersion: apps/v1\nkind: Deployment\n"), "{local}");
    let nowhere = made("create configmap c -n missing").await.fails();
    assert!(nowhere.contains("namespaces \"missing\" not found"), "{nowhere}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_annotations_patches_images() {
    let world = World::new().await;
    world.run_with("apply -f -", &deployment("web", 1, "web:1")).await.ok();
    assert_eq!(world.run("label deploy/web a=1 b=2").await.ok(), "deployment.apps/web labeled\n");
    let said = world.run("label deploy/web a=2").await.fails();
    assert!(said.contains("'a' already has a value (1), and --overwrite is false"), "{said}");
    world.run("label deploy/web a=2 b- --overwrite").await.ok();
    assert_eq!(world.run("label deploy/web --list").await.ok(), "a=2\n");
    assert_eq!(
        world.run("annotate deploy/web note=x").await.ok(),
        "deployment.apps/web annotated\n"
    );
    let out =
        world.words(&["patch", "deploy", "web", "-p", "{\"spec\":{\"replicas\":4}}"], "").await;
    assert_eq!(out.ok(), "deployment.apps/web patched\n");
    // The controller's own annotation would be a change as well.
    let revision = "jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}=1";
    world.run(&format!("wait deploy/web --for={revision}")).await.ok();
    let json = "[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":4}]";
    let out = world.words(&["patch", "deploy/web", "--type=json", "-p", json], "").await;
    assert_eq!(out.ok(), "deployment.apps/web patched (no change)\n");
    assert_eq!(
        world.run("set image deploy/web web=web:2").await.ok(),
        "deployment.apps/web image updated\n"
    );
    let image = "get deploy web -o jsonpath={.spec.template.spec.containers[*].image}";
    assert_eq!(world.run(image).await.ok(), "web:2");
    assert_eq!(
        world.run("scale deploy/web --replicas=2").await.ok(),
        "deployment.apps/web scaled\n"
    );
    let said = world.run("scale deploy web --replicas=3 --current-replicas=9").await.fails();
    assert_eq!(said, "error: Expected replicas to be 9, was 2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_and_back() {
    let world = World::new().await;
    let _board = Board::join(&world).await;
    world.run_with("apply -f -", &deployment("web", 3, "web:1")).await.ok();
    let done = world.run("rollout status deploy/web --timeout=30s").await.ok();
    assert!(done.ends_with("deployment \"web\" successfully rolled out\n"), "{done}");
    world.run("set image deploy/web web=web:2").await.ok();
    world.run("rollout status deploy/web --timeout=30s").await.ok();
    let history = world.run("rollout history deploy/web").await.ok();
    assert_eq!(
        history,
        "deployment.apps/web \nREVISION  CHANGE-CAUSE\n1         <none>\n2         <none>\n\n"
    );
    let first = world.run("rollout history deploy/web --revision=1").await.ok();
    assert!(first.starts_with("deployment.apps/web with revision #1\n"), "{first}");
    assert!(first.contains("    Image:         web:1\n"), "{first}");
    assert_eq!(
        world.run("rollout undo deploy/web").await.ok(),
        "deployment.apps/web rolled back\n"
    );
    world.run("rollout status deploy/web --timeout=30s").await.ok();
    let image = "get deploy web -o jsonpath={.spec.template.spec.containers[*].image}";
    assert_eq!(world.run(image).await.ok(), "web:1");
    assert_eq!(
        world.run("rollout restart deploy/web").await.ok(),
        "deployment.apps/web restarted\n"
    );
    world.run("rollout status deploy/web --timeout=30s").await.ok();
    assert_eq!(world.run("rollout pause deploy/web").await.ok(), "deployment.apps/web paused\n");
    let said = world.run("rollout undo deploy/web").await.fails();
    assert!(said.contains("cannot rollback a paused deployment"), "{said}");
    assert_eq!(world.run("rollout resume deploy/web").await.ok(), "deployment.apps/web resumed\n");
    let missing = world.run("rollout status deploy/none").await.fails();
    assert_eq!(missing, "Error from server (NotFound): deployments.apps \"none\" not found\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_waits_until_things_are_gone() {
    let world = World::new().await;
    let _board = Board::join(&world).await;
    world.run_with("apply -f -", &deployment("web", 2, "web:1")).await.ok();
    world.run("rollout status deploy/web --timeout=30s").await.ok();
    let out = world.run("delete pods -l app=web --timeout=20s").await.ok();
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(out.lines().all(|line| line.starts_with("pod \"web-")), "{out}");
    let out = world.run("delete deploy/web --timeout=20s").await.ok();
    assert_eq!(out, "deployment.apps \"web\" deleted\n");
    world.run("wait --for=delete pods --all --timeout=20s").await.ok();
    let said = world.run("delete deploy/web").await.fails();
    assert_eq!(said, "Error from server (NotFound): deployments.apps \"web\" not found\n");
    assert_eq!(world.run("delete deploy/web --ignore-not-found").await.ok(), "");
    let said = world.run("delete pods").await.fails();
    assert!(said.contains("no name was specified"), "{said}");
    world.run("create namespace gone").await.ok();
    world.run("create configmap c -n gone").await.ok();
    let out = world.run("delete namespace gone --timeout=20s").await.ok();
    assert_eq!(out, "namespace \"gone\" deleted\n");
    assert!(world.run("get ns gone").await.fails().contains("not found"));
}
