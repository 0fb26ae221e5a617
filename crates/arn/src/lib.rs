//! ARNs, partitions, account ids, unique ids, and the identity of a caller.
//!
//! Everything here is data: parsing, checking, printing. Nothing reads a clock, a socket or a file.
//!
//! ```text
//!   "arn:aws:sts::444455556666:assumed-role/Ops/ana"
//!        │ Arn::parse            six fields, borrowed
//!        ▼
//!   CallerArn                    user | role session | root | federated user
//!        │ .canonical()          session ARN folded to its IAM role, without the path STS never tells
//!        ▼
//!   "arn:aws:iam::444455556666:role/Ops"
//! ```
//!
//! [`CallerIdentity`] is what a verified token says about who calls; mapping turns it into a Kubernetes user.

mod account;
mod arn;
mod caller;
mod partition;
pub mod unique_id;

pub use account::{AccountId, NotAnAccountId};
pub use arn::{Arn, ParseArnError};
pub use caller::{
    CallerArn, CallerIdentity, CallerKind, InvalidCaller, SessionFacts, Tag, is_session_name,
};
pub use partition::{Partition, UnknownPartition};

#[doc(hidden)]
pub mod fuzz;
