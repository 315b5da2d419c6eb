//! The table is whole, sorted, and what the `k8s-openapi` types say.

use super::*;
use crate::kinds;

mod derive;

#[test]
fn every_kind_and_every_reference_is_in_the_table() {
    fn check(ty: &Type) {
        match ty {
            Type::List(item) | Type::Map(item) => check(item),
            Type::Object(name) => assert!(definition(name).is_some(), "{name}"),
            _ => {}
        }
    }
    for definition in definitions() {
        definition.fields.iter().for_each(|field| check(&field.ty));
    }
    for kind in kinds::all() {
        assert!(definition(kind.schema).is_some(), "{}", kind.schema);
    }
    assert_eq!(
        definition("core.v1.Pod").map(Definition::openapi_name).as_deref(),
        Some("io.k8s.api.core.v1.Pod")
    );
}

#[test]
fn types_and_fields_are_sorted() {
    // They are found by binary search.
    assert!(definitions().is_sorted_by(|a, b| a.name < b.name));
    for definition in definitions() {
        let sorted = definition.fields.is_sorted_by(|a, b| a.name < b.name);
        assert!(sorted, "{}", definition.name);
    }
}
