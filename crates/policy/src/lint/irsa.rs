//! Trust of pods: IAM roles for service accounts, and EKS Pod Identity.

use super::conditions::Test;
use super::{FindingType, Linter, key_path, statement_path};
use crate::condition::{Base, Operator, SetQualifier};
use crate::document::{Effect, PrincipalKind, Statement};
use crate::request::Action;
use crate::text::Span;
use crate::words::nearest;

const SUBJECT: &str = "system:serviceaccount:";
const PODS: &str = "pods.eks.amazonaws.com";

impl Linter<'_> {
    pub(super) fn irsa(&mut self) {
        for (index, statement) in self.document.statements().iter().enumerate() {
            if statement.effect != Effect::Allow {
                continue;
            }
            let providers: Vec<(String, Span)> = statement
                .principal
                .iter()
                .filter(|element| !element.negated)
                .flat_map(|element| &element.entries)
                .filter(|entry| entry.kind == PrincipalKind::Federated)
                .filter_map(|entry| {
                    let (_, issuer) = entry.text.value.split_once(":oidc-provider/")?;
                    Some((issuer.to_owned(), entry.text.span))
                })
                .collect();
            if !providers.is_empty() {
                self.issuer_keys(index, statement, &providers);
            }
            for (issuer, span) in &providers {
                if is_cluster_issuer(issuer, statement) {
                    self.cluster(index, statement, issuer, *span);
                }
            }
            self.pod_identity(index, statement);
        }
    }

    /// Keys whose issuer is not one of the statement's providers: copied from another cluster.
    fn issuer_keys(&mut self, index: usize, statement: &Statement, providers: &[(String, Span)]) {
        for (block, key) in tests(statement) {
            let name = &*key.key.value;
            let Some((prefix, claim)) = name.rsplit_once(':') else {
                continue;
            };
            let of_token = matches!(claim, "sub" | "aud" | "amr" | "azp");
            if !of_token || !prefix.contains('.') {
                continue;
            }
            if providers
                .iter()
                .any(|(issuer, _)| issuer.eq_ignore_ascii_case(prefix))
            {
                continue;
            }
            let detail = if prefix.starts_with("https://") {
                "holds https://, which keys never do".to_owned()
            } else if providers.iter().any(|(issuer, _)| {
                issuer
                    .trim_end_matches('/')
                    .eq_ignore_ascii_case(prefix.trim_end_matches('/'))
            }) {
                "differs from the provider in its final slash".to_owned()
            } else {
                format!("is about `{prefix}`, the principal is another provider")
            };
            self.add(
                "IRSA_ISSUER_MISMATCH",
                key_path(index, &block.operator.value, name),
                key.key.span,
                format!("`{name}` {detail}"),
            );
        }
    }

    fn cluster(&mut self, index: usize, statement: &Statement, issuer: &str, span: Span) {
        let path = format!("Statement[{index}].Principal.Federated");
        let of = |claim: &str| format!("{issuer}:{claim}");
        let limits = |claim: &str| {
            let wanted = of(claim);
            tests(statement).any(|(block, key)| {
                key.key.value.eq_ignore_ascii_case(&wanted)
                    && Operator::parse(&block.operator.value).is_some_and(|operator| {
                        !operator.base.is_negated()
                            && operator.base != Base::Null
                            && !operator.if_exists
                    })
            })
        };
        let by_claim = tests(statement).any(|(_, key)| {
            key.key
                .value
                .to_ascii_lowercase()
                .contains(":kubernetes.io/")
        });
        if !limits("sub") && !by_claim {
            self.add(
                "IRSA_SUB_MISSING",
                path.clone(),
                span,
                format!(
                    "nothing limits {}: any service account of the cluster can take the role",
                    of("sub")
                ),
            );
        }
        if !limits("aud") {
            self.add(
                "IRSA_AUD_MISSING",
                path,
                span,
                format!(
                    "nothing limits {}: tokens made for other uses are accepted",
                    of("aud")
                ),
            );
        }
        for block in &statement.conditions {
            let Some(operator) = Operator::parse(&block.operator.value) else {
                continue;
            };
            for key in &block.keys {
                let test = Test {
                    statement,
                    block,
                    key,
                    operator,
                    path: key_path(index, &block.operator.value, &key.key.value),
                };
                self.claim(&test, issuer);
            }
        }
    }

    fn claim(&mut self, test: &Test<'_>, issuer: &str) {
        let name = test.name();
        let Some(claim) = name
            .get(issuer.len()..)
            .filter(|_| {
                name.get(..issuer.len())
                    .is_some_and(|head| head.eq_ignore_ascii_case(issuer))
            })
            .and_then(|rest| rest.strip_prefix(':'))
        else {
            return;
        };
        if claim.starts_with("kubernetes.io/") {
            let message =
                format!("`{name}` is filled by this program only, and only when it is switched on");
            self.add(
                "IRSA_KUBERNETES_CLAIM",
                &*test.path,
                test.key.key.span,
                message,
            );
            return;
        }
        if !matches!(claim, "sub" | "aud") {
            return;
        }
        if test.operator.set == SetQualifier::ForAllValues {
            self.add(
                "IRSA_FORALLVALUES_SUB",
                &*test.path,
                test.block.operator.span,
                format!(
                    "{} is true when {name} is missing",
                    test.block.operator.value
                ),
            );
        }
        if claim == "aud" {
            self.audience(test);
            return;
        }
        for value in &test.key.values {
            self.subject(test, &value.value, value.span);
        }
    }

    fn audience(&mut self, test: &Test<'_>) {
        if test.operator.set == SetQualifier::ForAnyValue {
            self.add(
                "CONFIRM_AUDIENCE_CLAIM_TYPE",
                &*test.path,
                test.block.operator.span,
                "ForAnyValue also accepts tokens with further audiences",
            );
        }
        let like = matches!(test.operator.base, Base::StringLike { negated: false });
        for value in &test.key.values {
            if like && value.value.contains('*') {
                self.add(
                    "IRSA_AUD_MISSING",
                    &*test.path,
                    value.span,
                    format!("`{}` accepts tokens made for other uses", value.value),
                );
            }
        }
    }

    fn subject(&mut self, test: &Test<'_>, text: &str, span: Span) {
        let path = &*test.path;
        let literal = matches!(
            test.operator.base,
            Base::String { .. } | Base::StringIgnoreCase { .. }
        );
        if literal && super::types::has_wildcard(text) {
            self.add(
                "IRSA_SUB_STRINGEQUALS_WILDCARD",
                path,
                span,
                format!(
                    "`{text}` under {} is met by no service account",
                    test.block.operator.value
                ),
            );
            return;
        }
        if text.contains("${") {
            return;
        }
        if matches!(test.operator.base, Base::StringLike { negated: false })
            && super::types::has_wildcard(text)
        {
            self.wildcard_subject(path, text, span);
            return;
        }
        let parts = text
            .strip_prefix(SUBJECT)
            .and_then(|rest| rest.split_once(':'));
        let Some((namespace, name)) = parts else {
            self.add(
                "IRSA_SUB_FORMAT",
                path,
                span,
                format!("`{text}` is not {SUBJECT}NAMESPACE:NAME"),
            );
            return;
        };
        if !is_label(namespace) || !is_subdomain(name) {
            self.add(
                "IRSA_SUB_FORMAT",
                path,
                span,
                format!("`{namespace}:{name}` cannot be the name of a service account"),
            );
            return;
        }
        let own = format!("{namespace}:{name}");
        let known = &self.options.service_accounts;
        if !known.is_empty() && !known.contains(&own) {
            let suggestion = nearest(&own, known.iter().map(String::as_str)).map(str::to_owned);
            let message = format!("the cluster has no service account `{own}`");
            match suggestion {
                Some(known) => self.add_with_fix(
                    "IRSA_SUB_FORMAT",
                    path,
                    span,
                    message,
                    format!("did you mean `{SUBJECT}{known}`?"),
                ),
                None => self.add("IRSA_SUB_FORMAT", path, span, message),
            }
        }
    }

    /// Graded: the whole cluster, a whole namespace, a prefix of names.
    fn wildcard_subject(&mut self, path: &str, text: &str, span: Span) {
        let rest = text.strip_prefix(SUBJECT).unwrap_or_default();
        let (namespace, name) = rest.split_once(':').unwrap_or((rest, "*"));
        let (reach, kind) = if namespace.contains(['*', '?']) || !text.starts_with(SUBJECT) {
            (
                "service accounts of the whole cluster",
                FindingType::SecurityWarning,
            )
        } else if name.trim_matches('*').is_empty() {
            (
                "every service account of the namespace",
                FindingType::SecurityWarning,
            )
        } else {
            ("every service account of such a name", FindingType::Warning)
        };
        self.add(
            "IRSA_SUB_WILDCARD",
            path,
            span,
            format!("`{text}` is met by {reach}"),
        );
        if let Some(last) = self.findings.last_mut() {
            last.kind = kind;
        }
    }

    fn pod_identity(&mut self, index: usize, statement: &Statement) {
        let Some(entry) = statement
            .principal
            .iter()
            .filter(|element| !element.negated)
            .flat_map(|element| &element.entries)
            .find(|entry| entry.kind == PrincipalKind::Service && &*entry.text.value == PODS)
        else {
            return;
        };
        let path = format!("Statement[{index}].Principal.Service");
        let allows_tags = Action::parse("sts:TagSession").is_ok_and(|tag| {
            self.document.statements().iter().any(|other| {
                let trusts = other.principal.iter().any(|element| {
                    element
                        .entries
                        .iter()
                        .any(|entry| &*entry.text.value == PODS)
                });
                trusts
                    && other.effect == Effect::Allow
                    && other.action.as_ref().is_some_and(|list| {
                        let listed = list.entries.iter().any(|entry| {
                            crate::compiled::ActionPattern::compile(&entry.value).matches(&tag)
                        });
                        listed != list.negated
                    })
            })
        });
        if !allows_tags {
            self.add(
                "PODID_TAGSESSION_MISSING",
                path.clone(),
                entry.text.span,
                "EKS Pod Identity tags its sessions, and no statement lets it",
            );
        }
        let limited = statement.tests_any(&[
            "aws:sourcearn",
            "aws:sourceaccount",
            "aws:sourceorgid",
            "aws:sourceorgpaths",
        ]) || tests(statement).any(|(_, key)| {
            key.key
                .value
                .to_ascii_lowercase()
                .starts_with("aws:requesttag/")
        });
        if !limited {
            self.add(
                "PODID_UNRESTRICTED",
                path,
                entry.text.span,
                "no condition says which cluster may use the role",
            );
        }
        let uid = tests(statement).find(|(_, key)| {
            key.key
                .value
                .to_ascii_lowercase()
                .ends_with("/kubernetes-pod-uid")
        });
        if let Some((_, key)) = uid {
            self.add(
                "POD_UID_CONDITION",
                statement_path(index),
                key.key.span,
                "a pod gets a new uid with every start",
            );
        }
    }
}

fn tests(
    statement: &Statement,
) -> impl Iterator<
    Item = (
        &crate::document::ConditionBlock,
        &crate::document::ConditionKey,
    ),
> {
    statement
        .conditions
        .iter()
        .flat_map(|block| block.keys.iter().map(move |key| (block, key)))
}

/// EKS's own issuers by their host; others when a subject of service accounts is tested, or when nothing tells them from a cluster's.
fn is_cluster_issuer(issuer: &str, statement: &Statement) -> bool {
    let known_other = [
        "token.actions.githubusercontent.com",
        "gitlab.com",
        "app.terraform.io",
        "oidc.circleci.com",
        "agent.buildkite.com",
        "accounts.google.com",
    ]
    .iter()
    .any(|other| issuer.starts_with(other));
    let eks = issuer.starts_with("oidc.eks.") || issuer.starts_with("oidc.eks-");
    let subject = tests(statement)
        .flat_map(|(_, key)| &key.values)
        .any(|value| value.value.starts_with(SUBJECT));
    eks || subject || !known_other
}

fn is_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !label.is_empty()
                && label.bytes().all(plain)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
