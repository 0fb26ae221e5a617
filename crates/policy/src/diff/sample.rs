//! Looking for a request that tells two policies apart.

use std::sync::Arc;

use super::Witness;
use super::region::{Piece, Region};
use crate::compiled::{Policy, PolicyKind, PrincipalMatch};
use crate::condition::{Base, Comparison, Decimal, Network, Operator, SetQualifier};
use crate::context::Context;
use crate::document::{ConditionKey, Document, PrincipalEntry, Statement};
use crate::evaluate::{Attached, Layers, Level, Outcome, PolicySet, decide};
use crate::request::{Action, Principal, Request};
use crate::tables;
use crate::variable::{Part, parts};

/// Most requests that are tried for one piece.
const MOST: usize = 4000;
const ACCOUNT: &str = "111122223333";
const OWNER: &str = "999988887777";
const ALLOW_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;

/// Concrete actions, resources and principals that the two documents speak of, and the documents as layers.
pub(super) struct Samples {
    actions: Vec<String>,
    resources: Vec<String>,
    principals: Vec<Principal>,
}

impl Samples {
    pub(super) fn collect(first: &Document, second: &Document, kind: PolicyKind) -> Self {
        let mut actions = Vec::new();
        let mut resources = Vec::new();
        let mut principals = Vec::new();
        for statement in first.statements().iter().chain(second.statements()) {
            let listed = statement.action.iter().flat_map(|list| &list.entries);
            actions.extend(listed.flat_map(|entry| action_instances(&entry.value)));
            let listed = statement.resource.iter().flat_map(|list| &list.entries);
            resources.extend(listed.flat_map(|entry| resource_instances(&entry.value)));
            let listed = statement.principal.iter().flat_map(|list| &list.entries);
            principals.extend(listed.filter_map(principal_instance));
        }
        actions.push("example:Action".to_owned());
        if kind == PolicyKind::Trust {
            resources = vec![format!("arn:aws:iam::{ACCOUNT}:role/example")];
            actions.push("sts:AssumeRole".to_owned());
        } else {
            resources.push("*".to_owned());
            resources.push(format!("arn:aws:example:eu-west-1:{ACCOUNT}:thing/x"));
        }
        principals.extend(Principal::parse(
            &format!("arn:aws:iam::{ACCOUNT}:user/example"),
            None,
        ));
        if kind.has_principal() {
            principals.extend(Principal::parse(
                "arn:aws:iam::444455556666:user/stranger",
                None,
            ));
            principals.push(Principal::anonymous());
        } else {
            // Such policies belong to their principal; one is as good as another.
            principals.drain(..principals.len().saturating_sub(1));
        }
        dedup(&mut actions);
        dedup(&mut resources);
        principals.dedup();
        Self {
            actions,
            resources,
            principals,
        }
    }
}

fn dedup(texts: &mut Vec<String>) {
    texts.sort();
    texts.dedup();
}

/// A request in the region that `after` allows and `before` does not.
pub(super) fn witness(
    region: &Region<'_>,
    before: &Document,
    after: &Document,
    kind: PolicyKind,
    samples: &Samples,
) -> Option<Witness> {
    let before_set = layered(before, kind)?;
    let after_set = layered(after, kind)?;
    let actions: Vec<Action> = candidates(&region.action, &samples.actions, action_instances)
        .iter()
        .filter_map(|text| Action::parse(text).ok())
        .collect();
    let resources = match &region.resource {
        Some(piece) => candidates(piece, &samples.resources, resource_instances),
        None => samples.resources.clone(),
    };
    let mut principals: Vec<Principal> = region
        .statement
        .principal
        .iter()
        .flat_map(|element| &element.entries)
        .filter_map(principal_instance)
        .collect();
    principals.extend(samples.principals.iter().cloned());
    principals.dedup();
    let contexts = contexts(region.statement, before, after);
    let (before_layers, after_layers) = (before_set.layers(), after_set.layers());
    let mut tried = 0;
    for action in &actions {
        let own = own_resources(action);
        for resource in own.iter().chain(&resources) {
            for principal in &principals {
                for context in &contexts {
                    tried += 1;
                    if tried > MOST {
                        return None;
                    }
                    let found = ask(
                        principal,
                        action,
                        resource,
                        context,
                        kind,
                        &before_layers,
                        &after_layers,
                    );
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
    }
    None
}

/// Resources of the action's own types, where its service's table is known: more telling than `*`.
fn own_resources(action: &Action) -> Vec<String> {
    let Some(table) = tables::service(action.service()) else {
        return Vec::new();
    };
    let kinds = table
        .action(action.name())
        .map(|(_, info)| info.resource_types().collect::<Vec<_>>())
        .unwrap_or_default();
    kinds
        .into_iter()
        .filter_map(|kind| table.resource_types.get(kind))
        .map(|kind| {
            let mut text = kind
                .arn
                .replace("${Partition}", "aws")
                .replace("${Region}", "eu-west-1")
                .replace("${Account}", ACCOUNT);
            while let (Some(start), Some(end)) = (text.find("${"), text.find('}')) {
                text.replace_range(start..=end, "example");
            }
            text
        })
        .collect()
}

fn ask(
    principal: &Principal,
    action: &Action,
    resource: &str,
    context: &Context<'static>,
    kind: PolicyKind,
    before: &Layers<'_>,
    after: &Layers<'_>,
) -> Option<Witness> {
    // The request of an action without resources is for `*`.
    let wildcard_only = tables::service(action.service())
        .and_then(|table| table.action(action.name()))
        .is_some_and(|(_, info)| info.is_wildcard_only());
    if wildcard_only && resource != "*" {
        return None;
    }
    let request = Request::new(principal, action, resource, context).ok()?;
    let owner = match kind {
        // Strangers to the account, so that what the resource policy grants shows.
        PolicyKind::Resource => OWNER,
        PolicyKind::Trust => ACCOUNT,
        _ => principal.account(),
    };
    let request = request.owned_by(owner);
    let (first, second) = (decide(&request, before), decide(&request, after));
    if first.is_allowed() || !second.is_allowed() {
        return None;
    }
    Some(Witness {
        principal: principal.arn().to_owned(),
        action: action.as_str().to_owned(),
        resource: resource.to_owned(),
        context: context
            .iter()
            .map(|(key, value)| {
                let value = match value {
                    crate::context::ContextValue::One(text) => text.to_string().into(),
                    crate::context::ContextValue::Many(texts) => texts
                        .iter()
                        .map(|text| serde_json::Value::from(text.to_string()))
                        .collect(),
                };
                (key.to_owned(), value)
            })
            .collect(),
        first: first.outcome,
        second: Outcome::Allowed,
    })
}

/// The document in its layer, with everything around it allowing, so that the answer shows what the document does.
fn layered(document: &Document, kind: PolicyKind) -> Option<PolicySet> {
    let attach = |document: Document, kind| {
        Attached::new(Arc::new(Policy::compile(document, kind)), kind_name(kind))
    };
    let own = attach(document.clone(), kind);
    let free = attach(Document::parse(ALLOW_ALL).ok()?, PolicyKind::Identity);
    let mut set = PolicySet {
        identity: vec![free],
        ..PolicySet::default()
    };
    let level = |policy| {
        vec![Level {
            target: "r-root".into(),
            policies: vec![policy],
        }]
    };
    match kind {
        PolicyKind::Identity => set.identity = vec![own],
        PolicyKind::Boundary => set.boundary = Some(own),
        PolicyKind::Session => set.session = Some(vec![own]),
        PolicyKind::Trust | PolicyKind::Resource => set.resource = Some(vec![own]),
        PolicyKind::Endpoint => set.endpoint = Some(vec![own]),
        PolicyKind::Scp => set.scp = level(own),
        PolicyKind::Rcp => set.rcp = level(own),
    }
    Some(set)
}

fn kind_name(kind: PolicyKind) -> &'static str {
    kind.as_str()
}

/// Instances of the piece first, then whatever else the documents speak of: conditions and the other document may need it.
fn candidates(
    piece: &Piece<'_>,
    all: &[String],
    instances: impl Fn(&str) -> Vec<String>,
) -> Vec<String> {
    let mut texts = match piece {
        Piece::One(pattern) => instances(pattern),
        Piece::AllBut(_) => Vec::new(),
    };
    for text in all {
        if !texts.contains(text) {
            texts.push(text.clone());
        }
    }
    texts
}

fn action_instances(pattern: &str) -> Vec<String> {
    if pattern == "*" {
        return vec!["example:Action".to_owned(), "s3:GetObject".to_owned()];
    }
    let Some((service, name)) = pattern.split_once(':') else {
        return Vec::new();
    };
    let service = service.replace(['*', '?'], "x");
    let mut texts = Vec::new();
    if name.contains(['*', '?']) {
        if let Some(table) = tables::service(&service) {
            let known = table.actions.keys().filter(|known| {
                crate::cover::glob(&name.to_ascii_lowercase(), &known.to_ascii_lowercase())
            });
            texts.extend(known.take(12).map(|known| format!("{service}:{known}")));
        }
        texts.push(format!(
            "{service}:{}",
            name.replace('*', "Any").replace('?', "x")
        ));
        texts.push(format!(
            "{service}:{}",
            name.replace('*', "").replace('?', "x")
        ));
    } else {
        texts.push(format!("{service}:{name}"));
    }
    texts
}

fn resource_instances(pattern: &str) -> Vec<String> {
    if pattern == "*" || !pattern.starts_with("arn:") {
        return vec!["*".to_owned()];
    }
    let mut fields: Vec<String> = pattern
        .splitn(6, ':')
        .map(|field| instance(field, "x"))
        .collect();
    let defaults = ["arn", "aws", "s3", "eu-west-1", ACCOUNT, "x"];
    let written = pattern.splitn(6, ':').collect::<Vec<_>>();
    for (index, default) in defaults.iter().enumerate() {
        match written.get(index) {
            Some(field) if (1..5).contains(&index) && field.contains('*') => {
                if let Some(slot) = fields.get_mut(index) {
                    (*default).clone_into(slot);
                }
            }
            Some(_) => {}
            None => fields.push((*default).to_owned()),
        }
    }
    let mut texts = vec![fields.join(":")];
    if let Some(last) = written.get(5).filter(|last| last.contains('*')) {
        fields.truncate(5);
        fields.push(instance(last, "y/z"));
        texts.push(fields.join(":"));
    }
    texts
}

/// A text that a pattern matches: variables become the value that [`value_of`] gives their key.
fn instance(pattern: &str, filling: &str) -> String {
    parts(pattern)
        .into_iter()
        .map(|part| match part {
            Part::Text(text) => text.replace('*', filling).replace('?', "x"),
            Part::Escaped(text) => text.to_owned(),
            Part::Variable(variable) => match &variable.key {
                Some(key) => value_of(key.lower()),
                None => String::new(),
            },
        })
        .collect()
}

fn value_of(key: &str) -> String {
    format!(
        "sample-{}",
        key.rsplit([':', '/']).next().unwrap_or_default()
    )
}

fn principal_instance(entry: &PrincipalEntry) -> Option<Principal> {
    let text = &*entry.text.value;
    match PrincipalMatch::compile(entry) {
        PrincipalMatch::Everyone => {
            Principal::parse("arn:aws:iam::444455556666:user/stranger", None).ok()
        }
        PrincipalMatch::Account { account, .. } => {
            Principal::parse(&format!("arn:aws:iam::{account}:user/example"), None).ok()
        }
        PrincipalMatch::User { .. }
        | PrincipalMatch::Role { .. }
        | PrincipalMatch::Session { .. }
        | PrincipalMatch::FederatedUser { .. } => Principal::parse(text, None).ok(),
        PrincipalMatch::Id(id) if id.starts_with("AROA") => Principal::session(
            &format!("arn:aws:sts::{ACCOUNT}:assumed-role/example/session"),
            None,
            Some(&id),
        )
        .ok(),
        PrincipalMatch::Id(id) => {
            Principal::user(&format!("arn:aws:iam::{ACCOUNT}:user/example"), Some(&id)).ok()
        }
        PrincipalMatch::Service(name) => Some(Principal::service(&name)),
        PrincipalMatch::Provider(provider) => Some(Principal::federated(&provider)),
        PrincipalMatch::Nobody => None,
    }
}

/// Contexts in which the statement holds, and what the rest of both documents could make of them: each key missing, and with each value
/// that is listed anywhere.
fn contexts(statement: &Statement, before: &Document, after: &Document) -> Vec<Context<'static>> {
    const CONTEXTS: usize = 48;
    let mut base = Context::new();
    for document in [before, after] {
        for key in variable_keys(document) {
            let value = value_of(&key);
            base.set(key, value);
        }
    }
    for (operator, key) in tests(statement) {
        satisfy(&mut base, operator, key, 0);
    }
    let mut contexts = vec![base.clone()];
    for (operator, key) in tests(statement) {
        for at in 1..key.values.len() {
            let mut other = base.clone();
            satisfy(&mut other, operator, key, at);
            contexts.push(other);
        }
    }
    let everywhere = before.statements().iter().chain(after.statements());
    for (operator, key) in everywhere.flat_map(tests) {
        for at in 0..key.values.len().max(1) {
            let mut other = base.clone();
            satisfy(&mut other, operator, key, at);
            contexts.push(other);
            // What a negated operator excludes tells two lists of exclusions apart.
            if let Some(value) = key.values.get(at).filter(|_| operator.base.is_negated()) {
                let mut excluded = base.clone();
                let text = match operator.base {
                    Base::Ip { .. } => value.value.split('/').next().unwrap_or_default().to_owned(),
                    _ => instance(&value.value, "x"),
                };
                put(&mut excluded, operator, &key.key.value, text);
                contexts.push(excluded);
            }
        }
        let mut missing = base.clone();
        missing.remove(&key.key.value);
        contexts.push(missing);
        let mut different = base.clone();
        put(
            &mut different,
            operator,
            &key.key.value,
            different_value(operator),
        );
        contexts.push(different);
    }
    contexts.push(Context::new());
    contexts.truncate(CONTEXTS);
    contexts
}

fn tests(statement: &Statement) -> impl Iterator<Item = (Operator, &ConditionKey)> {
    statement.conditions.iter().flat_map(|block| {
        let operator = Operator::parse(&block.operator.value);
        block
            .keys
            .iter()
            .filter_map(move |key| operator.map(|operator| (operator, key)))
    })
}

fn variable_keys(document: &Document) -> Vec<String> {
    let mut keys = Vec::new();
    for statement in document.statements() {
        let resources = statement.resource.iter().flat_map(|list| &list.entries);
        let values = statement
            .conditions
            .iter()
            .flat_map(|block| &block.keys)
            .flat_map(|key| &key.values);
        for text in resources.chain(values) {
            for part in parts(&text.value) {
                if let Part::Variable(variable) = part
                    && let Some(key) = variable.key
                {
                    keys.push(key.shown().to_owned());
                }
            }
        }
    }
    keys
}

/// Sets the key so that the condition probably holds, by its value number `at`.
fn satisfy(context: &mut Context<'static>, operator: Operator, key: &ConditionKey, at: usize) {
    let name = &*key.key.value;
    let value = key.values.get(at).map_or("", |value| &*value.value);
    if operator.base == Base::Null {
        if value.eq_ignore_ascii_case("true") {
            context.remove(name);
        } else if context.get(name).is_none() {
            put(context, operator, name, "x".to_owned());
        }
        return;
    }
    let value = match operator.base {
        base if base.is_negated() => different_value(operator),
        Base::Numeric(comparison) => number(value, comparison),
        Base::Date(comparison) => date(value, comparison).to_owned(),
        Base::Ip { .. } => Network::parse(value)
            .map(|_| value.split('/').next().unwrap_or_default().to_owned())
            .unwrap_or_default(),
        Base::String { .. } | Base::StringIgnoreCase { .. } | Base::Binary | Base::Bool => {
            literal(value)
        }
        Base::StringLike { .. } | Base::Arn { .. } | Base::Null => instance(value, "x"),
    };
    put(context, operator, name, value);
}

/// Stars stay; variables and escapes are filled in.
fn literal(value: &str) -> String {
    parts(value)
        .into_iter()
        .map(|part| match part {
            Part::Text(text) | Part::Escaped(text) => text.to_owned(),
            Part::Variable(variable) => variable
                .key
                .map_or_else(String::new, |key| value_of(key.lower())),
        })
        .collect()
}

fn put(context: &mut Context<'static>, operator: Operator, key: &str, value: String) {
    if tables::is_list_key(key) || operator.set != SetQualifier::None && !tables_know(key) {
        context.set_list(key.to_owned(), [value]);
    } else {
        context.set(key.to_owned(), value);
    }
}

fn tables_know(key: &str) -> bool {
    tables::condition_key(key).is_some()
}

fn different_value(operator: Operator) -> String {
    match operator.base {
        Base::Ip { .. } => "198.18.7.7",
        Base::Arn { .. } => "arn:aws:example:eu-west-1:999988887777:other",
        Base::Numeric(_) => "987654321",
        Base::Date(_) => "2099-01-01T00:00:00Z",
        Base::Bool => "false",
        _ => "another-value",
    }
    .to_owned()
}

fn number(value: &str, comparison: Comparison) -> String {
    if Decimal::parse(value).is_none() {
        return value.to_owned();
    }
    match comparison {
        Comparison::LessThan => "-999999999".to_owned(),
        Comparison::GreaterThan => "999999999".to_owned(),
        _ => value.to_owned(),
    }
}

fn date(value: &str, comparison: Comparison) -> &str {
    match comparison {
        Comparison::LessThan => "1971-01-01T00:00:00Z",
        Comparison::GreaterThan => "2099-01-01T00:00:00Z",
        _ => value,
    }
}
