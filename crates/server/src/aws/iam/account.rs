//! The account (IAM API spec, section 4.12).

use countersign_store::{DirectorySnapshot, PolicyRef};

use super::authorization_details;
use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Call, Operation, iam};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::kinds::{ACCOUNT_ALIAS, ENTITY_FILTERS, MARKER, MAX_ITEMS};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use crate::aws::{ApiError, internal_failure};

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateAccountAlias",
        &[required("AccountAlias", ACCOUNT_ALIAS)],
        on(Target::Any),
        Answer::Write(|call| Box::pin(create_alias(call))),
    ),
    iam(
        "ListAccountAliases",
        &[optional("Marker", MARKER), optional("MaxItems", MAX_ITEMS)],
        on(Target::Any),
        Answer::Read(list_aliases),
    ),
    iam(
        "DeleteAccountAlias",
        &[required("AccountAlias", ACCOUNT_ALIAS)],
        on(Target::Any),
        Answer::Write(|call| Box::pin(delete_alias(call))),
    ),
    iam(
        "GetAccountSummary",
        &[],
        on(Target::Any),
        Answer::Read(get_summary),
    ),
    iam(
        "GetAccountAuthorizationDetails",
        &[
            optional("Filter", ENTITY_FILTERS),
            optional("MaxItems", MAX_ITEMS),
            optional("Marker", MARKER),
        ],
        on(Target::Any),
        Answer::Read(authorization_details::get),
    ),
];

/// Quotas of AWS that nothing here is measured against.
const POLICY_VERSIONS_IN_USE: usize = 10_000;
const SERVER_CERTIFICATES: usize = 20;
const SIGNING_CERTIFICATES_PER_USER: usize = 2;

async fn create_alias(call: &Call<'_>) -> Result<Member, ApiError> {
    call.directory
        .set_account_alias(call.account()?, call.input.required("AccountAlias"))
        .await?;
    Ok(Member::None)
}

fn list_aliases(call: &Call<'_>) -> Result<Member, ApiError> {
    let entry = call
        .snapshot
        .account(call.account()?)
        .ok_or_else(internal_failure)?;
    let page = PageRequest::of(call)?.positions(call, entry.record.alias.iter())?;
    Ok(page.answer("AccountAliases", |alias| Member::Text(alias.to_string())))
}

async fn delete_alias(call: &Call<'_>) -> Result<Member, ApiError> {
    call.directory
        .delete_account_alias(call.account()?, call.input.required("AccountAlias"))
        .await?;
    Ok(Member::None)
}

/// IAM API spec, section 5.1.
fn get_summary(call: &Call<'_>) -> Result<Member, ApiError> {
    let account = call.account()?;
    let snapshot = &call.snapshot;
    let entry = snapshot.account(account).ok_or_else(internal_failure)?;
    let quotas = call.directory.quotas();
    let providers = snapshot.oidc_providers(account).count();
    let providers = providers.saturating_add(snapshot.saml_providers(account).count());
    let devices = || snapshot.mfa_devices(account, None);
    let owners = || devices().filter_map(|device| device.record.enabled.as_ref());
    let root_has_mfa = owners().any(|enabled| *enabled.user_id == *account.as_str());
    let entries = [
        ("Users", snapshot.user_count(account)),
        ("UsersQuota", quotas.users_per_account),
        ("Groups", snapshot.group_count(account)),
        ("GroupsQuota", quotas.groups_per_account),
        ("Roles", snapshot.role_count(account)),
        ("RolesQuota", quotas.roles_per_account),
        ("Policies", snapshot.managed_policy_count(account)),
        ("PoliciesQuota", quotas.policies_per_account),
        ("PolicyVersionsInUse", versions_in_use(call, snapshot)?),
        ("PolicyVersionsInUseQuota", POLICY_VERSIONS_IN_USE),
        ("InstanceProfiles", snapshot.instance_profile_count(account)),
        (
            "InstanceProfilesQuota",
            quotas.instance_profiles_per_account,
        ),
        ("ServerCertificates", 0),
        ("ServerCertificatesQuota", SERVER_CERTIFICATES),
        ("Providers", providers),
        ("MFADevices", devices().count()),
        ("MFADevicesInUse", owners().count()),
        ("AccountMFAEnabled", usize::from(root_has_mfa)),
        (
            "AccountAccessKeysPresent",
            usize::from(!entry.record.root_keys.is_empty()),
        ),
        // The root user signs in nowhere.
        ("AccountPasswordPresent", 0),
        ("AccountSigningCertificatesPresent", 0),
        ("AccessKeysPerUserQuota", quotas.access_keys_per_user),
        (
            "SigningCertificatesPerUserQuota",
            SIGNING_CERTIFICATES_PER_USER,
        ),
        ("GroupsPerUserQuota", quotas.groups_per_user),
        ("AttachedPoliciesPerUserQuota", quotas.attached_policies),
        ("AttachedPoliciesPerGroupQuota", quotas.attached_policies),
        ("AttachedPoliciesPerRoleQuota", quotas.attached_policies),
        ("UserPolicySizeQuota", quotas.user_policy_chars),
        ("GroupPolicySizeQuota", quotas.group_policy_chars),
        ("RolePolicySizeQuota", quotas.role_policy_chars),
        ("AssumeRolePolicySizeQuota", quotas.trust_policy_chars),
        ("PolicySizeQuota", quotas.policy_chars),
        ("VersionsPerPolicyQuota", quotas.versions_per_policy),
        ("GlobalEndpointTokenVersion", 1),
    ];
    let entries = entries.map(|(key, value)| {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        (key.to_owned(), Member::Number(value))
    });
    Ok(Member::Structure(vec![(
        "SummaryMap",
        Member::Map(entries.into()),
    )]))
}

/// The versions of the policies that somebody in the account has; of those of AWS, the one in force.
fn versions_in_use(call: &Call<'_>, snapshot: &DirectorySnapshot) -> Result<usize, ApiError> {
    let account = call.account()?;
    let used = snapshot
        .used_policy_arns()
        .filter(|arn| snapshot.policy_use_count(account, arn) != (0, 0))
        .filter_map(|arn| snapshot.policy_by_arn(arn));
    Ok(used
        .map(|policy| match policy {
            PolicyRef::Customer(policy) => policy.record.versions.len(),
            PolicyRef::Imported(_) | PolicyRef::Shipped(_) => 1,
        })
        .fold(0, usize::saturating_add))
}
