//! Values of conditions: of the operator's type, and the operator of the key's type.

use super::Linter;
use super::conditions::Test;
use crate::condition::{Base, Comparison, Decimal, Instant, Network, boolean};
use crate::tables::{KeyType, condition_key};

impl Linter<'_> {
    pub(super) fn values(&mut self, test: &Test<'_>) {
        self.each_value(test);
        self.many_values(test);
        self.key_type(test);
    }

    fn each_value(&mut self, test: &Test<'_>) {
        for value in &test.key.values {
            let text = &*value.value;
            let expected = match test.operator.base {
                Base::Numeric(_) if Decimal::parse(text).is_none() => Some("a number"),
                Base::Date(_) if Instant::parse(text).is_none() => Some("a date"),
                Base::Bool | Base::Null if boolean(text).is_none() => Some("true or false"),
                Base::Ip { .. } if Network::parse(text).is_none() => Some("an address or network"),
                Base::Arn { .. } if text.split(':').count() < 6 && !text.contains("${") => {
                    Some("an ARN with six fields")
                }
                Base::Binary if !crate::condition::is_base64(text) => Some("base64"),
                _ => None,
            };
            // Variables under these operators are reported as such.
            if let Some(expected) = expected.filter(|_| !text.contains("${")) {
                self.add(
                    "INVALID_CONDITION_DATA_TYPE",
                    &*test.path,
                    value.span,
                    format!("`{text}` is not {expected}, so nothing matches it"),
                );
            }
            let is_epoch = matches!(test.operator.base, Base::Date(_))
                && text.bytes().all(|b| b.is_ascii_digit())
                && !text.is_empty();
            if is_epoch && !test.name().eq_ignore_ascii_case("aws:EpochTime") {
                self.add(
                    "INVALID_DATE_VALUE",
                    &*test.path,
                    value.span,
                    format!("`{text}` is Unix time, which people cannot read"),
                );
            }
            let literal = matches!(
                test.operator.base,
                Base::String { .. } | Base::StringIgnoreCase { .. }
            );
            // Stars behind a service account's subject have a code of their own.
            let subject = test.name().ends_with(":sub") && self.is_trust();
            if literal && !subject && has_wildcard(text) {
                self.add(
                    "WILDCARD_WITHOUT_LIKE_OPERATOR",
                    &*test.path,
                    value.span,
                    format!("`{text}` is compared letter by letter"),
                );
            }
        }
    }

    fn many_values(&mut self, test: &Test<'_>) {
        let count = test.key.values.len();
        match test.operator.base {
            Base::Bool | Base::Null if count > 1 => self.add(
                "INVALID_CONDITION_MULTIPLE_BOOLEAN",
                &*test.path,
                test.key.span,
                format!("{} is compared with {count} values", test.name()),
            ),
            Base::Numeric(comparison) | Base::Date(comparison)
                if count > 1
                    && !matches!(comparison, Comparison::Equals | Comparison::NotEquals) =>
            {
                self.add(
                    "REDUNDANT_CONDITION_VALUE_NUM",
                    &*test.path,
                    test.key.span,
                    format!("of the {count} values only one decides"),
                );
            }
            _ => {}
        }
    }

    fn key_type(&mut self, test: &Test<'_>) {
        let Some(info) = condition_key(test.name()) else {
            return;
        };
        let fits = match (test.operator.base, info.kind) {
            (Base::Null | Base::Binary, _) => true,
            // Text comparison is defined for everything; it is suspect where order or form matters.
            (
                Base::String { .. } | Base::StringIgnoreCase { .. } | Base::StringLike { .. },
                kind,
            ) => {
                matches!(kind, KeyType::String | KeyType::Arn | KeyType::Boolean)
            }
            (Base::Numeric(_), kind) => kind == KeyType::Numeric || info.name == "aws:EpochTime",
            (Base::Date(_), kind) => kind == KeyType::Date,
            (Base::Bool, kind) => kind == KeyType::Boolean,
            (Base::Ip { .. }, kind) => kind == KeyType::Ip,
            (Base::Arn { .. }, kind) => kind == KeyType::Arn,
        };
        if !fits {
            self.add(
                "TYPE_MISMATCH",
                &*test.path,
                test.block.operator.span,
                format!(
                    "{} holds {}, which {} does not compare",
                    test.name(),
                    kind_name(info.kind),
                    test.block.operator.value
                ),
            );
        }
    }

    fn is_trust(&self) -> bool {
        self.kind == crate::compiled::PolicyKind::Trust
    }
}

fn kind_name(kind: KeyType) -> &'static str {
    match kind {
        KeyType::String => "text",
        KeyType::Arn => "an ARN",
        KeyType::Boolean => "true or false",
        KeyType::Numeric => "a number",
        KeyType::Date => "a date",
        KeyType::Ip => "an address",
    }
}

/// A star or question mark outside of variables and escapes.
pub(super) fn has_wildcard(text: &str) -> bool {
    crate::variable::parts(text).iter().any(
        |part| matches!(part, crate::variable::Part::Text(plain) if plain.contains(['*', '?'])),
    )
}
