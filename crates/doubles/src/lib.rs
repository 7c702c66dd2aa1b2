//! Stand-ins of clouds' APIs for tests: they answer over HTTP as the services do, and fail on demand.
//!
//! Written from the services' documentation without any of the providers' code, so that a mistake in one is not
//! repeated in the other.

pub mod alibaba;
pub mod aws;
pub mod huawei;
pub mod python;
