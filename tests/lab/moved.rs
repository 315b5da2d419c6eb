//! Servers that got other addresses while nobody was told: an agent finds them again on the LAN,
//! and believes those that the authority it knows vouches for.

use std::net::Ipv4Addr;

use super::cluster::Cluster;
use super::pods::{deployment, programs};
use crate::board::command::{run, until};

#[test]
fn an_agent_finds_servers_that_have_moved() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let mut cluster = Cluster::dark(1, 1);
    cluster.found(&[]);
    cluster.join(&cluster.boards[1]);
    cluster.wait_ready(&cluster.boards[0], &["s1", "a1"]);
    cluster.load_example();
    let placed = deployment("web", 2);
    let file = cluster.file("web.yaml", placed);
    cluster.ctl(&cluster.boards[0], &["apply", "-f", &file]).ok();
    cluster.wait_running("web", 2);
    let before = (cluster.boards[1].pid(), programs(&cluster.boards[1]));

    let old = cluster.boards[0].ip;
    let new = Ipv4Addr::new(192, 168, 78, 211);
    let server = &mut cluster.boards[0];
    server.kill();
    let mut ip = server.inside("sh");
    ip.args(["-c", &format!("ip addr del {old}/24 dev lan0; ip addr add {new}/24 dev lan0")]);
    run(ip).ok();
    server.ip = new;
    server.spawn();

    let agent = &cluster.boards[1];
    // With a broker of the user's, which has not moved, the agent may hear of it there, before it
    // has to look.
    if cluster.broker.get().is_none() {
        until("the agent finds its server", || {
            let found = agent.log().contains("the cluster's servers have moved");
            found.then_some(()).ok_or_else(|| agent.log())
        });
    }
    cluster.wait_ready(&cluster.boards[0], &["s1", "a1"]);
    assert_eq!((agent.pid(), programs(agent)), before, "the same process and the same pods");
    // What the board is told now comes from there.
    cluster.ctl(&cluster.boards[0], &["scale", "deployment", "web", "--replicas=4"]).ok();
    cluster.wait_running("web", 4);
}
