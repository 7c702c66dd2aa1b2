//! Alerts that arrive by HTTP add machines to MachineDeployments of Cluster API.
//!
//! Serves the contract of the platform's own alert-triggered scaler (command, flags, path, body, role, history), and
//! Alertmanager's webhook beside it. Needs no Lease: a delivery is decided on what is there now ([`decide`], pure),
//! and carried out by one guarded write that holds both the new size and which alert it was for. Start reading at
//! [`Scaler::take`].

mod alert;
mod body;
mod credentials;
mod decide;
mod endpoint;
mod error;
mod history;
mod metrics;
mod objects;
mod rate;
mod reason;
mod record;
mod scaler;
mod serve;
mod taker;
pub mod trigger;

pub use alert::{Alert, Status};
pub use body::{BodyError, alertmanager, platform};
pub use credentials::{CredentialFiles, Credentials};
pub use decide::{Addresses, Demand, Deployment, choose, decide, triage};
pub use endpoint::{ALERTMANAGER_PATH, Endpoint, PLATFORM_PATH};
pub use error::AlertsError;
pub use history::{Entry, History};
pub use reason::Reason;
pub use record::{ANNOTATION, Record, Scaling};
pub use scaler::{Scaler, Verdict};
pub use serve::{Serving, serve, serve_taker};
pub use taker::{Taken, Taker};
pub use trigger::{LabelNames, Selector, Settings, Trigger};
