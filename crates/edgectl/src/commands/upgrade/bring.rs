//! What is asked of one board: whether it would take the program, to take it, to try it, and how
//! that went.

use super::file::Program;
use super::plan::Step;
use crate::commands::image::upload;
use crate::fault::Fault;
use crate::session::Session;
use edge_api::Object;
use edge_api::release::Version;
use edge_client::query::escape;
use edge_client::{Call, Client, body};
use http::{HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Beyond its trial, a board gets so long to be heard again.
const BACK: Duration = Duration::from_secs(45);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// Pause between two looks at a board that is well.
const WATCH: Duration = Duration::from_secs(1);
/// How long a board that crashes again and again takes to go back: systemd waits longer each time.
const CRASHES: Duration = Duration::from_secs(120);
/// An answer is no longer than this.
const ANSWER_BYTES: usize = 64 * 1024;

/// The way to what a board says and does about its program.
pub(super) struct Way {
    client: Client,
    base: String,
    /// `node NAME`, or `server NAME`.
    shown: String,
}

impl Way {
    /// Through any server, to a board's agent.
    pub(super) fn to_node(client: &Client, name: &str) -> Way {
        let base = format!("/api/v1/nodes/{}/proxy/upgrade", escape(name));
        Way { client: client.clone(), base, shown: format!("node {name}") }
    }

    /// To a server itself, which has no agent: `client` asks nobody else.
    pub(super) fn to_server(client: Client, name: &str) -> Way {
        Way { client, base: "/edged/v1/upgrade".to_owned(), shown: format!("server {name}") }
    }
}

/// What a board says of its programs.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) version: String,
    pub(super) arch: String,
    pub(super) place: String,
    state: Object,
}

impl Told {
    /// Whether this very program is on trial there, since an earlier run of this command.
    pub(super) fn is_trying(&self, program: &Program) -> bool {
        let trial = &self.state["trial"];
        let slot = trial["slot"].as_str().map(|slot| &self.state[slot]);
        slot.is_some_and(|slot| slot["digest"] == program.sha256.as_str())
    }

    /// What came of the last upgrade.
    pub(super) fn news(&self) -> String {
        let text = |object: &Object, key: &str| object[key].as_str().unwrap_or("").to_owned();
        let trial = &self.state["trial"];
        if trial.is_object() {
            let slot = text(trial, "slot");
            return format!("{} is on trial", text(&self.state[slot.as_str()], "version"));
        }
        if let Some(crashed) = self.crashed() {
            return crashed;
        }
        let failed = &self.state["failed"];
        match failed.is_object() {
            true => format!("{} was given up: {}", text(failed, "version"), text(failed, "why")),
            false => String::new(),
        }
    }

    /// That what runs has crashed since it passed its trial, if it has.
    fn crashed(&self) -> Option<String> {
        let crashes = self.state["watch"]["crashes"].as_u64().filter(|crashes| *crashes > 0)?;
        let (own, times) = (&self.version, if crashes == 1 { "once" } else { "twice" });
        Some(format!(
            "{own} has crashed {times} since it passed its trial; the third time it goes back"
        ))
    }

    /// That a version was given up and what runs instead, if it was.
    fn back(&self, new: &str) -> Option<String> {
        let (own, failed) = (&self.version, &self.state["failed"]);
        let given_up = own != new && failed["version"] == new;
        let why = failed["why"].as_str().unwrap_or_default();
        given_up.then(|| format!("edged {new} was given up, {own} runs again: {why}"))
    }
}

/// Asks a board what it runs.
pub(super) async fn describe(way: &Way) -> Result<Told, Fault> {
    let (call, shown) = (Call::get(way.base.clone()), &way.shown);
    let told = way.client.call(&call).await.map_err(|error| match error.is_not_found() {
        true => Fault::text(format!(
            "{shown} runs an edged that takes no upgrades over the API: install the package there \
             once"
        )),
        false => Fault::when(error, format!("ask {shown} what it runs")),
    })?;
    let told = told.object;
    let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    let (version, arch, place) = (text("version"), text("arch"), text("place"));
    Ok(Told { version, arch, place, state: told["state"].clone() })
}

/// What boards may take although they would not by themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// A program without a signature, where no keys are known.
    pub(super) unsigned: bool,
    /// One that is older than what runs.
    pub(super) downgrade: bool,
}

fn offer(way: &Way, what: &str, program: &Program, allowed: Allowed) -> String {
    let Program { version, arch, bytes, sha256, .. } = program;
    let version = escape(&version.to_string());
    let mut path =
        format!("{}{what}?bytes={bytes}&sha256={sha256}&arch={arch}&version={version}", way.base);
    if let Some(signature) = &program.signature {
        path.push_str(&format!("&signature={}", escape(signature)));
    }
    for (flag, given) in [("unsigned", allowed.unsigned), ("downgrade", allowed.downgrade)] {
        if given {
            path.push_str(&format!("&{flag}=true"));
        }
    }
    path
}

/// Asks a board whether it would take a program, as a refusal would cut off what is on its way
/// unheard.
pub(super) async fn check(way: &Way, program: &Program, allowed: Allowed) -> Result<(), Fault> {
    let call = Call::new(Method::POST, offer(way, "/check", program, allowed));
    match way.client.call(&call).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::when(error, format!("upgrade {}", way.shown))),
    }
}

/// Sends a program to a board; gives the slot that it got.
pub(super) async fn send(
    session: &mut Session,
    way: &Way,
    step: &Step,
    program: &Program,
    allowed: Allowed,
) -> Result<String, Fault> {
    let (shown, to, client) = (&program.shown, &way.shown, &way.client);
    let source = program.content.open(shown)?;
    let sent = Arc::new(AtomicU64::new(0));
    let whole = std::iter::once(0..program.bytes).collect();
    let pieces = upload::read(source, whole, sent.clone());
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    let path = offer(way, "/file", program, allowed);
    let mut request = Request::new(body::stream(stream));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| Fault::text(format!("bad name: {to}")))?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(program.bytes));
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    let mut view = upload::View::new(session, &step.node, program.bytes);
    let fault = |error| Fault::when(error, format!("bring {shown} to {to}"));
    let exchange = client.request(request);
    tokio::pin!(exchange);
    let mut tick = tokio::time::interval(upload::TICK);
    let answer = loop {
        tokio::select! {
            answer = &mut exchange => break answer,
            _ = tick.tick() => view.bar(sent.load(Ordering::Relaxed)),
        }
    };
    view.clear();
    let response = answer.map_err(fault)?;
    if response.status().as_u16() >= 400 {
        return Err(fault(client.refused(&Call::new(Method::POST, path), response).await));
    }
    let told = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    let told = told.map(|told| told.to_bytes()).unwrap_or_default();
    let told: Object = serde_json::from_slice(&told).unwrap_or_default();
    let slot = told["slot"].as_str().map(str::to_owned);
    slot.ok_or_else(|| Fault::text(format!("{to} does not say where it is")))
}

/// Has a board try what is in a slot.
pub(super) async fn begin(way: &Way, slot: &str, deadline: u32) -> Result<(), Fault> {
    let path = format!("{}/begin?slot={slot}&deadline={deadline}", way.base);
    match way.client.call(&Call::new(Method::POST, path)).await {
        Ok(_) => Ok(()),
        // Asked again after an answer that was lost, it says that the trial is on.
        Err(error) if error.to_string().contains("on trial") => Ok(()),
        Err(error) => Err(Fault::when(error, format!("begin the trial on {}", way.shown))),
    }
}

/// Waits until a board runs the program for good, or has given it up.
pub(super) async fn passed(way: &Way, program: &Program, deadline: u32) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(deadline.into()) + BACK;
    let new = program.version.to_string();
    loop {
        let lacks = match describe(way).await {
            Ok(told) if told.state["trial"].is_object() => "it is still on trial".to_owned(),
            Ok(told) if told.version == new => return Ok(()),
            Ok(told) => match told.back(&new) {
                Some(back) => return Err(back),
                None => format!("it runs {}", told.version),
            },
            Err(fault) => fault.to_string(),
        };
        if Instant::now() >= end {
            return Err(format!("no word of its trial: {lacks}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Watches a board that has passed its trial until it has answered for so long without a break. If
/// it crashes meanwhile, it is waited for until it goes back.
pub(super) async fn stays(way: &Way, new: &Version, settle: Duration) -> Result<(), String> {
    let new = new.to_string();
    let mut well = Instant::now();
    let mut trouble: Option<(Instant, String)> = None;
    loop {
        match describe(way).await {
            Ok(told) => {
                if let Some(back) = told.back(&new) {
                    return Err(back);
                }
                let crashed = told.crashed();
                if crashed.is_none() && well.elapsed() >= settle {
                    return Ok(());
                }
                let since = trouble.take().map_or_else(Instant::now, |(since, _)| since);
                trouble = crashed.map(|why| (since, why));
            }
            Err(fault) => {
                well = Instant::now();
                trouble.get_or_insert_with(|| (well, fault.to_string()));
            }
        }
        if let Some((since, lacks)) = &trouble
            && since.elapsed() >= CRASHES
        {
            return Err(format!("it passed its trial, but then: {lacks}"));
        }
        tokio::time::sleep(WATCH).await;
    }
}

/// What has become of boards that have passed their trial, if one of them is not well. Who doesn't
/// answer may be switched off.
pub(super) async fn fared(begun: &[Way], new: &Version) -> Option<String> {
    for way in begun {
        let Ok(told) = describe(way).await else { continue };
        if let Some(why) = told.back(&new.to_string()).or_else(|| told.crashed()) {
            return Some(format!("{}: {why}", way.shown));
        }
    }
    None
}
