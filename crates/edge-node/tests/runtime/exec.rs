//! Commands in a running container.

use edge_node::runtime::{ExecSession, ExecSpec, RuntimeError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::board::{Board, is_running, within};

fn command(args: &[&str]) -> ExecSpec {
    let args = args.iter().map(|a| (*a).to_owned()).collect();
    ExecSpec { args, stdout: true, stderr: true, ..ExecSpec::default() }
}

/// Reads both outputs to their ends, and waits.
async fn finish(mut session: ExecSession) -> (i32, String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    session.stdin = None;
    if let Some(mut stream) = session.stdout.take() {
        stream.read_to_string(&mut out).await.unwrap();
    }
    if let Some(mut stream) = session.stderr.take() {
        stream.read_to_string(&mut err).await.unwrap();
    }
    (session.wait().await, out, err)
}

async fn sleeper(board: &Board) {
    let mut spec = board.script("one", "echo up; sleep 1000");
    spec.image_user = "web".into();
    spec.cwd = "/tmp".into();
    spec.security.drop_capabilities = vec!["NET_RAW".into()];
    board.runtime.start(&spec).await.unwrap();
    within(|| board.lines("one") == ["up"]).await;
}

pub(crate) async fn a_command_has_the_containers_user_environment_and_confinement() {
    let board = Board::new();
    sleeper(&board).await;
    let script = "id; pwd; echo $GREETING $EXTRA $HOME; grep -E '^(CapBnd|CapEff|Seccomp):' \
                  /proc/self/status; grep -c -E 'pods/one|^0::/$' /proc/self/cgroup; \
                  hostname; echo e >&2; exit 5";
    let mut spec = command(&["sh", "-c", script]);
    spec.env_extra = vec!["EXTRA=more".into()];
    let (code, out, err) = finish(board.runtime.exec("one", &spec).await.unwrap()).await;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, err.as_str()), (5, "e\n"));
    assert!(lines[0].starts_with("uid=33(web) gid=34(www)"), "{out}");
    assert_eq!(lines[1..3], ["/tmp", "hello more /data"]);
    assert_eq!(lines[3], "CapEff:\t0000000000000000", "{out}");
    assert_eq!(lines[4], "CapBnd:\t00000000a80405fb", "{out}");
    assert_eq!(lines[5], "Seccomp:\t2");
    assert!(lines[6].parse::<u32>().unwrap() >= 1);
    assert_eq!(lines[7], "pod");
    board.close().await;
}

pub(crate) async fn input_flows_and_ends() {
    let board = Board::new();
    sleeper(&board).await;
    let mut spec = command(&["cat"]);
    spec.stdin = true;
    let mut session = board.runtime.exec("one", &spec).await.unwrap();
    let big = "0123456789".repeat(100_000);
    let (mut input, sent) = (session.stdin.take().unwrap(), big.clone());
    let writer = tokio::spawn(async move { input.write_all(sent.as_bytes()).await.unwrap() });
    let (code, out, _) = finish(session).await;
    writer.await.unwrap();
    assert_eq!((code, out.len()), (0, big.len()));
    let closed = finish(board.runtime.exec("one", &command(&["cat"])).await.unwrap()).await;
    assert_eq!(closed, (0, String::new(), String::new()), "without input it ends at once");
    board.close().await;
}

pub(crate) async fn a_terminal_has_a_size_and_control_characters() {
    let board = Board::new();
    sleeper(&board).await;
    let mut spec = command(&["sh", "-c", "tty; read x; stty size; sleep 1000"]);
    (spec.tty, spec.stdin) = (true, true);
    let mut session = board.runtime.exec("one", &spec).await.unwrap();
    session.resize(132, 43).unwrap();
    session.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    let mut seen = String::new();
    let output = session.stdout.as_mut().unwrap();
    while !seen.contains("43 132") {
        let mut bytes = [0u8; 256];
        let n = output.read(&mut bytes).await.unwrap();
        assert!(n > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
    }
    assert!(seen.contains("/dev/pts/"), "{seen}");
    session.stdin.as_mut().unwrap().write_all(b"\x03").await.unwrap();
    let (code, ..) = finish(session).await;
    assert_eq!(code, 130);
    board.close().await;
}

pub(crate) async fn a_command_that_does_not_exist_is_told() {
    let board = Board::new();
    sleeper(&board).await;
    let error = board.runtime.exec("one", &command(&["nothing"])).await.unwrap_err();
    assert_eq!(error.exit_code(), 127);
    assert!(error.message().ends_with("exec: \"nothing\": executable file not found in $PATH"));
    let error = board.runtime.exec("one", &command(&["/etc/passwd"])).await.unwrap_err();
    assert_eq!(error.exit_code(), 126);
    let error = board.runtime.exec("two", &command(&["true"])).await.unwrap_err();
    assert!(matches!(error, RuntimeError::NotFound { .. }));
    board.close().await;
}

pub(crate) async fn a_command_dies_with_its_caller() {
    let board = Board::new();
    sleeper(&board).await;
    let session = board.runtime.exec("one", &command(&["sleep", "4321.5"])).await.unwrap();
    let running = || is_running("sleep\x004321.5");
    within(&running).await;
    drop(session);
    within(|| !running()).await;
    let files: Vec<_> = std::fs::read_dir(board.dir.join("run/containers/one")).unwrap().collect();
    let names = files.iter().map(|f| f.as_ref().unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|n| n.starts_with("exec")).count(), 0, "requests are taken away");
    board.close().await;
}
