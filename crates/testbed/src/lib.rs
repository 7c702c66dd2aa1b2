//! Test equipment: a real Kubernetes control plane as processes on loopback.
//!
//! Owns the building, starting and stopping of etcd, kube-apiserver, kube-scheduler and
//! kube-controller-manager, and the credentials to talk to them. Leaves nodes and the pods that
//! run on them to whoever plays the kubelets.
//!
//! A test that needs it begins with
//!
//! ```no_run
//! # async fn test() -> Result<(), testbed::Error> {
//! if !testbed::wanted("scaling a deployment") {
//!     return Ok(());
//! }
//! let cluster = testbed::ControlPlane::start(testbed::Options::default()).await?;
//! cluster.kubectl_ok(&["get", "namespaces"]).await?;
//! # Ok(())
//! # }
//! ```

mod access;
mod audit;
mod binaries;
mod control_plane;
mod credentials;
mod error;
mod flags;
mod process;
mod workspace;

pub use access::{client_from, service_account_user};
pub use audit::{Audit, AuditEntry};
pub use binaries::{Binaries, Program};
pub use control_plane::ControlPlane;
pub use error::Error;
pub use flags::Options;

use std::io::Write;

/// Tests against the real control plane run where this is set to 1.
pub const SWITCH: &str = "TIDELINE_REAL_CONTROL_PLANE";

/// Whether tests against the real control plane were asked for. Where they were not, says in one
/// line what is left out and how to run it.
pub fn wanted(what: &str) -> bool {
    let wanted = std::env::var(SWITCH).is_ok_and(|value| value == "1");
    if !wanted {
        // Written past the capture of the test harness, which hides what passing tests print.
        let _ =
            writeln!(std::io::stderr(), "left out: {what} (run with {SWITCH}=1; needs Go the first time)");
    }
    wanted
}
