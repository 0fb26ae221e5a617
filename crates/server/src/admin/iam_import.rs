//! From the document of [`super::iam_dump`] to records: names, paths, documents, dates and, if wanted, ids are kept.
//!
//! Everything is checked before anything is made: documents as the API checks them, that every group, policy and boundary
//! that is named is there or in the document, and that the ARNs are of the account. An entity that exists already stops the
//! import, or is left as it is when that is asked for.

use std::collections::HashMap;

use countersign_arn::unique_id::Kind;
use countersign_arn::{AccountId, Arn, Partition, Tag};
use countersign_policy::PolicyKind;
use countersign_policy::validate::{Existence, PrincipalDirectory, validate};
use countersign_store::records::{
    Group, InlinePolicy, InstanceProfile, ManagedPolicy, PolicyVersion, Role, TrustPolicy, User,
    fold_name,
};
use countersign_store::{Directory, DirectorySnapshot, IamRecords};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::execute::refused;
use super::iam_dump::{
    AttachedDetail, BoundaryDetail, GroupDetail, IamDump, InlineDetail, PolicyDetail,
    ProfileDetail, RoleDetail, TagDetail, UserDetail,
};
use super::op::AdminError;

const DEFAULT_SESSION: u32 = 3600;

/// How to import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportOptions {
    /// The account that the document must be of; absent = the one its ARNs name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// Whether entities keep the unique ids of the document; otherwise they get new ones.
    pub keep_ids: bool,
    /// Whether entities that exist are left as they are; otherwise they stop the import.
    pub skip_existing: bool,
    /// Whether only to say what would be made.
    pub dry_run: bool,
}

/// What an import made, or would make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportReport {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// ARNs of what was made.
    pub made: Vec<String>,
    /// ARNs of what was there already and is as it was.
    pub skipped: Vec<String>,
}

/// Imports a document.
///
/// # Errors
/// Says which entity cannot be imported, and why.
pub(super) async fn import(
    directory: &Directory,
    document: &str,
    options: ImportOptions,
) -> Result<ImportReport, AdminError> {
    let dump: IamDump = serde_json::from_str(document).map_err(|error| {
        AdminError::request(format!(
            "the document is not what `aws iam get-account-authorization-details` prints: {error}"
        ))
    })?;
    let snapshot = directory.snapshot();
    let account = account_of(&dump, options.account)?;
    let entry = snapshot.account(account).ok_or_else(|| {
        AdminError::request(format!(
            "the document is of account `{account}`, which is not here"
        ))
    })?;
    let mut importer = Importer {
        directory,
        snapshot: &snapshot,
        account,
        partition: entry.record.partition,
        options,
        principals: HashMap::new(),
        groups: HashMap::new(),
        policies: Vec::new(),
        records: IamRecords::default(),
        report: ImportReport {
            dry_run: options.dry_run,
            ..ImportReport::default()
        },
    };
    importer.read(&dump)?;
    let Importer {
        records, report, ..
    } = importer;
    if options.dry_run {
        directory.check_import(account, &records).map_err(refused)?;
    } else {
        directory
            .import_iam(account, records)
            .await
            .map_err(refused)?;
    }
    Ok(report)
}

/// The one account that all ARNs of the document name.
fn account_of(dump: &IamDump, wanted: Option<AccountId>) -> Result<AccountId, AdminError> {
    let arns = dump
        .user_detail_list
        .iter()
        .map(|user| &user.arn)
        .chain(dump.group_detail_list.iter().map(|group| &group.arn))
        .chain(dump.role_detail_list.iter().map(|role| &role.arn))
        .chain(dump.policies.iter().map(|policy| &policy.arn));
    let mut found = wanted;
    for arn in arns {
        let account = Arn::parse(arn)
            .map(|arn| arn.account.to_owned())
            .map_err(|_| AdminError::request(format!("`{}` is no ARN", arn.escape_debug())))?;
        if account == "aws" {
            continue;
        }
        let account: AccountId = account.parse().map_err(|_| {
            AdminError::request(format!("`{}` names no account", arn.escape_debug()))
        })?;
        match found {
            Some(other) if other != account => {
                return Err(AdminError::request(format!(
                    "`{arn}` is not of account `{other}`; an import is of one account, and into the same"
                )));
            }
            _ => found = Some(account),
        }
    }
    found.ok_or_else(|| AdminError::request("the document is empty; nothing names an account"))
}

struct Importer<'i> {
    directory: &'i Directory,
    snapshot: &'i DirectorySnapshot,
    account: AccountId,
    partition: Partition,
    options: ImportOptions,
    /// ARNs of users and roles to come, with their ids.
    principals: HashMap<String, String>,
    /// Groups to come, by folded name.
    groups: HashMap<String, Box<str>>,
    /// ARNs of policies to come.
    policies: Vec<String>,
    records: IamRecords,
    report: ImportReport,
}

impl Importer<'_> {
    /// Ids first, because entities name each other.
    fn read(&mut self, dump: &IamDump) -> Result<(), AdminError> {
        let account = self.account;
        let mut policies = Vec::new();
        for policy in &dump.policies {
            if Arn::parse(&policy.arn).is_ok_and(|arn| arn.account == "aws") {
                continue;
            }
            let there = self
                .snapshot
                .managed_policy(account, &policy.policy_name)
                .is_some();
            if self.is_new(there, &policy.arn)? {
                self.policies.push(policy.arn.clone());
                policies.push(policy);
            }
        }
        let mut groups = Vec::new();
        for group in &dump.group_detail_list {
            let there = self.snapshot.group(account, &group.group_name).is_some();
            if self.is_new(there, &group.arn)? {
                let id = self.id(Kind::Group, &group.group_id, &group.arn)?;
                let folded = fold_name(&group.group_name).into_owned();
                self.groups.insert(folded, id.clone());
                groups.push((group, id));
            }
        }
        let mut roles = Vec::new();
        for role in &dump.role_detail_list {
            let there = self.snapshot.role(account, &role.role_name).is_some();
            if self.is_new(there, &role.arn)? {
                let id = self.id(Kind::Role, &role.role_id, &role.arn)?;
                self.principals.insert(role.arn.clone(), id.to_string());
                roles.push((role, id));
            }
        }
        let mut users = Vec::new();
        for user in &dump.user_detail_list {
            let there = self.snapshot.user(account, &user.user_name).is_some();
            if self.is_new(there, &user.arn)? {
                let id = self.id(Kind::User, &user.user_id, &user.arn)?;
                self.principals.insert(user.arn.clone(), id.to_string());
                users.push((user, id));
            }
        }
        for policy in policies {
            let policy = self.policy(policy)?;
            self.records.policies.push(policy);
        }
        for (group, id) in groups {
            let group = self.group(group, id)?;
            self.records.groups.push(group);
        }
        for (role, id) in roles {
            for profile in &role.instance_profile_list {
                self.profile(profile, &id)?;
            }
            let role = self.role(role, id)?;
            self.records.roles.push(role);
        }
        for (user, id) in users {
            let user = self.user(user, id)?;
            self.records.users.push(user);
        }
        Ok(())
    }

    /// Notes what becomes of an entity.
    fn is_new(&mut self, there: bool, arn: &str) -> Result<bool, AdminError> {
        if there && !self.options.skip_existing {
            return Err(AdminError::request(format!(
                "`{arn}` exists already; leave what exists as it is with `--skip-existing`"
            )));
        }
        let list = if there {
            &mut self.report.skipped
        } else {
            &mut self.report.made
        };
        list.push(arn.to_owned());
        Ok(!there)
    }

    fn id(&self, kind: Kind, given: &str, arn: &str) -> Result<Box<str>, AdminError> {
        if !self.options.keep_ids {
            return self.directory.fresh_id(kind, self.account).map_err(refused);
        }
        let shaped = Kind::of(given) == Some(kind)
            && given.len() == kind.id_len()
            && given
                .bytes()
                .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b));
        if shaped {
            Ok(given.into())
        } else {
            Err(AdminError::request(format!(
                "`{}` is no unique id for `{arn}`; import it without `--keep-ids`",
                given.escape_debug()
            )))
        }
    }

    fn policy(&self, policy: &PolicyDetail) -> Result<ManagedPolicy, AdminError> {
        let arn = &policy.arn;
        let mut versions = Vec::new();
        for version in &policy.policy_version_list {
            versions.push(PolicyVersion {
                number: number(&version.version_id, arn)?,
                created: version.create_date,
                document: self.identity(&version.document, arn)?,
            });
        }
        versions.sort_by_key(|version| version.number);
        let last = versions.last().map_or(0, |version| version.number);
        let record = ManagedPolicy {
            account: self.account,
            partition: self.partition,
            name: policy.policy_name.clone(),
            path: policy.path.clone(),
            id: self.id(Kind::ManagedPolicy, &policy.policy_id, arn)?,
            created: policy.create_date,
            updated: policy.update_date,
            description: policy.description.clone(),
            tags: tags(&policy.tags),
            default_version: number(&policy.default_version_id, arn)?,
            next_version: last.saturating_add(1),
            versions,
        };
        same_arn(&record.arn(), arn)?;
        Ok(record)
    }

    fn group(&self, group: &GroupDetail, id: Box<str>) -> Result<Group, AdminError> {
        let record = Group {
            account: self.account,
            partition: self.partition,
            name: group.group_name.clone(),
            path: group.path.clone(),
            id,
            created: group.create_date,
            policies: self.inline(&group.group_policy_list, &group.arn)?,
            attached: self.attached(&group.attached_managed_policies, &group.arn)?,
        };
        same_arn(&record.arn(), &group.arn)?;
        Ok(record)
    }

    fn role(&self, role: &RoleDetail, id: Box<str>) -> Result<Role, AdminError> {
        let arn = &role.arn;
        let document = text(&role.assume_role_policy_document, arn)?;
        let valid = validate(&document, PolicyKind::Trust, self)
            .map_err(|rejection| malformed(arn, &rejection.message))?;
        let record = Role {
            account: self.account,
            partition: self.partition,
            name: role.role_name.clone(),
            path: role.path.clone(),
            id,
            created: role.create_date,
            description: role.description.clone(),
            max_session_duration: role.max_session_duration.unwrap_or(DEFAULT_SESSION),
            trust: TrustPolicy::new(document.as_str(), &valid.principal_ids),
            tags: tags(&role.tags),
            policies: self.inline(&role.role_policy_list, arn)?,
            attached: self.attached(&role.attached_managed_policies, arn)?,
            boundary: self.boundary(role.permissions_boundary.as_ref(), arn)?,
        };
        same_arn(&record.arn(), arn)?;
        Ok(record)
    }

    fn user(&self, user: &UserDetail, id: Box<str>) -> Result<User, AdminError> {
        let arn = &user.arn;
        let mut groups: Vec<Box<str>> = Vec::new();
        for name in &user.group_list {
            let to_come = self.groups.get(&*fold_name(name)).cloned();
            let there = || {
                let group = self.snapshot.group(self.account, name)?;
                Some(group.record.id.clone())
            };
            let group = to_come.or_else(there).ok_or_else(|| {
                AdminError::request(format!(
                    "`{arn}` is in the group `{}`, which is nowhere",
                    name.escape_debug()
                ))
            })?;
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let record = User {
            account: self.account,
            partition: self.partition,
            name: user.user_name.clone(),
            path: user.path.clone(),
            id,
            created: user.create_date,
            tags: tags(&user.tags),
            access_keys: Vec::new(),
            policies: self.inline(&user.user_policy_list, arn)?,
            attached: self.attached(&user.attached_managed_policies, arn)?,
            boundary: self.boundary(user.permissions_boundary.as_ref(), arn)?,
            groups,
            mfa_devices: Vec::new(),
            login: None,
        };
        same_arn(&record.arn(), arn)?;
        Ok(record)
    }

    fn profile(&mut self, profile: &ProfileDetail, role: &str) -> Result<(), AdminError> {
        let there = self
            .snapshot
            .instance_profile(self.account, &profile.instance_profile_name)
            .is_some();
        if !self.is_new(there, &profile.arn)? {
            return Ok(());
        }
        let id = self.id(
            Kind::InstanceProfile,
            &profile.instance_profile_id,
            &profile.arn,
        )?;
        let record = InstanceProfile {
            account: self.account,
            partition: self.partition,
            name: profile.instance_profile_name.clone(),
            path: profile.path.clone(),
            id,
            created: profile.create_date,
            role: Some(role.into()),
            tags: tags(&profile.tags),
        };
        same_arn(&record.arn(), &profile.arn)?;
        self.records.instance_profiles.push(record);
        Ok(())
    }

    fn inline(
        &self,
        policies: &[InlineDetail],
        arn: &str,
    ) -> Result<Vec<InlinePolicy>, AdminError> {
        let policy = |policy: &InlineDetail| {
            Ok(InlinePolicy {
                name: policy.policy_name.clone(),
                document: self.identity(&policy.policy_document, arn)?,
            })
        };
        policies.iter().map(policy).collect()
    }

    /// The text of an identity policy that IAM would take.
    fn identity(&self, document: &RawValue, arn: &str) -> Result<Box<str>, AdminError> {
        let text = text(document, arn)?;
        validate(&text, PolicyKind::Identity, self)
            .map_err(|rejection| malformed(arn, &rejection.message))?;
        Ok(text.into())
    }

    fn attached(
        &self,
        policies: &[AttachedDetail],
        arn: &str,
    ) -> Result<Vec<Box<str>>, AdminError> {
        let attached = policies.iter().map(|policy| {
            self.known_policy(&policy.policy_arn, arn)?;
            Ok(policy.policy_arn.clone())
        });
        attached.collect()
    }

    fn boundary(
        &self,
        boundary: Option<&BoundaryDetail>,
        arn: &str,
    ) -> Result<Option<Box<str>>, AdminError> {
        let Some(boundary) = boundary else {
            return Ok(None);
        };
        self.known_policy(&boundary.permissions_boundary_arn, arn)?;
        Ok(Some(boundary.permissions_boundary_arn.clone()))
    }

    fn known_policy(&self, policy: &str, arn: &str) -> Result<(), AdminError> {
        let to_come = self.policies.iter().any(|known| known == policy);
        if to_come || self.snapshot.policy_by_arn(policy).is_some() {
            return Ok(());
        }
        Err(AdminError::request(format!(
            "`{arn}` has the policy `{}`, which is nowhere; policies of AWS that are not shipped are imported first",
            policy.escape_debug()
        )))
    }
}

impl PrincipalDirectory for Importer<'_> {
    fn look_up(&self, arn: &str) -> Existence {
        match self.principals.get(arn) {
            Some(id) => Existence::Has(id.clone()),
            None => self.snapshot.look_up(arn),
        }
    }

    /// An id in the document of a role is that of somebody who was deleted; it trusts nobody.
    fn knows_id(&self, _unique_id: &str) -> bool {
        true
    }
}

/// A document as it is stored: the JSON itself, or what a text of the API says.
fn text(document: &RawValue, arn: &str) -> Result<String, AdminError> {
    let raw = document.get();
    if !raw.starts_with('"') {
        return Ok(raw.to_owned());
    }
    let text: String =
        serde_json::from_str(raw).map_err(|error| malformed(arn, &error.to_string()))?;
    if !text.starts_with('%') {
        return Ok(text);
    }
    percent_decoded(&text).ok_or_else(|| malformed(arn, "its percent-encoding is broken"))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn malformed(arn: &str, what: &str) -> AdminError {
    AdminError::request(format!("a policy document of `{arn}`: {what}"))
}

fn same_arn(made: &str, given: &str) -> Result<(), AdminError> {
    if made == given {
        return Ok(());
    }
    Err(AdminError::request(format!(
        "`{}` is not the ARN that follows from account, path and name: `{made}`",
        given.escape_debug()
    )))
}

fn number(version: &str, arn: &str) -> Result<u32, AdminError> {
    version
        .strip_prefix('v')
        .and_then(|number| number.parse().ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| {
            AdminError::request(format!(
                "`{}` is no version of `{arn}`",
                version.escape_debug()
            ))
        })
}

fn tags(tags: &[TagDetail]) -> Vec<Tag> {
    let tags = tags.iter().map(|tag| Tag {
        key: tag.key.clone(),
        value: tag.value.clone(),
    });
    tags.collect()
}
