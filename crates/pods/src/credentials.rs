//! Which credentials a pod gets, and with which settings (webhook spec, sections 3.1, 4, 5.7 and 5.8).

use crate::account::{
    AccountSettings, DEFAULT_TOKEN_EXPIRATION, Given, MIN_TOKEN_EXPIRATION, given, parse_seconds,
};
use crate::decision::{
    AssociationFact, Credentials, Mode, Outcome, Refusal, RoleSource, Setting, Unmodified,
    WindowsSign,
};
use crate::note::{NoAgent, Note, Origin, ProfilesIgnored};
use crate::options::{FailureMode, NodeSelector};
use crate::pod::Spec;
use crate::role::{complete, is_role_arn};
use crate::webhook::{AccountFact, Work};

/// The shortest lifetime that is drawn for the default of a day.
const SHORTEST_DRAWN: u32 = 79_200;
/// The node labels that name the operating system.
const OS_LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

impl<'a> Work<'a> {
    /// Chooses the mode, and settles everything that goes with it.
    pub(crate) fn credentials(
        &mut self,
        spec: &Spec<'_>,
        windows: Option<WindowsSign>,
    ) -> Result<Credentials<'a>, Outcome<'a>> {
        let role = self.role();
        match self.facts.association {
            Some(association) => {
                if matches!(self.facts.account, AccountFact::Unread) {
                    self.notes.add(Note::AccountUnread);
                }
                match (self.no_agent(spec, windows), role) {
                    (Some(why), Some((role, source))) => {
                        self.notes.add(Note::IrsaForLackOfAgent(why));
                        self.irsa(role, source, windows)
                    }
                    (why, _) => {
                        self.notes_for_no_agent(why);
                        Ok(self.container_credentials(association, windows))
                    }
                }
            }
            // An annotation would win over the ConfigMap, so without it nothing is certain.
            None if matches!(self.facts.account, AccountFact::Unread) => {
                self.notes.add(Note::AccountUnread);
                Err(match self.webhook.options.failure_mode {
                    FailureMode::Ignore => Outcome::Unmodified(Unmodified::AccountUnread),
                    FailureMode::Fail => Outcome::Refused(Refusal::AccountUnread(self.account)),
                })
            }
            None => match role {
                Some((role, source)) => self.irsa(role, source, windows),
                None => Err(Outcome::Unmodified(self.nothing())),
            },
        }
    }

    fn notes_for_no_agent(&mut self, why: Option<NoAgent<'a>>) {
        if let Some(why) = why {
            self.notes.add(Note::NoAgent(why));
        }
    }

    fn nothing(&mut self) -> Unmodified<'a> {
        match self.facts.account {
            AccountFact::Missing => Unmodified::UnknownAccount,
            AccountFact::Unread => Unmodified::AccountUnread,
            AccountFact::Known(settings) => {
                if settings.expects_association {
                    self.notes.add(Note::AssociationExpected);
                }
                if self.webhook.options.role_profiles && !settings.profiles.is_empty() {
                    self.notes
                        .add(Note::ProfilesIgnored(ProfilesIgnored::NoRole));
                }
                Unmodified::NoCredentials
            }
        }
    }

    /// The role of the account: annotation first, then the ConfigMap.
    fn role(&self) -> Option<(&'a str, RoleSource<'a>)> {
        let annotation = match self.facts.account {
            AccountFact::Known(settings) => settings.role_arn.as_deref(),
            AccountFact::Missing => None,
            AccountFact::Unread => return None,
        };
        if let Some(role) = annotation {
            return Some((role, RoleSource::Annotation));
        }
        let found = self.facts.role_map?;
        let role = found.value.role_arn.as_deref()?;
        Some((role, RoleSource::ConfigMap(found.key)))
    }

    /// Why no agent would answer the pod.
    fn no_agent(&self, spec: &Spec<'_>, windows: Option<WindowsSign>) -> Option<NoAgent<'a>> {
        if windows.is_some() {
            return Some(NoAgent::Windows);
        }
        let applies = |selector: &&NodeSelector| {
            let mut requirements = selector.requirements().iter();
            requirements.all(|one| spec.is_bound_to(&one.key, |value| one.takes(value)))
        };
        let mut selectors = self.webhook.options.no_agent_node_selectors.iter();
        let selector = selectors.find(applies)?;
        Some(NoAgent::NodeClass(selector.as_str()))
    }

    /// Whichever source names the role also says everything else about it, as in the reference: the annotations of the
    /// account are not mixed with an entry of the ConfigMap.
    fn irsa(
        &mut self,
        role: &'a str,
        source: RoleSource<'a>,
        windows: Option<WindowsSign>,
    ) -> Result<Credentials<'a>, Outcome<'a>> {
        let options = &self.webhook.options;
        let role = complete(role, options.composition.as_ref());
        if !is_role_arn(role.as_str()) {
            let shown: String = role.as_str().chars().take(64).collect();
            if options.strict_arn {
                return Err(Outcome::Refused(Refusal::RoleIsNoArn(shown)));
            }
            self.notes.add(Note::RoleIsNoArn(shown));
        }
        let (audience, regional_sts, lifetime) = match (source, self.facts.account) {
            (RoleSource::Annotation, AccountFact::Known(account)) => (
                account
                    .audience
                    .as_deref()
                    .map(|text| (text, Origin::ServiceAccount)),
                self.regional_sts_of(account),
                self.lifetime_of(account),
            ),
            _ => {
                let entry = self.facts.role_map.map(|found| found.value);
                let from_map = |value| (value, Origin::ConfigMap);
                (
                    entry
                        .and_then(|entry| entry.audience.as_deref())
                        .map(from_map),
                    entry
                        .and_then(|entry| entry.regional_sts)
                        .map(|on| (on, Origin::ConfigMap)),
                    entry
                        .and_then(|entry| entry.token_expiration)
                        .map(|s| (s, Origin::ConfigMap)),
                )
            }
        };
        let flag = (options.token_expiration, Origin::Flag);
        let lifetime = self.lifetime(lifetime.unwrap_or(flag));
        Ok(Credentials {
            mode: Mode::Irsa { role, source },
            audience: setting(audience.unwrap_or((options.token_audience.as_str(), Origin::Flag))),
            lifetime,
            is_lifetime_drawn: false,
            regional_sts: setting(regional_sts.unwrap_or((options.regional_sts, Origin::Flag))),
            windows,
        })
    }

    /// In container mode lifetime and STS mode come from the account's annotations, then from the exact key of the
    /// ConfigMap, then from the flags; for an account that is not known, from the fixed defaults, as in the reference.
    fn container_credentials(
        &mut self,
        association: AssociationFact<'a>,
        windows: Option<WindowsSign>,
    ) -> Credentials<'a> {
        let options = &self.webhook.options;
        let exact = self
            .facts
            .role_map
            .filter(|found| found.is_exact)
            .map(|found| found.value);
        let regional_in_map = exact.and_then(|entry| entry.regional_sts);
        let regional_in_map = regional_in_map.map(|on| (on, Origin::ConfigMap));
        let lifetime_in_map = exact.and_then(|entry| entry.token_expiration);
        let lifetime_in_map = lifetime_in_map.map(|seconds| (seconds, Origin::ConfigMap));
        let (regional_sts, lifetime) = match self.facts.account {
            AccountFact::Known(account) => (
                self.regional_sts_of(account)
                    .or(regional_in_map)
                    .unwrap_or((options.regional_sts, Origin::Flag)),
                self.lifetime_of(account)
                    .or(lifetime_in_map)
                    .unwrap_or((options.token_expiration, Origin::Flag)),
            ),
            AccountFact::Missing | AccountFact::Unread => (
                regional_in_map.unwrap_or((false, Origin::Default)),
                lifetime_in_map.unwrap_or((i64::from(DEFAULT_TOKEN_EXPIRATION), Origin::Default)),
            ),
        };
        let mut lifetime = self.lifetime(lifetime);
        let is_lifetime_drawn = lifetime.value == DEFAULT_TOKEN_EXPIRATION;
        if is_lifetime_drawn {
            let choices = u64::from(DEFAULT_TOKEN_EXPIRATION - SHORTEST_DRAWN) + 1;
            let drawn = u32::try_from(self.facts.random % choices).unwrap_or(0);
            lifetime.value = SHORTEST_DRAWN + drawn;
        }
        Credentials {
            mode: Mode::ContainerCredentials(association),
            audience: setting((options.container_audience.as_str(), Origin::Flag)),
            lifetime,
            is_lifetime_drawn,
            regional_sts: setting(regional_sts),
            windows,
        }
    }

    fn regional_sts_of(&mut self, account: &AccountSettings) -> Option<(bool, Origin)> {
        match &account.regional_sts {
            Given::Absent => None,
            Given::Unreadable(text) => {
                self.notes
                    .add(Note::RegionalStsUnreadable(text.to_string()));
                None
            }
            Given::Value(on) => Some((*on, Origin::ServiceAccount)),
        }
    }

    fn lifetime_of(&mut self, account: &AccountSettings) -> Option<(i64, Origin)> {
        self.readable(&account.token_expiration, Origin::ServiceAccount)
    }

    fn readable(&mut self, lifetime: &Given<i64>, origin: Origin) -> Option<(i64, Origin)> {
        match lifetime {
            Given::Absent => None,
            Given::Unreadable(text) => {
                self.notes
                    .add(Note::LifetimeUnreadable(origin, text.to_string()));
                None
            }
            Given::Value(seconds) => Some((*seconds, origin)),
        }
    }

    /// The pod's own wish before `otherwise`, within the limits.
    fn lifetime(&mut self, otherwise: (i64, Origin)) -> Setting<u32> {
        let key = &self.webhook.token_expiration;
        let text = self
            .pod
            .annotations()
            .and_then(|annotations| annotations.get(key));
        let wish = text.map_or(Given::Absent, |text| given(&text, parse_seconds));
        let (asked, origin) = self.readable(&wish, Origin::Pod).unwrap_or(otherwise);
        let longest = self.webhook.options.max_token_expiration;
        let value = match u32::try_from(asked.max(0)) {
            Ok(seconds) => seconds.clamp(MIN_TOKEN_EXPIRATION, longest),
            Err(_) => longest,
        };
        if asked > i64::from(value) {
            // The operator's own default is not the user's to correct.
            if origin != Origin::Flag {
                self.notes.add(Note::LifetimeLowered {
                    origin,
                    asked,
                    to: value,
                });
            }
        } else if asked < i64::from(value) {
            self.notes.add(Note::LifetimeRaised(origin, asked));
        }
        Setting { value, origin }
    }
}

fn setting<T>((value, origin): (T, Origin)) -> Setting<T> {
    Setting { value, origin }
}

/// Whether the pod is for Windows, and by what that is told (spec section 5.8).
pub(crate) fn windows_sign(spec: &Spec<'_>) -> Option<WindowsSign> {
    if spec.os_name() == "windows" {
        return Some(WindowsSign::OsName);
    }
    let mut labels = OS_LABELS.into_iter();
    let label = labels.find(|label| spec.is_bound_to(label, |value| value == "windows"))?;
    Some(WindowsSign::NodeLabel(label))
}
