//! Pods' readiness gate `kapacitystack.io/online`: put into pods by a webhook, and opened where nothing else does.
//!
//! Owns the review of single pods, the server with its certificate, the authority in the webhook's registration, and
//! the opening of gates. Which pods are cut off is the scaler's decision. A pod asks for the gate by a label, and the
//! registration lets the API server ask us about such pods only, and go on without us where we do not answer.

mod bundle;
mod gates;
mod registration;
mod review;
mod server;

pub use gates::open_gates;
pub use review::{ReviewError, review};
pub use server::{Certificate, PATH, Webhook, WebhookError};

/// The label selector of pods that ask for the gate.
pub(crate) fn opted_in() -> String {
    format!("{}=true", api::kapacity::INJECT_GATE)
}
