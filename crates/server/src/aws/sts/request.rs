//! The parameters of AssumeRole and the constraints of the service model (STS spec, sections 1.6 and 2).

use std::borrow::Cow;
use std::collections::BTreeMap;

use countersign_arn::Tag;
use countersign_session::duration::DurationOf;
use countersign_session::tag_faults;

use crate::aws::ApiError;
use crate::aws::query::Parameters;

/// What a call to AssumeRole asks for, every member within its constraints.
#[derive(Debug, Default)]
pub(super) struct AssumeRoleRequest<'p> {
    pub(super) role_arn: &'p str,
    pub(super) session_name: &'p str,
    pub(super) policy: Option<&'p str>,
    pub(super) policy_arns: Vec<&'p str>,
    pub(super) duration_seconds: Option<i64>,
    pub(super) tags: Vec<Tag>,
    pub(super) transitive_tag_keys: Vec<&'p str>,
    pub(super) external_id: Option<&'p str>,
    pub(super) serial_number: Option<&'p str>,
    pub(super) token_code: Option<&'p str>,
    pub(super) source_identity: Option<&'p str>,
}

/// The constraints of one text member.
struct Rule {
    least: usize,
    most: usize,
    pattern: &'static str,
    allowed: fn(char) -> bool,
    /// Whether the value stays out of the message.
    secret: bool,
}

const ANY: Rule = Rule {
    least: 20,
    most: 2048,
    pattern: "",
    allowed: |_| true,
    secret: false,
};
const NAME: Rule = Rule {
    least: 2,
    most: 64,
    pattern: r"[\w+=,.@-]*",
    allowed: |c| word(c) || "+=,.@-".contains(c),
    secret: false,
};
const POLICY: Rule = Rule {
    least: 1,
    most: usize::MAX,
    pattern: r"[\u0009\u000A\u000D\u0020-\u00FF]+",
    allowed: |c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}'),
    secret: false,
};
/// Never printed: whoever reads an error message need not learn what partners agreed on.
const EXTERNAL_ID: Rule = Rule {
    least: 2,
    most: 1224,
    pattern: r"[\w+=,.@:\/-]*",
    allowed: |c| word(c) || "+=,.@:/-".contains(c),
    secret: true,
};
const SERIAL_NUMBER: Rule = Rule {
    least: 9,
    most: 256,
    pattern: r"[\w+=/:,.@-]*",
    allowed: |c| word(c) || "+=/:,.@-".contains(c),
    secret: false,
};
const TOKEN_CODE: Rule = Rule {
    least: 6,
    most: 6,
    pattern: r"[\d]*",
    allowed: |c| c.is_ascii_digit(),
    secret: true,
};

const MAX_POLICY_ARNS: usize = 10;

impl<'p> AssumeRoleRequest<'p> {
    /// Reads the parameters; everything that is wrong is told at once, in the order of the service model.
    pub(super) fn read(parameters: &'p Parameters<'_>) -> Result<Self, ApiError> {
        let mut faults = Faults::default();
        let mut request = Self {
            role_arn: faults.required("roleArn", parameters.get("RoleArn"), &ANY),
            session_name: faults.required(
                "roleSessionName",
                parameters.get("RoleSessionName"),
                &NAME,
            ),
            ..Self::default()
        };
        request.policy_arns = policy_arns(parameters, &mut faults);
        request.policy = faults.optional("policy", parameters.get("Policy"), &POLICY);
        request.duration_seconds = duration(parameters, &mut faults);
        request.tags = tags(parameters, &mut faults);
        request.transitive_tag_keys = members(parameters, "TransitiveTagKeys")
            .into_values()
            .filter_map(|member| member.get("").copied())
            .collect();
        let of_tags = tag_faults(&request.tags, &request.transitive_tag_keys);
        faults.0.extend(of_tags.iter().map(ToString::to_string));
        request.external_id =
            faults.optional("externalId", parameters.get("ExternalId"), &EXTERNAL_ID);
        request.serial_number = faults.optional(
            "serialNumber",
            parameters.get("SerialNumber"),
            &SERIAL_NUMBER,
        );
        request.token_code = faults.optional("tokenCode", parameters.get("TokenCode"), &TOKEN_CODE);
        request.source_identity =
            faults.optional("sourceIdentity", parameters.get("SourceIdentity"), &NAME);
        faults.finish()?;
        if parameters
            .iter()
            .any(|(name, _)| name.starts_with("ProvidedContexts."))
        {
            return Err(validation("Provided contexts are not supported."));
        }
        if !has_arn_shape(request.role_arn) {
            return Err(validation(format!("{} is invalid", request.role_arn)));
        }
        if let Some(arn) = request.policy_arns.iter().find(|arn| !has_arn_shape(arn)) {
            return Err(validation(format!("{arn} is invalid")));
        }
        Ok(request)
    }
}

fn validation(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "ValidationError", message)
}

/// `^arn:[^:]+:[^:]+:[^:]*:[^:]*:[^:]+$`
fn has_arn_shape(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    matches!(parts.as_slice(), ["arn", partition, service, _, _, resource]
        if !partition.is_empty() && !service.is_empty() && !resource.is_empty())
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn required<'p>(&mut self, member: &str, value: Option<&'p str>, rule: &Rule) -> &'p str {
        if value.is_none() {
            self.0.push(null(member));
        }
        self.optional(member, value, rule).unwrap_or_default()
    }

    fn optional<'p>(
        &mut self,
        member: &str,
        value: Option<&'p str>,
        rule: &Rule,
    ) -> Option<&'p str> {
        let text = value?;
        let length = text.chars().count();
        let shown = if rule.secret {
            Cow::Borrowed("Value")
        } else {
            Cow::Owned(format!("Value '{text}'"))
        };
        let mut fault = |constraint: String| {
            self.0.push(format!(
                "{shown} at '{member}' failed to satisfy constraint: Member must {constraint}"
            ));
        };
        if length > rule.most {
            fault(format!("have length less than or equal to {}", rule.most));
        }
        if length < rule.least {
            fault(format!(
                "have length greater than or equal to {}",
                rule.least
            ));
        }
        if !text.chars().all(rule.allowed) {
            fault(format!(
                "satisfy regular expression pattern: {}",
                rule.pattern
            ));
        }
        Some(text)
    }

    fn finish(self) -> Result<(), ApiError> {
        match self.0.as_slice() {
            [] => Ok(()),
            [one] => Err(validation(format!("1 validation error detected: {one}"))),
            all => Err(validation(format!(
                "{} validation errors detected: {}",
                all.len(),
                all.join("; ")
            ))),
        }
    }
}

fn null(member: &str) -> String {
    format!("Value null at '{member}' failed to satisfy constraint: Member must not be null")
}

fn word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn duration(parameters: &Parameters<'_>, faults: &mut Faults) -> Option<i64> {
    let text = parameters.get("DurationSeconds")?;
    let Ok(seconds) = text.parse::<i64>() else {
        faults.0.push(format!(
            "Value '{text}' at 'durationSeconds' failed to satisfy constraint: Member must be an integer"
        ));
        return None;
    };
    faults.0.extend(
        DurationOf::Role
            .fault(seconds)
            .map(|fault| fault.to_string()),
    );
    Some(seconds)
}

fn policy_arns<'p>(parameters: &'p Parameters<'_>, faults: &mut Faults) -> Vec<&'p str> {
    let all = members(parameters, "PolicyArns");
    if all.len() > MAX_POLICY_ARNS {
        faults.0.push(format!(
            "Value '[{} members]' at 'policyArns' failed to satisfy constraint: Member must have length less than or equal to {MAX_POLICY_ARNS}",
            all.len()
        ));
        return Vec::new();
    }
    let named = all.into_values().enumerate();
    named
        .map(|(at, member)| {
            let name = format!("policyArns.{}.member.arn", at + 1);
            faults
                .optional(&name, member.get("arn").copied(), &ANY)
                .unwrap_or_default()
        })
        .filter(|arn| !arn.is_empty())
        .collect()
}

fn tags(parameters: &Parameters<'_>, faults: &mut Faults) -> Vec<Tag> {
    let named = members(parameters, "Tags").into_values().enumerate();
    named
        .filter_map(|(at, member)| {
            let (key, value) = (member.get("Key"), member.get("Value"));
            for (name, part) in [("key", key), ("value", value)] {
                if part.is_none() {
                    faults
                        .0
                        .push(null(&format!("tags.{}.member.{name}", at + 1)));
                }
            }
            Some(Tag {
                key: (*key?).into(),
                value: (*value?).into(),
            })
        })
        .collect()
}

/// The members of a list by their numbers, which may have gaps: `NAME.member.N` is under the empty name,
/// `NAME.member.N.FIELD` under `FIELD`.
fn members<'p>(
    parameters: &'p Parameters<'_>,
    list: &str,
) -> BTreeMap<u32, BTreeMap<&'p str, &'p str>> {
    let mut found: BTreeMap<u32, BTreeMap<&str, &str>> = BTreeMap::new();
    for (name, value) in parameters.iter() {
        let Some(rest) = name
            .strip_prefix(list)
            .and_then(|rest| rest.strip_prefix(".member."))
        else {
            continue;
        };
        let (number, field) = rest.split_once('.').unwrap_or((rest, ""));
        if let Ok(number) = number.parse() {
            found.entry(number).or_default().insert(field, value);
        }
    }
    found
}
