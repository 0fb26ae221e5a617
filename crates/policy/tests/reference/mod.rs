//! A plain, slow evaluator: the rules of the policy language read off one by one, over untyped JSON, with no index and no compiled form.
//! It shares no code with the engine and is what the engine is compared with.

mod conditions;

use std::collections::BTreeMap;

use serde_json::Value;

/// A caller, by what the rules ask about it.
#[derive(Debug, Clone)]
pub struct Caller {
    pub kind: Kind,
    pub arn: String,
    pub account: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Root,
    User,
    Session,
    Service,
    Federated,
    Anonymous,
}

#[derive(Debug, Clone, Default)]
pub struct World {
    pub identity: Vec<Value>,
    pub boundary: Option<Value>,
    pub session: Option<Vec<Value>>,
    pub scp: Vec<Vec<Value>>,
    pub rcp: Vec<Vec<Value>>,
    pub endpoint: Option<Vec<Value>>,
    pub resource: Option<Vec<Value>>,
}

#[derive(Debug, Clone)]
pub struct Ask {
    pub caller: Caller,
    pub action: String,
    pub resource: String,
    pub owner: String,
    pub context: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Allowed,
    ExplicitDeny,
    ImplicitDeny,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grant {
    Account,
    Role,
    Direct,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    OfPrincipal,
    OfResource,
    Scp,
    Rcp,
}

pub fn answer(ask: &Ask, world: &World) -> Answer {
    let action = ask.action.to_lowercase();
    if action == "sts:getcalleridentity"
        && !matches!(ask.caller.kind, Kind::Anonymous | Kind::Federated)
    {
        return Answer::Allowed;
    }
    if action == "sts:assumerole" && ask.caller.kind == Kind::Root {
        return Answer::ImplicitDeny;
    }
    let person = !matches!(
        ask.caller.kind,
        Kind::Service | Kind::Anonymous | Kind::Federated
    );
    let own = person && ask.caller.kind != Kind::Root;
    let rcp_counts = ["s3:", "sts:", "kms:", "sqs:"]
        .iter()
        .any(|p| action.starts_with(p));
    let boundary = world.boundary.is_some();

    let mut denied = false;
    if rcp_counts {
        denied |= world
            .rcp
            .iter()
            .flatten()
            .any(|d| denies(ask, d, Sort::Rcp, boundary));
    }
    if person {
        denied |= world
            .scp
            .iter()
            .flatten()
            .any(|d| denies(ask, d, Sort::Scp, boundary));
    }
    denied |= world
        .resource
        .iter()
        .flatten()
        .any(|d| denies(ask, d, Sort::OfResource, boundary));
    denied |= world
        .endpoint
        .iter()
        .flatten()
        .any(|d| denies(ask, d, Sort::OfResource, boundary) || denies_unnamed(ask, d));
    if own {
        denied |= world
            .identity
            .iter()
            .any(|d| denies(ask, d, Sort::OfPrincipal, boundary));
        denied |= world
            .boundary
            .iter()
            .any(|d| denies(ask, d, Sort::OfPrincipal, boundary));
        denied |= world
            .session
            .iter()
            .flatten()
            .any(|d| denies(ask, d, Sort::OfPrincipal, boundary));
    }
    if denied {
        return Answer::ExplicitDeny;
    }
    if person
        && !world
            .scp
            .iter()
            .all(|level| level.iter().any(|d| allows(ask, d, Sort::Scp)))
    {
        return Answer::ImplicitDeny;
    }
    if let Some(documents) = &world.endpoint {
        let allowed = documents.iter().any(|d| {
            statements(d).any(|s| {
                effect(s, "Allow")
                    && matches(ask, d, s, Sort::OfResource)
                    && (unnamed(s) || grant(ask, s).is_some())
            })
        });
        if !allowed {
            return Answer::ImplicitDeny;
        }
    }
    let grant = strongest(ask, world);
    if !person {
        return if grant == Some(Grant::Direct) {
            Answer::Allowed
        } else {
            Answer::ImplicitDeny
        };
    }
    let identity = !own
        || world
            .identity
            .iter()
            .any(|d| allows(ask, d, Sort::OfPrincipal));
    let within = !own
        || (world
            .boundary
            .iter()
            .all(|d| allows(ask, d, Sort::OfPrincipal))
            && world
                .session
                .iter()
                .all(|s| s.iter().any(|d| allows(ask, d, Sort::OfPrincipal))));
    let trust =
        ["sts:assumerole", "sts:tagsession"].contains(&&*action) && ask.resource.contains(":role/");
    let allowed = if ask.caller.account == ask.owner {
        grant == Some(Grant::Direct)
            || (grant == Some(Grant::Role) && within)
            || (identity && within && (!trust || grant.is_some()))
    } else {
        grant.is_some() && identity && within
    };
    if allowed {
        Answer::Allowed
    } else {
        Answer::ImplicitDeny
    }
}

fn strongest(ask: &Ask, world: &World) -> Option<Grant> {
    let partition = ask.resource.split(':').nth(1).unwrap_or_default();
    let own = ask.caller.arn.split(':').nth(1).unwrap_or_default();
    let known = ask.caller.arn.starts_with("arn:") && ask.caller.kind != Kind::Federated;
    if known && ask.resource != "*" && partition.to_lowercase() != own {
        return None;
    }
    let mut best = None;
    for document in world.resource.iter().flatten() {
        for statement in statements(document) {
            if effect(statement, "Allow") && matches(ask, document, statement, Sort::OfResource) {
                best = best.max(grant(ask, statement));
            }
        }
    }
    best
}

fn allows(ask: &Ask, document: &Value, sort: Sort) -> bool {
    statements(document)
        .any(|s| effect(s, "Allow") && unnamed(s) && matches(ask, document, s, sort))
}

fn unnamed(statement: &Value) -> bool {
    statement.get("Principal").is_none() && statement.get("NotPrincipal").is_none()
}

fn denies_unnamed(ask: &Ask, document: &Value) -> bool {
    statements(document)
        .any(|s| effect(s, "Deny") && unnamed(s) && matches(ask, document, s, Sort::OfResource))
}

fn denies(ask: &Ask, document: &Value, sort: Sort, boundary: bool) -> bool {
    statements(document).any(|s| {
        let who = match sort {
            Sort::OfPrincipal | Sort::Scp => true,
            Sort::Rcp if unnamed(s) => true,
            Sort::OfResource | Sort::Rcp => match (s.get("Principal"), s.get("NotPrincipal")) {
                (Some(element), _) => entries(element)
                    .iter()
                    .any(|e| covers(ask, e, true).is_some()),
                (None, Some(element)) => {
                    boundary
                        || !entries(element)
                            .iter()
                            .any(|e| covers(ask, e, true).is_some())
                }
                (None, None) => false,
            },
        };
        who && effect(s, "Deny") && matches(ask, document, s, sort)
    })
}

fn grant(ask: &Ask, statement: &Value) -> Option<Grant> {
    match (statement.get("Principal"), statement.get("NotPrincipal")) {
        (Some(element), _) => entries(element)
            .iter()
            .filter_map(|e| covers(ask, e, false))
            .max(),
        (None, Some(element)) => {
            let listed = entries(element)
                .iter()
                .any(|e| covers(ask, e, true).is_some());
            let everyone = ("AWS".to_owned(), "*".to_owned());
            if listed {
                None
            } else {
                covers(ask, &everyone, false)
            }
        }
        (None, None) => None,
    }
}

fn entries(element: &Value) -> Vec<(String, String)> {
    match element {
        Value::String(text) => vec![("AWS".to_owned(), text.clone())],
        Value::Object(kinds) => kinds
            .iter()
            .flat_map(|(kind, value)| list(value).into_iter().map(|text| (kind.clone(), text)))
            .collect(),
        _ => Vec::new(),
    }
}

fn covers(ask: &Ask, (kind, text): &(String, String), deny: bool) -> Option<Grant> {
    let caller = &ask.caller;
    match &**kind {
        "Service" => (caller.kind == Kind::Service && *text == caller.arn).then_some(Grant::Direct),
        "Federated" => {
            let account = text.split(':').nth(4).unwrap_or_default();
            let good = caller.kind == Kind::Federated
                && *text == caller.arn
                && (deny || account == ask.owner);
            good.then_some(Grant::Direct)
        }
        "AWS" if text == "*" => (deny || caller.kind != Kind::Federated).then_some(Grant::Direct),
        "AWS" => {
            if caller.account.is_empty() {
                return None;
            }
            if *text == caller.account || *text == format!("arn:aws:iam::{}:root", caller.account) {
                return Some(Grant::Account);
            }
            if caller.kind == Kind::User && *text == caller.arn {
                return Some(Grant::Direct);
            }
            if caller.kind == Kind::Session {
                if *text == caller.arn {
                    return Some(Grant::Direct);
                }
                let role = caller.arn.split('/').nth(1).unwrap_or_default();
                let prefix = format!("arn:aws:iam::{}:role/", caller.account);
                let name = text.strip_prefix(&prefix)?.split('/').next_back()?;
                return name.eq_ignore_ascii_case(role).then_some(Grant::Role);
            }
            None
        }
        _ => None,
    }
}

fn statements(document: &Value) -> impl Iterator<Item = &Value> {
    match &document["Statement"] {
        Value::Array(items) => items.iter(),
        single => std::slice::from_ref(single).iter(),
    }
}

fn effect(statement: &Value, wanted: &str) -> bool {
    statement["Effect"] == wanted
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(text).collect(),
        other => text(other).into_iter().collect(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn matches(ask: &Ask, document: &Value, statement: &Value, sort: Sort) -> bool {
    let variables = document["Version"] == "2012-10-17";
    action_matches(ask, statement)
        && resource_matches(ask, statement, sort, variables)
        && conditions::hold(ask, statement, variables)
}

fn action_matches(ask: &Ask, statement: &Value) -> bool {
    let hit = |pattern: &String| {
        if pattern == "*" {
            return true;
        }
        let (Some((service, name)), Some((own, own_name))) =
            (pattern.split_once(':'), ask.action.split_once(':'))
        else {
            return false;
        };
        !service.is_empty()
            && !name.is_empty()
            && glob(&service.to_lowercase(), &own.to_lowercase())
            && glob(&name.to_lowercase(), &own_name.to_lowercase())
    };
    match (statement.get("Action"), statement.get("NotAction")) {
        (Some(action), _) => list(action).iter().any(hit),
        (None, Some(action)) => !list(action).iter().any(hit),
        (None, None) => false,
    }
}

/// `None`: a variable has no value.
fn one_resource(ask: &Ask, pattern: &str, sort: Sort, variables: bool) -> Option<bool> {
    if pattern == "*" {
        return Some(true);
    }
    if !pattern.starts_with("arn:") {
        return Some(false);
    }
    let mut parts: Vec<&str> = pattern.splitn(6, ':').collect();
    if parts.len() < 6 {
        let counts = match sort {
            Sort::OfPrincipal => true,
            Sort::OfResource => pattern.contains('*'),
            Sort::Scp => pattern.ends_with('*'),
            Sort::Rcp => false,
        };
        if !counts {
            return Some(false);
        }
        parts.resize(6, "*");
    }
    let last = if variables {
        substitute(ask, parts[5])
    } else {
        Some(mark(parts[5]))
    };
    let last = last?;
    if ask.resource == "*" {
        return Some(false);
    }
    let own: Vec<&str> = ask.resource.splitn(6, ':').collect();
    let head = (1..5).all(|i| glob(&parts[i].to_lowercase(), &own[i].to_lowercase()));
    Some(head && glob_marked(&last, own[5]))
}

fn resource_matches(ask: &Ask, statement: &Value, sort: Sort, variables: bool) -> bool {
    match (statement.get("Resource"), statement.get("NotResource")) {
        (Some(resource), _) => list(resource)
            .iter()
            .any(|p| one_resource(ask, p, sort, variables) == Some(true)),
        (None, Some(resource)) => {
            let verdicts: Vec<Option<bool>> = list(resource)
                .iter()
                .map(|p| one_resource(ask, p, sort, variables))
                .collect();
            !verdicts.contains(&Some(true))
                && (effect(statement, "Deny") || !verdicts.contains(&None))
        }
        (None, None) => sort == Sort::OfResource || effect(statement, "Deny"),
    }
}

fn key_value<'a>(ask: &'a Ask, key: &str) -> Option<&'a Value> {
    ask.context
        .iter()
        .find(|(own, _)| own.eq_ignore_ascii_case(key))
        .map(|(_, value)| value)
}

/// A pattern as symbols: literal characters, and the two wildcards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    Char(char),
    Star,
    One,
}

fn mark(pattern: &str) -> Vec<Symbol> {
    pattern
        .chars()
        .map(|c| match c {
            '*' => Symbol::Star,
            '?' => Symbol::One,
            c => Symbol::Char(c),
        })
        .collect()
}

fn substitute(ask: &Ask, pattern: &str) -> Option<Vec<Symbol>> {
    let mut symbols = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.find("${") {
        let Some(close) = rest[at..].find('}') else {
            break;
        };
        symbols.extend(mark(&rest[..at]));
        let inner = &rest[at + 2..at + close];
        rest = &rest[at + close + 1..];
        if ["*", "?", "$"].contains(&inner) {
            symbols.extend(inner.chars().map(Symbol::Char));
            continue;
        }
        let (key, default) = match inner.split_once(',') {
            Some((key, default)) => (key, Some(default.trim_matches([' ', '\'']))),
            None => (inner, None),
        };
        let value = match key_value(ask, key) {
            Some(Value::String(text)) if !text.is_empty() => Some(&**text),
            _ => default,
        };
        symbols.extend(value?.chars().map(Symbol::Char));
    }
    symbols.extend(mark(rest));
    Some(symbols)
}

fn glob(pattern: &str, text: &str) -> bool {
    glob_marked(&mark(pattern), text)
}

fn glob_marked(pattern: &[Symbol], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for symbol in pattern {
        let mut next = vec![false; text.len() + 1];
        for i in 0..=text.len() {
            next[i] = match symbol {
                Symbol::Star => reach[i] || (i > 0 && next[i - 1]),
                Symbol::One => i > 0 && reach[i - 1],
                Symbol::Char(c) => i > 0 && reach[i - 1] && text[i - 1] == *c,
            };
        }
        reach = next;
    }
    reach[text.len()]
}
