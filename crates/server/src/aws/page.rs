//! Lists in pages: `MaxItems` and an opaque `Marker` (IAM API spec, section 1.1), or `maxResults` and `nextToken` (EKS API
//! spec, section 1.5).
//!
//! A marker is the key of the last entry, sealed for the account, the operation and the filters it was made for. The next
//! page holds the entries behind that key, whatever was written in between.

use aws_lc_rs::digest;
use countersign_session::{Purpose, open_message, seal_message};

use super::operation::Call;
use super::query::Member;
use super::shape::Input;
use super::shape::Value;
use super::{ApiError, Service, internal_failure};

/// Entries of a page when `MaxItems` is not given.
const DEFAULT_ITEMS: usize = 100;
/// Longest key, in bytes: the names of all entities with a letter before them, MFA devices' names, and positions. A marker
/// stays below its 320 characters with it.
const MAX_KEY: usize = 130;
/// The same in EKS, whose longest keys are the ARNs of principals, and whose tokens have no bound in the model.
const MAX_ARN_KEY: usize = 2048;

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageRequest {
    limit: usize,
    after: Option<String>,
}

/// A page, and how to get the next one.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Nothing on the last page.
    pub(crate) marker: Option<String>,
}

impl PageRequest {
    /// Reads how many entries are asked for, and behind which one.
    ///
    /// # Errors
    /// `ValidationError` `Invalid Marker.`, or `InvalidParameterException`, for one that was not made here, for this account, operation and filters.
    pub(crate) fn of(call: &Call<'_>) -> Result<Self, ApiError> {
        let limit = call
            .input
            .integer(limit_name(call))
            .and_then(|items| usize::try_from(items).ok())
            .unwrap_or(DEFAULT_ITEMS)
            .max(1);
        let after = call
            .input
            .text(marker_name(call))
            .map(|marker| open(call, marker))
            .transpose()?;
        Ok(Self { limit, after })
    }

    /// The key behind which the page begins.
    pub(crate) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The position at which the page begins, for lists in the order of making, whose keys are positions.
    ///
    /// # Errors
    /// `Invalid Marker.` when the key is no position.
    pub(crate) fn skip(&self) -> Result<usize, ApiError> {
        self.after.as_deref().map_or(Ok(0), |after| {
            after.parse().map_err(|_| invalid_marker(Service::Iam))
        })
    }

    /// Takes a page of `items`, which are in the order of their keys and begin behind [`PageRequest::after`].
    ///
    /// # Errors
    /// `ServiceUnavailable` when no marker can be made.
    pub(crate) fn page<T>(
        &self,
        call: &Call<'_>,
        mut items: impl Iterator<Item = T>,
        key: impl FnOnce(&T) -> String,
    ) -> Result<Page<T>, ApiError> {
        let taken: Vec<T> = items.by_ref().take(self.limit).collect();
        let marker = match (items.next(), taken.last()) {
            (Some(_), Some(last)) => Some(seal(call, &key(last))?),
            _ => None,
        };
        Ok(Page {
            items: taken,
            marker,
        })
    }

    /// Takes a page of all `items` of a list whose order is the one of making.
    ///
    /// # Errors
    /// As [`PageRequest::page`] and [`PageRequest::skip`].
    pub(crate) fn positions<T>(
        &self,
        call: &Call<'_>,
        items: impl Iterator<Item = T>,
    ) -> Result<Page<T>, ApiError> {
        let skip = self.skip()?;
        let next = skip.saturating_add(self.limit);
        self.page(call, items.skip(skip), |_| next.to_string())
    }
}

impl<T> Page<T> {
    /// The members of the answer: the list, `IsTruncated`, and `Marker` when there is more.
    pub(crate) fn members(
        self,
        name: &'static str,
        entry: impl FnMut(T) -> Member,
    ) -> Vec<(&'static str, Member)> {
        let mut members = vec![
            (
                name,
                Member::List(self.items.into_iter().map(entry).collect()),
            ),
            ("IsTruncated", Member::Bool(self.marker.is_some())),
        ];
        members.extend(self.marker.map(|marker| ("Marker", Member::Text(marker))));
        members
    }

    /// The members of an answer of EKS: the list, and `nextToken` when there is more.
    pub(crate) fn with_token(
        self,
        name: &'static str,
        entry: impl FnMut(T) -> Member,
    ) -> Vec<(&'static str, Member)> {
        let items = self.items.into_iter().map(entry).collect();
        let mut members = vec![(name, Member::List(items))];
        members.extend(self.marker.map(|token| ("nextToken", Member::Text(token))));
        members
    }

    /// The answer of a list operation.
    pub(crate) fn answer(self, name: &'static str, entry: impl FnMut(T) -> Member) -> Member {
        Member::Structure(self.members(name, entry))
    }
}

fn limit_name(call: &Call<'_>) -> &'static str {
    match call.operation.service {
        Service::Eks | Service::EksAuth => "maxResults",
        Service::Iam | Service::Sts => "MaxItems",
    }
}

fn marker_name(call: &Call<'_>) -> &'static str {
    match call.operation.service {
        Service::Eks | Service::EksAuth => "nextToken",
        Service::Iam | Service::Sts => "Marker",
    }
}

fn invalid_marker(service: Service) -> ApiError {
    match service {
        Service::Eks | Service::EksAuth => ApiError::new(
            400,
            "InvalidParameterException",
            "The nextToken parameter is not one of an earlier page of this list",
        ),
        Service::Iam | Service::Sts => ApiError::new(400, "ValidationError", "Invalid Marker."),
    }
}

fn seal(call: &Call<'_>, key: &str) -> Result<String, ApiError> {
    let unavailable = || {
        ApiError::new(
            503,
            "ServiceUnavailable",
            "Pages cannot be made at the moment.",
        )
    };
    let longest = match call.operation.service {
        Service::Eks | Service::EksAuth => MAX_ARN_KEY,
        Service::Iam | Service::Sts => MAX_KEY,
    };
    if key.len() > longest {
        tracing::error!(
            operation = call.operation.name,
            "the key of a list is too long for a marker"
        );
        return Err(internal_failure());
    }
    let keys = call.snapshot.session_keys().ok_or_else(unavailable)?;
    let nonce = call.random.bytes().map_err(|_| unavailable())?;
    seal_message(
        Purpose::Marker,
        &owner(call)?,
        key.as_bytes(),
        &keys.ring,
        &keys.deployment,
        nonce,
        call.now,
    )
    .ok_or_else(unavailable)
}

fn open(call: &Call<'_>, marker: &str) -> Result<String, ApiError> {
    let invalid = || invalid_marker(call.operation.service);
    let keys = call.snapshot.session_keys().ok_or_else(invalid)?;
    let key = open_message(
        Purpose::Marker,
        &owner(call)?,
        marker,
        &keys.ring,
        &keys.deployment,
        call.now,
    )
    .map_err(|_| invalid())?;
    String::from_utf8(key.to_vec()).map_err(|_| invalid())
}

/// What a marker is bound to: account, operation, and a digest of all other parameters; in EKS, of the region too.
fn owner(call: &Call<'_>) -> Result<String, ApiError> {
    let digest = digest_of(&call.input, &[marker_name(call), limit_name(call)]);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let account = call.account()?;
    let name = call.operation.name;
    Ok(match call.operation.service {
        Service::Eks | Service::EksAuth => {
            format!("{account}/{}/{name}/{hex}", call.region())
        }
        Service::Iam | Service::Sts => format!("{account}/{name}/{hex}"),
    })
}

/// A digest of parameters that tells any two apart; those of these names do not count.
pub(crate) fn digest_of(input: &Input<'_>, except: &[&str]) -> [u8; 32] {
    let mut all = digest::Context::new(&digest::SHA256);
    for (parameter, value) in input.iter() {
        if !except.contains(&parameter.name) {
            add(&mut all, parameter.name.as_bytes());
            digest_value(&mut all, value);
        }
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(all.finish().as_ref());
    bytes
}

fn digest_value(into: &mut digest::Context, value: &Value<'_>) {
    match value {
        Value::Text(text) => add(into, text.as_bytes()),
        Value::Integer(number) => add(into, &number.to_be_bytes()),
        Value::Boolean(value) => add(into, &[u8::from(*value)]),
        Value::List(members) => {
            add(into, &members.len().to_be_bytes());
            members.iter().for_each(|member| digest_value(into, member));
        }
        Value::Structure(members) => {
            add(into, &members.len().to_be_bytes());
            for (name, member) in members {
                add(into, name.as_bytes());
                digest_value(into, member);
            }
        }
        Value::Map(members) => {
            add(into, &members.len().to_be_bytes());
            for (key, member) in members {
                add(into, key.as_bytes());
                digest_value(into, member);
            }
        }
    }
}

/// With its length before it, so that no two lists of texts look alike.
fn add(into: &mut digest::Context, bytes: &[u8]) {
    into.update(&bytes.len().to_be_bytes());
    into.update(bytes);
}
