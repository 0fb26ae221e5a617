//! The body that a pod gets (agent spec, section 7.3).

use bytes::Bytes;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::auth::Issued;

/// `{"AccessKeyId":…,"SecretAccessKey":…,"Token":…,"AccountId":…,"Expiration":…}`, written once for all requests and wiped
/// when the last copy is dropped.
pub(super) fn body(issued: &Issued) -> Option<Bytes> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Body<'a> {
        access_key_id: &'a str,
        secret_access_key: &'a str,
        token: &'a str,
        account_id: &'a str,
        expiration: jiff::Timestamp,
    }
    let body = Body {
        access_key_id: &issued.access_key_id,
        secret_access_key: issued.expose_secret(),
        token: issued.expose_session_token(),
        account_id: &issued.account,
        expiration: issued.expires_at,
    };
    // Room for everything, even if every character were escaped: a vector that grows leaves copies of secrets behind.
    let texts = issued.access_key_id.len()
        + issued.expose_secret().len()
        + issued.expose_session_token().len();
    let mut text = Zeroizing::new(Vec::with_capacity(6 * texts + 256));
    serde_json::to_writer(&mut *text, &body).ok()?;
    let mut exact = Zeroizing::new(Vec::with_capacity(text.len()));
    exact.extend_from_slice(&text);
    Some(Bytes::from_owner(exact))
}
