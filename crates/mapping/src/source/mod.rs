//! What each backend's text looks like, and the entries in it.

pub mod config_map;
pub mod crd;
pub mod dynamic_file;
pub mod mounted_file;
