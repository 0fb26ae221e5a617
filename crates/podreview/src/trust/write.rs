//! Writing trust policies: one statement, put into what is there without touching the rest.

use std::collections::BTreeMap;

use countersign_policy::{Document, DocumentError, size_without_whitespace};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::PODS_SERVICE;
use crate::json_text::pretty;

/// Characters of a trust policy without white space that IAM takes by default; the quota can be raised to 4,096.
pub const MAX_TRUST_POLICY: usize = 2048;

const WEB_ACTION: &str = "sts:AssumeRoleWithWebIdentity";
const POD_SID: &str = "AllowEksAuthToAssumeRoleForPodIdentity";

/// What a trust policy is to let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewTrust {
    /// IAM roles for service accounts.
    Web(WebIdentityTrust),
    /// EKS Pod Identity.
    Pods(PodIdentityTrust),
}

/// Service accounts of one cluster, by its issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebIdentityTrust {
    /// ARN of the provider.
    pub provider_arn: String,
    /// The audience of the tokens.
    pub audience: String,
    /// `system:serviceaccount:NAMESPACE:NAME`; `*` and `?` make all of them patterns.
    pub subjects: Vec<String>,
}

/// The service of EKS Pod Identity, as far as it is narrowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodIdentityTrust {
    /// `aws:SourceAccount`
    pub source_account: Option<String>,
    /// `aws:SourceArn`: the cluster.
    pub source_arn: Option<String>,
    /// Session tags by name, each with one value or pattern. Sessions without tags never meet them.
    pub request_tags: BTreeMap<String, String>,
}

/// Why a trust policy cannot be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The document is no policy.
    #[error("the trust policy cannot be read: {0}")]
    Document(#[from] DocumentError),
    /// The document has another shape than policies have.
    #[error("the trust policy cannot be read: {0}")]
    Shape(#[from] serde_json::Error),
    /// IAM keeps no policy without statements.
    #[error("nothing would be left of the trust policy")]
    Empty,
}

/// A trust policy with what it is to let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The document, laid out for people.
    pub document: String,
    /// What was done to it.
    pub change: Change,
    /// Its characters without white space, which IAM counts.
    pub size: usize,
}

/// What was done to a trust policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: a statement says it already.
    Unchanged,
    /// The statement at this index got further subjects, or lost one.
    Extended(usize),
    /// A statement was added at this index.
    Added(usize),
    /// The statement that was at this index is gone.
    Removed(usize),
}

impl NewTrust {
    /// The statement, in the order in which people write its members.
    #[must_use]
    pub fn statement(&self, sid: Option<&str>) -> String {
        let mut members = Vec::new();
        let mut member =
            |name: &str, value: String| members.push(format!("{}:{value}", json!(name)));
        if let Some(sid) = sid {
            member("Sid", json!(sid).to_string());
        }
        member("Effect", json!("Allow").to_string());
        match self {
            Self::Web(web) => {
                member(
                    "Principal",
                    json!({"Federated": web.provider_arn}).to_string(),
                );
                member("Action", json!(WEB_ACTION).to_string());
                let prefix = web.prefix();
                let (aud, sub) = (format!("{prefix}:aud"), format!("{prefix}:sub"));
                let subjects = match web.subjects.as_slice() {
                    [one] => json!(one),
                    many => json!(many),
                };
                member(
                    "Condition",
                    match web.has_patterns() {
                        true => json!({"StringEquals": {aud: web.audience}, "StringLike": {sub: subjects}}),
                        false => json!({"StringEquals": {aud: web.audience, sub: subjects}}),
                    }
                    .to_string(),
                );
            }
            Self::Pods(pods) => {
                member("Principal", json!({"Service": PODS_SERVICE}).to_string());
                member(
                    "Action",
                    json!(["sts:AssumeRole", "sts:TagSession"]).to_string(),
                );
                if let Some(condition) = pods.condition() {
                    member("Condition", condition.to_string());
                }
            }
        }
        format!("{{{}}}", members.join(","))
    }

    /// A whole document with this statement alone.
    #[must_use]
    pub fn document(&self) -> String {
        let statement = self.statement(self.sid());
        pretty(&format!(
            "{{\"Version\":\"2012-10-17\",\"Statement\":[{statement}]}}"
        ))
    }

    fn sid(&self) -> Option<&'static str> {
        match self {
            Self::Web(_) => None,
            Self::Pods(_) => Some(POD_SID),
        }
    }
}

impl WebIdentityTrust {
    fn prefix(&self) -> &str {
        let provider = &self.provider_arn;
        provider
            .split_once(":oidc-provider/")
            .map_or(provider.as_str(), |(_, issuer)| issuer)
    }

    fn has_patterns(&self) -> bool {
        self.subjects
            .iter()
            .any(|subject| subject.contains(['*', '?']))
    }
}

impl PodIdentityTrust {
    fn condition(&self) -> Option<Value> {
        let mut equals = serde_json::Map::new();
        let mut like = serde_json::Map::new();
        if let Some(account) = &self.source_account {
            equals.insert("aws:SourceAccount".to_owned(), json!(account));
        }
        for (tag, value) in &self.request_tags {
            let block = match value.contains(['*', '?']) {
                true => &mut like,
                false => &mut equals,
            };
            block.insert(format!("aws:RequestTag/{tag}"), json!(value));
        }
        let mut condition = serde_json::Map::new();
        if let Some(arn) = &self.source_arn {
            condition.insert("ArnEquals".to_owned(), json!({"aws:SourceArn": arn}));
        }
        for (operator, block) in [("StringEquals", equals), ("StringLike", like)] {
            if !block.is_empty() {
                condition.insert(operator.to_owned(), Value::Object(block));
            }
        }
        (!condition.is_empty()).then_some(Value::Object(condition))
    }
}

/// A document in parts whose statements keep their text.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(rename = "Version", borrow)]
    version: Option<&'a RawValue>,
    #[serde(rename = "Id", borrow)]
    id: Option<&'a RawValue>,
    #[serde(rename = "Statement", borrow)]
    statement: &'a RawValue,
}

impl<'a> Parts<'a> {
    /// The parts of a policy that can be used, and its statements.
    fn read(text: &'a str) -> Result<(Self, Vec<&'a str>), TrustError> {
        Document::parse(text)?;
        let parts: Self = serde_json::from_str(text)?;
        let raw = parts.statement.get();
        let statements = if raw.trim_start().starts_with('[') {
            let list: Vec<&'a RawValue> = serde_json::from_str(raw)?;
            list.into_iter().map(RawValue::get).collect()
        } else {
            vec![raw]
        };
        Ok((parts, statements))
    }

    fn write(&self, statements: &[impl AsRef<str>], change: Change) -> Merged {
        let mut members = Vec::new();
        for (name, value) in [("Version", self.version), ("Id", self.id)] {
            members.extend(value.map(|value| format!("\"{name}\":{}", value.get())));
        }
        let statements: Vec<&str> = statements.iter().map(AsRef::as_ref).collect();
        members.push(format!("\"Statement\":[{}]", statements.join(",")));
        let document = pretty(&format!("{{{}}}", members.join(",")));
        Merged {
            size: size_without_whitespace(&document),
            document,
            change,
        }
    }
}

/// Puts `new` into a trust policy. Every other statement keeps its text; a statement for the same provider, audience and kind of test
/// gets the further subjects instead of a second statement beside it.
///
/// # Errors
/// When `existing` is no policy that could be used.
pub fn merge(existing: &str, new: &NewTrust) -> Result<Merged, TrustError> {
    let (parts, statements) = Parts::read(existing)?;
    let wanted: Value = serde_json::from_str(&new.statement(None))?;
    let mut sids = Vec::new();
    for (index, text) in statements.iter().enumerate() {
        let own: Value = serde_json::from_str(text)?;
        sids.extend(own.get("Sid").and_then(Value::as_str).map(str::to_owned));
        if normal(&own) == normal(&wanted) {
            return Ok(parts.write(&statements, Change::Unchanged));
        }
        let NewTrust::Web(web) = new else { continue };
        let Some(subjects) = subjects_beside(&own, &wanted, web) else {
            continue;
        };
        let mut all = subjects.clone();
        all.extend(
            web.subjects
                .iter()
                .filter(|subject| !subjects.contains(subject))
                .cloned(),
        );
        if all.len() == subjects.len() {
            return Ok(parts.write(&statements, Change::Unchanged));
        }
        let extended = NewTrust::Web(WebIdentityTrust {
            subjects: all,
            ..web.clone()
        });
        let sid = own.get("Sid").and_then(Value::as_str);
        let written = extended.statement(sid);
        return Ok(parts.write(
            &replaced(&statements, index, &written),
            Change::Extended(index),
        ));
    }
    let sid = new.sid().map(|sid| free_sid(sid, &sids));
    let written = new.statement(sid.as_deref());
    let mut all: Vec<&str> = statements.clone();
    all.push(&written);
    Ok(parts.write(&all, Change::Added(statements.len())))
}

/// Takes one subject of a provider out of a trust policy: out of the list where others are beside it, else the whole statement.
///
/// # Errors
/// When `existing` is no policy, or this is its only statement.
pub fn without_subject(
    existing: &str,
    provider_arn: &str,
    subject: &str,
) -> Result<Merged, TrustError> {
    let (parts, statements) = Parts::read(existing)?;
    for (index, text) in statements.iter().enumerate() {
        let own: Value = serde_json::from_str(text)?;
        let Some((audience, subjects)) = web_statement(&own, provider_arn) else {
            continue;
        };
        if !subjects.iter().any(|own| own == subject) {
            continue;
        }
        let rest: Vec<String> = subjects.into_iter().filter(|own| own != subject).collect();
        if rest.is_empty() {
            if statements.len() == 1 {
                return Err(TrustError::Empty);
            }
            let mut left = statements.clone();
            left.remove(index);
            return Ok(parts.write(&left, Change::Removed(index)));
        }
        let smaller = NewTrust::Web(WebIdentityTrust {
            provider_arn: provider_arn.to_owned(),
            audience,
            subjects: rest,
        });
        let written = smaller.statement(own.get("Sid").and_then(Value::as_str));
        return Ok(parts.write(
            &replaced(&statements, index, &written),
            Change::Extended(index),
        ));
    }
    Ok(parts.write(&statements, Change::Unchanged))
}

fn replaced<'a>(statements: &[&'a str], index: usize, with: &'a str) -> Vec<&'a str> {
    let all = statements.iter().enumerate();
    all.map(|(at, text)| if at == index { with } else { text })
        .collect()
}

/// The subjects of a statement that differs from `wanted` in nothing else.
fn subjects_beside(own: &Value, wanted: &Value, web: &WebIdentityTrust) -> Option<Vec<String>> {
    let operator = match web.has_patterns() {
        true => "StringLike",
        false => "StringEquals",
    };
    let key = format!("{}:sub", web.prefix());
    let take = |statement: &Value| {
        let mut statement = statement.clone();
        let block = statement.get_mut("Condition")?.get_mut(operator)?;
        let subjects = texts(&block.as_object_mut()?.remove(&key)?)?;
        Some((normal(&statement), subjects))
    };
    let (own, subjects) = take(own)?;
    let (wanted, _) = take(wanted)?;
    (own == wanted).then_some(subjects)
}

/// Audience and subjects of a statement that [`NewTrust::statement`] could have written for this provider.
fn web_statement(own: &Value, provider_arn: &str) -> Option<(String, Vec<String>)> {
    let prefix = provider_arn.split_once(":oidc-provider/")?.1;
    let condition = own.get("Condition")?;
    let block = |operator: &str, claim: &str| {
        texts(condition.get(operator)?.get(format!("{prefix}:{claim}"))?)
    };
    let audience = block("StringEquals", "aud")?;
    let subjects = block("StringEquals", "sub").or_else(|| block("StringLike", "sub"))?;
    let [audience] = audience.as_slice() else {
        return None;
    };
    let written = NewTrust::Web(WebIdentityTrust {
        provider_arn: provider_arn.to_owned(),
        audience: audience.clone(),
        subjects: subjects.clone(),
    });
    let written: Value = serde_json::from_str(&written.statement(None)).ok()?;
    (normal(own) == normal(&written)).then(|| (audience.clone(), subjects))
}

/// A statement without its id, lists of one as that one, lists in order: equal for statements that mean the same.
fn normal(statement: &Value) -> Value {
    match statement {
        Value::Object(object) => {
            let members = object.iter().filter(|(name, _)| *name != "Sid");
            Value::Object(
                members
                    .map(|(name, value)| (name.clone(), normal(value)))
                    .collect(),
            )
        }
        Value::Array(items) => match items.as_slice() {
            [one] => normal(one),
            many => {
                let mut texts: Vec<String> =
                    many.iter().map(|item| normal(item).to_string()).collect();
                texts.sort();
                texts.dedup();
                json!(texts)
            }
        },
        other => other.clone(),
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// Ids are unique in a document.
fn free_sid(sid: &str, taken: &[String]) -> String {
    let is_free = |candidate: &str| !taken.iter().any(|own| own == candidate);
    if is_free(sid) {
        return sid.to_owned();
    }
    let numbered = (2..=taken.len() + 2).map(|number| format!("{sid}{number}"));
    numbered
        .into_iter()
        .find(|candidate| is_free(candidate))
        .unwrap_or_else(|| sid.to_owned())
}
