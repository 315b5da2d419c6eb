//! `cluster-info`, `version`, `api-resources`, `api-versions`, `config`: what is there.

use crate::fault::Fault;
use crate::output::tabs::Rows;
use crate::output::{self, Format};
use crate::resource::discover;
use crate::session::Session;
use edge_api::Object;
use edge_client::Call;
use serde_json::json;

/// Show the versions of client and server
#[derive(Debug, clap::Args)]
pub(crate) struct Version {
    /// Only that of the client
    #[arg(long)]
    client: bool,
    /// yaml or json
    #[arg(short, long)]
    output: Option<String>,
}

/// Show the types of objects that the server has
#[derive(Debug, clap::Args)]
pub(crate) struct ApiResources {
    /// Only those in namespaces, or only those outside
    #[arg(long)]
    namespaced: Option<bool>,
    /// Only those of this group
    #[arg(long)]
    api_group: Option<String>,
    /// wide or name
    #[arg(short, long)]
    output: Option<String>,
    /// Leave the headers out
    #[arg(long)]
    no_headers: bool,
}

/// Show the kubeconfig in use
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// The contexts
    GetContexts,
    /// The current context
    CurrentContext,
    /// The server, user and namespace in use, without secrets
    View,
}

pub(crate) async fn cluster_info(session: &mut Session) -> Result<(), Fault> {
    let client = session.client()?;
    client.call(&Call::get("/version")).await?;
    session.io.line(format!("Kubernetes control plane is running at {}", client.server()))
}

pub(crate) async fn version(args: Version, session: &mut Session) -> Result<(), Fault> {
    let own = env!("CARGO_PKG_VERSION");
    let server = match args.client {
        true => Object::Null,
        false => session.client()?.call(&Call::get("/version")).await?.object,
    };
    let format = Format::parse(args.output.as_deref())?;
    if format.is_table() {
        session.io.line(format!("Client Version: v{own}"))?;
        if !server.is_null() {
            let version = server["gitVersion"].as_str().unwrap_or("unknown");
            session.io.line(format!("Server Version: {version}"))?;
        }
        return Ok(());
    }
    let mut both = json!({"clientVersion": {"gitVersion": format!("v{own}")}});
    if !server.is_null() {
        both["serverVersion"] = server;
    }
    let text = format.render(&both)?;
    session.io.print(&text)
}

pub(crate) async fn api_resources(args: ApiResources, session: &mut Session) -> Result<(), Fault> {
    let client = session.client()?;
    let mut found = discover(&client).await?;
    found.retain(|one| {
        args.namespaced.is_none_or(|wanted| one.resource.namespaced == wanted)
            && args.api_group.as_ref().is_none_or(|group| one.resource.group == *group)
    });
    let wide = match args.output.as_deref() {
        None => false,
        Some("wide") => true,
        Some("name") => {
            for one in found {
                session.io.line(one.resource.plural_name())?;
            }
            return Ok(());
        }
        Some(other) => {
            return Err(Fault::text(format!("--output {other} is not available: wide or name")));
        }
    };
    let mut header = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
    if wide {
        header.extend(["VERBS", "CATEGORIES"]);
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !args.no_headers {
        rows.push(header.into_iter().map(str::to_string).collect());
    }
    for one in found {
        let mut row = vec![
            one.resource.plural.clone(),
            one.short_names.join(","),
            one.resource.api_version(),
            one.resource.namespaced.to_string(),
            one.resource.kind.clone(),
        ];
        if wide {
            row.extend([one.verbs.join(","), one.categories.join(",")]);
        }
        rows.push(row);
    }
    let text = Rows::default().render(&rows);
    session.io.print(&text)
}

pub(crate) async fn api_versions(session: &mut Session) -> Result<(), Fault> {
    let groups = session.client()?.call(&Call::get("/apis")).await?.object;
    let mut found = vec!["v1".to_string()];
    for group in groups["groups"].as_array().into_iter().flatten() {
        for version in group["versions"].as_array().into_iter().flatten() {
            found.extend(version["groupVersion"].as_str().map(str::to_string));
        }
    }
    found.sort();
    for version in found {
        session.io.line(version)?;
    }
    Ok(())
}

pub(crate) fn config(args: ConfigArgs, session: &mut Session) -> Result<(), Fault> {
    let file = session.kubeconfig()?.ok_or_else(|| Fault::text("there is no kubeconfig"))?;
    match args.command {
        ConfigCommand::CurrentContext => match file.current_context() {
            "" => Err(Fault::text("current-context is not set")),
            name => session.io.line(name),
        },
        ConfigCommand::GetContexts => {
            let mut rows = vec![
                ["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"]
                    .map(str::to_string)
                    .to_vec(),
            ];
            for context in file.contexts() {
                let mark = if context.current { "*" } else { "" };
                let namespace = context.namespace.unwrap_or_default();
                rows.push(vec![
                    mark.to_string(),
                    context.name,
                    context.cluster,
                    context.user,
                    namespace,
                ]);
            }
            let text = Rows::default().render(&rows);
            session.io.print(&text)
        }
        ConfigCommand::View => {
            let config = file.config(None)?;
            let present = |there: bool| if there { "DATA+OMITTED" } else { "<none>" };
            let view = json!({
                "servers": config.servers,
                "certificate-authority": present(config.ca_pem.is_some()),
                "client-certificate": present(config.client_cert_pem.is_some()),
                "token": if config.token.is_some() { "REDACTED" } else { "<none>" },
                "insecure-skip-tls-verify": config.insecure,
                "namespace": config.namespace.as_deref().unwrap_or("default"),
                "context": file.current_context(),
            });
            let text = output::yaml::write(&view);
            session.io.print(&text)
        }
    }
}
