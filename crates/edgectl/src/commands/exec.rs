//! `exec`: runs a program in a container, with its streams or a terminal connected to ours.

use crate::fault::Fault;
use crate::pods;
use crate::session::Session;
use crate::terminal::{self, Raw, Resizes};
use edge_api::meta;
use edge_client::Error;
use edge_client::exec::{ExecEvent, ExecInput, ExecOptions, ExecOutput};
use std::io::Read;
use tokio::sync::mpsc;

/// Pieces of input that wait to be sent.
const PIECES: usize = 8;

/// The size of one piece.
const PIECE: usize = 16 * 1024;

/// Run a program in a container
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// POD, or TYPE/NAME as in deployment/web
    target: String,
    /// The container
    #[arg(short, long)]
    container: Option<String>,
    /// Connect our input
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Only messages of the program
    #[arg(short, long)]
    quiet: bool,
    /// The program and its arguments, after `--`
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) async fn run(args: Exec, session: &mut Session) -> Result<(), Fault> {
    let found = pods::named(session, &args.target).await?;
    let pod = &found.pods[0];
    let container = match &args.container {
        Some(name) => Some(name.clone()),
        None => pods::default_container(pod, session),
    };
    let phase = pod["status"]["phase"].as_str().unwrap_or("");
    if phase == "Succeeded" || phase == "Failed" {
        return Err(Fault::text(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    let mut tty = args.tty;
    if tty && !session.io.in_terminal {
        session.io.say("Unable to use a TTY - input is not a terminal or the right kind of file");
        tty = false;
    }
    let options = ExecOptions { container, command: args.command, stdin: args.stdin, tty };
    let client = session.client()?;
    let (input, output) = client.exec(&found.namespace, meta::name(pod), &options).await?;
    let raw = match tty && args.stdin {
        true => Some(Raw::enter().map_err(|error| Fault::io("set the terminal up", error))?),
        false => None,
    };
    let ended = connect(&options, input, output, session).await;
    drop(raw);
    match ended? {
        0 => Ok(()),
        code => {
            if !args.quiet {
                session.io.say(format!("command terminated with exit code {code}"));
            }
            Err(Fault::Exit(code))
        }
    }
}

/// Carries the streams until the program ends; gives its exit code.
async fn connect(
    options: &ExecOptions,
    input: ExecInput,
    mut output: ExecOutput,
    session: &mut Session,
) -> Result<i32, Fault> {
    let (sent, feeding) = mpsc::channel::<Result<(), Error>>(1);
    if options.stdin {
        let typed = read_input(session.io.take_input());
        let input = input.clone();
        tokio::spawn(async move {
            let result = feed(typed, &input).await;
            let _ = sent.send(result).await;
        });
    }
    let mut feeding = Some(feeding).filter(|_| options.stdin);
    let mut resizes = Resizes::new();
    if options.tty {
        tell_size(&input).await?;
    }
    loop {
        let event = tokio::select! {
            event = output.next() => event?,
            () = resizes.next(), if options.tty => {
                tell_size(&input).await?;
                continue;
            }
            result = next_of(&mut feeding) => {
                feeding = None;
                // What the program still says is worth more than that it reads no more.
                if let Some(Err(error)) = result {
                    session.io.say(format!("error: {error}"));
                }
                continue;
            }
        };
        match event {
            Some(ExecEvent::Stdout(data)) => {
                session.io.write(&data)?;
                session.io.flush()?;
            }
            Some(ExecEvent::Stderr(data)) => session.io.write_err(&data),
            Some(ExecEvent::Exit(code)) => {
                let _ = input.close().await;
                return Ok(code);
            }
            Some(ExecEvent::Failed(why)) => return Err(Fault::text(why)),
            None => return Err(Fault::text("the connection ended before the command did")),
        }
    }
}

async fn next_of(
    feeding: &mut Option<mpsc::Receiver<Result<(), Error>>>,
) -> Option<Result<(), Error>> {
    match feeding {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

async fn tell_size(input: &ExecInput) -> Result<(), Fault> {
    match terminal::size() {
        Some((width, height)) => Ok(input.resize(width, height).await?),
        None => Ok(()),
    }
}

/// Reads input on a thread of its own: it may block for ever, and nobody waits for it then.
fn read_input(mut input: Box<dyn Read + Send>) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        while let Ok(count) = input.read(&mut buffer) {
            if count == 0 || send.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receive
}

async fn feed(mut typed: mpsc::Receiver<Vec<u8>>, input: &ExecInput) -> Result<(), Error> {
    while let Some(piece) = typed.recv().await {
        input.write(&piece).await?;
    }
    input.end().await
}
