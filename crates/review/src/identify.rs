//! From the principal to the Kubernetes user: access entry, access rule, creator, `aws-auth` (EKS API spec, sections 4.2, 7.4, 7.9).

use countersign_access::{UsernameFacts, expand_username, needs_node_name};
use countersign_arn::{CallerArn, CallerIdentity, CallerKind};
use countersign_mapping::{Chain, DenyReason, MappingDecision, RuleReference};
use countersign_rbac::AUTHENTICATED;

use crate::access_rules::ByRule;
use crate::model::{Model, NameKey};
use crate::principal::{Principal, Standing, User};
use crate::report::{Mapping, MappingSource};
use crate::snapshot::{EntryBinding, EntryFacts};

/// What came of the way from the principal to a user.
#[derive(Debug)]
pub(crate) struct Identified<'m> {
    pub(crate) mapping: Mapping,
    /// The entry that decides.
    pub(crate) entry: Option<&'m EntryFacts>,
    /// The access rule that decides.
    pub(crate) by_rule: Option<ByRule>,
    /// An entry of this name that lets nobody in.
    pub(crate) dead: Option<&'m EntryFacts>,
    /// Absent if the principal becomes no user.
    pub(crate) user: Option<User>,
    pub(crate) notes: Vec<String>,
    pub(crate) incomplete: Vec<String>,
}

/// What the entries say.
enum Found<'m> {
    Entry(&'m EntryFacts, Option<String>),
    Dead(&'m EntryFacts),
    No,
}

/// A user of a rule, with the templates in its names if no session is known.
struct Named {
    user: User,
    rule: RuleReference,
}

impl Model {
    /// Finds the source that knows the principal, in the order of the cluster's mode.
    pub(crate) fn identify(&self, principal: &Principal) -> Identified<'_> {
        let mut identified = Identified {
            mapping: Mapping {
                source: MappingSource::None,
                rule: String::new(),
                entry_type: None,
                binding: None,
                because: Vec::new(),
                nearest: Vec::new(),
            },
            entry: None,
            by_rule: None,
            dead: None,
            user: None,
            notes: Vec::new(),
            incomplete: Vec::new(),
        };
        let because = &mut identified.mapping.because;
        if self.snapshot.is_none() {
            because.push(
                "no access entries and no aws-auth were given, so that nobody knows the principal"
                    .to_owned(),
            );
            identified
                .incomplete
                .push("access entries were not read".to_owned());
            return identified;
        }
        if principal.standing == Standing::Absent {
            because.push(format!(
                "IAM has no principal {}",
                principal.arn.canonical()
            ));
            return identified;
        }
        let mode = self.mode();
        if mode.reads_entries() {
            match self.entry_of(principal) {
                Found::Entry(entry, note) => {
                    identified.notes.extend(note);
                    return self.by_entry(principal, entry, identified);
                }
                Found::Dead(entry) => {
                    identified.mapping.because.push(dead_text(entry, principal));
                    identified.dead = Some(entry);
                    self.note_hidden_rule(principal, &mut identified);
                }
                Found::No => {
                    identified
                        .mapping
                        .because
                        .push("no access entry for this principal".to_owned());
                    if self.by_access_rule(principal, &mut identified) {
                        return identified;
                    }
                }
            }
        } else if let Found::Entry(entry, _) | Found::Dead(entry) = self.entry_of(principal) {
            identified.mapping.because.push(format!(
                "there is an access entry {}, and mode {mode} does not read entries",
                entry.principal_arn
            ));
        }
        let Some(identity) = principal.identity() else {
            identified
                .mapping
                .because
                .push("no token can be of this principal".to_owned());
            return identified;
        };
        if mode.reads_config_map() {
            self.by_config_map(principal, &identity, &mut identified);
        } else {
            if let Some(Ok(named)) = self
                .aws_auth
                .as_ref()
                .map(|chain| ask(chain, principal, &identity))
            {
                identified.mapping.because.push(format!(
                    "{} would map it, and mode {mode} does not read aws-auth",
                    rule_text(&named.rule)
                ));
            }
        }
        identified
    }

    /// The entry for the principal: by its unique id where that is known, else by account, kind and name.
    fn entry_of(&self, principal: &Principal) -> Found<'_> {
        let entries = self.entries();
        if let Some(place) = principal.id().and_then(|id| self.by_id.get(id))
            && let Some(entry) = entries.get(*place)
        {
            let moved = entry.principal_arn != principal.canonical();
            let note = moved.then(|| {
                format!(
                    "the entry shows {}, under which it was made; the unique id decides",
                    entry.principal_arn
                )
            });
            return Found::Entry(entry, note);
        }
        let key = NameKey::of(&principal.arn);
        let named = self.by_name.get(&key).into_iter().flatten();
        let mut dead = None;
        for entry in named.filter_map(|place| entries.get(*place)) {
            let known = matches!(principal.standing, Standing::There { .. });
            match &entry.binding {
                EntryBinding::Dead { .. } => dead = Some(entry),
                // Its id is not the caller's, or it would have been found.
                EntryBinding::Bound { .. } if known => dead = Some(entry),
                EntryBinding::Bound { .. } => return Found::Entry(entry, None),
                EntryBinding::Unbound => {
                    let note = "the entry is not bound yet: it belongs to the first principal of this name that \
                                authenticates";
                    return Found::Entry(entry, Some(note.to_owned()));
                }
                EntryBinding::Unknown => {
                    let note = "to which unique id the entry is bound is not told: if the principal was made again, it \
                                lets nobody in";
                    return Found::Entry(entry, Some(note.to_owned()));
                }
            }
        }
        dead.map_or(Found::No, Found::Dead)
    }

    fn by_entry<'m>(
        &'m self,
        principal: &Principal,
        entry: &'m EntryFacts,
        mut identified: Identified<'m>,
    ) -> Identified<'m> {
        identified.mapping = Mapping {
            source: MappingSource::AccessEntry,
            rule: entry.principal_arn.clone(),
            entry_type: Some(entry.entry_type.to_string()),
            binding: Some(entry.binding.clone()).filter(|b| *b != EntryBinding::Unknown),
            because: Vec::new(),
            nearest: Vec::new(),
        };
        let identity = principal.identity();
        match expanded(entry, principal) {
            Ok(name) => {
                identified.user = Some(user_of(name, entry.kubernetes_groups.clone()));
                identified.entry = Some(entry);
            }
            Err(error) => identified.mapping.because.push(format!(
                "its username `{}` cannot be made: {error}",
                entry.username
            )),
        }
        self.note_ignored_mapping(principal, entry, identity.as_ref(), &mut identified);
        identified
    }

    /// An entry wins whole: what aws-auth says of the same principal counts for nothing (section 7.9).
    fn note_ignored_mapping(
        &self,
        principal: &Principal,
        entry: &EntryFacts,
        identity: Option<&CallerIdentity>,
        identified: &mut Identified<'_>,
    ) {
        let (Some(chain), Some(identity)) = (&self.aws_auth, identity) else {
            return;
        };
        let Ok(named) = ask(chain, principal, identity) else {
            return;
        };
        let user = identified.user.as_ref();
        let same = user.is_some_and(|user| *user == named.user);
        if !same {
            identified.notes.push(format!(
                "{} says otherwise (user \"{}\", groups {}) and is not asked: the entry {} wins whole",
                rule_text(&named.rule),
                named.user.name,
                named.user.groups.join(", "),
                entry.principal_arn
            ));
        }
    }

    fn by_config_map(
        &self,
        principal: &Principal,
        identity: &CallerIdentity,
        identified: &mut Identified<'_>,
    ) {
        // In mode CONFIG_MAP the creator is an administrator beside the ConfigMap; later an entry says so.
        let creator = self
            .creator
            .as_ref()
            .filter(|_| !self.mode().reads_entries());
        let assumed = self.assumed_creator(principal);
        let asked = assumed.as_ref().unwrap_or(principal);
        let asked_identity = assumed.as_ref().and_then(Principal::identity);
        let asked_identity = asked_identity.as_ref().unwrap_or(identity);
        if let Some(Ok(named)) = creator.map(|chain| ask(chain, asked, asked_identity)) {
            identified.mapping.source = MappingSource::ClusterCreator;
            identified.mapping.rule = "the creator of the cluster".to_owned();
            identified.user = Some(named.user);
            if assumed.is_some() {
                identified.notes.push(
                    "nobody told the principal's unique id: if it was made again, it is not the creator".to_owned(),
                );
            }
            return;
        }
        let Some(chain) = &self.aws_auth else {
            identified
                .incomplete
                .push("aws-auth was not read: name a cluster with `--context`, or a file with `--aws-auth`".to_owned());
            identified
                .mapping
                .because
                .push("aws-auth was not read".to_owned());
            return;
        };
        match ask(chain, principal, identity) {
            Ok(named) => {
                identified.mapping.source = MappingSource::AwsAuth;
                identified.mapping.rule = rule_text(&named.rule);
                identified.user = Some(named.user);
            }
            Err(refused) => {
                let reason = refused.reason;
                identified
                    .mapping
                    .because
                    .push(format!("aws-auth: {reason}"));
                identified.mapping.nearest = refused.nearest;
                if refused.by_id && principal.id().is_none() {
                    identified.incomplete.push(
                        "a row of aws-auth asks for a unique id, and nobody told the principal's"
                            .to_owned(),
                    );
                }
            }
        }
    }

    /// The principal as the creator, if it has its name and nobody told its unique id.
    fn assumed_creator(&self, principal: &Principal) -> Option<Principal> {
        let creator = self.snapshot.as_ref()?.cluster.creator.as_ref()?;
        let arn = CallerArn::parse(&creator.principal_arn).ok()?;
        let id = creator.principal_id.clone()?;
        (principal.standing == Standing::Unknown && principal.is_named(&arn)).then(|| Principal {
            standing: Standing::There {
                id,
                arn: creator.principal_arn.clone(),
            },
            ..principal.clone()
        })
    }
}

/// Why a chain makes no user of a principal.
struct Refused {
    reason: String,
    /// Rules that nearly match.
    nearest: Vec<String>,
    /// Whether a unique id is what keeps it.
    by_id: bool,
}

/// Rules that nearly match and are shown.
const MAX_NEARLY: usize = 3;

/// What a chain makes of the principal, or why it makes nothing of it and what nearly would.
fn ask(chain: &Chain, principal: &Principal, identity: &CallerIdentity) -> Result<Named, Refused> {
    match chain.map(identity) {
        MappingDecision::Mapped(mapped) => {
            let entry = mapped.entry();
            let failed = |error: String| Refused {
                reason: format!("{}: {error}", rule_text(mapped.rule())),
                nearest: Vec::new(),
                by_id: false,
            };
            let (name, groups) = if needs_session(principal, entry.username.variables().count())
                || mapped.required_lookup().is_some()
            {
                let groups = entry.groups.iter().map(|group| group.as_str().to_owned());
                (entry.username.as_str().to_owned(), groups.collect())
            } else {
                let user = mapped
                    .render(identity, None)
                    .map_err(|error| failed(error.text.clone()))?;
                (user.username, user.groups)
            };
            Ok(Named {
                user: user_of(name, groups),
                rule: mapped.rule().clone(),
            })
        }
        MappingDecision::AccountAllowed(allowed) => Ok(Named {
            user: user_of(allowed.render(identity).username, Vec::new()),
            rule: allowed.rule().clone(),
        }),
        MappingDecision::Denied(denied) => {
            let denied = denied.explain(identity);
            let nearest = denied.nearest.iter().take(MAX_NEARLY);
            let nearest =
                nearest.map(|miss| miss.to_string().replace("EKSConfigMap ", "aws-auth "));
            Err(Refused {
                reason: denied.text.clone(),
                nearest: nearest.collect(),
                by_id: denied.reason == DenyReason::PrincipalRecreated,
            })
        }
    }
}

/// Whether a name depends on a session that nobody named.
fn needs_session(principal: &Principal, variables: usize) -> bool {
    principal.session.is_none() && variables > 0
}

/// The username, or the template itself where it needs what is not known: the session, or the name of a node.
fn expanded(entry: &EntryFacts, principal: &Principal) -> Result<String, String> {
    let template = &*entry.username;
    let sessions = matches!(
        principal.arn.kind(),
        CallerKind::Role | CallerKind::AssumedRole
    );
    if needs_node_name(template) || (sessions && principal.session.is_none()) {
        return Ok(template.to_owned());
    }
    let facts = UsernameFacts {
        session_name: principal.session.as_deref().unwrap_or_default(),
        role_name: principal.arn.name(),
        account: principal.arn.account_str(),
        node_name: None,
    };
    expand_username(template, entry.entry_type, &facts).map_err(|error| error.to_string())
}

/// A user of a token: the API server adds one group (EKS API spec, section 7.10).
pub(crate) fn user_of(name: String, mut groups: Vec<String>) -> User {
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    User { name, groups }
}

fn dead_text(entry: &EntryFacts, principal: &Principal) -> String {
    let bound = entry.binding.principal_id().unwrap_or_default();
    let now = match (&entry.binding, principal.id()) {
        (_, Some(id)) => format!("the name now belongs to {id}"),
        (
            EntryBinding::Dead {
                now_id: Some(id), ..
            },
            None,
        ) => {
            format!("the name now belongs to {id}")
        }
        (_, None) => "nothing has the name now".to_owned(),
    };
    format!(
        "the access entry {} is dead: it is bound to {bound}, which no longer exists; {now}",
        entry.principal_arn
    )
}

/// `aws-auth mapRoles[1] (line 4)`
pub(crate) fn rule_text(rule: &RuleReference) -> String {
    let line = rule.position.map(|at| format!(" (line {})", at.line));
    format!(
        "aws-auth {}[{}]{}",
        rule.section,
        rule.index,
        line.unwrap_or_default()
    )
}
