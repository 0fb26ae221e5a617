//! Credentials, and those that can be found without asking anybody.

use std::fmt;

use countersign_sigv4::SecretKey;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::env::Environment;
use crate::profile::{Choice, Profile, ProfileError, Profiles};

/// An access key. The secret and the session token never print and are wiped when dropped.
#[derive(Clone)]
pub struct Credentials {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret: SecretKey,
    /// The session token of temporary credentials.
    pub session_token: Option<Zeroizing<String>>,
    /// When they end; `None` if they do not, or if nobody said.
    pub expires_at: Option<Timestamp>,
    /// Where they came from, for messages and the cache file.
    pub source: String,
}

impl Credentials {
    /// For the signer.
    #[must_use]
    pub fn for_signing(&self) -> countersign_sigv4::Credentials<'_> {
        countersign_sigv4::Credentials {
            key_id: &self.access_key_id,
            secret: &self.secret,
            session_token: self.session_token.as_ref().map(|token| token.as_str()),
        }
    }

    /// Whether they are valid for at least `span` after `now`, as far as is known.
    #[must_use]
    pub fn outlive(&self, now: Timestamp, span: SignedDuration) -> bool {
        self.expires_at
            .is_none_or(|end| end.duration_since(now) >= span)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Where credentials are to be had, found without any I/O but the shared files.
///
/// The order is that of the AWS CLI: keys in the environment, unless `--profile` is given; the profile's role; a web identity token in
/// the environment; the profile's web identity token, SSO, static keys of the credentials file, process, static keys of the
/// configuration file; and last what the machine offers (container, instance metadata).
#[derive(Debug, Clone)]
pub enum Plan<'a> {
    /// Here they are.
    Found(Credentials),
    /// Assume the role of a profile with other credentials.
    AssumeRole(Box<ProfileRole<'a>>),
    /// Ask the AWS SDK.
    Sdk(SdkSource<'a>),
}

/// What the AWS SDK is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SdkSource<'a> {
    /// SSO, process or web identity of this profile.
    Profile(&'a str),
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`.
    WebIdentity,
    /// `credential_source = EcsContainer`.
    Container,
    /// `credential_source = Ec2InstanceMetadata`.
    InstanceMetadata,
    /// Container, then instance metadata.
    Machine,
}

/// A profile with `role_arn`.
#[derive(Debug, Clone)]
pub struct ProfileRole<'a> {
    /// The profile.
    pub profile: &'a str,
    /// Whose credentials assume the role.
    pub source: Plan<'a>,
    /// The role.
    pub role_arn: &'a str,
    /// `external_id`
    pub external_id: Option<&'a str>,
    /// `role_session_name`
    pub session_name: Option<&'a str>,
    /// `duration_seconds`
    pub duration_seconds: Option<u32>,
    /// `mfa_serial`
    pub mfa_serial: Option<&'a str>,
}

/// Why no credentials are found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The shared files are unusable.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// One half of a key is missing.
    #[error("partial credentials found in {place}, missing: {missing}")]
    Partial {
        /// Environment or profile.
        place: String,
        /// The missing variable or property.
        missing: &'static str,
    },
    /// `AWS_CREDENTIAL_EXPIRATION` is not a time.
    #[error("AWS_CREDENTIAL_EXPIRATION is not a time of the form 2026-01-02T03:04:05Z")]
    Expiration,
    /// A profile with `role_arn` that says nothing about whose credentials to use, or too much.
    #[error(
        "profile `{0}` has `role_arn` and needs either `source_profile` or `credential_source`"
    )]
    RoleSource(String),
    /// `credential_source` names nothing known.
    #[error("the credential source \"{credential_source}\" in profile `{profile}` is not valid")]
    CredentialSource {
        /// The profile.
        profile: String,
        /// The value.
        credential_source: String,
    },
    /// Profiles that name each other.
    #[error("infinite loop in credential configuration: profile `{0}` is its own source")]
    Loop(String),
    /// `duration_seconds` is no number of seconds.
    #[error("`duration_seconds` of profile `{0}` is not a number")]
    Duration(String),
}

/// Decides where credentials come from.
///
/// # Errors
/// When what is configured is incomplete or contradicts itself.
pub fn plan<'a>(env: &Environment, profiles: &'a Profiles) -> Result<Plan<'a>, CredentialsError> {
    if profiles.choice() != Choice::Flag
        && let Some(credentials) = of_environment(env)?
    {
        return Ok(Plan::Found(credentials));
    }
    let profile = profiles.selected();
    if has_role(&profile) {
        return plan_role(env, profiles, &profile, &mut vec![profile.name]);
    }
    let web_identity = env.get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some()
        && env.get("AWS_ROLE_ARN").is_some()
        && profiles.choice() != Choice::Flag;
    if web_identity {
        return Ok(Plan::Sdk(SdkSource::WebIdentity));
    }
    Ok(plan_profile(&profile)?.unwrap_or(Plan::Sdk(SdkSource::Machine)))
}

fn has_role(profile: &Profile<'_>) -> bool {
    profile.get("role_arn").is_some() && profile.get("web_identity_token_file").is_none()
}

fn plan_role<'a>(
    env: &Environment,
    profiles: &'a Profiles,
    profile: &Profile<'a>,
    visited: &mut Vec<&'a str>,
) -> Result<Plan<'a>, CredentialsError> {
    let name = profile.name.to_owned();
    let source = match (
        profile.get("source_profile"),
        profile.get("credential_source"),
    ) {
        (Some(source), None) => {
            let from = profiles.profile(source);
            if !profiles.exists(source) {
                return Err(ProfileError::NoProfile(source.to_owned()).into());
            }
            let seen = visited.contains(&source);
            let static_keys = from.get("aws_access_key_id").is_some();
            // A profile may be its own source for its static keys, and only for these.
            if seen && !(source == profile.name && static_keys) {
                return Err(CredentialsError::Loop(source.to_owned()));
            }
            visited.push(source);
            if has_role(&from) && !static_keys {
                plan_role(env, profiles, &from, visited)?
            } else {
                plan_profile(&from)?.ok_or(CredentialsError::RoleSource(name))?
            }
        }
        (None, Some(credential_source)) => match credential_source {
            "Environment" => match of_environment(env)? {
                Some(credentials) => Plan::Found(credentials),
                None => {
                    return Err(CredentialsError::Partial {
                        place: "environment".to_owned(),
                        missing: "AWS_ACCESS_KEY_ID",
                    });
                }
            },
            "Ec2InstanceMetadata" => Plan::Sdk(SdkSource::InstanceMetadata),
            "EcsContainer" => Plan::Sdk(SdkSource::Container),
            other => {
                return Err(CredentialsError::CredentialSource {
                    profile: name,
                    credential_source: other.chars().take(64).collect(),
                });
            }
        },
        _ => return Err(CredentialsError::RoleSource(name)),
    };
    let duration_seconds = profile
        .get("duration_seconds")
        .map(str::parse)
        .transpose()
        .map_err(|_| CredentialsError::Duration(profile.name.to_owned()))?;
    Ok(Plan::AssumeRole(Box::new(ProfileRole {
        profile: profile.name,
        source,
        role_arn: profile.get("role_arn").unwrap_or_default(),
        external_id: profile.get("external_id"),
        session_name: profile.get("role_session_name"),
        duration_seconds,
        mfa_serial: profile.get("mfa_serial"),
    })))
}

/// What the profile itself offers, its role left aside.
fn plan_profile<'a>(profile: &Profile<'a>) -> Result<Option<Plan<'a>>, CredentialsError> {
    let sdk = Some(Plan::Sdk(SdkSource::Profile(profile.name)));
    if profile.get("web_identity_token_file").is_some()
        || profile.get("sso_session").is_some()
        || profile.get("sso_start_url").is_some()
    {
        return Ok(sdk);
    }
    let of_section = |section| of_section(profile.name, section);
    if let Some(found) = profile.credentials.map(of_section).transpose()?.flatten() {
        return Ok(Some(Plan::Found(found)));
    }
    if profile.get("login_session").is_some() || profile.get("credential_process").is_some() {
        return Ok(sdk);
    }
    Ok(profile
        .config
        .map(of_section)
        .transpose()?
        .flatten()
        .map(Plan::Found))
}

fn of_environment(env: &Environment) -> Result<Option<Credentials>, CredentialsError> {
    let Some(access_key_id) = env.get("AWS_ACCESS_KEY_ID") else {
        return Ok(None);
    };
    let secret = env
        .get("AWS_SECRET_ACCESS_KEY")
        .ok_or_else(|| CredentialsError::Partial {
            place: "environment".to_owned(),
            missing: "AWS_SECRET_ACCESS_KEY",
        })?;
    let expires_at = env
        .get("AWS_CREDENTIAL_EXPIRATION")
        .map(str::parse)
        .transpose()
        .map_err(|_| CredentialsError::Expiration)?;
    Ok(Some(Credentials {
        access_key_id: access_key_id.to_owned(),
        secret: SecretKey::new(secret),
        session_token: env
            .first(&["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"])
            .map(|token| Zeroizing::new(token.to_owned())),
        expires_at,
        source: "Environment".to_owned(),
    }))
}

fn of_section(
    profile: &str,
    section: &crate::ini::Section,
) -> Result<Option<Credentials>, CredentialsError> {
    let get = |name| section.get(name).filter(|value| !value.is_empty());
    let Some(access_key_id) = get("aws_access_key_id") else {
        return Ok(None);
    };
    let secret = get("aws_secret_access_key").ok_or_else(|| CredentialsError::Partial {
        place: format!("profile `{profile}`"),
        missing: "aws_secret_access_key",
    })?;
    Ok(Some(Credentials {
        access_key_id: access_key_id.to_owned(),
        secret: SecretKey::new(secret),
        session_token: get("aws_session_token")
            .or_else(|| get("aws_security_token"))
            .map(|token| Zeroizing::new(token.to_owned())),
        expires_at: None,
        source: format!("SharedConfigCredentials: {profile}"),
    }))
}
