//! What whoever makes an association is told beside the answer: whether its pods can get credentials at all, and how much of
//! the packed policy size their sessions take (pod identity spec, section 6).

use countersign_arn::Tag;
use countersign_policy::lint::{LintOptions, lint};
use countersign_policy::{Document, PolicyKind};
use countersign_session::pod::ExtraValue;
use countersign_session::{PodTag, SessionPolicies, aws_tag_percent, packed_policy_percent};
use countersign_store::RoleEntry;
use countersign_store::records::{Cluster, PodIdentityAssociation, is_pattern};

use super::pod_sessions::labelled;
use super::pod_trust::{PodSubject, PodTrust, SERVICE};
use crate::aws::ApiError;
use crate::aws::conditions::organization_of;
use crate::aws::operation::Call;
use crate::aws::sts::minified;

/// The longest name of a pod, and the longest that controllers give.
const LONGEST_POD_NAME: usize = 253;
const USUAL_POD_NAME: usize = 63;
/// The longest names of namespaces and service accounts, and the longest value of a label.
const LONGEST_NAMESPACE: usize = 63;
const LONGEST_SERVICE_ACCOUNT: usize = 253;
const LONGEST_LABEL: usize = 63;
/// The longest name that people give to a service account whose name a pattern leaves open.
const USUAL_SERVICE_ACCOUNT: usize = 63;
/// Characters of a pod's uid.
const POD_UID: usize = 36;
/// What a role that is assumed with a few tags of its own takes of AWS's packed policy size, as users told: six tags took 74%
/// and a chained role 112%.
const OWN_TAGS_PERCENT: usize = 38;
/// What the lint of policies says of a condition on the uid of a pod.
const POD_UID_CODE: &str = "POD_UID_CONDITION";
/// Seconds that a role allows unless somebody raised its `MaxSessionDuration`.
const USUAL_ROLE_SECONDS: u32 = 3600;

/// Warns about an association that was made or changed. `role` is nothing for one that only AWS knows.
pub(super) fn advise(
    call: &Call<'_>,
    cluster: &Cluster,
    association: &PodIdentityAssociation,
    role: Option<&RoleEntry>,
) {
    let arn = &association.role_arn;
    match role {
        None => call.warn(format!(
            "the trust policy of {arn} was not checked, as AWS keeps it: it must let {SERVICE} do sts:AssumeRole and sts:TagSession"
        )),
        Some(role) if is_hopeless(call, cluster, association, role) => call.warn(format!(
            "the conditions of the trust policy of {arn} hold for no pod of {}/{}: they get no credentials until it is changed",
            association.namespace, association.service_account
        )),
        Some(_) => {}
    }
    if role.is_some_and(tests_pod_uid) {
        call.warn(format!(
            "the trust policy of {arn} tests kubernetes-pod-uid, and a pod gets a new uid with every start: test the namespace and \
             the service account"
        ));
    }
    labels(call, cluster, association);
    let seconds = association.sessions.duration_seconds;
    if let Some(seconds) = seconds.filter(|seconds| *seconds > USUAL_ROLE_SECONDS)
        && call.eks_auth.real.is_some()
    {
        call.warn(format!(
            "AWS gives sessions of {seconds} seconds only when MaxSessionDuration of {arn} allows it and the credentials of \
             this server are not those of a role"
        ));
    }
    if association.has_session_tags() {
        for warning in size_of_tags(cluster, association) {
            call.warn(warning);
        }
    } else if let Some(policy) = &association.policy {
        call.warn(size_of_policy(policy));
    }
}

/// Warns that labels which nobody can read keep all pods from their credentials.
fn labels(call: &Call<'_>, cluster: &Cluster, association: &PodIdentityAssociation) {
    let asks = call.issuers.is_some_and(|issuers| issuers.asks(cluster));
    if !asks && let Some(tag) = labelled(&association.sessions).next() {
        call.warn(format!(
            "the tag {} is from a label, and this server knows no API server of cluster {} to read pods from: pods get no \
             credentials until it does",
            tag.key, cluster.name
        ));
    }
}

/// Whether a condition is on the uid of the pod, by the lint of policies.
fn tests_pod_uid(role: &RoleEntry) -> bool {
    let options = LintOptions {
        kind: Some(PolicyKind::Trust),
        ..LintOptions::default()
    };
    let findings = lint(&role.record.trust.document, &options);
    findings.iter().any(|finding| finding.code == POD_UID_CODE)
}

fn is_hopeless(
    call: &Call<'_>,
    cluster: &Cluster,
    association: &PodIdentityAssociation,
    role: &RoleEntry,
) -> bool {
    let Ok(document) = Document::parse(&*role.record.trust.document) else {
        return true;
    };
    let organization = organization_of(&call.snapshot, cluster.account);
    let (tags, open) = if association.has_session_tags() {
        (usual_tags(cluster, association), open_tags(association))
    } else {
        (Vec::new(), Vec::new())
    };
    let trust = PodTrust {
        cluster,
        organization: organization.as_deref(),
        tags: &tags,
        session_name: None,
        now: call.now,
        role,
    };
    trust.is_hopeless(&document, &open)
}

/// The keys of the tags whose values nobody knows before there is a pod.
fn open_tags(association: &PodIdentityAssociation) -> Vec<&str> {
    let sessions = &association.sessions;
    let is_open = |tag: &PodTag| match tag {
        PodTag::ClusterArn | PodTag::ClusterName => false,
        PodTag::Namespace => is_pattern(&association.namespace),
        PodTag::ServiceAccount => is_pattern(&association.service_account),
        PodTag::PodName | PodTag::PodUid => true,
    };
    let six = PodTag::ALL.into_iter();
    let mut open: Vec<&str> = labelled(sessions).map(|tag| &*tag.key).collect();
    for tag in six.filter(|tag| sessions.has(*tag) && is_open(tag)) {
        open.push(tag.key());
    }
    open
}

/// How much of the packed policy size the tags take, with the longest names that there can be.
fn size_of_tags(cluster: &Cluster, association: &PodIdentityAssociation) -> Vec<String> {
    let longest = longest_tags(cluster, association);
    let at_aws = aws_tag_percent(usual_tags(cluster, association).iter());
    let has_pod_name = association.sessions.has(PodTag::PodName);
    let mut told = match packed_policy_percent(&SessionPolicies::default(), longest.iter()) {
        Ok(percent) => {
            let percent = percent.unwrap_or_default();
            let (with, of) = if has_pod_name {
                (
                    format!(", with a pod name of {LONGEST_POD_NAME} characters"),
                    format!(" for one of {USUAL_POD_NAME}"),
                )
            } else {
                (String::new(), String::new())
            };
            vec![format!(
                "session tags take up to {percent}% of the packed policy size{with}; AWS counts about {at_aws}%{of}"
            )]
        }
        Err(refusal) => vec![ApiError::from(refusal).message],
    };
    if at_aws.saturating_add(OWN_TAGS_PERCENT) > 100 {
        told.push(format!(
            "a role that pods assume further gets these tags as well, and AWS leaves it about {}% of the packed policy size: \
             with tags of its own it may be refused as PackedPolicyTooLarge; sessionTags names the tags that are needed",
            100_usize.saturating_sub(at_aws)
        ));
    }
    told
}

fn size_of_policy(policy: &str) -> String {
    let policies = SessionPolicies {
        inline: Some(minified(policy).into()),
        arns: Vec::new(),
    };
    match packed_policy_percent(&policies, std::iter::empty()) {
        Ok(percent) => format!(
            "the session policy takes {}% of the packed policy size",
            percent.unwrap_or_default()
        ),
        Err(refusal) => format!(
            "pods get no credentials with this session policy: {}",
            ApiError::from(refusal).message
        ),
    }
}

/// The tags of a pod with the longest names that Kubernetes takes.
fn longest_tags(cluster: &Cluster, association: &PodIdentityAssociation) -> Vec<Tag> {
    let account = LONGEST_SERVICE_ACCOUNT;
    tags(cluster, association, LONGEST_POD_NAME, account)
}

/// The tags of a pod with the longest names that controllers and people give.
fn usual_tags(cluster: &Cluster, association: &PodIdentityAssociation) -> Vec<Tag> {
    tags(cluster, association, USUAL_POD_NAME, USUAL_SERVICE_ACCOUNT)
}

/// The tags of a pod whose name has so many characters, and that of its service account as many where a pattern leaves it
/// open.
fn tags(
    cluster: &Cluster,
    association: &PodIdentityAssociation,
    pod_name: usize,
    service_account: usize,
) -> Vec<Tag> {
    let name = |name: &str, longest: usize| match name.strip_suffix('*') {
        Some(begin) => {
            let rest = filler(longest.saturating_sub(begin.len()));
            [begin, &*rest].concat()
        }
        None => name.to_owned(),
    };
    let subject = PodSubject {
        cluster,
        namespace: &name(&association.namespace, LONGEST_NAMESPACE),
        service_account: &name(&association.service_account, service_account),
        pod_name: &filler(pod_name),
        pod_uid: &filler(POD_UID),
    };
    let extra = association.sessions.extra_tags.iter().map(|tag| Tag {
        key: tag.key.clone(),
        value: match ExtraValue::of(&tag.value) {
            ExtraValue::Constant(value) => value.into(),
            ExtraValue::Label(_) => filler(LONGEST_LABEL).into(),
        },
    });
    let mut tags = subject.session_tags(&association.sessions);
    tags.extend(extra);
    tags
}

/// Characters that compress as badly as those of any name, and always the same.
fn filler(characters: usize) -> String {
    let mut state = 0x9e37_79b9_u32;
    (0..characters)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            char::from_digit(state % 36, 36).unwrap_or('x')
        })
        .collect()
}
