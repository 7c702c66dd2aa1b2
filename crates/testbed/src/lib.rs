//! Test equipment: a real Kubernetes control plane as processes on loopback.
