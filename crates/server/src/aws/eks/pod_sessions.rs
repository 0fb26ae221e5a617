//! What associations say beyond what EKS knows: patterns of names, and names, tags and life of sessions (Pod Identity spec,
//! sections 5.2, 6 and 9). AWS's clients never send any of it.
//!
//! In an update a member that is given and empty (`""`, `[]`, `{}`, 0) takes away what there was, as an empty
//! `targetRoleArn` does.

use countersign_arn::Tag;
use countersign_session::{PodSessions, PodTag};
use countersign_store::PodSessionsChange;
use countersign_store::records::{
    check_namespace, check_namespace_pattern, check_service_account, check_service_account_pattern,
};

use super::describe::{tag_map, text};
use super::invalid;
use crate::aws::ApiError;
use crate::aws::operation::Call;
use crate::aws::query::Member;
use crate::aws::shape::eks_kinds::{EXTRA_SESSION_TAGS, SESSION_TAG_KEYS, TEXT};
use crate::aws::shape::{ANY_INTEGER, Parameter, Place, optional};

pub(super) const NAME_TEMPLATE: Parameter = optional("sessionNameTemplate", TEXT).ours();
pub(super) const SESSION_TAGS: Parameter = optional("sessionTags", SESSION_TAG_KEYS).ours();
pub(super) const EXTRA_TAGS: Parameter = optional("extraSessionTags", EXTRA_SESSION_TAGS).ours();
pub(super) const DURATION: Parameter = optional("durationSeconds", ANY_INTEGER).ours();

/// What a new association says of its sessions. Whether it goes together is checked with the rest.
///
/// # Errors
/// `InvalidParameterException` for what cannot be said at all, and for all of it where extensions are off.
pub(super) fn of_create(call: &Call<'_>) -> Result<PodSessions, ApiError> {
    let given = given(call)?;
    Ok(PodSessions {
        name_template: given.name_template,
        tags: given.tags,
        extra_tags: given.extra_tags.unwrap_or_default(),
        duration_seconds: given.duration_seconds,
    })
}

/// What an update says of them.
///
/// # Errors
/// As [`of_create`].
pub(super) fn of_update(call: &Call<'_>) -> Result<PodSessionsChange, ApiError> {
    given(call)
}

fn given(call: &Call<'_>) -> Result<PodSessionsChange, ApiError> {
    let input = &call.input;
    let mut ours = input
        .iter()
        .filter(|(parameter, _)| parameter.ours && parameter.place == Place::Body);
    if let Some((parameter, _)) = ours.next().filter(|_| !call.eks.extensions) {
        return Err(invalid(format!(
            "The parameter {} is none of EKS's, and podIdentity.extensions is off",
            parameter.name
        )));
    }
    let is_given = |parameter: &Parameter| input.get(parameter.name).is_some();
    let tags = input
        .texts(SESSION_TAGS.name)
        .into_iter()
        .map(str::parse::<PodTag>)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|unknown| invalid(format!("{}: {unknown}", SESSION_TAGS.name)))?;
    let seconds = input
        .integer(DURATION.name)
        // A number out of range stays one.
        .map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
    Ok(PodSessionsChange {
        name_template: input.text(NAME_TEMPLATE.name).map(Into::into),
        tags: is_given(&SESSION_TAGS).then_some(tags),
        extra_tags: is_given(&EXTRA_TAGS).then(|| input.tags(EXTRA_TAGS.name)),
        duration_seconds: seconds,
    })
}

/// Whether the names may be those of an association.
///
/// # Errors
/// EKS's texts, and that for a pattern which cannot be one.
pub(super) fn check_names(
    call: &Call<'_>,
    namespace: &str,
    service_account: &str,
) -> Result<(), ApiError> {
    let patterns = call.eks.extensions;
    let names = [
        (NAMESPACE, namespace, check_namespace(namespace).is_ok()),
        (
            SERVICE_ACCOUNT,
            service_account,
            check_service_account(service_account).is_ok(),
        ),
    ];
    for (name, value, is_name) in names {
        if is_name {
            continue;
        }
        if !patterns || !value.contains('*') {
            return Err(name.malformed(value));
        }
        let checked = if name.parameter == NAMESPACE.parameter {
            check_namespace_pattern(value)
        } else {
            check_service_account_pattern(value)
        };
        checked.map_err(|_| {
            invalid(format!(
                "The parameter {} is no pattern. A pattern is the beginning of a name and one * at its end, at most {} characters",
                name.parameter, name.most
            ))
        })?;
    }
    Ok(())
}

/// How EKS describes a name.
#[derive(Clone, Copy)]
struct NameRule {
    parameter: &'static str,
    most: usize,
    pattern: &'static str,
}

const NAMESPACE: NameRule = NameRule {
    parameter: "namespace",
    most: 63,
    pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
};
const SERVICE_ACCOUNT: NameRule = NameRule {
    parameter: "serviceAccount",
    most: 253,
    pattern: r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
};

impl NameRule {
    /// EKS's text for a name that Kubernetes would not take; one that is only too long has another.
    fn malformed(self, value: &str) -> ApiError {
        let Self {
            parameter,
            most,
            pattern,
        } = self;
        let is_too_long = value.len() > most && {
            let cut = value.get(..most).unwrap_or_default();
            check_service_account(cut.trim_end_matches(['-', '.'])).is_ok()
        };
        if is_too_long {
            return invalid(format!(
                "The parameter {parameter} must have at most {most} characters"
            ));
        }
        invalid(format!(
            "The parameter {parameter} contains invalid characters. It should conform to the regular expression {pattern}"
        ))
    }
}

/// How answers show it: only what was said.
pub(super) fn members(sessions: &PodSessions) -> Vec<(&'static str, Member)> {
    let mut members = Vec::new();
    let template = sessions.name_template.as_deref();
    members.extend(template.map(|template| (NAME_TEMPLATE.name, text(template))));
    members.extend(sessions.tags.as_ref().map(|tags| {
        let tags = tags.iter().map(|tag| text(tag.key())).collect();
        (SESSION_TAGS.name, Member::List(tags))
    }));
    if !sessions.extra_tags.is_empty() {
        members.push((EXTRA_TAGS.name, tag_map(&sessions.extra_tags)));
    }
    let seconds = sessions.duration_seconds;
    members.extend(seconds.map(|seconds| (DURATION.name, Member::Number(seconds.into()))));
    members
}

/// The tags of sessions whose values come from the pod's labels.
pub(super) fn labelled(sessions: &PodSessions) -> impl Iterator<Item = &Tag> {
    use countersign_session::pod::ExtraValue;
    sessions
        .extra_tags
        .iter()
        .filter(|tag| matches!(ExtraValue::of(&tag.value), ExtraValue::Label(_)))
}
