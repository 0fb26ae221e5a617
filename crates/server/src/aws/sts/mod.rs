//! Security Token Service.

mod assume_role;
mod assume_root;
mod context;
mod identity_token;
mod issue;
mod lookups;
mod mfa;
mod request;
mod role_session;
mod saml;
mod saml_trust;
mod user_session;
mod web_identity;

use super::ApiError;
use super::authorize::{Rule, on};
use super::operation::{Access, Answer, Call, Operation, sts};
use super::query::Parameters;
use super::shape::kinds::{
    AUDIENCES, ENCODED_MESSAGE, EXTERNAL_ID, FEDERATION_NAME, POLICY_ARN, POLICY_ARNS,
    PROVIDED_CONTEXTS, PROVIDER_ID, ROLE_DURATION, ROOT_DURATION, SAML_ASSERTION, SESSION_POLICY,
    SESSION_POLICY_2048, SIGNING_ALGORITHM, STS_ACCESS_KEY_ID, STS_ARN, STS_NAME,
    STS_SERIAL_NUMBER, TAG_KEYS, TAGS, TARGET_PRINCIPAL, TOKEN_CODE, TOKEN_DURATION, TOKEN_SIZE,
    USER_DURATION, WEB_IDENTITY_TOKEN,
};
use super::shape::{Input, Parameter, Style, optional, required};
use super::target::{Resource, Target};

pub(super) use role_session::{find_role, minified};
pub(super) use saml_trust::SamlTrust;

const ASSUME_ROLE: &[Parameter] = &[
    required("RoleArn", STS_ARN),
    required("RoleSessionName", STS_NAME),
    optional("PolicyArns", POLICY_ARNS),
    optional("Policy", SESSION_POLICY),
    optional("DurationSeconds", ROLE_DURATION),
    optional("Tags", TAGS),
    optional("TransitiveTagKeys", TAG_KEYS),
    optional("ExternalId", EXTERNAL_ID),
    optional("SerialNumber", STS_SERIAL_NUMBER),
    optional("TokenCode", TOKEN_CODE),
    optional("SourceIdentity", STS_NAME),
    optional("ProvidedContexts", PROVIDED_CONTEXTS),
    optional("MinimumSessionTokenSize", TOKEN_SIZE),
];

/// The operations, in the order of the spec's table (section 2).
pub(super) const OPERATIONS: &[Operation] = &[
    sts(
        "GetCallerIdentity",
        Access::Signed,
        &[],
        Rule::Own,
        Answer::Read(lookups::get_caller_identity),
    ),
    sts(
        "AssumeRole",
        Access::Signed,
        ASSUME_ROLE,
        Rule::Own,
        Answer::Write(|call| Box::pin(assume_role::assume_role(call))),
    ),
    sts(
        "AssumeRoleWithWebIdentity",
        Access::Anonymous,
        &[
            required("RoleArn", STS_ARN),
            required("RoleSessionName", STS_NAME),
            required("WebIdentityToken", WEB_IDENTITY_TOKEN),
            optional("ProviderId", PROVIDER_ID),
            optional("PolicyArns", POLICY_ARNS),
            optional("Policy", SESSION_POLICY_2048),
            optional("DurationSeconds", ROLE_DURATION),
            optional("MinimumSessionTokenSize", TOKEN_SIZE),
        ],
        Rule::Own,
        Answer::Write(web_identity::assume_role_with_web_identity),
    ),
    sts(
        "AssumeRoleWithSAML",
        Access::Anonymous,
        &[
            required("RoleArn", STS_ARN),
            required("PrincipalArn", STS_ARN),
            required("SAMLAssertion", SAML_ASSERTION),
            optional("PolicyArns", POLICY_ARNS),
            optional("Policy", SESSION_POLICY_2048),
            optional("DurationSeconds", ROLE_DURATION),
            optional("MinimumSessionTokenSize", TOKEN_SIZE),
        ],
        Rule::Own,
        Answer::Write(|call| Box::pin(saml::assume_role_with_saml(call))),
    ),
    sts(
        "GetSessionToken",
        Access::Signed,
        &[
            optional("DurationSeconds", USER_DURATION),
            optional("SerialNumber", STS_SERIAL_NUMBER),
            optional("TokenCode", TOKEN_CODE),
            optional("MinimumSessionTokenSize", TOKEN_SIZE),
        ],
        on(Target::Any),
        Answer::Write(user_session::get_session_token),
    ),
    sts(
        "GetFederationToken",
        Access::Signed,
        &[
            required("Name", FEDERATION_NAME),
            optional("Policy", SESSION_POLICY_2048),
            optional("PolicyArns", POLICY_ARNS),
            optional("DurationSeconds", USER_DURATION),
            optional("Tags", TAGS),
            optional("MinimumSessionTokenSize", TOKEN_SIZE),
        ],
        on(Target::Custom(federated_user)).tagging("sts:TagSession"),
        Answer::Read(user_session::get_federation_token),
    ),
    sts(
        "GetAccessKeyInfo",
        Access::Signed,
        &[required("AccessKeyId", STS_ACCESS_KEY_ID)],
        on(Target::Any),
        Answer::Read(lookups::get_access_key_info),
    ),
    sts(
        "DecodeAuthorizationMessage",
        Access::Signed,
        &[required("EncodedMessage", ENCODED_MESSAGE)],
        on(Target::Any),
        Answer::Read(lookups::decode_authorization_message),
    ),
    sts(
        "GetWebIdentityToken",
        Access::Signed,
        &[
            required("Audience", AUDIENCES),
            optional("DurationSeconds", TOKEN_DURATION),
            required("SigningAlgorithm", SIGNING_ALGORITHM),
            optional("Tags", TAGS),
        ],
        on(Target::Any).tagging("sts:TagGetWebIdentityToken"),
        Answer::Read(identity_token::get_web_identity_token),
    ),
    sts(
        "AssumeRoot",
        Access::Signed,
        &[
            required("TargetPrincipal", TARGET_PRINCIPAL),
            required("TaskPolicyArn", POLICY_ARN),
            optional("DurationSeconds", ROOT_DURATION),
            optional("MinimumSessionTokenSize", TOKEN_SIZE),
        ],
        on(Target::Custom(assume_root::root_user)),
        Answer::Read(assume_root::assume_root),
    ),
];

/// Operations of the service model that are refused as unknown ones (STS spec, section 2).
pub(super) const NOT_OFFERED: &[&str] = &["GetDelegatedAccessToken"];

/// The parameters of AssumeRole, without what they say.
pub(super) fn read_assume_role(parameters: &Parameters<'_>) -> Result<(), ApiError> {
    let input = Input::read(ASSUME_ROLE, parameters, Style::WithValue)?;
    request::AssumeRoleRequest::of(&input).map(drop)
}

fn federated_user(call: &Call<'_>) -> Result<Resource, ApiError> {
    Ok(Resource::named(format!(
        "arn:{}:sts::{}:federated-user/{}",
        call.partition(),
        call.account()?,
        call.input.required("Name")
    )))
}
