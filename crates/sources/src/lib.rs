//! Mappings read from elsewhere and kept fresh: files, aws-auth, CRDs.
