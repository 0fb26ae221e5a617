//! From a finished call to one line of the log (least-privilege spec, section 9).

use std::borrow::Cow;

use countersign_arn::Arn;
use countersign_oidc::KubernetesClaims;
use countersign_session::{Binding, SessionKind, SessionRecord};
use jiff::Timestamp;

use super::event::{Event, Identity, PodFacts};
use super::json::Json;
use super::tables::{Class, class};
use super::{identity, parameters, response};

/// Most bytes of a record; every part of it is bounded so that none is longer.
pub const MAX_RECORD: usize = 96 << 10;
/// Texts of requests and answers that are longer are hidden: policy documents, certificates, metadata.
pub(super) const LONG_TEXT: usize = 4096;
/// CloudTrail cuts messages and user agents at this many bytes.
const SHORT_TEXT: usize = 1024;
/// Bytes of a sealed explanation that are kept; a cut one could not be opened.
const MAX_SEALED: usize = 10_240;
/// Matched statements that are named.
const MAX_MATCHED: usize = 16;
/// Resources that are named.
const MAX_RESOURCES: usize = 4;

/// The record of a call: one JSON object without a newline, at most [`MAX_RECORD`] bytes.
///
/// Never in it: secrets, session tokens, web identity tokens, assertions, passwords, MFA codes, signatures, and texts of
/// more than 4 KiB. A hidden parameter reads [`HIDDEN`](super::HIDDEN); a hidden member of an answer is left out, as
/// CloudTrail leaves it out; an external id is the beginning of its SHA-256.
#[must_use]
pub fn record(event: &Event<'_>) -> Vec<u8> {
    let known = class(event.service, event.operation);
    let mut json = Json::with_capacity(2048);
    json.open(b'{');
    json.field("eventVersion", "1.11");
    identity::write(&mut json, &event.identity);
    json.field("eventTime", &seconds(event.time));
    json.field(
        "eventSource",
        &format!("{}.amazonaws.com", cut(event.service, 64)),
    );
    json.field("eventName", event_name(event.operation));
    json.field("awsRegion", cut(event.region, 64));
    match &event.identity {
        Identity::Service(name) => json.field("sourceIPAddress", cut(name, 256)),
        _ => json.field("sourceIPAddress", &event.source.to_canonical().to_string()),
    }
    json.field("userAgent", cut(event.user_agent, SHORT_TEXT));
    if let Some((code, message)) = event.error {
        json.field("errorCode", cut(code, 256));
        json.field("errorMessage", first_paragraph(message));
    }
    let unknown_parameters = match event.input {
        Some(input) => parameters::write_read(&mut json, input),
        None => parameters::write(&mut json, event.parameters, known.is_some()),
    };
    let written = matches!(known, Some(Class::Issue | Class::Write))
        && event.error.is_none()
        && !event.dry_run;
    response::write(&mut json, event.response.filter(|_| written));
    ours(&mut json, event, unknown_parameters);
    json.field("requestID", event.request_id);
    json.field("eventID", event.event_id);
    let read_only = known != Some(Class::Write) || event.dry_run;
    json.literal_field("readOnly", if read_only { "true" } else { "false" });
    resources(&mut json, event.resources);
    json.field("eventType", "AwsApiCall");
    json.literal_field("managementEvent", "true");
    if let Some(account) = recipient(event) {
        json.field("recipientAccountId", &account);
    }
    json.field("eventCategory", "Management");
    tls(&mut json, event);
    json.close(b'}');
    json.into_bytes()
}

/// Our own part, which readers of CloudTrail may ignore.
fn ours(json: &mut Json, event: &Event<'_>, unknown_parameters: usize) {
    let decision = &event.decision;
    json.key("additionalEventData");
    json.open(b'{');
    json.key("countersign");
    json.open(b'{');
    match decision.outcome {
        Some(outcome) => json.field("decision", outcome.as_str()),
        None => json.literal_field("decision", "null"),
    }
    json.key("matched");
    json.open(b'[');
    for statement in decision.matched.iter().take(MAX_MATCHED) {
        json.string(cut(statement, 256));
    }
    json.close(b']');
    if let Some(reason) = decision.reason {
        json.field("reason", cut(reason, SHORT_TEXT));
    }
    if let Some(sealed) = decision
        .encoded_message
        .filter(|sealed| sealed.len() <= MAX_SEALED)
    {
        json.field("encodedMessage", sealed);
    }
    if event.dry_run {
        json.literal_field("dryRun", "true");
    }
    if unknown_parameters > 0 {
        json.literal_field("unknownParameters", &unknown_parameters.to_string());
    }
    if is_named_by_machine(event) {
        json.field("finding", "machine-made-session-name");
    }
    if let Some(claims) = event.kubernetes {
        json.key("kubernetes");
        bearer(json, claims);
    }
    json.key("podIdentity");
    match &event.identity {
        Identity::Caller {
            session: Some(session),
            ..
        } if is_of_pod_identity(session) => workload(json, &session.binding),
        _ => json.literal("null"),
    }
    if let Some(pod) = &event.pod {
        json.key("podCredentials");
        credentials_for(json, pod);
    }
    json.close(b'}');
    json.close(b'}');
}

/// Whether a session is of a pod with an association, chained to a target role or not.
fn is_of_pod_identity(session: &SessionRecord) -> bool {
    session.kind == SessionKind::PodIdentity || session.binding.association_id.is_some()
}

/// For whom credentials were asked, and the sessions that were made (Pod Identity spec, section 5.2, step 6).
fn credentials_for(json: &mut Json, pod: &PodFacts<'_>) {
    json.open(b'{');
    for (name, value) in [
        ("cluster", Some(pod.cluster)),
        ("namespace", Some(pod.namespace)),
        ("serviceAccount", Some(pod.service_account)),
        ("podName", Some(pod.pod_name)),
        ("podUid", Some(pod.pod_uid)),
        ("node", pod.node),
        ("association", pod.association),
        ("firstSession", pod.first_session),
        ("session", pod.session),
    ] {
        if let Some(value) = value {
            json.field(name, cut(value, 512));
        }
    }
    json.close(b'}');
}

/// The pod of a service account token, in the words of its claims (IRSA spec, section 6.6).
fn bearer(json: &mut Json, claims: &KubernetesClaims) {
    json.open(b'{');
    let pod = claims.pod.as_ref();
    for (name, value) in [
        ("namespace", Some(&claims.namespace)),
        ("serviceAccount", Some(&claims.service_account.name)),
        ("pod", pod.map(|pod| &pod.name)),
        ("podUid", pod.and_then(|pod| pod.uid.as_ref())),
        ("node", claims.node.as_ref().map(|node| &node.name)),
    ] {
        if let Some(value) = value {
            json.field(name, cut(value, 512));
        }
    }
    json.close(b'}');
}

fn workload(json: &mut Json, binding: &Binding) {
    json.open(b'{');
    for (name, value) in [
        ("cluster", &binding.cluster),
        ("namespace", &binding.namespace),
        ("serviceAccount", &binding.service_account),
        ("podUid", &binding.pod_uid),
        ("node", &binding.node),
        ("associationId", &binding.association_id),
    ] {
        if let Some(value) = value {
            json.field(name, cut(value, 512));
        }
    }
    json.close(b'}');
}

/// Whether a user took a role under a name that an SDK made up. Such a session cannot be traced to a person by its name
/// (STS spec, section 6.3); workloads are expected to do so.
fn is_named_by_machine(event: &Event<'_>) -> bool {
    let Identity::Caller { identity, .. } = &event.identity else {
        return false;
    };
    if event.operation != "AssumeRole"
        || identity.caller().kind() != countersign_arn::CallerKind::User
    {
        return false;
    }
    event
        .parameters
        .and_then(|parameters| parameters.get("RoleSessionName"))
        .is_some_and(|name| {
            ["botocore-session-", "aws-go-sdk-", "aws-sdk-js-session-"]
                .iter()
                .filter_map(|prefix| name.strip_prefix(prefix))
                .any(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
        })
}

fn resources(json: &mut Json, arns: &[&str]) {
    let mut parsed = arns
        .iter()
        .filter(|arn| arn.len() <= 2048)
        .filter_map(|text| Some((*text, Arn::parse(text).ok()?)))
        .take(MAX_RESOURCES)
        .peekable();
    if parsed.peek().is_none() {
        return;
    }
    json.key("resources");
    json.open(b'[');
    for (text, arn) in parsed {
        json.open(b'{');
        if !arn.account.is_empty() {
            json.field("accountId", arn.account);
        }
        if let Some(kind) = resource_type(&arn) {
            json.field("type", kind);
        }
        json.field("ARN", text);
        json.close(b'}');
    }
    json.close(b']');
}

fn resource_type(arn: &Arn<'_>) -> Option<&'static str> {
    Some(match (arn.service, arn.resource.split('/').next()?) {
        ("iam", "user") => "AWS::IAM::User",
        ("iam", "group") => "AWS::IAM::Group",
        ("iam", "role") => "AWS::IAM::Role",
        ("iam", "policy") => "AWS::IAM::ManagedPolicy",
        ("iam", "instance-profile") => "AWS::IAM::InstanceProfile",
        ("iam", "oidc-provider") => "AWS::IAM::OIDCProvider",
        ("iam", "saml-provider") => "AWS::IAM::SAMLProvider",
        ("iam", "mfa") => "AWS::IAM::VirtualMFADevice",
        ("iam", "server-certificate") => "AWS::IAM::ServerCertificate",
        ("eks", "cluster") => "AWS::EKS::Cluster",
        ("eks", "access-entry") => "AWS::EKS::AccessEntry",
        ("eks", "addon") => "AWS::EKS::Addon",
        ("eks", "identityproviderconfig") => "AWS::EKS::IdentityProviderConfig",
        ("eks", "podidentityassociation") => "AWS::EKS::PodIdentityAssociation",
        _ => return None,
    })
}

/// The account the record belongs to.
fn recipient(event: &Event<'_>) -> Option<String> {
    match &event.identity {
        Identity::Caller { identity, .. } => Some(identity.account().to_string()),
        _ => event.recipient.map(|account| account.to_string()),
    }
}

fn tls(json: &mut Json, event: &Event<'_>) {
    if event.tls.is_none() && event.host.is_empty() {
        return;
    }
    json.key("tlsDetails");
    json.open(b'{');
    if let Some(tls) = event.tls {
        json.field("tlsVersion", tls.version);
        json.field("cipherSuite", tls.cipher);
    }
    if !event.host.is_empty() {
        json.field("clientProvidedHostHeader", cut(event.host, 255));
    }
    json.close(b'}');
}

/// Names of operations are letters and digits. Anything else that stands in `Action` is somebody's text.
fn event_name(operation: &str) -> &str {
    let is_name = (1..=128).contains(&operation.len())
        && operation.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_name { operation } else { "Unknown" }
}

/// A message without what follows an empty line: the explanation of a signature that does not match repeats headers of the
/// request, the session token among them.
fn first_paragraph(message: &str) -> &str {
    let end = message.find("\n\n").unwrap_or(message.len());
    cut(message.get(..end).unwrap_or(message), SHORT_TEXT)
}

/// At most `bytes` bytes of a text, cut between characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// `UserName` as CloudTrail writes it: `userName`.
pub(super) fn lower_first(name: &str) -> Cow<'_, str> {
    match name.as_bytes().first() {
        Some(first) if first.is_ascii_uppercase() => {
            let mut lower = name.to_owned();
            if let Some(head) = lower.get_mut(..1) {
                head.make_ascii_lowercase();
            }
            Cow::Owned(lower)
        }
        _ => Cow::Borrowed(name),
    }
}

/// Whole seconds, as all times of a record but those of answers.
pub(super) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Writes a value, or how large it would have been.
pub(super) fn omit_if_large(json: &mut Json, most: usize, write: impl FnOnce(&mut Json)) {
    let mark = json.mark();
    write(json);
    let size = json.since(mark);
    if size > most {
        json.rewind(mark);
        json.open(b'{');
        json.literal_field("omitted", "true");
        json.literal_field("originalSize", &size.to_string());
        json.field("reason", "the value is too large for a record");
        json.close(b'}');
    }
}
