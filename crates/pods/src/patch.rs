//! JSON Patch (RFC 6902) that only adds (webhook spec, section 7).

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use serde_json::value::RawValue;

use crate::profiles::{CONFIG_ANNOTATION, CONFIG_FIELD, CONFIG_FILE};

/// A longer patch is refused. A pod that grew by this much could be stored by no API server, whose limit for a whole
/// object is 1.5 MiB.
pub const MAX_PATCH_BYTES: usize = 4 << 20;

/// One operation. Its `op` is always `add`: on a list it inserts, on a member it sets.
#[derive(Debug)]
pub struct Operation<'a> {
    /// Where.
    pub path: Path,
    /// What.
    pub value: Value<'a>,
}

/// The lists of containers a pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerList {
    /// `spec.initContainers`, sidecars among them.
    InitContainers,
    /// `spec.containers`.
    Containers,
    /// `spec.ephemeralContainers`.
    EphemeralContainers,
}

/// The places a patch can name. `-` is the end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// `/metadata`
    Metadata,
    /// `/metadata/labels`
    Labels,
    /// `/metadata/labels/eks.amazonaws.com~1pod-identity`
    PodIdentityLabel,
    /// `/metadata/annotations`
    Annotations,
    /// `/metadata/annotations/eks.amazonaws.com~1aws-config`
    ConfigAnnotation,
    /// `/spec/securityContext`
    SecurityContext,
    /// `/spec/securityContext/fsGroup`
    FsGroup,
    /// `/spec/volumes`
    Volumes,
    /// `/spec/volumes/0`
    FirstVolume,
    /// `/spec/<list>`
    List(ContainerList),
    /// `/spec/<list>/<index>/env`
    Env(ContainerList, usize),
    /// `/spec/<list>/<index>/env/-`
    LastEnv(ContainerList, usize),
    /// `/spec/<list>/<index>/volumeMounts`
    VolumeMounts(ContainerList, usize),
    /// `/spec/<list>/<index>/volumeMounts/-`
    LastVolumeMount(ContainerList, usize),
}

/// What a patch can add.
#[derive(Debug)]
pub enum Value<'a> {
    /// An object that holds the labels.
    Metadata,
    /// An object with the label.
    Labels,
    /// The label's value.
    Enabled,
    /// An object that holds the annotations.
    AnnotatedMetadata(Str<'a>),
    /// An object with the annotation.
    Annotations(Str<'a>),
    /// The annotation's value.
    Annotation(Str<'a>),
    /// An object with the group.
    SecurityContext(i64),
    /// The group.
    FsGroup(i64),
    /// A list with the volume.
    Volumes(TokenVolume<'a>),
    /// The volume.
    Volume(TokenVolume<'a>),
    /// Variables of a container that had none.
    Env(Vec<EnvVar<'a>>),
    /// One more variable.
    EnvVar(EnvVar<'a>),
    /// A list with the mount.
    VolumeMounts(VolumeMount<'a>),
    /// One more mount.
    VolumeMount(VolumeMount<'a>),
    /// A whole list of containers.
    List(Vec<Container<'a>>),
}

/// A volume with one projected service account token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenVolume<'a> {
    /// Name of the volume.
    pub name: &'a str,
    /// Audience of the token.
    pub audience: &'a str,
    /// Lifetime in seconds.
    pub expiration_seconds: u32,
    /// File in the volume.
    pub path: &'a str,
    /// Whether the configuration file with further roles stands beside it.
    pub has_config: bool,
}

/// A variable of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVar<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: EnvValue<'a>,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue<'a> {
    /// Written out.
    Text(Str<'a>),
    /// From a field of the pod, filled in by the kubelet.
    Field(&'static str),
}

/// The mount of a volume, read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount<'a> {
    /// Name of the volume.
    pub name: &'a str,
    /// Where it is mounted.
    pub mount_path: &'a str,
}

/// A container of a list that is written as a whole: the text it had, or that text with additions.
#[derive(Debug)]
pub enum Container<'a> {
    /// As it was.
    Kept(&'a RawValue),
    /// With additions.
    Filled(Box<RawValue>),
}

/// A text, borrowed from the input or shared between all variables that hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Str<'a> {
    /// From the input or the configuration.
    Borrowed(&'a str),
    /// Made for this decision.
    Shared(Arc<str>),
}

/// The patch is longer than [`MAX_PATCH_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// The operations as JSON text.
pub(crate) fn to_json(operations: &[Operation<'_>]) -> Result<Vec<u8>, TooLong> {
    let mut writer = Limited(Vec::with_capacity(1024));
    serde_json::to_writer(&mut writer, operations).map_err(|_| TooLong)?;
    Ok(writer.0)
}

struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_PATCH_BYTES.saturating_sub(self.0.len()) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Str ===

impl Str<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

// === impl ContainerList ===

impl ContainerList {
    /// Name of the member of `spec`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InitContainers => "initContainers",
            Self::Containers => "containers",
            Self::EphemeralContainers => "ephemeralContainers",
        }
    }
}

impl fmt::Display for ContainerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Path ===

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata => f.write_str("/metadata"),
            Self::Labels => f.write_str("/metadata/labels"),
            Self::PodIdentityLabel => {
                f.write_str("/metadata/labels/eks.amazonaws.com~1pod-identity")
            }
            Self::Annotations => f.write_str("/metadata/annotations"),
            Self::ConfigAnnotation => {
                f.write_str("/metadata/annotations/eks.amazonaws.com~1aws-config")
            }
            Self::SecurityContext => f.write_str("/spec/securityContext"),
            Self::FsGroup => f.write_str("/spec/securityContext/fsGroup"),
            Self::Volumes => f.write_str("/spec/volumes"),
            Self::FirstVolume => f.write_str("/spec/volumes/0"),
            Self::List(list) => write!(f, "/spec/{list}"),
            Self::Env(list, index) => write!(f, "/spec/{list}/{index}/env"),
            Self::LastEnv(list, index) => write!(f, "/spec/{list}/{index}/env/-"),
            Self::VolumeMounts(list, index) => write!(f, "/spec/{list}/{index}/volumeMounts"),
            Self::LastVolumeMount(list, index) => write!(f, "/spec/{list}/{index}/volumeMounts/-"),
        }
    }
}

// === Serialize ===

impl Serialize for Operation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut operation = serializer.serialize_struct("Operation", 3)?;
        operation.serialize_field("op", "add")?;
        operation.serialize_field("path", &self.path)?;
        operation.serialize_field("value", &self.value)?;
        operation.end()
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An object of one member.
struct One<'a, V>(&'static str, &'a V);

impl<V: Serialize> Serialize for One<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let labels = One(crate::webhook::POD_IDENTITY_LABEL, &"enabled");
        match self {
            Self::Metadata => One("labels", &labels).serialize(serializer),
            Self::Labels => labels.serialize(serializer),
            Self::Enabled => serializer.serialize_str("enabled"),
            Self::AnnotatedMetadata(text) => {
                let annotation = One(CONFIG_ANNOTATION, text);
                One("annotations", &annotation).serialize(serializer)
            }
            Self::Annotations(text) => One(CONFIG_ANNOTATION, text).serialize(serializer),
            Self::Annotation(text) => text.serialize(serializer),
            Self::SecurityContext(group) => One("fsGroup", group).serialize(serializer),
            Self::FsGroup(group) => serializer.serialize_i64(*group),
            Self::Volumes(volume) => [volume].serialize(serializer),
            Self::Volume(volume) => volume.serialize(serializer),
            Self::Env(variables) => variables.serialize(serializer),
            Self::EnvVar(variable) => variable.serialize(serializer),
            Self::VolumeMounts(mount) => [mount].serialize(serializer),
            Self::VolumeMount(mount) => mount.serialize(serializer),
            Self::List(containers) => {
                let mut list = serializer.serialize_seq(Some(containers.len()))?;
                for container in containers {
                    match container {
                        Container::Kept(raw) => list.serialize_element(raw)?,
                        Container::Filled(raw) => list.serialize_element(raw)?,
                    }
                }
                list.end()
            }
        }
    }
}

impl Serialize for TokenVolume<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut volume = serializer.serialize_struct("Volume", 2)?;
        volume.serialize_field("name", self.name)?;
        volume.serialize_field("projected", &One("sources", &Sources(self)))?;
        volume.end()
    }
}

struct Sources<'a>(&'a TokenVolume<'a>);

impl Serialize for Sources<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let count = 1 + usize::from(self.0.has_config);
        let mut sources = serializer.serialize_seq(Some(count))?;
        sources.serialize_element(&One("serviceAccountToken", &Token(self.0)))?;
        if self.0.has_config {
            let items = One("items", &[ConfigItem]);
            sources.serialize_element(&One("downwardAPI", &items))?;
        }
        sources.end()
    }
}

struct ConfigItem;

impl Serialize for ConfigItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut item = serializer.serialize_struct("DownwardAPIVolumeFile", 2)?;
        item.serialize_field("path", CONFIG_FILE)?;
        item.serialize_field("fieldRef", &One("fieldPath", &CONFIG_FIELD))?;
        item.end()
    }
}

impl Serialize for Str<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

struct Token<'a>(&'a TokenVolume<'a>);

impl Serialize for Token<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut token = serializer.serialize_struct("ServiceAccountToken", 3)?;
        token.serialize_field("audience", self.0.audience)?;
        token.serialize_field("expirationSeconds", &self.0.expiration_seconds)?;
        token.serialize_field("path", self.0.path)?;
        token.end()
    }
}

impl Serialize for EnvVar<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut variable = serializer.serialize_struct("EnvVar", 2)?;
        variable.serialize_field("name", self.name)?;
        match &self.value {
            EnvValue::Text(text) => variable.serialize_field("value", text.as_str())?,
            EnvValue::Field(path) => {
                let field = One("fieldPath", path);
                variable.serialize_field("valueFrom", &One("fieldRef", &field))?;
            }
        }
        variable.end()
    }
}

impl Serialize for VolumeMount<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut mount = serializer.serialize_struct("VolumeMount", 3)?;
        mount.serialize_field("name", self.name)?;
        mount.serialize_field("readOnly", &true)?;
        mount.serialize_field("mountPath", self.mount_path)?;
        mount.end()
    }
}
