//! From the settings of annotated roles to what decides about them: `podIdentity.annotatedRoles` for the default cluster, and
//! `clusters.NAME.annotatedRoles`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use countersign_arn::Partition;
use countersign_imds::annotated::Rules;
use countersign_imds::compat::{Compat, Format, Predecessor};
use countersign_server::aws::{AnnotatedCluster, AnnotationsApi};
use countersign_server::config::AnnotatedRolesConfig;
use countersign_server::webhook::entries::Registered;
use countersign_sources::kubernetes::{AnnotationReads, KubernetesAccess};

use crate::report::Failure;

/// How long an API server may take for one read; two of them have to fit into what an agent waits.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// Where the setting stands, and what it needs of its cluster.
pub(super) struct Setting<'a> {
    /// Its key, for errors.
    pub(super) key: String,
    pub(super) config: Option<&'a AnnotatedRolesConfig>,
    pub(super) partition: Partition,
    /// Whether the cluster is one of the EKS API.
    pub(super) registered: bool,
    pub(super) kubeconfig: Option<&'a Path>,
    pub(super) master: Option<&'a str>,
    /// Whether the service account of our own pod is for this cluster.
    pub(super) may_be_own: bool,
}

/// Annotated roles of a cluster, before it is known which one of the records it is.
pub(super) struct Prepared {
    rules: Rules,
    api: Arc<dyn AnnotationsApi>,
}

impl Prepared {
    pub(super) fn of(self, registered: Registered) -> Arc<AnnotatedCluster> {
        Arc::new(AnnotatedCluster::new(registered, self.rules, self.api))
    }
}

/// What the setting asks for; nothing where it is absent.
pub(super) async fn prepare(setting: Setting<'_>) -> Result<Option<Prepared>, Failure> {
    let Some(config) = setting.config else {
        return Ok(None);
    };
    let key = &setting.key;
    let wrong = |text: String| Failure::usage(anyhow!("`{key}`: {text}"));
    if !setting.registered {
        return Err(wrong(
            "the cluster is not one of the EKS API: credentials are for those alone".to_owned(),
        ));
    }
    let rules = rules(config).map_err(wrong)?;
    rules.check(setting.partition).map_err(wrong)?;
    let in_cluster = setting.may_be_own && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if setting.kubeconfig.is_none() && setting.master.is_none() && !in_cluster {
        return Err(wrong(
            "annotations are read from the cluster's API server: give its kubeconfig".to_owned(),
        ));
    }
    let access = KubernetesAccess {
        kubeconfig: setting.kubeconfig.map(Into::into),
        master: setting.master.map(Into::into),
    };
    let client = access
        .client()
        .await
        .map_err(|error| Failure::usage(anyhow::Error::new(error).context(format!("`{key}`"))))?;
    let reads = AnnotationReads::new(client, TIMEOUT, AnnotatedCluster::PREFIX);
    Ok(Some(Prepared {
        rules,
        api: Arc::new(reads),
    }))
}

fn rules(config: &AnnotatedRolesConfig) -> Result<Rules, String> {
    let predecessor = match &*config.style {
        "kube2iam" => Predecessor::Kube2iam,
        "kiam" => Predecessor::Kiam,
        other => return Err(format!("`style` is `{other}`; it is kube2iam or kiam")),
    };
    let format = match (config.format.as_deref(), predecessor) {
        (None | Some("glob"), Predecessor::Kube2iam) => Format::Glob,
        (Some("regexp"), _) | (None, Predecessor::Kiam) => Format::Regexp,
        (Some(other), Predecessor::Kube2iam) => {
            return Err(format!("`format` is `{other}`; it is glob or regexp"));
        }
        (Some(other), Predecessor::Kiam) => {
            return Err(format!(
                "`format` is `{other}`; kiam's lists are regular expressions, leave it out"
            ));
        }
    };
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Ok(Rules {
        compat: Compat {
            predecessor,
            base_arn: filled(&config.base_arn),
            format,
            default_role: filled(&config.default_role),
        },
        accounts: config
            .accounts
            .iter()
            .map(|account| {
                account
                    .parse()
                    .map_err(|_| format!("`{account}` in `accounts` is no account id"))
            })
            .collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_told() {
        let config = |style: &str, format: Option<&str>, account: &str| AnnotatedRolesConfig {
            style: style.to_owned(),
            format: format.map(str::to_owned),
            accounts: vec![account.to_owned()],
            ..AnnotatedRolesConfig::default()
        };
        let account = "111122223333";
        for (config, expected) in [
            (config("kube2iam", None, account), Ok(Format::Glob)),
            (
                config("kube2iam", Some("regexp"), account),
                Ok(Format::Regexp),
            ),
            (config("kiam", None, account), Ok(Format::Regexp)),
            (config("kiam", Some("glob"), account), Err("leave it out")),
            (
                config("kube2iam", Some("pcre"), account),
                Err("glob or regexp"),
            ),
            (config("", None, account), Err("kube2iam or kiam")),
            (config("kiam", None, "12"), Err("no account id")),
        ] {
            let rules = rules(&config);
            match expected {
                Ok(format) => assert_eq!(rules.unwrap().compat.format, format),
                Err(text) => assert!(rules.unwrap_err().contains(text), "{config:?}"),
            }
        }
    }
}
