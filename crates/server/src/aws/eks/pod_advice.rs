//! What whoever makes an association is told beside the answer: whether its pods can get credentials at all, and how much of
//! the packed policy size their sessions take (pod identity spec, section 6).

use countersign_arn::Tag;
use countersign_policy::Document;
use countersign_session::{SessionPolicies, aws_tag_percent, packed_policy_percent};
use countersign_store::RoleEntry;
use countersign_store::records::{Cluster, PodIdentityAssociation};

use super::pod_trust::{PodSubject, PodTrust, SERVICE};
use crate::aws::ApiError;
use crate::aws::conditions::organization_of;
use crate::aws::operation::Call;
use crate::aws::sts::minified;

/// The longest name of a pod, and the longest that controllers give.
const LONGEST_POD_NAME: usize = 253;
const USUAL_POD_NAME: usize = 63;
/// Characters of a pod's uid.
const POD_UID: usize = 36;

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
    call.warn(if association.has_session_tags() {
        size_of_tags(cluster, association)
    } else if let Some(policy) = &association.policy {
        size_of_policy(policy)
    } else {
        return;
    });
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
    let tags = if association.has_session_tags() {
        tags(cluster, association, USUAL_POD_NAME).to_vec()
    } else {
        Vec::new()
    };
    let trust = PodTrust {
        cluster,
        organization: organization.as_deref(),
        tags: &tags,
        session_name: None,
        now: call.now,
        role,
    };
    trust.is_hopeless(&document)
}

fn size_of_tags(cluster: &Cluster, association: &PodIdentityAssociation) -> String {
    let longest = tags(cluster, association, LONGEST_POD_NAME);
    let usual = tags(cluster, association, USUAL_POD_NAME);
    let at_aws = aws_tag_percent(usual.iter());
    match packed_policy_percent(&SessionPolicies::default(), longest.iter()) {
        Ok(percent) => format!(
            "session tags take up to {}% of the packed policy size, with a pod name of {LONGEST_POD_NAME} characters; \
             AWS counts about {at_aws}% for one of {USUAL_POD_NAME}",
            percent.unwrap_or_default()
        ),
        Err(refusal) => ApiError::from(refusal).message,
    }
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

/// The tags of a pod whose name has so many characters.
fn tags(cluster: &Cluster, association: &PodIdentityAssociation, characters: usize) -> [Tag; 6] {
    let subject = PodSubject {
        cluster,
        namespace: &association.namespace,
        service_account: &association.service_account,
        pod_name: &filler(characters),
        pod_uid: &filler(POD_UID),
    };
    subject.session_tags()
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
