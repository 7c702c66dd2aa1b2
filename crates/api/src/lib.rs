//! The Kubernetes surface: our CRD types, well-known labels, taints, annotations and event reasons.
