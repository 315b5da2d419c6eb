//! Reviews: questions about tokens and permissions, which any server answers from what it has.

use super::reply::{self, Reply};
use super::serve::Front;
use super::{Target, negotiate, protobuf, request};
use crate::api;
use crate::auth::{self, Identity};
use bytes::Bytes;
use edge_api::Object;
use edge_api::kinds::{self, Kind, Strictness};
use edge_api::status::Status;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use serde_json::{Value, json};

/// Answers a review.
pub(super) async fn answer(
    front: &Front,
    who: &Identity,
    target: &Target,
    request: Request<Incoming>,
) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    negotiate::object_form(&head.headers)?;
    let body = request::whole(body).await?;
    let mut review = read(&head.headers, &body, target.kind)?;
    target.kind.decode(&mut review, Strictness::Ignore)?;
    review["status"] = if target.kind == kinds::TOKEN_REVIEW {
        whose(front, &review).await?
    } else if target.kind == kinds::SELF_SUBJECT_REVIEW {
        json!({ "userInfo": user_info(who) })
    } else {
        auth::review(&front.api, who, target, &review)?
    };
    Ok(reply::json(201, review.to_string()))
}

/// Reads what is asked, however it is written.
pub(super) fn read(headers: &HeaderMap, body: &Bytes, kind: &Kind) -> Result<Object, Status> {
    if negotiate::content_type(headers) == protobuf::MEDIA {
        return protobuf::read(body, kind);
    }
    api::parse_options(body, negotiate::body_type(headers)?)
}

/// `TokenReview`
async fn whose(front: &Front, review: &Object) -> Result<Value, Status> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let list = review["spec"]["audiences"].as_array().into_iter().flatten();
    let mut audiences: Vec<String> =
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect();
    if audiences.is_empty() {
        audiences.push(front.tokens.audience());
    }
    Ok(match front.tokens.review(token, &audiences).await? {
        Ok(owner) => json!({
            "authenticated": true,
            "user": user_info(&owner.who),
            "audiences": owner.audiences,
        }),
        Err(why) => json!({ "user": {}, "error": format!("invalid bearer token, {why}") }),
    })
}

fn user_info(who: &Identity) -> Value {
    let mut info = json!({ "username": who.user, "groups": who.groups });
    if !who.uid.is_empty() {
        info["uid"] = json!(who.uid);
    }
    if !who.extra.is_empty() {
        info["extra"] = json!(who.extra);
    }
    info
}
