//! The `caBundle` of our own MutatingWebhookConfiguration (webhook spec, section 8.3).

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::list_watch::WatchError;

/// How often file and registration are compared.
const EVERY: Duration = Duration::from_secs(10);
/// Certificates in a bundle: ours, and those that other replicas may still serve with.
const MAX_CERTIFICATES: usize = 4;
const MAX_FILE: u64 = 1 << 20;

/// Keeps the CAs of a file in every webhook of a registration.
///
/// A CA that stands there already stays beside the new ones as long as there is room: while replicas change their certificates
/// one by one, the API server trusts the old as well as the new. All webhooks of the registration are taken for ours.
pub struct CaBundle {
    client: Client,
    name: String,
    file: PathBuf,
}

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleOutcome {
    /// The registration has our CAs.
    UpToDate,
    /// Now it has.
    Patched,
    /// There is none of this name yet.
    NotThere,
}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaBundle")
            .field("name", &self.name)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl CaBundle {
    /// The registration `name`, and the file with our CAs in PEM, the one that signs first.
    #[must_use]
    pub fn new(client: Client, name: &str, file: &Path) -> Self {
        Self {
            client,
            name: name.to_owned(),
            file: file.to_owned(),
        }
    }

    /// Compares for ever.
    pub async fn run(self) {
        let mut told = None;
        loop {
            let outcome = self.look().await;
            if told.as_ref() != Some(&outcome) {
                match &outcome {
                    Ok(BundleOutcome::UpToDate) => {}
                    Ok(BundleOutcome::Patched) => {
                        tracing::info!(
                            name = self.name,
                            "caBundle of the registration is up to date"
                        );
                    }
                    Ok(BundleOutcome::NotThere) => {
                        tracing::warn!(
                            name = self.name,
                            "there is no such MutatingWebhookConfiguration"
                        );
                    }
                    Err(problem) => {
                        tracing::error!(
                            problem,
                            name = self.name,
                            "caBundle of the registration cannot be kept up to date"
                        );
                    }
                }
                told = Some(outcome);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Compares once with the file.
    ///
    /// # Errors
    /// When the file or the registration cannot be read or written, in words.
    pub async fn look(&self) -> Result<BundleOutcome, String> {
        let file = self.file.clone();
        let ours = tokio::task::spawn_blocking(move || read(&file))
            .await
            .map_err(|error| error.to_string())??;
        if certificates(&ours).is_empty() {
            return Err(format!("`{}` holds no certificate", self.file.display()));
        }
        Self::put(&self.client, &self.name, &ours).await
    }

    /// Compares once with these CAs, PEM, the one that signs first.
    ///
    /// # Errors
    /// When there is none, or the registration `name` cannot be read or written, in words.
    pub async fn put(client: &Client, name: &str, cas: &str) -> Result<BundleOutcome, String> {
        let ours = certificates(cas);
        if ours.is_empty() {
            return Err("there is no CA".to_owned());
        }
        let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let told = |error| WatchError::from(error).summary();
        let Some(found) = api.get_opt(name).await.map_err(told)? else {
            return Ok(BundleOutcome::NotThere);
        };
        let mut changed = Vec::new();
        for webhook in found.webhooks.iter().flatten() {
            let current = webhook.client_config.ca_bundle.as_ref();
            let current = current.map(|bundle| String::from_utf8_lossy(&bundle.0).into_owned());
            let wanted = merged(&ours, current.as_deref().unwrap_or_default());
            if current.as_ref() != Some(&wanted) {
                changed.push(json!({
                    "name": webhook.name,
                    "clientConfig": {"caBundle": ByteString(wanted.into_bytes())},
                }));
            }
        }
        if changed.is_empty() {
            return Ok(BundleOutcome::UpToDate);
        }
        // With the version that was read, so that a replica which is behind takes nothing back. Webhooks are merged by name.
        let patch = json!({
            "metadata": {"resourceVersion": found.metadata.resource_version},
            "webhooks": changed,
        });
        api.patch(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .map_err(told)?;
        Ok(BundleOutcome::Patched)
    }
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("could not read `{}`: {error}", path.display());
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(format!("`{}` is too large", path.display()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// The blocks of certificates, each with its own lines.
fn certificates(pem: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = pem.split(BEGIN).skip(1);
    blocks
        .filter_map(|block| {
            let (body, _) = block.split_once(END)?;
            let body: String = body.split_ascii_whitespace().collect::<Vec<_>>().join("\n");
            Some(format!("{BEGIN}\n{body}\n{END}\n"))
        })
        .collect()
}

/// Ours first, then what stands there besides, up to the limit.
fn merged(ours: &[String], current: &str) -> String {
    let mut all: Vec<String> = ours.to_vec();
    for certificate in certificates(current) {
        if all.len() < MAX_CERTIFICATES.max(ours.len()) && !all.contains(&certificate) {
            all.push(certificate);
        }
    }
    all.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(body: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn old_certificates_stay_beside_new_ones() {
        let ours = [block("NEW")];
        let cases = [
            ("", vec!["NEW"]),
            ("OLD", vec!["NEW", "OLD"]),
            ("OLD NEW", vec!["NEW", "OLD"]),
            ("A B C D E", vec!["NEW", "A", "B", "C"]),
        ];
        for (current, expected) in cases {
            let current: String = current.split_whitespace().map(block).collect();
            let expected: String = expected.into_iter().map(block).collect();
            let merged_once = merged(&ours, &current);
            assert_eq!(merged_once, expected, "{current}");
            assert_eq!(merged(&ours, &merged_once), expected, "a second look");
        }
        assert_eq!(merged(&ours, "rubbish"), block("NEW"));
    }
}
