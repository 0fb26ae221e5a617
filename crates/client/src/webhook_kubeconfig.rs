//! The kubeconfigs by which kube-apiserver finds the webhooks: of tokens (`--authentication-token-webhook-config-file`) and
//! of access policies (`--authorization-config`, before Kubernetes 1.32 `--authorization-webhook-config-file`).

use std::io;
use std::net::Ipv6Addr;
use std::path::Path;

use base64::Engine as _;

use crate::files::{self, Mode};

/// The URL of the token webhook; an IPv6 address is put into brackets.
#[must_use]
pub fn server_url(hostname: &str, port: u16) -> String {
    format!("{}/authenticate", origin(hostname, port))
}

/// The URL of the admission webhook of the default cluster.
#[must_use]
pub fn admission_url(hostname: &str, port: u16) -> String {
    format!("{}/mutate", origin(hostname, port))
}

/// The URL of the authorization webhook of the default cluster.
#[must_use]
pub fn authorizer_url(hostname: &str, port: u16) -> String {
    format!("{}/authorize", origin(hostname, port))
}

fn origin(hostname: &str, port: u16) -> String {
    if hostname.parse::<Ipv6Addr>().is_ok() {
        format!("https://[{hostname}]:{port}")
    } else {
        format!("https://{hostname}:{port}")
    }
}

/// Where kube-apiserver finds the certificate with which it proves itself to the webhook.
#[derive(Debug, Clone, Copy)]
pub struct ClientCertificate<'a> {
    /// Certificate chain, PEM.
    pub certificate: &'a Path,
    /// Private key, PEM.
    pub key: &'a Path,
}

/// [`render`] with a client certificate, for a webhook that demands one.
#[must_use]
pub fn render_with_client(
    server_url: &str,
    ca_bundle_pem: &str,
    client: ClientCertificate<'_>,
) -> String {
    // A JSON string is a YAML string, whatever characters the path has.
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let user = format!(
        "- name: apiserver\n  user:\n    client-certificate: {}\n    client-key: {}\n",
        quoted(client.certificate),
        quoted(client.key)
    );
    render(server_url, ca_bundle_pem).replacen("- name: apiserver\n", &user, 1)
}

/// The kubeconfig's text, byte for byte the same for the same input. The names in it are those of aws-iam-authenticator.
#[must_use]
pub fn render(server_url: &str, ca_bundle_pem: &str) -> String {
    let authority = base64::engine::general_purpose::STANDARD.encode(ca_bundle_pem);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: aws-iam-authenticator
  cluster:
    certificate-authority-data: {authority}
    server: {server_url}
users:
- name: apiserver
contexts:
- name: webhook
  context:
    cluster: aws-iam-authenticator
    user: apiserver
current-context: webhook
"
    )
}

/// Writes the text with mode 0644 unless the file already has it; says whether it was written.
///
/// A directory that cannot be written is no error if the file in it is already right.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, text: &str) -> io::Result<bool> {
    if std::fs::read(path).is_ok_and(|current| current == text.as_bytes()) {
        return Ok(false);
    }
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory)?;
    }
    files::write_atomically(path, text.as_bytes(), Mode::Public)?;
    Ok(true)
}
