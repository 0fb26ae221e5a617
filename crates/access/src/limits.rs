//! How much an entry may hold (EKS API spec, section 2.2). EKS documents none of these.

/// Limits of entries and scopes; all of them are settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Groups of an entry, 100 unless set.
    pub groups: usize,
    /// Namespaces of a scope, 500 unless set.
    pub namespaces: usize,
    /// Bytes of a username or group, 256 unless set.
    pub name_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            groups: 100,
            namespaces: 500,
            name_bytes: 256,
        }
    }
}
