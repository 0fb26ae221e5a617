//! Access rules: what a principal without an access entry gets (EKS API spec, section 18.1).

use countersign_access::{AccessRule, EntryType, RuleSubject, Who};
use countersign_arn::{CallerArn, CallerKind};

use crate::identify::{Identified, user_of};
use crate::model::Model;
use crate::principal::{Principal, Standing};
use crate::report::MappingSource;
use crate::snapshot::{EntryBinding, EntryFacts, PolicyFacts};

/// Stands in for a session that nobody named: patterns of rules have more literal characters, so that none matches it.
const NO_SESSION: &str = "--";

/// What a rule gives a principal, as an entry would.
#[derive(Debug)]
pub(crate) struct ByRule {
    pub(crate) entry: EntryFacts,
    /// What stands behind the authorizer's reason.
    pub(crate) reason: String,
}

impl Model {
    /// Follows the rule for the principal, if there is one.
    pub(crate) fn by_access_rule(
        &self,
        principal: &Principal,
        identified: &mut Identified<'_>,
    ) -> bool {
        let Some(caller) = caller_of(principal) else {
            return false;
        };
        let Some(rule) = self.rule_for(principal, &caller, &mut identified.incomplete) else {
            return false;
        };
        let mapping = &mut identified.mapping;
        mapping.source = MappingSource::AccessRule;
        mapping.rule = format!("access rule {}", rule.cited());
        let username = match username(rule, principal, &caller) {
            Ok(username) => username,
            Err(error) => {
                mapping
                    .because
                    .push(format!("its username cannot be made: {error}"));
                return true;
            }
        };
        let groups: Vec<String> = rule.groups.iter().map(|group| group.to_string()).collect();
        let policies = rule.associations().map(|(arn, scope)| PolicyFacts {
            policy_arn: arn.to_owned(),
            access_scope: scope.into(),
            associated_at: None,
            modified_at: None,
        });
        identified.user = Some(user_of(username.clone(), groups.clone()));
        identified.by_rule = Some(ByRule {
            entry: EntryFacts {
                principal_arn: principal.canonical(),
                entry_type: EntryType::Standard,
                username,
                kubernetes_groups: groups,
                access_entry_arn: None,
                created_at: None,
                modified_at: None,
                binding: EntryBinding::Unknown,
                associated_access_policies: policies.collect(),
            },
            reason: rule.reason(),
        });
        true
    }

    /// The rule that an entry of the principal's name hides, if there is one.
    pub(crate) fn note_hidden_rule(&self, principal: &Principal, identified: &mut Identified<'_>) {
        let caller = caller_of(principal);
        let rule = caller.and_then(|caller| self.rule_for(principal, &caller, &mut Vec::new()));
        if let Some(rule) = rule {
            identified.mapping.because.push(format!(
                "access rule {} is for it, and is not asked as long as there is an entry of its name",
                rule.cited()
            ));
        }
    }

    fn rule_for<'m>(
        &'m self,
        principal: &Principal,
        caller: &CallerArn,
        incomplete: &mut Vec<String>,
    ) -> Option<&'m AccessRule> {
        let cluster = &self.snapshot.as_ref()?.cluster.name;
        let path = match &principal.standing {
            Standing::There { arn, .. } => CallerArn::parse(arn).ok().and_then(|arn| {
                let path = arn.path_and_name().strip_suffix(arn.name())?;
                Some(format!("/{path}"))
            }),
            Standing::Unknown | Standing::Absent => None,
        };
        let subject = RuleSubject {
            caller,
            role_path: path.as_deref(),
            principal_tags: None,
            iam_groups: None,
        };
        for rule in self.rules.iter().filter(|r| r.is_for_cluster(cluster)) {
            let mut known = rule.matcher.clone();
            known.tags = Box::default();
            if principal.session.is_none() {
                known.session_name = None;
            }
            match &mut known.who {
                Who::Group(_) if caller.kind() == CallerKind::User => known.who = Who::Everyone,
                Who::Roles { path: wanted, .. } if path.is_none() => *wanted = Box::default(),
                _ => {}
            }
            if known.matches(&subject) && !rule.matcher.matches(&subject) {
                incomplete.push(format!(
                    "access rule {} asks for what is not known here: a session (`--session-name`), a path, a tag or a group",
                    rule.cited()
                ));
            }
        }
        self.rules.find(cluster, &subject)
    }
}

/// The caller that a token of the principal proves.
fn caller_of(principal: &Principal) -> Option<CallerArn> {
    let arn = &principal.arn;
    match arn.kind() {
        CallerKind::Role | CallerKind::AssumedRole => {
            let session = principal.session.as_deref().unwrap_or(NO_SESSION);
            let text = format!(
                "arn:{}:sts::{}:assumed-role/{}/{session}",
                arn.partition(),
                arn.account(),
                arn.name()
            );
            CallerArn::parse(&text).ok()
        }
        CallerKind::User | CallerKind::Root | CallerKind::FederatedUser => Some(arn.clone()),
    }
}

/// The username, or its template where it needs a session that nobody named.
fn username(
    rule: &AccessRule,
    principal: &Principal,
    caller: &CallerArn,
) -> Result<String, String> {
    if caller.kind() != CallerKind::AssumedRole || principal.session.is_some() {
        return rule.username_of(caller).map_err(|fault| fault.to_string());
    }
    Ok(match &rule.username {
        Some(template) => template.to_string(),
        None => format!(
            "arn:{}:sts::{}:assumed-role/{}/{{{{SessionName}}}}",
            caller.partition(),
            caller.account(),
            caller.name()
        ),
    })
}
