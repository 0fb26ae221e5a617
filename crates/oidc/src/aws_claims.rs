//! The claims by which an issuer speaks to STS (IRSA spec, section 6.5; STS spec, sections 5.2 and 5.3).

use countersign_arn::Tag;
use serde_json::Value;

use crate::claims::{invalid, optional_text, present, texts};
use crate::error::TokenError;
use crate::json::Object;

const ROLES: &str = "https://aws.amazon.com/roles";
const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";
const TAGS: &str = "https://aws.amazon.com/tags";
const FLAT_TAG: &str = "https://aws.amazon.com/tags/principal_tags/";
const FLAT_TRANSITIVE: &str = "https://aws.amazon.com/tags/transitive_tag_keys";
const ONE_VALUE: &str = "one text or a list of exactly one text for each key of principal_tags";

/// Claims under `https://aws.amazon.com/`.
///
/// Tags are read from the claim `…/tags` (`principal_tags`, `transitive_tag_keys`) and from the flattened names
/// `…/tags/principal_tags/KEY` and `…/tags/transitive_tag_keys`. A key in both forms is there twice, which the rules for
/// session tags refuse. Lengths and characters are not checked here, but where session tags are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AwsClaims {
    /// `…/roles`: the only roles the token may be used for, as exact ARNs; `None` without the claim.
    pub roles: Option<Vec<Box<str>>>,
    /// The session tags.
    pub principal_tags: Vec<Tag>,
    /// The keys among them that are transitive.
    pub transitive_tag_keys: Vec<Box<str>>,
    /// `…/source_identity`.
    pub source_identity: Option<Box<str>>,
}

impl AwsClaims {
    pub(crate) fn read(payload: &Object) -> Result<Self, TokenError> {
        let mut claims = Self {
            roles: texts(payload, ROLES)?,
            source_identity: optional_text(payload, SOURCE_IDENTITY)?,
            ..Self::default()
        };
        if let Some(nested) = present(payload, TAGS) {
            let nested = nested.as_object().ok_or(invalid(TAGS, "an object"))?;
            if let Some(tags) = present(nested, "principal_tags") {
                let tags = tags
                    .as_object()
                    .ok_or(invalid(TAGS, "an object with an object principal_tags"))?;
                for (key, value) in tags {
                    claims.principal_tags.push(tag(key, value)?);
                }
            }
            claims.transitive_tag_keys = texts(nested, "transitive_tag_keys")?.unwrap_or_default();
        }
        for (name, value) in payload {
            if let Some(key) = name.strip_prefix(FLAT_TAG) {
                claims.principal_tags.push(tag(key, value)?);
            }
        }
        if let Some(keys) = texts(payload, FLAT_TRANSITIVE)? {
            claims.transitive_tag_keys.extend(keys);
        }
        Ok(claims)
    }

    /// Checks that the token may be used for the role (policy language spec, section 7.5, `sts:RoleAuthorizedByIdp`).
    /// Returns whether the token has the claim, which is when that key is set, to `true`.
    ///
    /// # Errors
    /// When the claim is there and does not have exactly this ARN.
    pub fn authorize_role(&self, role_arn: &str) -> Result<bool, TokenError> {
        match &self.roles {
            None => Ok(false),
            Some(roles) if roles.iter().any(|role| **role == *role_arn) => Ok(true),
            Some(_) => Err(TokenError::RoleNotInToken),
        }
    }
}

fn tag(key: &str, value: &Value) -> Result<Tag, TokenError> {
    let text = match value {
        Value::String(text) => Some(text),
        Value::Array(list) => match list.as_slice() {
            [Value::String(text)] => Some(text),
            _ => None,
        },
        _ => None,
    };
    let text = text.ok_or(invalid(TAGS, ONE_VALUE))?;
    Ok(Tag {
        key: key.into(),
        value: text.as_str().into(),
    })
}
