//! Resources: ARNs that can be, and that fit their actions.

use super::{Linter, entry_path, statement_path};
use crate::compiled::PolicyKind;
use crate::document::{Effect, ListElement, Statement, Text, Version};
use crate::request::split_action;
use crate::tables::{self, ActionInfo, ServiceTable};
use countersign_arn::Partition;

/// Services whose ARNs have no region.
const GLOBAL: [&str; 6] = [
    "iam",
    "sts",
    "organizations",
    "route53",
    "cloudfront",
    "waf",
];

impl Linter<'_> {
    pub(super) fn resources(&mut self) {
        if self.kind == PolicyKind::Trust {
            return;
        }
        for (index, statement) in self.document.statements().iter().enumerate() {
            let Some(list) = &statement.resource else {
                continue;
            };
            let element = if list.negated {
                "NotResource"
            } else {
                "Resource"
            };
            for (at, entry) in list.entries.iter().enumerate() {
                let path = entry_path(index, element, list.is_list, at);
                self.resource(entry, path);
            }
            self.redundant_resources(index, element, list);
            if !list.negated {
                self.fits_actions(index, statement, list);
            }
        }
    }

    fn resource(&mut self, entry: &Text, path: String) {
        let text = &*entry.value;
        if text == "*" {
            return;
        }
        let span = entry.span;
        if !text.starts_with("arn:") {
            self.add(
                "INVALID_ARN_PREFIX",
                path,
                span,
                format!("`{text}` is no ARN: it matches nothing"),
            );
            return;
        }
        let fields: Vec<&str> = text.splitn(6, ':').collect();
        let head_has_variable = fields.iter().take(5).any(|field| field.contains("${"));
        if head_has_variable && self.document.version() == Version::V2012 {
            self.add(
                "VARIABLE_BEFORE_FIFTH_COLON",
                path,
                span,
                format!(
                    "`{text}` has a variable before its fifth colon: the entry matches nothing"
                ),
            );
            return;
        }
        if fields.len() < 6 {
            self.short(entry, path);
            return;
        }
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        self.partition(field(1), entry, &path);
        self.service(field(2), entry, &path);
        self.region(field(2), field(3), field(5), entry, &path);
        self.account(field(2), field(4), field(5), entry, &path);
        self.form(field(2), field(5), entry, path);
    }

    fn short(&mut self, entry: &Text, path: String) {
        let text = &*entry.value;
        let dead = match self.kind {
            PolicyKind::Rcp => true,
            PolicyKind::Scp => !text.ends_with('*'),
            PolicyKind::Resource | PolicyKind::Endpoint | PolicyKind::Trust => !text.contains('*'),
            PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session => false,
        };
        let (code, message) = if dead {
            (
                "UNSUPPORTED_RESOURCE_ARN_IN_POLICY",
                format!(
                    "`{text}` has fewer than six fields and matches nothing in this kind of policy"
                ),
            )
        } else {
            (
                "MISSING_ARN_FIELD",
                format!("`{text}` has fewer than six fields; the missing ones count as *"),
            )
        };
        self.add(code, path, entry.span, message);
    }

    fn partition(&mut self, partition: &str, entry: &Text, path: &str) {
        if partition.contains(['*', '?']) || partition.parse::<Partition>().is_ok() {
            return;
        }
        self.add(
            "INVALID_PARTITION",
            path,
            entry.span,
            format!("`{partition}` is no partition"),
        );
    }

    fn service(&mut self, service: &str, entry: &Text, path: &str) {
        if service.bytes().any(|b| b.is_ascii_uppercase()) {
            self.add(
                "INVALID_ARN_SERVICE_CASE",
                path,
                entry.span,
                format!("write `{}`", service.to_ascii_lowercase()),
            );
        }
    }

    fn region(&mut self, service: &str, region: &str, resource: &str, entry: &Text, path: &str) {
        if region.is_empty() || region.contains(['*', '?']) {
            let needs_region = matches!(service, "eks" | "eks-auth" | "ec2" | "kms" | "sqs")
                && region.is_empty()
                && !resource.starts_with("cluster-access-policy/")
                && resource != "*";
            if needs_region && service.starts_with("eks") {
                self.add(
                    "MISSING_ARN_REGION",
                    path,
                    entry.span,
                    format!("ARNs of {service} have a region; this one matches nothing"),
                );
            }
            return;
        }
        let regional_s3 =
            resource.starts_with("accesspoint/") || resource.starts_with("access-grants/");
        if GLOBAL.contains(&service) || (service == "s3" && !regional_s3) {
            self.add(
                "ARN_REGION_NOT_ALLOWED",
                path,
                entry.span,
                format!("ARNs of {service} have no region; this one matches nothing"),
            );
        } else if !is_region(region) {
            self.add(
                "INVALID_ARN_REGION",
                path,
                entry.span,
                format!("`{region}` is no region"),
            );
        }
    }

    fn account(&mut self, service: &str, account: &str, resource: &str, entry: &Text, path: &str) {
        if account.is_empty() || account.contains(['*', '?']) || account == "aws" {
            return;
        }
        // ARNs of some services carry their own names in this field.
        let has_digits = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        if service == "s3" && has_digits && !resource.contains('/') {
            self.add(
                "ARN_ACCOUNT_NOT_ALLOWED",
                path,
                entry.span,
                "ARNs of buckets have no account; this one matches nothing",
            );
        } else if !has_digits && account.bytes().all(|b| b.is_ascii_digit()) {
            self.add(
                "INVALID_ARN_ACCOUNT",
                path,
                entry.span,
                format!(
                    "`{account}` has {} digits, an account has 12",
                    account.len()
                ),
            );
        } else if !has_digits && matches!(service, "iam" | "sts" | "eks" | "eks-auth" | "ec2") {
            self.add(
                "INVALID_ARN_ACCOUNT",
                path,
                entry.span,
                format!("`{account}` is no account"),
            );
        }
    }

    /// The part behind the fifth colon begins like one of the service's resource types.
    fn form(&mut self, service: &str, resource: &str, entry: &Text, path: String) {
        let Some(table) = tables::service(service) else {
            return;
        };
        let literal_len = resource.find(['*', '?', '$']).unwrap_or(resource.len());
        let literal = resource.get(..literal_len).unwrap_or_default();
        let extra: &[&str] = if service == "iam" {
            &[
                "root",
                "federated-user/",
                "report/",
                "assumed-role/",
                "contextProvider/",
            ]
        } else {
            &[]
        };
        let fits = table
            .resource_types
            .values()
            .filter_map(|kind| kind.arn.splitn(6, ':').nth(5))
            .map(|form| form.split("${").next().unwrap_or_default())
            .chain(extra.iter().copied())
            .any(|prefix| {
                literal.starts_with(prefix)
                    || (literal_len < resource.len() && prefix.starts_with(literal))
            });
        if !fits {
            self.add(
                "INVALID_ARN_RESOURCE",
                path,
                entry.span,
                format!("{service} has no resource `{resource}`"),
            );
        }
    }

    fn redundant_resources(&mut self, index: usize, element: &str, list: &ListElement) {
        // Comparing two entries costs the product of their lengths; a document of hostile length is left alone.
        let total: usize = list.entries.iter().map(|entry| entry.value.len()).sum();
        if total > 8000 {
            return;
        }
        for (at, entry) in list.entries.iter().enumerate() {
            let cover = list.entries.iter().enumerate().find(|(other, candidate)| {
                let same = candidate.value == entry.value;
                *other != at
                    && ((same && *other < at)
                        || (!same && crate::cover::resource(&candidate.value, &entry.value)))
            });
            if let Some((_, cover)) = cover {
                self.add(
                    "REDUNDANT_RESOURCE",
                    entry_path(index, element, list.is_list, at),
                    entry.span,
                    format!("`{}` is covered by `{}`", entry.value, cover.value),
                );
            }
        }
    }

    /// For services whose tables are known: does any resource of the statement fit the action?
    fn fits_actions(&mut self, index: usize, statement: &Statement, list: &ListElement) {
        let has_star = list.entries.iter().any(|entry| &*entry.value == "*");
        let Some(actions) = statement.action.as_ref().filter(|list| !list.negated) else {
            return;
        };
        if has_star || list.entries.is_empty() || statement.effect != Effect::Allow {
            return;
        }
        for (at, entry) in actions.entries.iter().enumerate() {
            let Some((service, name)) = split_action(&entry.value) else {
                continue;
            };
            let Some((table, (name, info))) =
                tables::service(service).and_then(|table| Some((table, table.action(name)?)))
            else {
                continue;
            };
            if list
                .entries
                .iter()
                .any(|resource| fits(table, info, &resource.value))
            {
                continue;
            }
            let message = if info.is_wildcard_only() {
                format!("{service}:{name} has no resource: only Resource \"*\" grants it")
            } else {
                let kinds: Vec<&str> = info.resource_types().collect();
                format!(
                    "none of the resources is one of {service}:{name}, which takes {}",
                    kinds.join(", ")
                )
            };
            self.add(
                "RESOURCE_MISMATCH",
                entry_path(index, "Action", actions.is_list, at),
                entry.span,
                message,
            );
        }
        let effectively_star = list.entries.iter().find(|entry| {
            let fields: Vec<&str> = entry.value.splitn(6, ':').collect();
            matches!(fields.as_slice(), ["arn", _, _, _, _, resource] if *resource == "*")
                && fields
                    .get(3)
                    .is_some_and(|region| matches!(*region, "*" | ""))
                && fields.get(4).is_some_and(|account| *account == "*")
        });
        if let Some(entry) = effectively_star {
            self.add(
                "RESOURCE_EFFECTIVELY_STAR",
                statement_path(index) + ".Resource",
                entry.span,
                format!("`{}` covers everything of its service", entry.value),
            );
        }
    }
}

/// Whether a pattern can match an ARN of one of the action's resource types.
fn fits(table: &ServiceTable, info: &ActionInfo, pattern: &str) -> bool {
    info.resource_types().any(|kind| {
        table
            .resource_types
            .get(kind)
            .is_some_and(|kind| crate::cover::may_overlap_template(pattern, &kind.arn))
    })
}

fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    text.bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && parts.len() >= 3
        && parts
            .last()
            .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty())
}
