//! `image push --everywhere`: while the first board takes the archive in, the second reads it along
//! from there, the third from the second, and so on, so each link carries it once and all are done
//! a moment after the first. What the images are called the boards then learn from the cluster; a
//! board whose reading along has failed takes the image in the same way.

use super::archive::Survey;
use super::push::lacking;
use super::upload::{self, Loaded, Running};
use super::{human_bytes, on_node};
use crate::fault::Fault;
use crate::session::Session;
use edge_api::Object;
use edge_client::Client;
use edge_client::query::escape;
use futures_util::future::join_all;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long boards may take to begin to read along; the push begins without the rest.
const BEGIN: Duration = Duration::from_secs(3);

/// The boards that read a push along, each from the one before.
#[derive(Default)]
pub(super) struct Chain {
    id: String,
    /// By board: from which it reads, and how that ends.
    links: BTreeMap<String, (String, Reading)>,
}

impl Chain {
    /// Has those of `others` read along that lack nothing but what `first` gets. None if there is
    /// none.
    pub(super) async fn start(
        client: &Client,
        first: &str,
        others: &[String],
        survey: &Survey,
        sent: &[Vec<usize>],
    ) -> Result<Chain, Fault> {
        let lists = others.iter().map(|node| lacking(client, node, survey));
        let readers: Vec<&String> = others
            .iter()
            .zip(join_all(lists).await)
            .filter(|(_, lacks)| {
                lacks.as_ref().is_ok_and(|lacks| survey.images.is_empty() || fits(lacks, sent))
            })
            .map(|(node, _)| node)
            .collect();
        if readers.is_empty() {
            return Ok(Chain::default());
        }
        let id = random_id()?;
        let mut links = BTreeMap::new();
        let mut begun = Vec::new();
        for (at, node) in readers.iter().enumerate().rev() {
            let from = match at.checked_sub(1) {
                Some(before) => readers[before].as_str(),
                None => first,
            };
            let mut path = on_node(node, &format!("images/follow?push={id}&from={}", escape(from)));
            if at + 1 < readers.len() {
                path.push_str("&follower=1");
            }
            let (has_begun, begins) = tokio::sync::oneshot::channel();
            begun.push(begins);
            let (client, what) = (client.clone(), format!("read along with node {from}"));
            let task = tokio::spawn(async move {
                let running = Running::begin(&client, path, what).await;
                let _ = has_begun.send(());
                running?.end(drop).await
            });
            links.insert(node.to_string(), (from.to_owned(), task));
        }
        // Who has not begun by then, or has failed, takes the image afterwards.
        let _ = timeout(BEGIN, join_all(begun)).await;
        Ok(Chain { id, links })
    }

    /// What the first board must know.
    pub(super) fn query(&self) -> String {
        match self.links.is_empty() {
            true => String::new(),
            false => format!("?push={}&follower=1", self.id),
        }
    }

    /// Has all other boards take the images under their names, all at the same time: they have the
    /// content, or share the work.
    pub(super) async fn finish(
        mut self,
        session: &mut Session,
        client: &Client,
        others: &[String],
        images: &[Object],
    ) -> Result<(), Fault> {
        let names: Vec<&str> = images.iter().filter_map(|image| image["name"].as_str()).collect();
        let pulls: Vec<_> = others
            .iter()
            .map(|node| {
                let (names, link) = (&names, self.links.remove(node));
                async move {
                    let how = match link {
                        Some((from, task)) => how(&from, task).await,
                        None => String::new(),
                    };
                    for name in names {
                        upload::pull(client, node, name).await?;
                    }
                    Ok::<_, Fault>((node, how))
                }
            })
            .collect();
        let mut faults = Vec::new();
        for pulled in join_all(pulls).await {
            match pulled {
                Ok((node, how)) => {
                    for name in &names {
                        session.io.line(format!("node/{node} has {name}{how}"))?;
                    }
                }
                Err(fault) => faults.push(fault),
            }
        }
        session.io.flush()?;
        Fault::all(faults)
    }
}

/// A board's reading along.
type Reading = JoinHandle<Result<Loaded, Fault>>;

/// Waits until a board has read along, and says how that went.
async fn how(from: &str, reading: Reading) -> String {
    match reading.await {
        Ok(Ok(loaded)) => format!(" ({} read along with node/{from})", human_bytes(loaded.bytes)),
        Ok(Err(fault)) => format!(" (afterwards: {fault})"),
        Err(error) => format!(" (afterwards: {error})"),
    }
}

/// Whether a board lacks something, and nothing that is not sent.
fn fits(lacks: &[Vec<usize>], sent: &[Vec<usize>]) -> bool {
    let within =
        |(lacks, sent): (&Vec<usize>, &Vec<usize>)| lacks.iter().all(|layer| sent.contains(layer));
    lacks.iter().any(|layers| !layers.is_empty())
        && lacks.len() == sent.len()
        && lacks.iter().zip(sent).all(within)
}

/// A name for the push that nobody guesses.
fn random_id() -> Result<String, Fault> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Fault::text("name the push: the system gives no random numbers"))?;
    let mut id = String::new();
    for byte in bytes {
        let _ = write!(id, "{byte:02x}");
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_what_is_sent_and_nothing_else_reads_along() {
        for (lacks, sent, along) in [
            (vec![vec![2]], vec![vec![1, 2]], true),
            (vec![vec![1, 2]], vec![vec![1, 2]], true),
            (vec![vec![0, 2]], vec![vec![1, 2]], false),
            (vec![vec![]], vec![vec![1, 2]], false),
            (vec![vec![], vec![1]], vec![vec![0], vec![1]], true),
            (vec![vec![1]], vec![vec![1], vec![]], false),
        ] {
            assert_eq!(fits(&lacks, &sent), along, "{lacks:?} {sent:?}");
        }
    }

    #[test]
    fn names_of_pushes_are_as_boards_want_them() {
        let (one, other) = (random_id().expect("random"), random_id().expect("random"));
        assert!(one.len() == 32 && one.bytes().all(|b| b.is_ascii_hexdigit()), "{one}");
        assert!(one == one.to_lowercase() && one != other);
    }
}
