//! OpenID Connect providers and their tags (IAM API spec, section 4.10).

use countersign_arn::{AccountId, Arn};
use countersign_store::{DirectoryError, NewOidcProvider, OidcProviderEntry, Thing};

use super::error::no_such;
use super::{new_tags, tag_list};
use crate::aws::ApiError;
use crate::aws::authorize::{creates, on};
use crate::aws::operation::{Answer, Call, Operation, iam};
use crate::aws::query::Member;
use crate::aws::shape::kinds::{ARN, CLIENT_ID, CLIENT_IDS, TAGS, THUMBPRINTS, URL};
use crate::aws::shape::{optional, required};
use crate::aws::target::Target;

const THUMBPRINT_LIMIT: usize = 5;

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    iam(
        "CreateOpenIDConnectProvider",
        &[
            required("Url", URL),
            optional("ClientIDList", CLIENT_IDS),
            optional("ThumbprintList", THUMBPRINTS),
            optional("Tags", TAGS),
        ],
        creates(Target::OidcUrl("Url")).tagging("iam:TagOpenIDConnectProvider"),
        Answer::Write(|call| Box::pin(create(call))),
    ),
    iam(
        "GetOpenIDConnectProvider",
        &[required("OpenIDConnectProviderArn", ARN)],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::Read(get),
    ),
    iam(
        "ListOpenIDConnectProviders",
        &[],
        on(Target::Any),
        Answer::Read(list),
    ),
    iam(
        "AddClientIDToOpenIDConnectProvider",
        &[
            required("OpenIDConnectProviderArn", ARN),
            required("ClientID", CLIENT_ID),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::Write(|call| Box::pin(add_client_id(call))),
    ),
    iam(
        "RemoveClientIDFromOpenIDConnectProvider",
        &[
            required("OpenIDConnectProviderArn", ARN),
            required("ClientID", CLIENT_ID),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::Write(|call| Box::pin(remove_client_id(call))),
    ),
    iam(
        "UpdateOpenIDConnectProviderThumbprint",
        &[
            required("OpenIDConnectProviderArn", ARN),
            required("ThumbprintList", THUMBPRINTS),
        ],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::Write(|call| Box::pin(update_thumbprints(call))),
    ),
    iam(
        "DeleteOpenIDConnectProvider",
        &[required("OpenIDConnectProviderArn", ARN)],
        on(Target::Arn("OpenIDConnectProviderArn")),
        Answer::Write(|call| Box::pin(delete(call))),
    ),
];

/// Account and URL of the provider that an ARN names; of another account is as good as not there.
fn named<'a>(call: &Call<'a>) -> Result<(AccountId, &'a str), ApiError> {
    let text = call.input.required("OpenIDConnectProviderArn");
    let account = call.account()?;
    let arn = Arn::parse(text)
        .ok()
        .filter(|arn| arn.service == "iam" && arn.region.is_empty());
    arn.filter(|arn| {
        *arn.account == *account.as_str() && arn.partition == call.partition().to_string()
    })
    .and_then(|arn| arn.resource.strip_prefix("oidc-provider/"))
    .map(|url| (account, url))
    .ok_or_else(|| not_found(text))
}

fn not_found(arn: &str) -> ApiError {
    no_such(format!("OpenIDConnect Provider not found for arn {arn}"))
}

fn find<'c>(call: &'c Call<'_>) -> Result<&'c OidcProviderEntry, ApiError> {
    let (account, url) = named(call)?;
    call.snapshot
        .oidc_provider(account, url)
        .map(AsRef::as_ref)
        .ok_or_else(|| not_found(call.input.required("OpenIDConnectProviderArn")))
}

/// What the directory says of a provider, with the ARN of the request in it.
fn worded(call: &Call<'_>, error: DirectoryError) -> ApiError {
    match error {
        DirectoryError::NoSuch {
            what: Thing::OidcProvider,
            ..
        } => not_found(call.input.required("OpenIDConnectProviderArn")),
        other => other.into(),
    }
}

/// The URL without its scheme, host in lower case; a port that the scheme implies is left out.
fn issuer(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    Some(format!("{host}{path}"))
}

fn boxed(texts: &[&str]) -> Vec<Box<str>> {
    texts.iter().map(|text| (*text).into()).collect()
}

fn thumbprints(call: &Call<'_>) -> Result<Vec<Box<str>>, ApiError> {
    let given = call.input.texts("ThumbprintList");
    if given.len() > THUMBPRINT_LIMIT {
        return Err(ApiError::new(
            400,
            "InvalidInput",
            "Thumbprint list must contain fewer than 5 entries.",
        ));
    }
    Ok(boxed(&given))
}

async fn create(call: &Call<'_>) -> Result<Member, ApiError> {
    let url = call.input.required("Url");
    let invalid_url = || {
        ApiError::new(
            400,
            "ValidationError",
            "Invalid Open ID Connect Provider URL",
        )
    };
    let issuer = issuer(url).ok_or_else(invalid_url)?;
    let authority = issuer.split('/').next().unwrap_or_default();
    if authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        && !authority.contains('@')
    {
        // IAM has no provider with a port (IRSA spec, sections 2.1 and 12); its words for it are not known.
        return Err(ApiError::new(
            400,
            "InvalidInput",
            "The URL of an OpenID Connect provider must not have another port than 443.",
        ));
    }
    let thumbprints = thumbprints(call)?;
    let new = NewOidcProvider {
        account: call.account()?,
        url: issuer.into(),
        client_ids: boxed(&call.input.texts("ClientIDList")),
        thumbprints,
        tags: new_tags(call)?,
    };
    let made = call
        .directory
        .create_oidc_provider(new, call.now)
        .await
        .map_err(|error| match error {
            DirectoryError::Exists { .. } => ApiError::new(
                409,
                "EntityAlreadyExists",
                format!("Provider with url {url} already exists."),
            ),
            DirectoryError::Invalid(field) if field.field == "the provider URL" => invalid_url(),
            other => other.into(),
        })?;
    let mut members = vec![("OpenIDConnectProviderArn", Member::Text(made.arn()))];
    if !made.tags.is_empty() {
        members.push(("Tags", tag_list(&made.tags)));
    }
    Ok(Member::Structure(members))
}

fn get(call: &Call<'_>) -> Result<Member, ApiError> {
    let record = &find(call)?.record;
    let texts = |all: &[Box<str>]| {
        Member::List(
            all.iter()
                .map(|text| Member::Text(text.to_string()))
                .collect(),
        )
    };
    Ok(Member::Structure(vec![
        ("Url", Member::Text(record.url.to_string())),
        ("ClientIDList", texts(&record.client_ids)),
        ("ThumbprintList", texts(&record.thumbprints)),
        ("CreateDate", Member::Time(record.created)),
        ("Tags", tag_list(&record.tags)),
    ]))
}

fn list(call: &Call<'_>) -> Result<Member, ApiError> {
    let providers = call.snapshot.oidc_providers(call.account()?);
    let arns = providers
        .map(|provider| Member::Structure(vec![("Arn", Member::Text(provider.arn.to_string()))]));
    Ok(Member::Structure(vec![(
        "OpenIDConnectProviderList",
        Member::List(arns.collect()),
    )]))
}

async fn add_client_id(call: &Call<'_>) -> Result<Member, ApiError> {
    let (account, url) = named(call)?;
    call.directory
        .add_client_id(account, url, call.input.required("ClientID"))
        .await
        .map_err(|error| worded(call, error))?;
    Ok(Member::None)
}

async fn remove_client_id(call: &Call<'_>) -> Result<Member, ApiError> {
    let (account, url) = named(call)?;
    call.directory
        .remove_client_id(account, url, call.input.required("ClientID"))
        .await
        .map_err(|error| worded(call, error))?;
    Ok(Member::None)
}

async fn update_thumbprints(call: &Call<'_>) -> Result<Member, ApiError> {
    let (account, url) = named(call)?;
    let thumbprints = thumbprints(call)?;
    call.directory
        .set_thumbprints(account, url, &thumbprints)
        .await
        .map_err(|error| worded(call, error))?;
    Ok(Member::None)
}

/// A second delete fails, whatever the documentation says: so it was recorded.
async fn delete(call: &Call<'_>) -> Result<Member, ApiError> {
    let arn = call.input.required("OpenIDConnectProviderArn");
    let gone = || no_such(format!("OpenId connect Provider {arn} cannot be found."));
    let (account, url) = named(call).map_err(|_| gone())?;
    call.directory
        .delete_oidc_provider(account, url)
        .await
        .map_err(|error| match error {
            DirectoryError::NoSuch { .. } => gone(),
            other => other.into(),
        })?;
    Ok(Member::None)
}
