//! What a decision came across (webhook spec, the warnings of sections 3 to 5 and 12).

use std::fmt;

use crate::account::MIN_TOKEN_EXPIRATION;
use crate::text::{name, value};

/// An admission warning has at most this many characters.
pub const MAX_WARNING_CHARS: usize = 120;

/// A decision keeps at most this many notes and counts the rest; the API server cuts all warnings at 4096 characters.
pub const MAX_NOTES: usize = 30;

/// Something worth knowing about a decision. Those that a user should act on are admission warnings; the others only
/// stand in the explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note<'a> {
    /// The request is about another kind: the webhook is registered for too much.
    OtherKind(String),
    /// The role is no role ARN; it is injected as it is and the SDK's call will fail.
    RoleIsNoArn(String),
    /// Static keys stand in `env`; they win over everything that is injected.
    StaticKeys {
        /// The container.
        container: &'a str,
    },
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` stands in `env`; some SDKs look at it first.
    RelativeUri {
        /// The container.
        container: &'a str,
    },
    /// A web identity stands in `env`; SDKs look at it before container credentials.
    WebIdentityFirst {
        /// The container.
        container: &'a str,
    },
    /// `skip-containers` names a container the pod does not have.
    SkipsUnknown(String),
    /// `skip-containers` is no CSV record; nothing is skipped.
    SkipListBroken,
    /// A lifetime that is no whole number; the next source counts.
    LifetimeUnreadable(Origin, String),
    /// A lifetime below the least the API server accepts.
    LifetimeRaised(Origin, i64),
    /// A lifetime above the longest allowed.
    LifetimeLowered {
        /// Who asked.
        origin: Origin,
        /// For how many seconds.
        asked: i64,
        /// How many it became.
        to: u32,
    },
    /// `sts-regional-endpoints` is no word for yes or no; the next source counts.
    RegionalStsUnreadable(String),
    /// The pod has a volume of the name that is used here, and it holds another thing.
    VolumeIsAnother(&'a str),
    /// Another volume is mounted where the token belongs.
    MountPathTaken {
        /// The container.
        container: &'a str,
    },
    /// No agent will answer where the pod runs, and there is no role to fall back on.
    NoAgent(NoAgent<'a>),
    /// No agent will answer where the pod runs: the account's role is used by IRSA.
    IrsaForLackOfAgent(NoAgent<'a>),
    /// The service account could not be read.
    AccountUnread,
    /// The account says it expects an association; there is none yet.
    AssociationExpected,
    /// `fs-group` was not applied.
    FsGroupIgnored(FsGroupIgnored),
    /// A further role of the account was left out.
    ProfileIgnored {
        /// Its profile.
        profile: &'a str,
        /// Why.
        why: ProfileIgnored,
    },
    /// All further roles of the account were left out.
    ProfilesIgnored(ProfilesIgnored),
    /// The pod brings a configuration file of its own in the annotation, and keeps it.
    ConfigKept,
}

/// Why a further role was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileIgnored {
    /// No name of a profile: A-Z, a-z, 0-9, `_`, `-` and `.`, and not `default`.
    Name,
    /// Its role is no role ARN.
    Role,
    /// There are more than [`crate::MAX_PROFILES`].
    TooMany,
}

/// Why all further roles were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfilesIgnored {
    /// The pod has an association, whose token STS does not take.
    Association,
    /// The account has no role of its own, by which the pod gets a token.
    NoRole,
    /// The pod has a volume of the token's name, without the file.
    Volume,
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An annotation of the pod.
    Pod,
    /// An annotation of the service account.
    ServiceAccount,
    /// The ConfigMap.
    ConfigMap,
    /// The configuration of the webhook.
    Flag,
    /// Nobody said anything.
    Default,
}

/// Why no agent answers on the nodes a pod is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAgent<'a> {
    /// There is none for Windows.
    Windows,
    /// The nodes are among those configured as having none.
    NodeClass(&'a str),
}

/// Why the annotation `fs-group` was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsGroupIgnored {
    /// Not a whole number from 0 to 2147483647.
    NotAGroup,
    /// Windows has no such groups, and the API server refuses them.
    Windows,
}

/// The notes of a decision, in order, no two alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes<'a> {
    kept: Vec<Note<'a>>,
    more_warnings: usize,
}

// === impl Notes ===

impl<'a> Notes<'a> {
    pub(crate) fn add(&mut self, note: Note<'a>) {
        if self.kept.len() < MAX_NOTES {
            if !self.kept.contains(&note) {
                self.kept.push(note);
            }
        } else if note.is_warning() {
            self.more_warnings += 1;
        }
    }

    /// The notes, the first [`MAX_NOTES`] of them.
    pub fn iter(&self) -> impl Iterator<Item = &Note<'a>> {
        self.kept.iter()
    }

    /// The warnings as they go into the answer: at most [`MAX_WARNING_CHARS`] characters of ASCII each.
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.kept.iter().filter(|note| note.is_warning());
        let mut warnings: Vec<String> = warnings.map(ToString::to_string).collect();
        if self.more_warnings > 0 {
            warnings.push(format!(
                "pod identity: and {} more warnings",
                self.more_warnings
            ));
        }
        warnings
    }
}

// === impl Note ===

impl Note<'_> {
    /// Whether a user should see it at once.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::OtherKind(_)
            | Self::RoleIsNoArn(_)
            | Self::StaticKeys { .. }
            | Self::RelativeUri { .. }
            | Self::WebIdentityFirst { .. }
            | Self::SkipsUnknown(_)
            | Self::SkipListBroken
            | Self::LifetimeLowered { .. }
            | Self::VolumeIsAnother(_)
            | Self::MountPathTaken { .. }
            | Self::NoAgent(_)
            | Self::AccountUnread
            | Self::FsGroupIgnored(_)
            | Self::ProfileIgnored { .. }
            | Self::ProfilesIgnored(_)
            | Self::ConfigKept => true,
            Self::LifetimeUnreadable(..)
            | Self::LifetimeRaised(..)
            | Self::RegionalStsUnreadable(_)
            | Self::IrsaForLackOfAgent(_)
            | Self::AssociationExpected => false,
        }
    }

    /// A word for counting, from a closed set.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OtherKind(_) => "other_kind",
            Self::RoleIsNoArn(_) => "role_is_no_arn",
            Self::StaticKeys { .. } => "static_keys",
            Self::RelativeUri { .. } => "relative_uri",
            Self::WebIdentityFirst { .. } => "web_identity_first",
            Self::SkipsUnknown(_) => "skips_unknown",
            Self::SkipListBroken => "skip_list_broken",
            Self::LifetimeUnreadable(..) => "lifetime_unreadable",
            Self::LifetimeRaised(..) => "lifetime_raised",
            Self::LifetimeLowered { .. } => "lifetime_lowered",
            Self::RegionalStsUnreadable(_) => "regional_sts_unreadable",
            Self::VolumeIsAnother(_) => "volume_is_another",
            Self::MountPathTaken { .. } => "mount_path_taken",
            Self::NoAgent(_) => "no_agent",
            Self::IrsaForLackOfAgent(_) => "irsa_for_lack_of_agent",
            Self::AccountUnread => "account_unread",
            Self::AssociationExpected => "association_expected",
            Self::FsGroupIgnored(_) => "fs_group_ignored",
            Self::ProfileIgnored { .. } => "profile_ignored",
            Self::ProfilesIgnored(_) => "profiles_ignored",
            Self::ConfigKept => "config_kept",
        }
    }
}

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pod identity: ")?;
        match self {
            Self::OtherKind(kind) => write!(
                f,
                "asked about a `{}`; register the webhook for pods only",
                value(kind)
            ),
            Self::RoleIsNoArn(role) => write!(
                f,
                "role `{}` is no role ARN; AWS will refuse it",
                value(role)
            ),
            Self::StaticKeys { container } => {
                write!(
                    f,
                    "static AWS keys in the env of `{}` win over the injected credentials",
                    name(container)
                )
            }
            Self::RelativeUri { container } => {
                write!(
                    f,
                    "a relative credentials URI in the env of `{}` may win over the injected one",
                    name(container)
                )
            }
            Self::WebIdentityFirst { container } => {
                write!(
                    f,
                    "a web identity in the env of `{}` wins over the association",
                    name(container)
                )
            }
            Self::SkipsUnknown(container) => {
                write!(
                    f,
                    "skip-containers names `{}`, which is no container of the pod",
                    name(container)
                )
            }
            Self::SkipListBroken => {
                f.write_str("skip-containers is no list of names (a quote?); nothing is skipped")
            }
            Self::LifetimeUnreadable(origin, text) => {
                write!(
                    f,
                    "lifetime `{}` of {origin} is no whole number of seconds",
                    name(text)
                )
            }
            Self::LifetimeRaised(origin, asked) => {
                write!(
                    f,
                    "lifetime {asked} of {origin} raised to {MIN_TOKEN_EXPIRATION} s"
                )
            }
            Self::LifetimeLowered { origin, asked, to } => {
                write!(
                    f,
                    "lifetime {asked} of {origin} lowered to {to} s, the longest allowed"
                )
            }
            Self::RegionalStsUnreadable(text) => {
                write!(
                    f,
                    "sts-regional-endpoints `{}` is neither true nor false",
                    name(text)
                )
            }
            Self::VolumeIsAnother(volume) => {
                write!(
                    f,
                    "the pod's own volume `{}` does not hold the token; calls to AWS will fail",
                    name(volume)
                )
            }
            Self::MountPathTaken { container } => {
                write!(
                    f,
                    "`{}` mounts another volume where the token belongs; mount left out",
                    name(container)
                )
            }
            Self::NoAgent(why) => write!(
                f,
                "no agent on {why} and no role: the pod may get the node's role"
            ),
            Self::IrsaForLackOfAgent(why) => {
                write!(f, "no agent on {why}: the account's role is used by IRSA")
            }
            Self::AccountUnread => f.write_str("the service account could not be read"),
            Self::AssociationExpected => {
                f.write_str("the account expects an association; there is none yet")
            }
            Self::FsGroupIgnored(FsGroupIgnored::NotAGroup) => {
                f.write_str("fs-group is no whole number from 0 to 2147483647; ignored")
            }
            Self::FsGroupIgnored(FsGroupIgnored::Windows) => {
                f.write_str("fs-group ignored: pods for Windows cannot have one")
            }
            Self::ProfileIgnored { profile, why } => {
                write!(f, "profile `{}` left out: {why}", name(profile))
            }
            Self::ProfilesIgnored(why) => write!(f, "further roles left out: {why}"),
            Self::ConfigKept => f.write_str(
                "the pod's own annotation aws-config is kept, without the account's profiles",
            ),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "the pod",
            Self::ServiceAccount => "the service account",
            Self::ConfigMap => "the ConfigMap",
            Self::Flag => "the configuration",
            Self::Default => "the default",
        })
    }
}

impl fmt::Display for ProfileIgnored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "names are up to 54 of A-Z, a-z, 0-9, `_-.`, not `default`",
            Self::Role => "its role is no role ARN",
            Self::TooMany => "an account has at most 16",
        })
    }
}

impl fmt::Display for ProfilesIgnored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Association => "the association's token is not for STS",
            Self::NoRole => "the account has no role of its own (role-arn)",
            Self::Volume => "the pod has its own token volume, without the file",
        })
    }
}

impl fmt::Display for NoAgent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Windows => f.write_str("Windows"),
            Self::NodeClass(selector) => write!(f, "`{}`", value(selector)),
        }
    }
}
