//! Discovery against golden files: what clients learn about the API changes only on purpose. Run
//! with `UPDATE_GOLDEN=1` to write the files anew.

use serde_json::Value;

use super::Lab;

fn check(name: &str, found: &Value) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/api/golden");
    let path = std::path::Path::new(dir).join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(found).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, want, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
}

#[tokio::test]
async fn documents_are_as_they_were() {
    let lab = Lab::start().await;
    for (name, path) in [
        ("root", "/"),
        ("apis", "/apis"),
        ("apps", "/apis/apps"),
        ("core-v1", "/api/v1"),
        ("apps-v1", "/apis/apps/v1"),
    ] {
        let answer = lab.get(path).await;
        assert_eq!(answer.code, 200, "{path}");
        check(name, &answer.json());
    }
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (name, path) in [("aggregated-api", "/api"), ("aggregated-apis", "/apis")] {
        let answer = lab.ask("GET", path, &[("accept", v2)], "").await;
        assert_eq!(answer.headers["content-type"], v2);
        check(name, &answer.json());
        let beta = v2.replace("v=v2", "v=v2beta1");
        let old = lab.ask("GET", path, &[("accept", &beta)], "").await.json();
        assert_eq!(old["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        assert_eq!(old["items"], answer.json()["items"]);
    }
    let versions = lab.get("/api").await.json();
    assert_eq!(versions["versions"], serde_json::json!(["v1"]));
    lab.end().await;
}

#[tokio::test]
async fn schemas_are_whole() {
    let lab = Lab::start().await;
    let index = lab.get("/openapi/v3").await.json();
    for (path, entry) in index["paths"].as_object().unwrap() {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let answer = lab.get(url).await;
        // A document that is named by its content may be kept.
        assert!(answer.headers["cache-control"].to_str().unwrap().contains("immutable"), "{url}");
        let document = answer.json();
        assert_eq!(document["openapi"], "3.0.0", "{path}");
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        // Every reference leads somewhere.
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{path}: {name}");
        }
        for operations in document["paths"].as_object().unwrap().values() {
            // Reviews are asked only.
            let asked = operations.get("get").unwrap_or(&operations["post"]);
            let of = &asked["x-kubernetes-group-version-kind"];
            assert!(of["kind"].is_string(), "{path}: {of}");
        }
    }
    assert!(index["paths"]["apis/apps/v1"].is_object(), "{index}");
    lab.end().await;
}
