//! Speaking as somebody else (`kubectl --as`): those who may say so by the verb `impersonate`, for
//! each part of who they want to be.

use super::identity::Identity;
use super::rbac;
use crate::api::Api;
use edge_api::status::{Reason, Status};
use edge_core::rbac::What;
use http::{HeaderMap, HeaderName};

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");

/// Whom `who` wants to be, if anybody else, and may.
///
/// # Errors
/// 403 when they may not; 400 for headers that make no sense.
pub(crate) fn impersonated(
    api: &Api,
    who: &Identity,
    headers: &HeaderMap,
) -> Result<Option<Identity>, Status> {
    let mut asked = headers.keys().filter(|name| name.as_str().starts_with("impersonate-"));
    let Some(first) = asked.next() else { return Ok(None) };
    if let Some(other) = [first].into_iter().chain(asked).find(|name| !known(name)) {
        return Err(Status::bad_request(format!("{other} is not supported")));
    }
    let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
    let user = headers.get(USER).and_then(text).filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| {
        Status::bad_request("groups cannot be impersonated without a user (Impersonate-User)")
    })?;
    let mut groups: Vec<String> = headers.get_all(GROUP).iter().filter_map(text).collect();
    let account = user.strip_prefix("system:serviceaccount:").and_then(|it| it.split_once(':'));
    match account {
        Some((namespace, name)) => may(api, who, "serviceaccounts", namespace, name)?,
        None => may(api, who, "users", "", &user)?,
    }
    for group in &groups {
        may(api, who, "groups", "", group)?;
    }
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let (known, unknown) = ("system:authenticated", "system:unauthenticated");
    let of = if user == "system:anonymous" { unknown } else { known };
    if !groups.iter().any(|group| group == known || group == unknown) {
        groups.push(of.to_owned());
    }
    Ok(Some(Identity::account(user, groups, String::new(), Default::default())))
}

fn known(name: &HeaderName) -> bool {
    name == USER || name == GROUP
}

fn may(
    api: &Api,
    who: &Identity,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let (verb, group, sub) = ("impersonate", "", "");
    if rbac::allows(api, who, &What::Resource { verb, group, resource, sub, namespace, name }) {
        return Ok(());
    }
    let scope = match namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let message = format!(
        "{resource} {name:?} is forbidden: User {:?} cannot impersonate resource {resource:?} in \
         API group \"\" {scope}",
        who.user
    );
    Err(Status::new(Reason::Forbidden, message))
}
