//! `image list --pushed` and `image rm`: the names that the cluster keeps.

use super::human_bytes;
use crate::fault::Fault;
use crate::output::tabs::Rows;
use crate::output::{self, Format};
use crate::session::Session;
use edge_api::Object;
use edge_client::Call;
use edge_client::query::escape;
use http::Method;

#[derive(Debug, clap::Args)]
pub(super) struct Rm {
    /// Names, as `image list --pushed` shows them
    #[arg(required = true)]
    name: Vec<String>,
}

/// The pushed images.
pub(super) async fn list(
    output: Option<&str>,
    no_headers: bool,
    session: &mut Session,
) -> Result<(), Fault> {
    let format = Format::parse(output)?;
    let client = session.client()?;
    let answer = client.call(&Call::get("/edged/v1/images")).await?.object;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    if !format.is_table() {
        let text = format.render(&output::list_of(items))?;
        return session.io.print(&text);
    }
    let mut rows: Vec<Vec<String>> = items.iter().map(row).collect();
    if !no_headers {
        rows.insert(0, ["IMAGE", "ID", "SIZE", "NODES"].map(str::to_string).to_vec());
    }
    let text = Rows::default().render(&rows);
    session.io.print(&text)
}

fn row(image: &Object) -> Vec<String> {
    let text = |key: &str| image[key].as_str().unwrap_or_default();
    let id: String = text("id").trim_start_matches("sha256:").chars().take(12).collect();
    let nodes = image["nodes"].as_array().into_iter().flatten();
    let nodes: Vec<&str> = nodes.filter_map(Object::as_str).collect();
    let nodes = if nodes.is_empty() { "<none>".to_string() } else { nodes.join(",") };
    vec![text("name").to_string(), id, human_bytes(image["bytes"].as_u64().unwrap_or(0)), nodes]
}

/// Takes names off the cluster.
pub(super) async fn remove(args: Rm, session: &mut Session) -> Result<(), Fault> {
    let client = session.client()?;
    let mut faults = Vec::new();
    for name in args.name {
        let full = complete(&name);
        let path = format!("/edged/v1/images/names?name={}", escape(&full));
        match client.call(&Call::new(Method::DELETE, path)).await {
            Ok(_) => session.io.line(format!("{full} removed"))?,
            Err(error) => faults.push(Fault::from(error)),
        }
    }
    session.io.flush()?;
    Fault::all(faults)
}

/// The complete form of a name, as boards keep it.
fn complete(name: &str) -> String {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let host = first.contains(['.', ':']) || first == "localhost";
    let with_host = match (host, first.is_empty()) {
        (true, _) => name.to_owned(),
        (false, true) => format!("docker.io/library/{rest}"),
        (false, false) => format!("docker.io/{name}"),
    };
    let last = with_host.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { with_host } else { format!("{with_host}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_completed_as_boards_do() {
        for (short, full) in [
            ("app", "docker.io/library/app:latest"),
            ("app:1", "docker.io/library/app:1"),
            ("me/app", "docker.io/me/app:latest"),
            ("board:5000/app:2", "board:5000/app:2"),
            ("example.org/a/b", "example.org/a/b:latest"),
        ] {
            assert_eq!(complete(short), full);
        }
    }

    #[test]
    fn a_row_names_the_boards() {
        let image = json!({ "name": "a:1", "id": "sha256:0123456789abcdef", "bytes": 1024,
            "nodes": ["x", "y"] });
        assert_eq!(row(&image), ["a:1", "0123456789ab", "1.0KiB", "x,y"]);
        assert_eq!(row(&json!({}))[3], "<none>");
    }
}
