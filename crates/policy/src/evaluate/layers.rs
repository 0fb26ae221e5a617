//! The policies that bear on a request, layer by layer (policy language spec, section 8.1).

use std::sync::Arc;

use serde::Serialize;

use crate::compiled::Policy;

/// Where a policy comes from. The order is the one in which an explicit deny is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Resource control policies of the organization of the resource's account.
    Rcp,
    /// Service control policies of the organization of the principal's account.
    Scp,
    /// On the resource; the trust policy of a role.
    Resource,
    /// Of the user with its groups, or of the role.
    Identity,
    /// The permissions boundary of the user or role.
    Boundary,
    /// Passed when the session was made.
    Session,
    /// Of the endpoint that the request came through.
    Endpoint,
}

impl Layer {
    /// All layers, in the order in which an explicit deny is named.
    pub const ALL: [Self; 7] = [
        Self::Rcp,
        Self::Scp,
        Self::Resource,
        Self::Identity,
        Self::Boundary,
        Self::Session,
        Self::Endpoint,
    ];

    /// The name in files and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rcp => "rcp",
            Self::Scp => "scp",
            Self::Resource => "resource",
            Self::Identity => "identity",
            Self::Boundary => "boundary",
            Self::Session => "session",
            Self::Endpoint => "endpoint",
        }
    }
}

/// A small set of layers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct LayerSet(u8);

impl LayerSet {
    /// No layer.
    pub const EMPTY: Self = Self(0);

    /// Adds a layer.
    pub fn insert(&mut self, layer: Layer) {
        self.0 |= 1 << layer as u8;
    }

    /// Whether the layer is in the set.
    #[must_use]
    pub fn contains(self, layer: Layer) -> bool {
        self.0 & (1 << layer as u8) != 0
    }

    /// Whether there is no layer in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The layers, in order.
    pub fn iter(self) -> impl Iterator<Item = Layer> {
        Layer::ALL
            .into_iter()
            .filter(move |layer| self.contains(*layer))
    }
}

impl std::fmt::Debug for LayerSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<Layer> for LayerSet {
    fn from_iter<I: IntoIterator<Item = Layer>>(layers: I) -> Self {
        let mut set = Self::EMPTY;
        for layer in layers {
            set.insert(layer);
        }
        set
    }
}

/// A compiled policy and how it came to apply.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The policy, shared by everything it is attached to.
    pub policy: Arc<Policy>,
    /// What explanations call it.
    pub source: Source,
}

/// What explanations and the simulator API call a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Its id: `PolicyInputList.1`, `user_ana_inline`, or a managed policy's name.
    pub id: Box<str>,
    /// The simulator's `SourcePolicyType`: `user`, `group`, `role`, `aws-managed`, `user-managed`, `resource`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Box<str>>,
    /// The ARN of a managed policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<Box<str>>,
    /// The group or organizational unit that it is attached to, when it is not the principal itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_via: Option<Box<str>>,
}

impl Source {
    /// A source that has just an id.
    #[must_use]
    pub fn named(id: impl Into<Box<str>>) -> Self {
        Self {
            id: id.into(),
            ..Self::default()
        }
    }
}

impl Attached {
    /// A policy under an id.
    #[must_use]
    pub fn new(policy: Arc<Policy>, id: impl Into<Box<str>>) -> Self {
        Self {
            policy,
            source: Source::named(id),
        }
    }
}

/// The policies of one level of an organization: the root, a unit, or the account. Every level must allow.
#[derive(Debug, Clone)]
pub struct Level {
    /// `r-root`, `ou-...`, or the account.
    pub target: Box<str>,
    /// What is attached there; a level of SCPs without policies allows nothing.
    pub policies: Vec<Attached>,
}

/// All layers of one decision, borrowed: the principal's from its snapshot entry, the resource's from its own.
///
/// `None` means that there is no such layer, which is not the same as a layer that allows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layers<'p> {
    /// Identity policies.
    pub identity: &'p [Attached],
    /// The permissions boundary.
    pub boundary: Option<&'p Attached>,
    /// Session policies, inline and by ARN.
    pub session: Option<&'p [Attached]>,
    /// Levels of SCPs; empty when the account is in no organization.
    pub scp: &'p [Level],
    /// Levels of RCPs; each contains the full-access policy whether it is listed or not.
    pub rcp: &'p [Level],
    /// Endpoint policies.
    pub endpoint: Option<&'p [Attached]>,
    /// Policies on the resource.
    pub resource: Option<&'p [Attached]>,
}

/// The same, owned.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    /// Identity policies.
    pub identity: Vec<Attached>,
    /// The permissions boundary.
    pub boundary: Option<Attached>,
    /// Session policies.
    pub session: Option<Vec<Attached>>,
    /// Levels of SCPs.
    pub scp: Vec<Level>,
    /// Levels of RCPs.
    pub rcp: Vec<Level>,
    /// Endpoint policies.
    pub endpoint: Option<Vec<Attached>>,
    /// Policies on the resource.
    pub resource: Option<Vec<Attached>>,
}

impl PolicySet {
    /// The layers of this set.
    #[must_use]
    pub fn layers(&self) -> Layers<'_> {
        Layers {
            identity: &self.identity,
            boundary: self.boundary.as_ref(),
            session: self.session.as_deref(),
            scp: &self.scp,
            rcp: &self.rcp,
            endpoint: self.endpoint.as_deref(),
            resource: self.resource.as_deref(),
        }
    }
}

/// One group of documents that is a union: a layer, or one level of an organization.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'p> {
    pub(crate) layer: Layer,
    pub(crate) level: Option<(u16, &'p str)>,
    pub(crate) policies: &'p [Attached],
}

impl<'p> Layers<'p> {
    /// Every group of documents, in the order in which an explicit deny is named.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Group<'p>> {
        let single = |layer: Layer, policies: Option<&'p [Attached]>| {
            policies.map(|policies| Group {
                layer,
                level: None,
                policies,
            })
        };
        levels(Layer::Rcp, self.rcp)
            .chain(levels(Layer::Scp, self.scp))
            .chain(single(Layer::Resource, self.resource))
            .chain(single(Layer::Identity, Some(self.identity)))
            .chain(single(
                Layer::Boundary,
                self.boundary.map(std::slice::from_ref),
            ))
            .chain(single(Layer::Session, self.session))
            .chain(single(Layer::Endpoint, self.endpoint))
    }
}

pub(crate) fn levels(layer: Layer, levels: &[Level]) -> impl Iterator<Item = Group<'_>> {
    levels.iter().zip(0u16..).map(move |(level, index)| Group {
        layer,
        level: Some((index, &*level.target)),
        policies: &level.policies,
    })
}

/// Names one statement: layer, level, document and statement, all counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatementAt {
    /// The layer.
    pub layer: Layer,
    /// The level inside `scp` or `rcp`.
    pub level: u16,
    /// The document inside the layer or level.
    pub document: u16,
    /// The statement inside the document.
    pub statement: u32,
}

impl StatementAt {
    /// The attached policy that holds the statement.
    #[must_use]
    pub fn policy<'p>(&self, layers: &Layers<'p>) -> Option<&'p Attached> {
        layers
            .groups()
            .find(|group| {
                group.layer == self.layer && group.level.map_or(0, |(level, _)| level) == self.level
            })
            .and_then(|group| group.policies.get(usize::from(self.document)))
    }
}
