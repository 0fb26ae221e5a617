//! Pieces of a policy, and when one covers another by its form alone.

use crate::condition::{Base, Operator};
use crate::cover;
use crate::document::{
    ConditionKey, Document, Effect, ListElement, PrincipalElement, PrincipalEntry, PrincipalKind,
    Statement, Version,
};
use crate::fold;

/// One action entry with one resource entry of a statement; a `Not...` element counts as one entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region<'d> {
    pub(super) index: usize,
    pub(super) statement: &'d Statement,
    pub(super) action: Piece<'d>,
    pub(super) resource: Option<Piece<'d>>,
    version: Version,
}

/// An entry, or all but some entries.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'d> {
    One(&'d str),
    AllBut(&'d ListElement),
}

impl Region<'_> {
    pub(super) fn action_text(&self) -> String {
        self.action.text("NotAction")
    }

    pub(super) fn resource_text(&self) -> Option<String> {
        self.resource
            .as_ref()
            .map(|resource| resource.text("NotResource"))
    }
}

impl Piece<'_> {
    fn text(&self, element: &str) -> String {
        match self {
            Self::One(text) => (*text).to_owned(),
            Self::AllBut(list) => {
                let entries: Vec<&str> = list.entries.iter().map(|entry| &*entry.value).collect();
                format!("{element} [{}]", entries.join(", "))
            }
        }
    }
}

/// The pieces of all statements of one effect. Statements that never apply have none.
pub(super) fn regions(document: &Document, effect: Effect) -> Vec<Region<'_>> {
    let mut regions = Vec::new();
    let statements = document.statements().iter().enumerate();
    for (index, statement) in statements.filter(|(_, statement)| statement.effect == effect) {
        let Some(actions) = &statement.action else {
            continue;
        };
        let resources: Vec<Option<Piece<'_>>> = match &statement.resource {
            Some(list) => pieces(list).into_iter().map(Some).collect(),
            None => vec![None],
        };
        for action in pieces(actions) {
            for resource in &resources {
                regions.push(Region {
                    index,
                    statement,
                    action,
                    resource: *resource,
                    version: document.version(),
                });
            }
        }
    }
    regions
}

fn pieces(list: &ListElement) -> Vec<Piece<'_>> {
    if list.negated {
        vec![Piece::AllBut(list)]
    } else {
        list.entries
            .iter()
            .map(|entry| Piece::One(&entry.value))
            .collect()
    }
}

/// Whether `outer` applies to every request that `inner` applies to. `true` is always right.
pub(super) fn covers(outer: &Region<'_>, inner: &Region<'_>) -> bool {
    // `${...}` is a variable in one version of the language and text in the other.
    let same_meaning = outer.version == inner.version
        || !(mentions_variable(outer.statement) || mentions_variable(inner.statement));
    same_meaning
        && piece_covers(&outer.action, &inner.action, cover::action, actions_overlap)
        && match (&outer.resource, &inner.resource) {
            (None, None) => true,
            (Some(left), Some(right)) => {
                piece_covers(left, right, cover::resource, cover::resources_overlap)
                    && (outer.statement.effect == Effect::Deny || applies_as_often(left, right))
            }
            _ => false,
        }
        && principals_cover(&outer.statement.principal, &inner.statement.principal)
        && conditions_follow(outer.statement, inner.statement)
}

fn mentions_variable(statement: &Statement) -> bool {
    let resources = statement.resource.iter().flat_map(|list| &list.entries);
    let values = statement
        .conditions
        .iter()
        .flat_map(|block| &block.keys)
        .flat_map(|key| &key.values);
    resources
        .chain(values)
        .any(|text| text.value.contains("${"))
}

/// An Allow with `NotResource` does not apply while one of its variables has no value. So an outer one must have no variable that the
/// inner one lacks.
fn applies_as_often(outer: &Piece<'_>, inner: &Piece<'_>) -> bool {
    let Piece::AllBut(outer) = outer else {
        return true;
    };
    outer
        .entries
        .iter()
        .filter(|entry| entry.value.contains("${"))
        .all(|entry| match inner {
            Piece::AllBut(inner) => inner.entries.iter().any(|other| other.value == entry.value),
            Piece::One(_) => false,
        })
}

fn piece_covers(
    outer: &Piece<'_>,
    inner: &Piece<'_>,
    covers: impl Fn(&str, &str) -> bool,
    overlap: impl Fn(&str, &str) -> bool,
) -> bool {
    match (outer, inner) {
        (Piece::One("*"), _) => true,
        (Piece::One(outer), Piece::One(inner)) => covers(outer, inner),
        (Piece::One(_), Piece::AllBut(_)) => false,
        (Piece::AllBut(outer), Piece::One(inner)) => !outer
            .entries
            .iter()
            .any(|entry| entry.value.contains("${") || overlap(&entry.value, inner)),
        // All but these covers all but those when it leaves out no more.
        (Piece::AllBut(outer), Piece::AllBut(inner)) => outer.entries.iter().all(|left_out| {
            inner
                .entries
                .iter()
                .any(|entry| covers(&entry.value, &left_out.value))
        }),
    }
}

/// Whether some request could be one that both apply to; conditions are not looked at.
pub(super) fn may_overlap(left: &Region<'_>, right: &Region<'_>) -> bool {
    let actions = match (&left.action, &right.action) {
        (Piece::One(left), Piece::One(right)) => actions_overlap(left, right),
        _ => true,
    };
    let resources = match (&left.resource, &right.resource) {
        (Some(Piece::One(left)), Some(Piece::One(right))) => cover::resources_overlap(left, right),
        _ => true,
    };
    actions && resources
}

fn actions_overlap(left: &str, right: &str) -> bool {
    cover::overlap(&left.to_ascii_lowercase(), &right.to_ascii_lowercase())
}

fn principals_cover(outer: &Option<PrincipalElement>, inner: &Option<PrincipalElement>) -> bool {
    match (outer, inner) {
        (None, None) => true,
        (Some(outer), Some(inner)) if !outer.negated && !inner.negated => {
            inner.entries.iter().all(|inner| {
                outer
                    .entries
                    .iter()
                    .any(|outer| principal_covers(outer, inner))
            })
        }
        (Some(outer), Some(inner)) if outer.negated && inner.negated => {
            outer.entries.iter().all(|outer| {
                inner
                    .entries
                    .iter()
                    .any(|inner| principal_covers(inner, outer))
            })
        }
        _ => false,
    }
}

fn principal_covers(outer: &PrincipalEntry, inner: &PrincipalEntry) -> bool {
    let everyone = |entry: &PrincipalEntry| {
        &*entry.text.value == "*" && matches!(entry.kind, PrincipalKind::Star | PrincipalKind::Aws)
    };
    // A federated caller is not covered by `*`, see the engine.
    (everyone(outer) && inner.kind != PrincipalKind::Federated)
        || (outer.kind == inner.kind && account(&outer.text.value) == account(&inner.text.value))
}

/// An account id stands for its root ARN.
fn account(text: &str) -> &str {
    text.strip_prefix("arn:aws:iam::")
        .and_then(|rest| rest.strip_suffix(":root"))
        .unwrap_or(text)
}

/// Whether every condition of `outer` follows from one of `inner`'s.
fn conditions_follow(outer: &Statement, inner: &Statement) -> bool {
    outer.conditions.iter().all(|block| {
        let operator = Operator::parse(&block.operator.value);
        block.keys.iter().all(|key| {
            inner.conditions.iter().any(|other| {
                other.keys.iter().any(|other_key| {
                    if !fold::eq(&other_key.key.value, &key.key.value) {
                        return false;
                    }
                    let same = block.operator.value == other.operator.value
                        && key.values.len() == other_key.values.len()
                        && key
                            .values
                            .iter()
                            .zip(&other_key.values)
                            .all(|(left, right)| left.value == right.value);
                    same || follows(
                        operator,
                        key,
                        Operator::parse(&other.operator.value),
                        other_key,
                    )
                })
            })
        })
    })
}

/// Whether `outer` holds whenever `inner` holds.
fn follows(
    outer: Option<Operator>,
    outer_key: &ConditionKey,
    inner: Option<Operator>,
    inner_key: &ConditionKey,
) -> bool {
    let (Some(outer), Some(inner)) = (outer, inner) else {
        return false;
    };
    let listed =
        |list: &ConditionKey, value: &str| list.values.iter().any(|other| &*other.value == value);
    // With `IfExists` a condition holds more often, and never less.
    let existence = outer.if_exists || !inner.if_exists;
    if outer.set != inner.set || !existence || inner_key.values.is_empty() {
        return false;
    }
    let same_base = outer.base == inner.base;
    if outer.base.is_negated() {
        // Excluding more is narrower.
        return same_base
            && !outer_key.values.is_empty()
            && outer_key
                .values
                .iter()
                .all(|value| listed(inner_key, &value.value));
    }
    let ordered = matches!(outer.base, Base::Numeric(_) | Base::Date(_));
    if same_base
        && inner_key
            .values
            .iter()
            .all(|value| listed(outer_key, &value.value))
    {
        return true;
    }
    let like = match (outer.base, inner.base) {
        (Base::StringLike { negated: false }, Base::StringLike { negated: false }) => true,
        (Base::StringLike { negated: false }, Base::String { negated: false }) => {
            // Under StringEquals a star is a star, which a pattern's star covers as well.
            !inner_key
                .values
                .iter()
                .any(|value| value.value.contains(['*', '?', '$']))
        }
        _ => false,
    };
    like && !ordered
        && inner_key.values.iter().all(|value| {
            outer_key
                .values
                .iter()
                .any(|pattern| cover::glob(&pattern.value, &value.value))
        })
}
