//! k8s-aws-v1 tokens and ExecCredential.
