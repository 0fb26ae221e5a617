//! The ARNs of entries: rules P14, M1 and M5.

use countersign_arn::CallerKind;

use super::{Decoder, Refused};
use crate::entry::{ArnMatcher, folded, parse_arn};
use crate::finding::{Code, Place, Section, note, shown};

impl Decoder<'_, '_> {
    /// Reads the ARN of an entry and says why it will not match as its author thinks.
    pub(super) fn arn(
        &mut self,
        section: Section,
        text: &str,
        at: &Place,
    ) -> Result<ArnMatcher, Refused> {
        let dead = |text: &str| ArnMatcher {
            written: text.into(),
            caller: None,
            key: None,
            role_path: None,
        };
        if text.contains(['*', '?']) {
            self.findings.push(Code::WildcardInArn, at, || {
                note(format!(
                    "{} has a wildcard, which is compared literally and matches nobody",
                    shown(text)
                ))
                .hint("use `roleMatch` with an account and a glob on the role name")
            });
            // No principal has these characters in its name.
            return Ok(ArnMatcher {
                caller: parse_arn(text),
                ..dead(text)
            });
        }
        let Some(caller) = parse_arn(text) else {
            let refused = self.context.refuses_invalid_arns();
            self.findings.push(Code::InvalidArn, at, || {
                let what = if refused {
                    "the entry is refused"
                } else {
                    "it matches nobody"
                };
                let finding = note(format!(
                    "{} is not the ARN of a role or user; {what}",
                    shown(text)
                ));
                if text.trim() != text {
                    finding.hint("remove the white space around it")
                } else {
                    finding.hint(
                        "write `arn:<partition>:iam::<12 digits>:role/<name>` or `…:user/<name>`",
                    )
                }
            });
            return if refused {
                Err(Refused)
            } else {
                Ok(dead(text))
            };
        };
        let mut matcher = ArnMatcher {
            written: text.into(),
            key: Some(folded(caller.canonical(), caller.kind())),
            caller: Some(caller),
            role_path: None,
        };
        let Some(caller) = &matcher.caller else {
            return Ok(matcher);
        };
        if caller.partition() != self.context.options.partition {
            let (own, other) = (self.context.options.partition, caller.partition());
            self.findings.push(Code::OtherPartition, at, || {
                note(format!(
                    "an ARN of partition `{other}`, but callers of this server belong to `{own}`"
                ))
            });
        }
        match caller.kind() {
            CallerKind::AssumedRole => {
                let widened = self.context.takes_session_as_role();
                let role = caller.canonical();
                self.findings.push(Code::SessionArn, at, || {
                    note(if widened {
                        format!("the ARN of one session stands for all sessions of the role {}", shown(&role))
                    } else {
                        "the ARN of a session matches nobody".to_owned()
                    })
                    .hint(format!("write {}; for one session add `sessionNames`", shown(&role)))
                });
                if !widened {
                    matcher.key = None;
                }
            }
            CallerKind::Role if caller.path_and_name() != caller.name() => {
                if section == Section::MapUsers {
                    // Among the users nothing is stripped, and STS never reports a path.
                    matcher.key = None;
                    self.wrong_section(section, "role", at);
                } else {
                    return self.role_with_path(text, matcher, at);
                }
            }
            CallerKind::Role if section == Section::MapUsers => {
                self.wrong_section(section, "role", at);
            }
            CallerKind::Role => {
                if let Some((set, _)) =
                    crate::entry::SsoMatcher::split_role_name(caller.name())
                {
                    self.findings.push(Code::SsoRoleByName, at, || {
                        note(format!(
                            "the role of permission set {} gets another name when assignments change",
                            shown(set)
                        ))
                        .hint("use an `sso` entry with the permission set's name")
                    });
                }
            }
            CallerKind::User | CallerKind::FederatedUser => {
                if section == Section::MapRoles {
                    self.wrong_section(section, "user", at);
                } else {
                    self.findings.push(Code::UserMapped, at, || {
                        note("a user with long-term keys is mapped").hint("map a role instead")
                    });
                }
            }
            CallerKind::Root => self.findings.push(Code::RootMapped, at, || {
                note("the root of an account is mapped; it means the root user alone, not the whole account")
                    .hint("map a role instead")
            }),
        }
        Ok(matcher)
    }

    /// Rule M1: STS never reports a role's path, and role names are unique in an account whatever their path.
    fn role_with_path(
        &mut self,
        text: &str,
        mut matcher: ArnMatcher,
        at: &Place,
    ) -> Result<ArnMatcher, Refused> {
        let Some(caller) = &matcher.caller else {
            return Ok(matcher);
        };
        let stripped = caller.canonical_without_role_path();
        let by_user_id = self.context.by_user_id();
        if self.context.options.strict_role_path && !self.context.embedded() && !by_user_id {
            self.findings.push(Code::RolePathRefused, at, || {
                note(format!(
                    "{} has a path, which cannot be checked; the entry is refused",
                    shown(text)
                ))
                .hint(format!("write {}", shown(&stripped)))
            });
            return Err(Refused);
        }
        let path = caller
            .path_and_name()
            .strip_suffix(caller.name())
            .unwrap_or_default();
        matcher.role_path = Some(path.into());
        matcher.key = Some(folded(stripped.clone(), CallerKind::Role));
        // An entry that is bound to a unique id cannot be inherited by a role of another path.
        if !by_user_id {
            self.findings.push(Code::RolePath, at, || {
                note(format!(
                    "{} has a path, which is left out of the comparison; other authenticators never match it",
                    shown(text)
                ))
                .hint(format!("write {}", shown(&stripped)))
            });
        }
        Ok(matcher)
    }

    fn wrong_section(&mut self, section: Section, kind: &str, at: &Place) {
        self.findings.push(Code::WrongSection, at, || {
            note(format!("the ARN of a {kind} in `{section}`"))
                .hint("roles belong into `mapRoles`, users into `mapUsers`")
        });
    }
}
