//! AWS Signature Version 4: verify, sign, presign, explain.
