//! SAML providers (IAM API spec, section 4.15).

use std::sync::Arc;

use countersign_arn::{AccountId, Arn};
use countersign_saml::Metadata;
use countersign_store::{
    DirectoryError, NewSamlProvider, PackedMetadata, SamlProviderEntry, Thing,
};
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use super::{new_tags, tag_list};
use crate::aws::authorize::{creates, not_an_arn, on};
use crate::aws::operation::{Answer, Call, Operation, iam};
use crate::aws::query::Member;
use crate::aws::shape::kinds::{
    ARN, ENCRYPTION_MODE, KEY_TO_REMOVE, PRIVATE_KEY, PROVIDER_NAME, SAML_METADATA, TAGS,
};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;
use crate::aws::{ApiError, internal_failure};

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateSAMLProvider",
        &[
            required("SAMLMetadataDocument", SAML_METADATA),
            required("Name", PROVIDER_NAME),
            optional("Tags", TAGS),
            optional("AssertionEncryptionMode", ENCRYPTION_MODE),
            optional("AddPrivateKey", PRIVATE_KEY),
        ],
        creates(Target::SamlName("Name")).tagging("iam:TagSAMLProvider"),
        Answer::Write(|call| Box::pin(create_saml_provider(call))),
    ),
    iam(
        "GetSAMLProvider",
        &[required("SAMLProviderArn", ARN)],
        on(Target::Arn("SAMLProviderArn")),
        Answer::Read(get_saml_provider),
    ),
    iam(
        "ListSAMLProviders",
        &[],
        on(Target::Any),
        Answer::Read(list_saml_providers),
    ),
    iam(
        "UpdateSAMLProvider",
        &[
            optional("SAMLMetadataDocument", SAML_METADATA),
            required("SAMLProviderArn", ARN),
            optional("AssertionEncryptionMode", ENCRYPTION_MODE),
            optional("AddPrivateKey", PRIVATE_KEY),
            optional("RemovePrivateKey", KEY_TO_REMOVE),
        ],
        on(Target::Arn("SAMLProviderArn")),
        Answer::Write(|call| Box::pin(update_saml_provider(call))),
    ),
    iam(
        "DeleteSAMLProvider",
        &[required("SAMLProviderArn", ARN)],
        on(Target::Arn("SAMLProviderArn")),
        Answer::Write(|call| Box::pin(delete_saml_provider(call))),
    ),
];

/// The only mode of encryption there is: assertions may be encrypted as far as IAM is concerned, and are refused when
/// they are, as there are no private keys to open them with.
const ALLOWED: &str = "Allowed";
/// For metadata without `validUntil`.
const YEARS: i64 = 100;

async fn create_saml_provider(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    check_encryption(call)?;
    let tags = new_tags(call)?;
    let account = call.account()?;
    let name = input.required("Name");
    if call.snapshot.saml_provider(account, name).is_some() {
        return Err(exists(name));
    }
    let (metadata, valid_until) = read(call, input.required("SAMLMetadataDocument")).await?;
    let new = NewSamlProvider {
        account,
        name: name.into(),
        metadata,
        valid_until,
        tags,
    };
    let provider = call
        .directory
        .create_saml_provider(new, call.now)
        .await
        .map_err(|error| match error {
            DirectoryError::Exists {
                what: Thing::SamlProvider,
                name,
            } => exists(&name),
            error => error.into(),
        })?;
    let mut members = vec![("SAMLProviderArn", Member::Text(provider.arn()))];
    if !provider.tags.is_empty() {
        members.push(("Tags", tag_list(&provider.tags)));
    }
    Ok(Member::Structure(members))
}

fn get_saml_provider(call: &Call<'_>) -> Result<Member, ApiError> {
    let provider = found(call)?;
    let Some(document) = provider.record.metadata() else {
        tracing::error!(
            provider = &*provider.arn,
            "the record of a SAML provider cannot be unpacked"
        );
        return Err(internal_failure());
    };
    let record = &provider.record;
    Ok(Member::Structure(vec![
        ("SAMLProviderUUID", Member::Text(record.uuid.to_string())),
        ("SAMLMetadataDocument", Member::Text(document)),
        ("CreateDate", Member::Time(record.created)),
        ("ValidUntil", Member::Time(record.valid_until)),
        ("Tags", tag_list(&record.tags)),
        ("AssertionEncryptionMode", Member::Text(ALLOWED.to_owned())),
        ("PrivateKeyList", Member::List(Vec::new())),
    ]))
}

fn list_saml_providers(call: &Call<'_>) -> Result<Member, ApiError> {
    let providers = call.snapshot.saml_providers(call.account()?);
    let entry = |provider: &Arc<SamlProviderEntry>| {
        Member::Structure(vec![
            ("Arn", Member::Text(provider.arn.to_string())),
            ("ValidUntil", Member::Time(provider.record.valid_until)),
            ("CreateDate", Member::Time(provider.record.created)),
        ])
    };
    Ok(Member::Structure(vec![(
        "SAMLProviderList",
        Member::List(providers.map(entry).collect()),
    )]))
}

async fn update_saml_provider(call: &Call<'_>) -> Result<Member, ApiError> {
    let input = &call.input;
    check_encryption(call)?;
    let provider = found(call)?;
    let document = input.text("SAMLMetadataDocument");
    if document.is_none() && input.text("AssertionEncryptionMode").is_none() {
        return Err(invalid(
            "Unable to update identity provider. No updates are defined for metadata or encryption assertion.",
        ));
    }
    if let Some(document) = document {
        let (metadata, valid_until) = read(call, document).await?;
        let (account, name) = named(call)?;
        call.directory
            .set_saml_metadata(account, name, metadata, valid_until)
            .await
            .map_err(|error| by_arn(call, error))?;
    }
    Ok(Member::Structure(vec![(
        "SAMLProviderArn",
        Member::Text(provider.arn.to_string()),
    )]))
}

async fn delete_saml_provider(call: &Call<'_>) -> Result<Member, ApiError> {
    let (account, name) = named(call)?;
    call.directory
        .delete_saml_provider(account, name)
        .await
        .map_err(|error| by_arn(call, error))?;
    Ok(Member::None)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "InvalidInput", message)
}

fn exists(name: &str) -> ApiError {
    ApiError::new(
        409,
        "EntityAlreadyExists",
        format!("SAMLProvider with name {name} already exists."),
    )
}

fn no_such(arn: &str) -> ApiError {
    ApiError::new(
        404,
        "NoSuchEntity",
        format!("Manifest not found for arn {arn}"),
    )
}

/// The directory knows names; answers have the ARN as it was given.
fn by_arn(call: &Call<'_>, error: DirectoryError) -> ApiError {
    match error {
        DirectoryError::NoSuch {
            what: Thing::SamlProvider,
            ..
        } => no_such(call.input.required("SAMLProviderArn")),
        error => error.into(),
    }
}

/// The provider that `SAMLProviderArn` names. Providers of other accounts are none that this one has.
fn found<'a>(call: &'a Call<'_>) -> Result<&'a Arc<SamlProviderEntry>, ApiError> {
    let text = call.input.required("SAMLProviderArn");
    let arn = Arn::parse(text).map_err(|_| not_an_arn(text))?;
    let name = arn
        .resource
        .strip_prefix("saml-provider/")
        .ok_or_else(|| invalid(not_an_arn(text).message))?;
    call.snapshot
        .saml_provider(call.account()?, name)
        .filter(|provider| *provider.arn == *text)
        .ok_or_else(|| no_such(text))
}

fn named<'a>(call: &'a Call<'_>) -> Result<(AccountId, &'a str), ApiError> {
    let record = &found(call)?.record;
    Ok((record.account, &record.name))
}

/// Encrypted assertions are refused by STS, so nothing may be set up that needs them.
fn check_encryption(call: &Call<'_>) -> Result<(), ApiError> {
    let input = &call.input;
    let with_keys =
        input.text("AddPrivateKey").is_some() || input.text("RemovePrivateKey").is_some();
    let required = input
        .text("AssertionEncryptionMode")
        .is_some_and(|mode| mode != ALLOWED);
    if with_keys || required {
        return Err(invalid(
            "Encrypted SAML assertions are not supported: leave out AddPrivateKey and RemovePrivateKey, and use AssertionEncryptionMode Allowed.",
        ));
    }
    Ok(())
}

/// Reads and packs metadata where nothing waits for it; also says when it ceases to be good.
async fn read(call: &Call<'_>, document: &str) -> Result<(PackedMetadata, Timestamp), ApiError> {
    let document = document.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let metadata = Metadata::parse(&document)
            .map_err(|error| invalid(format!("Could not parse metadata: {error}")))?;
        let packed = PackedMetadata::pack(&document).map_err(|error| match error {
            DirectoryError::QuotaExceeded { limit, .. } => ApiError::new(
                409,
                "LimitExceeded",
                format!(
                    "The metadata document is too large: compressed and in base64 it may have at most {limit} bytes."
                ),
            ),
            error => error.into(),
        })?;
        Ok::<_, ApiError>((packed, metadata.valid_until()))
    });
    let (packed, until) = read.await.map_err(|_| internal_failure())??;
    Ok((packed, until.unwrap_or_else(|| in_100_years(call.now))))
}

fn in_100_years(now: Timestamp) -> Timestamp {
    now.to_zoned(TimeZone::UTC)
        .checked_add(YEARS.years())
        .map_or(Timestamp::MAX, |then| then.timestamp())
}
