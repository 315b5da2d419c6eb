//! `backup` and `restore`: the whole cluster as one file, and a cluster out of one. The file is
//! read back before it gets its name, and judged whole before anything is sent.

mod back;
mod file;
mod passphrase;
mod vault;

use crate::fault::Fault;
use crate::session::Session;
use back::Way;
use edge_api::backup::{End, Frames, Head, ReadError};
use edge_client::{Call, Client, Error};
use file::{Draft, Found};
use http_body_util::BodyExt;
use passphrase::Secret;
use std::fs;
use std::path::{Path, PathBuf};

/// Write the whole cluster to a file: every object, and the keys that make it what it is
///
/// The file holds the cluster's private keys and all its Secrets: whoever has it has the cluster.
/// Encrypt it, or keep it where nobody else comes.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// Where to; it must not exist yet
    file: PathBuf,
    /// Encrypt it: with the passphrase in EDGED_BACKUP_PASSPHRASE, or one that is asked for
    #[arg(long)]
    encrypt: bool,
    /// Encrypt it, or open it, with the passphrase in this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Take no backup: read one to its end, and say whether all of it is there
    #[arg(long, conflicts_with = "encrypt")]
    verify: bool,
}

/// Bring a backup back: into the new, empty cluster of one board, or into a data directory
///
/// The board becomes the first server of the cluster that the backup was taken of: the same
/// objects, the same authority, so that kubeconfigs, tokens and agents go on working. Never start
/// that cluster's old servers again with their old data.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The backup
    file: PathBuf,
    /// The passphrase that it was encrypted with stands in this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Do nothing but read it to its end, and say whether all of it is there
    #[arg(long)]
    check: bool,
    /// Into this empty directory, of a server that is started later, on this board
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// No board of the old cluster is coming back: their Nodes go, and their pods run elsewhere
    #[arg(long)]
    boards_lost: bool,
    /// Go on although a server of the old cluster still answers
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(args: Backup, session: &mut Session) -> Result<(), Fault> {
    let shown = args.file.display().to_string();
    if args.verify {
        return verify(&args.file, args.passphrase_file.as_deref(), session);
    }
    let taken = || Fault::text(format!("{shown} is there already: choose another name"));
    if args.file.exists() {
        return Err(taken());
    }
    let secret = match args.encrypt || args.passphrase_file.is_some() {
        true => Some(Secret::chosen(args.passphrase_file.as_deref(), session)?),
        false => None,
    };
    let client = session.client()?;
    let part = beside(&args.file);
    let made = make(&client, &part, secret.as_ref(), session).await;
    let kept = made.and_then(|()| {
        let found = file::look(&part, secret.as_ref(), &mut |_| {})?;
        if args.file.exists() {
            return Err(taken());
        }
        file::keep(&part, &args.file).map_err(|e| Fault::io(format!("write {shown}"), e))?;
        Ok(found)
    });
    let found = kept.inspect_err(|_| drop(fs::remove_file(&part)))?;
    if secret.is_none() {
        session.io.say(
            "Warning: it holds the cluster's private keys and Secrets in the clear: keep it where \
             nobody else comes, or use --encrypt",
        );
    }
    session.io.line(format!("{shown}: {}", words(&found)))
}

/// Where a file is until it is whole.
fn beside(file: &Path) -> PathBuf {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

/// Streams the cluster to a file, which is on the disk when this returns.
async fn make(
    client: &Client,
    part: &Path,
    secret: Option<&Secret>,
    session: &mut Session,
) -> Result<(), Fault> {
    let response = client.stream(&Call::get("/edged/v1/backup")).await.map_err(|e| match e {
        // Before its first byte is no other end than behind it.
        Error::Protocol { .. } => Fault::text(format!("the backup broke off: {e}")),
        other => other.into(),
    })?;
    let mut draft = Draft::begin(part, secret)?;
    let (mut body, mut frames) = (response.into_body(), Frames::default());
    let mut progress = Progress::new("received", 0);
    let told = |why| Fault::text(format!("what the server sent: {why}"));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Fault::text(format!("the backup broke off: {e}")))?;
        let Some(piece) = frame.data_ref() else { continue };
        frames.feed(piece);
        while frames.take().map_err(told)?.is_some() {}
        draft.take(piece)?;
        progress.add(piece.len() as u64, session);
    }
    progress.end(session);
    frames.whole().map_err(|_| {
        Fault::text("the backup broke off: the server ended it too early; take it again")
    })?;
    draft.end()
}

fn verify(file: &Path, passphrase: Option<&Path>, session: &mut Session) -> Result<(), Fault> {
    let secret = passphrase::for_file(file, passphrase, session)?;
    let mut progress = Progress::new("checked", 0);
    let found = file::look(file, secret.as_ref(), &mut |n| progress.add(n as u64, session))?;
    progress.end(session);
    session.io.line(format!("{} is whole: {}", file.display(), words(&found)))
}

pub(crate) async fn restore(args: Restore, session: &mut Session) -> Result<(), Fault> {
    if args.check {
        return verify(&args.file, args.passphrase_file.as_deref(), session);
    }
    let secret = passphrase::for_file(&args.file, args.passphrase_file.as_deref(), session)?;
    let found = file::look(&args.file, secret.as_ref(), &mut |_| {})?;
    let refuse = |why| fault(&args.file, &ReadError::Broken(why));
    found.head.is_for(env!("CARGO_PKG_VERSION")).map_err(refuse)?;
    session.io.say(words(&found));
    if !args.force {
        back::alone(&found.head).await?;
    }
    let way = Way { file: &args.file, secret: secret.as_ref(), found: &found };
    match &args.data_dir {
        Some(dir) => way.to_directory(dir, args.boards_lost, session),
        None => way.to_server(args.boards_lost, session).await,
    }
}

/// What a backup is, in a line.
fn words(found: &Found) -> String {
    let Found { head, end, bytes, sealed, .. } = found;
    let (Head { cluster, server, edged, made_ms, .. }, End { objects, revision, .. }) = (head, end);
    let made = edge_api::time::format(*made_ms);
    let size = bytes.div_ceil(1000);
    let sealed = if *sealed { "encrypted" } else { "not encrypted" };
    format!(
        "{objects} objects of the cluster {cluster} as of revision {revision}, taken {made} by \
         {server} (edged {edged}), {size} kB, {sealed}"
    )
}

fn fault(file: &Path, error: &ReadError) -> Fault {
    Fault::text(format!("{}: {error}", file.display()))
}

/// Progress, for a person; a pipe gets nothing.
struct Progress {
    what: &'static str,
    /// How much there is; 0 where nobody knows.
    all: u64,
    done: u64,
    shown: u64,
}

impl Progress {
    fn new(what: &'static str, all: u64) -> Progress {
        Progress { what, all, done: 0, shown: 0 }
    }

    fn add(&mut self, bytes: u64, session: &mut Session) {
        self.done += bytes;
        let now = self.done / 100_000;
        if session.io.err_terminal && now != self.shown {
            self.shown = now;
            let megabytes = self.done as f64 / 1e6;
            let of = match self.all {
                0 => String::new(),
                all => format!(" of {:.1}", all as f64 / 1e6),
            };
            let line = format!("\r{} {megabytes:.1}{of} MB \u{1b}[K", self.what);
            session.io.write_err(line.as_bytes());
        }
    }

    fn end(&self, session: &mut Session) {
        if self.shown > 0 {
            session.io.write_err("\r\u{1b}[K".as_bytes());
        }
    }
}
