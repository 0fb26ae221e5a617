//! What is to be done so that associations and objects agree. A function of both; nothing is read or written here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use countersign_arn::Tag;
use countersign_pods::{
    AllowList, AssociationSpec, Contender, NotAllowed, merge_patch, older_wins,
};
use countersign_session::{PodSessions, PodTag};
use countersign_sources::kubernetes::{AssociationObject, ObjectName};
use countersign_store::NewPodIdentityAssociation;
use countersign_store::records::{Cluster, PodIdentityAssociation, object_owner, owning_object};
use serde_json::Value;

use crate::aws::ObjectRefusal;

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its association is in force.
    Accepted { id: Box<str>, arn: String },
    /// Its association is about to be made or changed.
    Pending,
    /// It shows an association of the EKS API.
    Mirrored { id: Box<str>, arn: String },
    /// Something older counts in its place.
    Conflict { with: String },
    /// It gives nothing.
    Refused(ObjectRefusal),
}

/// An association to make, or to change into what its object says.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) object: Arc<AssociationObject>,
    pub(super) new: NewPodIdentityAssociation,
}

/// An association whose object is gone, or gives nothing any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) id: Box<str>,
    pub(super) owner: Box<str>,
    pub(super) object: ObjectName,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) puts: Vec<Put>,
    pub(super) gone: Vec<Gone>,
    pub(super) verdicts: BTreeMap<ObjectName, Verdict>,
    /// Objects to make, with their specs.
    pub(super) new_mirrors: Vec<(ObjectName, Value)>,
    /// Objects that somebody edited, with what puts their specs right, if these are wrong.
    pub(super) edited_mirrors: Vec<(Arc<AssociationObject>, Option<Value>)>,
    /// Objects that show what is not there any more.
    pub(super) old_mirrors: Vec<Arc<AssociationObject>>,
}

/// What is known.
pub(super) struct Inputs<'a> {
    pub(super) cluster: &'a Cluster,
    /// All associations of the cluster.
    pub(super) associations: &'a [&'a PodIdentityAssociation],
    /// All objects of the cluster.
    pub(super) objects: &'a BTreeMap<ObjectName, Arc<AssociationObject>>,
    pub(super) allow: &'a AllowList,
    /// Whether associations are shown as objects.
    pub(super) mirror: bool,
    /// The checks of a new association but for who may give which role.
    pub(super) check: &'a dyn Fn(&NewPodIdentityAssociation) -> Result<(), ObjectRefusal>,
}

/// Decides.
///
/// An association that is in force and belongs to no object is older than every object, whenever that was made: an object never takes
/// a service account over from the EKS API. Among objects those that give nothing do not take part, so that a broken old one
/// does not keep a sound new one from counting.
pub(super) fn plan(inputs: &Inputs<'_>) -> Plan {
    let mut plan = Plan::default();
    let by_subject: HashMap<(&str, &str), &PodIdentityAssociation> = inputs
        .associations
        .iter()
        .map(|record| ((&*record.namespace, &*record.service_account), *record))
        .collect();
    let shown: HashMap<ObjectName, &PodIdentityAssociation> = inputs
        .associations
        .iter()
        .filter(|record| inputs.mirror && !record.is_of_object() && can_be_shown(record))
        .map(|record| ((record.namespace.clone(), record.id.clone()), *record))
        .collect();

    let mut asking: Vec<(&Arc<AssociationObject>, NewPodIdentityAssociation)> = Vec::new();
    for (key, object) in inputs.objects {
        if let Some(record) = shown.get(key) {
            if !object.deleting {
                plan.show(inputs.cluster, object, record);
            }
        } else if object.is_labelled_mirror && is_id(&object.name) {
            if !object.deleting {
                plan.old_mirrors.push(Arc::clone(object));
            }
        } else if !object.deleting {
            match asked(inputs, object, &by_subject) {
                Ok(new) => asking.push((object, new)),
                Err(refusal) => {
                    plan.verdicts.insert(key.clone(), Verdict::Refused(refusal));
                }
            }
        }
    }
    plan.settle(inputs, &asking, &by_subject);
    plan.new_mirrors = shown
        .iter()
        .filter(|(key, _)| !inputs.objects.contains_key(*key))
        .map(|(key, record)| (key.clone(), spec_of(record)))
        .collect();
    plan.new_mirrors.sort_by(|(a, _), (b, _)| a.cmp(b));
    plan
}

impl Plan {
    /// An object that shows an association.
    fn show(
        &mut self,
        cluster: &Cluster,
        object: &Arc<AssociationObject>,
        record: &PodIdentityAssociation,
    ) {
        let wanted = spec_of(record);
        let patch = if object.spec.is_ok() {
            merge_patch(&object.written, &wanted)
        } else {
            // What stands there is not known; it cannot be much that the schema lets through.
            Some(all_members(&wanted))
        };
        if patch.is_some() || !object.is_labelled_mirror {
            self.edited_mirrors.push((Arc::clone(object), patch));
        }
        let mirrored = Verdict::Mirrored {
            id: record.id.clone(),
            arn: record.arn(cluster),
        };
        self.verdicts.insert(object.key(), mirrored);
    }

    /// Which of the sound objects count.
    fn settle(
        &mut self,
        inputs: &Inputs<'_>,
        asking: &[(&Arc<AssociationObject>, NewPodIdentityAssociation)],
        by_subject: &HashMap<(&str, &str), &PodIdentityAssociation>,
    ) {
        let contenders: Vec<Contender<'_>> = asking
            .iter()
            .map(|(object, new)| Contender {
                namespace: &object.namespace,
                name: &object.name,
                service_account: &new.service_account,
                created: object.created,
            })
            .collect();
        let mut kept: HashSet<&str> = HashSet::new();
        for ((object, new), winner) in asking.iter().zip(older_wins(&contenders)) {
            let known = by_subject.get(&(&*new.namespace, &*new.service_account));
            let verdict = match (known, winner) {
                (Some(known), _) if !known.is_of_object() => Verdict::Conflict {
                    with: match &known.owner_arn {
                        None => format!("the association {} of the EKS API", known.id),
                        Some(owner) => format!("the association {} of {owner}", known.id),
                    },
                },
                (_, Some(winner)) => Verdict::Conflict {
                    with: format!("the older object {}", winner.name),
                },
                (Some(known), None) if known.says(new) => {
                    kept.insert(&known.id);
                    Verdict::Accepted {
                        id: known.id.clone(),
                        arn: known.arn(inputs.cluster),
                    }
                }
                (known, None) => {
                    kept.extend(known.map(|known| &*known.id));
                    self.puts.push(Put {
                        object: Arc::clone(object),
                        new: new.clone(),
                    });
                    Verdict::Pending
                }
            };
            self.verdicts.insert(object.key(), verdict);
        }
        self.gone = inputs
            .associations
            .iter()
            .filter(|record| !kept.contains(&*record.id))
            .filter_map(|record| {
                let owner = record.owner_arn.as_ref()?;
                let (namespace, name) = owning_object(owner)?;
                Some(Gone {
                    id: record.id.clone(),
                    owner: owner.clone(),
                    object: (namespace.into(), name.into()),
                })
            })
            .collect();
    }
}

/// The association that an object asks for, if it may.
fn asked(
    inputs: &Inputs<'_>,
    object: &AssociationObject,
    by_subject: &HashMap<(&str, &str), &PodIdentityAssociation>,
) -> Result<NewPodIdentityAssociation, ObjectRefusal> {
    let spec = object
        .spec
        .as_ref()
        .map_err(|error| ObjectRefusal::invalid(error.as_str()))?;
    inputs
        .allow
        .check(&object.namespace, spec)
        .map_err(|refused| {
            let (reason, member) = match refused {
                NotAllowed::Role => ("RoleNotAllowed", "roleArn"),
                NotAllowed::TargetRole => ("TargetRoleNotAllowed", "targetRoleArn"),
                NotAllowed::ExtraTag => ("ExtraSessionTagNotAllowed", "extraSessionTags"),
            };
            ObjectRefusal::new(reason, format!(
                "the operator's list (`podIdentityAssociations.allow`) does not allow `spec.{member}` in this namespace"
            ))
        })?;
    let new = NewPodIdentityAssociation {
        namespace: object.namespace.clone(),
        service_account: spec.service_account.clone(),
        role_arn: spec.role_arn.clone(),
        target_role_arn: spec.target_role_arn.clone(),
        disable_session_tags: spec.disable_session_tags,
        policy: spec.policy.clone(),
        owner_arn: Some(object_owner(inputs.cluster, &object.namespace, &object.name).into()),
        sessions: sessions_of(spec)?,
        tags: tags_of(&spec.tags),
    };
    // As with EKS, what is checked is the making: a role that trusts nobody any more gives nothing by itself.
    let is_so = by_subject
        .get(&(&*new.namespace, &*new.service_account))
        .is_some_and(|known| known.says(&new));
    if !is_so {
        (inputs.check)(&new)?;
    }
    Ok(new)
}

/// What an object says of sessions beyond what EKS knows.
fn sessions_of(spec: &AssociationSpec) -> Result<PodSessions, ObjectRefusal> {
    let invalid = |message: String| ObjectRefusal::invalid(message);
    let tags = spec.session_tags.as_ref().map(|tags| {
        let tags = tags.iter().map(|tag| tag.parse::<PodTag>());
        tags.collect::<Result<Vec<_>, _>>()
    });
    let sessions = PodSessions {
        name_template: spec.session_name_template.clone(),
        tags: tags
            .transpose()
            .map_err(|error| invalid(error.to_string()))?,
        extra_tags: tags_of(&spec.extra_session_tags),
        duration_seconds: spec.duration_seconds,
    };
    let has_no_tags = spec.disable_session_tags == Some(true);
    sessions
        .check(has_no_tags, spec.target_role_arn.is_some())
        .map_err(|error| invalid(error.to_string()))?;
    Ok(sessions)
}

fn tags_of(tags: &BTreeMap<Box<str>, Box<str>>) -> Vec<Tag> {
    tags.iter()
        .map(|(key, value)| Tag {
            key: key.clone(),
            value: value.clone(),
        })
        .collect()
}

fn map_of(tags: &[Tag]) -> BTreeMap<Box<str>, Box<str>> {
    tags.iter()
        .map(|tag| (tag.key.clone(), tag.value.clone()))
        .collect()
}

/// Whether an association can be an object: it is of one namespace and one service account.
fn can_be_shown(record: &PodIdentityAssociation) -> bool {
    !record.has_patterns()
}

/// The `spec` that shows an association.
fn spec_of(record: &PodIdentityAssociation) -> Value {
    let spec = AssociationSpec {
        service_account: record.service_account.clone(),
        role_arn: record.role_arn.clone(),
        target_role_arn: record.target_role_arn.clone(),
        disable_session_tags: record.disable_session_tags,
        policy: record.policy.clone(),
        session_name_template: record.sessions.name_template.clone(),
        session_tags: record.sessions.tags.as_ref().map(|tags| {
            let keys = tags.iter().map(|tag| tag.key().into());
            keys.collect()
        }),
        extra_session_tags: map_of(&record.sessions.extra_tags),
        duration_seconds: record.sessions.duration_seconds,
        tags: map_of(&record.tags),
    };
    serde_json::to_value(&spec).unwrap_or_default()
}

/// A merge patch that leaves nothing of what stood there: every member that a spec can have is named.
fn all_members(wanted: &Value) -> Value {
    let mut patch = wanted.clone();
    if let Some(members) = patch.as_object_mut() {
        for name in [
            "targetRoleArn",
            "disableSessionTags",
            "policy",
            "sessionNameTemplate",
            "sessionTags",
            "extraSessionTags",
            "durationSeconds",
            "tags",
        ] {
            members.entry(name).or_insert(Value::Null);
        }
    }
    patch
}

/// Whether a name is the id of an association: `a-` and 17 lower-case letters or digits.
fn is_id(name: &str) -> bool {
    name.strip_prefix("a-").is_some_and(|rest| {
        rest.len() == 17
            && rest
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}
