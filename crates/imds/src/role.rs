//! The pod's role as the metadata service shows it: its name, and the bodies of the credentials paths (imds spec, sections 1.3
//! and 5.4).

use countersign_arn::Arn;
use jiff::Timestamp;
use serde::Serialize;
use zeroize::Zeroizing;

/// The role of a session, read from the session's ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRole {
    partition: Box<str>,
    account: Box<str>,
    name: Box<str>,
}

/// Credentials to show.
#[derive(Clone, Copy)]
pub struct Shown<'c> {
    /// Access key id.
    pub access_key_id: &'c str,
    /// Secret access key.
    pub secret_access_key: &'c str,
    /// Session token.
    pub session_token: &'c str,
    /// When they came.
    pub updated: Timestamp,
    /// When they end.
    pub expires: Timestamp,
}

impl PodRole {
    /// From `arn:PARTITION:sts::ACCOUNT:assumed-role/NAME/SESSION`; `None` for anything else.
    #[must_use]
    pub fn of_session(arn: &str) -> Option<Self> {
        let arn = Arn::parse(arn).ok()?;
        let rest = arn.resource.strip_prefix("assumed-role/")?;
        let (name, session) = rest.split_once('/')?;
        let fits = arn.service == "sts" && !name.is_empty() && !session.is_empty();
        fits.then(|| Self {
            partition: arn.partition.into(),
            account: arn.account.into(),
            name: name.into(),
        })
    }

    /// The last part of the role's ARN: the line of the list.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether what a client asked for is this role: its name, path and name, or ARN. A session does not tell the path of its
    /// role, so any path fits; whatever fits, the pod gets its own credentials and nothing else.
    #[must_use]
    pub fn is(&self, asked: &str) -> bool {
        let named = if asked
            .get(..4)
            .is_some_and(|head| head.eq_ignore_ascii_case("arn:"))
        {
            let Ok(arn) = Arn::parse(asked) else {
                return false;
            };
            if arn.partition != &*self.partition
                || arn.account != &*self.account
                || arn.service != "iam"
            {
                return false;
            }
            match arn.resource.strip_prefix("role/") {
                Some(named) => named,
                None => return false,
            }
        } else {
            asked
        };
        named.rsplit('/').next() == Some(&*self.name)
    }

    /// The body of `iam/info`. There is no instance profile; its ARN is made from the role, and its id is the association's.
    #[must_use]
    pub fn info(&self, updated: Timestamp, association_id: &str) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Info<'i> {
            code: &'static str,
            last_updated: String,
            instance_profile_arn: String,
            instance_profile_id: &'i str,
        }
        let Self {
            partition,
            account,
            name,
        } = self;
        let info = Info {
            code: "Success",
            last_updated: seconds(updated),
            instance_profile_arn: format!("arn:{partition}:iam::{account}:instance-profile/{name}"),
            instance_profile_id: association_id,
        };
        serde_json::to_string_pretty(&info).unwrap_or_default()
    }
}

impl Shown<'_> {
    /// The body of `iam/security-credentials/NAME`.
    #[must_use]
    pub fn body(&self) -> Zeroizing<Vec<u8>> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Body<'b> {
            code: &'static str,
            last_updated: String,
            r#type: &'static str,
            access_key_id: &'b str,
            secret_access_key: &'b str,
            token: &'b str,
            expiration: String,
        }
        let body = Body {
            code: "Success",
            last_updated: seconds(self.updated),
            r#type: "AWS-HMAC",
            access_key_id: self.access_key_id,
            secret_access_key: self.secret_access_key,
            token: self.session_token,
            expiration: seconds(self.expires),
        };
        // Room for everything, even if every character were escaped: a vector that grows leaves copies of secrets behind.
        let texts =
            self.access_key_id.len() + self.secret_access_key.len() + self.session_token.len();
        let mut text = Zeroizing::new(Vec::with_capacity(6 * texts + 256));
        if serde_json::to_writer(&mut *text, &body).is_err() {
            text.clear();
        }
        text
    }
}

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown")
            .field("access_key_id", &self.access_key_id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The body of every refusal.
#[must_use]
pub fn error_body(code: &str, message: &str) -> String {
    serde_json::json!({"Code": code, "Message": message}).to_string()
}

/// Whole seconds, rounded down: botocore reads no fractions, and credentials must not seem to live longer than they do.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_millisecond().div_euclid(1000))
        .unwrap_or(time)
        .to_string()
}
