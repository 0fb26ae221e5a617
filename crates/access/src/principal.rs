//! The IAM principal of an access entry (EKS API spec, sections 2.1 and 7.4).

use std::fmt;

use countersign_arn::{AccountId, Arn, CallerArn, CallerKind, Partition};

/// What may have an access entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalKind {
    /// `arn:P:iam::A:role/path/Name`
    Role,
    /// `arn:P:iam::A:user/path/Name`
    User,
    /// `arn:P:iam::A:root`: the root user of the account, not everyone in it.
    Root,
}

/// A parsed principal ARN: role, user or root, with its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    arn: Box<str>,
    kind: PrincipalKind,
    partition: Partition,
    account: AccountId,
    /// `path/Name`, or `root`.
    path_and_name: Box<str>,
}

/// The text is not the ARN of a role, a user or a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the ARN of an IAM role, an IAM user or the root user of an account, for example arn:aws:iam::111122223333:role/team/Dev"
)]
pub struct NotAPrincipal;

/// Longest path with its name, as IAM limits them.
const MAX_PATH_AND_NAME: usize = 512 + 64;

impl Principal {
    /// Parses `text`.
    ///
    /// # Errors
    /// For everything that cannot have an entry: session ARNs, groups, instance profiles, policies, wildcards, and what
    /// is no ARN at all.
    pub fn parse(text: &str) -> Result<Self, NotAPrincipal> {
        let region = Arn::parse(text).map_err(|_| NotAPrincipal)?.region;
        let caller = CallerArn::parse(text).map_err(|_| NotAPrincipal)?;
        let kind = match caller.kind() {
            CallerKind::Role => PrincipalKind::Role,
            CallerKind::User => PrincipalKind::User,
            CallerKind::Root => PrincipalKind::Root,
            CallerKind::AssumedRole | CallerKind::FederatedUser => return Err(NotAPrincipal),
        };
        let named = kind == PrincipalKind::Root || is_path_and_name(caller.path_and_name());
        if !region.is_empty() || !named {
            return Err(NotAPrincipal);
        }
        Ok(Self {
            arn: text.into(),
            kind,
            partition: caller.partition(),
            account: caller.account(),
            path_and_name: match kind {
                PrincipalKind::Root => "root".into(),
                PrincipalKind::Role | PrincipalKind::User => caller.path_and_name().into(),
            },
        })
    }

    /// The ARN as it was given, with its path.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Role, user or root.
    #[must_use]
    pub const fn kind(&self) -> PrincipalKind {
        self.kind
    }

    /// The partition.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// The account of the principal, which may be another than the cluster's.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// The last path element; `root` for a root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path_and_name
            .rsplit_once('/')
            .map_or(&*self.path_and_name, |(_, name)| name)
    }

    /// The path with slashes on both sides; `/` where there is none.
    #[must_use]
    pub fn path(&self) -> String {
        self.path_and_name
            .rsplit_once('/')
            .map_or_else(|| "/".to_owned(), |(path, _)| format!("/{path}/"))
    }

    /// Whether the shape is that of a service-linked role. Whether such a role exists does not matter.
    #[must_use]
    pub fn is_service_linked_role(&self) -> bool {
        self.kind == PrincipalKind::Role && self.path_and_name.starts_with("aws-service-role/")
    }

    /// The ARN of the principal's entry on a cluster: `arn:P:eks:R:A:access-entry/CLUSTER/role/ACCOUNT/NAME/UUID`, where
    /// ACCOUNT is the principal's.
    #[must_use]
    pub fn entry_arn(
        &self,
        region: &str,
        cluster_account: AccountId,
        cluster: &str,
        uuid: &str,
    ) -> String {
        format!(
            "arn:{}:eks:{region}:{cluster_account}:access-entry/{cluster}/{}/{}/{}/{uuid}",
            self.partition,
            self.kind,
            self.account,
            self.name()
        )
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.arn)
    }
}

impl PrincipalKind {
    /// The word inside entry ARNs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::User => "user",
            Self::Root => "root",
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

fn is_path_and_name(text: &str) -> bool {
    let name = text.rsplit_once('/').map_or(text, |(_, name)| name);
    text.len() <= MAX_PATH_AND_NAME
        && (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
        // IAM lets every printable ASCII character into a path; a wildcard there would never be meant literally.
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"*?".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_users_and_roots_are_principals_and_nothing_else_is() {
        for (text, kind, name, path) in [
            (
                "arn:aws:iam::111122223333:role/Dev",
                PrincipalKind::Role,
                "Dev",
                "/",
            ),
            (
                "arn:aws:iam::111122223333:role/team/a/Dev",
                PrincipalKind::Role,
                "Dev",
                "/team/a/",
            ),
            (
                "arn:aws-cn:iam::111122223333:user/ci",
                PrincipalKind::User,
                "ci",
                "/",
            ),
            (
                "arn:aws-us-gov:iam::111122223333:root",
                PrincipalKind::Root,
                "root",
                "/",
            ),
        ] {
            let principal = Principal::parse(text).unwrap();
            assert_eq!(
                (principal.kind(), principal.name(), &*principal.path()),
                (kind, name, path)
            );
            assert_eq!(principal.to_string(), text);
        }
        for text in [
            "",
            "*",
            "Dev",
            "111122223333",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/team/",
            "arn:aws:iam::111122223333:role/team-*",
            "arn:aws:iam::111122223333:role/te*m/Dev",
            "arn:aws:iam::*:role/Dev",
            "arn:aws:iam::11112222333:role/Dev",
            "arn:aws:iam:us-east-1:111122223333:role/Dev",
            "arn:mars:iam::111122223333:role/Dev",
            "arn:aws:sts::111122223333:assumed-role/Dev/ana",
            "arn:aws:sts::111122223333:federated-user/ana",
            "arn:aws:iam::111122223333:group/devs",
            "arn:aws:iam::111122223333:instance-profile/Dev",
            "arn:aws:iam::111122223333:policy/Dev",
            "arn:aws:iam::111122223333:rooted",
            "arn:aws:iam::111122223333:role/Dev name",
            "arn:aws:iam::111122223333:role/D\u{e9}v",
        ] {
            assert_eq!(Principal::parse(text), Err(NotAPrincipal), "{text}");
        }
    }

    #[test]
    fn the_entry_arn_has_the_principals_account_and_no_path() {
        let cluster_account = "444455556666".parse().unwrap();
        for (text, expected) in [
            ("role/team/Dev", "role/111122223333/Dev"),
            ("user/ci", "user/111122223333/ci"),
            ("root", "root/111122223333/root"),
        ] {
            let principal = Principal::parse(&format!("arn:aws:iam::111122223333:{text}")).unwrap();
            assert_eq!(
                principal.entry_arn("us-east-1", cluster_account, "c1", "7d2c"),
                format!("arn:aws:eks:us-east-1:444455556666:access-entry/c1/{expected}/7d2c")
            );
        }
    }
}
