//! What the parameters of an operation look like, as data: the service models' names, kinds and constraints (IAM API
//! spec, sections 4 and 4.20; STS spec, section 2), and the one reader that checks a request against them.

mod input;
pub(super) mod kinds;
mod pattern;

pub(crate) use input::{Input, Style, Value};
pub(crate) use pattern::Pattern;

/// One parameter of an operation, or one member of a structure.
#[derive(Debug)]
pub(crate) struct Parameter {
    /// The name on the wire, such as `UserName`.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
}

/// A parameter that must be there.
pub(crate) const fn required(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        required: true,
    }
}

/// A parameter that may be left out.
pub(crate) const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        required: false,
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
}

/// No upper bound in the service model.
pub(crate) const ANY_NUMBER: usize = usize::MAX;

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
    const fn text(least: usize, most: usize) -> Self {
        Self::Text(Text {
            least,
            most,
            pattern: None,
            choices: &[],
            secret: false,
        })
    }

    /// A text of bounded length and certain characters.
    const fn matching(least: usize, most: usize, pattern: &'static Pattern) -> Self {
        Self::Text(Text {
            least,
            most,
            pattern: Some(pattern),
            choices: &[],
            secret: false,
        })
    }

    /// One of several words.
    const fn choice(choices: &'static [&'static str]) -> Self {
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
    const fn list(least: usize, most: usize, of: &'static Self) -> Self {
        Self::List { least, most, of }
    }
}
