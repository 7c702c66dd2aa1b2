//! The live page: one HTML file without outside requests, beside the controller's read-only routes.
//!
//! The page asks `/api/v1/state` of the server that it came from; what that shows is the controller's business.

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use controller::Handle;
use std::sync::Arc;

const PAGE: &str = include_str!("page/page.html");

/// The page with a recorded state in it, for a file that needs no server.
pub(crate) fn recorded(state: &serde_json::Value) -> String {
    // A `</script>` inside the data must not end it.
    let data = state.to_string().replace('<', "\\u003c");
    PAGE.replacen(SLOT, &format!("{SLOT_BEGIN}{data}</script>"), 1)
}

const SLOT_BEGIN: &str = r#"<script id="recorded" type="application/json">"#;
const SLOT: &str = r#"<script id="recorded" type="application/json">null</script>"#;

/// The page at `/`, and what the controller serves of itself.
pub(crate) fn router(handle: Handle) -> Router {
    Router::new().route("/", get(|| async { Html(PAGE) })).merge(controller::router(handle))
}

/// Shows what scales workloads beside the pools: its metrics, and its autoscalers.
pub(crate) fn show_workloads(handle: &Handle, figures: Arc<scaler::Figures>) {
    let counted = figures.clone();
    handle.show_metrics(move || counted.text());
    handle.show_workloads(move || serde_json::to_value(figures.pictures()).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_state_stays_inside_its_slot() {
        let page = recorded(&serde_json::json!({"name": "</script><script>alert(1)"}));
        assert!(page.contains(r#"{"name":"\u003c/script>\u003cscript>alert(1)"}</script>"#));
        assert!(!page.contains(SLOT));
    }
}
