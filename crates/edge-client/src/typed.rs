//! Requests by kind: the verbs of the Kubernetes API over objects as raw JSON.

use crate::call::{Answer, Call};
use crate::error::Error;
use crate::http_client::Client;
use crate::params::{DeleteParams, List, ListParams, WatchParams, WriteParams};
use crate::query::{Query, kind_path};
use crate::watch::WatchStream;
use edge_api::Object;
use edge_api::kinds::Kind;
use edge_api::patch::PatchType;
use http::Method;

/// Objects per page when a whole collection is asked for.
const PAGE: u32 = 500;

impl Client {
    /// Reads one object.
    pub async fn get(&self, kind: &Kind, ns: &str, name: &str) -> Result<Object, Error> {
        self.get_sub(kind, ns, name, None).await
    }

    /// Reads one object or a subresource of it.
    pub async fn get_sub(
        &self,
        kind: &Kind,
        ns: &str,
        name: &str,
        sub: Option<&str>,
    ) -> Result<Object, Error> {
        let answer = self.call(&Call::get(kind_path(kind, ns, name, sub))).await?;
        Ok(answer.object)
    }

    /// Reads one page of a collection; an empty `ns` means all namespaces.
    pub async fn list(&self, kind: &Kind, ns: &str, params: &ListParams) -> Result<List, Error> {
        let path = params.query().on(&kind_path(kind, ns, "", None));
        let mut object = self.call(&Call::get(path.as_str())).await?.object;
        let metadata = &object["metadata"];
        let token = metadata["continue"].as_str().filter(|token| !token.is_empty());
        let mut list = List {
            resource_version: metadata["resourceVersion"].as_str().unwrap_or("").to_string(),
            continue_token: token.map(str::to_string),
            items: Vec::new(),
        };
        match object["items"].take() {
            Object::Array(items) => list.items = items,
            Object::Null => {}
            _ => {
                return Err(Error::Decode {
                    operation: format!("GET {path}"),
                    message: "items is not an array".to_string(),
                });
            }
        }
        for item in &mut list.items {
            name_kind(kind, item);
        }
        Ok(list)
    }

    /// Reads a whole collection, page by page, at one revision.
    pub async fn list_all(
        &self,
        kind: &Kind,
        ns: &str,
        params: &ListParams,
    ) -> Result<List, Error> {
        let mut params = ListParams { limit: PAGE, ..params.clone() };
        let mut whole = self.list(kind, ns, &params).await?;
        while let Some(token) = whole.continue_token.take() {
            params.continue_token = Some(token);
            params.resource_version = None;
            let page = self.list(kind, ns, &params).await?;
            whole.items.extend(page.items);
            whole.continue_token = page.continue_token;
        }
        Ok(whole)
    }

    /// Creates an object.
    pub async fn create(
        &self,
        kind: &Kind,
        ns: &str,
        object: &Object,
        params: &WriteParams,
    ) -> Result<Object, Error> {
        let path = params.query().on(&kind_path(kind, ns, "", None));
        Ok(self.call(&Call::new(Method::POST, path).json(object)).await?.object)
    }

    /// Posts to a subresource, `binding` for one.
    pub async fn create_sub(
        &self,
        kind: &Kind,
        ns: &str,
        name: &str,
        sub: &str,
        object: &Object,
    ) -> Result<Object, Error> {
        let path = kind_path(kind, ns, name, Some(sub));
        Ok(self.call(&Call::new(Method::POST, path).json(object)).await?.object)
    }

    /// Replaces an object or a subresource of it.
    pub async fn update(
        &self,
        kind: &Kind,
        ns: &str,
        name: &str,
        sub: Option<&str>,
        object: &Object,
        params: &WriteParams,
    ) -> Result<Object, Error> {
        let path = params.query().on(&kind_path(kind, ns, name, sub));
        Ok(self.call(&Call::new(Method::PUT, path).json(object)).await?.object)
    }

    /// Patches an object or a subresource of it.
    #[allow(clippy::too_many_arguments, reason = "these are the parts of the request")]
    pub async fn patch(
        &self,
        kind: &Kind,
        ns: &str,
        name: &str,
        sub: Option<&str>,
        patch_type: PatchType,
        patch: &Object,
        params: &WriteParams,
    ) -> Result<Object, Error> {
        let path = params.query().on(&kind_path(kind, ns, name, sub));
        let mut call = Call::new(Method::PATCH, path).json(patch);
        call.content_type = patch_type.content_type();
        Ok(self.call(&call).await?.object)
    }

    /// Deletes an object. The answer is the object while it is still there (finalizers, grace),
    /// else a `Status`.
    pub async fn delete(
        &self,
        kind: &Kind,
        ns: &str,
        name: &str,
        params: &DeleteParams,
    ) -> Result<Object, Error> {
        let path = kind_path(kind, ns, name, None);
        let call = Call::new(Method::DELETE, path).json(&params.body());
        Ok(self.call(&call).await?.object)
    }

    /// Deletes every object of a collection that the selectors match.
    pub async fn delete_collection(
        &self,
        kind: &Kind,
        ns: &str,
        which: &ListParams,
        params: &DeleteParams,
    ) -> Result<Object, Error> {
        let path = which.query().on(&kind_path(kind, ns, "", None));
        let call = Call::new(Method::DELETE, path).json(&params.body());
        Ok(self.call(&call).await?.object)
    }

    /// Streams changes of a collection; an empty `ns` means all namespaces.
    pub async fn watch(
        &self,
        kind: &Kind,
        ns: &str,
        params: &WatchParams,
    ) -> Result<WatchStream, Error> {
        let path = params.query().on(&kind_path(kind, ns, "", None));
        self.watch_call(&Call::get(path)).await
    }

    /// Streams the events that a call answers with, for types of answer other than JSON objects.
    pub async fn watch_call(&self, call: &Call) -> Result<WatchStream, Error> {
        let response = self.stream(call).await?;
        Ok(WatchStream::new(response.into_body(), call.path.clone()))
    }

    /// The server's version, as `/version` gives it.
    pub async fn version(&self) -> Result<Object, Error> {
        Ok(self.call(&Call::get("/version")).await?.object)
    }

    /// Reads any path as JSON, with a query.
    pub async fn get_path(&self, path: &str, query: &Query) -> Result<Answer, Error> {
        self.call(&Call::get(query.on(path))).await
    }
}

/// Items of a list may come without their kind, as Kubernetes has it for built-in kinds.
fn name_kind(kind: &Kind, item: &mut Object) {
    let Object::Object(map) = item else { return };
    if !map.contains_key("kind") {
        map.insert("kind".to_string(), Object::from(kind.kind));
        let version = match kind.group {
            "" => kind.version.to_string(),
            group => format!("{group}/{}", kind.version),
        };
        map.insert("apiVersion".to_string(), Object::from(version));
    }
}
