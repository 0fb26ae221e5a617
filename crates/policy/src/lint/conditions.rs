//! Conditions: keys that exist, operators that fit them, and tests that do what they seem to.

use super::{Linter, key_path};
use crate::compiled::PolicyKind;
use crate::condition::{Base, Network, Operator, SetQualifier};
use crate::document::{ConditionBlock, ConditionKey, Effect, Statement};
use crate::request::split_action;
use crate::tables::{self, condition_key, is_list_key};
use crate::words::nearest;

/// One key under one operator, with what is known about both.
pub(super) struct Test<'t> {
    pub(super) statement: &'t Statement,
    pub(super) block: &'t ConditionBlock,
    pub(super) key: &'t ConditionKey,
    pub(super) operator: Operator,
    pub(super) path: String,
}

impl Test<'_> {
    pub(super) fn name(&self) -> &str {
        &self.key.key.value
    }
}

/// Keys of global name whose absence is ordinary and which negated operators are often put on.
const OFTEN_NEGATED: [&str; 11] = [
    "aws:sourcevpce",
    "aws:sourcevpc",
    "aws:sourceip",
    "aws:vpcsourceip",
    "aws:sourcearn",
    "aws:sourceaccount",
    "aws:sourceorgid",
    "aws:principalorgid",
    "aws:principalarn",
    "aws:vpceaccount",
    "aws:vpceorgid",
];

impl Linter<'_> {
    pub(super) fn conditions(&mut self) {
        for (index, statement) in self.document.statements().iter().enumerate() {
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
                    self.key_exists(&test);
                    self.qualifier(&test);
                    self.values(&test);
                    self.negated_missing(&test);
                    self.special_keys(&test);
                    self.sensitive(&test);
                    self.key_of_action(&test);
                    self.resource_tags(&test);
                }
            }
            self.mfa(index, statement);
            self.paired(index, statement);
        }
    }

    fn key_exists(&mut self, test: &Test<'_>) {
        let name = test.name();
        let span = test.key.key.span;
        let lower = crate::fold::lower(name);
        let Some((prefix, rest)) = name.split_once(':') else {
            let issuer = name.contains('.') || name.contains('/');
            if !issuer {
                let message = format!("`{name}` has no prefix");
                self.add("INVALID_CONDITION_KEY_FORMAT", &*test.path, span, message);
            }
            return;
        };
        if prefix.is_empty()
            || rest.is_empty()
            || name.contains(char::is_whitespace) && !name.contains('/')
        {
            let message = format!("`{name}` is not prefix:name");
            self.add("INVALID_CONDITION_KEY_FORMAT", &*test.path, span, message);
            return;
        }
        if &*lower == "aws:arn" {
            self.add(
                "UNSUPPORTED_GLOBAL_CONDITION_KEY",
                &*test.path,
                span,
                "aws:ARN is gone",
            );
            return;
        }
        let tag_prefix = [
            "aws:principaltag",
            "aws:resourcetag",
            "aws:requesttag",
            "iam:resourcetag",
        ]
        .into_iter()
        .find(|tag| *lower == **tag || *lower == format!("{tag}/"));
        if tag_prefix.is_some() {
            self.add(
                "MISSING_TAG_KEY_IN_CONDITION",
                &*test.path,
                span,
                format!("`{name}` does not say which tag"),
            );
            return;
        }
        if &*lower == "aws:sourceowner" {
            self.add_with_fix(
                "DEPRECATED_GLOBAL_CONDITION_KEY",
                &*test.path,
                span,
                "aws:SourceOwner is a former key of SNS",
                "use aws:SourceAccount",
            );
            return;
        }
        if condition_key(name).is_some() {
            self.irrelevant(test, &lower);
            return;
        }
        if prefix.eq_ignore_ascii_case("aws") {
            let message = format!("there is no global key `{name}`");
            let known = nearest(name, tables::global_keys().map(|key| &*key.name));
            match known {
                Some(known) => self.add_with_fix(
                    "INVALID_GLOBAL_CONDITION_KEY",
                    &*test.path,
                    span,
                    message,
                    format!("did you mean `{known}`?"),
                ),
                None => self.add("INVALID_GLOBAL_CONDITION_KEY", &*test.path, span, message),
            }
            return;
        }
        // Other services' keys are not known here; their own services' are.
        let own = ["sts", "eks", "iam", "eks-auth"]
            .iter()
            .any(|own| prefix.eq_ignore_ascii_case(own));
        if own {
            self.add(
                "INVALID_SERVICE_CONDITION_KEY",
                &*test.path,
                span,
                format!("{} has no key `{name}`", prefix.to_ascii_lowercase()),
            );
        }
    }

    /// Keys that requests of the statement's kind never have.
    fn irrelevant(&mut self, test: &Test<'_>, lower: &str) {
        let span = test.key.key.span;
        let source_key = [
            "aws:sourcearn",
            "aws:sourceaccount",
            "aws:sourceorgid",
            "aws:sourceorgpaths",
        ]
        .contains(&lower);
        // Service principals are not limited by policies of principals; a positive test there never holds.
        if source_key
            && matches!(self.kind, PolicyKind::Boundary | PolicyKind::Session)
            && !test.operator.if_exists
        {
            self.add(
                "IRRELEVANT_CONDITION_KEY_IN_POLICY",
                &*test.path,
                span,
                format!("{} is present only for service principals", test.name()),
            );
        }
        let only_services = test.statement.principal.as_ref().is_some_and(|element| {
            !element.negated
                && !element.entries.is_empty()
                && element
                    .entries
                    .iter()
                    .all(|entry| entry.kind == crate::document::PrincipalKind::Service)
        });
        let of_iam_callers = [
            "aws:principalarn",
            "aws:principalorgid",
            "aws:principalorgpaths",
            "aws:principalaccount",
            "aws:username",
            "aws:userid",
        ]
        .contains(&lower)
            || lower.starts_with("aws:principaltag/");
        if only_services && of_iam_callers && test.operator.base != Base::Null {
            self.add(
                "UNSUPPORTED_CONDITION_KEY_FOR_SERVICE_PRINCIPAL",
                &*test.path,
                span,
                format!("requests of service principals have no {}", test.name()),
            );
        }
    }

    fn qualifier(&mut self, test: &Test<'_>) {
        let name = test.name();
        let span = test.block.operator.span;
        let base = test.operator.base;
        if base == Base::Null {
            if test.operator.set != SetQualifier::None {
                let verdict = if test.operator.set == SetQualifier::ForAllValues {
                    "always true"
                } else {
                    "always false"
                };
                self.add(
                    "NULL_WITH_QUALIFIER",
                    &*test.path,
                    span,
                    format!("{} is {verdict}", test.block.operator.value),
                );
            }
            return;
        }
        let known = condition_key(name).is_some();
        if test.operator.set == SetQualifier::None && is_list_key(name) {
            self.add(
                "MISSING_QUALIFIER",
                &*test.path,
                span,
                format!("{name} is a list key, and a plain operator never matches one"),
            );
        }
        let guarded = test.statement.conditions.iter().any(|block| {
            Operator::parse(&block.operator.value).is_some_and(|operator| {
                operator.base == Base::Null && operator.set == SetQualifier::None
            }) && block
                .keys
                .iter()
                .any(|key| crate::fold::eq(&key.key.value, name))
        });
        if test.operator.set == SetQualifier::ForAllValues
            && test.statement.effect == Effect::Allow
            && !is_list_key(name)
            && known
            && !guarded
        {
            self.add(
                "FORALLVALUES_WITH_SINGLE_VALUED_KEY",
                &*test.path,
                span,
                format!("{name} has one value; when it is missing the condition is true"),
            );
        }
    }

    /// A Deny that hits everybody who lacks the key.
    fn negated_missing(&mut self, test: &Test<'_>) {
        let lower = crate::fold::lower(test.name());
        let applies = test.statement.effect == Effect::Deny
            && test.operator.base.is_negated()
            && test.operator.set == SetQualifier::None
            && !test.operator.if_exists
            && OFTEN_NEGATED.contains(&&*lower);
        if !applies {
            return;
        }
        let guarded = test.statement.conditions.iter().any(|block| {
            let Some(operator) = Operator::parse(&block.operator.value) else {
                return false;
            };
            block.keys.iter().any(|key| {
                let other = crate::fold::lower(&key.key.value);
                match operator.base {
                    Base::Null => other == lower,
                    Base::Bool => {
                        matches!(&*other, "aws:principalisawsservice" | "aws:viaawsservice")
                    }
                    _ => false,
                }
            })
        });
        // `aws:PrincipalArn` is missing only for service principals, which identity-side policies never meet.
        let harmless = &*lower == "aws:principalarn" && !self.kind.has_principal();
        if !guarded && !harmless {
            self.add(
                "NEGATED_MISSING_KEY",
                &*test.path,
                test.key.key.span,
                format!(
                    "{} is true when {} is missing, so this Deny hits all such requests",
                    test.block.operator.value,
                    test.name()
                ),
            );
        }
    }

    fn special_keys(&mut self, test: &Test<'_>) {
        let lower = crate::fold::lower(test.name());
        let has_wildcard = |text: &str| text.contains(['*', '?']) || text.contains("${");
        for value in &test.key.values {
            let text = &*value.value;
            match &*lower {
                "aws:sourcevpc" if !has_wildcard(text) && !is_id(text, "vpc-") => self.add(
                    "INVALID_VPC_FORMAT",
                    &*test.path,
                    value.span,
                    format!("`{text}` is no VPC id"),
                ),
                "aws:sourcevpce" if !has_wildcard(text) && !is_id(text, "vpce-") => self.add(
                    "INVALID_VPCE_FORMAT",
                    &*test.path,
                    value.span,
                    format!("`{text}` is no VPC endpoint id"),
                ),
                "aws:sourceip" => {
                    let private = Network::parse(text).is_some_and(|network| network.is_private());
                    if let Base::Ip { negated } = test.operator.base
                        && private
                    {
                        let code = if negated {
                            "PRIVATE_NOT_IP_ADDRESS"
                        } else {
                            "PRIVATE_IP_ADDRESS"
                        };
                        // Beside public ranges a private one is useless, not fatal.
                        let all_private = test.key.values.iter().all(|value| {
                            Network::parse(&value.value).is_some_and(|n| n.is_private())
                        });
                        if all_private {
                            let message = format!("`{text}` is a private range");
                            self.add(code, &*test.path, value.span, message);
                        }
                    }
                }
                "aws:userid" | "aws:username" => {}
                _ => {}
            }
            if let Base::Ip { .. } = test.operator.base
                && Network::parse(text).is_some_and(|network| network.has_host_bits())
            {
                let message = format!("`{text}` has host bits");
                self.add("IMPROVE_IP_RANGE", &*test.path, value.span, message);
            }
        }
    }

    fn sensitive(&mut self, test: &Test<'_>) {
        let is_sensitive = condition_key(test.name()).is_some_and(|info| info.sensitive);
        let wild = matches!(
            test.operator.base,
            Base::StringLike { .. } | Base::Arn { .. }
        );
        if !is_sensitive || !wild {
            return;
        }
        for value in &test.key.values {
            if value.value.contains(['*', '?']) {
                self.add(
                    "SENSITIVE_KEY_WILDCARD",
                    &*test.path,
                    value.span,
                    format!("`{}` in {} lets in more than one", value.value, test.name()),
                );
            }
        }
    }

    /// `aws:ResourceTag` on actions whose resources have no tags, for services whose tables are known.
    fn resource_tags(&mut self, test: &Test<'_>) {
        let lower = crate::fold::lower(test.name());
        if !lower.starts_with("aws:resourcetag/") || self.kind == PolicyKind::Trust {
            return;
        }
        let Some(actions) = test.statement.action.as_ref().filter(|list| !list.negated) else {
            return;
        };
        let mut untagged = Vec::new();
        for entry in &actions.entries {
            let Some((table, (name, info))) =
                split_action(&entry.value).and_then(|(service, name)| {
                    let table = tables::service(service)?;
                    Some((table, table.action(name)?))
                })
            else {
                return;
            };
            let tagged = info.resource_types().any(|kind| {
                table.resource_types.get(kind).is_some_and(|kind| {
                    kind.keys
                        .iter()
                        .any(|key| key.starts_with("aws:ResourceTag/"))
                })
            });
            if tagged {
                return;
            }
            untagged.push(name);
        }
        if untagged.is_empty() || test.operator.base == Base::Null {
            return;
        }
        let code = match test.statement.effect {
            Effect::Deny => "DENY_WITH_UNSUPPORTED_TAG_CONDITION_KEY_FOR_SERVICE",
            Effect::Allow => "ALLOW_WITH_UNSUPPORTED_TAG_CONDITION_KEY_FOR_SERVICE",
        };
        let message = format!(
            "requests of {} never have {}",
            untagged.join(", "),
            test.name()
        );
        self.add(code, &*test.path, test.key.key.span, message);
    }

    /// A key of a service whose tables are known, on actions of that service that never have it.
    fn key_of_action(&mut self, test: &Test<'_>) {
        let name = test.name();
        let Some((prefix, _)) = name.split_once(':') else {
            return;
        };
        let Some(table) = tables::service(prefix) else {
            return;
        };
        let Some(actions) = test.statement.action.as_ref().filter(|list| !list.negated) else {
            return;
        };
        // Keys such as sts:ExternalId stand in trust policies beside other actions; one action that has the key is enough.
        let mut without = Vec::new();
        for entry in &actions.entries {
            let info = split_action(&entry.value)
                .filter(|(service, _)| service.eq_ignore_ascii_case(prefix))
                .and_then(|(_, action)| table.action(action));
            let Some((action, info)) = info else {
                return;
            };
            let of_resources = info
                .resource_types()
                .filter_map(|kind| table.resource_types.get(kind))
                .flat_map(|kind| &kind.keys);
            if info
                .keys
                .iter()
                .chain(of_resources)
                .any(|key| same_key(key, name))
            {
                return;
            }
            without.push(action);
        }
        if without.is_empty() || condition_key(name).is_none() || test.operator.if_exists {
            return;
        }
        self.add(
            "UNKNOWN_CONDITION_FOR_ACTION",
            &*test.path,
            test.key.key.span,
            format!("requests of {} never have {name}", without.join(", ")),
        );
    }

    fn mfa(&mut self, index: usize, statement: &Statement) {
        if statement.effect != Effect::Deny {
            return;
        }
        for block in &statement.conditions {
            let plain_bool = Operator::parse(&block.operator.value).is_some_and(|operator| {
                operator.base == Base::Bool
                    && !operator.if_exists
                    && operator.set == SetQualifier::None
            });
            let key = block.keys.iter().find(|key| {
                key.key
                    .value
                    .eq_ignore_ascii_case("aws:MultiFactorAuthPresent")
                    && key
                        .values
                        .iter()
                        .any(|value| value.value.eq_ignore_ascii_case("false"))
            });
            if let Some(key) = key.filter(|_| plain_bool) {
                self.add(
                    "MFA_DENY_BOOL",
                    key_path(index, &block.operator.value, &key.key.value),
                    block.operator.span,
                    "long-term keys have no aws:MultiFactorAuthPresent, so this Deny misses them",
                );
            }
        }
    }

    /// An S3 bucket as source belongs to nobody in particular: its ARN has no account.
    fn paired(&mut self, index: usize, statement: &Statement) {
        if statement.effect != Effect::Allow
            || statement.tests_any(&["aws:sourceaccount", "aws:sourceorgid"])
        {
            return;
        }
        for block in &statement.conditions {
            for key in &block.keys {
                let bucket = key.key.value.eq_ignore_ascii_case("aws:SourceArn")
                    && key
                        .values
                        .iter()
                        .any(|value| value.value.starts_with("arn:aws:s3:::"));
                if bucket {
                    self.add(
                        "MISSING_PAIRED_CONDITION_KEYS",
                        key_path(index, &block.operator.value, &key.key.value),
                        key.key.span,
                        "the ARN of a bucket does not say whose it is",
                    );
                }
            }
        }
    }
}

/// Whether a key of a table, which may end in a placeholder, is this key.
fn same_key(known: &str, name: &str) -> bool {
    match known.split_once("${") {
        Some((prefix, _)) => name
            .get(..prefix.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(prefix)),
        None => known.eq_ignore_ascii_case(name),
    }
}

fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| {
        matches!(rest.len(), 8 | 17) && rest.bytes().all(|b| b.is_ascii_hexdigit())
    })
}
