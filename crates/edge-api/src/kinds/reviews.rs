//! Kinds that are asked and answered, and kept nowhere: reviews of tokens and of permissions, and
//! requests for tokens. They have paths, schemas and a place in discovery, but no objects.

use super::{Kind, rows};

const REVIEW: Kind = Kind { group: "authorization.k8s.io", namespaced: false, ..rows::PLAIN };

/// `TokenReview`: whose token is this?
pub static TOKEN_REVIEW: &Kind = &Kind {
    group: "authentication.k8s.io",
    kind: "TokenReview",
    schema: "authentication.v1.TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    ..REVIEW
};

/// `SelfSubjectReview`: who am I?
pub static SELF_SUBJECT_REVIEW: &Kind = &Kind {
    group: "authentication.k8s.io",
    kind: "SelfSubjectReview",
    schema: "authentication.v1.SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    ..REVIEW
};

/// `TokenRequest`: the body of `serviceaccounts/<name>/token`
pub static TOKEN_REQUEST: &Kind = &Kind {
    group: "authentication.k8s.io",
    kind: "TokenRequest",
    schema: "authentication.v1.TokenRequest",
    plural: "tokenrequests",
    singular: "tokenrequest",
    namespaced: true,
    ..REVIEW
};

/// `LocalSubjectAccessReview`: may they, in this namespace?
pub static LOCAL_SUBJECT_ACCESS_REVIEW: &Kind = &Kind {
    kind: "LocalSubjectAccessReview",
    schema: "authorization.v1.LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    namespaced: true,
    ..REVIEW
};

/// `SelfSubjectAccessReview`: may I?
pub static SELF_SUBJECT_ACCESS_REVIEW: &Kind = &Kind {
    kind: "SelfSubjectAccessReview",
    schema: "authorization.v1.SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    ..REVIEW
};

/// `SelfSubjectRulesReview`: what may I?
pub static SELF_SUBJECT_RULES_REVIEW: &Kind = &Kind {
    kind: "SelfSubjectRulesReview",
    schema: "authorization.v1.SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    ..REVIEW
};

/// `SubjectAccessReview`: may they?
pub static SUBJECT_ACCESS_REVIEW: &Kind = &Kind {
    kind: "SubjectAccessReview",
    schema: "authorization.v1.SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    ..REVIEW
};

static REVIEWS: &[&Kind] = &[
    SELF_SUBJECT_REVIEW,
    TOKEN_REVIEW,
    LOCAL_SUBJECT_ACCESS_REVIEW,
    SELF_SUBJECT_ACCESS_REVIEW,
    SELF_SUBJECT_RULES_REVIEW,
    SUBJECT_ACCESS_REVIEW,
];

/// The reviews that have paths of their own, by group and plural.
pub fn reviews() -> &'static [&'static Kind] {
    REVIEWS
}

/// Everything that can be asked for by a path: kinds with objects first, then reviews.
pub fn served() -> impl Iterator<Item = &'static Kind> {
    rows::ALL.iter().chain(REVIEWS).copied()
}

/// The review behind a URL: `authentication.k8s.io`, `tokenreviews`.
pub fn review(group: &str, plural: &str) -> Option<&'static Kind> {
    REVIEWS.iter().find(|kind| kind.group == group && kind.plural == plural).copied()
}

impl Kind {
    /// Whether this is asked and answered only, and kept nowhere.
    pub fn is_review(&self) -> bool {
        self.list_kind.is_empty()
    }

    /// What can be done with it, as discovery lists it.
    pub fn verbs(&self) -> &'static [&'static str] {
        if self.is_review() { &["create"] } else { super::VERBS }
    }
}
