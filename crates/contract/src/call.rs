//! The kind of a call: what is asked of the API server, without the names in it.
//!
//! Owns the normal form of requests and its text. Leaves recording to `recorder`.

use http::{Method, Request, header};
use std::fmt;
use std::str::FromStr;

/// A call such as `list pods fields:spec.nodeName` or `patch nodes/status merge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallKind {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// `pods`, `deployments.apps`, `custom` for all custom resources, or a path such as `/version`.
    pub resource: String,
    pub subresource: String,
    /// Modifiers in a fixed order: the patch type, `labels`, `fields:…`, `paged`, `cached`, `streamed`, `dry-run`,
    /// `table`, `metadata`.
    pub how: Vec<String>,
}

impl CallKind {
    /// The kind of a request.
    pub fn of<B>(request: &Request<B>) -> Self {
        let path: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
        let query = Query::of(request.uri().query().unwrap_or_default());
        let Some(place) = Place::of(&path) else {
            let verb = request.method().as_str().to_ascii_lowercase();
            return Self { verb, resource: page(&path), ..Self::default() };
        };
        let verb = match (request.method(), place.named) {
            (&Method::GET, true) => "get",
            (&Method::GET, false) if query.flag("watch") => "watch",
            (&Method::GET, false) => "list",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, true) => "delete",
            (&Method::DELETE, false) => "deletecollection",
            _ => "other",
        };
        let head = |name: header::HeaderName| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let how = modifiers(verb, &query, head(header::CONTENT_TYPE), head(header::ACCEPT));
        Self { verb: verb.into(), resource: place.resource, subresource: place.subresource, how }
    }

    /// The kind of a call that was taken apart already.
    pub fn from_parts(
        verb: &str,
        resource: &str,
        subresource: &str,
        media_type: &str,
        labels: bool,
        fields: &str,
    ) -> Self {
        let mut how = Vec::new();
        if verb == "patch" {
            how.push(patch_word(media_type).to_owned());
        }
        if labels {
            how.push("labels".to_owned());
        }
        if !fields.is_empty() {
            how.push(fields_word(fields));
        }
        let resource = match resource.split_once('.') {
            Some((_, group)) if is_custom(group) => CUSTOM.to_owned(),
            _ => resource.to_owned(),
        };
        Self { verb: verb.to_owned(), resource, subresource: subresource.to_owned(), how }
    }

    /// The same without how an answer is cut, cached, streamed or shown.
    #[must_use]
    pub fn coarse(&self) -> Self {
        let how = self.how.iter().filter(|word| !MATTERS_LITTLE.contains(&word.as_str()));
        Self { how: how.cloned().collect(), ..self.clone() }
    }
}

/// The name under which all custom resources go: what the API server makes of one follows from its definition alone.
const CUSTOM: &str = "custom";

/// Groups of Kubernetes itself have no dot or end like this.
fn is_custom(group: &str) -> bool {
    group.contains('.') && !group.ends_with(".k8s.io")
}

/// Modifiers that change the form of an answer, or whether a write is stored, and not what is asked.
const MATTERS_LITTLE: [&str; 6] = ["paged", "cached", "streamed", "dry-run", "table", "metadata"];

fn patch_word(media_type: &str) -> &'static str {
    let known = [
        ("application/json-patch+json", "json"),
        ("application/merge-patch+json", "merge"),
        ("application/strategic-merge-patch+json", "strategic"),
        ("application/apply-patch+yaml", "apply"),
    ];
    known.iter().find(|(media, _)| media_type.starts_with(media)).map_or("unknown", |found| found.1)
}

/// The fields of a selector, without values.
fn fields_word(selector: &str) -> String {
    let mut keys: Vec<&str> =
        selector.split(',').map(|part| part.split(['=', '!']).next().unwrap_or_default()).collect();
    keys.sort_unstable();
    keys.dedup();
    format!("fields:{}", keys.join("+"))
}

/// Discovery and other pages, without names of groups and versions.
fn page(path: &[&str]) -> String {
    match path {
        ["api", _] => "/api/VERSION".into(),
        ["apis", _] => "/apis/GROUP".into(),
        ["apis", _, _] => "/apis/GROUP/VERSION".into(),
        ["openapi", "v3", ..] if path.len() > 2 => "/openapi/v3/…".into(),
        _ => format!("/{}", path.join("/")),
    }
}

fn modifiers(verb: &str, query: &Query, content_type: &str, accept: &str) -> Vec<String> {
    let mut how = Vec::new();
    let mut add = |condition: bool, word: &str| {
        if condition {
            how.push(word.to_owned());
        }
    };
    add(verb == "patch", patch_word(content_type));
    add(query.text("labelSelector").is_some(), "labels");
    let fields = query.text("fieldSelector").map(fields_word);
    add(fields.is_some(), fields.as_deref().unwrap_or_default());
    add(verb == "list" && (query.text("limit").is_some() || query.text("continue").is_some()), "paged");
    add(verb != "watch" && query.text("resourceVersion") == Some("0"), "cached");
    add(query.flag("sendInitialEvents"), "streamed");
    add(query.text("dryRun").is_some(), "dry-run");
    add(accept.contains("as=Table"), "table");
    add(accept.contains("as=PartialObjectMetadata"), "metadata");
    how
}

struct Query(Vec<(String, String)>);

impl Query {
    fn of(text: &str) -> Self {
        let pairs = text.split('&').filter(|part| !part.is_empty()).map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (key.to_owned(), decoded(value))
        });
        Self(pairs.collect())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.text(key), Some("true" | "1"))
    }
}

fn decoded(text: &str) -> String {
    text.replace("%3D", "=").replace("%2C", ",").replace("%21", "!").replace("%3d", "=").replace("%2c", ",")
}

/// Where a resource path leads.
struct Place {
    resource: String,
    subresource: String,
    named: bool,
}

impl Place {
    fn of(path: &[&str]) -> Option<Self> {
        let (group, rest) = match path {
            ["api", _version, rest @ ..] => ("", rest),
            ["apis", group, _version, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let rest = match rest {
            // What follows the name of a namespace is a resource in it, or a subresource of the namespace itself.
            ["namespaces", _, resource, ..] if !matches!(*resource, "status" | "finalize") => &rest[2..],
            _ => rest,
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, false, ""),
            [plural, _name] => (plural, true, ""),
            [plural, _name, subresource, ..] => (plural, true, *subresource),
            [] => return None,
        };
        let resource = match group {
            "" => (*plural).to_owned(),
            group if is_custom(group) => CUSTOM.to_owned(),
            group => format!("{plural}.{group}"),
        };
        Some(Self { resource, subresource: subresource.to_owned(), named: name })
    }
}

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        self.how.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

impl FromStr for CallKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_whitespace();
        let (Some(verb), Some(place)) = (words.next(), words.next()) else {
            return Err(format!("a kind of call begins with verb and resource, unlike \"{text}\""));
        };
        let (resource, subresource) = match place.split_once('/') {
            Some((resource, subresource)) if !resource.is_empty() => (resource, subresource),
            _ => (place, ""),
        };
        Ok(Self {
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            how: words.map(str::to_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: &str, uri: &str, content_type: &str) -> String {
        let request =
            Request::builder().method(method).uri(uri).header("content-type", content_type).body(()).unwrap();
        let kind = CallKind::of(&request);
        assert_eq!(kind.to_string().parse::<CallKind>().as_ref(), Ok(&kind));
        kind.to_string()
    }

    #[test]
    fn requests_have_their_kinds() {
        let merge = "application/merge-patch+json";
        for (method, uri, expected) in [
            ("GET", "/api/v1/namespaces/a/pods/b", "get pods"),
            ("GET", "/api/v1/namespaces/a", "get namespaces"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update namespaces/finalize"),
            (
                "GET",
                "/api/v1/pods?fieldSelector=spec.nodeName%3Dx&limit=5",
                "list pods fields:spec.nodeName paged",
            ),
            ("GET", "/apis/apps/v1/deployments?watch=true&resourceVersion=0", "watch deployments.apps"),
            ("PATCH", "/api/v1/nodes/n/status?dryRun=All", "patch nodes/status merge dry-run"),
            ("POST", "/api/v1/namespaces/a/pods/b/eviction", "create pods/eviction"),
            ("DELETE", "/api/v1/namespaces/a/pods?labelSelector=a", "deletecollection pods labels"),
            ("PUT", "/apis/tideline.dev/v1alpha1/simulatedpools/a/scale", "update custom/scale"),
            ("GET", "/apis/coordination.k8s.io/v1/leases", "list leases.coordination.k8s.io"),
            ("GET", "/version", "get /version"),
            ("GET", "/apis/apps/v1", "get /apis/GROUP/VERSION"),
        ] {
            assert_eq!(kind(method, uri, merge), expected, "{method} {uri}");
        }
    }
}
