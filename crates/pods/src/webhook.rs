//! From a request and what is known about its account to the decision (webhook spec, sections 4 to 7).

use std::collections::HashSet;

use crate::account::AccountSettings;
use crate::container::{Additions, ContainerOutcome, ContainerPlan, Injection, Pair};
use crate::credentials::windows_sign;
use crate::decision::{
    AssociationFact, Credentials, Decision, Mode, Outcome, Patch, Refusal, Unmodified,
    VolumeOutcome,
};
use crate::json::Object;
use crate::note::{FsGroupIgnored, Note, Notes, ProfilesIgnored};
use crate::options::{Options, OptionsError, PatchStyle};
use crate::patch::{self, ContainerList, Operation, Path, Str, TokenVolume, TooLong, Value};
use crate::pod::{Container, Containers, Pod, Spec, Volume};
use crate::profiles::{self, CONFIG_ANNOTATION, CONFIG_FIELD, CONFIG_FILE};
use crate::replace;
use crate::review::{AccountKey, Review, Subject};
use crate::role_map::{Association, RoleMapEntry};
use crate::skip::SkipList;
use crate::table::Found;

/// Name of the token volume in IRSA mode.
pub const IRSA_VOLUME: &str = "aws-iam-token";
/// Name of the token file in IRSA mode.
pub const IRSA_TOKEN_FILE: &str = "token";
/// Label of pods in container mode; its value is `enabled`. It does not follow the prefix of the annotations.
pub const POD_IDENTITY_LABEL: &str = "eks.amazonaws.com/pod-identity";
/// Label that keeps a pod from being sent to the webhook; a pod that comes nonetheless is left alone.
pub const SKIP_LABEL: &str = "eks.amazonaws.com/skip-pod-identity-webhook";
/// A pod with more containers or volumes is refused; no API server could store one.
pub const MAX_CONTAINERS: usize = 8192;

const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// The decision, with its options made ready.
#[derive(Debug)]
pub struct Webhook {
    pub(crate) options: Options,
    skip_containers: String,
    pub(crate) token_expiration: String,
    fs_group: String,
    /// Path of the token file by mode, for Unix and for Windows.
    irsa_file: TokenFile,
    container_file: TokenFile,
    /// Path of the configuration file beside the token of IRSA.
    config_file: TokenFile,
}

#[derive(Debug)]
struct TokenFile {
    unix: String,
    windows: String,
}

/// What is known about the account of a request. Looked up beforehand, so that the decision itself is a pure function.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The service account.
    pub account: AccountFact<'a>,
    /// Its association, from the store or from the identities file.
    pub association: Option<AssociationFact<'a>>,
    /// What the ConfigMap says about it.
    pub role_map: Option<Found<'a, RoleMapEntry>>,
    /// A random number, for lifetimes that are drawn.
    pub random: u64,
}

/// What is known about a service account itself.
#[derive(Debug, Clone, Copy)]
pub enum AccountFact<'a> {
    /// It exists.
    Known(&'a AccountSettings),
    /// The API server says that it does not exist.
    Missing,
    /// It could not be asked for.
    Unread,
}

impl Facts<'_> {
    /// Nothing is known: for requests that are not about a pod.
    pub const NOTHING: Self = Self {
        account: AccountFact::Missing,
        association: None,
        role_map: None,
        random: 0,
    };
}

impl<'a> AssociationFact<'a> {
    /// What was found in a table of associations.
    pub fn of(found: Found<'a, Association>) -> Self {
        Self {
            id: found.value.id.as_deref(),
            pattern: (!found.is_exact).then_some(found.key),
        }
    }
}

/// A decision under way.
pub(crate) struct Work<'a> {
    pub(crate) webhook: &'a Webhook,
    review: &'a Review<'a>,
    pub(crate) pod: &'a Pod<'a>,
    pub(crate) account: AccountKey<'a>,
    pub(crate) facts: Facts<'a>,
    pub(crate) notes: Notes<'a>,
}

impl Webhook {
    /// Checks the options and makes them ready.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        options.validate()?;
        let key = |name: &str| [&options.annotation_prefix, "/", name].concat();
        Ok(Self {
            skip_containers: key("skip-containers"),
            token_expiration: key("token-expiration"),
            fs_group: key("fs-group"),
            irsa_file: TokenFile::new(&options.token_mount_path, IRSA_TOKEN_FILE),
            config_file: TokenFile::new(&options.token_mount_path, CONFIG_FILE),
            container_file: TokenFile::new(
                &options.container_mount_path,
                &options.container_token_path,
            ),
            options,
        })
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Decides a request. Every operation on a pod is decided like its creation, as in the reference; only those that
    /// carry no object, and those on subresources, are left alone. Linear in the number of containers, variables and mounts of the pod.
    pub fn decide<'a>(&'a self, review: &'a Review<'a>, facts: &Facts<'a>) -> Decision<'a> {
        let mut decision = Decision {
            outcome: Outcome::Unmodified(Unmodified::NoObject),
            account: review.account(),
            credentials: None,
            containers: Vec::new(),
            volume: None,
            notes: Notes::default(),
            patch: None,
        };
        let (pod, account) = match (&review.subject, decision.account) {
            (Subject::Pod(pod), Some(account)) => (pod, account),
            (Subject::Other(kind), _) => {
                decision.notes.add(Note::OtherKind(kind.clone()));
                decision.outcome = Outcome::Unmodified(Unmodified::OtherKind(kind));
                return decision;
            }
            (Subject::Nothing | Subject::Pod(_), _) => return decision,
        };
        let mut work = Work {
            webhook: self,
            review,
            pod,
            account,
            facts: *facts,
            notes: Notes::default(),
        };
        decision.outcome = match work.run(&mut decision) {
            Ok(patch) => {
                decision.patch = Some(patch);
                Outcome::Mutated
            }
            Err(ended) => ended,
        };
        decision.notes = work.notes;
        decision
    }
}

impl TokenFile {
    fn new(mount: &str, file: &str) -> Self {
        let unix = [mount.trim_end_matches('/'), "/", file].concat();
        Self {
            windows: ["C:", &unix.replace('/', "\\")].concat(),
            unix,
        }
    }

    fn on(&self, windows: bool) -> &str {
        if windows { &self.windows } else { &self.unix }
    }
}

impl<'a> Work<'a> {
    fn run(&mut self, decision: &mut Decision<'a>) -> Result<Patch<'a>, Outcome<'a>> {
        let unmodified = |why| Err(Outcome::Unmodified(why));
        let options = &self.webhook.options;
        let is_ephemeral = self.scope()?;
        let Some(spec) = self.pod.spec() else {
            return unmodified(Unmodified::NoContainers);
        };
        let windows = windows_sign(spec);
        let credentials = &*decision
            .credentials
            .insert(self.credentials(spec, windows)?);

        let skip = self.skip_list(spec);
        let config = self.profiles(credentials);
        let mut injection = self.injection(credentials);
        let mut additions = Vec::new();
        let lists: &[_] = match is_ephemeral {
            true => &[(
                ContainerList::EphemeralContainers,
                &spec.ephemeral_containers,
            )],
            false => &[
                (ContainerList::Containers, &spec.containers),
                (ContainerList::InitContainers, &spec.init_containers),
            ],
        };
        let existing = self.existing_volume(spec, &injection, credentials);
        let has_volume = existing.is_some();
        if is_ephemeral && !has_volume {
            return unmodified(Unmodified::NoTokenVolume);
        }
        let config = config.filter(|_| {
            let holds = existing.is_none_or(|v| v.holds_field(CONFIG_FIELD, CONFIG_FILE));
            if !holds {
                let why = ProfilesIgnored::Volume;
                self.notes.add(Note::ProfilesIgnored(why));
            }
            holds
        });
        if config.is_some() {
            let file = self.webhook.config_file.on(windows.is_some());
            injection.config_file = Some(file);
        }
        let settled = match is_ephemeral {
            true => self.review.old_ephemeral_containers(),
            false => HashSet::new(),
        };
        for (list, containers) in lists {
            for (index, Object(container)) in items(containers).iter().enumerate() {
                if settled.contains(container.name.as_str()) {
                    continue;
                }
                let outcome = if skip.contains(container.name.as_str()) {
                    ContainerOutcome::Skipped
                } else {
                    let (outcome, added) = injection.plan(*list, index, container, &mut self.notes);
                    additions.push(added);
                    outcome
                };
                decision.containers.push(ContainerPlan {
                    list: *list,
                    index,
                    name: container.name.as_str(),
                    outcome,
                });
            }
        }
        let plans = &decision.containers;
        if plans.is_empty() {
            return unmodified(Unmodified::NoContainers);
        }
        if plans
            .iter()
            .all(|plan| plan.outcome == ContainerOutcome::Skipped)
        {
            return unmodified(Unmodified::AllSkipped);
        }
        let is_container_mode = matches!(credentials.mode, Mode::ContainerCredentials(_));
        // A container that was left alone in container mode may reach for the volume by another way, and consumers of
        // the label expect to find it; in IRSA mode a volume that nobody mounts only costs tokens.
        let is_needed = is_container_mode || plans.iter().any(|plan| plan.outcome.mounts_token());
        let volume = match (has_volume, is_needed) {
            (true, _) => VolumeOutcome::Present,
            (false, true) => VolumeOutcome::Added,
            (false, false) => VolumeOutcome::NotNeeded,
        };
        decision.volume = Some(volume);

        let mut operations = Vec::with_capacity(4 + 3 * additions.len());
        if is_container_mode && !is_ephemeral {
            operations.extend(self.label());
        }
        let has_config = config.is_some();
        if let Some(text) = config
            && !is_ephemeral
            && volume != VolumeOutcome::NotNeeded
        {
            operations.extend(self.config_annotation(text));
        }
        if volume == VolumeOutcome::Added {
            operations.push(self.volume(spec, credentials, injection.volume, has_config));
        }
        if !is_ephemeral && volume != VolumeOutcome::NotNeeded {
            operations.extend(self.fs_group(spec, windows.is_some()));
        }
        let too_long = |TooLong| Outcome::Refused(Refusal::PatchTooLong);
        let lists = match options.patch_style {
            PatchStyle::Replace => {
                replace::lists(self.review.body, &additions, is_ephemeral).map_err(too_long)?
            }
            PatchStyle::Additive => None,
        };
        match lists {
            Some(lists) => operations.extend(lists),
            None => operations.extend(additions.into_iter().flat_map(operations_of)),
        }
        if operations.is_empty() {
            return unmodified(Unmodified::NothingToAdd);
        }
        let json = patch::to_json(&operations).map_err(too_long)?;
        Ok(Patch { operations, json })
    }

    /// Whether the request is one to look at, and whether it is about ephemeral containers.
    fn scope(&self) -> Result<bool, Outcome<'a>> {
        let unmodified = |why| Err(Outcome::Unmodified(why));
        let options = &self.webhook.options;
        let is_ephemeral = match self.review.subresource() {
            "" => false,
            "ephemeralcontainers" if options.ephemeral_containers => true,
            other => return unmodified(Unmodified::Subresource(other)),
        };
        if self.account.namespace.is_empty() {
            return Err(Outcome::Refused(Refusal::NoNamespace));
        }
        let counts = self.pod.spec().map(|spec| {
            [
                ("containers", spec.container_count()),
                ("volumes", spec.volume_count()),
            ]
        });
        let mut counts = counts.into_iter().flatten();
        if let Some((what, count)) = counts.find(|(_, count)| *count > MAX_CONTAINERS) {
            return Err(Outcome::Refused(Refusal::TooMany { what, count }));
        }
        if let Some(pattern) = options.excludes(self.account.namespace) {
            return unmodified(Unmodified::ExcludedNamespace(pattern));
        }
        if self
            .pod
            .labels()
            .is_some_and(|labels| labels.contains(SKIP_LABEL))
        {
            return unmodified(Unmodified::SkipLabel);
        }
        if self
            .pod
            .annotations()
            .is_some_and(|map| map.contains(MIRROR_ANNOTATION))
        {
            return unmodified(Unmodified::MirrorPod);
        }
        Ok(is_ephemeral)
    }

    fn skip_list(&mut self, spec: &Spec<'_>) -> SkipList<'static> {
        let key = &self.webhook.skip_containers;
        let text = self
            .pod
            .annotations()
            .and_then(|annotations| annotations.get(key));
        let Some(text) = text else {
            return SkipList::default();
        };
        let Ok(list) = SkipList::parse(&text) else {
            self.notes.add(Note::SkipListBroken);
            return SkipList::default();
        };
        let lists = [
            &spec.containers,
            &spec.init_containers,
            &spec.ephemeral_containers,
        ];
        let containers = lists.into_iter().flat_map(items);
        for name in list.missing_from(containers.map(|Object(container)| container.name.as_str())) {
            self.notes.add(Note::SkipsUnknown(name));
        }
        list.into_owned()
    }

    fn injection(&self, credentials: &Credentials<'a>) -> Injection<'a> {
        let Webhook {
            options,
            irsa_file,
            container_file,
            ..
        } = self.webhook;
        let windows = credentials.windows.is_some();
        let (pair, volume, mount_path) = match &credentials.mode {
            Mode::Irsa { role, .. } => (
                Pair::Irsa {
                    role: role.clone(),
                    token_file: irsa_file.on(windows),
                    session_name: options.inject_session_name.then(|| self.session_name()),
                },
                IRSA_VOLUME,
                &options.token_mount_path,
            ),
            Mode::ContainerCredentials(_) => (
                Pair::Container {
                    uri: &options.container_full_uri,
                    token_file: container_file.on(windows),
                    disable_metadata: options.disable_imds_env,
                },
                options.container_volume_name.as_str(),
                &options.container_mount_path,
            ),
        };
        Injection {
            regional_sts: credentials.regional_sts.value,
            region: options.default_region.as_deref(),
            pair,
            extra: &options.extra_env,
            volume,
            mount_path,
            config_file: None,
        }
    }

    /// The configuration file with the further roles of the account, where that was asked for.
    fn profiles(&mut self, credentials: &Credentials<'a>) -> Option<String> {
        let Webhook {
            options, irsa_file, ..
        } = self.webhook;
        let AccountFact::Known(account) = self.facts.account else {
            return None;
        };
        if !options.role_profiles || account.profiles.is_empty() {
            return None;
        }
        if matches!(credentials.mode, Mode::ContainerCredentials(_)) {
            let why = ProfilesIgnored::Association;
            self.notes.add(Note::ProfilesIgnored(why));
            return None;
        }
        let file = irsa_file.on(credentials.windows.is_some());
        profiles::config(&account.profiles, options, file, &mut self.notes)
    }

    /// The annotation that the file is made of. One that the pod brings is its author's, like a variable.
    fn config_annotation(&mut self, text: String) -> Option<Operation<'a>> {
        let own = self.pod.annotations();
        if let Some(own) = own.and_then(|map| map.get(CONFIG_ANNOTATION)) {
            if own != text {
                self.notes.add(Note::ConfigKept);
            }
            return None;
        }
        let text = Str::Shared(text.into());
        let (path, value) = match (&self.pod.metadata, self.pod.annotations()) {
            (None, _) => (Path::Metadata, Value::AnnotatedMetadata(text)),
            (_, None) => (Path::Annotations, Value::Annotations(text)),
            (_, Some(_)) => (Path::ConfigAnnotation, Value::Annotation(text)),
        };
        Some(Operation { path, value })
    }

    /// The field that becomes the session's name. STS takes 2 to 64 characters; generated names always have that many.
    fn session_name(&self) -> &'static str {
        match self.pod.name() {
            Some(name) if !(2..=64).contains(&name.len()) && !name.is_empty() => "metadata.uid",
            _ => "metadata.name",
        }
    }

    /// The volume of the name, if it is there. If it is another thing, calls to AWS will fail, which is worth a warning.
    fn existing_volume(
        &mut self,
        spec: &'a Spec<'a>,
        injection: &Injection<'a>,
        credentials: &Credentials<'a>,
    ) -> Option<&'a Volume<'a>> {
        let mut volumes = spec.volumes.iter().flat_map(|list| &list.items);
        let Object(volume) = volumes.find(|Object(v)| v.name.as_str() == injection.volume)?;
        let file = match credentials.mode {
            Mode::Irsa { .. } => IRSA_TOKEN_FILE,
            Mode::ContainerCredentials(_) => &self.webhook.options.container_token_path,
        };
        if !volume.holds_token(credentials.audience.value, file) {
            self.notes.add(Note::VolumeIsAnother(injection.volume));
        }
        Some(volume)
    }

    fn label(&self) -> Option<Operation<'a>> {
        let path_and_value = match (&self.pod.metadata, self.pod.labels()) {
            (None, _) => (Path::Metadata, Value::Metadata),
            (_, None) => (Path::Labels, Value::Labels),
            (_, Some(labels)) => {
                let is_there = labels
                    .get(POD_IDENTITY_LABEL)
                    .is_some_and(|value| value == "enabled");
                if is_there {
                    return None;
                }
                (Path::PodIdentityLabel, Value::Enabled)
            }
        };
        let (path, value) = path_and_value;
        Some(Operation { path, value })
    }

    fn volume(
        &self,
        spec: &Spec<'_>,
        credentials: &Credentials<'a>,
        name: &'a str,
        has_config: bool,
    ) -> Operation<'a> {
        let volume = TokenVolume {
            name,
            audience: credentials.audience.value,
            expiration_seconds: credentials.lifetime.value,
            path: match credentials.mode {
                Mode::Irsa { .. } => IRSA_TOKEN_FILE,
                Mode::ContainerCredentials(_) => &self.webhook.options.container_token_path,
            },
            has_config,
        };
        let (path, value) = match spec.volumes {
            None => (Path::Volumes, Value::Volumes(volume)),
            Some(_) => (Path::FirstVolume, Value::Volume(volume)),
        };
        Operation { path, value }
    }

    /// The pod annotation `fs-group`, for processes that drop from one user to another (spec section 6). It never
    /// overwrites.
    fn fs_group(&mut self, spec: &Spec<'_>, windows: bool) -> Option<Operation<'a>> {
        let key = &self.webhook.fs_group;
        let text = self.pod.annotations()?.get(key)?;
        let group = text
            .parse()
            .ok()
            .filter(|group| (0..=i64::from(i32::MAX)).contains(group));
        let Some(group) = group else {
            self.notes
                .add(Note::FsGroupIgnored(FsGroupIgnored::NotAGroup));
            return None;
        };
        if windows {
            self.notes
                .add(Note::FsGroupIgnored(FsGroupIgnored::Windows));
            return None;
        }
        let (path, value) = match &spec.security_context {
            None => (Path::SecurityContext, Value::SecurityContext(group)),
            Some(Object(context)) if context.fs_group.is_none() => {
                (Path::FsGroup, Value::FsGroup(group))
            }
            Some(_) => return None,
        };
        Some(Operation { path, value })
    }
}

fn items<'s, 'a>(list: &'s Option<Containers<'a>>) -> &'s [Object<Container<'a>>] {
    list.as_ref()
        .map(|list| list.items.as_slice())
        .unwrap_or_default()
}

/// The operations for one container in the additive style.
fn operations_of(added: Additions<'_>) -> impl Iterator<Item = Operation<'_>> {
    let Additions {
        list,
        index,
        env,
        has_env,
        mount,
        has_mounts,
    } = added;
    let (whole, each) = match has_env {
        true => (None, env),
        false => (Some(env).filter(|env| !env.is_empty()), Vec::new()),
    };
    let whole = whole.map(|env| Operation {
        path: Path::Env(list, index),
        value: Value::Env(env),
    });
    let each = each.into_iter().map(move |variable| Operation {
        path: Path::LastEnv(list, index),
        value: Value::EnvVar(variable),
    });
    let mount = mount.map(move |mount| match has_mounts {
        true => Operation {
            path: Path::LastVolumeMount(list, index),
            value: Value::VolumeMount(mount),
        },
        false => Operation {
            path: Path::VolumeMounts(list, index),
            value: Value::VolumeMounts(mount),
        },
    });
    whole.into_iter().chain(each).chain(mount)
}
