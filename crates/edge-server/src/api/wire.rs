//! Objects as bytes. The stored bytes are the bytes on the wire, so the revision, which is known
//! only once a write is applied, is inserted at an offset that is recorded while writing.

use bytes::Bytes;
use edge_api::Object;
use edge_api::status::Status;
use edge_store::Revision;
use std::io::Write;

/// The largest object that is kept; a request's body has the same limit.
pub(crate) const MAX_OBJECT: usize = 3 * 1024 * 1024;

/// An object written with an empty `resourceVersion`, and where that is.
#[derive(Debug, Clone)]
pub(crate) struct Unstamped {
    bytes: Bytes,
    at: u32,
}

impl Unstamped {
    /// Writes an object; its own `resourceVersion`, if any, is left out.
    pub(crate) fn write(object: &Object) -> Result<Unstamped, Status> {
        let mut out = Vec::with_capacity(1024);
        let at = write_object(&mut out, object).map_err(Status::internal)?;
        if out.len() > MAX_OBJECT {
            return Err(Status::too_large(MAX_OBJECT));
        }
        let at = at.ok_or_else(|| Status::internal("an object without metadata was written"))?;
        let at = u32::try_from(at).map_err(Status::internal)?;
        Ok(Unstamped { bytes: out.into(), at })
    }

    /// The bytes to propose, and the offset at which the store inserts the revision.
    pub(crate) fn parts(&self) -> (Bytes, u32) {
        (self.bytes.clone(), self.at)
    }

    /// The bytes as they are kept at this revision.
    pub(crate) fn at(&self, revision: Revision) -> Bytes {
        edge_store::stamp(&self.bytes, self.at, revision)
    }
}

/// Writes the object with an empty revision and returns the offset between its quotes.
fn write_object(out: &mut Vec<u8>, object: &Object) -> serde_json::Result<Option<usize>> {
    let mut at = None;
    let Some(map) = object.as_object() else { return Ok(None) };
    let mut seam = b'{';
    for (key, value) in map {
        out.push(seam);
        seam = b',';
        serde_json::to_writer(&mut *out, key)?;
        out.push(b':');
        match value.as_object() {
            Some(metadata) if key == "metadata" => {
                out.extend_from_slice(b"{\"resourceVersion\":\"");
                at = Some(out.len());
                out.push(b'"');
                for (key, value) in metadata.iter().filter(|(key, _)| *key != "resourceVersion") {
                    out.push(b',');
                    serde_json::to_writer(&mut *out, key)?;
                    out.push(b':');
                    serde_json::to_writer(&mut *out, value)?;
                }
                out.push(b'}');
            }
            _ => serde_json::to_writer(&mut *out, value)?,
        }
    }
    if map.is_empty() {
        out.push(b'{');
    }
    out.write_all(b"}").map_err(serde_json::Error::io)?;
    Ok(at)
}

/// Reads stored bytes; they were checked when they came in.
pub(crate) fn read(bytes: &[u8]) -> Result<Object, Status> {
    serde_json::from_slice(bytes)
        .map_err(|e| Status::internal(format!("read a stored object: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_revision_lands_in_the_metadata_and_nowhere_else() {
        let object = json!({
            "apiVersion": "v1",
            "data": {"resourceVersion": "", "metadata": "x"},
            "kind": "ConfigMap",
            "metadata": {"annotations": {"resourceVersion": "\"\""}, "name": "a",
                         "resourceVersion": "7"},
        });
        let written = Unstamped::write(&object).unwrap();
        let back = read(&written.at(42)).unwrap();
        let mut want = object;
        want["metadata"]["resourceVersion"] = json!("42");
        assert_eq!(back, want);
        let (bytes, at) = written.parts();
        assert_eq!(&bytes[at as usize - 1..at as usize + 1], b"\"\"");
    }

    #[test]
    fn objects_over_the_limit_are_refused() {
        let object = json!({"metadata": {"name": "a"}, "data": "x".repeat(MAX_OBJECT)});
        assert_eq!(Unstamped::write(&object).unwrap_err().code, 413);
        assert!(Unstamped::write(&json!({})).is_err());
    }
}
