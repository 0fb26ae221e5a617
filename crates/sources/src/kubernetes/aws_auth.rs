//! The ConfigMap `kube-system/aws-auth` (authentication spec, section 3.2, rules P12 and P16, and section 3.2.1).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_mapping::{BackendKind, Section};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Resource};

use super::list_watch::{ListWatch, Step};
use super::{CONTROLLER, RETRY_AFTER};
use crate::health::{Problem, SourceKind};
use crate::mappings::{Mappings, Update};
use crate::section::AwsAuthSections;
use crate::state_file::{Remembered, StateFile};

const SOURCE: SourceKind = SourceKind::Backend(BackendKind::EksConfigMap);
const NAMESPACE: &str = "kube-system";
const NAME: &str = "aws-auth";

/// Settings of an [`AwsAuthWatch`].
#[derive(Debug, Clone)]
pub struct AwsAuthOptions {
    /// The cluster whose rules these are.
    pub cluster: String,
    /// Where the last good rules are remembered (`server.stateDir`); nowhere if absent.
    pub state_dir: Option<PathBuf>,
    /// Who reports events: the name of this pod or host.
    pub instance: String,
    /// Pause after a failure. Default 5 s.
    pub retry_after: Duration,
}

impl AwsAuthOptions {
    /// The defaults, without a state directory.
    #[must_use]
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            state_dir: None,
            instance: "countersign".to_owned(),
            retry_after: RETRY_AFTER,
        }
    }
}

/// Keeps the rules of `aws-auth` up to date.
///
/// Until the first list succeeded the source is not synced; rules that an earlier run remembered are in force meanwhile, marked
/// stale. Whatever fails later leaves the rules in force as they are.
#[derive(Debug)]
pub struct AwsAuthWatch {
    mappings: Arc<Mappings>,
    options: AwsAuthOptions,
    sections: AwsAuthSections,
    state: Option<StateFile>,
    remembered: Option<BTreeMap<String, String>>,
    /// What an event was made for. A section's problem is reported again only after it changed.
    reported: BTreeMap<Section, Problem>,
}

impl AwsAuthWatch {
    /// Begins with what an earlier run remembered, if anything. Blocks on the file system.
    #[must_use]
    pub fn new(mappings: &Arc<Mappings>, options: AwsAuthOptions, now: Timestamp) -> Self {
        let state = options.state_dir.as_deref().map(StateFile::new);
        let mut watch = Self {
            mappings: Arc::clone(mappings),
            options,
            sections: AwsAuthSections::default(),
            state,
            remembered: None,
            reported: BTreeMap::new(),
        };
        watch.restore(now);
        watch
    }

    /// Watches for ever.
    pub async fn run(mut self, client: Client, clock: impl Fn() -> Timestamp + Send) {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let events: Api<Event> = Api::namespaced(client, NAMESPACE);
        let mut watch = ListWatch::new(api, Some("metadata.name=aws-auth"));
        loop {
            match watch.next().await {
                Ok(Step::Listed { objects, version }) => {
                    let object = objects.into_iter().find(is_aws_auth);
                    self.take(object, &version, &events, clock()).await;
                }
                Ok(Step::Applied(object)) if is_aws_auth(&object) => {
                    self.take(Some(object), "", &events, clock()).await;
                }
                Ok(Step::Deleted(object)) if is_aws_auth(&object) => {
                    let version = object.metadata.resource_version.unwrap_or_default();
                    self.take(None, &version, &events, clock()).await;
                }
                Ok(Step::Applied(_) | Step::Deleted(_)) => {}
                Ok(Step::Resumed) => self.mappings.reached(SOURCE),
                Err(error) => {
                    self.mappings
                        .fail(SOURCE, Problem::new(error.summary()), clock());
                    tokio::time::sleep(self.options.retry_after).await;
                }
            }
        }
    }

    /// Takes a version of the object, or its absence at a version of the list.
    async fn take(
        &mut self,
        object: Option<ConfigMap>,
        version: &str,
        events: &Api<Event>,
        now: Timestamp,
    ) {
        let options = self.mappings.options();
        let data = object
            .as_ref()
            .map(|object| object.data.clone().unwrap_or_default());
        let mut update =
            self.sections
                .apply(data.as_ref(), &options.mapping, options.on_parse_error);
        update.version = object
            .as_ref()
            .and_then(|object| object.metadata.resource_version.clone())
            .unwrap_or_else(|| version.to_owned());
        if object.is_none() {
            update.note = Some("there is no ConfigMap kube-system/aws-auth".to_owned());
        }
        for (section, problem, in_force) in &update.stale {
            tracing::error!(%section, %problem, in_force, version = update.version, "a section of aws-auth does not parse");
        }
        let version = update.version.clone();
        let news = self.news(&update);
        self.mappings
            .publish(BackendKind::EksConfigMap, update, now);
        self.remember(version, now).await;
        if let Some(object) = &object {
            for event in news {
                let event = self.event(object, event, now);
                // A permission that is missing must not hold up the rules.
                if let Err(error) = events.create(&PostParams::default(), &event).await {
                    tracing::warn!(%error, "no event about aws-auth could be made");
                }
            }
        }
    }

    /// The problems that nobody was told about yet.
    fn news(&mut self, update: &Update) -> Vec<(Problem, &'static str)> {
        self.reported.retain(|section, _| {
            let still = |(stale, _, _): &(Section, Problem, &'static str)| stale == section;
            update.stale.iter().any(still)
        });
        let mut news = Vec::new();
        for (section, problem, in_force) in &update.stale {
            if self.reported.insert(*section, problem.clone()).as_ref() != Some(problem) {
                news.push((problem.clone(), *in_force));
            }
        }
        news
    }

    fn event(
        &self,
        object: &ConfigMap,
        (problem, in_force): (Problem, &'static str),
        now: Timestamp,
    ) -> Event {
        let consequence = match in_force {
            "lastGood" => "its last good version stays in force",
            "salvaged" => "those of its entries that parse on their own are in force",
            _ => "none of its entries is in force",
        };
        let instance: String = self.options.instance.chars().take(128).collect();
        let section = problem.section.map_or("document", Section::key);
        Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{NAME}.{:x}.{}",
                    now.as_nanosecond(),
                    section.to_ascii_lowercase()
                )),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some("MappingSectionInvalid".to_owned()),
            action: Some("LoadMappings".to_owned()),
            note: Some(
                format!("{problem}; {consequence}")
                    .chars()
                    .take(1000)
                    .collect(),
            ),
            event_time: Some(MicroTime(now)),
            regarding: Some(ObjectReference {
                // A watch gives objects without these.
                api_version: Some("v1".to_owned()),
                kind: Some("ConfigMap".to_owned()),
                resource_version: object.metadata.resource_version.clone(),
                ..object.object_ref(&())
            }),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(instance),
            ..Event::default()
        }
    }

    fn restore(&mut self, now: Timestamp) {
        let Some(state) = &self.state else { return };
        match state.read(&self.options.cluster) {
            Ok(None) => {}
            Ok(Some(remembered)) => {
                let mut update = self
                    .sections
                    .restore(&remembered.data, &self.mappings.options().mapping);
                update.version.clone_from(&remembered.resource_version);
                update.note = Some(format!("remembered at {}", remembered.saved_at));
                tracing::warn!(
                    version = remembered.resource_version,
                    saved_at = %remembered.saved_at,
                    "the remembered rules of aws-auth are in force until the API server is reached"
                );
                self.mappings
                    .publish(BackendKind::EksConfigMap, update, now);
                self.remembered = Some(remembered.data);
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the remembered rules of aws-auth are not used");
            }
        }
    }

    async fn remember(&mut self, resource_version: String, now: Timestamp) {
        let data = self.sections.last_good_texts();
        let Some(state) = self.state.clone() else {
            return;
        };
        if self.remembered.as_ref() == Some(data) {
            return;
        }
        let remembered = Remembered {
            cluster: self.options.cluster.clone(),
            resource_version,
            saved_at: now,
            data: data.clone(),
        };
        let data = data.clone();
        let written = tokio::task::spawn_blocking(move || state.write(&remembered)).await;
        match written {
            Ok(Ok(())) => self.remembered = Some(data),
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "the rules of aws-auth could not be remembered");
            }
            Err(_) => tracing::warn!("the rules of aws-auth could not be remembered"),
        }
    }
}

fn is_aws_auth(object: &ConfigMap) -> bool {
    object.metadata.name.as_deref() == Some(NAME)
        && object
            .metadata
            .namespace
            .as_deref()
            .is_none_or(|namespace| namespace == NAMESPACE)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
