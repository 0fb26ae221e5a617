//! The access advisor (IAM API spec, sections 5.4 and 5.5): which of the services that somebody may use they did use.
//!
//! A job remembers what was asked and by whom. It is answered when it is looked at, from the policies and uses of that moment.

use std::collections::BTreeMap;

use countersign_arn::{AccountId, Arn};
use countersign_policy::tables;
use countersign_store::records::{ActionUse, InlinePolicy, Job, JobKind, LastUsed, ServiceUse};
use countersign_store::{
    DirectorySnapshot, EntityKind, GroupEntry, PolicyRef, RoleEntry, UserEntry,
};
use jiff::{SignedDuration, Timestamp};

use super::error::no_such;
use super::granted::Granted;
use crate::audit::class;
use crate::aws::ApiError;
use crate::aws::authorize::not_an_arn;
use crate::aws::operation::Call;
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::request_id;

/// How long a job can be looked at.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Names of services as AWS writes them; of others the namespace is shown.
const SERVICE_NAMES: &[(&str, &str)] = &[
    ("ec2", "Amazon EC2"),
    ("ecr", "Amazon Elastic Container Registry"),
    ("eks", "Amazon EKS"),
    ("eks-auth", "Amazon EKS Auth"),
    ("iam", "AWS Identity and Access Management"),
    ("s3", "Amazon S3"),
    ("sso", "AWS IAM Identity Center"),
    ("sts", "AWS Security Token Service"),
];

/// GenerateServiceLastAccessedDetails.
pub(super) async fn generate(call: &Call<'_>) -> Result<Member, ApiError> {
    let arn = call.input.required("Arn");
    Subject::find(call, arn)?;
    let job = Job {
        account: call.account()?,
        id: request_id::fresh().into(),
        created: call.now,
        by: asker(call)?.into(),
        kind: JobKind::ServiceLastAccessed {
            arn: arn.into(),
            actions: call.input.text("Granularity") == Some("ACTION_LEVEL"),
        },
    };
    call.directory
        .start_access_report(&job, oldest(call.now))
        .await?;
    Ok(Member::Structure(vec![(
        "JobId",
        Member::Text(job.id.to_string()),
    )]))
}

/// GetServiceLastAccessedDetails.
pub(super) fn get(call: &Call<'_>) -> Result<Member, ApiError> {
    let job = Asked::find(call)?;
    let subject = Subject::find(call, job.arn)?;
    let uses = Uses::of(call, &subject);
    let sources = subject.sources(&call.snapshot);
    let granted = Granted::by(sources.iter().map(|source| source.document));
    let services = granted.services();
    let request = PageRequest::of(call)?;
    let after = request.after().unwrap_or_default();
    let page = request.page(
        call,
        services.iter().copied().filter(|service| *service > after),
        |service| (*service).to_owned(),
    )?;
    let kind = if job.actions {
        "ACTION_LEVEL"
    } else {
        "SERVICE_LEVEL"
    };
    let mut members = vec![
        ("JobStatus", Member::Text("COMPLETED".to_owned())),
        ("JobType", Member::Text(kind.to_owned())),
        ("JobCreationDate", Member::Time(job.created)),
        ("JobCompletionDate", Member::Time(job.created)),
    ];
    members.extend(page.members("ServicesLastAccessed", |service| {
        service_member(&granted, &uses, service, job.actions)
    }));
    Ok(Member::Structure(members))
}

/// GetServiceLastAccessedDetailsWithEntities.
pub(super) fn get_with_entities(call: &Call<'_>) -> Result<Member, ApiError> {
    let job = Asked::find(call)?;
    let namespace = call.input.required("ServiceNamespace");
    let subject = Subject::find(call, job.arn)?;
    let entities = subject.entities(&call.snapshot);
    let request = PageRequest::of(call)?;
    let after = request.after().unwrap_or_default();
    let page = request.page(
        call,
        entities.values().filter(|entity| entity.id > after),
        |entity| entity.id.to_owned(),
    )?;
    let mut members = vec![
        ("JobStatus", Member::Text("COMPLETED".to_owned())),
        ("JobCreationDate", Member::Time(job.created)),
        ("JobCompletionDate", Member::Time(job.created)),
    ];
    members.extend(page.members("EntityDetailsList", |entity| {
        let info = vec![
            ("Arn", Member::Text(entity.arn.to_owned())),
            ("Name", Member::Text(entity.name.to_owned())),
            ("Type", Member::Text(entity.kind.to_owned())),
            ("Id", Member::Text(entity.id.to_owned())),
            ("Path", Member::Text(entity.path.to_owned())),
        ];
        let used = call.last_used(entity.id);
        let used = used.as_ref().and_then(|used| used.services.get(namespace));
        let mut members = vec![("EntityInfo", Member::Structure(info))];
        members.extend(used.map(|used| ("LastAuthenticated", Member::Time(used.at))));
        Member::Structure(members)
    }));
    Ok(Member::Structure(members))
}

/// ListPoliciesGrantingServiceAccess.
pub(super) fn policies_granting(call: &Call<'_>) -> Result<Member, ApiError> {
    let arn = call.input.required("Arn");
    let subject = Subject::find(call, arn)?;
    if matches!(subject, Subject::Policy { .. }) {
        return Err(ApiError::new(400, "InvalidInput", not_an_arn(arn).message));
    }
    let sources: Vec<(Source<'_>, Granted)> = subject
        .sources(&call.snapshot)
        .into_iter()
        .map(|source| {
            let granted = Granted::by([source.document]);
            (source, granted)
        })
        .collect();
    let namespaces = call.input.texts("ServiceNamespaces");
    let page = PageRequest::of(call)?.positions(call, namespaces.into_iter())?;
    Ok(page.answer("PoliciesGrantingServiceAccess", |namespace| {
        let policies = sources
            .iter()
            .filter(|(_, granted)| granted.allows(namespace))
            .map(|(source, _)| source.member())
            .collect();
        Member::Structure(vec![
            ("ServiceNamespace", Member::Text(namespace.to_owned())),
            ("Policies", Member::List(policies)),
        ])
    }))
}

/// Who asks: only they may look at the job. A session of a role is somebody else than another session of it.
fn asker(call: &Call<'_>) -> Result<String, ApiError> {
    let identity = call.caller()?.identity();
    Ok(match identity.session_name() {
        "" => identity.user_id().to_owned(),
        session => format!("{}:{session}", identity.user_id()),
    })
}

fn oldest(now: Timestamp) -> Timestamp {
    now.saturating_sub(KEPT).unwrap_or(Timestamp::MIN)
}

/// A job that the caller asked for.
struct Asked<'a> {
    created: Timestamp,
    arn: &'a str,
    actions: bool,
}

impl<'a> Asked<'a> {
    fn find(call: &'a Call<'_>) -> Result<Self, ApiError> {
        let id = call.input.required("JobId");
        let unknown = || no_such(format!("The job with id {id} cannot be found."));
        let job = &call
            .snapshot
            .job(call.account()?, id)
            .ok_or_else(unknown)?
            .record;
        match &job.kind {
            // Somebody else's job is no other than one that does not exist.
            JobKind::ServiceLastAccessed { arn, actions }
                if *job.by == *asker(call)? && job.created >= oldest(call.now) =>
            {
                Ok(Self {
                    created: job.created,
                    arn,
                    actions: *actions,
                })
            }
            _ => Err(unknown()),
        }
    }
}

/// Whom or what a report is about.
enum Subject<'s> {
    User(&'s UserEntry),
    Group(&'s GroupEntry),
    Role(&'s RoleEntry),
    Policy {
        arn: &'s str,
        policy: PolicyRef<'s>,
        /// The account of the caller.
        account: AccountId,
    },
}

/// A policy of the subject.
struct Source<'s> {
    name: &'s str,
    /// Of managed policies.
    arn: Option<&'s str>,
    /// Kind and name of the entity that an inline policy is in.
    owner: Option<(&'static str, &'s str)>,
    document: &'s str,
}

/// A user or role whose uses count.
struct Entity<'s> {
    id: &'s str,
    arn: &'s str,
    name: &'s str,
    path: &'s str,
    kind: &'static str,
}

impl<'s> Subject<'s> {
    /// The user, group, role or policy with this ARN, of the caller's account or of AWS.
    fn find(call: &'s Call<'_>, arn: &'s str) -> Result<Self, ApiError> {
        let invalid = || ApiError::new(400, "InvalidInput", not_an_arn(arn).message);
        let parsed = Arn::parse(arn).map_err(|_| invalid())?;
        let account = call.account()?;
        let snapshot = &*call.snapshot;
        let (kind, rest) = parsed.resource.split_once('/').ok_or_else(invalid)?;
        let name = rest.rsplit('/').next().unwrap_or_default();
        let found = match kind {
            _ if parsed.service != "iam" => return Err(invalid()),
            "policy" => snapshot
                .policy_by_arn(arn)
                .filter(|policy| policy.is_aws() || *parsed.account == *account.as_str())
                .map(|policy| Self::Policy {
                    arn,
                    policy,
                    account,
                }),
            "user" => snapshot
                .user(account, name)
                .filter(|user| *user.arn == *arn)
                .map(|user| Self::User(user)),
            "group" => snapshot
                .group(account, name)
                .filter(|group| *group.arn == *arn)
                .map(|group| Self::Group(group)),
            "role" => snapshot
                .role(account, name)
                .filter(|role| *role.arn == *arn)
                .map(|role| Self::Role(role)),
            _ => return Err(invalid()),
        };
        found.ok_or_else(|| no_such(format!("ARN {arn} cannot be found.")))
    }

    /// The policies that make what the subject may do.
    fn sources(&self, snapshot: &'s DirectorySnapshot) -> Vec<Source<'s>> {
        let mut sources = Vec::new();
        let mut add =
            |kind, name: &'s str, inline: &'s [InlinePolicy], attached: &'s [Box<str>]| {
                sources.extend(inline.iter().map(|policy| Source {
                    name: &policy.name,
                    arn: None,
                    owner: Some((kind, name)),
                    document: &policy.document,
                }));
                sources.extend(attached.iter().filter_map(|arn| {
                    let policy = snapshot.policy_by_arn(arn)?;
                    Some(Source {
                        name: policy.name(),
                        arn: Some(arn),
                        owner: None,
                        document: policy.default_document(),
                    })
                }));
            };
        match *self {
            Self::User(user) => {
                let record = &user.record;
                add("USER", &record.name, &record.policies, &record.attached);
                for group in snapshot.groups_of(user) {
                    let record = &group.record;
                    add("GROUP", &record.name, &record.policies, &record.attached);
                }
            }
            Self::Group(group) => {
                let record = &group.record;
                add("GROUP", &record.name, &record.policies, &record.attached);
            }
            Self::Role(role) => {
                let record = &role.record;
                add("ROLE", &record.name, &record.policies, &record.attached);
            }
            Self::Policy { arn, policy, .. } => sources.push(Source {
                name: policy.name(),
                arn: Some(arn),
                owner: None,
                document: policy.default_document(),
            }),
        }
        sources
    }

    /// The users and roles whose uses count, by id: for a group its users, for a policy all who have it, also by a group.
    fn entities(&self, snapshot: &'s DirectorySnapshot) -> BTreeMap<&'s str, Entity<'s>> {
        let mut entities = BTreeMap::new();
        match *self {
            Self::User(user) => add_user(&mut entities, user),
            Self::Role(role) => add_role(&mut entities, role),
            Self::Group(group) => snapshot
                .group_members(group, None)
                .for_each(|user| add_user(&mut entities, user)),
            Self::Policy { arn, account, .. } => {
                // Entities of other accounts have policies of AWS too; they are none of the caller's business.
                let own = snapshot
                    .attached_to(arn)
                    .filter(|having| having.account == account);
                for having in own {
                    let name = &*having.name;
                    match having.kind {
                        EntityKind::User => snapshot
                            .user(account, name)
                            .into_iter()
                            .for_each(|user| add_user(&mut entities, user)),
                        EntityKind::Role => snapshot
                            .role(account, name)
                            .into_iter()
                            .for_each(|role| add_role(&mut entities, role)),
                        EntityKind::Group => snapshot
                            .group(account, name)
                            .into_iter()
                            .flat_map(|group| snapshot.group_members(group, None))
                            .for_each(|user| add_user(&mut entities, user)),
                    }
                }
            }
        }
        entities
    }
}

fn add_user<'s>(entities: &mut BTreeMap<&'s str, Entity<'s>>, user: &'s UserEntry) {
    let record = &user.record;
    let entity = Entity {
        id: &record.id,
        arn: &user.arn,
        name: &record.name,
        path: &record.path,
        kind: "USER",
    };
    entities.insert(entity.id, entity);
}

fn add_role<'s>(entities: &mut BTreeMap<&'s str, Entity<'s>>, role: &'s RoleEntry) {
    let record = &role.record;
    let entity = Entity {
        id: &record.id,
        arn: &role.arn,
        name: &record.name,
        path: &record.path,
        kind: "ROLE",
    };
    entities.insert(entity.id, entity);
}

impl Source<'_> {
    fn member(&self) -> Member {
        let kind = if self.arn.is_some() {
            "MANAGED"
        } else {
            "INLINE"
        };
        let mut members = vec![
            ("PolicyName", Member::Text(self.name.to_owned())),
            ("PolicyType", Member::Text(kind.to_owned())),
        ];
        members.extend(
            self.arn
                .map(|arn| ("PolicyArn", Member::Text(arn.to_owned()))),
        );
        if let Some((kind, name)) = self.owner {
            members.push(("EntityType", Member::Text(kind.to_owned())));
            members.push(("EntityName", Member::Text(name.to_owned())));
        }
        Member::Structure(members)
    }
}

/// What the entities of a subject used, with the ARN of each.
struct Uses<'s>(Vec<(&'s str, LastUsed)>);

impl<'s> Uses<'s> {
    fn of(call: &'s Call<'_>, subject: &Subject<'s>) -> Self {
        Self(
            subject
                .entities(&call.snapshot)
                .values()
                .filter_map(|entity| Some((entity.arn, call.last_used(entity.id)?)))
                .collect(),
        )
    }

    /// The last use of a service, by whom, and how many entities used it.
    fn service(&self, service: &str) -> Option<(&'s str, &ServiceUse, usize)> {
        let all = || {
            self.0
                .iter()
                .filter_map(|(arn, used)| Some((*arn, used.services.get(service)?)))
        };
        let (arn, used) = all().max_by_key(|(_, used)| used.at)?;
        Some((arn, used, all().count()))
    }

    /// The last use of an action, and by whom.
    fn action(&self, service: &str, action: &str) -> Option<(&'s str, &ActionUse)> {
        self.0
            .iter()
            .filter_map(|(arn, used)| {
                Some((*arn, used.services.get(service)?.actions.get(action)?))
            })
            .max_by_key(|(_, used)| used.at)
    }
}

fn service_member(granted: &Granted, uses: &Uses<'_>, service: &str, actions: bool) -> Member {
    let name = SERVICE_NAMES
        .iter()
        .find(|(namespace, _)| *namespace == service)
        .map_or(service, |(_, name)| name);
    let mut members = vec![("ServiceName", Member::Text(name.to_owned()))];
    let used = uses.service(service);
    if let Some((arn, used, _)) = used {
        members.push(("LastAuthenticated", Member::Time(used.at)));
        members.push(("LastAuthenticatedEntity", Member::Text(arn.to_owned())));
        let region = Member::Text(used.region.to_string());
        members.push(("LastAuthenticatedRegion", region));
    }
    members.push(("ServiceNamespace", Member::Text(service.to_owned())));
    let count = used.map_or(0, |(_, _, count)| i64::try_from(count).unwrap_or(i64::MAX));
    members.push(("TotalAuthenticatedEntities", Member::Number(count)));
    if actions {
        let tracked: Vec<Member> = tracked_actions(service)
            .filter(|action| granted.allows_action(service, action))
            .map(|action| action_member(uses, service, action))
            .collect();
        if !tracked.is_empty() {
            members.push(("TrackedActionsLastAccessed", Member::List(tracked)));
        }
    }
    Member::Structure(members)
}

/// The actions of a service that are tracked: those of the services of this deployment, by their operations.
fn tracked_actions(service: &str) -> impl Iterator<Item = &'static str> {
    tables::service(service)
        .into_iter()
        .flat_map(|table| table.actions.keys())
        .map(String::as_str)
        .filter(move |action| class(service, action).is_some())
}

fn action_member(uses: &Uses<'_>, service: &str, action: &str) -> Member {
    let mut members = vec![("ActionName", Member::Text(action.to_owned()))];
    if let Some((arn, used)) = uses.action(service, action) {
        members.push(("LastAccessedEntity", Member::Text(arn.to_owned())));
        members.push(("LastAccessedTime", Member::Time(used.at)));
        let region = Member::Text(used.region.to_string());
        members.push(("LastAccessedRegion", region));
    }
    Member::Structure(members)
}
