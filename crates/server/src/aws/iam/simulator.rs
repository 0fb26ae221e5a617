//! The policy simulator and context keys (IAM API spec, section 4.13; policy language spec, section 11).
//!
//! Nothing here is validated as it would be when it is stored: what can be read is evaluated. The caller's own facts
//! (`aws:username`, tags, ...) are in the request unless a context entry says otherwise.

use std::sync::Arc;

use countersign_arn::{AccountId, Arn, Tag};
use countersign_policy::simulator::{Simulation, simulate_action};
use countersign_policy::{
    Action, Attached, CallerFacts, Context, Layers, Level, Policy, PolicyKind, Principal, Source,
};
use countersign_store::records::InlinePolicy;
use countersign_store::{GroupEntry, RoleEntry, UserEntry};

use super::error::{no_such, no_such_user};
use super::evaluation::evaluation;
use crate::aws::ApiError;
use crate::aws::authorize::on;
use crate::aws::operation::{Answer, Call, Operation, iam};
use crate::aws::page::PageRequest;
use crate::aws::query::Member;
use crate::aws::shape::kinds::{
    ACTION_NAMES, ARN, CONTEXT_ENTRIES, EXCLUSIONS, MARKER, MAX_ITEMS, ORGANIZATION_LEVELS,
    POLICY_DOCUMENT, POLICY_DOCUMENTS, RESOURCE, RESOURCE_HANDLING, RESOURCES,
};
use crate::aws::shape::{Value, optional, required};
use crate::aws::target::Target;

/// Evaluations of one call: actions of a page times resources.
const EVALUATIONS: usize = 10_000;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "SimulateCustomPolicy",
        &[
            required("PolicyInputList", POLICY_DOCUMENTS),
            optional("PermissionsBoundaryPolicyInputList", POLICY_DOCUMENTS),
            optional("OrderedOrganizationPolicyInputList", ORGANIZATION_LEVELS),
            required("ActionNames", ACTION_NAMES),
            optional("ResourceArns", RESOURCES),
            optional("ResourcePolicy", POLICY_DOCUMENT),
            optional("ResourceOwner", RESOURCE),
            optional("CallerArn", RESOURCE),
            optional("ContextEntries", CONTEXT_ENTRIES),
            optional("ResourceHandlingOption", RESOURCE_HANDLING),
            optional("MaxItems", MAX_ITEMS),
            optional("Marker", MARKER),
        ],
        on(Target::Any),
        Answer::Read(simulate_custom_policy),
    ),
    iam(
        "SimulatePrincipalPolicy",
        &[
            required("PolicySourceArn", ARN),
            optional("PolicyInputList", POLICY_DOCUMENTS),
            optional("PermissionsBoundaryPolicyInputList", POLICY_DOCUMENTS),
            optional("PolicyExclusionList", EXCLUSIONS),
            required("ActionNames", ACTION_NAMES),
            optional("ResourceArns", RESOURCES),
            optional("ResourcePolicy", POLICY_DOCUMENT),
            optional("ResourceOwner", RESOURCE),
            optional("CallerArn", RESOURCE),
            optional("ContextEntries", CONTEXT_ENTRIES),
            optional("ResourceHandlingOption", RESOURCE_HANDLING),
            optional("MaxItems", MAX_ITEMS),
            optional("Marker", MARKER),
        ],
        on(Target::Arn("PolicySourceArn")),
        Answer::Read(simulate_principal_policy),
    ),
    iam(
        "GetContextKeysForCustomPolicy",
        &[required("PolicyInputList", POLICY_DOCUMENTS)],
        on(Target::Any),
        Answer::Read(context_keys_for_custom_policy),
    ),
    iam(
        "GetContextKeysForPrincipalPolicy",
        &[
            required("PolicySourceArn", ARN),
            optional("PolicyInputList", POLICY_DOCUMENTS),
        ],
        on(Target::Arn("PolicySourceArn")),
        Answer::Read(context_keys_for_principal_policy),
    ),
];

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "InvalidInput", message)
}

fn simulate_custom_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let identity = input_policies(call, "PolicyInputList", PolicyKind::Identity)?;
    let scp = organization_levels(call)?;
    let caller = match call.input.text("CallerArn") {
        Some(arn) => Subject::of_caller(call, arn)?,
        None if call.input.text("ResourcePolicy").is_some() => {
            return Err(invalid(
                "CallerArn must be given when a resource policy is simulated.",
            ));
        }
        None => Subject::nobody(call)?,
    };
    simulate(call, &caller, &identity, passed_boundary(call)?, &scp)
}

fn simulate_principal_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let source = PolicySource::of(call)?;
    let excluded = Exclusions::of(call)?;
    let mut identity = source.policies(call);
    identity.retain(|attached| !excluded.identity(attached));
    identity.extend(input_policies(
        call,
        "PolicyInputList",
        PolicyKind::Identity,
    )?);
    let boundary = match passed_boundary(call)? {
        Some(boundary) => Some(boundary),
        None => source
            .boundary(call)
            .filter(|boundary| !excluded.boundary(boundary)),
    };
    let caller = match call.input.text("CallerArn") {
        Some(arn) => Subject::of_caller(call, arn)?,
        None => source.subject(call)?,
    };
    simulate(call, &caller, &identity, boundary, &[])
}

fn context_keys_for_custom_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let policies = input_policies(call, "PolicyInputList", PolicyKind::Identity)?;
    Ok(context_keys(&policies))
}

fn context_keys_for_principal_policy(call: &Call<'_>) -> Result<Member, ApiError> {
    let mut policies = PolicySource::of(call)?.policies(call);
    policies.extend(input_policies(
        call,
        "PolicyInputList",
        PolicyKind::Identity,
    )?);
    Ok(context_keys(&policies))
}

fn context_keys(policies: &[Attached]) -> Member {
    let mut keys: Vec<&str> = policies
        .iter()
        .flat_map(|attached| attached.policy.document().context_keys())
        .collect();
    keys.sort_by_cached_key(|key| key.to_lowercase());
    keys.dedup_by_key(|key| key.to_lowercase());
    let keys = keys.into_iter().map(|key| Member::Text(key.to_owned()));
    Member::Structure(vec![("ContextKeyNames", Member::List(keys.collect()))])
}

/// The documents of a parameter, named by their place.
fn input_policies(
    call: &Call<'_>,
    parameter: &str,
    kind: PolicyKind,
) -> Result<Vec<Attached>, ApiError> {
    let texts = call.input.texts(parameter);
    (1..)
        .zip(texts)
        .map(|(n, text)| document(text, kind, format!("{parameter}.{n}")))
        .collect()
}

fn document(text: &str, kind: PolicyKind, id: String) -> Result<Attached, ApiError> {
    let policy = Policy::parse(text, kind)
        .map_err(|error| invalid(format!("Invalid policy document in {id}: {error}")))?;
    Ok(Attached::new(Arc::new(policy), id))
}

fn passed_boundary(call: &Call<'_>) -> Result<Option<Attached>, ApiError> {
    let mut boundaries = input_policies(
        call,
        "PermissionsBoundaryPolicyInputList",
        PolicyKind::Boundary,
    )?;
    if boundaries.len() > 1 {
        return Err(invalid(
            "At most one permissions boundary can be simulated.",
        ));
    }
    Ok(boundaries.pop())
}

/// Service control policies, from the root down; every level must allow.
fn organization_levels(call: &Call<'_>) -> Result<Vec<Level>, ApiError> {
    let parameter = "OrderedOrganizationPolicyInputList";
    (1..)
        .zip(call.input.list(parameter))
        .map(|(n, level)| {
            let texts = match level.value("ServiceControlPolicyInputList") {
                Some(Value::List(texts)) => texts.as_slice(),
                _ => &[],
            };
            let policies = (1..)
                .zip(texts)
                .filter_map(|(m, text)| match text {
                    Value::Text(text) => {
                        let id = format!("{parameter}.{n}.ServiceControlPolicyInputList.{m}");
                        Some(document(text, PolicyKind::Scp, id))
                    }
                    _ => None,
                })
                .collect::<Result<_, _>>()?;
            Ok(Level {
                target: format!("{parameter}.{n}").into(),
                policies,
            })
        })
        .collect()
}

/// Who is simulated to call.
struct Subject {
    principal: Principal,
    user_id: Option<String>,
    tags: Vec<Tag>,
}

impl Subject {
    /// A user of the account who has nothing but what the request says.
    fn nobody(call: &Call<'_>) -> Result<Self, ApiError> {
        let arn = format!(
            "arn:{}:iam::{}:user/simulated",
            call.partition(),
            call.account()?
        );
        let principal = Principal::user(&arn, None).map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            principal,
            user_id: None,
            tags: Vec::new(),
        })
    }

    fn of_user(user: &UserEntry) -> Result<Self, ApiError> {
        let principal = Principal::user(&user.arn, Some(&user.record.id))
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            principal,
            user_id: Some(user.record.id.to_string()),
            tags: user.record.tags.clone(),
        })
    }

    /// A session of the role, under a name of ours.
    fn of_role(role: &RoleEntry) -> Result<Self, ApiError> {
        let record = &role.record;
        let session = format!(
            "arn:{}:sts::{}:assumed-role/{}/simulation",
            record.partition, record.account, record.name
        );
        let principal = Principal::session(&session, Some(&role.arn), Some(&record.id))
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            principal,
            user_id: Some(format!("{}:simulation", record.id)),
            tags: record.tags.clone(),
        })
    }

    /// AWS takes users only; roles, sessions and root are taken here besides. Whether the principal exists does not matter.
    fn of_caller(call: &Call<'_>, arn: &str) -> Result<Self, ApiError> {
        let wrong = || invalid(format!("Invalid Entity Arn: {arn}"));
        let parsed = Arn::parse(arn).map_err(|_| wrong())?;
        let account: AccountId = parsed.account.parse().map_err(|_| wrong())?;
        let name = parsed.resource.rsplit('/').next().unwrap_or_default();
        let own = account == call.account()?;
        if parsed.service == "iam" && parsed.resource.starts_with("user/") {
            let user = call.snapshot.user(account, name).filter(|_| own);
            if let Some(user) = user.filter(|user| *user.arn == *arn) {
                return Self::of_user(user);
            }
        }
        if parsed.service == "iam" && parsed.resource.starts_with("role/") {
            let role = call.snapshot.role(account, name).filter(|_| own);
            if let Some(role) = role.filter(|role| *role.arn == *arn) {
                return Self::of_role(role);
            }
            let session = format!(
                "arn:{}:sts::{account}:assumed-role/{name}/simulation",
                parsed.partition
            );
            return Principal::session(&session, Some(arn), None)
                .map(Self::stranger)
                .map_err(|_| wrong());
        }
        Principal::user(arn, None)
            .or_else(|_| Principal::root(arn))
            .or_else(|_| Principal::session(arn, None, None))
            .map(Self::stranger)
            .map_err(|_| wrong())
    }

    fn stranger(principal: Principal) -> Self {
        Self {
            principal,
            user_id: None,
            tags: Vec::new(),
        }
    }
}

/// Whose policies are simulated.
enum PolicySource<'s> {
    User(&'s Arc<UserEntry>),
    Group(&'s Arc<GroupEntry>),
    Role(&'s Arc<RoleEntry>),
}

impl<'s> PolicySource<'s> {
    fn of(call: &'s Call<'_>) -> Result<Self, ApiError> {
        let arn = call.input.required("PolicySourceArn");
        let wrong = || invalid(format!("Invalid Entity Arn: {arn}"));
        let parsed = Arn::parse(arn).map_err(|_| wrong())?;
        let account: AccountId = parsed.account.parse().map_err(|_| wrong())?;
        let (kind, rest) = parsed.resource.split_once('/').ok_or_else(wrong)?;
        let name = rest.rsplit('/').next().unwrap_or_default();
        if parsed.service != "iam" || name.is_empty() {
            return Err(wrong());
        }
        let snapshot = &call.snapshot;
        match kind {
            "user" => snapshot
                .user(account, name)
                .filter(|user| *user.arn == *arn)
                .map(Self::User)
                .ok_or_else(|| no_such_user(name)),
            "group" => snapshot
                .group(account, name)
                .filter(|group| *group.arn == *arn)
                .map(Self::Group)
                .ok_or_else(|| no_such(format!("The group with name {name} cannot be found."))),
            "role" => snapshot
                .role(account, name)
                .filter(|role| *role.arn == *arn)
                .map(Self::Role)
                .ok_or_else(|| no_such(format!("The role with name {name} cannot be found."))),
            _ => Err(wrong()),
        }
    }

    /// Its identity policies under the names of the simulator; a user's with those of its groups.
    fn policies(&self, call: &Call<'_>) -> Vec<Attached> {
        let mut all = Vec::new();
        match self {
            Self::User(user) => {
                let record = &user.record;
                add(
                    call,
                    &mut all,
                    "user",
                    &record.name,
                    &record.policies,
                    &record.attached,
                );
                for group in call.snapshot.groups_of(user) {
                    add_group(call, &mut all, group);
                }
            }
            Self::Group(group) => add_group(call, &mut all, group),
            Self::Role(role) => {
                let record = &role.record;
                add(
                    call,
                    &mut all,
                    "role",
                    &record.name,
                    &record.policies,
                    &record.attached,
                );
            }
        }
        all
    }

    fn boundary(&self, call: &Call<'_>) -> Option<Attached> {
        let arn = match self {
            Self::User(user) => user.record.boundary.as_deref(),
            Self::Role(role) => role.record.boundary.as_deref(),
            Self::Group(_) => None,
        };
        managed(call, arn?, PolicyKind::Boundary)
    }

    fn subject(&self, call: &Call<'_>) -> Result<Subject, ApiError> {
        match self {
            Self::User(user) => Subject::of_user(user),
            Self::Role(role) => Subject::of_role(role),
            Self::Group(_) => Subject::nobody(call),
        }
    }
}

fn add_group(call: &Call<'_>, all: &mut Vec<Attached>, group: &GroupEntry) {
    let record = &group.record;
    add(
        call,
        all,
        "group",
        &record.name,
        &record.policies,
        &record.attached,
    );
}

fn add(
    call: &Call<'_>,
    all: &mut Vec<Attached>,
    kind: &str,
    name: &str,
    inline: &[InlinePolicy],
    attached: &[Box<str>],
) {
    for policy in inline {
        let source = Source {
            id: format!("{kind}_{name}_{}", policy.name).into(),
            kind: Some(kind.into()),
            arn: None,
            attached_via: Some(name.into()),
        };
        all.extend(stored(&policy.document, PolicyKind::Identity, source));
    }
    for arn in attached {
        all.extend(managed(call, arn, PolicyKind::Identity).map(|mut policy| {
            policy.source.attached_via = Some(name.into());
            policy
        }));
    }
}

fn managed(call: &Call<'_>, arn: &str, kind: PolicyKind) -> Option<Attached> {
    let policy = call.snapshot.policy_by_arn(arn)?;
    let source = Source {
        id: policy.name().into(),
        kind: Some(if policy.is_aws() {
            "aws-managed".into()
        } else {
            "user-managed".into()
        }),
        arn: Some(arn.into()),
        attached_via: None,
    };
    stored(policy.default_document(), kind, source)
}

fn stored(text: &str, kind: PolicyKind, source: Source) -> Option<Attached> {
    let policy = Policy::parse(text, kind)
        .inspect_err(
            |error| tracing::error!(policy = &*source.id, %error, "a stored policy cannot be read"),
        )
        .ok()?;
    Some(Attached {
        policy: Arc::new(policy),
        source,
    })
}

/// Policies of the principal that the simulation leaves out.
struct Exclusions<'a>(&'a [Value<'a>]);

impl<'a> Exclusions<'a> {
    /// Service and resource control policies are none of the principal's here, so that leaving them out changes nothing.
    fn of(call: &'a Call<'_>) -> Result<Self, ApiError> {
        let entries = call.input.list("PolicyExclusionList");
        for entry in entries {
            let said = ["PolicyType", "PolicyArn", "InlinePolicyIdentifier"]
                .iter()
                .filter(|name| entry.value(name).is_some())
                .count();
            if said != 1 {
                return Err(invalid(
                    "Each entry of PolicyExclusionList must have exactly one of PolicyType, PolicyArn and InlinePolicyIdentifier.",
                ));
            }
        }
        Ok(Self(entries))
    }

    fn identity(&self, attached: &Attached) -> bool {
        let source = &attached.source;
        self.0.iter().any(|entry| {
            let kind = source
                .kind
                .as_deref()
                .filter(|kind| matches!(*kind, "aws-managed" | "user-managed"))
                .unwrap_or("inline");
            if let Some(wanted) = entry.member("PolicyType") {
                return wanted == kind;
            }
            if let Some(arn) = entry.member("PolicyArn") {
                return source.arn.as_deref() == Some(arn);
            }
            let Some(inline) = entry.value("InlinePolicyIdentifier") else {
                return false;
            };
            let part = |name| inline.member(name).unwrap_or_default();
            let id = format!(
                "{}_{}_{}",
                part("AttachmentType"),
                part("AttachmentName"),
                part("PolicyName")
            );
            kind == "inline" && *source.id == *id
        })
    }

    fn boundary(&self, attached: &Attached) -> bool {
        self.0.iter().any(|entry| {
            entry.member("PolicyType") == Some("permission-boundary")
                || entry
                    .member("PolicyArn")
                    .is_some_and(|arn| attached.source.arn.as_deref() == Some(arn))
        })
    }
}

fn simulate(
    call: &Call<'_>,
    caller: &Subject,
    identity: &[Attached],
    boundary: Option<Attached>,
    scp: &[Level],
) -> Result<Member, ApiError> {
    let input = &call.input;
    let actions = input
        .texts("ActionNames")
        .into_iter()
        .map(|name| {
            let action = Action::parse(name)
                .ok()
                .filter(|_| !name.contains(['*', '?']));
            action.ok_or_else(|| invalid(format!("Invalid Action Name: {name}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if actions.is_empty() {
        return Err(invalid("At least one action name must be given."));
    }
    let resources = input.texts("ResourceArns");
    let passed = input
        .text("ResourcePolicy")
        .map(|text| document(text, PolicyKind::Resource, "ResourcePolicy".to_owned()))
        .transpose()?;
    let passed = passed.map(|policy| vec![policy]);
    // A trust policy is read as what it is: what was passed for a role, else the one that is stored.
    let trusts = resources
        .iter()
        .map(|arn| trust_policy(call, arn))
        .collect::<Result<Vec<_>, _>>()?;
    let resource_policy = |resource: &str| {
        let place = resources.iter().position(|arn| *arn == resource);
        place
            .and_then(|at| trusts.get(at))
            .and_then(Option::as_deref)
            .or(passed.as_deref())
    };
    let tags: Vec<(&str, &str)> = caller
        .tags
        .iter()
        .map(|tag| (&*tag.key, &*tag.value))
        .collect();
    let mut context = Context::new();
    context.add_caller(
        &caller.principal,
        &CallerFacts {
            user_id: caller.user_id.as_deref(),
            tags: &tags,
            ..CallerFacts::default()
        },
    );
    add_context_entries(call, &mut context)?;
    let simulation = Simulation {
        principal: &caller.principal,
        resources: &resources,
        resource_owner: input.text("ResourceOwner").map(owner).transpose()?,
        context: &context,
        layers: Layers {
            identity,
            boundary: boundary.as_ref(),
            scp,
            ..Layers::default()
        },
        resource_policy: &resource_policy,
    };
    let page = PageRequest::of(call)?.positions(call, actions.iter())?;
    if page.items.len().saturating_mul(resources.len().max(1)) > EVALUATIONS {
        return Err(invalid(format!(
            "Actions times resources must not exceed {EVALUATIONS} on one page; set MaxItems."
        )));
    }
    let mut results = Vec::with_capacity(page.items.len());
    for action in &page.items {
        let result = simulate_action(&simulation, action)
            .map_err(|error| invalid(format!("Invalid resource: {error}")))?;
        results.push(result);
    }
    let mut results = results.into_iter();
    Ok(page.answer("EvaluationResults", |_| {
        results
            .next()
            .map_or(Member::None, |result| evaluation(&result))
    }))
}

/// The trust policy of a role: the one that was passed, else the stored one of a role of the account.
fn trust_policy(call: &Call<'_>, arn: &str) -> Result<Option<Vec<Attached>>, ApiError> {
    let Some(parsed) = Arn::parse(arn)
        .ok()
        .filter(|arn| arn.service == "iam" && arn.resource.starts_with("role/"))
    else {
        return Ok(None);
    };
    if let Some(text) = call.input.text("ResourcePolicy") {
        let policy = document(text, PolicyKind::Trust, "ResourcePolicy".to_owned())?;
        return Ok(Some(vec![policy]));
    }
    let name = parsed.resource.rsplit('/').next().unwrap_or_default();
    let role = parsed
        .account
        .parse()
        .ok()
        .filter(|account| call.account().is_ok_and(|own| own == *account))
        .and_then(|account| call.snapshot.role(account, name))
        .filter(|role| *role.arn == *arn);
    Ok(role.map(|role| {
        let compiled = call.policies.role(&call.snapshot, role);
        let mut trust = compiled.trust.clone();
        for policy in &mut trust {
            policy.source = Source {
                id: "ResourcePolicy".into(),
                kind: Some("resource".into()),
                arn: None,
                attached_via: None,
            };
        }
        trust
    }))
}

fn owner(text: &str) -> Result<&str, ApiError> {
    let account = match Arn::parse(text) {
        Ok(arn) => arn.account,
        Err(_) => text,
    };
    account
        .parse::<AccountId>()
        .map(|_| account)
        .map_err(|_| invalid(format!("Invalid resource owner: {text}")))
}

fn add_context_entries<'a>(call: &'a Call<'_>, context: &mut Context<'a>) -> Result<(), ApiError> {
    for entry in call.input.list("ContextEntries") {
        let name = entry
            .member("ContextKeyName")
            .ok_or_else(|| invalid("A context entry has no ContextKeyName."))?;
        let kind = entry
            .member("ContextKeyType")
            .ok_or_else(|| invalid(format!("The context key {name} has no ContextKeyType.")))?;
        let values: Vec<&str> = match entry.value("ContextKeyValues") {
            Some(Value::List(values)) => values
                .iter()
                .filter_map(|value| match value {
                    Value::Text(text) => Some(*text),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        if kind.ends_with("List") {
            context.set_list(name.to_owned(), values.into_iter().map(str::to_owned));
            continue;
        }
        match values.as_slice() {
            [one] => context.set(name.to_owned(), (*one).to_owned()),
            _ => {
                return Err(invalid(format!(
                    "The context key {name} is of the type {kind} and must have one value."
                )));
            }
        }
    }
    Ok(())
}
