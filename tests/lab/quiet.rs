//! A board in trouble says so, and then not much more: with its leader away, and with an image that
//! is nowhere to be had.

use std::time::Duration;

use super::board::Board;
use super::cluster::Cluster;
use super::pods::deployment;
use crate::board::command::until;

/// How long lines are counted.
const WATCHED: Duration = Duration::from_secs(12);
/// What may be said in that time, once the trouble has been named.
const LINES: usize = 5;

/// Lines that a board writes from now on, in a while.
fn lines(boards: &[&Board]) -> Vec<usize> {
    let count = || boards.iter().map(|board| board.log().lines().count()).collect::<Vec<_>>();
    let before = count();
    // Silence can only be seen by waiting.
    std::thread::sleep(WATCHED);
    count().iter().zip(before).map(|(now, before)| now - before).collect()
}

#[test]
fn a_board_in_trouble_does_not_go_on_about_it() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(1, 1);
    let [server, agent] = &cluster.boards[..] else { panic!("two boards") };
    // Nothing listens there.
    let text = deployment("nowhere", 4).replace("edged/webserver:1", "192.168.78.10:5000/no:1");
    let file = cluster.file("nowhere.yaml", text);
    cluster.ctl(server, &["apply", "-f", &file]).ok();
    until("images are pulled in vain", || {
        let pods = cluster.ctl(server, &["get", "pods"]).stdout;
        let vain = pods.matches("ImagePull").count();
        (vain == 4).then_some(()).ok_or(pods)
    });
    let said = lines(&[server, agent]);
    println!("{said:?} lines in {WATCHED:?} with a registry away");
    assert!(said.iter().all(|n| *n <= LINES), "{said:?}: {}", agent.log());

    server.kill();
    until("the agent misses its server", || {
        let missed = agent.log().contains("bus: session with broker s1");
        missed.then_some(()).ok_or_else(|| agent.log())
    });
    let said = lines(&[agent]);
    println!("{said:?} lines in {WATCHED:?} with the leader away");
    assert!(said[0] <= LINES, "{}", agent.log());
}
