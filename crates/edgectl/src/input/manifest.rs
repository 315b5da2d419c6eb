//! `-f`: a file, a directory, `-` for standard input; each object with the place it came from.

use super::yaml;
use crate::fault::Fault;
use crate::io::Io;
use edge_api::Object;
use std::path::{Path, PathBuf};

/// Files that a directory is searched for.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// An object and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) source: String,
    pub(crate) object: Object,
}

/// Reads everything that `-f` names, in order. Lists are taken apart.
pub(crate) fn read(names: &[String], recursive: bool, io: &mut Io) -> Result<Vec<Manifest>, Fault> {
    let mut found = Vec::new();
    for name in names {
        if name == "-" {
            let bytes = io.read_all()?;
            parse("STDIN", &bytes, &mut found)?;
        } else if name.starts_with("http://") || name.starts_with("https://") {
            return Err(Fault::text(format!(
                "{name}: manifests are read from files only; download it first, for example with \
                 `curl -L {name} | edgectl apply -f -`"
            )));
        } else {
            for path in files(Path::new(name), recursive)? {
                let read = std::fs::read(&path);
                let bytes =
                    read.map_err(|error| Fault::io(format!("read {}", path.display()), error))?;
                parse(&path.display().to_string(), &bytes, &mut found)?;
            }
        }
    }
    Ok(found)
}

/// The file itself, or the manifests of a directory in the order of their names.
fn files(path: &Path, recursive: bool) -> Result<Vec<PathBuf>, Fault> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Fault::text(format!("the path {:?} does not exist", path.display().to_string()))
        }
        _ => Fault::io(format!("read {}", path.display()), error),
    })?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let doing = |error| Fault::io(format!("read directory {}", path.display()), error);
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(doing)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(doing)?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        let extension = entry.extension().and_then(|ext| ext.to_str()).unwrap_or("");
        if entry.is_dir() {
            if recursive {
                found.extend(files(&entry, true)?);
            }
        } else if EXTENSIONS.contains(&extension) {
            found.push(entry);
        }
    }
    Ok(found)
}

fn parse(source: &str, bytes: &[u8], found: &mut Vec<Manifest>) -> Result<(), Fault> {
    let fault = |why: &str| Fault::text(format!("error parsing {source}: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        fault(&format!("line {line}: not UTF-8 text"))
    })?;
    let documents = yaml::documents(text).map_err(|why| fault(&why))?;
    let several = documents.len() > 1;
    for (n, object) in documents.into_iter().enumerate() {
        let place = if several { format!("document {}: ", n + 1) } else { String::new() };
        flatten(source, object, found).map_err(|why| fault(&format!("{place}{why}")))?;
    }
    Ok(())
}

/// Adds an object, or the items of a list.
fn flatten(source: &str, mut object: Object, found: &mut Vec<Manifest>) -> Result<(), String> {
    if !object.is_object() {
        return Err("not an object".to_string());
    }
    let kind = object["kind"].as_str().unwrap_or("").to_string();
    if kind.is_empty() {
        return Err("Object 'Kind' is missing".to_string());
    }
    if object["apiVersion"].as_str().unwrap_or("").is_empty() {
        return Err(format!("{kind}: 'apiVersion' is missing"));
    }
    if kind.ends_with("List") && object["items"].is_array() {
        if let Object::Array(items) = object["items"].take() {
            for item in items {
                flatten(source, item, found)?;
            }
        }
        return Ok(());
    }
    let metadata = &object["metadata"];
    let named = [&metadata["name"], &metadata["generateName"]];
    if !named.iter().any(|name| name.as_str().is_some_and(|name| !name.is_empty())) {
        return Err(format!("{kind}: metadata.name is missing"));
    }
    found.push(Manifest { source: source.to_string(), object });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Manifest>, String> {
        let mut found = Vec::new();
        match parse("app.yaml", text.as_bytes(), &mut found) {
            Ok(()) => Ok(found),
            Err(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn lists_are_taken_apart() {
        let text = "apiVersion: v1\nkind: List\nitems:\n\
                    - {apiVersion: v1, kind: Pod, metadata: {name: a}}\n\
                    - {apiVersion: v1, kind: Pod, metadata: {name: b}}\n";
        let found = parsed(text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].object["metadata"]["name"], "b");
        assert_eq!(found[1].source, "app.yaml");
    }

    #[test]
    fn mistakes_name_the_file_and_the_place() {
        assert_eq!(
            parsed("kind: Pod\n").unwrap_err(),
            "error: error parsing app.yaml: Pod: 'apiVersion' is missing"
        );
        let two = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nfoo: 1\n";
        assert_eq!(
            parsed(two).unwrap_err(),
            "error: error parsing app.yaml: document 2: Object 'Kind' is missing"
        );
        let bad = parsed("a: b: c\n").unwrap_err();
        assert!(bad.starts_with("error: error parsing app.yaml: line 1, column 5: "), "{bad}");
        let mut found = Vec::new();
        let binary = parse("x", b"a: 1\n\xff", &mut found).unwrap_err().to_string();
        assert_eq!(binary, "error: error parsing x: line 2: not UTF-8 text");
    }

    #[test]
    fn directories_are_read_in_order() {
        let dir = std::env::temp_dir().join(format!("edgectl-manifests-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        let pod = |name: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}}}");
        for (file, name) in [("b.yaml", "b"), ("a.yml", "a"), ("c.txt", "c"), ("sub/d.json", "d")] {
            std::fs::write(dir.join(file), pod(name)).unwrap();
        }
        let mut io = Io::over(std::io::sink(), std::io::sink(), std::io::empty());
        let names = |recursive, io: &mut Io| -> Vec<String> {
            let found = read(&[dir.display().to_string()], recursive, io).unwrap();
            let name = |m: Manifest| m.object["metadata"]["name"].as_str().unwrap().to_string();
            found.into_iter().map(name).collect()
        };
        assert_eq!(names(false, &mut io), ["a", "b"]);
        assert_eq!(names(true, &mut io), ["a", "b", "d"]);
        std::fs::remove_dir_all(&dir).unwrap();
        let gone = read(&["/no/such".to_string()], false, &mut io).unwrap_err().to_string();
        assert_eq!(gone, "error: the path \"/no/such\" does not exist");
        let url = read(&["https://x/y".to_string()], false, &mut io).unwrap_err().to_string();
        assert!(url.contains("download it first"), "{url}");
    }
}
