//! Everything that decides, in one place, and the question asked of it.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_access::AccessRules;
use countersign_arn::{CallerArn, Partition};
use countersign_mapping::config_map::ConfigMap;
use countersign_mapping::{
    Backend, BackendKind, Chain, ChainOptions, Finding, MappingOptions, MappingTable, OnParseError,
};
use countersign_rbac::{Catalog, Index, Request, SUPERUSERS};

use crate::access_rules::ByRule;
use crate::action::Asked;
use crate::advice;
use crate::identify::Identified;
use crate::policies::Policies;
use crate::principal::{Principal, Standing, Subject, User};
use crate::rbac;
use crate::report::{Caller, Grant, IdentityReport, Review};
use crate::snapshot::{AccessSnapshot, EntryFacts, Mode};

/// Nearest misses that are shown.
const MAX_NEAREST: usize = 5;

/// What a cluster's access is decided by: entries, `aws-auth`, access policies, roles and bindings. Immutable; building it
/// is linear in its size, a question is not.
#[derive(Debug)]
pub struct Model {
    pub(crate) snapshot: Option<AccessSnapshot>,
    pub(crate) index: Index,
    pub(crate) policies: Policies,
    pub(crate) rules: AccessRules,
    pub(crate) catalog: Catalog,
    /// Entries by unique id and by name.
    pub(crate) by_id: HashMap<String, usize>,
    pub(crate) by_name: HashMap<NameKey, Vec<usize>>,
    /// `aws-auth`, and the creator of a cluster in mode `CONFIG_MAP`; none if it was not read.
    pub(crate) aws_auth: Option<Chain>,
    pub(crate) creator: Option<Chain>,
    incomplete: Vec<String>,
    findings: Vec<Finding>,
}

/// Account, kind and last element of the name: what identifies a principal before its unique id is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NameKey {
    account: countersign_arn::AccountId,
    is_role: bool,
    name: String,
}

/// What a [`Model`] is made of.
#[derive(Debug, Default)]
pub struct Parts {
    /// Entries and mode; absent if only Kubernetes users are asked about.
    pub snapshot: Option<AccessSnapshot>,
    /// Roles and bindings, with what could not be read marked in it.
    pub index: Index,
    /// What clusters serve; empty counts as [`Catalog::builtin`].
    pub catalog: Option<Catalog>,
    /// The policies that entries may have.
    pub policies: Policies,
    /// The access rules beside them.
    pub rules: AccessRules,
    /// What could not be read beyond what the snapshot and the index say.
    pub incomplete: Vec<String>,
}

impl Model {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            snapshot,
            index,
            catalog,
            policies,
            rules,
            mut incomplete,
        } = parts;
        let (mut by_id, mut by_name) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        let (mut aws_auth, mut creator, mut findings) = (None, None, Vec::new());
        if let Some(snapshot) = &snapshot {
            incomplete.extend(snapshot.incomplete_reasons.iter().cloned());
            for (place, entry) in snapshot.entries.iter().enumerate() {
                if let Some(id) = entry.binding.principal_id() {
                    by_id.insert(id.to_owned(), place);
                }
                if let Ok(arn) = CallerArn::parse(&entry.principal_arn) {
                    by_name.entry(NameKey::of(&arn)).or_default().push(place);
                }
            }
            let options = MappingOptions {
                partition: partition_of(snapshot),
                ..MappingOptions::default()
            };
            if let Some(data) = &snapshot.aws_auth {
                let map = ConfigMap::parse(data, &options);
                findings.clone_from(&map.findings);
                let (entries, stale) = map.in_force(None, OnParseError::KeepLastGood);
                incomplete.extend(stale.iter().map(|stale| {
                    format!(
                        "aws-auth: {} does not parse: {}",
                        stale.section, stale.error
                    )
                }));
                let table = MappingTable::new(BackendKind::EksConfigMap, entries, &options);
                let backends = vec![Backend::Table(Arc::new(table))];
                aws_auth = Some(Chain::new(backends, ChainOptions::default()));
            }
            if let Some(by) = &snapshot.cluster.creator {
                let id = by.principal_id.as_deref();
                let table = MappingTable::cluster_creator(&by.principal_arn, id, &options);
                creator = table
                    .map(|table| Chain::new(vec![Backend::from(table)], ChainOptions::default()));
            }
        }
        let policies = match &snapshot {
            None => policies,
            Some(snapshot) => {
                let arn = snapshot.cluster.arn.as_deref().unwrap_or_default();
                let account = arn
                    .split(':')
                    .nth(4)
                    .and_then(|account| account.parse().ok());
                policies.of_cluster(partition_of(snapshot), account, &index)
            }
        };
        Self {
            snapshot,
            index,
            policies,
            rules,
            catalog: catalog.unwrap_or_else(|| Catalog::builtin().clone()),
            by_id,
            by_name,
            aws_auth,
            creator,
            incomplete,
            findings,
        }
    }

    /// What clusters serve, as far as is known.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Roles and bindings.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The entries, in byte order of principal ARN.
    #[must_use]
    pub fn entries(&self) -> &[EntryFacts] {
        self.snapshot
            .as_ref()
            .map_or(&[], |snapshot| &snapshot.entries)
    }

    /// The policies that entries may have.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// What was noticed in `aws-auth`.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What could not be read, roles and bindings apart.
    #[must_use]
    pub fn incomplete_reasons(&self) -> &[String] {
        &self.incomplete
    }

    /// Where identities come from. Without a snapshot there is no cluster whose mode could matter.
    pub(crate) fn mode(&self) -> Mode {
        let snapshot = self.snapshot.as_ref();
        snapshot.map_or(Mode::ConfigMap, |s| s.cluster.authentication_mode)
    }

    /// The principal with what the snapshot knows of it.
    #[must_use]
    pub fn known(&self, mut principal: Principal) -> Principal {
        let Some(snapshot) = &self.snapshot else {
            return principal;
        };
        if principal.standing != Standing::Unknown {
            return principal;
        }
        let told = snapshot.principals.iter().find(|told| {
            CallerArn::parse(&told.principal_arn).is_ok_and(|arn| principal.is_named(&arn))
        });
        principal.standing = match told {
            None => Standing::Unknown,
            Some(told) => match &told.principal_id {
                None => Standing::Absent,
                Some(id) => Standing::There {
                    id: id.clone(),
                    arn: told.principal_arn.clone(),
                },
            },
        };
        principal
    }

    /// The whole decision: who it is, what allows it, and what would.
    #[must_use]
    pub fn review(&self, subject: &Subject, action: &Asked) -> Review {
        let mut review = Review::new(action.clone());
        if let Some(snapshot) = &self.snapshot {
            review.cluster = Some(snapshot.cluster.name.clone());
            review.authentication_mode = Some(snapshot.cluster.authentication_mode);
        }
        match subject {
            Subject::User(user) => {
                self.decide(&mut review, user, None, None);
                self.note_impersonation(&mut review, user);
            }
            Subject::Principal(principal) => {
                let principal = self.known(principal.clone());
                review.caller = Some(Caller {
                    arn: principal.arn.to_string(),
                    canonical_arn: principal.canonical(),
                    principal_id: principal.id().map(str::to_owned),
                    session_name: principal.session.clone(),
                });
                let identified = self.identify(&principal);
                self.decide_principal(&mut review, &principal, identified);
            }
        }
        review.incomplete = !review.allowed && !review.incomplete_reasons.is_empty();
        if review.allowed {
            review.incomplete_reasons.clear();
        }
        review
    }

    fn decide_principal(
        &self,
        review: &mut Review,
        principal: &Principal,
        identified: Identified<'_>,
    ) {
        let entry = identified.entry;
        review.notes.extend(identified.notes);
        review.incomplete_reasons.extend(identified.incomplete);
        review.mapping = Some(identified.mapping);
        match &identified.user {
            Some(user) => self.decide(review, user, entry, identified.by_rule.as_ref()),
            None => review
                .incomplete_reasons
                .extend(self.incomplete.iter().cloned()),
        }
        if !review.allowed {
            let dead = identified.dead;
            let help = advice::for_principal(self, review, principal, entry, dead);
            review.would_help = help;
        } else if let (Some(Grant::AccessPolicy { .. }), true) =
            (review.granted.first(), only_policies(&review.granted))
        {
            review.notes.push(
                "access policies do not follow impersonation: `kubectl auth can-i --as` says no here, and so does \
                 `kubectl --as`"
                    .to_owned(),
            );
        }
    }

    /// Decides for a user, and for the entry or access rule that made it one.
    fn decide(
        &self,
        review: &mut Review,
        user: &User,
        entry: Option<&EntryFacts>,
        by_rule: Option<&ByRule>,
    ) {
        review.identity = Some(IdentityReport {
            username: user.name.clone(),
            groups: user.groups.clone(),
        });
        let asked = review.action.clone();
        let request = Request {
            user: countersign_rbac::User::new(&user.name, &user.groups),
            action: asked.action(),
        };
        if request.user.is_superuser() {
            review.granted.push(Grant::Superuser { group: SUPERUSERS });
        }
        let gives = entry.or(by_rule.map(|rule| &rule.entry));
        if let Some(entry) = gives.filter(|entry| entry.entry_type.takes_policies()) {
            let id = review.caller.as_ref().and_then(|c| c.principal_id.clone());
            for policy in &entry.associated_access_policies {
                let (verdict, mut grant) =
                    self.policies
                        .verdict(entry, id.as_deref(), policy, &request.action);
                if let (Some(Grant::AccessPolicy { reason, .. }), Some(rule)) =
                    (&mut grant, by_rule)
                {
                    reason.push_str(&rule.reason);
                }
                review.policies.push(verdict);
                review.granted.extend(grant);
            }
        }
        let chains = self.index.authorize_all(&request);
        review.granted.extend(chains.iter().map(rbac::grant));
        review.allowed = !review.granted.is_empty();
        if review.allowed {
            return;
        }
        if let countersign_rbac::Decision::NoOpinion(no) = self.index.authorize(&request) {
            let nearest = no.nearest(MAX_NEAREST);
            review.nearest = nearest
                .iter()
                .filter_map(|miss| rbac::near(miss, &asked, &self.catalog))
                .collect();
            review.incomplete_reasons.extend(no.incomplete_reasons());
            let unbound = no.unbound_groups();
            let unbound: Vec<&str> = unbound
                .into_iter()
                .filter(|group| !group.starts_with("system:"))
                .collect();
            if !unbound.is_empty() {
                review.notes.push(format!(
                    "no binding names the group{} {}",
                    if unbound.len() == 1 { "" } else { "s" },
                    unbound.join(", ")
                ));
            }
        }
        review
            .incomplete_reasons
            .extend(self.incomplete.iter().cloned());
        advice::impersonation(self, review, user, gives);
        if entry.is_none() {
            review.would_help = advice::for_user(self, review, user);
        }
    }

    /// A user that is an entry's user, asked about by its name, is what `kubectl --as` makes: without the entry's policies.
    fn note_impersonation(&self, review: &mut Review, user: &User) {
        let entry = self.entries().iter().find(|entry| {
            entry.username == user.name
                || entry.principal_arn == user.name
                || role_of_default_username(&entry.username, &user.name)
        });
        let Some(entry) = entry.filter(|e| !e.associated_access_policies.is_empty()) else {
            return;
        };
        review.notes.push(format!(
            "asked as a Kubernetes user, which is what `kubectl --as` makes: the access policies of entry {} do not count; \
             `--as-principal {}` asks for the principal itself",
            entry.principal_arn, entry.principal_arn
        ));
    }
}

/// Whether the username is what a template with a session name at its end makes.
fn role_of_default_username(template: &str, username: &str) -> bool {
    ["{{SessionName}}", "{{SessionNameRaw}}"].iter().any(|end| {
        template
            .strip_suffix(end)
            .is_some_and(|head| !head.is_empty() && username.starts_with(head))
    })
}

fn only_policies(granted: &[Grant]) -> bool {
    granted
        .iter()
        .all(|grant| matches!(grant, Grant::AccessPolicy { .. }))
}

pub(crate) fn partition_of(snapshot: &AccessSnapshot) -> Partition {
    let arn = snapshot.cluster.arn.as_deref().unwrap_or_default();
    let field = arn.split(':').nth(1).unwrap_or_default();
    field.parse().unwrap_or_default()
}

impl NameKey {
    pub(crate) fn of(arn: &CallerArn) -> Self {
        use countersign_arn::CallerKind::{AssumedRole, Role};
        Self {
            account: arn.account(),
            is_role: matches!(arn.kind(), Role | AssumedRole),
            // IAM has at most one principal of a name, whatever its case.
            name: arn.name().to_ascii_lowercase(),
        }
    }
}
