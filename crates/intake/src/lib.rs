//! Reads Kubernetes objects into the model: slim object types, quantities, and their errors.
