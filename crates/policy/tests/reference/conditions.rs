//! Conditions, one by one.

use serde_json::Value;

use super::{Ask, Symbol, glob_marked, key_value, list, mark, substitute};

pub fn hold(ask: &Ask, statement: &Value, variables: bool) -> bool {
    let Some(Value::Object(blocks)) = statement.get("Condition") else {
        return true;
    };
    blocks.iter().all(|(operator, keys)| {
        keys.as_object().is_none_or(|keys| {
            keys.iter()
                .all(|(key, values)| holds(ask, operator, key, &list(values), variables))
        })
    })
}

fn holds(ask: &Ask, operator: &str, key: &str, wanted: &[String], variables: bool) -> bool {
    let (all, any) = (
        operator.starts_with("ForAllValues:"),
        operator.starts_with("ForAnyValue:"),
    );
    let base = operator
        .trim_start_matches("ForAllValues:")
        .trim_start_matches("ForAnyValue:");
    let if_exists = base.ends_with("IfExists");
    let base = base.trim_end_matches("IfExists");
    if !KNOWN.contains(&base) || (base == "Null" && if_exists) {
        return false;
    }
    let value = key_value(ask, key);
    let have: Option<Vec<String>> = value.map(list);
    let is_list = matches!(value, Some(Value::Array(_)));
    if base == "Null" {
        let missing = have
            .as_ref()
            .is_none_or(|values| is_list && values.is_empty());
        return if all {
            true
        } else if any {
            false
        } else {
            wanted
                .iter()
                .any(|w| w.to_lowercase() == missing.to_string())
        };
    }
    let negated = base.contains("Not");
    let Some(have) = have else {
        return all || if_exists || (negated && !any);
    };
    if wanted.is_empty() {
        // No values: sets and IfExists can be satisfied by absence only; a plain negated operator excludes nothing.
        // What cannot be compared satisfies no operator of its type.
        let comparable = have.iter().all(|value| match base {
            "NumericNotEquals" => value.parse::<f64>().is_ok(),
            "NotIpAddress" => value.parse::<std::net::IpAddr>().is_ok(),
            "ArnNotLike" => six(value).is_some_and(|parts| parts[0] == "arn"),
            _ => true,
        });
        return if all {
            have.is_empty()
        } else if any || if_exists {
            false
        } else {
            negated && !is_list && comparable
        };
    }
    let one = |value: &String| compare(ask, base, value, wanted, variables);
    if all {
        have.iter().all(one)
    } else if any {
        have.iter().any(one)
    } else {
        !is_list && have.iter().all(one)
    }
}

const KNOWN: [&str; 16] = [
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
    "NumericEquals",
    "NumericNotEquals",
    "NumericLessThan",
    "NumericGreaterThanEquals",
    "Bool",
    "IpAddress",
    "NotIpAddress",
    "ArnLike",
    "ArnNotLike",
    "Null",
];

fn compare(ask: &Ask, base: &str, value: &str, wanted: &[String], variables: bool) -> bool {
    let negated = base.contains("Not");
    let number = |text: &str| {
        text.parse::<f64>().ok().filter(|_| {
            text.bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'))
        })
    };
    let verdict = |wanted: &String| -> bool {
        match base {
            "StringEquals"
            | "StringNotEquals"
            | "StringEqualsIgnoreCase"
            | "StringNotEqualsIgnoreCase"
            | "StringLike"
            | "StringNotLike" => {
                let symbols = if variables {
                    substitute(ask, wanted)
                } else {
                    Some(mark(wanted))
                };
                let Some(symbols) = symbols else {
                    return negated;
                };
                let like = base.ends_with("Like");
                let fold = base.ends_with("IgnoreCase");
                let literal: Vec<Symbol> = symbols
                    .iter()
                    .map(|s| match s {
                        Symbol::Star if !like => Symbol::Char('*'),
                        Symbol::One if !like => Symbol::Char('?'),
                        Symbol::Char(c) if fold => Symbol::Char(c.to_ascii_lowercase()),
                        other => *other,
                    })
                    .collect();
                let value = if fold {
                    value.to_ascii_lowercase()
                } else {
                    value.to_owned()
                };
                glob_marked(&literal, &value) != negated
            }
            "Bool" => {
                ["true", "false"].contains(&&*value.to_lowercase())
                    && value.to_lowercase() == wanted.to_lowercase()
            }
            "IpAddress" | "NotIpAddress" => {
                let inside = inside(wanted, value);
                inside.is_some_and(|inside| inside != negated)
            }
            "ArnLike" | "ArnNotLike" => {
                let (Some(pattern), Some(own)) =
                    (six(wanted), six(value).filter(|p| p[0] == "arn"))
                else {
                    return false;
                };
                let hit = pattern.iter().zip(&own).all(|(p, o)| {
                    let symbols = if variables {
                        substitute(ask, p)
                    } else {
                        Some(mark(p))
                    };
                    symbols.is_some_and(|symbols| glob_marked(&symbols, o))
                });
                hit != negated
            }
            _ => {
                let (Some(own), Some(wanted)) = (number(value), number(wanted)) else {
                    return false;
                };
                match base {
                    "NumericEquals" => own == wanted,
                    "NumericNotEquals" => own != wanted,
                    "NumericLessThan" => own < wanted,
                    _ => own >= wanted,
                }
            }
        }
    };
    if negated {
        wanted.iter().all(verdict)
    } else {
        wanted.iter().any(verdict)
    }
}

fn six(text: &str) -> Option<Vec<String>> {
    let parts: Vec<String> = text.splitn(6, ':').map(str::to_owned).collect();
    (parts.len() == 6).then_some(parts)
}

/// IPv4 only; `None` when either side cannot be read.
fn inside(network: &str, address: &str) -> Option<bool> {
    let (base, bits) = network.split_once('/').unwrap_or((network, "32"));
    let base: std::net::Ipv4Addr = base.parse().ok()?;
    let own: std::net::Ipv4Addr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    let mask = if bits == 0 {
        0
    } else {
        u32::MAX << (32 - bits)
    };
    Some(u32::from(base) & mask == u32::from(own) & mask)
}
