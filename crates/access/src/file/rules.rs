//! Access rules of a file.

use std::collections::{BTreeMap, HashSet};

use countersign_arn::{AccountId, Arn, Partition, Tag};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Errors, FileOptions, origin_of, shown};
use crate::entry::{check_groups, is_name, reserved_prefix};
use crate::rules::{AccessRule, Matcher, Who};
use crate::scope::{AccessScope, check_scope};
use crate::username::{OF_RULES, check_placeholders, tells_callers_apart};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Raw {
    name: Spanned<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who read the file")]
    description: String,
    #[serde(default)]
    clusters: Option<Spanned<Vec<String>>>,
    r#match: Spanned<RawMatch>,
    username: Option<Spanned<String>>,
    #[serde(default)]
    allow_shared_username: bool,
    groups: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    policies: Vec<Spanned<RawAssociation>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawMatch {
    account: Option<Spanned<String>>,
    partition: Option<Spanned<String>>,
    permission_set: Option<Spanned<String>>,
    role_arn_like: Option<Spanned<String>>,
    group: Option<Spanned<String>>,
    everyone: Option<Spanned<bool>>,
    session_name_like: Option<Spanned<String>>,
    tags: Option<Spanned<BTreeMap<String, String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawAssociation {
    policy: Spanned<String>,
    scope: Option<Spanned<String>>,
    namespaces: Option<Spanned<Vec<String>>>,
}

/// How many characters of a pattern must be literal before its first wildcard.
const MIN_LITERAL: usize = 3;

pub(super) fn check(
    raw: &[Spanned<Raw>],
    options: &FileOptions,
    errors: &mut Errors<'_>,
) -> Vec<AccessRule> {
    let mut names = HashSet::new();
    let mut rules = Vec::new();
    for (at, rule) in raw.iter().enumerate() {
        let field = format!("accessRules[{at}]");
        let name = &rule.value.name;
        if !is_rule_name(&name.value) {
            errors.of(
                name,
                format!("{field}.name"),
                format!(
                    "`{}` is not 1 to 63 lower-case letters, digits and hyphens that begin and end with a letter or digit",
                    shown(&name.value)
                ),
            );
        } else if !names.insert(&*name.value) {
            let message = format!("`{}` is there twice", name.value);
            errors.of(name, format!("{field}.name"), message);
        }
        rules.extend(one(rule, &field, options, errors));
    }
    rules
}

fn one(
    rule: &Spanned<Raw>,
    field: &str,
    options: &FileOptions,
    errors: &mut Errors<'_>,
) -> Option<AccessRule> {
    let raw = &rule.value;
    let clusters = match &raw.clusters {
        None => Box::default(),
        Some(clusters) => {
            let wild = |name: &String| name.is_empty() || name.contains(['*', '?']);
            if clusters.value.is_empty() || clusters.value.iter().any(wild) {
                errors.of(
                    clusters,
                    format!("{field}.clusters"),
                    "list the names of clusters without wildcards, or leave it out for all of them",
                );
            }
            clusters
                .value
                .iter()
                .map(|name| name.as_str().into())
                .collect()
        }
    };
    let matcher = matcher(&raw.r#match, &format!("{field}.match"), options, errors);
    username(raw, field, options, errors);
    let groups = groups(raw.groups.as_ref(), field, options, errors);
    let written = raw
        .policies
        .iter()
        .enumerate()
        .filter_map(|(at, association)| {
            let field = format!("{field}.policies[{at}]");
            let scope = scope(association, &field, options, errors)?;
            Some((association.value.policy.value.as_str().into(), scope))
        })
        .collect();
    Some(AccessRule {
        name: raw.name.value.as_str().into(),
        clusters,
        matcher: matcher?,
        username: raw.username.as_ref().map(|text| text.value.as_str().into()),
        groups,
        written,
        associations: Box::default(),
        origin: origin_of(errors.file, rule),
    })
}

fn is_rule_name(text: &str) -> bool {
    let end = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(end)
        && bytes.last().is_some_and(end)
        && bytes.iter().all(|b| end(b) || *b == b'-')
}

fn matcher(
    raw: &Spanned<RawMatch>,
    field: &str,
    options: &FileOptions,
    errors: &mut Errors<'_>,
) -> Option<Matcher> {
    let RawMatch {
        account,
        partition,
        session_name_like,
        tags,
        ..
    } = &raw.value;
    let partition = match partition {
        None => Some(options.partition),
        Some(text) => {
            let parsed: Result<Partition, _> = text.value.parse();
            parsed
                .map_err(|error| errors.of(text, format!("{field}.partition"), error.to_string()))
                .ok()
        }
    };
    let account = match account {
        None => None,
        Some(text) => Some(errors.account(text, &format!("{field}.account"))?),
    };
    let (who, of_arn) = who(raw, field, options, errors)?;
    let account = match (account, of_arn) {
        (Some(account), Some((partition_of_arn, account_of_arn))) => {
            if account != account_of_arn || partition != Some(partition_of_arn) {
                let message = "is of another account or partition than the matcher says";
                errors.of(raw, format!("{field}.roleArnLike"), message);
            }
            Some(account)
        }
        (None, Some((_, account))) => Some(account),
        (account, None) => account,
    };
    let partition = of_arn.map_or(partition, |(partition, _)| Some(partition));
    if account.is_none() {
        let message = "name the account, 12 digits: a rule is for one account";
        errors.of(raw, format!("{field}.account"), message);
    }
    if let Some(session) = session_name_like {
        if !matches!(who, Who::PermissionSet(_) | Who::Roles { .. }) {
            errors.of(
                session,
                format!("{field}.sessionNameLike"),
                "needs `permissionSet` or `roleArnLike` beside it: whoever assumes a role chooses the session name",
            );
        }
        check_pattern(session, &format!("{field}.sessionNameLike"), 1, errors);
    }
    let tags = tags.as_ref().map_or(Box::default(), |tags| {
        if !options.iam_is_known {
            needs_iam(tags, format!("{field}.tags"), errors);
        } else if tags.value.is_empty() {
            errors.of(
                tags,
                format!("{field}.tags"),
                "name at least one tag, or leave it out",
            );
        }
        let tag = |(key, value): (&String, &String)| Tag {
            key: key.as_str().into(),
            value: value.as_str().into(),
        };
        tags.value.iter().map(tag).collect()
    });
    Some(Matcher {
        account: account?,
        partition: partition?,
        who,
        session_name: session_name_like
            .as_ref()
            .map(|text| text.value.as_str().into()),
        tags,
    })
}

/// Which principals, and the partition and account of a role pattern.
fn who(
    raw: &Spanned<RawMatch>,
    field: &str,
    options: &FileOptions,
    errors: &mut Errors<'_>,
) -> Option<(Who, Option<(Partition, AccountId)>)> {
    let RawMatch {
        permission_set,
        role_arn_like,
        group,
        everyone,
        ..
    } = &raw.value;
    let everyone = everyone.as_ref().filter(|everyone| everyone.value);
    match (permission_set, role_arn_like, group, everyone) {
        (Some(set), None, None, None) => {
            let fits = (1..=32).contains(&set.value.len())
                && set
                    .value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b));
            if !fits {
                errors.of(
                    set,
                    format!("{field}.permissionSet"),
                    format!(
                        "`{}` is not the name of a permission set: 1 to 32 letters, digits and `_+=,.@-`, no wildcards",
                        shown(&set.value)
                    ),
                );
            }
            Some((Who::PermissionSet(set.value.as_str().into()), None))
        }
        (None, Some(arn), None, None) => {
            let (who, partition, account) = roles(arn, field, options, errors)?;
            Some((who, Some((partition, account))))
        }
        (None, None, Some(group), None) => {
            if !options.iam_is_known {
                needs_iam(group, format!("{field}.group"), errors);
            }
            if group.value.is_empty() || group.value.contains(['*', '?']) {
                let message = "one IAM group by its name, without wildcards";
                errors.of(group, format!("{field}.group"), message);
            }
            Some((Who::Group(group.value.as_str().into()), None))
        }
        (None, None, None, Some(_)) => Some((Who::Everyone, None)),
        _ => {
            errors.of(
                raw,
                field,
                "exactly one of `permissionSet`, `roleArnLike`, `group` and `everyone: true` says whom of the account the rule is for",
            );
            None
        }
    }
}

fn roles(
    arn: &Spanned<String>,
    field: &str,
    options: &FileOptions,
    errors: &mut Errors<'_>,
) -> Option<(Who, Partition, AccountId)> {
    let field = format!("{field}.roleArnLike");
    let parsed = Arn::parse(&arn.value).ok();
    let parsed = parsed.filter(|arn| arn.service == "iam" && arn.region.is_empty());
    let role = parsed.and_then(|arn| Some((arn, arn.resource.strip_prefix("role/")?)));
    let Some((parsed, role)) = role else {
        let message = format!(
            "`{}` is not of the form arn:PARTITION:iam::ACCOUNT:role/PATTERN",
            shown(&arn.value)
        );
        errors.of(arn, field, message);
        return None;
    };
    let (Ok(partition), Ok(account)) = (parsed.partition.parse(), parsed.account.parse()) else {
        let message = "partition and account are literal: a pattern for them would admit other customers of AWS";
        errors.of(arn, field, message);
        return None;
    };
    let (path, name) = role
        .rsplit_once('/')
        .map_or(("", role), |(path, name)| (path, name));
    if path.contains(['*', '?']) {
        let message = "the path is literal: only the name may have wildcards";
        errors.of(arn, field.clone(), message);
    }
    if !path.is_empty() && !options.iam_is_known {
        let message =
            "AWS does not say the path of a role to those who verify tokens; leave the path out";
        errors.of(arn, field.clone(), message);
    }
    let written = Spanned {
        value: name.to_owned(),
        referenced: arn.referenced,
        defined: arn.defined,
    };
    check_pattern(&written, &field, MIN_LITERAL, errors);
    let path = match path {
        "" => Box::default(),
        path => format!("{path}/").into(),
    };
    let name = name.into();
    Some((Who::Roles { path, name }, partition, account))
}

fn check_pattern(pattern: &Spanned<String>, field: &str, literal: usize, errors: &mut Errors<'_>) {
    let text = &pattern.value;
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-*?".contains(&b));
    if !fits {
        let message = format!(
            "`{}` is not 1 to 64 letters, digits, `_+=,.@-` and wildcards",
            shown(text)
        );
        errors.of(pattern, field, message);
        return;
    }
    let before = text.find(['*', '?']);
    // `*@example.com` is what session names are told apart by: there the literal part may follow.
    let literals = text.bytes().filter(|b| !b"*?".contains(b)).count();
    let enough = match literal {
        MIN_LITERAL => before.is_none_or(|before| before >= MIN_LITERAL),
        _ => literals >= MIN_LITERAL || before.is_none(),
    };
    if !enough {
        let place = if literal == MIN_LITERAL {
            " before the first wildcard"
        } else {
            ""
        };
        let message = format!(
            "`{text}` is too wide: at least {MIN_LITERAL} characters must be literal{place}"
        );
        errors.of(pattern, field, message);
    }
}

fn needs_iam<T>(value: &Spanned<T>, field: String, errors: &mut Errors<'_>) {
    errors.of(
        value,
        field,
        "is only known where Countersign itself is the IAM: AWS does not say it to those who verify tokens",
    );
}

fn username(raw: &Raw, field: &str, options: &FileOptions, errors: &mut Errors<'_>) {
    let Some(username) = &raw.username else {
        return;
    };
    let field = format!("{field}.username");
    let text = &username.value;
    if !is_name(text, &options.limits) {
        let most = options.limits.name_bytes;
        let message = format!("a username has 1 to {most} bytes and no control characters");
        errors.of(username, field, message);
    } else if let Some(prefix) = reserved_prefix(text) {
        errors.of(username, field, format!("must not begin with {prefix}"));
    } else if let Err(fault) = check_placeholders(text, &OF_RULES) {
        let message = match fault {
            crate::TemplateFault::Placeholder | crate::TemplateFault::Brace => {
                "the placeholders are {{SessionName}}, {{SessionNameRaw}}, {{RoleName}} and {{AccountID}}, without other braces".to_owned()
            }
            other => other.to_string(),
        };
        errors.of(username, field, message);
    } else if !tells_callers_apart(text) && !raw.allow_shared_username {
        errors.of(
            username,
            field,
            "everyone whom the rule matches would be one user; put {{SessionName}}, {{SessionNameRaw}} or {{RoleName}} into it, or set allowSharedUsername: true",
        );
    }
}

fn groups(
    raw: Option<&Spanned<Vec<String>>>,
    field: &str,
    options: &FileOptions,
    errors: &mut Errors<'_>,
) -> Box<[Box<str>]> {
    let Some(raw) = raw else {
        return Box::default();
    };
    let groups: Vec<&str> = raw.value.iter().map(String::as_str).collect();
    if groups.iter().any(|group| group.contains(['{', '}'])) {
        errors.of(
            raw,
            format!("{field}.groups"),
            "groups have no placeholders",
        );
    }
    match check_groups(&groups, &options.limits) {
        Ok(groups) => groups.into(),
        Err(fault) => {
            errors.of(raw, format!("{field}.groups"), fault.to_string());
            Box::default()
        }
    }
}

fn scope(
    raw: &Spanned<RawAssociation>,
    field: &str,
    options: &FileOptions,
    errors: &mut Errors<'_>,
) -> Option<AccessScope> {
    let RawAssociation {
        scope, namespaces, ..
    } = &raw.value;
    let patterns = namespaces.as_ref().map(|list| {
        let list = list.value.iter().map(String::as_str);
        list.collect::<Vec<&str>>()
    });
    let kind = match (scope, &patterns) {
        (Some(scope), _) => scope.value.as_str(),
        (None, Some(_)) => "namespace",
        (None, None) => {
            let message = "say `scope: cluster`, or list `namespaces`";
            errors.of(raw, format!("{field}.scope"), message);
            return None;
        }
    };
    check_scope(kind, &patterns.unwrap_or_default(), &options.limits)
        .map_err(|fault| errors.of(raw, format!("{field}.scope"), fault.to_string()))
        .ok()
}
