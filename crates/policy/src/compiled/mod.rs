//! Policies, compiled once and shared.
//!
//! A document becomes two indexes, one over its Deny and one over its Allow statements. A lookup by service yields the statements that
//! name the service, with their action names sorted by hash; only those are looked at, plus the few that name all services.
//! Deciding allocates nothing and costs O(statements that name the service).

mod action;
mod index;
mod principal;

pub(crate) use action::ActionPattern;
pub(crate) use index::Index;
pub use principal::Grant;
pub(crate) use principal::{PrincipalMatch, PrincipalSet};

use std::sync::Arc;

use serde::Serialize;

use crate::arn_pattern::{ResourcePattern, ShortArns};
use crate::condition::Condition;
use crate::context::Context;
use crate::document::{
    Document, DocumentError, Effect, ListElement, PrincipalIds, Statement, Version,
};
use crate::request::Request;

/// What a policy is for. It decides which elements are expected and how a few of them are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyKind {
    /// Attached to a user, group or role, inline or managed.
    Identity,
    /// A managed policy used as a limit.
    Boundary,
    /// Passed when a session is made.
    Session,
    /// Who may assume a role.
    Trust,
    /// Attached to a resource of another service.
    Resource,
    /// Of a VPC endpoint or listener.
    Endpoint,
    /// Service control policy.
    Scp,
    /// Resource control policy.
    Rcp,
}

impl PolicyKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Identity,
        Self::Boundary,
        Self::Session,
        Self::Trust,
        Self::Resource,
        Self::Endpoint,
        Self::Scp,
        Self::Rcp,
    ];

    /// The name used in files and flags.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Boundary => "boundary",
            Self::Session => "session",
            Self::Trust => "trust",
            Self::Resource => "resource",
            Self::Endpoint => "endpoint",
            Self::Scp => "scp",
            Self::Rcp => "rcp",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether statements name who they are for.
    pub(crate) fn has_principal(self) -> bool {
        matches!(self, Self::Trust | Self::Resource | Self::Endpoint)
    }

    fn short_arns(self) -> ShortArns {
        match self {
            Self::Identity | Self::Boundary | Self::Session => ShortArns::Padded,
            Self::Trust | Self::Resource | Self::Endpoint => ShortArns::PaddedWithStar,
            Self::Scp => ShortArns::PaddedWithFinalStar,
            Self::Rcp => ShortArns::Refused,
        }
    }
}

/// A document and its compiled form. Identity, boundary and session policies compile alike, so one managed policy can serve as each.
#[derive(Debug)]
pub struct Policy {
    document: Document,
    kind: PolicyKind,
    statements: Box<[CompiledStatement]>,
    denies: Index,
    allows: Index,
}

/// One statement, ready to be matched.
#[derive(Debug)]
pub(crate) struct CompiledStatement {
    pub(crate) effect: Effect,
    pub(crate) principal: PrincipalSet,
    pub(crate) resources: ResourceSet,
    pub(crate) conditions: Box<[Condition]>,
}

/// The resources of a statement.
#[derive(Debug)]
pub(crate) enum ResourceSet {
    /// No element, in a policy that hangs on its resource; or a malformed Deny.
    Always,
    /// No element where one is required.
    Never,
    In(Box<[ResourcePattern]>),
    NotIn(Box<[ResourcePattern]>),
}

impl Policy {
    /// Compiles a document.
    #[must_use]
    pub fn compile(document: Document, kind: PolicyKind) -> Self {
        Self::compile_with_ids(document, kind, &PrincipalIds::default())
    }

    /// Compiles a stored document whose user and role principals are known by unique id (policy language spec, section 1.6): a bound
    /// entry matches the entity with that id and no other of the same name.
    #[must_use]
    pub fn compile_with_ids(document: Document, kind: PolicyKind, ids: &PrincipalIds) -> Self {
        let statements: Box<[CompiledStatement]> = document
            .statements()
            .iter()
            .enumerate()
            .map(|(index, statement)| compile_statement(statement, index, &document, kind, ids))
            .collect();
        let index = |effect| {
            Index::build(
                document
                    .statements()
                    .iter()
                    .enumerate()
                    .filter(|(_, statement)| statement.effect == effect),
            )
        };
        let denies = index(Effect::Deny);
        let allows = index(Effect::Allow);
        Self {
            document,
            kind,
            statements,
            denies,
            allows,
        }
    }

    /// Reads and compiles a text.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn parse(text: impl Into<Arc<str>>, kind: PolicyKind) -> Result<Self, DocumentError> {
        Document::parse(text).map(|document| Self::compile(document, kind))
    }

    /// The document this was compiled from.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// What it was compiled for.
    #[must_use]
    pub fn kind(&self) -> PolicyKind {
        self.kind
    }

    pub(crate) fn statements(&self) -> &[CompiledStatement] {
        &self.statements
    }

    /// The statements of one effect whose actions match, in the order of the index.
    pub(crate) fn with_action<'p>(
        &'p self,
        effect: Effect,
        request: &'p Request<'_>,
    ) -> impl Iterator<Item = (u32, &'p CompiledStatement)> {
        let index = match effect {
            Effect::Allow => &self.allows,
            Effect::Deny => &self.denies,
        };
        index.matching(request.action()).filter_map(|statement| {
            self.statements
                .get(statement as usize)
                .map(|compiled| (statement, compiled))
        })
    }
}

impl CompiledStatement {
    /// Whether resources and conditions match; actions and principals are looked at elsewhere.
    pub(crate) fn applies(&self, request: &Request<'_>) -> bool {
        self.resource_matches(request) && self.conditions_hold(request.context())
    }

    pub(crate) fn resource_matches(&self, request: &Request<'_>) -> bool {
        let matches = |pattern: &ResourcePattern| {
            pattern.matches(request.parsed_resource(), request.context())
        };
        match &self.resources {
            ResourceSet::Always => true,
            ResourceSet::Never => false,
            ResourceSet::In(patterns) => patterns.iter().any(matches),
            ResourceSet::NotIn(patterns) => {
                let excluded = patterns.iter().any(matches);
                // An entry with a variable that has no value could exclude anything: an Allow then does not apply, a Deny does.
                !excluded
                    && (self.effect == Effect::Deny
                        || patterns
                            .iter()
                            .all(|pattern| pattern.resolves(request.context())))
            }
        }
    }

    pub(crate) fn conditions_hold(&self, context: &Context<'_>) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.holds(context))
    }
}

fn compile_statement(
    statement: &Statement,
    index: usize,
    document: &Document,
    kind: PolicyKind,
    ids: &PrincipalIds,
) -> CompiledStatement {
    let mut conditions: Vec<Condition> = statement
        .conditions
        .iter()
        .zip(0u32..)
        .flat_map(|(block, block_index)| {
            block.keys.iter().zip(0u32..).map(move |(key, key_index)| {
                Condition::compile(
                    &block.operator.value,
                    key,
                    document.version(),
                    (block_index, key_index),
                )
            })
        })
        .collect();
    conditions.sort_by_key(|condition| {
        condition
            .operator
            .map_or(0, |operator| operator.base.cost())
    });
    CompiledStatement {
        effect: statement.effect,
        principal: PrincipalSet::compile(statement, index, kind, ids),
        resources: compile_resources(statement, document.version(), kind),
        conditions: conditions.into(),
    }
}

fn compile_resources(statement: &Statement, version: Version, kind: PolicyKind) -> ResourceSet {
    match &statement.resource {
        None if kind.has_principal() || statement.effect == Effect::Deny => ResourceSet::Always,
        None => ResourceSet::Never,
        Some(element) => {
            let patterns = resource_patterns(element, version, kind);
            if element.negated {
                ResourceSet::NotIn(patterns)
            } else {
                ResourceSet::In(patterns)
            }
        }
    }
}

pub(crate) fn resource_patterns(
    element: &ListElement,
    version: Version,
    kind: PolicyKind,
) -> Box<[ResourcePattern]> {
    element
        .entries
        .iter()
        .map(|entry| {
            ResourcePattern::compile(&entry.value, version == Version::V2012, kind.short_arns())
        })
        .collect()
}
