//! Conditions: operators, values, and how a request's context meets them (policy language spec, section 5).

mod binary;
mod date;
mod ip;
mod number;
mod operator;

pub(crate) use binary::is_base64;
pub(crate) use date::Instant;
pub(crate) use ip::Network;
pub(crate) use number::Decimal;
pub(crate) use operator::{Base, Comparison, Operator, SetQualifier};

use crate::arn_pattern::ArnPattern;
use crate::context::{Context, ContextValue, Key};
use crate::document::{ConditionKey, Text, Version};
use crate::pattern::{Pattern, Syntax};

/// One key under one operator, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) operator: Option<Operator>,
    pub(crate) key: Key,
    test: Test,
    /// Which block and key of the statement this was compiled from.
    pub(crate) origin: (u32, u32),
}

/// The values of a condition, ready to compare.
#[derive(Debug, Clone)]
enum Test {
    /// The operator is unknown: never true.
    Unknown,
    Null(Box<[Option<bool>]>),
    Bool(Box<[Option<bool>]>),
    String {
        negated: bool,
        values: Box<[Pattern]>,
    },
    IgnoreCase {
        negated: bool,
        values: Box<[Pattern]>,
    },
    Like {
        negated: bool,
        values: Box<[Pattern]>,
    },
    Numeric {
        comparison: Comparison,
        values: Box<[Box<str>]>,
    },
    Date {
        comparison: Comparison,
        values: Box<[Option<Instant>]>,
    },
    Binary(Box<[Box<str>]>),
    Ip {
        negated: bool,
        values: Box<[Option<Network>]>,
    },
    Arn {
        negated: bool,
        values: Box<[Option<ArnPattern>]>,
    },
}

impl Condition {
    pub(crate) fn compile(
        operator: &str,
        key: &ConditionKey,
        version: Version,
        origin: (u32, u32),
    ) -> Self {
        let operator = Operator::parse(operator);
        Self {
            operator,
            key: Key::new(&key.key.value),
            test: operator.map_or(Test::Unknown, |operator| {
                Test::compile(operator.base, &key.values, version)
            }),
            origin,
        }
    }

    /// Whether the condition holds (policy language spec, section 5.2).
    pub(crate) fn holds(&self, context: &Context<'_>) -> bool {
        let Some(operator) = self.operator else {
            return false;
        };
        let value = context.lookup(&self.key);
        if let Test::Null(wanted) = &self.test {
            return null_holds(operator.set, wanted, value);
        }
        let present = |value: &str| self.test.compare(value, context);
        // An `IfExists` that lists no value can only be satisfied by absence, and `ForAllValues` likewise.
        let nothing_listed = self.test.lists_nothing();
        match (operator.set, value) {
            (SetQualifier::None, None) => operator.if_exists || operator.base.is_negated(),
            (SetQualifier::None, Some(ContextValue::One(value))) => {
                !(nothing_listed && operator.if_exists) && present(value)
            }
            (SetQualifier::None, Some(ContextValue::Many(_))) => false,
            (SetQualifier::ForAllValues, None) => true,
            (SetQualifier::ForAllValues, Some(ContextValue::One(value))) => {
                !nothing_listed && present(value)
            }
            (SetQualifier::ForAllValues, Some(ContextValue::Many(values))) => {
                values.iter().all(|value| !nothing_listed && present(value))
            }
            (SetQualifier::ForAnyValue, None) => operator.if_exists,
            (SetQualifier::ForAnyValue, Some(ContextValue::One(value))) => {
                !nothing_listed && present(value)
            }
            (SetQualifier::ForAnyValue, Some(ContextValue::Many(values))) => {
                values.iter().any(|value| !nothing_listed && present(value))
            }
        }
    }

    /// Whether the request's value has the form that the operator compares: a number, a date, an address, an ARN, a boolean.
    pub(crate) fn value_is_comparable(&self, value: &str) -> bool {
        match &self.test {
            Test::Numeric { .. } => Decimal::parse(value).is_some(),
            Test::Date { .. } => Instant::parse(value).is_some(),
            Test::Ip { .. } => ip::address(value).is_some(),
            Test::Arn { .. } => crate::arn_pattern::split(value).is_some(),
            Test::Bool(_) => boolean(value).is_some(),
            Test::Unknown
            | Test::Null(_)
            | Test::String { .. }
            | Test::IgnoreCase { .. }
            | Test::Like { .. }
            | Test::Binary(_) => true,
        }
    }

    /// Whether a value would match if case did not count; for explanations.
    pub(crate) fn differs_by_case_only(&self, value: &str, context: &Context<'_>) -> bool {
        match &self.test {
            Test::String { values, .. } => values
                .iter()
                .any(|wanted| wanted.equals_folded(value, context)),
            _ => false,
        }
    }

    /// Keys of the variables in the values.
    pub(crate) fn variable_keys(&self) -> impl Iterator<Item = &Key> {
        let patterns: Vec<&Pattern> = match &self.test {
            Test::String { values, .. }
            | Test::IgnoreCase { values, .. }
            | Test::Like { values, .. } => values.iter().collect(),
            Test::Arn { values, .. } => values
                .iter()
                .flatten()
                .flat_map(ArnPattern::parts)
                .collect(),
            _ => Vec::new(),
        };
        patterns
            .into_iter()
            .flat_map(|pattern| pattern.variables())
            .filter_map(|variable| variable.key.as_ref())
    }

    /// The listed values with variables filled in; for explanations.
    pub(crate) fn shown_values(&self, listed: &ConditionKey, context: &Context<'_>) -> Vec<String> {
        match &self.test {
            Test::String { values, .. }
            | Test::IgnoreCase { values, .. }
            | Test::Like { values, .. } => values
                .iter()
                .zip(&listed.values)
                .map(|(pattern, text)| {
                    if pattern.variables().next().is_some() {
                        pattern.substituted(context)
                    } else {
                        text.value.to_string()
                    }
                })
                .collect(),
            _ => listed
                .values
                .iter()
                .map(|text| text.value.to_string())
                .collect(),
        }
    }
}

impl Test {
    fn compile(base: Base, values: &[Text], version: Version) -> Self {
        let variables = version == Version::V2012 && base.has_variables();
        let patterns = |wildcards| {
            let syntax = Syntax {
                wildcards,
                variables,
            };
            values
                .iter()
                .map(|text| Pattern::compile(&text.value, syntax))
                .collect()
        };
        let booleans = || values.iter().map(|text| boolean(&text.value)).collect();
        let texts = || values.iter().map(|text| text.value.clone()).collect();
        match base {
            Base::Null => Self::Null(booleans()),
            Base::Bool => Self::Bool(booleans()),
            Base::String { negated } => Self::String {
                negated,
                values: patterns(false),
            },
            Base::StringIgnoreCase { negated } => Self::IgnoreCase {
                negated,
                values: patterns(false),
            },
            Base::StringLike { negated } => Self::Like {
                negated,
                values: patterns(true),
            },
            Base::Numeric(comparison) => Self::Numeric {
                comparison,
                values: texts(),
            },
            Base::Date(comparison) => Self::Date {
                comparison,
                values: values
                    .iter()
                    .map(|text| Instant::parse(&text.value))
                    .collect(),
            },
            Base::Binary => Self::Binary(texts()),
            Base::Ip { negated } => Self::Ip {
                negated,
                values: values
                    .iter()
                    .map(|text| Network::parse(&text.value))
                    .collect(),
            },
            Base::Arn { negated } => Self::Arn {
                negated,
                values: values
                    .iter()
                    .map(|text| ArnPattern::compile_condition(&text.value, variables))
                    .collect(),
            },
        }
    }

    fn lists_nothing(&self) -> bool {
        match self {
            Self::Unknown => true,
            Self::Null(values) | Self::Bool(values) => values.is_empty(),
            Self::String { values, .. }
            | Self::IgnoreCase { values, .. }
            | Self::Like { values, .. } => values.is_empty(),
            Self::Numeric { values, .. } | Self::Binary(values) => values.is_empty(),
            Self::Date { values, .. } => values.is_empty(),
            Self::Ip { values, .. } => values.is_empty(),
            Self::Arn { values, .. } => values.is_empty(),
        }
    }

    /// One value of the request against all listed values: any for positive operators, none for negated ones. What cannot be
    /// compared, on either side, satisfies neither.
    fn compare(&self, value: &str, context: &Context<'_>) -> bool {
        match self {
            Self::Unknown | Self::Null(_) => false,
            Self::Bool(values) => boolean(value).is_some_and(|value| values.contains(&Some(value))),
            Self::String { negated, values } | Self::Like { negated, values } => {
                *negated != values.iter().any(|wanted| wanted.matches(value, context))
            }
            Self::IgnoreCase { negated, values } => {
                *negated
                    != values
                        .iter()
                        .any(|wanted| wanted.equals_folded(value, context))
            }
            Self::Numeric { comparison, values } => {
                let Some(value) = Decimal::parse(value) else {
                    return false;
                };
                let mut verdicts = values.iter().map(|wanted| {
                    Decimal::parse(wanted)
                        .is_some_and(|wanted| comparison.holds(value.compare(&wanted)))
                });
                aggregate(*comparison == Comparison::NotEquals, &mut verdicts)
            }
            Self::Date { comparison, values } => {
                let Some(value) = Instant::parse(value) else {
                    return false;
                };
                let mut verdicts = values.iter().map(|wanted| {
                    wanted.is_some_and(|wanted| comparison.holds(value.cmp(&wanted)))
                });
                aggregate(*comparison == Comparison::NotEquals, &mut verdicts)
            }
            Self::Binary(values) => values.iter().any(|wanted| binary::equal(wanted, value)),
            Self::Ip { negated, values } => {
                let Some(value) = ip::address(value) else {
                    return false;
                };
                let mut verdicts = values
                    .iter()
                    .map(|wanted| wanted.is_some_and(|wanted| wanted.contains(value) != *negated));
                aggregate(*negated, &mut verdicts)
            }
            Self::Arn { negated, values } => {
                let Some(value) = crate::arn_pattern::split(value) else {
                    return false;
                };
                let mut verdicts = values.iter().map(|wanted| {
                    wanted
                        .as_ref()
                        .is_some_and(|wanted| wanted.matches_condition(&value, context) != *negated)
                });
                aggregate(*negated, &mut verdicts)
            }
        }
    }
}

fn aggregate(negated: bool, verdicts: &mut impl Iterator<Item = bool>) -> bool {
    if negated {
        verdicts.all(|verdict| verdict)
    } else {
        verdicts.any(|verdict| verdict)
    }
}

fn null_holds(
    set: SetQualifier,
    wanted: &[Option<bool>],
    value: Option<&ContextValue<'_>>,
) -> bool {
    match set {
        SetQualifier::ForAllValues => true,
        SetQualifier::ForAnyValue => false,
        SetQualifier::None => {
            let missing = match value {
                None => true,
                Some(ContextValue::One(_)) => false,
                Some(ContextValue::Many(values)) => values.is_empty(),
            };
            wanted.contains(&Some(missing))
        }
    }
}

/// `true` and `false` in any case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}
