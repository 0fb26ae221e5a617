//! Data tables: actions, resource types and condition keys of the services we serve; API operations and their actions; AWS managed
//! policies. They are data files, read once when first asked for.

mod api;
mod keys;
mod managed;
mod services;

pub use api::{ApiActions, ApiService, Needs, api_actions};
pub(crate) use keys::global_keys;
pub use keys::{ConditionKeyInfo, KeyType, condition_key, is_list_key};
pub use managed::{ManagedPolicy, managed_policies};
pub use services::{
    ActionInfo, ResourceType, ServiceTable, is_known_service, known_services, service, services,
};
