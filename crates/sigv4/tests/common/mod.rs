//! Vectors as data, and a store of the keys they use.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use countersign_sigv4::{
    AmzDate, Header, KeyLookup, Parsed, PathRule, Payload, Request, SecretKey, ServicePolicy,
};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Vectors {
    pub vectors: Vec<Vector>,
    pub mutations: Vec<Mutation>,
}

#[derive(Deserialize)]
pub struct Vector {
    pub name: String,
    pub service: String,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
    pub server_time: String,
    #[serde(flatten)]
    pub message: Message,
    pub canonical_request: String,
    pub string_to_sign: String,
    pub signature: String,
}

#[derive(Deserialize)]
pub struct Mutation {
    pub name: String,
    pub from: String,
    pub service: String,
    pub server_time: String,
    #[serde(flatten)]
    pub message: Message,
    pub expect_code: Option<String>,
    pub expect_message: Option<String>,
    pub expect_status: u16,
    pub rest_json_code: Option<String>,
    pub session_expires: Option<String>,
}

/// A request as data.
#[derive(Deserialize, Clone)]
pub struct Message {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Message {
    pub fn with<T>(&self, use_it: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<Header<'_>> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let mut request = Request::new(&self.method, self.target.as_bytes());
        request.headers = &headers;
        request.tls = true;
        request.body = Payload::Bytes(self.body.as_bytes());
        use_it(&request)
    }

    /// What came with a presigned token: its query, host and other headers.
    pub fn query(&self) -> &str {
        self.target.split_once('?').unwrap().1
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }
}

pub fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../data/sigv4-vectors.json")).unwrap()
}

pub fn vector(name: &str) -> Vector {
    vectors()
        .vectors
        .into_iter()
        .find(|v| v.name == name)
        .unwrap()
}

pub fn time(text: &str) -> Timestamp {
    Timestamp::from_second(AmzDate::parse(text.as_bytes()).unwrap().second()).unwrap()
}

/// The rules under which a vector holds: paths are normalised rather than refused.
pub fn policy(service: &str) -> ServicePolicy {
    let mut policy = ServicePolicy::for_service(service.to_owned());
    if policy.paths == PathRule::Plain {
        policy.paths = PathRule::Normalise;
    }
    policy
}

/// The keys of the vectors: one long-term, one temporary with its only token.
pub struct Store {
    pub long_term: (&'static str, SecretKey),
    pub temporary: (&'static str, SecretKey, &'static str),
    pub session_expires: Option<Timestamp>,
}

impl Store {
    pub fn new() -> Self {
        Self {
            long_term: (
                "AKIARTX3GSDSXFDOCIS2",
                SecretKey::new("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"),
            ),
            temporary: (
                "ASIARTX3GSDS7RSUJJ3G",
                SecretKey::new("Zq8m/R+5tVb1yNcX7uHwLk3JdGf0aPsE6oIi9QxM"),
                "CSv1.k7.c2VhbGVkLWJ5LWFlYWQ+Lz09/wAAAA==",
            ),
            session_expires: None,
        }
    }

    pub fn find(&self, key_id: &str, token: Option<&str>, now: Timestamp) -> KeyLookup<'_> {
        let temporary = key_id == self.temporary.0;
        match token {
            Some(token) if !temporary || token != self.temporary.2 => KeyLookup::TokenInvalid,
            Some(_) if self.session_expires.is_some_and(|end| end <= now) => {
                KeyLookup::TokenExpired
            }
            Some(_) => KeyLookup::Secret(&self.temporary.1),
            None if temporary => KeyLookup::TokenMissing,
            None if key_id == self.long_term.0 => KeyLookup::Secret(&self.long_term.1),
            None => KeyLookup::Unknown,
        }
    }

    pub fn lookup(&self, parsed: &Parsed<'_>, now: Timestamp) -> KeyLookup<'_> {
        self.find(parsed.key_id(), parsed.session_token(), now)
    }
}
