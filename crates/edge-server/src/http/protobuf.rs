//! Reviews and requests for tokens in protobuf, which is what newer `kubectl` sends for them: read
//! into JSON by a table of the few messages they are made of. Answers are JSON, which those clients
//! take as well.

use edge_api::Object;
use edge_api::kinds::{self, Kind};
use edge_api::status::Status;
use serde_json::{Map, Value, json};

/// The media type.
pub(super) const MEDIA: &str = "application/vnd.kubernetes.protobuf";
/// What every such body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// What a field holds.
enum Holds {
    Text,
    Texts,
    Number,
    Message(&'static [Field]),
}

/// A field's number and its name in JSON.
type Field = (u64, &'static str, Holds);

use Holds::{Message, Number, Text, Texts};

/// `runtime.Unknown`, which every body is wrapped in.
const RAW: u64 = 2;
/// Metadata says nothing that the path doesn't, and nobody sends a status.
const SPEC: u64 = 2;

const RESOURCE: &[Field] = &[
    (1, "namespace", Text),
    (2, "verb", Text),
    (3, "group", Text),
    (4, "version", Text),
    (5, "resource", Text),
    (6, "subresource", Text),
    (7, "name", Text),
];
const PATH: &[Field] = &[(1, "path", Text), (2, "verb", Text)];
const ACCESS: &[Field] =
    &[(1, "resourceAttributes", Message(RESOURCE)), (2, "nonResourceAttributes", Message(PATH))];
const OTHERS_ACCESS: &[Field] = &[
    (1, "resourceAttributes", Message(RESOURCE)),
    (2, "nonResourceAttributes", Message(PATH)),
    (3, "user", Text),
    (4, "groups", Texts),
    (6, "uid", Text),
];
const RULES: &[Field] = &[(1, "namespace", Text)];
const TOKEN: &[Field] = &[(1, "token", Text), (2, "audiences", Texts)];
const BOUND: &[Field] =
    &[(1, "kind", Text), (2, "apiVersion", Text), (3, "name", Text), (4, "uid", Text)];
const REQUEST: &[Field] = &[
    (1, "audiences", Texts),
    (3, "boundObjectRef", Message(BOUND)),
    (4, "expirationSeconds", Number),
];

/// The fields of a kind's `spec`.
fn spec_of(kind: &Kind) -> &'static [Field] {
    if kind == kinds::TOKEN_REQUEST {
        REQUEST
    } else if kind == kinds::TOKEN_REVIEW {
        TOKEN
    } else if kind == kinds::SELF_SUBJECT_ACCESS_REVIEW {
        ACCESS
    } else if kind == kinds::SELF_SUBJECT_RULES_REVIEW {
        RULES
    } else if kind == kinds::SELF_SUBJECT_REVIEW {
        &[]
    } else {
        OTHERS_ACCESS
    }
}

/// Reads a body.
pub(super) fn read(bytes: &[u8], kind: &Kind) -> Result<Object, Status> {
    let whole = |bytes: &[u8]| {
        let mut raw = Reader(bytes.strip_prefix(MAGIC)?);
        let mut spec = json!({});
        while let Some((number, content)) = raw.field()? {
            let (RAW, Content::Bytes(message)) = (number, content) else { continue };
            let mut message = Reader(message);
            while let Some((number, content)) = message.field()? {
                if let (SPEC, Content::Bytes(bytes)) = (number, content) {
                    spec = fields(bytes, spec_of(kind))?;
                }
            }
        }
        Some(json!({ "metadata": {}, "spec": spec }))
    };
    whole(bytes)
        .ok_or_else(|| Status::bad_request(format!("the body is no {} in protobuf", kind.kind)))
}

/// What stands in a message of these fields; others are left out. `None`: it is damaged.
fn fields(bytes: &[u8], known: &'static [Field]) -> Option<Value> {
    let mut found = Map::new();
    let mut reader = Reader(bytes);
    while let Some((number, content)) = reader.field()? {
        let Some((_, name, holds)) = known.iter().find(|field| field.0 == number) else { continue };
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        match (holds, content) {
            (Text, Content::Bytes(bytes)) => {
                let text = text(bytes)?;
                if !text.is_empty() {
                    found.insert((*name).to_owned(), json!(text));
                }
            }
            (Texts, Content::Bytes(bytes)) => {
                let list = found.entry(*name).or_insert_with(|| json!([]));
                list.as_array_mut()?.push(json!(text(bytes)?));
            }
            (Number, Content::Number(number)) => {
                // Two's complement, as the wire has it.
                found.insert((*name).to_owned(), json!(number.cast_signed()));
            }
            (Message(known), Content::Bytes(bytes)) => {
                found.insert((*name).to_owned(), fields(bytes, known)?);
            }
            _ => return None,
        }
    }
    Some(Value::Object(found))
}

enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed size; nothing here has any.
    Other,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// The next field; `Some(None)` at the end, `None` for what is damaged.
    fn field(&mut self) -> Option<Option<(u64, Content<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.varint()?;
        let content = match key & 7 {
            0 => Content::Number(self.varint()?),
            1 => self.take(8).map(|_| Content::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Content::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Content::Other)?,
            _ => return None,
        };
        Some(Some((key >> 3, content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    #[test]
    fn a_request_for_a_token_is_read() {
        let bound = [part(1, b"Pod"), part(2, b"v1"), part(3, b"p")].concat();
        // 600 as a varint.
        let spec = [part(1, b"a"), part(1, b"b"), part(3, &bound), vec![4 << 3, 0xd8, 0x04]];
        let message = [part(1, b""), part(2, &spec.concat()), part(3, b"")].concat();
        let unknown = [part(1, b"typeMeta"), part(2, &message)].concat();
        let body = [MAGIC, &unknown].concat();
        let want = json!({ "audiences": ["a", "b"], "expirationSeconds": 600,
            "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "p" } });
        assert_eq!(read(&body, kinds::TOKEN_REQUEST).unwrap()["spec"], want);
        for cut in 1..body.len() {
            let _ = read(&body[..cut], kinds::TOKEN_REQUEST);
            let mut other = body.clone();
            other[cut] ^= 0x55;
            let _ = read(&other, kinds::SUBJECT_ACCESS_REVIEW);
        }
        assert!(read(b"{}", kinds::TOKEN_REQUEST).is_err());
        assert!(read(&[MAGIC, &[0x12, 0xff]].concat(), kinds::TOKEN_REQUEST).is_err());
    }
}
