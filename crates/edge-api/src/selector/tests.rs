//! Selectors, with the cases of Kubernetes' documentation.

use super::*;
use crate::kinds;
use serde_json::json;

#[test]
fn string_form_matches() {
    let labels = json!({"app": "web", "tier": "front", "n": "5", "empty": ""});
    for (text, want) in [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        ("app = web , tier = front", true),
        ("app!=web", false),
        ("missing!=x", true),
        ("app in (web,api)", true),
        ("app in (api)", false),
        ("app notin (api,db)", true),
        ("missing notin (a)", true),
        ("app", true),
        ("missing", false),
        ("!missing", true),
        ("!app", false),
        ("empty=", true),
        ("app=", false),
        ("n>4", true),
        ("n>5", false),
        ("n<6", true),
        ("app>1", false),
        ("empty in (,x)", true),
    ] {
        let selector = LabelSelector::parse(text).expect(text);
        assert_eq!(selector.matches_labels(labels.as_object()), want, "{text}");
    }
}

#[test]
fn string_form_prints_in_order_of_keys() {
    for (text, want) in [
        ("tier in (b,a), app=web", "app=web,tier in (a,b)"),
        ("!x,y", "!x,y"),
        ("a notin (b)", "a!=b"),
        ("a notin (c,b)", "a notin (b,c)"),
    ] {
        assert_eq!(LabelSelector::parse(text).expect(text).to_string(), want);
    }
}

#[test]
fn string_form_refuses() {
    for text in
        ["a=b=c", "a in b", "a in (b", "=a", "a b", "a,", ",a", "a in ()", "-a", "a=-b", "!", "a>b"]
    {
        assert!(LabelSelector::parse(text).is_err(), "{text:?}");
    }
    let error = LabelSelector::parse("a b").expect_err("no operator").to_string();
    assert_eq!(
        error,
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
    );
}

#[test]
fn object_form() {
    let pod = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
    for (selector, want) in [
        (json!(null), false),
        (json!({}), true),
        (json!({"matchLabels": {"app": "web"}}), true),
        (json!({"matchLabels": {"app": "api"}}), false),
        (
            json!({"matchLabels": {"app": "web"}, "matchExpressions":
                [{"key": "tier", "operator": "In", "values": ["front", "back"]}]}),
            true,
        ),
        (json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), false),
        (json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["a"]}]}), true),
    ] {
        let parsed = LabelSelector::from_object(&selector).expect("selector");
        assert_eq!(parsed.matches(&pod), want, "{selector}");
    }
    for bad in [
        json!({"matchExpressions": [{"key": "x", "operator": "Is"}]}),
        json!({"matchExpressions": [{"key": "x", "operator": "In"}]}),
        json!({"matchExpressions": [{"key": "x", "operator": "Exists", "values": ["a"]}]}),
    ] {
        assert!(LabelSelector::from_object(&bad).is_err(), "{bad}");
    }
    assert!(!LabelSelector::from_labels(&json!({})).matches(&pod));
    assert!(LabelSelector::from_labels(&json!({"app": "web"})).matches(&pod));
}

#[test]
fn field_selectors() {
    let pod = json!({"metadata": {"name": "web", "namespace": "d"}, "spec": {"nodeName": "b1"},
                     "status": {"phase": "Running"}});
    for (text, want) in [
        ("", true),
        ("metadata.name=web", true),
        ("metadata.name==web,spec.nodeName=b1", true),
        ("status.phase!=Running", false),
        ("status.podIP=", true),
        ("spec.nodeName!=b2", true),
    ] {
        let selector = FieldSelector::parse_for(kinds::POD, text).expect(text);
        assert_eq!(selector.matches(kinds::POD, &pod), want, "{text}");
    }
    let error = FieldSelector::parse_for(kinds::POD, "spec.foo=1").expect_err("unknown field");
    assert_eq!(error.to_string(), "field label not supported: spec.foo");
    assert!(FieldSelector::parse("metadata.name").is_err());
    let escaped = FieldSelector::parse(r"metadata.name=a\,b\=c").expect("escaped");
    assert_eq!(escaped.exact("metadata.name"), Some("a,b=c"));
    assert_eq!(escaped.to_string(), r"metadata.name=a\,b\=c");
}
