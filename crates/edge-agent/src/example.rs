//! The example image: `edged webserver` is the program in it, `edged webserver --archive FILE`
//! makes it. `images/webserver` has its recipe.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use edge_node::images::{build, webserver};

/// Serves, or writes the image's archive; the exit status.
pub(crate) fn main(args: &[OsString]) -> i32 {
    match args {
        [] => webserver::main(),
        [flag, path] if flag == "--archive" => match write(Path::new(path)) {
            Ok(name) => {
                println!("{name}");
                0
            }
            Err(error) => {
                eprintln!("edged webserver: write {}: {error}", Path::new(path).display());
                1
            }
        },
        _ => {
            eprintln!("usage: edged webserver [--archive FILE]");
            64
        }
    }
}

fn write(path: &Path) -> Result<String, String> {
    let mut file = File::create(path).map_err(|e| e.to_string())?;
    let name = build::webserver(&mut file).map_err(|e| e.to_string())?;
    file.flush().map_err(|e| e.to_string())?;
    Ok(name)
}
