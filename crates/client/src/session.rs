//! What one run of the client knows: environment, profile, clock, and the three streams.

use std::io::{BufRead, Write};

use jiff::Timestamp;

use crate::endpoint::{Endpoint, EndpointError, Service};
use crate::env::Environment;
use crate::profile::{Profile, Profiles};

/// The region when nothing names one.
pub const FALLBACK_REGION: &str = "us-east-1";

/// The streams of a command, so that a test can read what it wrote.
pub struct Io<'a> {
    /// Where an MFA code is read from.
    pub stdin: &'a mut dyn BufRead,
    /// Data.
    pub stdout: &'a mut dyn Write,
    /// Messages for people.
    pub stderr: &'a mut dyn Write,
}

/// Environment, profile and clock.
pub(crate) struct Session<'a> {
    pub(crate) env: &'a Environment,
    pub(crate) profiles: &'a Profiles,
    pub(crate) clock: &'a dyn Fn() -> Timestamp,
}

impl<'a> Session<'a> {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn profile(&self) -> Profile<'a> {
        self.profiles.selected()
    }

    /// The region that is named: flag, `AWS_REGION`, `AWS_DEFAULT_REGION`, profile.
    pub(crate) fn region(&self, flag: Option<&str>) -> Option<String> {
        flag.filter(|flag| !flag.is_empty())
            .or_else(|| self.env.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
            .or_else(|| self.profile().get("region"))
            .map(str::to_owned)
    }

    pub(crate) fn sts_endpoint(&self, region: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::resolve(Service::Sts, region, self.env, &self.profile())
    }
}
