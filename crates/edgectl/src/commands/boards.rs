//! `node` and `server`: which boards the cluster trusts, and which of them lead and store. These
//! are edged's own words: Kubernetes has none for them.

use crate::fault::Fault;
use crate::output::tabs::Rows;
use crate::session::Session;
use edge_api::Object;
use edge_client::Call;
use http::Method;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a server may take to hand the lead over before it is removed.
const HANDING_OVER: Duration = Duration::from_secs(15);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(300);

/// Decide which boards the cluster trusts
#[derive(Debug, clap::Args)]
pub(crate) struct Node {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, clap::Subcommand)]
enum NodeCommand {
    /// Take a board's key out of trust for good; its connections end at once
    Revoke {
        /// The board's name
        name: String,
    },
}

/// Decide which boards lead and store
#[derive(Debug, clap::Args)]
pub(crate) struct Server {
    #[command(subcommand)]
    command: ServerCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ServerCommand {
    /// Show the servers, as `get servers` does
    List,
    /// Take a server out of the cluster
    Remove {
        /// The server's name
        name: String,
    },
    /// Hand the lead to another server
    Transfer {
        /// To this one; any other if none is named
        name: Option<String>,
    },
}

pub(crate) async fn node(args: Node, session: &mut Session) -> Result<(), Fault> {
    let NodeCommand::Revoke { name } = args.command;
    let path = format!("/edged/v1/nodes/{name}/revoke");
    session.client()?.call(&Call::new(Method::POST, path)).await?;
    session.io.line(format!("node/{name} revoked"))
}

pub(crate) async fn server(args: Server, session: &mut Session) -> Result<(), Fault> {
    match args.command {
        ServerCommand::List => servers(None, false, session).await,
        ServerCommand::Remove { name } => {
            let answer = remove(&name, session).await?;
            session.io.line(format!("server/{name} removed"))?;
            warn(&answer, session);
            Ok(())
        }
        ServerCommand::Transfer { name } => {
            if let Some(name) = &name
                && leads(name, session).await?
            {
                return session.io.line(format!("server/{name} leads already"));
            }
            let to = json!({ "to": name.as_deref().unwrap_or_default() });
            let call = Call::new(Method::POST, "/edged/v1/servers/transfer").json(&to);
            session.client()?.call(&call).await?;
            let to = name.map_or("another server".to_owned(), |name| format!("server/{name}"));
            session.io.line(format!("lead handed to {to}"))
        }
    }
}

/// Whether the server of this name is the leader.
async fn leads(name: &str, session: &mut Session) -> Result<bool, Fault> {
    let answer = session.client()?.call(&Call::get("/edged/v1/servers")).await?.object;
    let servers = answer["servers"].as_array();
    let mut servers = servers.into_iter().flatten();
    Ok(servers.any(|server| server["name"] == name && server["leader"] == true))
}

/// A server that is about to be taken down hands the lead over first, if there is another.
pub(crate) async fn hand_over(name: &str, session: &mut Session) -> Result<(), Fault> {
    // An API server that is not edged's knows of no lead.
    if !leads(name, session).await.unwrap_or(false) {
        return Ok(());
    }
    let call = Call::new(Method::POST, "/edged/v1/servers/transfer").json(&json!({ "to": "" }));
    match session.client()?.call(&call).await {
        Ok(_) => session.io.line(format!("server/{name} handed the lead over")),
        // It is the only one.
        Err(error) if error.code() == 409 => Ok(()),
        Err(error) => {
            session.io.say(format!("Warning: server/{name} keeps the lead: {error}"));
            Ok(())
        }
    }
}

/// Takes a server out. One that leads hands that over first, which takes a moment.
async fn remove(name: &str, session: &mut Session) -> Result<Object, Fault> {
    let call = Call::new(Method::DELETE, format!("/edged/v1/servers/{name}"));
    let client = session.client()?;
    let end = Instant::now() + HANDING_OVER;
    let mut again = false;
    loop {
        match client.call(&call).await {
            Ok(answer) => return Ok(answer.object),
            // It was taken out by the try before, whose outcome was not known.
            Err(error) if again && error.is_not_found() => return Ok(Object::Null),
            Err(error) if error.code() != 503 || Instant::now() >= end => return Err(error.into()),
            Err(_) => again = true,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn warn(answer: &Object, session: &mut Session) {
    if let Some(warning) = answer["warning"].as_str().filter(|text| !text.is_empty()) {
        session.io.say(format!("Warning: {warning}"));
    }
}

/// Shows the servers as a table, or as JSON, YAML or names.
pub(crate) async fn servers(
    output: Option<&str>,
    no_headers: bool,
    session: &mut Session,
) -> Result<(), Fault> {
    let answer = session.client()?.call(&Call::get("/edged/v1/servers")).await?.object;
    let none = Vec::new();
    let list = answer["servers"].as_array().unwrap_or(&none);
    let text = |server: &Object, key: &str| server[key].as_str().unwrap_or_default().to_owned();
    match output {
        None | Some("wide") => {}
        Some("name") => {
            for server in list {
                session.io.line(format!("server/{}", text(server, "name")))?;
            }
            return Ok(());
        }
        Some("json") => {
            let pretty = serde_json::to_string_pretty(&answer["servers"]).unwrap_or_default();
            return session.io.line(pretty);
        }
        Some("yaml") => {
            let yaml = crate::output::yaml::write(&answer["servers"]);
            return session.io.print(&yaml);
        }
        Some(other) => {
            let what = format!("--output {other} is not available for servers: wide, name, json");
            return Err(Fault::text(format!("{what} or yaml")));
        }
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !no_headers {
        rows.push(["NAME", "ROLE", "API", "BROKER", "ID"].map(str::to_owned).to_vec());
    }
    for server in list {
        let role = match (server["leader"] == true, server["voter"] == true) {
            (true, _) => "leader",
            (false, _) if server["away"] == true => "away",
            (false, true) => "follower",
            (false, false) => "learner",
        };
        let id = text(server, "id").parse::<u64>().map_or(String::new(), |id| format!("{id:016x}"));
        rows.push(vec![
            text(server, "name"),
            role.to_owned(),
            text(server, "api"),
            Some(text(server, "broker")).filter(|at| !at.is_empty()).unwrap_or("<external>".into()),
            id,
        ]);
    }
    let table = Rows::default().render(&rows);
    session.io.print(&table)?;
    warn(&answer, session);
    Ok(())
}
