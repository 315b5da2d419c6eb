//! Image references, normalised as Docker and containerd do it: `nginx` means
//! `docker.io/library/nginx:latest`, and a digest pins what a tag only names.

use super::digest::Digest;
use super::error::ImageError;
use std::fmt;

/// A complete reference: registry, repository, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_REGISTRY: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

impl Reference {
    /// Parses and normalises what a person wrote.
    pub fn parse(text: &str) -> Result<Reference, ImageError> {
        let bad = |why: String| ImageError::InvalidName { name: text.to_string(), why };
        if text.is_empty() {
            return Err(bad("the name is empty".into()));
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad("cannot specify 64-byte hexadecimal strings".into()));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                (rest, Some(Digest::parse(digest).map_err(|e| bad(e.to_string()))?))
            }
        };
        let (registry, remainder) = split_registry(rest);
        let (path, tag) = match remainder.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (remainder, None),
        };
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_string()
        };
        check_registry(registry).map_err(bad)?;
        check_repository(&repository).map_err(bad)?;
        if registry.len() + 1 + repository.len() > NAME_MAX {
            return Err(bad(format!(
                "repository name must not be more than {NAME_MAX} characters"
            )));
        }
        if let Some(tag) = tag {
            check_tag(tag).map_err(bad)?;
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Reference {
            registry: registry.to_string(),
            repository,
            tag: tag.map(str::to_string),
            digest,
        })
    }

    /// The registry's host and port as in the reference, such as `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository below the registry, such as `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Registry and repository.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag, when there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins it, when there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What to ask a registry for: the digest before the tag.
    pub(crate) fn target(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => DEFAULT_TAG,
        }
    }

    /// The form that names things in the store: a pinned reference loses its tag, since the digest
    /// alone says which image it is.
    pub(crate) fn canonical(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{}@{digest}", self.name()),
            (None, tag) => format!("{}:{}", self.name(), tag.as_deref().unwrap_or(DEFAULT_TAG)),
        }
    }

    /// The same repository, pinned to `digest`.
    pub(crate) fn pinned(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The first part is a registry if it looks like a host: a dot, a port, `localhost`, or upper case.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (if first == LEGACY_REGISTRY { DEFAULT_REGISTRY } else { first }, rest)
        }
        _ => (DEFAULT_REGISTRY, text),
    }
}

fn check_registry(registry: &str) -> Result<(), String> {
    let bad = || Err(format!("\"{registry}\" is not a registry's host and port"));
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else { return bad() };
        if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return bad();
        }
        match rest.strip_prefix(':') {
            None if rest.is_empty() => return Ok(()),
            None => return bad(),
            Some(port) => ("ok", Some(port)),
        }
    } else {
        match registry.split_once(':') {
            None => (registry, None),
            Some((host, port)) => (host, Some(port)),
        }
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !host.split('.').all(label) || port.is_some_and(|p| p.parse::<u16>().is_err()) {
        return bad();
    }
    Ok(())
}

fn check_repository(repository: &str) -> Result<(), String> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("repository name ({repository}) must be lowercase"));
    }
    for part in repository.split('/') {
        if !path_component(part) {
            return Err(format!(
                "\"{part}\" in repository name ({repository}) must be lower-case letters and \
                 digits, with single '.', '_', '__' or '-' between them"
            ));
        }
    }
    Ok(())
}

/// Letters and digits, separated by one dot, one or two underscores, or any number of dashes.
fn path_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(*first) || !word(*last) {
        return false;
    }
    bytes
        .split(|b| word(*b))
        .filter(|separator| !separator.is_empty())
        .all(|s| matches!(s, b"." | b"_" | b"__") || s.iter().all(|b| *b == b'-'))
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if ok {
        return Ok(());
    }
    Err(format!(
        "tag \"{tag}\" must be 1 to {TAG_MAX} letters, digits, '_', '.' or '-', not starting \
         with '.' or '-'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised_as_docker_does() {
        let pinned = format!("nginx@{D}");
        let both = format!("nginx:1.27@{D}");
        let full_pinned = format!("docker.io/library/nginx@{D}");
        let full_both = format!("docker.io/library/nginx:1.27@{D}");
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("me/app", "docker.io/me/app:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("quay.io/a/b_c/d__e/f-g--h:T", "quay.io/a/b_c/d__e/f-g--h:T"),
            ("Uppercase/app", "Uppercase/app:latest"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            (pinned.as_str(), full_pinned.as_str()),
            (both.as_str(), full_both.as_str()),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
        }
    }

    #[test]
    fn pinned_names_lose_their_tag_in_the_store() {
        let reference = Reference::parse(&format!("nginx:1.27@{D}")).unwrap();
        assert_eq!(reference.canonical(), format!("docker.io/library/nginx@{D}"));
        assert_eq!(reference.target(), D);
        assert_eq!(reference.tag(), Some("1.27"));
    }

    #[test]
    fn bad_names_are_refused() {
        let long = "a".repeat(256);
        let long_tag = format!("a:{}", "b".repeat(129));
        let hex = "0".repeat(64);
        for bad in [
            "",
            " ",
            "nginx ",
            "Nginx",
            "me/App",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            "a:.x",
            "a:b:c",
            "a@sha256:00",
            "a@",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "http://a/b",
            "a.b:99999999/c",
            "a_b.c/d",
            "[::1/app",
            "é",
            "a\nb",
            long.as_str(),
            long_tag.as_str(),
            hex.as_str(),
        ] {
            let error = Reference::parse(bad).expect_err(bad);
            assert_eq!(error.reason(), "InvalidImageName");
        }
    }
}
