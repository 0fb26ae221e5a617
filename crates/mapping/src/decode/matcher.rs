//! Whom an entry is for: an ARN, a permission set or a pattern, exactly one of them (rule P8).

use countersign_arn::{AccountId, Partition};

use super::{Decoder, Field, Refused, fields};
use crate::entry::{Entry, Matcher, SsoMatcher};
use crate::finding::{Code, Place, Section, note, shown};
use crate::pattern::{NameGlob, RolePattern};
use crate::tree::{Content, Id};
use crate::{Template, Variable};

impl Decoder<'_, '_> {
    pub(super) fn matcher(
        &mut self,
        section: Section,
        place: &Place,
        get: &impl Fn(Field) -> Option<Id>,
    ) -> Result<Matcher, Refused> {
        let field = match section {
            Section::MapUsers => Field::UserArn,
            Section::Objects => Field::Arn,
            Section::MapRoles | Section::MapAccounts | Section::Document => Field::RoleArn,
        };
        let arn = get(field).and_then(|id| {
            let text = self.text(field.name(), id, place)?;
            (!text.is_empty()).then_some((id, text))
        });
        let present = |id: &Id| !matches!(self.tree.get(*id).content, Content::Null);
        let mut sso = get(Field::Sso).filter(present);
        let mut pattern = get(Field::RoleMatch).filter(present);
        if !self.context.has_groups_of_roles() {
            for id in [sso.take(), pattern.take()].into_iter().flatten() {
                let backend = self.context.backend;
                let at = place.clone().at(self.tree.get(id).position);
                self.findings.push(Code::UnknownField, &at, || {
                    note(format!(
                        "backend {backend} knows neither `sso` nor `roleMatch`"
                    ))
                });
            }
        }
        let (id, text) = match (arn, sso, pattern) {
            (Some(arn), None, None) => arn,
            (None, Some(sso), None) => return self.sso(sso, place).map(Matcher::Sso),
            (None, None, Some(pattern)) => {
                return self.pattern(pattern, place).map(Matcher::Pattern);
            }
            // With `userid` as the key an ARN is only an additional check.
            (None, None, None) if self.context.by_user_id() && get(Field::UserId).is_some() => {
                return Ok(Matcher::Arn(crate::entry::ArnMatcher {
                    written: Box::default(),
                    caller: None,
                    key: None,
                    role_path: None,
                }));
            }
            (None, None, None) => {
                self.findings.push(Code::MissingPrincipal, place, || {
                    note(format!(
                        "an entry without `{}`; it is dropped",
                        field.name()
                    ))
                });
                return Err(Refused);
            }
            _ => {
                self.findings.push(Code::AmbiguousPrincipal, place, || {
                    note(format!(
                        "an entry has exactly one of `{}`, `sso` and `roleMatch`; this one is dropped",
                        field.name()
                    ))
                });
                return Err(Refused);
            }
        };
        let at = place.clone().at(self.tree.get(id).position);
        self.arn(section, &text, &at).map(Matcher::Arn)
    }

    fn sso(&mut self, id: Id, place: &Place) -> Result<SsoMatcher, Refused> {
        let fields = self.fields(id, fields::SSO, place);
        let at = place.clone().at(self.tree.get(id).position);
        let mut text = |field: Field| {
            fields
                .iter()
                .find(|(have, _)| *have == field)
                .and_then(|(_, id)| self.text(field.name(), *id, &at))
        };
        let name = text(Field::PermissionSetName).unwrap_or_default();
        let account = text(Field::AccountId).unwrap_or_default();
        let partition = text(Field::Partition).filter(|p| !p.is_empty());
        let wrong = if !is_permission_set_name(&name) {
            Some(format!(
                "`permissionSetName` {} is not 1 to 32 letters, digits and `_+=,.@-`",
                shown(&name)
            ))
        } else if account.parse::<AccountId>().is_err() {
            Some(format!("`accountID` {} is not 12 digits", shown(&account)))
        } else {
            None
        };
        if let Some(wrong) = wrong {
            self.findings.push(Code::InvalidSso, &at, || {
                note(format!("{wrong}; the entry is dropped"))
            });
            return Err(Refused);
        }
        let partition = self.partition(partition.as_deref(), Code::InvalidSso, &at)?;
        Ok(SsoMatcher {
            permission_set: name.into(),
            account: account.parse().map_err(|_| Refused)?,
            partition,
        })
    }

    fn partition(
        &mut self,
        text: Option<&str>,
        code: Code,
        at: &Place,
    ) -> Result<Partition, Refused> {
        let own = self.context.options.partition;
        let partition = match text.map(str::parse::<Partition>) {
            None => return Ok(own),
            Some(Ok(partition)) => partition,
            Some(Err(unknown)) => {
                self.findings.push(code, at, || {
                    note(format!("{unknown}; the entry is dropped"))
                });
                return Err(Refused);
            }
        };
        if partition != own {
            self.findings.push(Code::OtherPartition, at, || {
                note(format!(
                    "partition `{partition}`, but callers of this server belong to `{own}`"
                ))
            });
        }
        Ok(partition)
    }

    fn pattern(&mut self, id: Id, place: &Place) -> Result<RolePattern, Refused> {
        let at = place.clone().at(self.tree.get(id).position);
        let fields = self.fields(id, fields::PATTERN, place);
        let get = |field: Field| {
            fields
                .iter()
                .find(|(have, _)| *have == field)
                .map(|(_, id)| *id)
        };
        let accounts = self.pattern_accounts(get(Field::AccountId), &at)?;
        let partition = get(Field::Partition).and_then(|id| self.text("partition", id, &at));
        let partition = self.partition(partition.as_deref(), Code::InvalidPattern, &at)?;
        let name = get(Field::Name)
            .and_then(|id| self.text("name", id, &at))
            .unwrap_or_default();
        let glob = NameGlob::new(&name);
        if name.is_empty() || name.contains('/') {
            return self.refuse_pattern(
                &at,
                "`name` is a glob on the role name alone, without path",
                None,
            );
        }
        if glob.has_wildcard() && glob.literal_prefix_len() < MIN_LITERAL {
            return self.refuse_pattern(
                &at,
                "`name` needs at least 3 literal characters before its first wildcard",
                None,
            );
        }
        let path = match get(Field::Path) {
            None => None,
            Some(_) if !self.context.embedded() => {
                return self.refuse_pattern(
                    &at,
                    "`path` needs the embedded IAM: STS of AWS does not tell the path of a role",
                    None,
                );
            }
            Some(id) => match self.text("path", id, &at) {
                Some(path) if path.len() > 1 && path.starts_with('/') && path.ends_with('/') => {
                    Some(path.get(1..).unwrap_or_default().into())
                }
                Some(path) if path == "/" => None,
                _ => {
                    return self.refuse_pattern(&at, "`path` begins and ends with `/`", None);
                }
            },
        };
        let exclude = match get(Field::ExcludeNames) {
            None => Box::default(),
            Some(id) => self
                .names(&at, "excludeNames", id, |name| !name.is_empty())?
                .iter()
                .map(|name| NameGlob::new(name))
                .collect(),
        };
        Ok(RolePattern {
            accounts,
            partition,
            name: glob,
            path,
            exclude,
        })
    }

    fn pattern_accounts(
        &mut self,
        id: Option<Id>,
        at: &Place,
    ) -> Result<Box<[AccountId]>, Refused> {
        let tree = self.tree;
        let ids = match id.map(|id| (id, &tree.get(id).content)) {
            None => Vec::new(),
            Some((_, Content::List(items))) => items.clone(),
            Some((id, _)) => vec![id],
        };
        let mut accounts = Vec::with_capacity(ids.len());
        for id in ids {
            let account = self.text("accountID", id, at);
            match account.as_deref().unwrap_or_default().parse() {
                Ok(account) => accounts.push(account),
                Err(_) => {
                    return self.refuse_pattern(
                        at,
                        "`accountID` is 12 literal digits, or a list of them; a wildcard is not allowed",
                        None,
                    );
                }
            }
        }
        if accounts.is_empty() {
            return self.refuse_pattern(at, "`accountID` is missing", None);
        }
        Ok(accounts.into())
    }

    fn refuse_pattern<T>(
        &mut self,
        at: &Place,
        message: &str,
        hint: Option<&str>,
    ) -> Result<T, Refused> {
        self.findings.push(Code::InvalidPattern, at, || {
            let finding = note(format!("{message}; the entry is refused"));
            match hint {
                Some(hint) => finding.hint(hint),
                None => finding,
            }
        });
        Err(Refused)
    }

    /// What a rule for many roles must not give (authentication spec, section 3.11).
    pub(super) fn pattern_rules(
        &mut self,
        entry: &Entry,
        place: &Place,
        get: &impl Fn(Field) -> Option<Id>,
    ) -> Result<(), Refused> {
        let privileged = self.flag(
            place,
            Field::AllowPrivilegedGroups.name(),
            get(Field::AllowPrivilegedGroups),
        )?;
        let shared = self.flag(
            place,
            Field::AllowSharedUsername.name(),
            get(Field::AllowSharedUsername),
        )?;
        if !privileged
            && let Some(group) = entry
                .groups
                .iter()
                .find(|group| group.literal_prefix().trim_start().starts_with("system:"))
        {
            return self.refuse_pattern(
                place,
                &format!(
                    "a rule for many roles gives the group {}",
                    shown(group.as_str())
                ),
                Some("if that is meant, set `allowPrivilegedGroups: true` beside `roleMatch`"),
            );
        }
        if !shared && !tells_roles_apart(&entry.username) {
            return self.refuse_pattern(
                place,
                &format!("all matched roles would share the username {}", shown(entry.username.as_str())),
                Some("use {{RoleName}} or {{SessionNameRaw}} in it, or set `allowSharedUsername: true` beside `roleMatch`"),
            );
        }
        Ok(())
    }
}

/// Literal characters that the glob of a pattern begins with.
const MIN_LITERAL: usize = 3;

fn tells_roles_apart(username: &Template) -> bool {
    username.has(|variable| {
        matches!(
            variable,
            Variable::RoleName
                | Variable::SessionName
                | Variable::SessionNameRaw
                | Variable::AccessKeyId
        )
    })
}

fn is_permission_set_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}
