//! `upgrade`: a new edged for every board, one after the other, while their pods run on. A board
//! tries it by itself and goes back by itself; here is decided who is next, and whether it goes on.

mod bring;
mod file;
mod plan;

use crate::commands::boards;
use crate::fault::Fault;
use crate::output::tabs::Rows;
use crate::resource::Resource;
use crate::session::Session;
use edge_api::kinds;
use edge_client::query::escape;
use edge_client::{Call, Client};
use file::Program;
use plan::{Board, Boards, Step};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long boards that are not well are waited for before the next one is begun.
const WELL: Duration = Duration::from_secs(60);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// Bring a new edged to the boards, one by one, while their pods run on
#[derive(Debug, clap::Args)]
pub(crate) struct Upgrade {
    /// The program: one file for each kind of board, or a directory of them. FILE.minisig beside
    /// it is its signature. Without a file, what each board runs is shown
    #[arg(long, short, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Only these boards; may be given several times
    #[arg(long)]
    node: Vec<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Take programs without a signature, on boards that know no upgrade-keys
    #[arg(long)]
    allow_unsigned: bool,
    /// Seconds that a board has to be Ready with the new program before it goes back
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=600))]
    deadline: u32,
}

pub(crate) async fn run(args: Upgrade, session: &mut Session) -> Result<(), Fault> {
    let client = session.client()?;
    if args.file.is_empty() {
        return show(&client, &args.node, session).await;
    }
    let programs = file::load(&args.file)?;
    let boards = look(&client).await?;
    let steps = plan::steps(&boards, &programs, &args.node).map_err(Fault::Text)?;
    let new = programs[0].version.clone();
    for name in &boards.nodeless {
        session.io.say(format!(
            "Warning: server/{name} runs no pods and is not reached: install the package there"
        ));
    }
    if steps.is_empty() {
        return session.io.line(format!("every board runs edged {new} already"));
    }
    if args.dry_run {
        for step in &steps {
            let Step { node, from, server, .. } = step;
            let role = if *server { "server" } else { "agent" };
            session.io.line(format!("node/{node} ({role}): edged {from} → {new} (dry run)"))?;
        }
        return Ok(());
    }
    // The server that is asked will be away for a moment, too.
    let _ = client.set_servers(&boards.addresses(&client.server()));
    let count = steps.len();
    for (at, step) in steps.iter().enumerate() {
        let place = format!("[{}/{count}] node/{}", at + 1, step.node);
        let rest = count - at - 1;
        one(&args, step, &programs, &place, session).await.map_err(|fault| match rest {
            0 => fault,
            _ => Fault::Many(vec![
                fault,
                Fault::text(format!(
                    "stopped: {rest} more not begun; the same command goes on from here"
                )),
            ]),
        })?;
    }
    session.io.line(format!("all boards run edged {new}"))
}

/// What is known of the boards now.
async fn look(client: &Client) -> Result<Boards, Fault> {
    let nodes = client.call(&Call::get(Resource::from(kinds::NODE).path("", "", None))).await?;
    let servers = client.call(&Call::get("/edged/v1/servers")).await?;
    Ok(Boards::read(&nodes.object, &servers.object))
}

/// One board, from the first look to the last.
async fn one(
    args: &Upgrade,
    step: &Step,
    programs: &[Program],
    place: &str,
    session: &mut Session,
) -> Result<(), Fault> {
    let client = session.client()?;
    let began = Instant::now();
    let program = &programs[step.program];
    say(session, format!("{place}: edged {} → {}", step.from, program.version))?;
    well(&client, None).await.map_err(|why| Fault::text(format!("{place}: not begun: {why}")))?;
    let told = bring::describe(&client, &step.node).await?;
    if !told.is_trying(program) {
        bring::check(&client, &step.node, program, args.allow_unsigned).await?;
        if step.server {
            hand_over(&client, step, place, session).await?;
        }
        let slot = bring::send(session, &client, step, program, args.allow_unsigned).await?;
        let took = began.elapsed().as_secs_f64();
        say(session, format!("{place}: brought after {took:.1} s, now on trial"))?;
        bring::begin(&client, &step.node, &slot, args.deadline).await?;
    }
    bring::passed(&client, &step.node, program, args.deadline)
        .await
        .map_err(|why| Fault::text(format!("{place}: {why}")))?;
    let ready = well(&client, Some(step)).await;
    ready.map_err(|why| Fault::text(format!("{place}: it passed its trial, but then: {why}")))?;
    let took = began.elapsed().as_secs_f64();
    say(session, format!("{place}: edged {} runs, after {took:.1} s", program.version))
}

fn say(session: &mut Session, line: String) -> Result<(), Fault> {
    session.io.line(line)?;
    session.io.flush()
}

/// Waits until all servers and, of boards that were begun, the last one are well.
async fn well(client: &Client, last: Option<&Step>) -> Result<(), String> {
    let end = Instant::now() + WELL;
    loop {
        let lacks = match look(client).await {
            Ok(boards) => match boards.lacks(last.map(|step| step.node.as_str())) {
                None => return Ok(()),
                Some(lacks) => lacks,
            },
            Err(fault) => fault.to_string(),
        };
        if Instant::now() >= end {
            return Err(lacks);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A server that leads lets another one lead first, if there is another.
async fn hand_over(
    client: &Client,
    step: &Step,
    place: &str,
    session: &mut Session,
) -> Result<(), Fault> {
    let boards = look(client).await?;
    if !boards.leads(&step.node) || boards.voters() < 2 {
        return Ok(());
    }
    boards::hand_over(&step.node, session).await?;
    let end = Instant::now() + WELL;
    loop {
        if look(client).await.is_ok_and(|boards| boards.led() && !boards.leads(&step.node)) {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(Fault::text(format!("{place}: not begun: no other server takes the lead")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What each board runs, and what came of the last upgrade.
async fn show(client: &Client, only: &[String], session: &mut Session) -> Result<(), Fault> {
    let boards = look(client).await?;
    let heads = ["NODE", "VERSION", "ARCH", "PLACE", "UPGRADE"].map(str::to_owned);
    let mut rows = vec![heads.to_vec()];
    let wanted = |board: &&Board| only.is_empty() || only.contains(&board.name);
    for board in boards.nodes.iter().filter(wanted) {
        let (place, news) = match bring::describe(client, &board.name).await {
            Ok(told) => (told.place.clone(), told.news()),
            Err(fault) => (String::new(), fault.to_string()),
        };
        let version = board.version.as_ref().map_or_else(String::new, ToString::to_string);
        rows.push(vec![board.name.clone(), version, board.arch.clone(), place, news]);
    }
    session.io.print(&Rows::default().render(&rows))
}

/// The path of something about a board's program.
fn on_node(node: &str, rest: &str) -> String {
    format!("/api/v1/nodes/{}/proxy/upgrade{rest}", escape(node))
}
