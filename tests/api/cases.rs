//! One request, one answer: a table of what clients send and the code and words they get.

use serde_json::json;

use super::{Lab, MAPS, config_map, deployment};

/// Method, path, content type, body, code, and words that must be in the answer.
type Case<'a> = (&'a str, &'a str, &'a str, String, u16, &'a str);

const JSON: &str = "application/json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

async fn run(lab: &Lab, cases: &[Case<'_>]) {
    for (method, path, media, body, code, words) in cases {
        let headers = if media.is_empty() { vec![] } else { vec![("content-type", *media)] };
        let answer = lab.ask(method, path, &headers, body).await;
        let shown = &answer.text[..answer.text.len().min(600)];
        assert_eq!(answer.code, *code, "{method} {path}: {shown}");
        let text = answer.text.replace("\\\"", "'").replace('"', "'");
        assert!(text.contains(words), "{method} {path}: {words:?} is not in {text}");
        if *code >= 400 && answer.text.starts_with('{') {
            assert_eq!(answer.json()["kind"], "Status", "{method} {path}");
            assert_eq!(answer.json()["code"], *code, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn paths_and_methods() {
    let lab = Lab::start().await;
    let none = String::new;
    let missing = "the server could not find the requested resource";
    let method = "the server does not allow this method on the requested resource";
    run(
        &lab,
        &[
            ("GET", "/nothing", "", none(), 404, missing),
            ("GET", "/api/v2/pods", "", none(), 404, missing),
            ("GET", "/apis/none.io", "", none(), 404, missing),
            ("GET", "/apis/apps/v1/widgets", "", none(), 404, missing),
            ("GET", "/api/v1/namespaces/default/pods/x/nonsense", "", none(), 404, missing),
            ("GET", "/api/v1/namespaces/default/nodes", "", none(), 404, missing),
            ("GET", "/api/v1/namespaces/a/pods/b/log/c", "", none(), 404, missing),
            ("POST", "/api/v1/namespaces/default/pods/x", JSON, none(), 405, method),
            ("PUT", MAPS, JSON, none(), 405, method),
            ("BREW", MAPS, "", none(), 405, method),
            ("POST", "/version", JSON, none(), 405, method),
            ("POST", "/api/v1/configmaps", JSON, config_map("a", "b").to_string(), 405, method),
            ("GET", "/livez", "", none(), 200, "ok"),
            ("GET", "/readyz?verbose", "", none(), 200, "[+]store ok"),
            ("GET", "/healthz/ping", "", none(), 200, "ok"),
            ("GET", "/readyz/nothing", "", none(), 404, "404 page not found"),
            ("GET", "/version", "", none(), 200, "v1.33.0+edged"),
            ("GET", "/metrics", "", none(), 200, "edged_store_revision "),
            ("GET", "/api/v1/namespaces/none", "", none(), 404, "namespaces 'none' not found"),
            (
                "GET",
                "/apis/apps/v1/namespaces/default/deployments/none",
                "",
                none(),
                404,
                "deployments.apps 'none' not found",
            ),
        ],
    )
    .await;
    lab.end().await;
}

#[tokio::test]
async fn bodies() {
    let lab = Lab::start().await;
    let map = |name: &str| config_map(name, "v").to_string();
    let big = config_map("big", &"x".repeat(3 * 1024 * 1024)).to_string();
    let medium = config_map("medium", &"x".repeat(2 * 1024 * 1024)).to_string();
    let elsewhere = json!({"metadata": {"name": "a", "namespace": "other"}}).to_string();
    let yaml = "metadata:\n  name: from-yaml\ndata:\n  a: b\n".to_owned();
    let named = |version: &str, kind: &str| {
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}).to_string()
    };
    let protobuf = "application/vnd.kubernetes.protobuf";
    run(
        &lab,
        &[
            ("POST", MAPS, JSON, map("a"), 201, "'resourceVersion':"),
            ("POST", MAPS, JSON, map("a"), 409, "configmaps 'a' already exists"),
            ("POST", MAPS, "application/yaml", yaml, 201, "'from-yaml'"),
            ("POST", MAPS, "application/yaml", "a: [".to_owned(), 400, "error converting YAML"),
            ("POST", MAPS, protobuf, "k8s\0".to_owned(), 415, "protobuf is not read here"),
            ("POST", MAPS, "text/html", map("b"), 415, "accepted media types include"),
            ("POST", MAPS, JSON, "{".to_owned(), 400, "json parse error"),
            ("POST", MAPS, JSON, "[]".to_owned(), 400, "must be of type ConfigMap"),
            ("POST", MAPS, JSON, big, 413, "Request entity too large: limit is 3145728"),
            ("POST", MAPS, JSON, medium, 422, "may not be more than 1048576 bytes"),
            ("POST", MAPS, JSON, elsewhere, 400, "the namespace of the provided object does not"),
            ("POST", MAPS, JSON, named("v1", "Pod"), 400, "Pod in version"),
            ("POST", MAPS, JSON, named("v2", "ConfigMap"), 400, "the API version in the data (v2)"),
            ("POST", MAPS, JSON, "{}".to_owned(), 422, "name or generateName is required"),
            (
                "POST",
                "/api/v1/namespaces/none/configmaps",
                JSON,
                map("a"),
                404,
                "namespaces 'none' not found",
            ),
            (
                "PUT",
                &format!("{MAPS}/b"),
                JSON,
                map("a"),
                400,
                "the name of the object (a) does not match the name on the URL (b)",
            ),
            ("PUT", &format!("{MAPS}/b"), JSON, map("b"), 404, "configmaps 'b' not found"),
        ],
    )
    .await;
    lab.end().await;
}

#[tokio::test]
async fn queries() {
    let lab = Lab::start().await;
    let none = String::new;
    let body = || config_map("dry", "v").to_string();
    let at = |query: &str| format!("{MAPS}?{query}");
    let cases = [
        ("GET", at("limit=x"), none(), 400, "invalid value 'x' for the parameter limit"),
        ("GET", at("watch=perhaps"), none(), 400, "for the parameter watch"),
        ("GET", at("labelSelector=a%20b%20c"), none(), 400, "unable to parse requirement"),
        ("GET", at("fieldSelector=spec.x%3Dy"), none(), 400, "field label not supported: spec.x"),
        ("GET", at("resourceVersion=x"), none(), 400, "resourceVersion: Invalid value"),
        ("GET", at("resourceVersion=99999999"), none(), 504, "Too large resource version"),
        ("GET", at("resourceVersionMatch=Exact"), none(), 400, "unless resourceVersion is"),
        ("GET", at("continue=zzz"), none(), 400, "continue key is not valid"),
        ("GET", at("resourceVersion=1&resourceVersionMatch=Near"), none(), 400, "Unsupported"),
        ("POST", at("dryRun=Some"), body(), 400, "dryRun: Unsupported value"),
        ("POST", at("dryRun=All"), body(), 201, "'dry'"),
        ("POST", at("fieldValidation=Hard"), body(), 400, "fieldValidation: Unsupported value"),
        ("GET", format!("{MAPS}/dry"), none(), 404, "not found"),
        ("DELETE", format!("{MAPS}/x?propagationPolicy=Up"), none(), 400, "propagationPolicy"),
        ("DELETE", format!("{MAPS}/x"), none(), 404, "configmaps 'x' not found"),
    ];
    for (method, path, body, code, words) in cases {
        run(&lab, &[(method, &path, JSON, body, code, words)]).await;
    }
    lab.end().await;
}

#[tokio::test]
async fn forms_of_answers() {
    let lab = Lab::start().await;
    lab.create(MAPS, &config_map("a", "v")).await;
    let path = format!("{MAPS}/a");
    let accept = |value: &'static str| [("accept", value)];
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let answer = lab.ask("GET", MAPS, &accept(table), "").await.json();
    assert_eq!(answer["kind"], "Table");
    assert_eq!(answer["columnDefinitions"][0]["name"], "Name");
    assert_eq!(answer["rows"][0]["cells"][0], "a");
    assert_eq!(answer["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = format!("{path}?includeObject=Object");
    let answer = lab.ask("GET", &whole, &accept(table), "").await.json();
    assert_eq!(answer["rows"][0]["object"]["data"]["key"], "v");
    let metadata = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let answer = lab.ask("GET", &path, &accept(metadata), "").await.json();
    assert_eq!(answer["kind"], "PartialObjectMetadata");
    assert_eq!(answer.get("data"), None);
    let list = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let answer = lab.ask("GET", MAPS, &accept(list), "").await.json();
    assert_eq!(answer["kind"], "PartialObjectMetadataList");
    let answer = lab.ask("GET", &path, &accept("application/yaml"), "").await;
    assert!(answer.text.contains("key: v"), "{}", answer.text);
    let answer = lab.ask("GET", &path, &accept("application/vnd.kubernetes.protobuf"), "").await;
    assert_eq!(answer.code, 406);
    let answer = lab.ask("HEAD", &path, &[], "").await;
    assert_eq!((answer.code, answer.text.as_str()), (200, ""));
    lab.end().await;
}

#[tokio::test]
async fn unknown_fields_warn_or_fail() {
    let lab = Lab::start().await;
    let mut body = deployment("web", 1);
    body["spec"]["replicsa"] = json!(2);
    let path = super::DEPLOYMENTS;
    let strict = format!("{path}?fieldValidation=Strict");
    let answer = lab.send("POST", &strict, &body).await;
    assert_eq!(answer.code, 400);
    assert_eq!(
        answer.message(),
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
         unknown field \"spec.replicsa\""
    );
    let doubled = body.to_string().replace("\"replicsa\":2", "\"paused\":true,\"paused\":false");
    let headers = [("content-type", JSON)];
    let answer = lab.ask("POST", &strict, &headers, &doubled).await;
    assert!(answer.message().contains("duplicate field \"spec.paused\""), "{}", answer.text);
    let answer = lab.send("POST", path, &body).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    assert_eq!(answer.warnings(), ["299 - \"unknown field \\\"spec.replicsa\\\"\""]);
    let patch = json!({"spec": {"nonsense": 1}}).to_string();
    let target = format!("{path}/web?fieldValidation=Strict");
    let answer = lab.ask("PATCH", &target, &[("content-type", STRATEGIC)], &patch).await;
    assert_eq!(answer.code, 400, "{}", answer.text);
    lab.end().await;
}
