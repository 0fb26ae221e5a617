//! GetWebIdentityToken: a token by which the caller proves to outside services who it is (STS spec, section 2.9).

use countersign_arn::Tag;
use countersign_oidc::Algorithm;
use countersign_session::duration::web_identity_token_seconds;
use countersign_session::{Chain, effective_tags};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::aws::operation::Call;
use crate::aws::query::Member;
use crate::aws::{ApiError, internal_failure, keys};
use crate::outbound;

/// Most bytes of the claims.
const MAX_CLAIMS: usize = 16 * 1024;
/// The claim with all that is ours.
const OURS: &str = "https://sts.amazonaws.com/";

pub(super) fn get_web_identity_token(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    let algorithm = algorithm(input.required("SigningAlgorithm"))?;
    let caller = call.caller()?;
    let session = caller.session();
    // Duplicate and reserved keys are refused as they are for session tags.
    let given = input.tags("Tags");
    Chain::of(None).session_tags(&given, &[""; 0])?;
    let account = call
        .snapshot
        .account(call.account()?)
        .ok_or_else(internal_failure)?;
    let Some(federation) = account
        .record
        .outbound_federation
        .as_ref()
        .filter(|federation| federation.enabled)
    else {
        return Err(ApiError::new(
            403,
            "OutboundWebIdentityFederationDisabledException",
            "Outbound web identity federation is not enabled for your account.",
        ));
    };
    let seconds = web_identity_token_seconds(input.integer("DurationSeconds"), session, call.now)?;
    let web = call.web_identity.ok_or_else(|| {
        tracing::error!("web identities are not set up");
        internal_failure()
    })?;

    let issued = call.now.as_second();
    let expires = issued.saturating_add(i64::from(seconds));
    let mut ours = Map::new();
    let mut set = |name: &str, value: Value| ours.insert(name.to_owned(), value);
    set("aws_account", account.record.id.to_string().into());
    set("source_region", call.region().into());
    if let Some(organization) = &account.record.organization_id {
        set("org_id", (**organization).into());
    }
    let tags = principal_tags(call)?;
    if !tags.is_empty() {
        set("principal_tags", object(&tags));
    }
    if !given.is_empty() {
        set("request_tags", object(&given));
    }
    let audiences = input.texts("Audience");
    let claims = json!({
        "iss": outbound::issuer(web.public_url(), &federation.hash),
        "aud": match audiences.as_slice() {
            [one] => json!(one),
            several => json!(several),
        },
        "sub": subject(call)?,
        "iat": issued,
        "exp": expires,
        "jti": token_id(call)?,
        OURS: ours,
    });
    let size = claims.to_string().len();
    if size > MAX_CLAIMS {
        return Err(ApiError::new(
            400,
            "JWTPayloadSizeExceededException",
            format!("The token payload has {size} bytes; at most {MAX_CLAIMS} are allowed."),
        ));
    }
    let unavailable = || {
        ApiError::new(
            503,
            "ServiceUnavailable",
            "Tokens cannot be signed at the moment.",
        )
    };
    let key = call
        .snapshot
        .outbound_keys()
        .and_then(|keys| keys.keys.signing(algorithm, call.now))
        .ok_or_else(unavailable)?;
    let token = key.sign(&claims).map_err(|error| {
        tracing::error!(%error, "an outbound token could not be signed");
        unavailable()
    })?;
    let expires = Timestamp::from_second(issued)
        .and_then(|issued| issued.checked_add(SignedDuration::from_secs(i64::from(seconds))))
        .map_err(|_| internal_failure())?;
    tracing::info!(
        request_id = call.request_id,
        caller = caller.identity().arn(),
        audience = ?audiences,
        kid = key.id(),
        seconds,
        "outbound token issued"
    );
    Ok(Member::Structure(vec![
        ("WebIdentityToken", Member::Text(token)),
        ("Expiration", Member::Time(expires)),
    ]))
}

/// The model allows any five characters; the service two names.
fn algorithm(name: &str) -> Result<Algorithm, ApiError> {
    match name {
        "RS256" => Ok(Algorithm::Rs256),
        "ES384" => Ok(Algorithm::Es384),
        _ => Err(ApiError::new(
            400,
            "ValidationError",
            format!(
                "1 validation error detected: Value '{name}' at 'signingAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RS256, ES384]"
            ),
        )),
    }
}

/// The ARN of the role or user, not of the session.
fn subject(call: &Call<'_>) -> Result<String, ApiError> {
    let caller = call.caller()?;
    Ok(match caller.session() {
        Some(session) => session
            .principal
            .principal_arn(session.partition, session.account),
        None => caller.identity().arn().to_owned(),
    })
}

fn principal_tags(call: &Call<'_>) -> Result<Vec<Tag>, ApiError> {
    let caller = call.caller()?;
    if let Some(session) = caller.session() {
        let live = keys::live_principal(&call.snapshot, session);
        let own: &[Tag] = live.as_ref().map_or(&[], |live| live.tags);
        return Ok(effective_tags(own, &session.tags));
    }
    let user = call.holder()?.user.as_ref();
    Ok(user.map_or_else(Vec::new, |user| user.record.tags.clone()))
}

fn object(tags: &[Tag]) -> Value {
    let members = tags
        .iter()
        .map(|tag| (tag.key.to_string(), Value::from(&*tag.value)));
    Value::Object(members.collect())
}

/// A random UUID.
fn token_id(call: &Call<'_>) -> Result<String, ApiError> {
    let random: [u8; 16] = call.random.bytes().map_err(|_| internal_failure())?;
    let number = u128::from_be_bytes(random);
    // Version 4, variant 1.
    let number = number & !(0xf000 << 64) & !(0xc000 << 48) | (0x4000 << 64) | (0x8000 << 48);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok(format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    ))
}
