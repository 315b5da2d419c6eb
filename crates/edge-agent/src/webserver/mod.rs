//! The example that the demo and the tests run: a static web server that says which replica
//! answers. It is this same file, so that the example needs no compiler, registry or network;
//! `images/webserver` has the recipe of its image.

pub(crate) mod archive;
mod serve;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

/// The reference under which the example's image is loaded.
pub(crate) const IMAGE: &str = "edged/webserver:1";

#[derive(Parser)]
#[command(
    name = "edged webserver",
    about = "The example's web server",
    disable_version_flag = true
)]
struct Arguments {
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// Write the example's image, an OCI archive, to FILE instead of serving
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
}

/// Serves, or makes the image. Returns the exit status.
pub(crate) fn main(args: &[OsString]) -> i32 {
    let named = std::iter::once("edged webserver".into()).chain(args.iter().cloned());
    let arguments = match Arguments::try_parse_from(named) {
        Ok(arguments) => arguments,
        Err(error) => {
            // A reader that has gone away is no reason to fail differently.
            let _ = error.print();
            return i32::from(error.use_stderr()) * 64;
        }
    };
    let done = match &arguments.archive {
        Some(path) => archive::webserver(IMAGE)
            .and_then(|bytes| std::fs::write(path, bytes))
            .map_err(|error| format!("write {}: {error}", path.display())),
        None => serve::run(arguments.port)
            .map_err(|error| format!("listen on port {}: {error}", arguments.port)),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("edged webserver: {error}");
            1
        }
    }
}
