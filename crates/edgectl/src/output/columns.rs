//! `-o custom-columns=NAME:.metadata.name,…`.

use super::jsonpath::{Template, relaxed};
use super::tabs::Rows;
use crate::fault::Fault;
use edge_api::Object;

/// A header and a path for each column.
#[derive(Debug)]
pub(crate) struct Columns {
    columns: Vec<(String, Template)>,
}

impl Columns {
    pub(crate) fn parse(spec: &str) -> Result<Columns, Fault> {
        let mut columns = Vec::new();
        for part in spec.split(',') {
            let (header, path) = part.split_once(':').filter(|(_, path)| !path.is_empty()).ok_or(
                Fault::Text(format!(
                    "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
                )),
            )?;
            columns.push((header.to_string(), Template::parse(&relaxed(path))?));
        }
        Ok(Columns { columns })
    }

    pub(crate) fn render(&self, object: &Object) -> Result<String, Fault> {
        let single = std::slice::from_ref(object);
        let items = object["items"].as_array().map_or(single, Vec::as_slice);
        let mut rows = vec![self.columns.iter().map(|(header, _)| header.clone()).collect()];
        for item in items {
            let mut row = Vec::new();
            for (_, path) in &self.columns {
                let values = path.values(item)?;
                let texts: Vec<String> = values.into_iter().map(cell).collect();
                row.push(if texts.is_empty() { "<none>".to_string() } else { texts.join(",") });
            }
            rows.push(row);
        }
        Ok(Rows::default().render(&rows))
    }
}

fn cell(value: &Object) -> String {
    match value {
        Object::Null => "<none>".to_string(),
        Object::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_row_for_each_item() {
        let columns = Columns::parse("NAME:.metadata.name,IMAGES:.spec.c[*].image,X:.x").unwrap();
        let list = json!({"items": [
            {"metadata": {"name": "a"}, "spec": {"c": [{"image": "i"}, {"image": "j"}]}},
            {"metadata": {"name": "b"}, "x": 3},
        ]});
        assert_eq!(
            columns.render(&list).unwrap(),
            "NAME   IMAGES   X\na      i,j      <none>\nb      <none>   3\n"
        );
        assert!(Columns::parse("NAME").is_err());
    }
}
