//! The fields of a mapping: names without regard to case, merge keys, typing slips.

use super::Decoder;
use crate::finding::{Code, Place, Section, did_you_mean, note, shown};
use crate::tree::{Content, Form, Id};

macro_rules! fields {
    ($($variant:ident = $name:literal,)+) => {
        /// A field that entries can have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Field { $($variant,)+ }

        impl Field {
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

fields! {
    RoleArn = "rolearn",
    UserArn = "userarn",
    Arn = "arn",
    Sso = "sso",
    RoleMatch = "roleMatch",
    Username = "username",
    Groups = "groups",
    UserId = "userid",
    SessionNames = "sessionNames",
    RequireMfa = "requireMFA",
    RequireAction = "requireAction",
    NodeNameSource = "nodeNameSource",
    AllowPrivilegedGroups = "allowPrivilegedGroups",
    AllowSharedUsername = "allowSharedUsername",
    PermissionSetName = "permissionSetName",
    AccountId = "accountID",
    Partition = "partition",
    Name = "name",
    Path = "path",
    ExcludeNames = "excludeNames",
}

const ROLE: &[Field] = &[
    Field::RoleArn,
    Field::Username,
    Field::Groups,
    Field::Sso,
    Field::RoleMatch,
    Field::UserId,
    Field::SessionNames,
    Field::RequireMfa,
    Field::RequireAction,
    Field::NodeNameSource,
    Field::AllowPrivilegedGroups,
    Field::AllowSharedUsername,
];

const USER: &[Field] = &[
    Field::UserArn,
    Field::Username,
    Field::Groups,
    Field::UserId,
    Field::RequireMfa,
    Field::RequireAction,
];

const OBJECT: &[Field] = &[
    Field::Arn,
    Field::Username,
    Field::Groups,
    Field::Sso,
    Field::UserId,
    Field::SessionNames,
    Field::RequireMfa,
    Field::RequireAction,
    Field::NodeNameSource,
];

pub(super) const SSO: &[Field] = &[Field::PermissionSetName, Field::AccountId, Field::Partition];

pub(super) const PATTERN: &[Field] = &[
    Field::AccountId,
    Field::Partition,
    Field::Name,
    Field::Path,
    Field::ExcludeNames,
];

pub(super) const fn known(section: Section) -> &'static [Field] {
    match section {
        Section::MapUsers => USER,
        Section::Objects => OBJECT,
        Section::MapRoles | Section::MapAccounts | Section::Document => ROLE,
    }
}

/// Merge keys inside merged mappings are followed this deep.
const MAX_MERGES: usize = 8;

impl Decoder<'_, '_> {
    /// The known fields of a mapping. A field that stands twice has its last value; merged fields give way to the
    /// mapping's own.
    pub(super) fn fields(
        &mut self,
        map: Id,
        known: &'static [Field],
        place: &Place,
    ) -> Vec<(Field, Id)> {
        let mut found = Vec::with_capacity(4);
        self.collect(map, known, place, 0, &mut found);
        found
    }

    fn collect(
        &mut self,
        map: Id,
        known: &'static [Field],
        place: &Place,
        depth: usize,
        found: &mut Vec<(Field, Id)>,
    ) {
        let tree = self.tree;
        let Content::Map(pairs) = &tree.get(map).content else {
            return;
        };
        let merged = depth > 0;
        let inherited = if merged { found.len() } else { 0 };
        for (key, value) in pairs {
            self.spend(16);
            let key_node = tree.get(*key);
            let at = || place.clone().at(key_node.position);
            let name = match &key_node.content {
                Content::Text(name, Form::Plain) if name == "<<" => continue,
                Content::Text(name, _) => name,
                other => {
                    let kind = other.kind();
                    self.findings.push(Code::UnknownField, &at(), || {
                        note(format!("a field name is a text, not {kind}; it is ignored"))
                    });
                    continue;
                }
            };
            let Some(field) = known
                .iter()
                .copied()
                .find(|field| field.name().eq_ignore_ascii_case(name))
            else {
                if !merged {
                    self.unknown(name, known, &at());
                }
                continue;
            };
            match found.iter().position(|(have, _)| *have == field) {
                Some(have) if merged && have < inherited => {}
                Some(have) => {
                    self.findings.push(Code::DuplicateField, &at(), || {
                        note(format!(
                            "`{}` stands twice; the last one counts",
                            field.name()
                        ))
                    });
                    if let Some(slot) = found.get_mut(have) {
                        slot.1 = *value;
                    }
                }
                None => found.push((field, *value)),
            }
        }
        for (key, value) in pairs {
            let merge =
                matches!(&tree.get(*key).content, Content::Text(name, Form::Plain) if name == "<<");
            if !merge {
                continue;
            }
            self.spend(64);
            let fits = depth < MAX_MERGES
                && match &tree.get(*value).content {
                    Content::Map(_) => {
                        self.collect(*value, known, place, depth + 1, found);
                        true
                    }
                    Content::List(maps) => {
                        for map in maps {
                            if self.budget == 0 {
                                return;
                            }
                            self.spend(64);
                            self.collect(*map, known, place, depth + 1, found);
                        }
                        true
                    }
                    _ => false,
                };
            if !fits {
                let at = place.clone().at(tree.get(*value).position);
                self.wrong_types += 1;
                self.findings.push(Code::WrongType, &at, || {
                    note("`<<` merges a mapping or a list of mappings; it is ignored")
                });
            }
        }
    }

    fn unknown(&mut self, name: &str, known: &'static [Field], at: &Place) {
        let names: Vec<_> = known.iter().map(|field| field.name()).collect();
        self.findings.push(Code::UnknownField, at, || {
            let finding = note(format!("unknown field {}; it is ignored", shown(name)));
            // Names that people bring from other tools and that no typing slip explains.
            let meant = match name {
                "user" | "name" => names.iter().copied().find(|n| *n == "username"),
                _ => did_you_mean(name, &names),
            };
            match meant {
                Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
                None => finding,
            }
        });
    }
}
