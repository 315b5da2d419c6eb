//! The way back: a backup that is known to be whole goes to a server that has nothing, or into the
//! data directory of one that was never started. Either becomes the cluster when it starts.

use super::file::{self, Found};
use super::passphrase::Secret;
use super::{Progress, fault};
use crate::fault::Fault;
use crate::session::Session;
use bytes::Bytes;
use edge_api::backup::{ARRIVING, Head, STAGED, WISH, Wish};
use edge_client::{Call, Client, Config};
use futures_util::future::join_all;
use http::Method;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes that are sent at a time.
const PIECE: usize = 512 * 1024;
/// How long a server of old is given to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long the server is waited for until it is the cluster, however little there is.
const BECOMING: Duration = Duration::from_secs(90);
/// Bytes of the stream that the slowest board makes part of it in a second: it reads them twice and
/// writes them three times.
const BYTES_A_SECOND: u64 = 250_000;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// What a data directory has in it whose server has been started.
const USED: [&str; 4] = ["store", "pki/ca.key", "cluster.json", "pki/cluster.json"];

/// Whether no server of the old cluster answers any more: two clusters with the same keys would
/// take each other's boards.
pub(super) async fn alone(head: &Head) -> Result<(), Fault> {
    let asked = head.servers.iter().map(|server| async move {
        let servers = vec![server.api.clone()];
        let ca_pem = Some(head.ca.clone().into_bytes());
        let client = Client::new(Config { servers, ca_pem, ..Config::default() }).ok()?;
        let call = Call::get("/livez");
        let answer = tokio::time::timeout(ANSWER, client.text(&call)).await;
        matches!(answer, Ok(Ok(_))).then_some(server)
    });
    match join_all(asked).await.into_iter().flatten().next() {
        None => Ok(()),
        Some(server) => Err(Fault::text(format!(
            "the server {} of that cluster still answers at {}: a second cluster with its keys \
             would take its boards away; stop it for good first, or say --force",
            server.name, server.api
        ))),
    }
}

/// A backup on its way.
pub(super) struct Way<'a> {
    pub(super) file: &'a Path,
    pub(super) secret: Option<&'a Secret>,
    pub(super) found: &'a Found,
}

impl Way<'_> {
    /// Hands the stream over in pieces, with the place of each.
    fn next(&self, from: &mut impl Read) -> Result<Vec<u8>, Fault> {
        let mut piece = Vec::with_capacity(PIECE);
        let read = from.take(PIECE as u64).read_to_end(&mut piece);
        read.map_err(|error| fault(self.file, &error.into()))?;
        Ok(piece)
    }

    /// To a server, which starts again with it.
    pub(super) async fn to_server(
        &self,
        boards_lost: bool,
        session: &mut Session,
    ) -> Result<(), Fault> {
        let client = session.client()?;
        ask(&client, &format!("begin?bytes={}", self.found.plain), Bytes::new()).await?;
        let (mut plain, _) = file::open(self.file, self.secret)?;
        let mut progress = Progress::new("sent", self.found.plain);
        let mut at = 0;
        loop {
            let piece = self.next(&mut plain)?;
            let count = piece.len() as u64;
            if count == 0 {
                break;
            }
            ask(&client, &format!("piece?at={at}"), piece.into()).await?;
            at += count;
            progress.add(count, session);
        }
        progress.end(session);
        let answer = ask(&client, &format!("end?boardsLost={boards_lost}"), Bytes::new()).await?;
        let objects = answer["objects"].as_u64().unwrap_or(0);
        session.io.say("the server has it whole, and starts again with it");
        let since = Instant::now();
        let bound = becoming(self.found.plain);
        let there = session.client_under(&self.found.head.ca)?;
        while there.text(&Call::get("/readyz")).await.is_err() {
            if since.elapsed() > bound {
                return Err(Fault::text(late(&there.server(), bound)));
            }
            tokio::time::sleep(PAUSE).await;
        }
        session.io.line(format!(
            "restored {objects} objects: {} is the cluster {} now; kubeconfigs of old work again",
            there.server(),
            self.found.head.cluster
        ))
    }

    /// Into a directory, for a server that is started later.
    pub(super) fn to_directory(
        &self,
        dir: &Path,
        boards_lost: bool,
        session: &mut Session,
    ) -> Result<(), Fault> {
        let shown = dir.display();
        if let Some(used) = USED.into_iter().find(|name| dir.join(name).exists()) {
            return Err(Fault::text(format!(
                "{shown} is not empty, it has {used} of a cluster: name an empty directory, or \
                 restore into a new server without --data-dir"
            )));
        }
        if dir.join(STAGED).exists() {
            return Err(Fault::text(format!(
                "a backup waits in {shown} already: start `edged server`, or remove {}",
                dir.join("restore").display()
            )));
        }
        let arriving = dir.join(ARRIVING);
        let wish = Wish { boards_lost, replaces: false };
        self.write(dir, &arriving, &wish, session).inspect_err(|_| {
            let _ = fs::remove_dir_all(dir.join("restore"));
        })?;
        session.io.line(format!(
            "{} waits in {shown}: start `edged server --data-dir {shown}`, and it is the cluster \
             {}",
            self.file.display(),
            self.found.head.cluster
        ))
    }

    fn write(
        &self,
        dir: &Path,
        arriving: &Path,
        wish: &Wish,
        session: &mut Session,
    ) -> Result<(), Fault> {
        let doing = |error| Fault::io(format!("write {}", arriving.display()), error);
        private(dir).and_then(|()| private(&dir.join("restore"))).map_err(doing)?;
        let mut out = create(arriving).map_err(doing)?;
        let (mut plain, _) = file::open(self.file, self.secret)?;
        let mut progress = Progress::new("written", self.found.plain);
        loop {
            let piece = self.next(&mut plain)?;
            if piece.is_empty() {
                break;
            }
            out.write_all(&piece).map_err(doing)?;
            progress.add(piece.len() as u64, session);
        }
        progress.end(session);
        out.sync_all().map_err(doing)?;
        let wished = || -> io::Result<()> {
            let mut file = create(&dir.join(WISH))?;
            file.write_all(&serde_json::to_vec(wish).map_err(io::Error::other)?)?;
            file.sync_all()?;
            file::keep(arriving, &dir.join(STAGED))
        };
        wished().map_err(doing)
    }
}

/// How long a server is waited for that makes so many bytes of a stream its cluster.
fn becoming(plain: u64) -> Duration {
    BECOMING + Duration::from_secs(plain / BYTES_A_SECOND)
}

/// What is known of a server that has a backup, and has not come back with it yet.
fn late(server: &str, waited: Duration) -> String {
    format!(
        "{server} has the whole backup and does not answer as that cluster after {} s: it goes on \
         by itself, also after a restart, so do not send it again; on that board, `systemctl \
         status edged` and its log say how far it is, or why it failed",
        waited.as_secs()
    )
}

/// A directory for its owner alone, if there is none.
fn private(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// A file for its owner alone, in place of what an earlier attempt left.
fn create(path: &Path) -> io::Result<File> {
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

async fn ask(client: &Client, step: &str, body: Bytes) -> Result<edge_api::Object, Fault> {
    let mut call = Call::new(Method::POST, format!("/edged/v1/restore/{step}"));
    call.content_type = "application/octet-stream";
    call.body = body;
    Ok(client.call(&call).await?.object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_backup_is_given_its_time() {
        assert_eq!(becoming(0), BECOMING);
        assert_eq!(becoming(8_000), BECOMING);
        assert_eq!(becoming(100_000_000).as_secs(), 490);
        let told = late("https://b:6443", becoming(100_000_000));
        assert!(told.contains("after 490 s: it goes on by itself"), "{told}");
    }
}
