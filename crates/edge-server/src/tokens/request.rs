//! `serviceaccounts/<name>/token`: what is asked for, and the token that comes of it.

use super::Tokens;
use super::claims::{Claims, Named, Private, user};
use crate::api::{Api, Place};
use crate::auth::Identity;
use edge_api::field::{Errors, Path};
use edge_api::kinds::{self, TOKEN_REQUEST};
use edge_api::status::{Reason, Status};
use edge_api::{Object, meta, time};
use serde_json::{Value, json};

/// Seconds that a token lives for when nobody says.
const USUAL: i64 = 3600;
/// Fewer are refused.
const SHORTEST: i64 = 600;
/// More are cut to this.
const LONGEST: i64 = 365 * 24 * 3600;
/// What the volumes that admission adds ask for. Programs that read their token once and never
/// again would fail after it, so such a token lives for [`LONGEST`] and says when it should have
/// been read again; it ends with its pod anyway. As in Kubernetes.
pub(crate) const MOUNTED: i64 = 3607;

/// A request for a token, read and checked.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// Who asks.
    pub(crate) who: &'a Identity,
    /// The account's namespace.
    pub(crate) namespace: &'a str,
    /// The account's name.
    pub(crate) name: &'a str,
    /// The `TokenRequest`.
    pub(crate) body: Object,
}

/// What a token is bound to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Bound {
    node: Option<Named>,
    pod: Option<Named>,
    secret: Option<Named>,
}

fn named(object: &Object) -> Named {
    Named { name: meta::name(object).to_owned(), uid: meta::uid(object).to_owned() }
}

impl Tokens {
    /// Issues a token; the request with its answer in it, and what the caller should be told.
    pub(crate) fn issue(&self, wanted: Wanted<'_>) -> Result<(Object, Option<String>), Status> {
        let Wanted { who, namespace, name, mut body } = wanted;
        check_names(&body, namespace, name)?;
        let account = self.api.object(Place::new(kinds::SERVICE_ACCOUNT, namespace, name))?;
        let asked = self.settle(&mut body)?;
        let seconds = asked.min(LONGEST);
        let warning = (seconds < asked).then(|| {
            format!("requested expiration of {asked} seconds shortened to {seconds} seconds")
        });
        let spec = &body["spec"];
        let audiences: Vec<String> = texts(&spec["audiences"]);
        let bound = bind(&self.api, namespace, name, &spec["boundObjectRef"])?;
        if let Some(board) = who.node() {
            self.for_board(board, namespace, &bound, &audiences)
                .map_err(|why| Status::forbidden(kinds::SERVICE_ACCOUNT, name, &why))?;
        }
        let now = self.now();
        let mounted = bound.pod.is_some() && seconds == MOUNTED && audiences == [self.audience()];
        let Bound { node, pod, secret } = bound;
        let claims = Claims {
            aud: audiences,
            exp: now + if mounted { LONGEST } else { seconds },
            iat: now,
            iss: self.issuer.to_string(),
            jti: self.api.uid(),
            private: Private {
                namespace: namespace.to_owned(),
                node,
                pod,
                secret,
                serviceaccount: named(&account),
                warnafter: mounted.then_some(now + seconds),
            },
            nbf: now,
            sub: user(namespace, name),
        };
        let token = self.ring()?.sign(&claims).map_err(Status::internal)?;
        body["apiVersion"] = json!(TOKEN_REQUEST.api_version());
        body["kind"] = json!(TOKEN_REQUEST.kind);
        body["spec"]["expirationSeconds"] = json!(seconds);
        meta::set(&mut body, "name", name);
        meta::set(&mut body, "namespace", namespace);
        meta::set(&mut body, "creationTimestamp", time::format(now * 1000));
        let end = time::format((now + seconds) * 1000);
        body["status"] = json!({ "token": token, "expirationTimestamp": end });
        Ok((body, warning))
    }

    /// Writes the defaults into a request and checks it; the seconds that are asked for.
    fn settle(&self, body: &mut Object) -> Result<i64, Status> {
        let spec = meta::ensure(body, "spec");
        if spec.get("audiences").is_none_or(|list| texts(list).is_empty()) {
            spec.insert("audiences".to_owned(), json!([self.audience()]));
        }
        let given = spec.get("expirationSeconds").and_then(Value::as_i64);
        let seconds = given.unwrap_or(USUAL);
        let mut errors = Errors::new();
        let path = Path::new("spec");
        let path = path.child("expirationSeconds");
        if seconds < SHORTEST {
            let detail = "may not specify a duration less than 10 minutes";
            errors.invalid(&path, seconds, detail);
        }
        if seconds > 1 << 32 {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.invalid(&path, seconds, detail);
        }
        let errors = errors.into_vec();
        match errors.is_empty() {
            true => Ok(seconds),
            false => Err(Status::invalid(TOKEN_REQUEST, "", &errors)),
        }
    }

    /// A board gets tokens for the pods that it runs, for those whom the pods' volumes name.
    fn for_board(
        &self,
        board: &str,
        namespace: &str,
        bound: &Bound,
        audiences: &[String],
    ) -> Result<(), String> {
        let Some(pod) = &bound.pod else {
            return Err("node requested token not bound to a pod".to_owned());
        };
        let pod = self.api.object(Place::new(kinds::POD, namespace, &pod.name));
        let pod = pod.map_err(|status| status.message)?;
        if pod["spec"]["nodeName"] != *board {
            return Err("node requested token bound to a pod scheduled on a different node".into());
        }
        let api = self.audience();
        for audience in audiences {
            let named = projected(&pod)
                .any(|source| source["audience"].as_str().unwrap_or_default() == audience);
            if *audience != api && !named {
                return Err(format!("audience {audience:?} not found in pod spec volume"));
            }
        }
        Ok(())
    }
}

/// The sources of tokens that a pod's volumes have.
fn projected(pod: &Object) -> impl Iterator<Item = &Value> {
    fn list(value: &Value) -> impl Iterator<Item = &Value> {
        value.as_array().into_iter().flatten()
    }
    list(&pod["spec"]["volumes"])
        .flat_map(|volume| list(&volume["projected"]["sources"]))
        .map(|source| &source["serviceAccountToken"])
        .filter(|source| source.is_object())
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// What the body says of its place must be the path's.
fn check_names(body: &Object, namespace: &str, name: &str) -> Result<(), Status> {
    let (given, of) = (meta::name(body), meta::namespace(body));
    if !of.is_empty() && of != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if !given.is_empty() && given != name {
        return Err(Status::bad_request(format!(
            "name in URL does not match name in token request: {name:?} and {given:?}"
        )));
    }
    Ok(())
}

/// Looks up what a token is to be bound to.
fn bind(api: &Api, namespace: &str, name: &str, wanted: &Value) -> Result<Bound, Status> {
    let mut bound = Bound::default();
    if wanted.is_null() {
        return Ok(bound);
    }
    let text = |field: &str| wanted[field].as_str().unwrap_or_default();
    let kind = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => kinds::POD,
        ("v1", "Secret") => kinds::SECRET,
        ("v1", "Node") => kinds::NODE,
        (version, kind) => {
            let what = format!("{version}, Kind={kind}");
            return Err(Status::bad_request(format!("cannot bind token to object of type {what}")));
        }
    };
    let namespace = if kind.namespaced { namespace } else { "" };
    let object = api.object(Place::new(kind, namespace, text("name")))?;
    let found = named(&object);
    if !text("uid").is_empty() && text("uid") != found.uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The \
             object might have been deleted and then recreated",
            text("uid")
        );
        return Err(Status::conflict(kind, text("name"), &why));
    }
    if kind == kinds::SECRET {
        bound.secret = Some(found);
    } else if kind == kinds::NODE {
        bound.node = Some(found);
    } else {
        if object["spec"]["serviceAccountName"] != *name {
            return Err(Status::new(
                Reason::BadRequest,
                format!(
                    "cannot bind token for serviceaccount {name:?} to pod running with different \
                     serviceaccount name."
                ),
            ));
        }
        bound.pod = Some(found);
        bound.node = board(api, &object)?;
    }
    Ok(bound)
}

/// The board that a pod is on.
fn board(api: &Api, pod: &Object) -> Result<Option<Named>, Status> {
    let name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    match api.object(Place::new(kinds::NODE, "", name)) {
        Ok(node) => Ok(Some(named(&node))),
        Err(status) if status.is_not_found() => {
            Ok(Some(Named { name: name.to_owned(), uid: String::new() }))
        }
        Err(status) => Err(status),
    }
}
