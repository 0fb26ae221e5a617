//! The section `podIdentityWebhook`: the flags of the reference webhook as settings (webhook spec, section 2).
//!
//! A key is a flag's name in camel case, such as `tokenAudience` for `--token-audience`, and its value what stands behind the flag,
//! read by the same reader. Keys compare without regard to case.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use countersign_pods::{Composition, Flags, FlagsError, Source, partition_of_region};
use serde::Deserialize;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};

/// Flags that mean the process itself, whose settings stand elsewhere; given nonetheless they are told about.
const ELSEWHERE: &[(&str, &str)] = &[
    ("port", "`server.port` says where the webhooks listen"),
    (
        "metrics-port",
        "`countersign.metricsListen` says where metrics are",
    ),
    (
        "in-cluster",
        "`server.kubeconfig` names the cluster, and without it the pod's own account is used",
    ),
    (
        "tls-cert",
        "the webhooks serve with `cert.pem` in `server.stateDir`",
    ),
    (
        "tls-key",
        "the webhooks serve with `key.pem` in `server.stateDir`",
    ),
    ("v", "`logVerbosity` is the level of the log"),
    (
        "tls-secret",
        "replicas share the certificate that is mounted at `server.stateDir`",
    ),
    (
        "association-refresh",
        "associations of our own EKS API are followed",
    ),
];
/// Flags that may be given several times.
const COLLECTING: &[&str] = &["extra-env", "exclude-namespaces", "no-agent-node-selectors"];

/// The section as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodWebhookConfig(BTreeMap<String, SettingValue>);

/// A value: one text, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SettingValue {
    One(String),
    Many(Vec<String>),
}

/// The section, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodWebhookSettings {
    /// The flags.
    pub flags: Flags,
    /// `reconcile`: whether pods are looked for that lack their credentials; true.
    pub reconcile: bool,
    /// `restartUnmutated`: whether these are evicted; false.
    pub restart_unmutated: bool,
    /// `webhookConfiguration`: the MutatingWebhookConfiguration whose `caBundle` is kept up to date.
    pub webhook_configuration: Option<String>,
    /// Whether `serviceName` is written: then the certificate is also for that Service.
    pub names_service: bool,
    /// Settings that have no effect here, and where to set instead.
    pub elsewhere: Vec<(&'static str, &'static str)>,
}

/// A section that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PodSettingsError {
    /// No such key.
    #[error("unknown key `countersign.podIdentityWebhook.{0}`")]
    Unknown(String),
    /// A key in two spellings.
    #[error("`countersign.podIdentityWebhook.{0}` is set twice")]
    Twice(String),
    /// Several values where one belongs.
    #[error("`countersign.podIdentityWebhook.{key}` is not {expected}")]
    Value {
        /// The key.
        key: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// What this server does not do.
    #[error("`countersign.podIdentityWebhook.{0}`: {1}")]
    NotOffered(&'static str, &'static str),
    /// The flags' own reader refuses it.
    #[error("`countersign.podIdentityWebhook`: {0}")]
    Flags(#[from] FlagsError),
}

impl PodWebhookConfig {
    /// Reads the settings. `account` and `region` are those of the server, for short names of roles and for nothing else.
    ///
    /// # Errors
    /// When a key is unknown, or a value is none.
    pub fn read(
        &self,
        account: Option<countersign_arn::AccountId>,
        region: Option<&str>,
    ) -> Result<PodWebhookSettings, PodSettingsError> {
        let (mut names_service, mut elsewhere) = (false, Vec::new());
        let mut seen = BTreeSet::new();
        let mut arguments = Vec::new();
        for (key, value) in &self.0 {
            let folded = fold(key);
            if !seen.insert(folded.clone()) {
                return Err(PodSettingsError::Twice(key.clone()));
            }
            let mut names = Flags::names();
            let name = names
                .find(|name| fold(name) == folded)
                .filter(|name| *name != "version")
                .ok_or_else(|| PodSettingsError::Unknown(key.chars().take(64).collect()))?;
            if let Some(told) = ELSEWHERE.iter().find(|(flag, _)| *flag == name) {
                elsewhere.push(*told);
            }
            names_service |= name == "service-name";
            value.arguments(key, name, &mut arguments)?;
        }
        let flags = Flags::parse(arguments.iter().map(String::as_str))?;
        if flags.serving.debugging_handlers {
            return Err(PodSettingsError::NotOffered(
                "enableDebuggingHandlers",
                "this server has no debugging handlers; `/readyz?verbose` and `/metrics` tell what it knows, and `countersign \
                 pod-identity-webhook` has them",
            ));
        }
        let mut settings = PodWebhookSettings::of_flags(flags, account, region)?;
        settings.names_service = names_service;
        settings.elsewhere = elsewhere;
        Ok(settings)
    }
}

impl PodWebhookSettings {
    /// The settings of a command line: those of the section, flag by flag.
    ///
    /// # Errors
    /// When a flag asks for what is not offered.
    pub fn of_flags(
        flags: Flags,
        account: Option<countersign_arn::AccountId>,
        region: Option<&str>,
    ) -> Result<Self, PodSettingsError> {
        let serving = &flags.serving;
        let mut settings = Self {
            reconcile: serving.reconcile,
            restart_unmutated: serving.restart_unmutated,
            webhook_configuration: serving.webhook_configuration.clone(),
            names_service: false,
            elsewhere: Vec::new(),
            flags,
        };
        settings.check(account, region)?;
        Ok(settings)
    }

    /// Name and namespace of the Service in front of the webhook, if `serviceName` says one: the serving certificate is for it too.
    #[must_use]
    pub fn service(&self) -> Option<(String, String)> {
        let serving = &self.flags.serving;
        self.names_service
            .then(|| (serving.service_name.clone(), serving.namespace.clone()))
    }

    fn check(
        &mut self,
        account: Option<countersign_arn::AccountId>,
        region: Option<&str>,
    ) -> Result<(), PodSettingsError> {
        let Flags {
            options, serving, ..
        } = &mut self.flags;
        if matches!(serving.associations_from, Source::Eks | Source::Crd) {
            return Err(PodSettingsError::NotOffered(
                "associationsFrom",
                "associations are those of this server's EKS API (`embedded`) and of the identities file (`file`)",
            ));
        }
        if serving.compose_role_arn && options.composition.is_none() {
            let account = account.ok_or(PodSettingsError::NotOffered(
                "composeRoleArn",
                "set `composeAccount`, the account of the roles",
            ))?;
            let region = options.default_region.as_deref().or(region);
            options.composition = Some(Composition {
                account,
                partition: partition_of_region(region.unwrap_or_default()),
            });
        }
        Ok(())
    }
}

impl SettingValue {
    fn one(&self, key: &str) -> Result<&str, PodSettingsError> {
        match self {
            Self::One(text) => Ok(text),
            Self::Many(_) => Err(PodSettingsError::Value {
                key: key.to_owned(),
                expected: "one value",
            }),
        }
    }

    fn arguments(
        &self,
        key: &str,
        flag: &str,
        to: &mut Vec<String>,
    ) -> Result<(), PodSettingsError> {
        match self {
            Self::One(text) => to.push(format!("--{flag}={text}")),
            Self::Many(values) if COLLECTING.contains(&flag) => {
                to.extend(values.iter().map(|value| format!("--{flag}={value}")));
            }
            Self::Many(values) if flag == "tls-cipher-suites" => {
                to.push(format!("--{flag}={}", values.join(",")));
            }
            Self::Many(_) => {
                self.one(key)?;
            }
        }
        Ok(())
    }
}

/// Without dashes and in lower case: `tokenAudience` and `token-audience` are one.
fn fold(name: &str) -> String {
    name.chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

impl<'de> Deserialize<'de> for PodWebhookConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An empty section is a section: it switches the webhook on.
        let section = Option::<BTreeMap<String, SettingValue>>::deserialize(deserializer)?;
        Ok(Self(section.unwrap_or_default()))
    }
}

/// A section that is there, be it empty.
pub(super) fn section<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PodWebhookConfig>, D::Error> {
    PodWebhookConfig::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for SettingValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = SettingValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true or false, a list of these, or names with values")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<SettingValue, E> {
        Ok(SettingValue::One(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<SettingValue, E> {
        Ok(SettingValue::One(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<SettingValue, E> {
        Ok(SettingValue::One(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<SettingValue, E> {
        Ok(SettingValue::One(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<SettingValue, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element::<SettingValue>()? {
            match value {
                SettingValue::One(text) => values.push(text),
                SettingValue::Many(_) => return Err(A::Error::custom("a list in a list")),
            }
        }
        Ok(SettingValue::Many(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SettingValue, A::Error> {
        let mut values = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, SettingValue>()? {
            match value {
                SettingValue::One(text) => values.push(format!("{name}={text}")),
                SettingValue::Many(_) => return Err(A::Error::custom("a list in an object")),
            }
        }
        Ok(SettingValue::Many(values))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    fn read(section: &str) -> Result<PodWebhookSettings, String> {
        let text = format!("clusterID: a\ncountersign:\n  podIdentityWebhook: {section}\n");
        let loaded = parse(text, Path::new("c.yaml")).map_err(|error| error.to_string())?;
        let own = loaded.config.countersign;
        let section = own.pod_identity_webhook.expect("a section");
        section
            .read(None, Some("eu-west-1"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_is_a_setting() {
        let settings = read(
            "{tokenAudience: a, TOKENEXPIRATION: 3600, sts-regional-endpoint: true, \
             extraEnv: {AWS_ENDPOINT_URL_STS: \"https://sts.test\"}, excludeNamespaces: [kube-system, \"test-*\"], \
             composeRoleArn: true, composeAccount: \"210987654321\", awsDefaultRegion: cn-north-1, watchConfigMap: true, \
             tlsCipherSuites: [TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384], waitForAssociation: 5s, restartUnmutated: true, \
             webhookConfiguration: x, port: 8443}",
        )
        .unwrap();
        let options = &settings.flags.options;
        assert_eq!(options.token_audience, "a");
        assert_eq!(options.token_expiration, 3600);
        assert!(options.regional_sts);
        assert_eq!(options.extra_env[0].value(), "https://sts.test");
        assert_eq!(options.exclude_namespaces, ["kube-system", "test-*"]);
        assert_eq!(options.composition.unwrap().partition.id(), "aws-cn");
        assert!(settings.flags.serving.watch_config_map);
        assert_eq!(settings.flags.serving.tls_cipher_suites.len(), 2);
        assert!(settings.restart_unmutated && settings.reconcile);
        assert_eq!(settings.webhook_configuration.as_deref(), Some("x"));
        assert_eq!(settings.elsewhere[0].0, "port");
        assert_eq!(settings.service(), None);
        let settings = read("{serviceName: countersign, namespace: iam}").unwrap();
        let service = settings.service().unwrap();
        assert_eq!(service, ("countersign".to_owned(), "iam".to_owned()));
    }

    #[test]
    fn an_empty_section_is_one() {
        for section in ["{}", "", "~"] {
            assert!(read(section).unwrap().reconcile, "{section:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant() {
        for (section, message) in [
            (
                "{tokenAudiences: a}",
                "unknown key `countersign.podIdentityWebhook.tokenAudiences`",
            ),
            ("{tokenAudience: a, token-audience: b}", "twice"),
            ("{tokenAudience: [a, b]}", "not one value"),
            ("{reconcile: maybe}", "expected true or false"),
            ("{associationsFrom: eks}", "`embedded`"),
            ("{composeRoleArn: true}", "composeAccount"),
            ("{enableDebuggingHandlers: true}", "no debugging handlers"),
            ("{tlsMinVersion: \"1.1\"}", "TLS before 1.2"),
            ("{tokenMountPath: relative}", "token-mount-path"),
            ("{extraEnv: {AWS_ROLE_ARN: x}}", "AWS_ROLE_ARN"),
            ("{version: true}", "unknown key"),
            ("{extraEnv: [[a]]}", "a list in a list"),
        ] {
            let error = read(section).unwrap_err();
            assert!(error.contains(message), "{section}: {error}");
        }
    }
}
