//! `upgrade`: a new edged for every board, one after the other, while their pods run on. A board
//! tries it by itself and goes back by itself; here is decided who is next, and whether it goes on.

mod bring;
mod file;
mod plan;
mod release;

use crate::commands::boards;
use crate::fault::Fault;
use crate::output::tabs::Rows;
use crate::resource::Resource;
use crate::session::Session;
use bring::{Allowed, Way};
use edge_api::kinds;
use edge_api::release::Version;
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
    /// The program: one file for each kind of board, or a directory of them, packed or not.
    /// FILE.minisig beside it is its signature. Without a file, what each board runs is shown
    #[arg(long, short, value_name = "FILE", conflicts_with = "version")]
    file: Vec<PathBuf>,
    /// The version to get from where releases are, for each kind of board that there is
    #[arg(long, value_parser = version)]
    version: Option<Version>,
    /// Where releases are: a directory or a web address, with v0.2.0/edged-aarch64 and the like
    /// in it. Without it, $EDGED_RELEASES says so
    #[arg(long, value_name = "URL", requires = "version")]
    from: Option<String>,
    /// Only these boards; may be given several times
    #[arg(long)]
    node: Vec<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Take programs without a signature, on boards that know no upgrade-keys
    #[arg(long)]
    allow_unsigned: bool,
    /// Take a program that is older than what a board runs
    #[arg(long)]
    allow_downgrade: bool,
    /// Seconds that a board has to be Ready with the new program before it goes back
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=600))]
    deadline: u32,
    /// Seconds that the first server and the first agent of each kind of board are watched with the
    /// new program before the next board is begun
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(0..=3600))]
    settle: u32,
}

pub(crate) async fn run(args: Upgrade, session: &mut Session) -> Result<(), Fault> {
    let client = session.client()?;
    if args.file.is_empty() && args.version.is_none() {
        return show(&client, &args.node, session).await;
    }
    let mut programs = file::load(&args.file)?;
    let mut boards = look(&client).await?;
    let silent = ask_bare(&mut boards, session).await?;
    for (name, why) in &silent {
        session.io.say(format!("Warning: server/{name} runs no pods and is left out: {why}"));
    }
    let every = if silent.is_empty() { "" } else { " that was reached" };
    let new = match &args.version {
        Some(version) => version.clone(),
        None => programs[0].version.clone(),
    };
    let due = plan::due(&boards, &new, &args.node, args.allow_downgrade).map_err(Fault::Text)?;
    if due.is_empty() {
        return session.io.line(format!("every board{every} runs edged {new} already"));
    }
    if args.version.is_some() {
        let mut arches: Vec<String> = due.iter().map(|board| board.arch.clone()).collect();
        arches.sort();
        arches.dedup();
        programs = release::load(&place(args.from.clone())?, &new, &arches, session).await?;
    }
    let steps = plan::steps(&boards, &programs, &args.node, args.allow_downgrade);
    let steps = steps.map_err(Fault::Text)?;
    if args.dry_run {
        for step in &steps {
            let Step { node, from, server, .. } = step;
            let role = if *server { "server" } else { "agent" };
            session.io.line(format!("node/{node} ({role}): edged {from} → {new} (dry run)"))?;
        }
        return Ok(());
    }
    roll(&args, &client, &boards, (&steps, &programs), session).await?;
    match args.node.is_empty() {
        true => session.io.line(format!("every board{every} runs edged {new}")),
        false => session.io.line(format!("the boards named run edged {new}")),
    }
}

/// Reads a version that was typed.
fn version(text: &str) -> Result<Version, String> {
    Version::parse(text).ok_or_else(|| "a version has three numbers, as 0.2.0 has".to_owned())
}

/// Where releases are.
fn place(typed: Option<String>) -> Result<String, Fault> {
    let set = || std::env::var(release::PLACE).ok();
    typed.or_else(set).filter(|place| !place.is_empty()).ok_or_else(|| {
        Fault::text(format!(
            "--version needs to know where releases are: --from URL or DIRECTORY, or ${}",
            release::PLACE
        ))
    })
}

/// One board after the other.
async fn roll(
    args: &Upgrade,
    client: &Client,
    boards: &Boards,
    (steps, programs): (&[Step], &[Program]),
    session: &mut Session,
) -> Result<(), Fault> {
    // The server that is asked will be away for a moment, too.
    let _ = client.set_servers(&boards.addresses(&client.server()));
    let Some(new) = steps.first().map(|step| &programs[step.program].version) else {
        return Ok(());
    };
    let mut begun = Vec::new();
    for name in boards.that_run(new) {
        begun.push(way(client, boards.api(name), name, session)?);
    }
    let count = steps.len();
    for (at, step) in steps.iter().enumerate() {
        let kind = if step.api.is_some() { "server" } else { "node" };
        let place = format!("[{}/{count}] {kind}/{}", at + 1, step.node);
        let rest = count - at - 1;
        let first = !steps[..at].iter().any(|before| before.is_like(step));
        let settle = Duration::from_secs(if first { args.settle.into() } else { 0 });
        let brought = match bring::fared(&begun, new).await {
            Some(why) => Err(Fault::text(why)),
            None => one(args, step, programs, (&place, settle), session).await,
        };
        brought.map_err(|fault| stopped(fault, rest))?;
        begun.push(way(client, step.api.clone(), &step.node, session)?);
    }
    bring::fared(&begun, new).await.map_or(Ok(()), |why| Err(Fault::text(why)))
}

/// The way to a board, which answers itself at `api` if it has no agent.
fn way(client: &Client, api: Option<String>, name: &str, session: &Session) -> Result<Way, Fault> {
    Ok(match api {
        Some(api) => Way::to_server(session.client_of(&api)?, name),
        None => Way::to_node(client, name),
    })
}

fn stopped(fault: Fault, rest: usize) -> Fault {
    let more = format!("stopped: {rest} more not begun; the same command goes on from here");
    if rest == 0 { fault } else { Fault::Many(vec![fault, Fault::text(more)]) }
}

/// What is known of the boards now.
async fn look(client: &Client) -> Result<Boards, Fault> {
    let nodes = client.call(&Call::get(Resource::from(kinds::NODE).path("", "", None))).await?;
    let servers = client.call(&Call::get("/edged/v1/servers")).await?;
    Ok(Boards::read(&nodes.object, &servers.object))
}

/// Asks the servers that have no agent what they run; gives those that did not say, and why.
async fn ask_bare(
    boards: &mut Boards,
    session: &mut Session,
) -> Result<Vec<(String, String)>, Fault> {
    let mut silent = Vec::new();
    for (name, api) in boards.bare() {
        if boards.is_away(&name) {
            silent.push((name, "it is away".to_owned()));
            continue;
        }
        let way = Way::to_server(session.client_of(&api)?, &name);
        match bring::describe(&way).await {
            Ok(told) => {
                let version = Version::parse(&told.version);
                boards.nodeless.push(Board { name, version, arch: told.arch, ready: true });
            }
            Err(why) => {
                let why = why.to_string();
                silent.push((name, why.trim_start_matches("error: ").to_owned()));
            }
        }
    }
    Ok(silent)
}

/// One board, from the first look to the last.
async fn one(
    args: &Upgrade,
    step: &Step,
    programs: &[Program],
    (place, settle): (&str, Duration),
    session: &mut Session,
) -> Result<(), Fault> {
    let client = session.client()?;
    let began = Instant::now();
    let program = &programs[step.program];
    say(session, format!("{place}: edged {} → {}", step.from, program.version))?;
    well(&client, None).await.map_err(|why| Fault::text(format!("{place}: not begun: {why}")))?;
    let way = way(&client, step.api.clone(), &step.node, session)?;
    let told = bring::describe(&way).await?;
    if !told.is_trying(program) {
        let allowed = Allowed { unsigned: args.allow_unsigned, downgrade: args.allow_downgrade };
        bring::check(&way, program, allowed).await?;
        if step.server {
            hand_over(&client, step, place, session).await?;
        }
        let slot = bring::send(session, &way, step, program, allowed).await?;
        let took = began.elapsed().as_secs_f64();
        say(session, format!("{place}: brought after {took:.1} s, now on trial"))?;
        bring::begin(&way, &slot, args.deadline).await?;
    }
    bring::passed(&way, program, args.deadline)
        .await
        .map_err(|why| Fault::text(format!("{place}: {why}")))?;
    let ready = well(&client, Some(step)).await;
    ready.map_err(|why| Fault::text(format!("{place}: it passed its trial, but then: {why}")))?;
    let took = began.elapsed().as_secs_f64();
    say(session, format!("{place}: edged {} runs, after {took:.1} s", program.version))?;
    if settle.is_zero() {
        return Ok(());
    }
    say(session, format!("{place}: it is watched for {} s", settle.as_secs()))?;
    let stays = bring::stays(&way, &program.version, settle).await;
    stays.map_err(|why| Fault::text(format!("{place}: {why}")))
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
    let mut boards = look(client).await?;
    let silent = ask_bare(&mut boards, session).await?;
    let heads = ["NODE", "VERSION", "ARCH", "PLACE", "UPGRADE"].map(str::to_owned);
    let mut rows = vec![heads.to_vec()];
    let wanted = |board: &&Board| only.is_empty() || only.contains(&board.name);
    for board in boards.nodes.iter().chain(&boards.nodeless).filter(wanted) {
        let way = way(client, boards.api(&board.name), &board.name, session)?;
        let (place, news) = match bring::describe(&way).await {
            Ok(told) => (told.place.clone(), told.news()),
            Err(fault) => (String::new(), fault.to_string()),
        };
        let version = board.version.as_ref().map_or_else(String::new, ToString::to_string);
        rows.push(vec![board.name.clone(), version, board.arch.clone(), place, news]);
    }
    for (name, why) in silent {
        rows.push(vec![name, String::new(), String::new(), String::new(), why]);
    }
    session.io.print(&Rows::default().render(&rows))
}
