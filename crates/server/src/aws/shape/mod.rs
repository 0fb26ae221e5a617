//! What the parameters of an operation look like, as data: the service models' names, kinds and constraints (IAM API
//! spec, sections 4 and 4.20; STS spec, section 2), and the one reader that checks a request against them.

pub(super) mod eks_kinds;
mod input;
pub(super) mod kinds;
mod pattern;
mod rest;

pub(crate) use input::{Input, Style, Value};
pub(crate) use pattern::Pattern;
pub(crate) use rest::{Sent, read as read_rest, unreadable};

/// One parameter of an operation, or one member of a structure.
#[derive(Debug)]
pub(crate) struct Parameter {
    /// The name on the wire, such as `UserName`.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    /// Where REST-JSON requests have it; the Query protocol has one place only.
    pub(crate) place: Place,
    /// Whether AWS's service model does not have it.
    pub(crate) ours: bool,
}

/// Where a parameter of a REST-JSON operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A member of the body.
    Body,
    /// A label of the path, by its name in the template.
    Label(&'static str),
    /// The query string; lists repeat the name.
    Query,
}

/// A parameter that must be there.
pub(crate) const fn required(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        required: true,
        place: Place::Body,
        ours: false,
    }
}

/// A parameter that may be left out.
pub(crate) const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        required: false,
        place: Place::Body,
        ours: false,
    }
}

/// A label of the path; always there, and never empty.
pub(crate) const fn label(name: &'static str, in_path: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        required: true,
        place: Place::Label(in_path),
        ours: false,
    }
}

/// A parameter of the query string that may be left out.
pub(crate) const fn in_query(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        required: false,
        place: Place::Query,
        ours: false,
    }
}

impl Parameter {
    /// The same, which must be there.
    pub(crate) const fn needed(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    /// The same, which AWS's service model does not have.
    pub(crate) const fn ours(self) -> Self {
        Self { ours: true, ..self }
    }
}

/// What a parameter holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Characters.
    Text(Text),
    /// A number within bounds, both inclusive.
    Integer { least: i64, most: i64 },
    /// `true` or `false`.
    Boolean,
    /// `NAME.member.N`; `most` is [`ANY_NUMBER`] where the model has no bound. A request has at most 4,096 parameters, which
    /// bounds every list.
    List {
        least: usize,
        most: usize,
        of: &'static Kind,
    },
    /// `NAME.MEMBER`.
    Structure(&'static [Parameter]),
    /// Texts by texts, in JSON only; members in the byte order of their keys.
    Map {
        least: usize,
        most: usize,
        key: Text,
        value: Text,
    },
}

/// No upper bound in the service model.
pub(crate) const ANY_NUMBER: usize = usize::MAX;
/// Any integer: no bounds in the service model.
pub(crate) const ANY_INTEGER: Kind = Kind::Integer {
    least: i64::MIN,
    most: i64::MAX,
};

/// The constraints of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    /// Fewest characters.
    pub(crate) least: usize,
    /// Most characters; [`ANY_NUMBER`] where there is no bound.
    pub(crate) most: usize,
    pub(crate) pattern: Option<&'static Pattern>,
    /// The values there are; empty when any text will do.
    pub(crate) choices: &'static [&'static str],
    /// Whether the value stays out of messages, logs and records.
    pub(crate) secret: bool,
}

impl Kind {
    /// A text of bounded length.
    pub(crate) const fn text(least: usize, most: usize) -> Self {
        Self::Text(Text {
            least,
            most,
            pattern: None,
            choices: &[],
            secret: false,
        })
    }

    /// A text of bounded length and certain characters.
    pub(crate) const fn matching(least: usize, most: usize, pattern: &'static Pattern) -> Self {
        Self::Text(Text {
            least,
            most,
            pattern: Some(pattern),
            choices: &[],
            secret: false,
        })
    }

    /// One of several words.
    pub(crate) const fn choice(choices: &'static [&'static str]) -> Self {
        Self::Text(Text {
            least: 0,
            most: ANY_NUMBER,
            pattern: None,
            choices,
            secret: false,
        })
    }

    /// The same, never shown.
    const fn secret(self) -> Self {
        match self {
            Self::Text(text) => Self::Text(Text {
                secret: true,
                ..text
            }),
            other => other,
        }
    }

    /// A list with at most `most` members.
    pub(crate) const fn list(least: usize, most: usize, of: &'static Self) -> Self {
        Self::List { least, most, of }
    }
}
