//! AWS APIs and Kubernetes webhooks over HTTP.
