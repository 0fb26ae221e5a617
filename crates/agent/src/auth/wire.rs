//! Reading the answers of EKS Auth: every member of the model is required, and nothing is believed that does not fit.

use countersign_arn::{AccountId, Arn};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{AuthFailure, Issued};
use crate::refusal::{FinalCode, one_line};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    subject: Subject,
    audience: String,
    pod_identity_association: Association,
    assumed_role_user: AssumedRole,
    credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    namespace: String,
    service_account: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Association {
    association_arn: String,
    association_id: String,
}

/// The model really spells it `assumeRoleId`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssumedRole {
    arn: String,
    assume_role_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    session_token: String,
    secret_access_key: String,
    access_key_id: String,
    expiration: f64,
}

/// Reads the body of a 200.
///
/// # Errors
/// When a member is missing, empty or malformed.
pub(crate) fn parse(body: &[u8]) -> Result<Issued, AuthFailure> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| {
        AuthFailure::BadAnswer("it is not the JSON of AssumeRoleForPodIdentity with all members")
    })?;
    let secret_access_key = Zeroizing::new(answer.credentials.secret_access_key);
    let session_token = Zeroizing::new(answer.credentials.session_token);
    let required = [
        &answer.subject.namespace,
        &answer.subject.service_account,
        &answer.audience,
        &answer.pod_identity_association.association_arn,
        &answer.pod_identity_association.association_id,
        &answer.assumed_role_user.assume_role_id,
        &answer.credentials.access_key_id,
        &secret_access_key,
        &session_token,
    ];
    if required.iter().any(|text| text.is_empty()) {
        return Err(AuthFailure::BadAnswer("a required member is empty"));
    }
    Ok(Issued {
        account: account(&answer.assumed_role_user.arn)?,
        expires_at: timestamp(answer.credentials.expiration)?,
        namespace: answer.subject.namespace.into(),
        service_account: answer.subject.service_account.into(),
        audience: answer.audience.into(),
        association_id: answer.pod_identity_association.association_id.into(),
        session_arn: answer.assumed_role_user.arn.into(),
        access_key_id: answer.credentials.access_key_id.into(),
        secret_access_key,
        session_token,
    })
}

/// The account in the ARN of an assumed role.
pub(super) fn account(arn: &str) -> Result<Box<str>, AuthFailure> {
    Arn::parse(arn)
        .ok()
        .filter(|arn| arn.service == "sts" && arn.resource.starts_with("assumed-role/"))
        .and_then(|arn| arn.account.parse::<AccountId>().ok())
        .map(|account| account.as_str().into())
        .ok_or(AuthFailure::BadAnswer(
            "the ARN in it is not one of an assumed role",
        ))
}

/// Whole seconds, rounded down: credentials must not seem to live longer than they do.
pub(super) fn timestamp(seconds: f64) -> Result<Timestamp, AuthFailure> {
    /// 9999-01-01; larger numbers are milliseconds or worse.
    const LAST: f64 = 253_370_764_800.0;
    let fault = AuthFailure::BadAnswer("the expiration in it is not a time");
    if !(0.0..LAST).contains(&seconds) {
        return Err(fault);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was checked, and the fraction is to be dropped"
    )]
    let whole = seconds as i64;
    Timestamp::from_second(whole).map_err(|_| fault)
}

/// Reads any other answer.
///
/// Only the code decides over the four final answers, and only with a status of 4xx: a proxy's 404 without a code must not
/// cost a pod its credentials.
pub(crate) fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> AuthFailure {
    let (code, message) = code_and_message(headers, body);
    if status == StatusCode::TOO_MANY_REQUESTS || &*code == "ThrottlingException" {
        return AuthFailure::Throttled;
    }
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return AuthFailure::Node { code, message };
    }
    match FinalCode::from_name(&code) {
        Some(code) if status.is_client_error() => AuthFailure::Final { code, message },
        None if status == StatusCode::BAD_REQUEST && !code.is_empty() => {
            AuthFailure::Rejected { code, message }
        }
        _ => AuthFailure::Unavailable(format!("status {}", status.as_u16()).into()),
    }
}

/// The code and the text of an error, each on one line.
pub(super) fn code_and_message(headers: &HeaderMap, body: &[u8]) -> (Box<str>, Box<str>) {
    #[derive(Deserialize, Default)]
    struct Fault {
        #[serde(rename = "__type")]
        of_type: Option<String>,
        code: Option<String>,
        message: Option<String>,
        #[serde(rename = "Message")]
        upper_message: Option<String>,
    }
    let fault: Fault = serde_json::from_slice(body).unwrap_or_default();
    let code = headers
        .get("x-amzn-errortype")
        .and_then(|value| value.to_str().ok())
        .or(fault.of_type.as_deref())
        .or(fault.code.as_deref())
        .unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default();
    let code = code.split(':').next().unwrap_or_default().trim();
    let message = one_line(
        fault
            .message
            .or(fault.upper_message)
            .as_deref()
            .unwrap_or_default(),
    );
    (one_line(code), message)
}
