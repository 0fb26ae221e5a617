//! Whether a role trusts EKS Pod Identity, and what its sessions carry (EKS API spec, sections 10.2 and 10.3; pod identity
//! spec, section 6). Functions of their arguments: creating an association and handing out credentials ask the same.

use std::borrow::Cow;

use countersign_arn::Tag;
use countersign_policy::{
    Action, AssumeRole, Attached, Context, Document, Layers, Outcome, Policy, PolicyKind,
    Principal, Request, decide_assume_role,
};
use countersign_session::{PodSessions, PodTag};
use countersign_store::RoleEntry;
use countersign_store::records::Cluster;
use jiff::Timestamp;

use crate::aws::conditions::instant;

/// Who assumes the roles of associations.
pub(in crate::aws) const SERVICE: &str = "pods.eks.amazonaws.com";
/// The action on a role; session tags need `sts:TagSession` besides.
const ASSUME_ROLE: &str = "sts:AssumeRole";

/// The pod that a session is for.
#[derive(Debug, Clone, Copy)]
pub(in crate::aws) struct PodSubject<'a> {
    pub(in crate::aws) cluster: &'a Cluster,
    pub(in crate::aws) namespace: &'a str,
    pub(in crate::aws) service_account: &'a str,
    pub(in crate::aws) pod_name: &'a str,
    pub(in crate::aws) pod_uid: &'a str,
}

impl PodSubject<'_> {
    /// Those of the six tags that its session has, all of them transitive.
    pub(in crate::aws) fn session_tags(&self, sessions: &PodSessions) -> Vec<Tag> {
        PodTag::ALL
            .into_iter()
            .filter(|tag| sessions.has(*tag))
            .map(|tag| Tag {
                key: tag.key().into(),
                value: match tag {
                    PodTag::ClusterArn => self.cluster.arn().into(),
                    PodTag::ClusterName => self.cluster.name.clone(),
                    PodTag::Namespace => self.namespace.into(),
                    PodTag::ServiceAccount => self.service_account.into(),
                    PodTag::PodName => self.pod_name.into(),
                    PodTag::PodUid => self.pod_uid.into(),
                },
            })
            .collect()
    }
}

/// What the service brings to the trust policy of a role: for whom it acts, and the tags of the session.
#[derive(Debug, Clone, Copy)]
pub(in crate::aws) struct PodTrust<'a> {
    /// `aws:SourceArn` and `aws:SourceAccount`
    pub(in crate::aws) cluster: &'a Cluster,
    /// The organization of the cluster's account.
    pub(in crate::aws) organization: Option<&'a str>,
    /// The session's tags, empty when they are disabled.
    pub(in crate::aws) tags: &'a [Tag],
    /// The session's name, when it is known.
    pub(in crate::aws) session_name: Option<&'a str>,
    /// When the service asks.
    pub(in crate::aws) now: Timestamp,
    /// The role, whose organization is that of the cluster: they have one account.
    pub(in crate::aws) role: &'a RoleEntry,
}

/// The action that a trust policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::aws) struct NotTrusted {
    pub(in crate::aws) action: Box<str>,
    pub(in crate::aws) outcome: Outcome,
}

impl PodTrust<'_> {
    /// Decides by the trust policy whether the service may assume the role, and tag the session when it has tags.
    /// There are no keys of an address or a client: it is the service that calls.
    pub(in crate::aws) fn decide(&self, trust: &[Attached]) -> Result<(), NotTrusted> {
        ask(&self.role.arn, trust, &self.keys(), !self.tags.is_empty())
    }

    /// Whether no session that [`decide`](Self::decide) will be asked for can be allowed, whatever the values of the tags
    /// `open`: the conditions of the trust policy cannot hold for this association.
    pub(in crate::aws) fn is_hopeless(&self, document: &Document, open: &[&str]) -> bool {
        let is_open = |key: &str| {
            key.strip_prefix("aws:requesttag/")
                .is_some_and(|tag| open.iter().any(|open| open.eq_ignore_ascii_case(tag)))
        };
        let is_known = |key: &str| match key {
            "aws:sourcearn"
            | "aws:sourceaccount"
            | "aws:sourceorgid"
            | "aws:tagkeys"
            | "aws:resourceaccount"
            | "aws:resourceorgid"
            | "sts:transitivetagkeys"
            | "sts:externalid"
            | "sts:sourceidentity" => true,
            key if is_open(key) => false,
            key => [
                "aws:requesttag/",
                "aws:resourcetag/",
                "iam:resourcetag/",
                "aws:principal",
            ]
            .iter()
            .any(|prefix| key.starts_with(prefix)),
        };
        self.decide(&compiled(document.at_most(is_known))).is_err()
    }

    fn keys(&self) -> Context<'_> {
        let mut keys = service_keys();
        keys.set("aws:RequestedRegion", &*self.cluster.region);
        keys.set("aws:CurrentTime", instant(self.now));
        keys.set("aws:EpochTime", self.now.as_second().to_string());
        let account = self.cluster.account.as_str();
        keys.set("aws:SourceArn", self.cluster.arn());
        keys.set("aws:SourceAccount", account);
        keys.set("aws:ResourceAccount", account);
        if let Some(organization) = self.organization {
            keys.set("aws:SourceOrgID", organization);
            keys.set("aws:ResourceOrgID", organization);
        }
        if let Some(name) = self.session_name {
            keys.set("sts:RoleSessionName", name);
        }
        for tag in &self.role.record.tags {
            keys.set_tag("aws:ResourceTag/", &tag.key, &*tag.value);
            keys.set_tag("iam:ResourceTag/", &tag.key, &*tag.value);
        }
        if !self.tags.is_empty() {
            let named = || self.tags.iter().map(|tag| Cow::Borrowed(&*tag.key));
            keys.set_list("aws:TagKeys", named());
            keys.set_list("sts:TransitiveTagKeys", named());
            for tag in self.tags {
                keys.set_tag("aws:RequestTag/", &tag.key, &*tag.value);
            }
        }
        keys
    }
}

/// Whether a trust policy lets the service assume the role and tag its sessions under any conditions at all.
///
/// EKS asks for both when an association is made, also of one without session tags. Whether the conditions hold is decided
/// when credentials are asked for: they may test the pod, and a trust policy that is narrowed to other namespaces is no fault
/// of its own.
///
/// # Errors
/// The action that it does not allow.
pub(in crate::aws) fn may_trust(document: &Document, role_arn: &str) -> Result<(), NotTrusted> {
    let trust = compiled(document.at_most(|_| false));
    ask(role_arn, &trust, &service_keys(), true)
}

/// The keys of every call by the service.
fn service_keys<'a>() -> Context<'a> {
    let mut keys = Context::new();
    keys.set("aws:PrincipalType", "Service");
    keys.set("aws:PrincipalIsAWSService", "true");
    keys.set("aws:PrincipalServiceName", SERVICE);
    keys.set_list("aws:PrincipalServiceNamesList", [SERVICE]);
    keys.set("aws:SecureTransport", "true");
    keys.set("aws:ViaAWSService", "false");
    keys
}

fn compiled(document: Document) -> [Attached; 1] {
    let policy = Policy::compile(document, PolicyKind::Trust);
    [Attached::new(policy.into(), "trust")]
}

fn ask(
    role_arn: &str,
    trust: &[Attached],
    keys: &Context<'_>,
    tags: bool,
) -> Result<(), NotTrusted> {
    let unasked = || NotTrusted {
        action: ASSUME_ROLE.into(),
        outcome: Outcome::ImplicitDeny,
    };
    let principal = Principal::service(SERVICE);
    let action = Action::parse(ASSUME_ROLE).map_err(|_| unasked())?;
    let request = Request::new(&principal, &action, role_arn, keys).map_err(|_| unasked())?;
    let asks = AssumeRole {
        tags,
        ..AssumeRole::default()
    };
    let layers = Layers {
        resource: Some(trust),
        ..Layers::default()
    };
    decide_assume_role(&request, asks, &layers)
        .map(|_| ())
        .map_err(|denied| NotTrusted {
            action: denied.action.as_str().into(),
            outcome: denied.decision.outcome,
        })
}
