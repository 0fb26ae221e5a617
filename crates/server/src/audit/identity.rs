//! `userIdentity`: who called, in CloudTrail's words (least-privilege spec, sections 5.3 and 9).

use countersign_arn::{CallerIdentity, CallerKind};
use countersign_session::{Federation, SessionPrincipal, SessionRecord};

use super::event::Identity;
use super::json::Json;
use super::record::{cut, seconds};

pub(super) fn write(json: &mut Json, identity: &Identity<'_>) {
    json.key("userIdentity");
    json.open(b'{');
    match identity {
        Identity::Caller {
            identity,
            session,
            issuer,
        } => caller(json, identity, *session, *issuer),
        Identity::WebIdentity {
            issuer,
            audience,
            subject,
        } => {
            let provider = issuer.strip_prefix("https://").unwrap_or(issuer);
            json.field("type", "WebIdentityUser");
            json.field(
                "principalId",
                cut(&format!("{provider}:{audience}:{subject}"), 1024),
            );
            json.field("userName", cut(subject, 512));
            json.field("identityProvider", cut(provider, 512));
        }
        Identity::Saml {
            name_qualifier,
            subject,
        } => {
            json.field("type", "SAMLUser");
            json.field(
                "principalId",
                cut(&format!("{name_qualifier}:{subject}"), 1024),
            );
            json.field("userName", cut(subject, 512));
            json.field("identityProvider", cut(name_qualifier, 512));
        }
        Identity::Service(name) => {
            json.field("type", "AWSService");
            json.field("invokedBy", cut(name, 256));
        }
        Identity::Unknown { access_key_id } => {
            json.field("type", "Unknown");
            if let Some(id) = access_key_id.filter(|id| is_key_id(id)) {
                json.field("accessKeyId", id);
            }
        }
    }
    json.close(b'}');
}

fn caller(
    json: &mut Json,
    identity: &CallerIdentity,
    session: Option<&SessionRecord>,
    issuer: Option<&str>,
) {
    let caller = identity.caller();
    let kind = match caller.kind() {
        CallerKind::Root => "Root",
        CallerKind::User => "IAMUser",
        CallerKind::Role => "Role",
        CallerKind::AssumedRole => "AssumedRole",
        CallerKind::FederatedUser => "FederatedUser",
    };
    json.field("type", kind);
    if identity.session_name().is_empty() {
        json.field("principalId", identity.user_id());
    } else {
        json.field(
            "principalId",
            &format!("{}:{}", identity.user_id(), identity.session_name()),
        );
    }
    json.field("arn", identity.arn());
    json.field("accountId", caller.account_str());
    if !identity.access_key_id().is_empty() {
        json.field("accessKeyId", identity.access_key_id());
    }
    if caller.kind() == CallerKind::User {
        json.field("userName", caller.name());
    }
    if let Some(session) = session {
        let mfa = identity.facts().is_some_and(|facts| facts.mfa);
        context(json, session, issuer, mfa);
    }
}

fn context(json: &mut Json, session: &SessionRecord, issuer: Option<&str>, mfa: bool) {
    json.key("sessionContext");
    json.open(b'{');
    session_issuer(json, session, issuer);
    if let Some(Federation::Oidc { provider, .. }) = &session.federation {
        json.key("webIdFederationData");
        json.open(b'{');
        json.field("federatedProvider", cut(provider, 512));
        json.key("attributes");
        json.open(b'{');
        json.close(b'}');
        json.close(b'}');
    }
    json.key("attributes");
    json.open(b'{');
    json.field("creationDate", &seconds(session.issued));
    // CloudTrail writes this truth value as a text.
    json.field("mfaAuthenticated", if mfa { "true" } else { "false" });
    json.close(b'}');
    if let Some(identity) = &session.source_identity {
        json.field("sourceIdentity", identity);
    }
    json.close(b'}');
}

fn session_issuer(json: &mut Json, session: &SessionRecord, issuer: Option<&str>) {
    let (kind, id, arn, name) = match &session.principal {
        SessionPrincipal::Role { id, name, .. } => (
            "Role",
            Some(&**id),
            Some(
                session
                    .principal
                    .principal_arn(session.partition, session.account),
            ),
            Some(&**name),
        ),
        SessionPrincipal::FederatedUser {
            creator_id: Some(id),
            ..
        } => {
            let name = issuer.and_then(|arn| arn.rsplit('/').next());
            ("IAMUser", Some(&**id), issuer.map(Into::into), name)
        }
        SessionPrincipal::FederatedUser {
            creator_id: None, ..
        } => {
            let arn = format!("arn:{}:iam::{}:root", session.partition, session.account);
            ("Root", None, Some(arn), None)
        }
        SessionPrincipal::User { .. } | SessionPrincipal::Root => return,
    };
    json.key("sessionIssuer");
    json.open(b'{');
    json.field("type", kind);
    json.field("principalId", id.unwrap_or(session.account.as_str()));
    if let Some(arn) = arn {
        json.field("arn", &arn);
    }
    json.field("accountId", session.account.as_str());
    if let Some(name) = name {
        json.field("userName", name);
    }
    json.close(b'}');
}

/// What a request claims is shown when it can be an access key id, and is nobody's text otherwise.
fn is_key_id(id: &str) -> bool {
    (16..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
