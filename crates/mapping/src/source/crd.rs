//! `IAMIdentityMapping` objects (authentication spec, section 3.7, backend CRD).
//!
//! Keys are derived from `spec` alone. The object's status is written for people and never read: otherwise whoever may
//! update statuses could redirect a mapping.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::BackendKind;
use crate::decode::{Context, Decoder};
use crate::entry::{Entries, Matcher, RuleReference};
use crate::finding::{Code, Finding, Findings, Section, note, shown};
use crate::options::MappingOptions;
use crate::tree::{Content, Form, Id, Tree};

/// One object, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.creationTimestamp`, in seconds since the epoch.
    pub created_at: i64,
    /// `spec`.
    pub spec: Spec,
}

/// The `spec` of an `IAMIdentityMapping`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The principal; required unless `sso` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The username template; required.
    pub username: String,
    /// The group templates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// A permission set instead of an ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sso: Option<SsoSpec>,
}

/// A permission set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SsoSpec {
    /// Its name.
    pub permission_set_name: String,
    /// The account.
    #[serde(rename = "accountID")]
    pub account_id: String,
    /// The partition; the server's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
}

/// What to write into an object's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The object's name.
    pub name: String,
    /// The ARN that callers are compared with.
    #[serde(rename = "canonicalARN", skip_serializing_if = "Option::is_none")]
    pub canonical_arn: Option<String>,
    /// Whether the mapping is in force.
    pub ready: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The older object that maps the same principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts_with: Option<String>,
}

/// What came out of a set of objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// The entries in force.
    pub entries: Entries,
    /// One status for each object, in the order in which objects take precedence.
    pub statuses: Vec<Status>,
    /// What was noticed.
    pub findings: Vec<Finding>,
}

/// Reads a set of objects. Among several with the same principal the oldest is in force, then the first by name.
#[must_use]
pub fn read(objects: &[Object], options: &MappingOptions) -> Objects {
    let context = Context {
        backend: BackendKind::Crd,
        options,
    };
    let mut ordered: Vec<&Object> = objects.iter().collect();
    ordered.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
    let mut findings = Findings::default();
    let mut out = Objects {
        entries: Entries::default(),
        statuses: Vec::with_capacity(ordered.len()),
        findings: Vec::new(),
    };
    let mut taken: HashMap<String, &str> = HashMap::new();
    for (index, object) in (0u32..).zip(ordered) {
        let mut tree = Tree::default();
        let mut own = Findings::default();
        let rule = RuleReference {
            backend: BackendKind::Crd,
            section: Section::Objects,
            index,
            position: None,
            object: Some(Arc::from(object.name.as_str())),
        };
        let entry = match spec(&mut tree, &object.spec) {
            Some(id) => Decoder::new(&tree, context, &mut own)
                .entry(rule.clone(), id)
                .ok(),
            None => None,
        };
        let mut status = Status {
            name: object.name.clone(),
            canonical_arn: None,
            ready: false,
            error: None,
            conflicts_with: None,
        };
        let key = entry.as_ref().and_then(|entry| match &entry.matcher {
            Matcher::Arn(arn) => {
                status.canonical_arn = arn.key.as_deref().map(str::to_owned);
                status.canonical_arn.clone()
            }
            Matcher::Sso(sso) => Some(format!(
                "{}/{}/{}",
                sso.partition,
                sso.account,
                sso.permission_set.to_ascii_lowercase()
            )),
            Matcher::Pattern(_) => None,
        });
        match (entry, key) {
            (Some(entry), Some(key)) => match taken.get(key.as_str()) {
                Some(older) => {
                    status.conflicts_with = Some((*older).to_owned());
                    status.error = Some(format!(
                        "the older object {} maps the same principal",
                        shown(older)
                    ));
                    own.push(Code::Conflict, &rule.place(), || {
                        note(format!(
                            "the older object {} maps the same principal and stays in force",
                            shown(older)
                        ))
                        .hint("remove one of them")
                    });
                }
                None => {
                    taken.insert(key, &object.name);
                    status.ready = true;
                    out.entries.roles.push(Arc::new(entry));
                }
            },
            _ => {
                status.error = Some(
                    own.first_error()
                        .unwrap_or("the mapping cannot match anybody")
                        .to_owned(),
                );
            }
        }
        findings.append(own, 0);
        out.statuses.push(status);
    }
    out.findings = findings.into_list();
    out
}

/// The spec as the tree that entries are read from, so that all backends share one set of rules.
fn spec<'s>(tree: &mut Tree<'s>, spec: &'s Spec) -> Option<Id> {
    let mut pairs = Vec::new();
    if let Some(arn) = &spec.arn {
        pairs.push((text(tree, "arn")?, text(tree, arn)?));
    }
    pairs.push((text(tree, "username")?, text(tree, &spec.username)?));
    let mut groups = Vec::with_capacity(spec.groups.len());
    for group in &spec.groups {
        groups.push(text(tree, group)?);
    }
    pairs.push((
        text(tree, "groups")?,
        tree.add(Content::List(groups), None)?,
    ));
    if let Some(sso) = &spec.sso {
        let mut fields = vec![
            (
                text(tree, "permissionSetName")?,
                text(tree, &sso.permission_set_name)?,
            ),
            (text(tree, "accountID")?, text(tree, &sso.account_id)?),
        ];
        if let Some(partition) = &sso.partition {
            fields.push((text(tree, "partition")?, text(tree, partition)?));
        }
        pairs.push((text(tree, "sso")?, tree.add(Content::Map(fields), None)?));
    }
    tree.add(Content::Map(pairs), None)
}

fn text<'s>(tree: &mut Tree<'s>, text: &'s str) -> Option<Id> {
    tree.add(Content::Text(text.into(), Form::Quoted), None)
}
