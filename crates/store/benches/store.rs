//! Commits, lookups and loads of the store.
fn main() {}
