//! What runs on the leader and nowhere else: the cluster's own objects are put in order, then the
//! controllers work, until the term is over.

use super::{Place, roles};
use crate::api::Api;
use crate::{boot, driver};
use edge_api::status::Status;
use edge_core::consensus::Standing;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Pause after the cluster's own objects could not be put in order.
const PAUSE: Duration = Duration::from_secs(1);

/// Leads whenever it is this server's turn; ends when `stop` turns true.
pub(crate) async fn reign(
    api: Api,
    port: u16,
    furnished: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let leadership = api.inner.leadership.clone();
    let mut news = leadership.news();
    tokio::spawn(told(api.clone(), leadership.news(), stop.clone()));
    loop {
        if let Place::Here(term) = leadership.place() {
            let mine = api.at(term);
            tokio::select! {
                () = govern(&mine, port, &furnished, stop.clone()) => {}
                () = deposed(leadership.news(), term) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            tracing::info!("another server leads now, or none");
        }
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Tells those who judge boards by their silence when nobody leads.
async fn told(api: Api, mut news: watch::Receiver<Arc<Standing>>, mut stop: watch::Receiver<bool>) {
    loop {
        api.beats().led(news.borrow_and_update().leader.is_some());
        // The Lease says since when: not since somebody first read it.
        api.lease();
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// One term's work; does not end by itself.
async fn govern(
    api: &Api,
    port: u16,
    furnished: &watch::Sender<bool>,
    stop: watch::Receiver<bool>,
) {
    let controllers = async {
        furnish(api, port).await;
        furnished.send_replace(true);
        driver::run(api.clone(), stop).await;
    };
    tokio::select! {
        () = controllers => {}
        () = follow_members(api, port, furnished.subscribe()) => {}
    }
}

async fn furnish(api: &Api, port: u16) {
    while let Err(status) = put_in_order(api, port).await {
        tracing::warn!("make the cluster's own objects: {}", status.message);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn put_in_order(api: &Api, port: u16) -> Result<(), Status> {
    boot::furnish(api, port).await?;
    roles::relabel(api).await
}

/// The `kubernetes` Service leads to every server, and their Nodes say so: they change when the
/// servers do.
async fn follow_members(api: &Api, port: u16, mut furnished: watch::Receiver<bool>) {
    let mut news = api.inner.leadership.news();
    let _ = furnished.wait_for(|done| *done).await;
    let places = |standing: &Standing| {
        let names = standing.members.all().map(|info| info.name.clone());
        (boot::servers(&standing.members), names.collect::<BTreeSet<_>>())
    };
    let mut known = places(&news.borrow_and_update());
    while news.changed().await.is_ok() {
        let now = places(&news.borrow_and_update());
        if now != known {
            known = now;
            furnish(api, port).await;
        }
    }
}

async fn deposed(mut news: watch::Receiver<Arc<Standing>>, term: u64) {
    let over = |standing: &Arc<Standing>| super::place(standing) != Place::Here(term);
    // An error means that the store is closed, which ends the term as well.
    let _ = news.wait_for(over).await;
}
