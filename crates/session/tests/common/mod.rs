//! Keys, sessions and randomness that are the same in every run.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "used by several test files"
)]

use countersign_arn::{AccountId, Partition, Tag};
use countersign_session::{
    DeploymentId, Federation, KeyRing, NewKey, Origin, SessionKind, SessionPrincipal,
    SessionRandomness, SessionRecord,
};
use jiff::Timestamp;

pub const NOW: i64 = 1_773_480_413;
pub const KEY_ID: &str = "ASIARTX3GSDS7RSUJJ3G";

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

pub fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

pub fn deployment() -> DeploymentId {
    "d-0123456789abcdef".parse().unwrap()
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_be_bytes()[0])
    }
}

pub fn new_key(seed: u64) -> NewKey {
    NewKey::from_random(&Random(seed).bytes())
}

pub fn random(seed: u64) -> SessionRandomness {
    SessionRandomness::from_random(&Random(seed).bytes())
}

pub fn ring() -> KeyRing {
    KeyRing::bootstrap(&new_key(1), at(0)).unwrap()
}

pub fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.into(),
        value: value.into(),
    }
}

pub fn role(name: &str, session_name: &str) -> SessionPrincipal {
    SessionPrincipal::Role {
        id: "AROARTX3GSDSURLGMXGED".into(),
        path: "/".into(),
        name: name.into(),
        session_name: session_name.into(),
    }
}

pub fn user() -> SessionPrincipal {
    SessionPrincipal::User {
        id: "AIDARTX3GSDSURLGMXGED".into(),
        path: "/staff/".into(),
        name: "alice".into(),
    }
}

pub fn session(kind: SessionKind, principal: SessionPrincipal) -> SessionRecord {
    let mut record =
        SessionRecord::new(kind, Partition::Aws, account(), principal, at(0), at(3600));
    record.federation = match kind {
        SessionKind::WebIdentity => {
            Some(oidc("arn:aws:iam::111122223333:oidc-provider/id.example"))
        }
        SessionKind::Saml => Some(Federation::Saml {
            provider: "arn:aws:iam::111122223333:saml-provider/corp".into(),
            issuer: "https://idp.example/metadata".into(),
            subject: "alice@example.com".into(),
            subject_type: Some("persistent".into()),
            name_qualifier: Some("q2wgZx0kF1dKVqoa8nJyzPT5qGU=".into()),
        }),
        _ => None,
    };
    record
}

pub fn oidc(provider: &str) -> Federation {
    Federation::Oidc {
        provider: provider.into(),
        issuer: "https://id.example".into(),
        audience: "sts.amazonaws.com".into(),
        subject: "system:serviceaccount:shop:cart".into(),
        amr: Vec::new(),
    }
}

/// A role session as AssumeRole makes it with a long-term key, without extras.
pub fn role_session() -> SessionRecord {
    let mut record = session(SessionKind::AssumedRole, role("Dev", "alice"));
    record.depth = 1;
    record.origin = Origin {
        access_key_id: Some("AKIARTX3GSDSXFDOCIS2".into()),
        request_id: Some("0b7d1c52-7f7e-4c46-9f39-6d2f8c0e51aa".into()),
    };
    record
}

/// One session of every kind, with the principals that the kind may have.
pub fn every_kind() -> Vec<SessionRecord> {
    SessionKind::ALL
        .into_iter()
        .flat_map(|kind| match kind {
            SessionKind::SessionToken => vec![(kind, user()), (kind, SessionPrincipal::Root)],
            SessionKind::Federation => [None, Some("AIDARTX3GSDSURLGMXGED".into())]
                .map(|creator_id| {
                    let name = "visitor".into();
                    (kind, SessionPrincipal::FederatedUser { creator_id, name })
                })
                .into(),
            SessionKind::RootTask => vec![(kind, SessionPrincipal::Root)],
            SessionKind::Login => vec![
                (kind, user()),
                (kind, role("Dev", "alice")),
                (kind, SessionPrincipal::Root),
            ],
            SessionKind::AssumedRole
            | SessionKind::WebIdentity
            | SessionKind::Saml
            | SessionKind::PodIdentity
            | SessionKind::IdentityCenter
            | SessionKind::Instance => vec![(kind, role("Dev", "alice"))],
        })
        .map(|(kind, principal)| session(kind, principal))
        .collect()
}
