//! A call that tests change one thing of.

use countersign_arn::{CallerIdentity, SessionFacts};
use countersign_server::audit::{Decision, Event, Identity, Outcome, TlsFacts, record};
use countersign_server::aws::query::{Member, Parameters};
use countersign_session::{SessionKind, SessionPrincipal, SessionRecord};
use jiff::Timestamp;
use std::sync::Arc;

pub(crate) const ACCOUNT: &str = "111122223333";

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// An event as the API would make it, owned where an [`Event`] borrows.
pub(crate) struct Finished {
    pub(crate) service: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) form: String,
    pub(crate) response: Option<Member>,
    pub(crate) dry_run: bool,
    pub(crate) error: Option<(&'static str, String)>,
    pub(crate) who: Who,
    pub(crate) resources: Vec<&'static str>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) matched: Vec<&'static str>,
    pub(crate) reason: Option<&'static str>,
    pub(crate) tls: Option<TlsFacts>,
    pub(crate) host: &'static str,
    pub(crate) user_agent: String,
}

/// Who calls.
pub(crate) enum Who {
    Caller {
        identity: Box<CallerIdentity>,
        session: Option<Box<SessionRecord>>,
        issuer: Option<&'static str>,
    },
    WebIdentity,
    Saml,
    Service,
    Unknown(Option<&'static str>),
}

impl Finished {
    pub(crate) fn new(service: &'static str, operation: &'static str, form: &str) -> Self {
        Self {
            service,
            operation,
            form: form.into(),
            response: None,
            dry_run: false,
            error: None,
            who: user(),
            resources: Vec::new(),
            outcome: Some(Outcome::Allowed),
            matched: vec!["user/ana:inline/all#0"],
            reason: None,
            tls: None,
            host: "127.0.0.1:4600",
            user_agent: "aws-cli/2.31".into(),
        }
    }

    pub(crate) fn by(mut self, who: Who) -> Self {
        if matches!(who, Who::Unknown(_)) {
            self.outcome = None;
            self.matched.clear();
        }
        self.who = who;
        self
    }

    pub(crate) fn answered(mut self, response: Member) -> Self {
        self.response = Some(response);
        self
    }

    pub(crate) fn failed(mut self, code: &'static str, message: impl Into<String>) -> Self {
        self.error = Some((code, message.into()));
        self
    }

    pub(crate) fn with<T>(&self, use_event: impl FnOnce(&Event<'_>) -> T) -> T {
        let parameters = Parameters::parse("", self.form.as_bytes()).unwrap();
        let identity = match &self.who {
            Who::Caller {
                identity,
                session,
                issuer,
            } => Identity::Caller {
                identity,
                session: session.as_deref(),
                issuer: *issuer,
            },
            Who::WebIdentity => Identity::WebIdentity {
                issuer: "https://oidc.cs.example/id/AB12",
                audience: "sts.amazonaws.com",
                subject: "system:serviceaccount:shop:cart",
            },
            Who::Saml => Identity::Saml {
                name_qualifier: "bdGOnTesti4+ExamplexL/jEvs=",
                subject: "alice@corp.example",
            },
            Who::Service => Identity::Service("eks.amazonaws.com"),
            Who::Unknown(access_key_id) => Identity::Unknown {
                access_key_id: *access_key_id,
            },
        };
        use_event(&Event {
            time: time("2026-03-04T10:11:12.75Z"),
            request_id: "0b7d1c52-7f7e-4c46-9f39-6d2f8c0e51aa",
            event_id: "5f1d6c7e-1e0b-4a8f-9d53-0a2f3f7c9b11",
            service: self.service,
            operation: self.operation,
            region: "eu-west-1",
            identity,
            recipient: Some("444455556666".parse().unwrap()),
            source: "10.0.3.7".parse().unwrap(),
            user_agent: &self.user_agent,
            parameters: Some(&parameters),
            input: None,
            response: self.response.as_ref(),
            dry_run: self.dry_run,
            error: self.error.as_ref().map(|(code, text)| (*code, &**text)),
            decision: Decision {
                outcome: self.outcome,
                matched: &self.matched,
                reason: self.reason,
                encoded_message: None,
            },
            pod: None,
            resources: &self.resources,
            tls: self.tls,
            kubernetes: None,
            host: self.host,
        })
    }

    pub(crate) fn line(&self) -> String {
        String::from_utf8(self.with(record)).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.line()).unwrap()
    }
}

/// A caller with long-term keys.
pub(crate) fn holder(arn: &str, user_id: &str, key: &str) -> Who {
    let account = arn.split(':').nth(4).unwrap();
    Who::Caller {
        identity: Box::new(CallerIdentity::new(arn, account, user_id, key, "sts").unwrap()),
        session: None,
        issuer: None,
    }
}

pub(crate) fn user() -> Who {
    holder(
        "arn:aws:iam::111122223333:user/team/ana",
        "AIDARTX3GSDSURLGMXGED",
        "AKIARTX3GSDSXFDOCIS2",
    )
}

/// A session as it is after its token was opened; `change` makes it special.
pub(crate) fn session(
    kind: SessionKind,
    principal: SessionPrincipal,
    change: impl FnOnce(&mut SessionRecord),
) -> Who {
    let issued = time("2026-03-04T10:00:00Z");
    let mut record = SessionRecord::new(
        kind,
        countersign_arn::Partition::Aws,
        ACCOUNT.parse().unwrap(),
        principal,
        issued,
        time("2026-03-04T11:00:00Z"),
    );
    change(&mut record);
    record.validate().unwrap();
    let identity = CallerIdentity::new(
        &record
            .principal
            .caller_arn(record.partition, record.account),
        ACCOUNT,
        &record.principal.user_id(record.account),
        "ASIARTX3GSDS7RSUJJ3G",
        "sts",
    )
    .unwrap()
    .with_facts(Arc::new(SessionFacts {
        mfa: record.mfa_at.is_some(),
        ..SessionFacts::default()
    }));
    Who::Caller {
        identity: Box::new(identity),
        session: Some(Box::new(record)),
        issuer: None,
    }
}

pub(crate) fn cart() -> SessionPrincipal {
    SessionPrincipal::Role {
        id: "AROARTX3GSDSURLGMXGED".into(),
        path: "/shop/".into(),
        name: "cart".into(),
        session_name: "eks-shop-cart-7d9".into(),
    }
}

pub(crate) fn text(value: &str) -> Member {
    Member::Text(value.into())
}

pub(crate) fn structure(members: Vec<(&'static str, Member)>) -> Member {
    Member::Structure(members)
}

/// The answer of an operation that gives credentials.
pub(crate) fn credentials(more: Vec<(&'static str, Member)>) -> Member {
    let credentials = structure(vec![
        ("AccessKeyId", text("ASIARTX3GSDSAAAABBBB")),
        ("SecretAccessKey", text("SECRET/SECRET/SECRET")),
        ("SessionToken", text("CS1.k7.SECRETSECRET")),
        ("Expiration", Member::Time(time("2026-03-04T11:11:12Z"))),
    ]);
    let mut members = vec![("Credentials", credentials)];
    members.extend(more);
    structure(members)
}
