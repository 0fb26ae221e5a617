//! Transactional store with watch, its conformance suite, and the redb implementation.
