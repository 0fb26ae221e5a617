//! What a service asks of a signature, beyond that it matches (signature spec, sections 4 and 5.1).

use std::borrow::Cow;

use jiff::Timestamp;

use crate::error::{AuthError, Protocol, ScopeFault};
use crate::scope::{Credential, TERMINATOR};
use crate::time::AmzDate;

/// The rules of one service. [`ServicePolicy::for_service`] gives the defaults; change the fields for the rest.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServicePolicy {
    /// The signing name that the credential scope must carry. Decided from the route or the action, never from the
    /// scope: authenticating for one service and dispatching to another is the fault this field prevents.
    pub service: Cow<'static, str>,
    /// Wire protocol; [`Protocol::Query`] adds the checks of method and content type.
    pub protocol: Protocol,
    /// How far `X-Amz-Date` may be from now, in minutes, either way and inclusive. 15 for `sts` and `iam`, 5 for the
    /// JSON services, as AWS; values outside 1–15 count as the nearest.
    pub skew_minutes: u8,
    /// Which regions may stand in the scope.
    pub regions: Regions,
    /// How the path is canonicalised, and what paths are refused.
    pub paths: PathRule,
    /// S3-like: `UNSIGNED-PAYLOAD` (over TLS), streaming payloads, and `X-Amz-Expires` as the end of a presigned URL.
    /// Other services ignore `X-Amz-Expires`, as AWS STS does: a presigned request is valid for the skew window
    /// whatever it says, and the parameter is signed text only.
    pub s3: bool,
    /// Compare once more without `X-Amz-Security-Token` when a presigned request does not match: some clients add the
    /// token after signing. Off by default.
    pub retry_without_token: bool,
}

/// Regions accepted in the credential scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Regions {
    /// Anything that looks like a region, the three global pseudo-regions, and these names. The default: clients with
    /// an endpoint override sign with the region of their profile, whatever the server thinks it is in.
    Valid(Vec<String>),
    /// These and no others.
    Listed(Vec<String>),
}

/// Treatment of the request path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathRule {
    /// Refuse `.`, `..` and empty segments with 400 before authentication; otherwise encode the wire bytes again.
    /// The default: SDKs differ in how they sign such paths, and none produces them.
    Plain,
    /// Normalise, then encode the wire bytes again: what SDKs do by default.
    Normalise,
    /// Encode the wire bytes again without normalising: clients that switch normalisation off.
    AsSent,
    /// S3: decode once, encode once, no normalising.
    Single,
}

impl ServicePolicy {
    /// The defaults for a signing name. Names that are not known get the rules of a REST-JSON service.
    pub fn for_service(service: impl Into<Cow<'static, str>>) -> Self {
        let service = service.into();
        let (protocol, skew_minutes, s3) = match &*service {
            "sts" | "iam" => (Protocol::Query, 15, false),
            "sso" | "identitystore" => (Protocol::Json11, 5, false),
            "s3" | "s3-outposts" | "s3-object-lambda" | "s3express" => {
                (Protocol::RestXml, 15, true)
            }
            _ => (Protocol::RestJson, 5, false),
        };
        Self {
            protocol,
            skew_minutes,
            regions: Regions::Valid(Vec::new()),
            paths: if s3 {
                PathRule::Single
            } else {
                PathRule::Plain
            },
            s3,
            retry_without_token: false,
            service,
        }
    }

    fn skew(&self) -> i64 {
        i64::from(self.skew_minutes.clamp(1, 15))
    }

    /// Steps 10 and 11: neither too old nor in the future, both bounds inclusive.
    pub(crate) fn check_time(&self, sent: AmzDate, now: Timestamp) -> Result<(), AuthError> {
        let now = AmzDate::from_timestamp(now);
        let minutes = self.skew();
        if sent.second() < now.second() - minutes * 60 {
            let limit = now.plus_seconds(-minutes * 60).unwrap_or(now);
            return Err(AuthError::Expired {
                sent,
                limit,
                now,
                minutes,
            });
        }
        if sent.second() > now.second() + minutes * 60 {
            let limit = now.plus_seconds(minutes * 60).unwrap_or(now);
            return Err(AuthError::NotYetCurrent {
                sent,
                limit,
                now,
                minutes,
            });
        }
        Ok(())
    }

    /// The time rule of a presigned S3 URL: from `X-Amz-Date` (minus skew) for `X-Amz-Expires` seconds.
    pub(crate) fn check_expires(
        &self,
        sent: AmzDate,
        expires: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        let digits = expires.filter(|t| !t.is_empty() && t.iter().all(u8::is_ascii_digit));
        let seconds = digits
            .and_then(|t| std::str::from_utf8(t).ok())
            .and_then(|t| t.parse::<i64>().ok());
        let Some(seconds @ 1..=MAX_EXPIRES) = seconds else {
            return Err(AuthError::BadExpires);
        };
        let now = now.as_second();
        if sent.second() > now + self.skew() * 60 {
            return Err(AuthError::PresignedNotYetValid);
        }
        if now > sent.second() + seconds {
            Err(AuthError::PresignedExpired)
        } else {
            Ok(())
        }
    }

    /// Step 13: region, service, terminator and date of the scope; all faults are named together.
    pub(crate) fn check_scope(
        &self,
        credential: &Credential<'_>,
        sent: AmzDate,
    ) -> Result<(), AuthError> {
        let region = !self.regions.accept(credential.region);
        let service = credential.service != self.service;
        let terminator = credential.terminator != TERMINATOR;
        let date = credential.date != sent.day();
        if !(region || service || terminator || date) {
            return Ok(());
        }
        let mut faults = Vec::new();
        if region {
            faults.push(ScopeFault::Region(credential.region.to_owned()));
        }
        if service {
            faults.push(ScopeFault::Service {
                expected: self.service.clone().into_owned(),
            });
        }
        if terminator {
            faults.push(ScopeFault::Terminator(credential.terminator.to_owned()));
        }
        if date {
            faults.push(ScopeFault::Date {
                scope: credential.date.to_owned(),
                sent,
            });
        }
        Err(AuthError::Scope(faults))
    }
}

/// Seven days, the longest life of a presigned S3 URL.
const MAX_EXPIRES: i64 = 604_800;

impl Regions {
    fn accept(&self, region: &str) -> bool {
        match self {
            Self::Listed(names) => names.iter().any(|n| n == region),
            Self::Valid(extra) => {
                is_region_shaped(region)
                    || matches!(region, "aws-global" | "aws-cn-global" | "aws-us-gov-global")
                    || extra.iter().any(|n| n == region)
            }
        }
    }
}

/// `^[a-z]{2,}(-[a-z]+)+-\d+$`
fn is_region_shaped(region: &str) -> bool {
    let letters = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase());
    let Some((words, number)) = region.rsplit_once('-') else {
        return false;
    };
    let Some((first, rest)) = words.split_once('-') else {
        return false;
    };
    first.len() >= 2
        && letters(first)
        && rest.split('-').all(letters)
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_known_by_their_shape() {
        for good in [
            "us-east-1",
            "eu-central-2",
            "us-gov-west-1",
            "us-iso-east-1",
            "xx-y-10",
        ] {
            assert!(is_region_shaped(good), "{good}");
        }
        for bad in [
            "",
            "us",
            "us-1",
            "useast1",
            "u-east-1",
            "us-east-",
            "us--1",
            "US-EAST-1",
            "us-east-1a",
            "us-east-1-",
            "-us-east-1",
        ] {
            assert!(!is_region_shaped(bad), "{bad}");
        }
    }

    #[test]
    fn listed_regions_exclude_all_others() {
        let any = Regions::Valid(vec!["home".into()]);
        assert!(any.accept("home") && any.accept("aws-global") && !any.accept("office"));
        let listed = Regions::Listed(vec!["home".into()]);
        assert!(
            listed.accept("home") && !listed.accept("us-east-1") && !listed.accept("aws-global")
        );
    }

    #[test]
    fn skew_outside_one_to_fifteen_minutes_is_clamped() {
        let mut policy = ServicePolicy::for_service("sts");
        let now: Timestamp = "2026-03-14T09:26:53Z".parse().unwrap();
        let old = AmzDate::parse(b"20260314T090000Z").unwrap();
        policy.skew_minutes = 200;
        assert!(matches!(
            policy.check_time(old, now),
            Err(AuthError::Expired { minutes: 15, .. })
        ));
        policy.skew_minutes = 0;
        let late = AmzDate::parse(b"20260314T092552Z").unwrap();
        assert!(matches!(
            policy.check_time(late, now),
            Err(AuthError::Expired { minutes: 1, .. })
        ));
    }
}
