//! Commands that the server passes on to boards: logs, exec, images.

use crate::board::Board;
use crate::world::World;

async fn with_pod() -> (World, Board) {
    let world = World::new().await;
    let board = Board::join(&world).await;
    world.run("run one --image=web:1").await.ok();
    world.run("wait --for=condition=Ready pod/one --timeout=20s").await.ok();
    (world, board)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_come_through_with_their_options() {
    let (world, _board) = with_pod().await;
    let text = world.run("logs one --tail=5 --since=1m --timestamps").await.ok();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("/containerLogs/default/one/one"));
    let options = lines.next().unwrap();
    for option in ["tailLines=5", "sinceSeconds=60", "timestamps=true"] {
        assert!(options.contains(option), "{option} is not in {options}");
    }
    let prefixed = world.run("logs -f pod/one --prefix").await.ok();
    assert!(prefixed.ends_with("[pod/one/one] last line\n"), "{prefixed}");
    let said = world.run("logs one -c none").await.fails();
    assert_eq!(said, "error: container none is not valid for pod one, which has: one\n");
    let said = world.run("logs none").await.fails();
    assert_eq!(said, "Error from server (NotFound): pods \"none\" not found\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_carries_streams_and_the_exit_code() {
    let (world, _board) = with_pod().await;
    let outcome = world.run("exec one -- ls -l").await;
    assert_eq!(outcome.code, 3, "{outcome:?}");
    assert!(outcome.out.replace("%2D", "-").contains("command=ls&command=-l"), "{outcome:?}");
    assert_eq!(outcome.err, "oopscommand terminated with exit code 3\n");
    let input = "some input\n".repeat(20_000);
    let echoed = world.run_with("exec -i one -- cat", &input).await.ok();
    assert_eq!(echoed, input);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_go_to_every_ready_board() {
    let (world, _board) = with_pod().await;
    let archive = world.file("image.tar", &"x".repeat(3_000_000));
    let outcome = world.run(&format!("image load {archive}")).await;
    assert_eq!(outcome.err, "", "quiet in a pipe");
    assert_eq!(outcome.ok(), "node/board loaded docker.io/library/web:1\n");
    let list = world.run("image list").await.ok();
    assert_eq!(
        list,
        "NODE    IMAGE   ID             SIZE\nboard   web:1   0123456789ab   2.0KiB\n"
    );
    let said = world.run(&format!("image load {archive} --node none")).await.fails();
    assert!(said.contains("nodes \"none\" not found"), "{said}");
    let said = world.run("image load /no/such/file").await.fails();
    assert!(said.starts_with("error: read /no/such/file: "), "{said}");
}
