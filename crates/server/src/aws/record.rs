//! What is kept of every call: its record in the audit log, and what was used when.

use countersign_arn::{AccountId, Arn};
use countersign_session::SessionKind;
use countersign_store::{DirectorySnapshot, Principal};

use super::eks_auth::Agent;
use super::finished::Decided;
use super::query::Member;
use super::{ApiError, Asked, AwsApi, Caller, Received, Trace};
use crate::audit::{Decision, Event, Identity, Outcome, PodFacts, TlsFacts};
use crate::request_id;
use crate::usage::Use;

impl AwsApi {
    /// Keeps what is to be kept of a call that is over.
    pub(super) fn record(
        &self,
        received: &Received<'_>,
        asked: &Asked<'_>,
        trace: &mut Trace<'_>,
        ended: &Result<Member, ApiError>,
    ) {
        let service = trace.service.signing_name();
        if let (Some(caller), Some(operation)) = (&trace.caller, trace.operation) {
            self.usage.record(&Use::of(
                caller.identity(),
                caller.session(),
                service,
                operation.name,
                &caller.verified().scope().region,
                received.now,
            ));
        }
        let place = trace.place.take();
        if place.as_ref().is_some_and(|place| !place.is_wanted()) || !self.audit.is_on() {
            return;
        }
        let (parameters, request) = match asked {
            Asked::Query(parameters) => (parameters.as_ref().ok(), None),
            Asked::Rest(request) => (None, Some(request)),
        };
        let asked = |name: &str| match request {
            Some(request) => request.asked(name),
            None => parameters.and_then(|parameters| parameters.get(name)),
        };
        let input = request
            .and(trace.input.as_ref())
            .map(super::finished::parameters);
        let header = |name| {
            received
                .head
                .headers
                .get(name)
                .and_then(|value: &http::HeaderValue| value.to_str().ok())
                .unwrap_or_default()
        };
        let snapshot = self.directory.snapshot();
        let issuer = trace
            .caller
            .as_ref()
            .and_then(Caller::session)
            .filter(|session| session.kind == SessionKind::Federation)
            .and_then(|session| snapshot.principal(session.principal.unique_id()?))
            .and_then(|principal| match principal {
                Principal::User(user) => Some(&*user.arn),
                _ => None,
            });
        let identity = match &trace.caller {
            Some(caller) => Identity::Caller {
                identity: caller.identity(),
                session: caller.session(),
                issuer,
            },
            None if trace.agent.is_some() => of_agent(trace.agent.as_ref()),
            None => ended
                .as_ref()
                .ok()
                .and_then(bearer)
                .unwrap_or_else(|| Identity::Unknown {
                    access_key_id: claimed_key(header("authorization"), asked("X-Amz-Credential")),
                }),
        };
        let role = asked("RoleArn").filter(|_| request.is_none());
        let recipient: Option<AccountId> = role
            .filter(|_| {
                matches!(
                    identity,
                    Identity::WebIdentity { .. } | Identity::Saml { .. }
                )
            })
            .and_then(|arn| Arn::parse(arn).ok()?.account.parse().ok())
            .or(trace
                .agent
                .as_ref()
                .map(|agent| agent.cluster.record.account));
        let pod = trace.pod.as_ref().map(|pod| PodFacts {
            cluster: &pod.cluster,
            namespace: &pod.namespace,
            service_account: &pod.service_account,
            pod_name: &pod.pod_name,
            pod_uid: &pod.pod_uid,
            node: pod.node.as_deref(),
            association: pod.association_arn.as_deref(),
            first_session: pod.first_session.as_deref(),
            session: pod.session.as_deref(),
        });
        let decided = trace.decision.as_ref();
        let resource = decided
            .map(|decided| decided.resource.as_str())
            .or(role.filter(|_| service == "sts"));
        let matched = decided.and_then(statement);
        let matched = matched.as_deref();
        let error = ended.as_ref().err();
        // The caller is told the same as of a role that trusts somebody else.
        let reason = role
            .filter(|role| service == "sts" && error.is_some() && !is_role(&snapshot, role))
            .map(|_| "there is no such role");
        let event = Event {
            time: received.now,
            request_id: received.request_id,
            event_id: &request_id::fresh(),
            service,
            operation: trace
                .operation
                .map_or_else(|| asked("Action").unwrap_or_default(), |known| known.name),
            region: match (&trace.caller, &trace.agent) {
                (Some(caller), _) => caller.verified().scope().region.as_str(),
                (None, Some(agent)) => &agent.cluster.record.region,
                (None, None) => &self.region,
            },
            identity,
            recipient,
            source: received.peer.address.ip(),
            user_agent: header("user-agent"),
            parameters,
            input: input.as_ref(),
            response: ended.as_ref().ok(),
            dry_run: trace.dry_run,
            error: error.map(|error| (error.code, &*error.message)),
            decision: Decision {
                outcome: decided.and_then(outcome),
                matched: matched.as_slice(),
                reason,
                encoded_message: error.and_then(|error| error.denial.as_deref()),
            },
            pod,
            resources: resource.as_slice(),
            tls: received.head.extensions.get::<TlsFacts>().copied(),
            kubernetes: trace.kubernetes.as_ref(),
            host: match header("host") {
                "" => received.head.uri.host().unwrap_or_default(),
                host => host,
            },
        };
        match place {
            Some(place) => place.finish(&event),
            None => self.audit.refused(&event),
        }
    }
}

/// The agent with a token of its own.
fn of_agent(agent: Option<&Agent>) -> Identity<'_> {
    match agent {
        Some(agent) => Identity::WebIdentity {
            issuer: &agent.issuer,
            audience: Agent::audience(),
            subject: &agent.subject,
        },
        None => Identity::Unknown {
            access_key_id: None,
        },
    }
}

/// Whether a role has this ARN, path and case included.
fn is_role(snapshot: &DirectorySnapshot, text: &str) -> bool {
    let found = Arn::parse(text).ok().and_then(|arn| {
        let name = arn.resource.strip_prefix("role/")?.rsplit('/').next()?;
        snapshot.role(arn.account.parse().ok()?, name)
    });
    found.is_some_and(|role| *role.arn == *text)
}

/// The access key id that a request claims, in its header or its query.
fn claimed_key<'a>(authorization: &'a str, credential: Option<&'a str>) -> Option<&'a str> {
    authorization
        .split_once("Credential=")
        .map(|(_, rest)| rest)
        .or(credential)?
        .split('/')
        .next()
}

/// The bearer of a token or assertion, from the answer that only a verified one gets.
fn bearer(answer: &Member) -> Option<Identity<'_>> {
    let Member::Structure(members) = answer else {
        return None;
    };
    let text = |wanted: &str| {
        members.iter().find_map(|(name, member)| match member {
            Member::Text(text) if *name == wanted => Some(text.as_str()),
            _ => None,
        })
    };
    match text("SubjectFromWebIdentityToken") {
        Some(subject) => Some(Identity::WebIdentity {
            issuer: text("Provider").unwrap_or_default(),
            audience: text("Audience").unwrap_or_default(),
            subject,
        }),
        None => Some(Identity::Saml {
            name_qualifier: text("NameQualifier")?,
            subject: text("Subject")?,
        }),
    }
}

fn outcome(decided: &Decided) -> Option<Outcome> {
    match decided.outcome {
        "allowed" => Some(Outcome::Allowed),
        "explicitDeny" => Some(Outcome::ExplicitDeny),
        "implicitDeny" => Some(Outcome::ImplicitDeny),
        _ => None,
    }
}

/// Layer, policy and position of the statement that decided.
fn statement(decided: &Decided) -> Option<String> {
    let at = decided.statement.as_ref()?;
    Some(format!(
        "{}:{}#{}",
        at.layer.as_str(),
        at.document,
        at.statement
    ))
}
