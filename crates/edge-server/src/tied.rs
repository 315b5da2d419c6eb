//! Opens a server's store as one of its cluster's: who it is to the others, the ways to them, and
//! the membership that all of them share.

use crate::config::Config;
use crate::http::Programs;
use crate::join::Membership;
use crate::lead::{Channel, Courier, Links, Own, Servers};
use crate::pki::{Authority, BEGUN, PkiError, write_atomically};
use crate::server::{Linked, StartError, blocking};
use edge_core::consensus::{MemberInfo, Members};
use edge_store::{Options, Store};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// A server's store, and what ties it to the others.
pub(crate) struct Tied {
    pub(crate) own: Arc<Own>,
    pub(crate) info: MemberInfo,
    /// The servers that this one was told of.
    pub(crate) seeds: Vec<MemberInfo>,
    pub(crate) channel: Arc<Channel>,
    pub(crate) links: Arc<Links>,
    pub(crate) courier: Arc<dyn Courier>,
    pub(crate) store: Store,
    pub(crate) membership: Arc<dyn Membership>,
    pub(crate) programs: Option<Arc<dyn Programs>>,
}

/// Opens the store as one of its cluster's.
pub(crate) async fn tie(
    config: &mut Config,
    authority: &Arc<Authority>,
    linked: Linked,
    port: u16,
) -> Result<Tied, StartError> {
    let Linked { courier, broker, seeds, founding, programs } = linked;
    let own = Arc::new(Own::open(authority.clone(), config)?);
    let info = MemberInfo {
        id: own.id(),
        name: config.name.clone(),
        api: format!("https://{}", SocketAddr::new(config.advertised(), port)),
        broker,
    };
    let channel = Arc::new(Channel::new(own.http()));
    let links = Links::new(courier.clone(), channel.clone(), Members::founders(seeds.clone()));
    let links = Arc::new(links);
    let options = Options {
        me: info.clone(),
        founding,
        peers: links.clone(),
        seed: chance(),
        ..Options::default()
    };
    let store = blocking(config, move |config| open(&config.data_dir, options)).await?;
    let members = || Arc::new(Servers::new(store.clone())) as Arc<dyn Membership>;
    let membership = config.cluster.membership.get_or_insert_with(members).clone();
    Ok(Tied { own, info, seeds, channel, links, courier, store, membership, programs })
}

/// Opens the store, or begins it, and notes that it has begun: beside the keys, for who has them
/// without the store has forgotten its votes. The note is durable before any message can come in
/// or go out; a start that is cut off before it leaves a store that has promised nothing, which
/// the next start finds.
fn open(data_dir: &Path, options: Options) -> Result<Store, StartError> {
    let note = data_dir.join(BEGUN);
    let failed = |operation, source| PkiError::Io { operation, path: note.clone(), source };
    let begun = note.try_exists().map_err(|e| failed("read", e))?;
    let dir = data_dir.join("store");
    let store = Store::open(&dir, Options { begun, ..options }).map_err(StartError::Store)?;
    if !begun {
        let text = "this server has a store, and must not begin another one\n";
        write_atomically(&note, text.as_bytes(), 0o644).map_err(|e| failed("write", e))?;
    }
    Ok(store)
}

/// What elections draw their timeouts from: other numbers at every start.
fn chance() -> u64 {
    let mut bytes = [0; 8];
    // Without chance there is still the server's own id, which the election mixes in.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    u64::from_le_bytes(bytes)
}
