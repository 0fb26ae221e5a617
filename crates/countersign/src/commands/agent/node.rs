//! As whom the node asks: the chain of every AWS SDK, a credentials file that somebody rotates, or the agent's own token.

use std::sync::Arc;

use countersign_agent::{NodeCredentials, NodeIdentity, NodeToken};
use countersign_client::Environment;
use countersign_client::credentials::{self, Plan};
use countersign_client::profile::Profiles;
use countersign_upstream::clock::SystemClock;
use countersign_upstream::ec2::{AwsCredentials, CredentialsError, ProvideCredentials};
use futures::future::BoxFuture;
use zeroize::Zeroizing;

use super::flags::{Auth, RunArgs};
use crate::commands::credentials::ChainCredentials;
use crate::report::Failure;

pub(super) fn identity(args: &RunArgs) -> Result<Arc<NodeIdentity>, Failure> {
    let provider: Arc<dyn ProvideCredentials> = match (args.auth, args.rotate_credentials) {
        (Auth::Bearer, true) => {
            return Err(Failure::usage(anyhow::anyhow!(
                "--rotate-credentials is for AWS credentials, and --auth bearer uses none"
            )));
        }
        (Auth::Bearer, false) => {
            let node = args.node_name.as_deref().ok_or_else(|| {
                Failure::usage(anyhow::anyhow!("--auth bearer needs --node-name"))
            })?;
            let token = NodeToken::new(&args.token_file, node).map_err(Failure::usage)?;
            return Ok(Arc::from(token));
        }
        (Auth::Sigv4, true) => Arc::new(SharedFile),
        (Auth::Sigv4, false) => Arc::new(ChainCredentials::new()),
    };
    Ok(Arc::from(NodeCredentials::new(
        provider,
        Arc::new(SystemClock),
    )))
}

/// Keys of the environment or the shared files, read anew each time. [`NodeCredentials`] asks once a minute, since they have no
/// end of their own.
struct SharedFile;

impl ProvideCredentials for SharedFile {
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials, CredentialsError>> {
        Box::pin(async {
            tokio::task::spawn_blocking(read)
                .await
                .unwrap_or_else(|_| Err(CredentialsError("the shared files were not read".into())))
        })
    }
}

fn read() -> Result<AwsCredentials, CredentialsError> {
    let env = Environment::of_process();
    let failed = |error: &dyn std::fmt::Display| CredentialsError(error.to_string());
    let profiles = Profiles::load(&env, None).map_err(|error| failed(&error))?;
    let plan = credentials::plan(&env, &profiles).map_err(|error| failed(&error))?;
    let Plan::Found(found) = plan else {
        return Err(CredentialsError(
            "the shared credentials file has no keys, and --rotate-credentials reads nothing else"
                .into(),
        ));
    };
    Ok(AwsCredentials {
        access_key_id: found.access_key_id,
        secret_access_key: Zeroizing::new(found.secret.expose().to_owned()),
        session_token: found.session_token,
        expires_at: found.expires_at,
    })
}
