//! The names of the condition operators (policy language spec, section 5.3).

use crate::words::nearest;

/// An operator as written: qualifier, base, `IfExists`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operator {
    pub(crate) set: SetQualifier,
    pub(crate) base: Base,
    pub(crate) if_exists: bool,
}

/// `ForAllValues:` and `ForAnyValue:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetQualifier {
    None,
    ForAllValues,
    ForAnyValue,
}

/// What is compared, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    String { negated: bool },
    StringIgnoreCase { negated: bool },
    StringLike { negated: bool },
    Numeric(Comparison),
    Date(Comparison),
    Bool,
    Binary,
    Ip { negated: bool },
    Arn { negated: bool },
    Null,
}

/// The six comparisons of numbers and dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equals,
    NotEquals,
    LessThan,
    LessThanEquals,
    GreaterThan,
    GreaterThanEquals,
}

impl Comparison {
    pub(crate) fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equals => order.is_eq(),
            Self::NotEquals => order.is_ne(),
            Self::LessThan => order.is_lt(),
            Self::LessThanEquals => order.is_le(),
            Self::GreaterThan => order.is_gt(),
            Self::GreaterThanEquals => order.is_ge(),
        }
    }
}

const BASES: [(&str, Base); 27] = [
    ("StringEquals", Base::String { negated: false }),
    ("StringNotEquals", Base::String { negated: true }),
    (
        "StringEqualsIgnoreCase",
        Base::StringIgnoreCase { negated: false },
    ),
    (
        "StringNotEqualsIgnoreCase",
        Base::StringIgnoreCase { negated: true },
    ),
    ("StringLike", Base::StringLike { negated: false }),
    ("StringNotLike", Base::StringLike { negated: true }),
    ("NumericEquals", Base::Numeric(Comparison::Equals)),
    ("NumericNotEquals", Base::Numeric(Comparison::NotEquals)),
    ("NumericLessThan", Base::Numeric(Comparison::LessThan)),
    (
        "NumericLessThanEquals",
        Base::Numeric(Comparison::LessThanEquals),
    ),
    ("NumericGreaterThan", Base::Numeric(Comparison::GreaterThan)),
    (
        "NumericGreaterThanEquals",
        Base::Numeric(Comparison::GreaterThanEquals),
    ),
    ("DateEquals", Base::Date(Comparison::Equals)),
    ("DateNotEquals", Base::Date(Comparison::NotEquals)),
    ("DateLessThan", Base::Date(Comparison::LessThan)),
    ("DateLessThanEquals", Base::Date(Comparison::LessThanEquals)),
    ("DateGreaterThan", Base::Date(Comparison::GreaterThan)),
    (
        "DateGreaterThanEquals",
        Base::Date(Comparison::GreaterThanEquals),
    ),
    ("Bool", Base::Bool),
    ("BinaryEquals", Base::Binary),
    ("IpAddress", Base::Ip { negated: false }),
    ("NotIpAddress", Base::Ip { negated: true }),
    ("ArnEquals", Base::Arn { negated: false }),
    ("ArnLike", Base::Arn { negated: false }),
    ("ArnNotEquals", Base::Arn { negated: true }),
    ("ArnNotLike", Base::Arn { negated: true }),
    ("Null", Base::Null),
];

const SETS: [(&str, SetQualifier); 2] = [
    ("ForAllValues:", SetQualifier::ForAllValues),
    ("ForAnyValue:", SetQualifier::ForAnyValue),
];

const IF_EXISTS: &str = "IfExists";

impl Operator {
    /// The operator of this name, in exact case: what IAM accepts on write.
    pub(crate) fn parse_exact(text: &str) -> Option<Self> {
        Self::parse_by(text, |name, text| name == text)
    }

    /// The operator of this name in any case: what evaluation understands.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::parse_by(text, str::eq_ignore_ascii_case)
    }

    /// The known operator that an unknown one was probably meant to be.
    pub(crate) fn suggestion(text: &str) -> Option<String> {
        let (prefix, rest) = SETS
            .iter()
            .find_map(|(name, _)| text.strip_prefix(name).map(|rest| (*name, rest)))
            .unwrap_or(("", text));
        let (rest, suffix) = match rest.strip_suffix(IF_EXISTS) {
            Some(rest) => (rest, IF_EXISTS),
            None => (rest, ""),
        };
        let base = nearest(rest, BASES.iter().map(|(name, _)| *name))?;
        Some(format!("{prefix}{base}{suffix}"))
    }

    fn parse_by(text: &str, same: impl Fn(&str, &str) -> bool) -> Option<Self> {
        let mut set = SetQualifier::None;
        let mut rest = text;
        for (prefix, qualifier) in SETS {
            if let (Some(head), Some(tail)) = (text.get(..prefix.len()), text.get(prefix.len()..))
                && same(prefix, head)
            {
                set = qualifier;
                rest = tail;
            }
        }
        let mut if_exists = false;
        if let Some(at) = rest.len().checked_sub(IF_EXISTS.len())
            && let (Some(head), Some(tail)) = (rest.get(..at), rest.get(at..))
            && same(IF_EXISTS, tail)
        {
            if_exists = true;
            rest = head;
        }
        let (_, base) = BASES.into_iter().find(|(name, _)| same(name, rest))?;
        (base != Base::Null || !if_exists).then_some(Self {
            set,
            base,
            if_exists,
        })
    }
}

impl Base {
    /// Whether the operator holds when its key is missing.
    pub(crate) fn is_negated(self) -> bool {
        match self {
            Self::String { negated }
            | Self::StringIgnoreCase { negated }
            | Self::StringLike { negated }
            | Self::Ip { negated }
            | Self::Arn { negated } => negated,
            Self::Numeric(comparison) | Self::Date(comparison) => {
                comparison == Comparison::NotEquals
            }
            Self::Bool | Self::Binary | Self::Null => false,
        }
    }

    /// Whether policy variables act in the values (policy language spec, section 6).
    pub(crate) fn has_variables(self) -> bool {
        matches!(
            self,
            Self::String { .. }
                | Self::StringIgnoreCase { .. }
                | Self::StringLike { .. }
                | Self::Arn { .. }
        )
    }

    /// Rough cost of one comparison, to try the cheap conditions of a statement first.
    pub(crate) fn cost(self) -> u8 {
        match self {
            Self::Null | Self::Bool => 0,
            Self::String { .. } | Self::StringIgnoreCase { .. } => 1,
            Self::Arn { .. } => 2,
            Self::StringLike { .. } | Self::Binary => 3,
            Self::Numeric(_) | Self::Date(_) | Self::Ip { .. } => 4,
        }
    }
}
