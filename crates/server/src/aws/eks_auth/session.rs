//! What a pod's session is called and tagged with (EKS API spec, section 11; Pod Identity spec, sections 5.2 and 6).

use std::collections::BTreeMap;

use countersign_arn::Tag;
use countersign_session::pod::{ExtraValue, NameTemplate, PodNames};
use countersign_store::records::{Cluster, PodIdentityAssociation};

use super::error::Refusal;
use super::token::Pod;
use crate::aws::operation::Call;
use crate::issuer::LabelsUnknown;

/// Characters of the cluster's and of the pod's name that a session name keeps: with `eks-`, two dashes and a UUID the name
/// has 62 characters at most, of the 64 that STS takes. How EKS shortens them is not known.
const KEPT: usize = 10;

/// The name of a session: by the template of the association, else EKS's.
///
/// # Errors
/// `InternalServerException` for a template that was never taken.
pub(super) fn name_of(
    cluster: &Cluster,
    association: &PodIdentityAssociation,
    pod: &Pod<'_>,
    random: [u8; 16],
) -> Result<String, Refusal> {
    let uuid = uuid_of(random);
    let Some(template) = &association.sessions.name_template else {
        return Ok(session_name(&cluster.name, pod.name, &uuid));
    };
    let template = NameTemplate::parse(template).map_err(|error| {
        tracing::error!(association = &*association.id, %error, "an association has no usable template of session names");
        Refusal::Internal
    })?;
    Ok(template.render(&PodNames {
        cluster: &cluster.name,
        namespace: pod.namespace,
        service_account: pod.service_account,
        pod: pod.name,
        pod_uid: pod.uid,
        uuid: &uuid,
    }))
}

/// The association's own tags of a session. The API server is asked when one is from a label, and for nothing else.
///
/// # Errors
/// `ServiceUnavailableException` when the labels are not known at the moment: no session goes without a tag that it should
/// have. `InvalidRequestException` for a pod without the label, `InvalidTokenException` for one that is gone.
pub(super) async fn extra_tags(
    call: &Call<'_>,
    cluster: &Cluster,
    association: &PodIdentityAssociation,
    pod: &Pod<'_>,
) -> Result<Vec<Tag>, Refusal> {
    let sessions = &association.sessions;
    if !association.has_session_tags() || sessions.extra_tags.is_empty() {
        return Ok(Vec::new());
    }
    let labels = if sessions.labels().next().is_some() {
        let issuers = call.issuers.ok_or(NO_LABELS)?;
        let names = (pod.namespace, pod.name, pod.uid);
        let asked = issuers.pod_labels(cluster, names).await;
        asked.map_err(|unknown| match unknown {
            LabelsUnknown::Gone => Refusal::InvalidToken("its pod is gone".to_owned()),
            LabelsUnknown::Unread(reason) => {
                tracing::warn!(
                    request_id = call.request_id,
                    cluster = &*cluster.name,
                    reason,
                    "the labels of a pod cannot be read"
                );
                NO_LABELS
            }
        })?
    } else {
        BTreeMap::new()
    };
    let tag = |Tag { key, value }: &Tag| {
        let value = match ExtraValue::of(value) {
            ExtraValue::Constant(value) => value.into(),
            ExtraValue::Label(label) => match labels.get(label) {
                Some(value) => value.as_str().into(),
                None => {
                    return Err(Refusal::Unusable(format!(
                        "The pod has no label {label}, which the session tag {key} is from."
                    )));
                }
            },
        };
        Ok(Tag {
            key: key.clone(),
            value,
        })
    };
    sessions.extra_tags.iter().map(tag).collect()
}

/// The labels of the pod are not known.
const NO_LABELS: Refusal = Refusal::Unavailable(
    "The labels of the pod, which its session tags are from, cannot be read at the moment.",
);

/// `eks-CLUSTER-POD-UUID`, with what STS takes in no session name replaced by dashes.
pub(super) fn session_name(cluster: &str, pod: &str, uuid: &str) -> String {
    let cut = |text: &str| -> String {
        text.chars()
            .take(KEPT)
            .map(|c| {
                let taken = c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
                if taken { c } else { '-' }
            })
            .collect()
    };
    format!("eks-{}-{}-{uuid}", cut(cluster), cut(pod))
}

/// A random UUID (RFC 9562, version 4) from 16 random bytes.
pub(super) fn uuid_of(random: [u8; 16]) -> String {
    let bits = (u128::from_be_bytes(random) & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (2 << 62);
    let field = |shift: u32, digits: u32| (bits >> shift) & ((1 << (4 * digits)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        field(96, 8),
        field(80, 4),
        field(64, 4),
        field(48, 4),
        field(0, 12)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b";

    #[test]
    fn session_names_have_cluster_pod_and_uuid_and_fit() {
        let cases = [
            (
                "orchard",
                "picker-0",
                format!("eks-orchard-picker-0-{UUID}"),
            ),
            ("c1", "worker-7f9d-x2", format!("eks-c1-worker-7f9-{UUID}")),
            (
                "production-eu-west-1-blue",
                "payments-worker-5f6d8c9b7-abcde",
                format!("eks-production-payments-w-{UUID}"),
            ),
            ("a", "web.example.com", format!("eks-a-web.exampl-{UUID}")),
            ("\u{e4}/b", "p\u{1f600}d *", format!("eks---b-p-d---{UUID}")),
        ];
        for (cluster, pod, expected) in cases {
            let name = session_name(cluster, pod, UUID);
            assert_eq!(name, expected);
            assert!(countersign_arn::is_session_name(&name), "{name}");
        }
    }

    #[test]
    fn uuids_are_of_version_4() {
        assert_eq!(uuid_of([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_of([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let counted: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).unwrap_or(0));
        assert_eq!(uuid_of(counted), "00010203-0405-4607-8809-0a0b0c0d0e0f");
    }
}
