//! Everything in a store as one file, back from it, and from one store to another.
//!
//! ```text
//!   Store ── load at one revision ──▶ write ──▶ file ──▶ BackupFile::open (reads all of it, checks all of it)
//!     │                                                        │ pages
//!     └───────── pages_of (migrate) ──────────▶ restore ◀──────┘
//!                                                  │  mark · delete · put · read back and compare · unmark
//!                                                  ▼
//!                                                Store
//! ```
//!
//! A backup is text, one JSON object a line:
//!
//! ```text
//!   {"countersignBackup":1,"created":"…","revision":42}          what it is
//!   {"key":"account/111122223333","value":{"v":1,…}}             the records, by key; the value exactly as it is stored
//!   {"key":"…","base64":"…"}                                     one whose value is no JSON of one line
//!   {"records":2,"rootKeys":["0f3c…"],"content":"…"}             how many, what opens their secrets, SHA-256 of their lines
//!   {"sha256":"…"}                                               SHA-256 of all lines before
//! ```
//!
//! Secrets are in it as they are in the store: sealed. Without the root key that [`Summary::root_keys`] names, they stay so;
//! the root key itself is not in it. The checksum finds damage. It does not find a change by somebody who can make a new
//! checksum: keep backups where only operators write.
//!
//! The lines of the records alone are the export: equal stores export equal bytes, whatever the revisions of their records.

mod error;
mod file;
mod format;
mod restore;
mod write;

pub use self::error::{BackupError, RestoreError};
pub use self::file::BackupFile;
pub use self::format::{Header, Summary};
pub use self::restore::{Pages, Restored, pages_of, restore};
pub use self::write::{export, write};

pub(crate) use self::format::Reader;
