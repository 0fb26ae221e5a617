//! Pod to mutated pod: what a pod needs so that its AWS SDK finds credentials, by IRSA or by EKS Pod Identity.
//!
//! ```text
//!   AdmissionReview bytes ── Review::parse ──► Review ── account() ──► look up ──► Facts
//!                                                │                                  │  service account: AccountSettings
//!                                                │                                  │  association:     Associations
//!   flags ── Flags::parse ──► Options ──► Webhook::decide ◄─────────────────────────┘  ConfigMap:       RoleMap
//!                                                │
//!                                             Decision: credentials, each container, volume, notes, patch
//!                                                │
//!                                          Webhook::answer ──► AdmissionReview bytes
//! ```
//!
//! The pod is read in part and never written: the patch only adds, so no field is lost, whatever version of Kubernetes
//! it is from. A decision says for every part where it comes from, and prints itself.
//!
//! Nothing here reads a clock, a socket or a file; the random number for drawn lifetimes is an argument.

mod account;
mod answer;
mod association_object;
mod container;
mod credentials;
mod decision;
mod flags;
mod json;
mod note;
mod options;
pub mod patch;
mod pod;
mod profiles;
mod replace;
mod review;
mod role;
mod role_map;
mod skip;
mod table;
mod text;
mod webhook;

pub use account::{AccountSettings, DEFAULT_TOKEN_EXPIRATION, Given, MIN_TOKEN_EXPIRATION};
pub use answer::{AUDIT_ANNOTATION, Answer};
pub use association_object::{
    ASSOCIATION_GROUP, ASSOCIATION_KIND, ASSOCIATION_PLURAL, ASSOCIATION_VERSION, AllowList,
    AllowListError, AllowRule, AssociationSpec, Contender, MIRROR_LABEL, NotAllowed, merge_patch,
    older_wins,
};
pub use container::{ContainerOutcome, ContainerPlan, Part};
pub use decision::{
    AssociationFact, Credentials, Decision, Mode, Outcome, Patch, Refusal, RoleSource, Setting,
    Unmodified, VolumeOutcome, WindowsSign,
};
pub use flags::{Flags, FlagsError, Serving, Source, TlsVersion, parse_duration};
pub use note::{
    FsGroupIgnored, MAX_NOTES, MAX_WARNING_CHARS, NoAgent, Note, Notes, Origin, ProfileIgnored,
    ProfilesIgnored,
};
pub use options::{ExtraEnv, FailureMode, NodeSelector, Options, OptionsError, PatchStyle};
pub use profiles::{CONFIG_ANNOTATION, CONFIG_FILE, MAX_PROFILES};
pub use review::{AccountKey, MAX_REVIEW_BYTES, Review, ReviewError, ReviewVersion, is_json};
pub use role::{Composition, is_role_arn, partition_of_region};
pub use role_map::{
    Association, Associations, MAX_SOURCE_BYTES, ROLE_MAP_CONFIG_MAP, ROLE_MAP_KEY, RoleMap,
    RoleMapEntry, SourceError,
};
pub use table::{AccountTable, Found, KeyError, MAX_KEY_BYTES};
pub use webhook::{
    AccountFact, Facts, IRSA_TOKEN_FILE, IRSA_VOLUME, MAX_CONTAINERS, POD_IDENTITY_LABEL,
    SKIP_LABEL, Webhook,
};

#[doc(hidden)]
pub mod fuzz;
