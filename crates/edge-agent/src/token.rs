//! `edged token`: makes, lists and deletes the tokens that boards join with. It is an ordinary
//! client of the API, with the administrator's kubeconfig of this board.

use std::time::Duration;

use clap::{Args, Subcommand};
use edge_api::{kinds, time};
use edge_client::{Call, Client, DeleteParams, ListParams, WriteParams};
use edge_server::join::{Remembered, Role, TOKEN_NAMESPACE, TOKEN_PREFIX, TimeAnswer, Token};
use edge_server::pki::CertFacts;

use crate::config::{Config, Settings};
use crate::wire::{self, WireError, failed};

/// The longest that a token may live.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token that lets one board join; it stands alone on the last line
    Create(Create),
    /// Show the tokens that have not ended
    List(Any),
    /// Delete a token, by its ID
    Delete(Delete),
}

impl Command {
    /// Where this board keeps its things.
    pub(crate) fn settings(&self) -> &Settings {
        match self {
            Command::Create(args) => &args.settings,
            Command::List(args) => &args.settings,
            Command::Delete(args) => &args.settings,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    settings: Box<Settings>,
    /// How long the token may be used, as in 30m, 24h or 7d
    #[arg(long, default_value = "24h", value_parser = duration)]
    ttl: Duration,
    /// The token is for a board that runs pods (the default)
    #[arg(long, conflicts_with = "server")]
    agent: bool,
    /// The token is for a board that leads and stores as well
    #[arg(long)]
    server: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Any {
    #[command(flatten)]
    settings: Box<Settings>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    settings: Box<Settings>,
    /// As `edged token list` shows it
    id: String,
}

/// Reads `90s`, `30m`, `24h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 30m, 24h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
    let duration = Duration::from_secs(seconds);
    if duration.is_zero() || duration > LONGEST {
        return Err(format!("{text:?} is not between 1s and {}d", LONGEST.as_secs() / 86_400));
    }
    Ok(duration)
}

/// Does what was asked.
///
/// # Errors
/// When the cluster cannot be asked or refuses.
pub(crate) fn run(command: &Command, config: &Config) -> Result<(), WireError> {
    wire::runtime()?.block_on(async {
        let (client, pin) = administrator(config)?;
        match command {
            Command::Create(args) => create(args, &client, &pin).await,
            Command::List(_) => list(&client).await,
            Command::Delete(args) => delete(&args.id, &client).await,
        }
    })
}

/// A client with this board's own kubeconfig, and the authority's pin.
fn administrator(config: &Config) -> Result<(Client, String), WireError> {
    let path = config.data_dir.join("admin.kubeconfig");
    if !path.exists() {
        let what = format!("{} is not there", path.display());
        return Err(failed("token", format!("{what}: run this on a board with `edged server`")));
    }
    let config =
        edge_client::Config::from_kubeconfig(&path, None).map_err(|e| failed("token", e))?;
    let pem = config.ca_pem.clone().unwrap_or_default();
    let facts = CertFacts::read(&String::from_utf8_lossy(&pem))
        .ok_or_else(|| failed("token", format!("{} names no authority", path.display())))?;
    let client = Client::new(config).map_err(|e| failed("token", e))?;
    Ok((client, facts.pin))
}

/// The cluster's time, in milliseconds since 1970: tokens are judged by it, and this board's own
/// clock may be years off.
async fn now_ms(client: &Client) -> Result<i64, WireError> {
    let asked = client.call(&Call::get("/edged/v1/time")).await;
    let answer = asked.map_err(|e| failed("token: ask for the time", e))?;
    let time: TimeAnswer =
        serde_json::from_value(answer.object).map_err(|e| failed("token: ask for the time", e))?;
    Ok(time.time_ms)
}

async fn create(args: &Create, client: &Client, pin: &str) -> Result<(), WireError> {
    let now = now_ms(client).await?;
    sweep(client, now).await?;
    let role = if args.server { Role::Server } else { Role::Agent };
    let token = Token::create(pin).map_err(|e| failed("token create: draw random bytes", e))?;
    let expires = now + i64::try_from(args.ttl.as_millis()).unwrap_or(i64::MAX / 2);
    client
        .create(
            kinds::SECRET,
            TOKEN_NAMESPACE,
            &token.object(role, expires),
            &WriteParams::default(),
        )
        .await
        .map_err(|e| failed("token create", e))?;
    eprintln!(
        "For one board, once, until {}: edged {role} --join https://THIS-BOARD:6443 with this \
         token in EDGED_TOKEN",
        time::format(expires)
    );
    println!("{token}");
    Ok(())
}

/// All tokens that there are.
async fn all(client: &Client) -> Result<Vec<Remembered>, WireError> {
    let secrets = client
        .list(kinds::SECRET, TOKEN_NAMESPACE, &ListParams::default())
        .await
        .map_err(|e| failed("token list", e))?;
    Ok(secrets.items.iter().filter_map(Remembered::read).collect())
}

/// Removes tokens that have ended: nothing else does, since nothing is written because time passed.
async fn sweep(client: &Client, now: i64) -> Result<(), WireError> {
    for token in all(client).await?.into_iter().filter(|token| token.expires_ms <= now) {
        delete(&token.id, client).await.or_else(|e| match e.to_string().contains("not found") {
            true => Ok(()),
            false => Err(e),
        })?;
    }
    Ok(())
}

async fn list(client: &Client) -> Result<(), WireError> {
    let now = now_ms(client).await?;
    println!("{:<10}{:<8}{:<22}USED BY", "ID", "ROLE", "UNTIL");
    for token in all(client).await?.into_iter().filter(|token| token.expires_ms > now) {
        let until = time::format(token.expires_ms);
        let board = token.board.as_deref().unwrap_or("<nobody>");
        println!("{:<10}{:<8}{until:<22}{board}", token.id, token.role.as_str());
    }
    Ok(())
}

async fn delete(id: &str, client: &Client) -> Result<(), WireError> {
    let name = format!("{TOKEN_PREFIX}{id}");
    client
        .delete(kinds::SECRET, TOKEN_NAMESPACE, &name, &DeleteParams::default())
        .await
        .map(|_| ())
        .map_err(|e| failed("token delete", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for bad in ["", "h", "0s", "24", "1y", "-1h", "9999d", "99999999999999999999d", "é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
