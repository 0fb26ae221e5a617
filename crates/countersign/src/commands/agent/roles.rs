//! Roles in `--imds serve` of service accounts without an association: their flags, and what they ask of STS, Kubernetes and the
//! auth service (imds spec, section 5.3).

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use countersign_agent::guard::{
    AccountRole, Compatible, GuardApiError, GuardConfig, Irsa, ServiceAccountRoles,
};
use countersign_agent::{AnnotatedAuth, AuthLimits, Endpoint, NodeIdentity};
use countersign_arn::Partition;
use countersign_imds::compat::Predecessor;
use countersign_imds::decision::Mode;
use countersign_sources::kubernetes::{AnnotationReads, KubernetesAccess};
use countersign_upstream::clock::Clock;
use countersign_upstream::http::HttpsClient;
use countersign_upstream::web_identity::StsWebIdentity;
use futures::future::BoxFuture;

use super::flags::RunArgs;
use crate::report::Failure;

/// Time for a read of a service account.
const READ: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(next_help_heading = "Instance metadata")]
pub(super) struct RoleArgs {
    /// In `--imds serve`, whether a service account without an association gets the role of its annotation PREFIX/role-arn, as with
    /// IRSA. The agent reads the account and asks STS with a token bound to the pod. Needs `get` on serviceaccounts.
    #[arg(long, value_enum, default_value_t, value_name = "RULE")]
    irsa: IrsaRule,
    /// Prefix of the annotations of `--irsa`: PREFIX/role-arn and PREFIX/audience.
    #[arg(long, default_value = "eks.amazonaws.com", value_parser = prefix, value_name = "PREFIX")]
    annotation_prefix: String,
    /// URL of the STS that `--irsa` asks, in the place of the region's. Its host must be trusted: it sees tokens of pods.
    #[arg(long, value_name = "URL")]
    sts_endpoint: Option<String>,
    /// In `--imds serve`, give pods without any other role the one that their annotation iam.amazonaws.com/role names, where the list
    /// of their namespace allows it. The auth service decides: it must be Countersign's, with `annotatedRoles` configured for the
    /// cluster. With kube2iam, asking for another role is answered 403 as it was there.
    #[arg(long, value_enum, value_name = "PREDECESSOR")]
    compat: Option<CompatRule>,
}

/// `--irsa`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum IrsaRule {
    /// It does.
    #[default]
    On,
    /// It does not, and service accounts are not read.
    Off,
}

/// `--compat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CompatRule {
    /// jtblin/kube2iam.
    Kube2iam,
    /// uswitch/kiam.
    Kiam,
}

/// What the agent asks its auth service with.
pub(super) struct Asking<'a> {
    pub(super) region: &'a str,
    pub(super) endpoint: &'a Endpoint,
    pub(super) roots: Option<&'a [u8]>,
    pub(super) node: &'a Arc<NodeIdentity>,
    pub(super) clock: &'a Arc<dyn Clock>,
}

/// Adds to a guard what the flags ask for.
pub(super) async fn add(
    args: &RunArgs,
    guard: Option<&mut GuardConfig>,
    asking: &Asking<'_>,
) -> Result<(), Failure> {
    let flags = &args.roles;
    let Some(guard) = guard.filter(|guard| guard.settings.mode == Mode::Serve) else {
        if flags.compat.is_some() {
            return Err(Failure::usage(anyhow!(
                "--compat gives pods roles, which is what --imds serve does"
            )));
        }
        return Ok(());
    };
    if flags.irsa == IrsaRule::On {
        guard.irsa = Some(irsa(args, asking).await?);
    }
    if let Some(compat) = flags.compat {
        if args.endpoint.is_none() {
            tracing::warn!(
                "--compat without --endpoint: EKS Auth of AWS gives no roles by the annotations of kube2iam and kiam, Countersign's does"
            );
        }
        let roles = AnnotatedAuth::new(
            &args.cluster_name,
            asking.region,
            asking.endpoint.clone(),
            asking.roots,
            AuthLimits::default(),
            Arc::clone(asking.node),
            Arc::clone(asking.clock),
        );
        guard.compatible = Some(Compatible {
            predecessor: match compat {
                CompatRule::Kube2iam => Predecessor::Kube2iam,
                CompatRule::Kiam => Predecessor::Kiam,
            },
            roles: Arc::new(roles.map_err(Failure::usage)?),
        });
    }
    Ok(())
}

async fn irsa(args: &RunArgs, asking: &Asking<'_>) -> Result<Irsa, Failure> {
    let flags = &args.roles;
    let url = match &flags.sts_endpoint {
        // Looked at as the auth service's is: plain http is for this machine alone.
        Some(url) => Endpoint::of_url(url).map(|_| url.clone()),
        None => sts_of_region(asking.region),
    };
    let url = url.map_err(Failure::usage)?;
    let uri = url.parse().map_err(Failure::usage)?;
    // Authorities of one's own are for what one runs: not for AWS's STS beside an auth service of one's own.
    let own_roots = flags.sts_endpoint.is_some() || args.endpoint.is_none();
    let mut http = HttpsClient::builder().connect_timeout(AuthLimits::default().connect);
    if let Some(pem) = asking.roots.filter(|_| own_roots) {
        http = http.roots_pem(pem).map_err(Failure::usage)?;
    }
    let sts = StsWebIdentity::new(http.build().map_err(Failure::usage)?, uri);
    let access = KubernetesAccess {
        kubeconfig: args.kubeconfig.clone(),
        master: None,
    };
    let client = access.client().await.map_err(Failure::usage)?;
    tracing::info!(sts = url, "service accounts without association: IRSA");
    Ok(Irsa {
        accounts: Arc::new(Accounts {
            reads: AnnotationReads::new(client, READ, &flags.annotation_prefix),
            role: format!("{}/role-arn", flags.annotation_prefix),
            audience: format!("{}/audience", flags.annotation_prefix),
        }),
        sts: Arc::new(sts.map_err(Failure::usage)?),
    })
}

fn sts_of_region(region: &str) -> Result<String, countersign_agent::InvalidEndpoint> {
    let partition = Partition::of_region(region).ok_or_else(|| {
        countersign_agent::InvalidEndpoint::Region(region.chars().take(64).collect())
    })?;
    Ok(format!(
        "https://sts.{region}.{}/",
        partition.plain_domain()
    ))
}

/// Service accounts, read one by one.
struct Accounts {
    reads: AnnotationReads,
    role: String,
    audience: String,
}

impl ServiceAccountRoles for Accounts {
    fn role<'a>(
        &'a self,
        namespace: &'a str,
        service_account: &'a str,
    ) -> BoxFuture<'a, Result<Option<AccountRole>, GuardApiError>> {
        Box::pin(async move {
            let read = self.reads.service_account(namespace, service_account).await;
            let read = read.map_err(|error| GuardApiError(error.to_string()))?;
            let annotations = read.unwrap_or_default().annotations;
            let text = |key: &str| annotations.get(key).map(String::as_str);
            Ok(AccountRole::of(text(&self.role), text(&self.audience)))
        })
    }
}

/// The prefix of an annotation: a DNS name.
fn prefix(text: &str) -> Result<String, String> {
    let fine = (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        });
    fine.then(|| text.to_owned())
        .ok_or_else(|| "write a DNS name, such as eks.amazonaws.com".to_owned())
}
