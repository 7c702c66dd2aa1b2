//! The name of a call as rules and counts see it: verb, resource, object.
//!
//! Owns reading it off a request without knowing which resources there are.

use http::{Method, Request};

/// Verb, resource (with `/subresource`) and object of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallName {
    pub verb: &'static str,
    pub resource: String,
    pub namespace: String,
    pub name: String,
}

impl CallName {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let mut parts = request.uri().path().split('/').filter(|part| !part.is_empty());
        match parts.next() {
            Some("api") => drop(parts.next()),
            Some("apis") => drop((parts.next(), parts.next())),
            _ => {}
        }
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, plural, ..] if !matches!(*plural, "status" | "finalize") => {
                (*namespace, &rest[2..])
            }
            all => ("", all),
        };
        let resource = match rest {
            [] => String::new(),
            [plural, _, subresource, ..] => format!("{plural}/{subresource}"),
            [plural, ..] => (*plural).to_owned(),
        };
        let name = rest.get(1).copied().unwrap_or("");
        let watches = request.uri().query().is_some_and(|query| {
            query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"))
        });
        let verb = match *request.method() {
            Method::GET if watches => "watch",
            Method::GET if name.is_empty() => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
        Self { verb, resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn is_write(&self) -> bool {
        matches!(self.verb, "create" | "update" | "patch" | "delete")
    }
}
