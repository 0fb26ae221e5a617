//! What a call is about, as policies see it: the ARN, and what is known of the thing behind it (IAM API spec, section 5.7).
//!
//! A thing that exists has the ARN it is stored under, whatever letter case or path the request has. One that does not exist
//! gets the name as given behind the path `/`, so that a caller who may not ask never learns which of the two it is.

use countersign_arn::{AccountId, Arn, CallerKind, Tag};
use countersign_store::KeyOwner;

use super::ApiError;
use super::authorize::not_an_arn;
use super::operation::Call;

/// What a call is about, by the parameter that names it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Nothing in particular: `*`.
    Any,
    /// The calling user.
    Caller,
    /// A user by name; the calling user, or root, when the name is left out.
    User(&'static str),
    /// A role by name.
    Role(&'static str),
    /// A group by name.
    Group(&'static str),
    /// An instance profile by name.
    InstanceProfile(&'static str),
    /// A customer managed policy by name.
    Policy(&'static str),
    /// Anything by ARN.
    Arn(&'static str),
    /// An OpenID Connect provider by URL.
    OidcUrl(&'static str),
    /// A SAML provider by name.
    SamlName(&'static str),
    /// An MFA device by name.
    MfaName(&'static str),
    /// An MFA device by serial number, which is an ARN for virtual ones.
    Serial(&'static str),
    /// A server certificate by name.
    ServerCertificate(&'static str),
    /// The user who has an access key.
    AccessKey(&'static str),
    /// What only the operation can tell.
    Custom(fn(&Call<'_>) -> Result<Resource, ApiError>),
}

/// A resource as policies see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resource {
    pub(crate) arn: String,
    pub(crate) tags: Vec<Tag>,
    /// ARN of the permissions boundary of a user or role.
    pub(crate) boundary: Option<Box<str>>,
    /// Condition keys of its own; those with one value have one text.
    pub(crate) keys: Vec<(&'static str, Vec<String>)>,
}

impl Resource {
    /// A resource of which nothing but the ARN is known.
    pub(crate) fn named(arn: impl Into<String>) -> Self {
        Self {
            arn: arn.into(),
            ..Self::default()
        }
    }

    pub(crate) fn tagged(arn: impl Into<String>, tags: &[Tag]) -> Self {
        Self {
            arn: arn.into(),
            tags: tags.to_vec(),
            ..Self::default()
        }
    }

    fn entity(arn: impl Into<String>, tags: &[Tag], boundary: Option<&str>) -> Self {
        Self {
            arn: arn.into(),
            tags: tags.to_vec(),
            boundary: boundary.map(Into::into),
            ..Self::default()
        }
    }
}

impl Target {
    /// The resource of a call. `creates`: the call makes it, so that path and tags are those of the request.
    ///
    /// # Errors
    /// What is wrong with the parameter that names it.
    pub(crate) fn resource(self, call: &Call<'_>, creates: bool) -> Result<Resource, ApiError> {
        // Only the operation itself can name what it makes then.
        let named_by_call = matches!(self, Self::Custom(_));
        let found = if creates && !named_by_call {
            None
        } else {
            self.existing(call)?
        };
        if let Some(resource) = found {
            return Ok(resource);
        }
        let mut resource = Resource::named(self.arn(call, creates)?);
        if creates {
            resource.tags = call.input.tags("Tags");
        }
        Ok(resource)
    }

    fn existing(self, call: &Call<'_>) -> Result<Option<Resource>, ApiError> {
        let account = call.account()?;
        let snapshot = &call.snapshot;
        let input = &call.input;
        Ok(match self {
            Self::Any
            | Self::Policy(_)
            | Self::ServerCertificate(_)
            | Self::OidcUrl(_)
            | Self::SamlName(_) => None,
            Self::Caller => Some(user(call, account, call.own_user_name()?)),
            Self::User(parameter) => match input.text(parameter) {
                Some(name) => Some(user(call, account, name)),
                None if is_root(call) => None,
                None => Some(user(call, account, call.own_user_name()?)),
            },
            Self::Role(parameter) => {
                snapshot
                    .role(account, input.required(parameter))
                    .map(|role| {
                        let record = &role.record;
                        Resource::entity(&*role.arn, &record.tags, record.boundary.as_deref())
                    })
            }
            Self::Group(parameter) => snapshot
                .group(account, input.required(parameter))
                .map(|group| Resource::named(&*group.arn)),
            Self::InstanceProfile(parameter) => snapshot
                .instance_profile(account, input.required(parameter))
                .map(|profile| Resource::tagged(&*profile.arn, &profile.record.tags)),
            Self::MfaName(parameter) => snapshot
                .mfa_device(account, input.required(parameter))
                .map(|device| Resource::tagged(&*device.arn, &device.record.tags)),
            Self::Serial(parameter) => snapshot
                .mfa_device_by_serial(input.required(parameter))
                .map(|device| Resource::tagged(&*device.arn, &device.record.tags)),
            Self::Arn(parameter) => Some(by_arn(call, input.required(parameter))?),
            Self::AccessKey(parameter) => Some(owner_of_key(call, account, parameter)?),
            Self::Custom(resource) => Some(resource(call)?),
        })
    }

    fn arn(self, call: &Call<'_>, creates: bool) -> Result<String, ApiError> {
        let input = &call.input;
        let path = if creates {
            input.text("Path").unwrap_or("/")
        } else {
            "/"
        };
        let (kind, name) = match self {
            Self::Any => return Ok("*".to_owned()),
            Self::User(parameter) => match input.text(parameter) {
                Some(name) => ("user", name),
                None => return Ok(iam_arn(call, call.account()?, "root")),
            },
            Self::Role(parameter) => ("role", input.required(parameter)),
            Self::Group(parameter) => ("group", input.required(parameter)),
            Self::InstanceProfile(parameter) => ("instance-profile", input.required(parameter)),
            Self::Policy(parameter) => ("policy", input.required(parameter)),
            Self::MfaName(parameter) => ("mfa", input.required(parameter)),
            Self::ServerCertificate(parameter) => ("server-certificate", input.required(parameter)),
            Self::SamlName(parameter) => {
                let name = input.required(parameter);
                return Ok(iam_arn(
                    call,
                    call.account()?,
                    &format!("saml-provider/{name}"),
                ));
            }
            Self::OidcUrl(parameter) => {
                let url = input.required(parameter);
                let issuer = url.strip_prefix("https://").unwrap_or(url);
                return Ok(iam_arn(
                    call,
                    call.account()?,
                    &format!("oidc-provider/{issuer}"),
                ));
            }
            Self::Serial(parameter) => {
                let serial = input.required(parameter);
                if is_iam_arn(serial) {
                    return Ok(serial.to_owned());
                }
                ("mfa", serial)
            }
            // These always name something.
            Self::Caller | Self::Arn(_) | Self::AccessKey(_) | Self::Custom(_) => {
                return Err(super::internal_failure());
            }
        };
        Ok(iam_arn(
            call,
            call.account()?,
            &format!("{kind}{path}{name}"),
        ))
    }
}

fn is_root(call: &Call<'_>) -> bool {
    call.signer
        .as_ref()
        .is_some_and(|caller| caller.identity().caller().kind() == CallerKind::Root)
}

fn user(call: &Call<'_>, account: AccountId, name: &str) -> Resource {
    match call.snapshot.user(account, name) {
        Some(user) => {
            let record = &user.record;
            Resource::entity(&*user.arn, &record.tags, record.boundary.as_deref())
        }
        None => Resource::named(iam_arn(call, account, &format!("user/{name}"))),
    }
}

/// `arn:P:iam::A:RESOURCE` in the caller's partition.
pub(crate) fn iam_arn(call: &Call<'_>, account: AccountId, resource: &str) -> String {
    format!("arn:{}:iam::{account}:{resource}", call.partition())
}

fn is_iam_arn(text: &str) -> bool {
    Arn::parse(text).is_ok_and(|arn| arn.service == "iam" && arn.region.is_empty())
}

/// What an ARN names, with its tags if it is there. Names in ARNs are compared with case.
pub(super) fn by_arn(call: &Call<'_>, text: &str) -> Result<Resource, ApiError> {
    let arn = Arn::parse(text).map_err(|_| not_an_arn(text))?;
    if arn.service != "iam" || !arn.region.is_empty() {
        return Err(not_an_arn(text));
    }
    let snapshot = &call.snapshot;
    let (kind, rest) = arn.resource.split_once('/').unwrap_or((arn.resource, ""));
    let name = rest.rsplit('/').next().unwrap_or_default();
    let Ok(account) = arn.account.parse::<AccountId>() else {
        return Ok(Resource::named(text));
    };
    let found = match kind {
        "user" => snapshot
            .user(account, name)
            .filter(|user| *user.arn == *text)
            .map(|user| {
                let record = &user.record;
                Resource::entity(text, &record.tags, record.boundary.as_deref())
            }),
        "role" => snapshot
            .role(account, name)
            .filter(|role| *role.arn == *text)
            .map(|role| {
                let record = &role.record;
                Resource::entity(text, &record.tags, record.boundary.as_deref())
            }),
        "policy" => snapshot
            .managed_policy(account, name)
            .filter(|policy| *policy.arn == *text)
            .map(|policy| Resource::tagged(text, &policy.record.tags)),
        "oidc-provider" => snapshot
            .oidc_provider(account, rest)
            .map(|provider| Resource::tagged(text, &provider.record.tags)),
        "saml-provider" => snapshot
            .saml_provider(account, rest)
            .map(|provider| Resource::tagged(text, &provider.record.tags)),
        _ => None,
    };
    Ok(found.unwrap_or_else(|| Resource::named(text)))
}

/// An unknown key, and one of another account, are refused alike (IAM API spec, section 3).
fn owner_of_key(
    call: &Call<'_>,
    account: AccountId,
    parameter: &str,
) -> Result<Resource, ApiError> {
    let id = call.input.required(parameter);
    let owner = call
        .snapshot
        .access_key(id)
        .filter(|found| found.key.account == account)
        .map(|found| found.owner);
    match owner {
        Some(KeyOwner::User(owner)) => Ok(user(call, account, &owner.record.name)),
        Some(KeyOwner::Root(_)) => Ok(Resource::named(iam_arn(call, account, "root"))),
        None => Err(ApiError::new(
            403,
            "AccessDenied",
            format!(
                "User: {} is not authorized to perform {}:{} on resource: access key {id}",
                call.caller()?.identity().arn(),
                call.operation.service.signing_name(),
                call.operation.name,
            ),
        )),
    }
}
