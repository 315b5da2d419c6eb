//! What all commands that write share: dry runs, validation, and saying what was done.

use crate::fault::Fault;
use crate::output::{self, Format};
use crate::resource::Resource;
use crate::session::Session;
use edge_api::Object;
use edge_client::{Answer, Call, FieldValidation, PatchType, WriteParams};
use http::Method;

/// Who writes, in `managedFields`.
pub(crate) const MANAGER: &str = "edgectl";

/// How far a dry run goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DryRun {
    /// No dry run.
    #[default]
    None,
    /// Nothing is sent.
    Client,
    /// The server checks, and stores nothing.
    Server,
}

/// What is done about unknown fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Validate {
    /// They are refused.
    #[value(alias = "true")]
    Strict,
    /// They are dropped with a warning.
    #[default]
    Warn,
    /// They are dropped.
    #[value(alias = "false")]
    Ignore,
}

/// The flags of commands that write.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Writing {
    /// Say what would be done: `client` sends nothing, `server` lets the server check
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client",
          num_args = 0..=1, require_equals = true)]
    pub(crate) dry_run: DryRun,
    /// name, yaml, json, jsonpath=TEMPLATE, …
    #[arg(short, long)]
    pub(crate) output: Option<String>,
}

impl Writing {
    /// The parameters of the request.
    pub(crate) fn params(&self) -> WriteParams {
        WriteParams {
            dry_run: self.dry_run == DryRun::Server,
            field_manager: Some(MANAGER.to_string()),
            field_validation: None,
        }
    }

    /// Whether nothing may be sent.
    pub(crate) fn is_local(&self) -> bool {
        self.dry_run == DryRun::Client
    }

    /// `deployment.apps/web created`, or the object in the format that was asked for.
    pub(crate) fn report(
        &self,
        session: &mut Session,
        resource: &Resource,
        object: &Object,
        done: &str,
    ) -> Result<(), Fault> {
        let format = Format::parse(self.output.as_deref())?;
        if !format.is_table() {
            let mut object = object.clone();
            output::tidy(&mut object);
            let text = format.render(&object)?;
            return session.io.print(&text);
        }
        let name = object["metadata"]["name"].as_str().unwrap_or("");
        let suffix = self.suffix();
        session.io.line(format!("{} {done}{suffix}", output::name_of(resource, name)))
    }

    /// ` (dry run)`, ` (server dry run)`, or nothing.
    pub(crate) fn suffix(&self) -> &'static str {
        match self.dry_run {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}

impl From<Validate> for FieldValidation {
    fn from(validate: Validate) -> FieldValidation {
        match validate {
            Validate::Strict => FieldValidation::Strict,
            Validate::Warn => FieldValidation::Warn,
            Validate::Ignore => FieldValidation::Ignore,
        }
    }
}

/// Sends a call and passes the server's warnings on.
pub(crate) async fn send(session: &mut Session, call: &Call) -> Result<Answer, edge_client::Error> {
    let client = match session.client() {
        Ok(client) => client,
        Err(fault) => {
            let message = fault.to_string();
            return Err(edge_client::Error::Protocol { operation: "connect".into(), message });
        }
    };
    let answer = client.call(call).await?;
    for warning in &answer.warnings {
        session.io.say(format!("Warning: {warning}"));
    }
    Ok(answer)
}

/// Creates an object.
pub(crate) async fn create(
    session: &mut Session,
    resource: &Resource,
    namespace: &str,
    object: &Object,
    params: &WriteParams,
) -> Result<Object, edge_client::Error> {
    let path = params.query().on(&resource.path(namespace, "", None));
    Ok(send(session, &Call::new(Method::POST, path).json(object)).await?.object)
}

/// Patches an object, or a subresource, by its path.
pub(crate) async fn patch(
    session: &mut Session,
    path: &str,
    patch_type: PatchType,
    patch: &Object,
    params: &WriteParams,
) -> Result<Object, edge_client::Error> {
    let mut call = Call::new(Method::PATCH, params.query().on(path)).json(patch);
    call.content_type = patch_type.content_type();
    Ok(send(session, &call).await?.object)
}
