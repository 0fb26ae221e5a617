//! Facts about EC2 instances, looked up in batches with limits (authentication spec, section 3.10).
//!
//! ```text
//!   InstanceLookup::facts(id) ── known? ── yes ──▶ answer
//!        │ no                                       ▲
//!        ▼                                          │
//!   one waiter list per id ── batches of 100 ── Ec2::describe_instances
//! ```

mod api;
mod batch;
mod credentials;
mod instance;
mod lookup;
mod names;
mod query;
pub(crate) mod xml;

use countersign_mapping::Ec2InstanceId;
use futures::future::BoxFuture;

pub use api::{Ec2Api, Ec2ApiOptions};
pub use credentials::{AssumedRole, AwsCredentials, CredentialsError, ProvideCredentials};
pub use instance::{Instance, Profile};
pub use lookup::{InstanceLookup, LookupCounters, LookupError, LookupOptions};
pub use names::{HttpNames, InvalidNamesUrl, NamesFirst};
pub use query::AwsError;

pub(crate) use api::instances_of;
pub(crate) use credentials::{SharedCredentials, credentials_in, credentials_of};
pub(crate) use names::node_name_of;
pub(crate) use query::{QueryClient, Service, error_of, exchange};

/// A source of facts about instances.
///
/// An answer holds the instances that are known; ids that are not in it do not exist as far as the source knows. The order does
/// not matter, and an instance that was not asked for is ignored.
pub trait Ec2: Send + Sync + 'static {
    /// Describes up to 100 instances in one call.
    fn describe_instances<'a>(
        &'a self,
        ids: &'a [Ec2InstanceId],
    ) -> BoxFuture<'a, Result<Vec<Instance>, AwsError>>;

    /// The names of the roles in an instance profile, by its ARN.
    fn profile_roles<'a>(
        &'a self,
        profile_arn: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, AwsError>>;
}
