//! IAM caller identity to Kubernetes user.
