//! Stand-ins until the registry's rows carry validation and tables of their own; its methods take
//! precedence over these as soon as they are there.

use edge_api::Object;
use edge_api::field::FieldError;
use edge_api::kinds::Kind;
use edge_api::meta;
use serde_json::{Value, json};

/// See above.
pub(crate) trait Pending {
    /// No complaints.
    fn validate(&self, _new: &Object, _old: Option<&Object>) -> Vec<FieldError> {
        Vec::new()
    }

    /// Name and time of creation.
    fn row(&self, object: &Object, _now: jiff::Timestamp) -> Vec<Value> {
        vec![json!(meta::name(object)), json!(meta::creation_timestamp(object))]
    }

    /// The columns of that.
    fn column_definitions(&self) -> Value {
        let column = |name: &str, format: &str| json!({ "name": name, "type": "string", "format": format, "description": "", "priority": 0 });
        json!([column("Name", "name"), column("Created At", "date-time")])
    }
}

impl Pending for Kind {}
