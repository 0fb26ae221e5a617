//! One account with two users, its AWS API, and a clock moved by hand.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use countersign_arn::{AccountId, Partition, Tag};
use countersign_server::aws::{AwsApi, KeyRing};
use countersign_server::listen::Peer;
use countersign_server::metrics::Metrics;
use countersign_sigv4::{Credentials, Payload, Request, SecretKey, Signer};
use countersign_store::conformance::TestStore;
use countersign_store::records::{InlinePolicy, TrustPolicy};
use countersign_store::{Directory, NewAccount, NewRole, NewUser, Quotas, Random, RootKey, Sealer};
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};

pub(crate) const ENDPOINT: &str = "https://sts.cs.example:8443/";
pub(crate) const HOST: &str = "sts.cs.example:8443";
pub(crate) const EKS_HOST: &str = "eks.cs.example:8443";
pub(crate) const ALL: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;

/// A trust statement for an AWS principal.
pub(crate) fn trusts(principal: &str, actions: &str, condition: &str) -> String {
    let condition = if condition.is_empty() {
        String::new()
    } else {
        format!(r#","Condition":{condition}"#)
    };
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":{actions}{condition}}}]}}"#
    )
}

pub(crate) const ASSUME: &str = r#""sts:AssumeRole""#;
pub(crate) const EVERYTHING: &str =
    r#"["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]"#;
pub(crate) const ACCOUNT: &str = "arn:aws:iam::111122223333:root";

#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

pub(crate) struct World {
    pub(crate) store: Arc<TestStore>,
    pub(crate) directory: Directory,
    pub(crate) account: AccountId,
    pub(crate) ana: Keys,
    pub(crate) bob: Keys,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) api: AwsApi,
}

pub(crate) fn now() -> Timestamp {
    "2026-03-14T09:26:53.25Z".parse().unwrap()
}

pub(crate) fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

pub(crate) fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.into(),
        value: value.into(),
    }
}

/// Parameters of a call.
pub(crate) type Given<'a> = &'a [(&'a str, &'a str)];

/// Status, and code with message, or the whole body of a success.
pub(crate) type Answered = (u16, serde_json::Value);

impl World {
    /// `ana` may do everything, `bob` nothing.
    pub(crate) async fn new() -> Self {
        let account: AccountId = "111122223333".parse().unwrap();
        let store = Arc::new(TestStore::in_memory().unwrap());
        let sealer = Sealer::new(&RootKey::from_bytes([7; 32]), &[]).unwrap();
        let directory = Directory::open(
            Arc::clone(&store) as _,
            sealer,
            Random::system(),
            Quotas::default(),
        )
        .await
        .unwrap();
        directory.maintain_session_keys(now()).await.unwrap();
        for id in ["111122223333", "444455556666"] {
            let organization_id = (id == "111122223333").then(|| "o-exampleorg1".into());
            let new = NewAccount {
                id: id.parse().unwrap(),
                partition: Partition::Aws,
                alias: None,
                organization_id,
            };
            directory.create_account(new, now()).await.unwrap();
        }
        let mut users = Vec::new();
        for name in ["ana", "bob"] {
            let new = NewUser {
                account,
                name: name.into(),
                path: "/".into(),
                tags: vec![tag("Team", "blue")],
            };
            directory.create_user(new, now()).await.unwrap();
            let key = directory
                .create_access_key(account, name, now())
                .await
                .unwrap();
            users.push(Keys {
                id: key.metadata.id.to_string(),
                secret: key.secret.expose().to_owned(),
                token: None,
            });
        }
        let all = InlinePolicy {
            name: "all".into(),
            document: ALL.into(),
        };
        directory
            .put_user_policy(account, "ana", all)
            .await
            .unwrap();
        let keys = Arc::new(KeyRing::new(directory.feed().clone()));
        let api = AwsApi::new(
            Arc::clone(&keys),
            directory.clone(),
            Arc::new(Metrics::new()),
            0,
            false,
        );
        let bob = users.pop().unwrap();
        Self {
            store,
            directory,
            account,
            ana: users.pop().unwrap(),
            bob,
            keys,
            api,
        }
    }

    pub(crate) async fn role(&self, name: &str, trust: &str) -> String {
        self.role_with(name, trust, |_| ()).await
    }

    pub(crate) async fn role_with(
        &self,
        name: &str,
        trust: &str,
        change: impl FnOnce(&mut NewRole),
    ) -> String {
        let mut new = NewRole {
            account: self.account,
            name: name.into(),
            path: "/".into(),
            trust: TrustPolicy {
                document: trust.into(),
                principals: Vec::new(),
            },
            max_session_duration: 43_200,
            description: None,
            tags: Vec::new(),
            boundary: None,
        };
        change(&mut new);
        self.directory.create_role(new, now()).await.unwrap().arn()
    }

    pub(crate) async fn allow_role(&self, name: &str, document: &str) {
        let policy = InlinePolicy {
            name: "p".into(),
            document: document.into(),
        };
        self.directory
            .put_role_policy(self.account, name, policy)
            .await
            .unwrap();
    }

    /// One signed call.
    pub(crate) async fn call(
        &self,
        keys: &Keys,
        parameters: &[(&str, &str)],
        when: Timestamp,
    ) -> Answered {
        let (status, _, bytes) = self
            .send(keys, ("sts", "2011-06-15"), parameters, when)
            .await;
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// One signed call of IAM: status, headers, and the body.
    pub(crate) async fn iam(
        &self,
        keys: &Keys,
        parameters: &[(&str, &str)],
    ) -> (u16, http::HeaderMap, String) {
        let (status, headers, body) = self
            .send(keys, ("iam", "2010-05-08"), parameters, now())
            .await;
        (status, headers, String::from_utf8(body.to_vec()).unwrap())
    }

    /// One call signed for a service, with a version of an API.
    pub(crate) async fn send(
        &self,
        keys: &Keys,
        (service, version): (&str, &str),
        parameters: &[(&str, &str)],
        when: Timestamp,
    ) -> (u16, http::HeaderMap, Bytes) {
        let secret = SecretKey::new(&keys.secret);
        let mut pairs = vec![("Version", version)];
        pairs.extend(parameters);
        let body: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        let body = body.join("&");
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let all: [(&str, &[u8]); 2] =
            [("host", HOST.as_bytes()), ("content-type", form.as_bytes())];
        let mut request = Request::new("POST", b"/");
        request.headers = &all;
        request.body = Payload::Bytes(body.as_bytes());
        let credentials = Credentials {
            key_id: &keys.id,
            secret: &secret,
            session_token: keys.token.as_deref(),
        };
        let signed = Signer::new(credentials, "us-east-1", service)
            .sign(&request, when)
            .unwrap();
        let mut head = http::Request::post("/")
            .header("host", HOST)
            .header("content-type", form)
            .header("accept", "application/json")
            .header("user-agent", "test/1");
        for (name, value) in signed.headers() {
            head = head.header(name, value);
        }
        let (head, ()) = head.body(()).unwrap().into_parts();
        let peer = Peer {
            address: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            tls: true,
        };
        let answer = self
            .api
            .answer(&head, &Bytes::from(body.clone()), peer, when, "request-1")
            .await;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, headers, bytes)
    }

    /// One REST request with headers, whose signature is among them if it has one.
    pub(crate) async fn send_rest(
        &self,
        target: (&str, &str),
        body: &[u8],
        headers: &[(String, String)],
    ) -> (u16, http::HeaderMap, Bytes) {
        self.send_rest_at(target, body, headers, now()).await
    }

    pub(crate) async fn send_rest_at(
        &self,
        (method, target): (&str, &str),
        body: &[u8],
        headers: &[(String, String)],
        when: Timestamp,
    ) -> (u16, http::HeaderMap, Bytes) {
        let mut head = http::Request::builder()
            .method(method)
            .uri(target)
            .header("host", EKS_HOST);
        for (name, value) in headers {
            head = head.header(name, value);
        }
        let (head, ()) = head.body(()).unwrap().into_parts();
        let peer = Peer {
            address: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            tls: true,
        };
        let body = Bytes::copy_from_slice(body);
        let answer = self.api.answer(&head, &body, peer, when, "request-1").await;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, headers, bytes)
    }

    pub(crate) async fn assume(
        &self,
        keys: &Keys,
        role: &str,
        more: &[(&str, &str)],
        when: Timestamp,
    ) -> Answered {
        let mut parameters = vec![("Action", "AssumeRole"), ("RoleArn", role)];
        if !more.iter().any(|(name, _)| *name == "RoleSessionName") {
            parameters.push(("RoleSessionName", "s1"));
        }
        parameters.extend(more);
        self.call(keys, &parameters, when).await
    }

    /// The keys of a session that must be given.
    pub(crate) async fn session(
        &self,
        keys: &Keys,
        role: &str,
        more: &[(&str, &str)],
        when: Timestamp,
    ) -> Keys {
        let (status, answer) = self.assume(keys, role, more, when).await;
        assert_eq!(status, 200, "{role}: {answer}");
        let credentials = &result(&answer)["Credentials"];
        let text = |name: &str| credentials[name].as_str().unwrap().to_owned();
        Keys {
            id: text("AccessKeyId"),
            secret: text("SecretAccessKey"),
            token: Some(text("SessionToken")),
        }
    }

    /// A long-term key of the root user.
    pub(crate) async fn root(&self) -> Keys {
        let key = self
            .directory
            .create_root_key(self.account, now())
            .await
            .unwrap();
        Keys {
            id: key.metadata.id.to_string(),
            secret: key.secret.expose().to_owned(),
            token: None,
        }
    }

    /// Makes `document` the one inline policy of a user.
    pub(crate) async fn allow_user(&self, name: &str, document: &str) {
        let policy = InlinePolicy {
            name: "p".into(),
            document: document.into(),
        };
        self.directory
            .put_user_policy(self.account, name, policy)
            .await
            .unwrap();
    }

    pub(crate) async fn whoami(&self, keys: &Keys, when: Timestamp) -> Answered {
        self.call(keys, &[("Action", "GetCallerIdentity")], when)
            .await
    }
}

/// The headers that sign a REST request.
pub(crate) fn signed(
    keys: &Keys,
    service: &str,
    target: (&str, &str),
    body: &[u8],
    when: Timestamp,
) -> Vec<(String, String)> {
    signed_with(keys, service, target, body, when, &[])
}

/// Headers, and those that sign a REST request with them.
pub(crate) fn signed_with(
    keys: &Keys,
    service: &str,
    (method, target): (&str, &str),
    body: &[u8],
    when: Timestamp,
    more: &[(&str, &str)],
) -> Vec<(String, String)> {
    let secret = SecretKey::new(&keys.secret);
    let mut all: Vec<(&str, &[u8])> = vec![("host", EKS_HOST.as_bytes())];
    all.extend(more.iter().map(|(name, value)| (*name, value.as_bytes())));
    let mut request = Request::new(method, target.as_bytes());
    request.headers = &all;
    request.body = if body.is_empty() {
        Payload::Empty
    } else {
        Payload::Bytes(body)
    };
    let credentials = Credentials {
        key_id: &keys.id,
        secret: &secret,
        session_token: keys.token.as_deref(),
    };
    let signed = Signer::new(credentials, "us-east-1", service)
        .sign(&request, when)
        .unwrap();
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut headers: Vec<(String, String)> = more.iter().copied().map(owned).collect();
    headers.extend(signed.headers().map(owned));
    headers
}

pub(crate) fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

pub(crate) fn result(answer: &serde_json::Value) -> &serde_json::Value {
    &answer["AssumeRoleResponse"]["AssumeRoleResult"]
}

/// The result of any operation, from its answer in JSON.
pub(crate) fn result_of<'a>(
    answer: &'a serde_json::Value,
    operation: &str,
) -> &'a serde_json::Value {
    &answer[format!("{operation}Response")][format!("{operation}Result")]
}

/// The member `Credentials` of a result.
pub(crate) fn credentials(result: &serde_json::Value) -> Keys {
    let text = |name: &str| result["Credentials"][name].as_str().unwrap().to_owned();
    Keys {
        id: text("AccessKeyId"),
        secret: text("SecretAccessKey"),
        token: Some(text("SessionToken")),
    }
}

/// An element of an answer in XML; empty when it is not there.
pub(crate) fn part<'t>(text: &'t str, name: &str) -> &'t str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close))
        .map_or("", |(inner, _)| inner)
}

/// Status, code and message of an error in XML.
pub(crate) fn refusal((status, _, body): &(u16, http::HeaderMap, String)) -> (u16, String, String) {
    let unescaped = part(body, "Message")
        .replace("&quot;", "\"")
        .replace("&amp;", "&");
    (*status, part(body, "Code").to_owned(), unescaped)
}

pub(crate) fn error(answered: &Answered) -> (u16, &str, &str) {
    let error = &answered.1["Error"];
    (
        answered.0,
        error["Code"].as_str().unwrap_or("none"),
        error["Message"].as_str().unwrap_or_default(),
    )
}

pub(crate) const INVALID: (u16, &str, &str) = (
    403,
    "InvalidClientTokenId",
    "The security token included in the request is invalid",
);

pub(crate) fn not_authorized(caller: &str, action: &str, role: &str) -> String {
    format!("User: arn:aws:{caller} is not authorized to perform: {action} on resource: {role}")
}
