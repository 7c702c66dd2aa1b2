//! The Kubernetes API over the store: a tower service, in process or on a socket.
//!
//! Owns paths, verbs, media types and wire formats. Leaves what objects may hold to `rules` and keeping them to
//! `store`; it decides nothing that an in-process writer would have to decide again.

mod apply;
mod body;
mod census;
mod convert;
mod discovery;
mod eviction;
mod json_patch;
mod list;
mod merge;
mod openapi;
mod protobuf;
mod query;
pub(crate) mod reply;
pub(crate) mod route;
mod selector;
mod serve;
mod service;
mod strategic;
mod strict;
mod subresource;
mod table;
mod view;
mod watch;
mod write;

pub use body::ApiBody;
pub use census::{CallShape, Census};
pub(crate) use list::render;
pub(crate) use reply::refusal;
pub(crate) use route::{Route, Target};
pub(crate) use selector::Selector;
pub use serve::{ServeError, serve};
pub(crate) use service::Call;
pub use service::{Api, StaleRead};
#[cfg(test)]
pub(crate) use subresource::set_at;

#[cfg(test)]
mod tests;
