//! All of IAM in an account as one document: what `aws iam get-account-authorization-details` prints (IAM API spec, section
//! 5.2), documents as JSON and not as text.
//!
//! What that form has no place for and an import needs is added: a role's `Description` and `MaxSessionDuration`, and the
//! `Tags` of policies. Keys, passwords, MFA devices, providers and instance profiles without a role are not in it.

use countersign_arn::{AccountId, Tag};
use countersign_store::records::{InlinePolicy, InstanceProfile, Role};
use countersign_store::{DirectorySnapshot, PolicyRef};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::op::AdminError;

/// The whole document.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct IamDump {
    #[serde(default)]
    pub(super) user_detail_list: Vec<UserDetail>,
    #[serde(default)]
    pub(super) group_detail_list: Vec<GroupDetail>,
    #[serde(default)]
    pub(super) role_detail_list: Vec<RoleDetail>,
    #[serde(default)]
    pub(super) policies: Vec<PolicyDetail>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UserDetail {
    pub(super) path: Box<str>,
    pub(super) user_name: Box<str>,
    pub(super) user_id: Box<str>,
    pub(super) arn: String,
    #[serde(serialize_with = "seconds")]
    pub(super) create_date: Timestamp,
    #[serde(default)]
    pub(super) user_policy_list: Vec<InlineDetail>,
    #[serde(default)]
    pub(super) group_list: Vec<Box<str>>,
    #[serde(default)]
    pub(super) attached_managed_policies: Vec<AttachedDetail>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) permissions_boundary: Option<BoundaryDetail>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<TagDetail>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GroupDetail {
    pub(super) path: Box<str>,
    pub(super) group_name: Box<str>,
    pub(super) group_id: Box<str>,
    pub(super) arn: String,
    #[serde(serialize_with = "seconds")]
    pub(super) create_date: Timestamp,
    #[serde(default)]
    pub(super) group_policy_list: Vec<InlineDetail>,
    #[serde(default)]
    pub(super) attached_managed_policies: Vec<AttachedDetail>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RoleDetail {
    pub(super) path: Box<str>,
    pub(super) role_name: Box<str>,
    pub(super) role_id: Box<str>,
    pub(super) arn: String,
    #[serde(serialize_with = "seconds")]
    pub(super) create_date: Timestamp,
    pub(super) assume_role_policy_document: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_session_duration: Option<u32>,
    #[serde(default)]
    pub(super) instance_profile_list: Vec<ProfileDetail>,
    #[serde(default)]
    pub(super) role_policy_list: Vec<InlineDetail>,
    #[serde(default)]
    pub(super) attached_managed_policies: Vec<AttachedDetail>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) permissions_boundary: Option<BoundaryDetail>,
    #[serde(default)]
    pub(super) tags: Vec<TagDetail>,
    #[serde(default)]
    role_last_used: LastUsedDetail,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ProfileDetail {
    pub(super) path: Box<str>,
    pub(super) instance_profile_name: Box<str>,
    pub(super) instance_profile_id: Box<str>,
    pub(super) arn: String,
    #[serde(serialize_with = "seconds")]
    pub(super) create_date: Timestamp,
    #[serde(default)]
    roles: Vec<BasicRole>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<TagDetail>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BasicRole {
    path: Box<str>,
    role_name: Box<str>,
    role_id: Box<str>,
    arn: String,
    #[serde(serialize_with = "seconds")]
    create_date: Timestamp,
    assume_role_policy_document: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PolicyDetail {
    pub(super) policy_name: Box<str>,
    pub(super) policy_id: Box<str>,
    pub(super) arn: String,
    pub(super) path: Box<str>,
    pub(super) default_version_id: Box<str>,
    #[serde(default)]
    attachment_count: usize,
    #[serde(default)]
    permissions_boundary_usage_count: usize,
    #[serde(default)]
    is_attachable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Box<str>>,
    #[serde(serialize_with = "seconds")]
    pub(super) create_date: Timestamp,
    #[serde(serialize_with = "seconds")]
    pub(super) update_date: Timestamp,
    pub(super) policy_version_list: Vec<VersionDetail>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<TagDetail>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VersionDetail {
    pub(super) document: Box<RawValue>,
    pub(super) version_id: Box<str>,
    pub(super) is_default_version: bool,
    #[serde(serialize_with = "seconds")]
    pub(super) create_date: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InlineDetail {
    pub(super) policy_name: Box<str>,
    pub(super) policy_document: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AttachedDetail {
    policy_name: Box<str>,
    pub(super) policy_arn: Box<str>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BoundaryDetail {
    permissions_boundary_type: Box<str>,
    pub(super) permissions_boundary_arn: Box<str>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagDetail {
    pub(super) key: Box<str>,
    pub(super) value: Box<str>,
}

/// Read and dropped: an import used nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LastUsedDetail {
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "some_seconds"
    )]
    last_used_date: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<Box<str>>,
}

impl IamDump {
    /// Everything in an account.
    ///
    /// # Errors
    /// When there is no such account.
    pub(super) fn of(snapshot: &DirectorySnapshot, account: AccountId) -> Result<Self, AdminError> {
        let entry = snapshot
            .account(account)
            .ok_or_else(|| AdminError::request(format!("there is no account `{account}`")))?;
        let partition = entry.record.partition;
        let dumper = Dumper { snapshot, account };
        let customers = snapshot
            .managed_policies(account, None)
            .map(PolicyRef::Customer);
        let of_aws = snapshot.policies_of_aws().into_iter().filter(|policy| {
            snapshot.policy_use_count(account, &policy.arn_in(partition)) != (0, 0)
        });
        Ok(Self {
            user_detail_list: dumper.users(),
            group_detail_list: dumper.groups(),
            role_detail_list: snapshot
                .roles(account, None)
                .map(|role| dumper.role(&role.record))
                .collect(),
            policies: customers
                .chain(of_aws)
                .map(|policy| dumper.policy(policy, partition))
                .collect(),
        })
    }

    /// The document as text.
    ///
    /// # Errors
    /// Never, as it is made of texts and numbers.
    pub(super) fn to_json(&self) -> Result<String, AdminError> {
        serde_json::to_string_pretty(self).map_err(AdminError::unavailable)
    }
}

struct Dumper<'s> {
    snapshot: &'s DirectorySnapshot,
    account: AccountId,
}

impl Dumper<'_> {
    fn users(&self) -> Vec<UserDetail> {
        let users = self.snapshot.users(self.account, None).map(|user| {
            let record = &user.record;
            UserDetail {
                path: record.path.clone(),
                user_name: record.name.clone(),
                user_id: record.id.clone(),
                arn: record.arn(),
                create_date: record.created,
                user_policy_list: inline(&record.policies),
                group_list: self
                    .snapshot
                    .groups_of(user)
                    .map(|group| group.record.name.clone())
                    .collect(),
                attached_managed_policies: self.attached(&record.attached),
                permissions_boundary: boundary(record.boundary.as_deref()),
                tags: tags(&record.tags),
            }
        });
        users.collect()
    }

    fn groups(&self) -> Vec<GroupDetail> {
        let groups = self.snapshot.groups(self.account, None).map(|group| {
            let record = &group.record;
            GroupDetail {
                path: record.path.clone(),
                group_name: record.name.clone(),
                group_id: record.id.clone(),
                arn: record.arn(),
                create_date: record.created,
                group_policy_list: inline(&record.policies),
                attached_managed_policies: self.attached(&record.attached),
            }
        });
        groups.collect()
    }

    fn role(&self, role: &Role) -> RoleDetail {
        let profiles = self
            .snapshot
            .instance_profiles(self.account, None)
            .filter(|profile| profile.record.role.as_deref() == Some(&*role.id));
        let used = self.snapshot.last_used(&role.id);
        let used = used.as_ref().and_then(|used| used.latest());
        RoleDetail {
            path: role.path.clone(),
            role_name: role.name.clone(),
            role_id: role.id.clone(),
            arn: role.arn(),
            create_date: role.created,
            assume_role_policy_document: self.trust(role),
            description: role.description.clone(),
            max_session_duration: Some(role.max_session_duration),
            instance_profile_list: profiles
                .map(|profile| self.profile(&profile.record, role))
                .collect(),
            role_policy_list: inline(&role.policies),
            attached_managed_policies: self.attached(&role.attached),
            permissions_boundary: boundary(role.boundary.as_deref()),
            tags: tags(&role.tags),
            role_last_used: LastUsedDetail {
                last_used_date: used.map(|(_, used)| used.at),
                region: used.map(|(_, used)| used.region.clone()),
            },
        }
    }

    fn profile(&self, profile: &InstanceProfile, role: &Role) -> ProfileDetail {
        ProfileDetail {
            path: profile.path.clone(),
            instance_profile_name: profile.name.clone(),
            instance_profile_id: profile.id.clone(),
            arn: profile.arn(),
            create_date: profile.created,
            roles: vec![BasicRole {
                path: role.path.clone(),
                role_name: role.name.clone(),
                role_id: role.id.clone(),
                arn: role.arn(),
                create_date: role.created,
                assume_role_policy_document: self.trust(role),
            }],
            tags: tags(&profile.tags),
        }
    }

    fn policy(&self, policy: PolicyRef<'_>, partition: countersign_arn::Partition) -> PolicyDetail {
        let arn = policy.arn_in(partition);
        let in_force = policy.default_version();
        let (attachments, boundaries) = self.snapshot.policy_use_count(self.account, &arn);
        let versions = policy
            .versions()
            .into_iter()
            .rev()
            .filter(|version| !policy.is_aws() || version.number == in_force);
        PolicyDetail {
            policy_name: policy.name().into(),
            policy_id: policy.id().into(),
            arn,
            path: policy.path().into(),
            default_version_id: format!("v{in_force}").into(),
            attachment_count: attachments,
            permissions_boundary_usage_count: boundaries,
            is_attachable: policy.is_attachable(),
            description: policy.description().map(Into::into),
            create_date: policy.created(),
            update_date: policy.updated(),
            policy_version_list: versions
                .map(|version| VersionDetail {
                    document: document(&policy.document_in(partition, version.document)),
                    version_id: format!("v{}", version.number).into(),
                    is_default_version: version.number == in_force,
                    create_date: version.created,
                })
                .collect(),
            tags: match policy {
                PolicyRef::Customer(policy) => tags(&policy.record.tags),
                PolicyRef::Imported(_) | PolicyRef::Shipped(_) => Vec::new(),
            },
        }
    }

    fn trust(&self, role: &Role) -> Box<RawValue> {
        document(&self.snapshot.shown_trust_policy(&role.trust))
    }

    fn attached(&self, arns: &[Box<str>]) -> Vec<AttachedDetail> {
        let attached = arns.iter().map(|arn| {
            let name = self.snapshot.policy_by_arn(arn).map_or_else(
                || arn.rsplit('/').next().unwrap_or_default(),
                PolicyRef::name,
            );
            AttachedDetail {
                policy_name: name.into(),
                policy_arn: arn.clone(),
            }
        });
        attached.collect()
    }
}

/// The JSON of a document, letter by letter; a text for what is no JSON.
fn document(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned())
        .or_else(|_| to_raw_value(text))
        .unwrap_or_default()
}

fn inline(policies: &[InlinePolicy]) -> Vec<InlineDetail> {
    let inline = policies.iter().map(|policy| InlineDetail {
        policy_name: policy.name.clone(),
        policy_document: document(&policy.document),
    });
    inline.collect()
}

fn boundary(arn: Option<&str>) -> Option<BoundaryDetail> {
    arn.map(|arn| BoundaryDetail {
        permissions_boundary_type: "Policy".into(),
        permissions_boundary_arn: arn.into(),
    })
}

fn tags(tags: &[Tag]) -> Vec<TagDetail> {
    let tags = tags.iter().map(|tag| TagDetail {
        key: tag.key.clone(),
        value: tag.value.clone(),
    });
    tags.collect()
}

/// As the AWS CLI prints times.
fn seconds<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.strftime("%Y-%m-%dT%H:%M:%S+00:00"))
}

fn some_seconds<S: serde::Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => seconds(at, serializer),
        None => serializer.serialize_none(),
    }
}
