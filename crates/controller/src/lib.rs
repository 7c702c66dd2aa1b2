//! The shell: watches, rounds, executor, ledger, journal, events, leases, HTTP.
//!
//! Runs the loop of `ARCHITECTURE.md` around `nodes::decide`, the same in a cluster, in the sandbox and in the
//! simulator: what differs is the client and the clock that it is given. It holds no decision of its own.

mod access;
mod alerts;
mod capacity;
mod config;
pub mod config_file;
mod error;
mod events;
mod executor;
mod exit;
mod explain;
mod http;
pub mod journal;
mod ledger_store;
mod metrics;
mod observe;
mod planted;
mod report;
mod rule_status;
mod run;
mod start;
mod status;
mod trace;
mod view;
mod wording;
mod writer;

pub use access::{Access, Reviews, TOKEN_HEADER, TokenFile, guarded};
pub use config::{
    Batch, Calls, CapacityBuffers, Config, Health, JournalConfig, LedgerPlace, ProvisioningRequests, Status,
    Watch,
};
pub use error::ControllerError;
pub use exit::{Handed, hand_back};
pub use explain::{Because, Explanation, Moment, Subject, code, explain};
pub use http::{AlertAnswer, Handle, router};
pub use leadership::LeaderElection;
pub use ledger_store::{DAMAGED as DAMAGED_LEDGER_CONFIG_MAP, HEAD as LEDGER_CONFIG_MAP};
pub use metrics::all_metrics;
#[cfg(feature = "planted-bugs")]
pub use planted::PlantedBug;
pub use start::{Controller, Decide, Round, RoundHook};
pub use trace::TraceSettings;
pub use view::{
    DecisionView, Fill, NodeState, NodeView, OtherView, PodView, PoolView, StateView, UpcomingKind,
    UpcomingView,
};
