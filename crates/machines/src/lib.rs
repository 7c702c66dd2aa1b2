//! Single machines of real clouds, behind the seam that claims have for them.
//!
//! Owns one module a cloud. What is launched when, and what goes, is decided by `nodes` and kept by `claims`.

#[cfg(feature = "aws")]
pub mod ec2;
