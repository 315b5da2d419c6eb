//! `create`: objects from files, or from a few words for the usual kinds.

mod bindings;
mod generate;
mod ingress;
mod roles;
mod secret;
mod token;

use crate::fault::Fault;
use crate::input::manifest;
use crate::resource;
use crate::session::Session;
use crate::targets::{Files, namespace_for};
use crate::writing::{self, DryRun, Validate, Writing};
use edge_api::Object;
use edge_client::WriteParams;

/// Create objects
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Create {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    files: Files,
    /// What to do about unknown fields
    #[arg(long, value_enum, default_value = "warn", default_missing_value = "strict",
          num_args = 0..=1, require_equals = true)]
    validate: Validate,
    /// Keep what was written, for a later apply
    #[arg(long)]
    save_config: bool,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(visible_alias = "deploy")]
    Deployment(generate::Deployment),
    #[command(visible_alias = "ns")]
    Namespace(generate::Named),
    #[command(visible_alias = "sa", name = "serviceaccount")]
    ServiceAccount(generate::Named),
    #[command(visible_alias = "svc")]
    Service(generate::ServiceArgs),
    #[command(visible_alias = "cm", name = "configmap")]
    ConfigMap(secret::ConfigMap),
    Secret(secret::SecretArgs),
    #[command(visible_alias = "ing")]
    Ingress(ingress::Ingress),
    Role(roles::Role),
    #[command(name = "clusterrole")]
    ClusterRole(roles::ClusterRole),
    #[command(name = "rolebinding")]
    RoleBinding(bindings::RoleBinding),
    #[command(name = "clusterrolebinding")]
    ClusterRoleBinding(bindings::ClusterRoleBinding),
    Token(token::TokenArgs),
}

pub(crate) async fn run(args: Create, session: &mut Session) -> Result<(), Fault> {
    if let Some(command) = args.command {
        let mut doing = None;
        let mut failed = |kind: &str| doing = Some(format!("failed to create {kind}"));
        let (object, writing) = match command {
            Command::Deployment(args) => (args.object()?, args.writing),
            Command::Namespace(args) => (args.object("Namespace"), args.writing),
            Command::ServiceAccount(args) => (args.object("ServiceAccount"), args.writing),
            Command::Service(args) => args.object()?,
            Command::ConfigMap(args) => (args.object()?, args.writing),
            Command::Secret(args) => args.object()?,
            Command::Ingress(args) => {
                failed("ingress");
                (args.object()?, args.writing)
            }
            Command::Role(args) => (args.object(session).await?, args.writing),
            Command::ClusterRole(args) => (args.object(session).await?, args.writing),
            Command::RoleBinding(args) => {
                failed("rolebinding");
                (args.object()?, args.writing)
            }
            Command::ClusterRoleBinding(args) => {
                failed("clusterrolebinding");
                (args.object()?, args.writing)
            }
            Command::Token(args) => return token::run(args, session).await,
        };
        return one(session, object, &writing, None, doing).await;
    }
    if args.files.filename.is_empty() {
        return Err(Fault::text("must specify one of -f and a type: see `edgectl create --help`"));
    }
    let manifests = manifest::read(&args.files.filename, args.files.recursive, &mut session.io)?;
    if manifests.is_empty() {
        return Err(Fault::text("no objects passed to create"));
    }
    let mut faults = Vec::new();
    for manifest in manifests {
        let object = match args.save_config {
            true => super::apply::with_last_applied(&manifest.object)?,
            false => manifest.object,
        };
        let doing = Some(format!("error when creating {:?}", manifest.source));
        if let Err(fault) = one(session, object, &args.writing, Some(args.validate), doing).await {
            faults.push(fault);
        }
        session.io.flush()?;
    }
    Fault::all(faults)
}

async fn one(
    session: &mut Session,
    mut object: Object,
    writing: &Writing,
    validate: Option<Validate>,
    doing: Option<String>,
) -> Result<(), Fault> {
    // A dry run on this side needs no server, as long as the kind is one of ours.
    let known = edge_api::kinds::of(&object).map(resource::Resource::from);
    let resource = match known {
        Some(resource) => resource,
        None => resource::of_object(&session.client()?, &object).await?,
    };
    if writing.dry_run == DryRun::Client {
        if let (true, Some(namespace)) = (resource.namespaced, session.typed_namespace()) {
            object["metadata"]["namespace"] = Object::from(namespace);
        }
        return writing.report(session, &resource, &object, "created");
    }
    let namespace = namespace_for(session, &resource, &object)?;
    if resource.namespaced {
        object["metadata"]["namespace"] = Object::from(namespace.as_str());
    }
    let params = WriteParams { field_validation: validate.map(Into::into), ..writing.params() };
    let created = writing::create(session, &resource, &namespace, &object, &params).await;
    let created = created.map_err(|error| match doing {
        Some(doing) => Fault::when(error, doing),
        None => Fault::from(error),
    })?;
    writing.report(session, &resource, &created, "created")
}
