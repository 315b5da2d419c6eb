//! `edit`: an object in the person's editor, written back when they leave it.

use crate::fault::Fault;
use crate::input::yaml;
use crate::output;
use crate::session::Session;
use crate::targets::{Target, one};
use crate::writing;
use edge_client::{Call, WriteParams};
use http::Method;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

const HINT: &str = "\
# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit.
#
";

/// Change an object in an editor
#[derive(Debug, clap::Args)]
pub(crate) struct Edit {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
}

/// A file that is gone when the edit is over, but kept when it failed.
struct Draft {
    path: PathBuf,
    keep: bool,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

pub(crate) async fn run(args: Edit, session: &mut Session) -> Result<(), Fault> {
    let target = one(session, &args.words).await?;
    let mut object = target.read(session).await?;
    output::tidy(&mut object);
    let original = format!("{HINT}{}", output::yaml::write(&object));
    let mut draft = write(&target, &original)?;
    session.io.flush()?;
    open_editor(&draft.path)?;
    let shown = draft.path.display().to_string();
    let edited = std::fs::read_to_string(&draft.path)
        .map_err(|error| Fault::io(format!("read {shown}"), error))?;
    let documents = match yaml::documents(&edited) {
        Ok(documents) => documents,
        Err(why) => {
            draft.keep = true;
            return Err(Fault::text(format!("{why}; your changes are kept in {shown}")));
        }
    };
    let Some(changed) = documents.into_iter().next() else {
        session.io.say("Edit cancelled, saved file was empty.");
        return Ok(());
    };
    if changed == object {
        session.io.say("Edit cancelled, no changes made.");
        return Ok(());
    }
    let params =
        WriteParams { field_manager: Some(writing::MANAGER.to_string()), ..WriteParams::default() };
    let path = params.query().on(&target.path(None));
    let call = Call::new(Method::PUT, path).json(&changed);
    if let Err(error) = writing::send(session, &call).await {
        draft.keep = true;
        session.io.say(Fault::from(error));
        return Err(Fault::text(format!("your changes are kept in {shown}")));
    }
    session.io.line(format!("{} edited", target.reference()))
}

fn write(target: &Target, text: &str) -> Result<Draft, Fault> {
    let name = format!(
        "edgectl-edit-{}-{}-{}.yaml",
        target.resource.singular,
        target.name,
        std::process::id()
    );
    let path = std::env::temp_dir().join(name);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // It may be a Secret.
        options.mode(0o600);
    }
    let fault = |error| Fault::io(format!("write {}", path.display()), error);
    let mut file = options.open(&path).map_err(fault)?;
    file.write_all(text.as_bytes()).map_err(fault)?;
    Ok(Draft { path, keep: false })
}

fn open_editor(path: &std::path::Path) -> Result<(), Fault> {
    let named =
        ["KUBE_EDITOR", "VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok());
    let line = named.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "vi".to_string());
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status =
        Command::new(program).args(words).arg(path).status().map_err(|error| {
            Fault::io(format!("start the editor {program:?} (set EDITOR)"), error)
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(Fault::text(format!("there was a problem with the editor {line:?}: {status}")))
    }
}
