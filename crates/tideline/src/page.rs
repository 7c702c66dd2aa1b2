//! The live page: one HTML file without outside requests, beside the controller's read-only routes.
//!
//! The page asks `/api/v1/state` of the server that it came from; what that shows is the controller's business.

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use controller::Handle;

const PAGE: &str = include_str!("page/page.html");

/// The page at `/`, and what the controller serves of itself.
pub(crate) fn router(handle: Handle) -> Router {
    Router::new().route("/", get(|| async { Html(PAGE) })).merge(controller::router(handle))
}
