//! List items to entries: the rules P4 to P10 that all backends share.

mod arn;
mod fields;
mod matcher;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use countersign_arn::{AccountId, CallerKind};

use crate::entry::{
    AccountEntry, ArnMatcher, Conditions, Entry, Matcher, NodeNameSource, RuleReference,
};
use crate::finding::{Code, Findings, Place, Position, Section, note, shown};
use crate::options::{Authority, MappingOptions};
use crate::tree::{Content, Form, Id, Node, Tree};
use crate::yaml::{BrokenText, is_not_text_in_yaml_1_1};
use crate::{BackendKind, Template, lint};

pub(crate) use fields::Field;

/// More entries than this in one list make it count as broken.
pub(crate) const MAX_ENTRIES: usize = 20_000;

/// How much work aliases may multiply a text into, counted in values and their bytes.
const BUDGET: usize = 24 << 20;

/// Which rules apply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'o> {
    pub(crate) backend: BackendKind,
    pub(crate) options: &'o MappingOptions,
}

impl Context<'_> {
    /// Entries are found by `userid`.
    pub(crate) fn by_user_id(&self) -> bool {
        self.backend == BackendKind::DynamicFile && self.options.dynamic_file_user_id_strict
    }

    /// The ARN of a session stands for its role (authentication spec, rule M5).
    fn takes_session_as_role(&self) -> bool {
        match self.backend {
            BackendKind::MountedFile | BackendKind::Crd | BackendKind::ClusterCreator => true,
            BackendKind::DynamicFile => !self.options.dynamic_file_user_id_strict,
            BackendKind::EksConfigMap | BackendKind::AccessEntries | BackendKind::AccessRules => {
                false
            }
        }
    }

    /// An ARN that names nobody refuses its entry; elsewhere the entry is kept and never matches.
    fn refuses_invalid_arns(&self) -> bool {
        matches!(
            self.backend,
            BackendKind::MountedFile | BackendKind::Crd | BackendKind::ClusterCreator
        )
    }

    /// `sso` and `roleMatch` are known.
    fn has_groups_of_roles(&self) -> bool {
        matches!(
            self.backend,
            BackendKind::MountedFile | BackendKind::EksConfigMap | BackendKind::Crd
        )
    }

    pub(crate) fn embedded(&self) -> bool {
        self.options.authority == Authority::Embedded
    }
}

/// An entry was refused; the finding says why.
pub(crate) struct Refused;

/// Groups and where each of them stands.
#[derive(Default)]
struct Groups {
    templates: Vec<Template>,
    positions: Vec<Option<Position>>,
}

pub(crate) struct Decoder<'a, 't> {
    pub(crate) tree: &'a Tree<'t>,
    pub(crate) context: Context<'a>,
    pub(crate) findings: &'a mut Findings,
    /// Entries left out.
    pub(crate) refused: usize,
    /// Values of the wrong kind.
    pub(crate) wrong_types: usize,
    /// Groups seen before: entries repeat them, and a repeated text is compiled once.
    templates: HashMap<Box<str>, Template>,
    budget: usize,
}

impl<'a, 't> Decoder<'a, 't> {
    pub(crate) fn new(
        tree: &'a Tree<'t>,
        context: Context<'a>,
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            tree,
            context,
            findings,
            refused: 0,
            wrong_types: 0,
            templates: HashMap::new(),
            budget: BUDGET,
        }
    }

    /// The items of a list; none for nothing.
    fn list(&self, node: &'a Node<'t>) -> Result<&'a [Id], BrokenText> {
        match &node.content {
            Content::Null => Ok(&[]),
            Content::List(items) if items.len() > MAX_ENTRIES => Err(BrokenText::new(
                format!("more than {MAX_ENTRIES} entries"),
                node.position,
            )),
            Content::List(items) => Ok(items),
            other => Err(BrokenText::new(
                format!("expected a list of entries, found {}", other.kind()),
                node.position,
            )),
        }
    }

    /// The entries of `mapRoles` or `mapUsers`.
    pub(crate) fn entries(
        &mut self,
        section: Section,
        node: &'a Node<'t>,
    ) -> Result<Vec<Arc<Entry>>, BrokenText> {
        let items = self.list(node)?;
        let mut entries = Vec::with_capacity(items.len());
        for (index, item) in (0u32..).zip(items) {
            let rule = RuleReference {
                backend: self.context.backend,
                section,
                index,
                position: self.tree.get(*item).position,
                object: None,
            };
            match self.entry(rule, *item) {
                Ok(entry) => entries.push(Arc::new(entry)),
                Err(Refused) => self.refused += 1,
            }
            if self.budget == 0 {
                return Err(BrokenText::new(
                    "aliases multiply the text beyond all bounds",
                    node.position,
                ));
            }
        }
        Ok(entries)
    }

    /// The entries of `mapAccounts` (rule P10: scalars are taken literally, what is not 12 digits is dropped).
    pub(crate) fn accounts(&mut self, node: &'a Node<'t>) -> Result<Vec<AccountEntry>, BrokenText> {
        let items = self.list(node)?;
        let mut accounts = Vec::with_capacity(items.len());
        for (index, item) in (0u32..).zip(items) {
            let node = self.tree.get(*item);
            let rule = RuleReference {
                backend: self.context.backend,
                section: Section::MapAccounts,
                index,
                position: node.position,
                object: None,
            };
            let account = match &node.content {
                Content::Text(text, form) if !self.wrong_json(*form) => {
                    text.parse::<AccountId>().map_err(|_| shown(text))
                }
                Content::Text(..) => {
                    self.wrong_types += 1;
                    Err("a number".to_owned())
                }
                other => Err(other.kind().to_owned()),
            };
            match account {
                Ok(account) => accounts.push(AccountEntry { account, rule }),
                Err(found) => {
                    self.refused += 1;
                    self.findings.push(Code::InvalidAccount, &rule.place(), || {
                        note(format!("an account is exactly 12 digits, not {found}"))
                            .hint("write the id in quotes: `- \"012345678901\"`")
                    });
                }
            }
        }
        Ok(accounts)
    }

    /// One entry of a list, or the `spec` of an object.
    pub(crate) fn entry(&mut self, rule: RuleReference, item: Id) -> Result<Entry, Refused> {
        let place = rule.place();
        let Content::Map(_) = &self.tree.get(item).content else {
            let found = self.tree.get(item).content.kind();
            self.wrong_types += 1;
            self.findings.push(Code::EntryNotAMap, &place, || {
                note(format!(
                    "expected a mapping with an ARN, a username and groups, found {found}"
                ))
            });
            return Err(Refused);
        };
        let fields = self.fields(item, fields::known(rule.section), &place);
        let get = |field: Field| fields.iter().find(|(f, _)| *f == field).map(|(_, id)| *id);

        let conditions = self.conditions(&place, &get)?;
        let matcher = self.matcher(rule.section, &place, &get)?;
        let groups = self.groups(&place, get(Field::Groups))?;
        let (username, username_place) =
            self.username(&rule, &place, &matcher, get(Field::Username))?;
        let entry = Entry {
            rule,
            matcher,
            username,
            groups: groups.templates.into(),
            conditions,
        };
        if let Matcher::Pattern(_) = &entry.matcher {
            self.pattern_rules(&entry, &place, &get)?;
        }
        self.embedded_only(&entry, &place)?;
        lint::entry(
            &entry,
            &lint::Places {
                entry: &place,
                username: &username_place,
                groups: &groups.positions,
            },
            self.context,
            self.findings,
        );
        Ok(entry)
    }

    fn username(
        &mut self,
        rule: &RuleReference,
        place: &Place,
        matcher: &Matcher,
        id: Option<Id>,
    ) -> Result<(Template, Place), Refused> {
        let written = id.and_then(|id| self.text("username", id, place));
        let at = place
            .clone()
            .at(id.and_then(|id| self.tree.get(id).position));
        if let Some(text) = written.filter(|text| !text.is_empty()) {
            return Ok((self.template(&text, &at)?, at));
        }
        if rule.section == Section::Objects {
            self.findings.push(Code::MissingUsername, place, || {
                note("`username` is required")
            });
            return Err(Refused);
        }
        let default = default_username(matcher);
        self.findings.push(Code::MissingUsername, place, || {
            note(format!("no username; {} is used", shown(&default)))
                .hint("other authenticators use the empty username, with which aggregated APIs fail: write one")
        });
        Ok((self.template(&default, &at)?, at))
    }

    fn groups(&mut self, place: &Place, id: Option<Id>) -> Result<Groups, Refused> {
        let mut groups = Groups::default();
        let node = id.map(|id| self.tree.get(id));
        match node.map(|node| &node.content) {
            None | Some(Content::Null) => {}
            Some(Content::List(items)) => {
                groups.templates.reserve(items.len().min(64));
                for item in items {
                    let position = self.tree.get(*item).position;
                    let at = place.clone().at(position);
                    let text = self.text("groups", *item, &at).unwrap_or_default();
                    if text.is_empty() {
                        self.findings.push(Code::EmptyGroup, &at, || {
                            note("an empty group; it is dropped")
                        });
                        continue;
                    }
                    groups.templates.push(self.template(&text, &at)?);
                    groups.positions.push(position);
                    if self.budget == 0 {
                        break;
                    }
                }
            }
            Some(other) => {
                self.wrong_types += 1;
                let at = place.clone().at(node.and_then(|node| node.position));
                let kind = other.kind();
                self.findings.push(Code::GroupsNotAList, &at, || {
                    note(format!(
                        "`groups` is {kind} and no list; the entry has no groups"
                    ))
                    .hint("write each group as an item: `groups: [\"a\", \"b\"]`")
                });
            }
        }
        Ok(groups)
    }

    fn conditions(
        &mut self,
        place: &Place,
        get: &impl Fn(Field) -> Option<Id>,
    ) -> Result<Conditions, Refused> {
        let user_id = get(Field::UserId)
            .and_then(|id| self.text("userid", id, place))
            .filter(|text| !text.is_empty())
            .map(Into::into);
        let require_mfa = self.flag(place, "requireMFA", get(Field::RequireMfa))?;
        let require_action = match get(Field::RequireAction) {
            None => None,
            Some(id) => match self.text("requireAction", id, place) {
                Some(action) if action.contains(':') => Some(action.into()),
                _ => {
                    return self.refuse(
                        place,
                        id,
                        "`requireAction` is an IAM action such as `eks:AccessKubernetesApi`",
                    );
                }
            },
        };
        let node_name = match get(Field::NodeNameSource) {
            None => NodeNameSource::default(),
            Some(id) => match self.text("nodeNameSource", id, place).as_deref() {
                Some("privateDnsName") => NodeNameSource::PrivateDnsName,
                Some("instanceId") => NodeNameSource::InstanceId,
                Some(text) if text.len() > 4 && text.starts_with("tag:") => {
                    NodeNameSource::Tag(text.get(4..).unwrap_or_default().into())
                }
                _ => {
                    return self.refuse(
                        place,
                        id,
                        "`nodeNameSource` is `privateDnsName`, `instanceId` or `tag:<key>`",
                    );
                }
            },
        };
        let session_names = match get(Field::SessionNames) {
            None => Box::default(),
            Some(id) => self.names(place, "sessionNames", id, |name| {
                countersign_arn::is_session_name(name)
            })?,
        };
        Ok(Conditions {
            user_id,
            session_names,
            require_mfa,
            require_action,
            node_name,
        })
    }

    /// A list that must not be empty, of texts that `fits`. A restriction that cannot be read refuses the entry: an
    /// entry without its restriction would admit more than its author meant.
    fn names(
        &mut self,
        place: &Place,
        field: &'static str,
        id: Id,
        fits: impl Fn(&str) -> bool,
    ) -> Result<Box<[Box<str>]>, Refused> {
        let Content::List(items) = &self.tree.get(id).content else {
            return self.refuse(place, id, &format!("`{field}` is a list of names"));
        };
        let mut names = Vec::with_capacity(items.len().min(64));
        for item in items {
            match self.text(field, *item, place) {
                Some(name) if fits(&name) => names.push(name.into()),
                _ => {
                    return self.refuse(
                        place,
                        *item,
                        &format!("`{field}` has a name that cannot exist"),
                    );
                }
            }
        }
        if names.is_empty() {
            return self.refuse(
                place,
                id,
                &format!("`{field}` is empty, so nobody could match"),
            );
        }
        Ok(names.into())
    }

    /// A boolean; absent is false.
    fn flag(
        &mut self,
        place: &Place,
        field: &'static str,
        id: Option<Id>,
    ) -> Result<bool, Refused> {
        let Some(id) = id else {
            return Ok(false);
        };
        match &self.tree.get(id).content {
            Content::Text(text, _) if text.eq_ignore_ascii_case("true") => Ok(true),
            Content::Text(text, _) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => self.refuse(place, id, &format!("`{field}` is `true` or `false`")),
        }
    }

    fn refuse<T>(&mut self, place: &Place, id: Id, message: &str) -> Result<T, Refused> {
        let at = place.clone().at(self.tree.get(id).position);
        self.findings.push(Code::InvalidField, &at, || {
            note(format!("{message}; the entry is refused"))
        });
        Err(Refused)
    }

    /// What no upstream but the embedded STS can supply refuses an entry elsewhere: it could never be fulfilled.
    fn embedded_only(&mut self, entry: &Entry, place: &Place) -> Result<(), Refused> {
        if self.context.embedded() {
            return Ok(());
        }
        let what = if entry.conditions.require_mfa {
            "`requireMFA`".to_owned()
        } else if entry.conditions.require_action.is_some() {
            "`requireAction`".to_owned()
        } else if let Some(variable) = std::iter::once(&entry.username)
            .chain(&entry.groups)
            .flat_map(Template::variables)
            .find(|variable| variable.needs_embedded_sts())
        {
            format!("`{variable}`")
        } else {
            return Ok(());
        };
        self.findings.push(Code::NeedsEmbeddedSts, place, || {
            note(format!(
                "{what} needs the embedded STS: GetCallerIdentity of AWS does not tell it; the entry is refused"
            ))
        });
        Err(Refused)
    }

    fn template(&mut self, text: &str, at: &Place) -> Result<Template, Refused> {
        if let Some(template) = self.templates.get(text) {
            return Ok(template.clone());
        }
        if text.len() > Template::MAX_LEN {
            self.findings.push(Code::InvalidField, at, || {
                note(format!(
                    "a username or group has at most {} bytes; the entry is refused",
                    Template::MAX_LEN
                ))
            });
            return Err(Refused);
        }
        let template = Template::new(text);
        if self.templates.len() < 64 {
            self.templates.insert(text.into(), template.clone());
        }
        Ok(template)
    }

    /// The text of a scalar, rule P6: what is plain is taken as it is written. `null`, `~` and nothing are absent.
    pub(crate) fn text(&mut self, field: &str, id: Id, place: &Place) -> Option<Cow<'a, str>> {
        let node = self.tree.get(id);
        let at = || place.clone().at(node.position);
        match &node.content {
            Content::Null => None,
            Content::Text(text, form) => {
                self.spend(64 + text.len());
                match form {
                    Form::Quoted => {}
                    Form::Plain if !is_not_text_in_yaml_1_1(text) => {}
                    Form::Plain => {
                        self.findings.push(Code::NotText, &at(), || {
                            note(format!(
                            "`{field}` is {} without quotes, which other tools do not read as text",
                            shown(text)
                        ))
                        .hint(format!("write \"{}\"", text.chars().take(64).collect::<String>()))
                        })
                    }
                    Form::UnquotedTemplate => {
                        self.findings.push(Code::UnquotedTemplate, &at(), || {
                            note(format!(
                                "`{field}` is {} without quotes; other authenticators then ignore the whole section",
                                shown(text)
                            ))
                            .hint(format!("write \"{}\"", text.chars().take(64).collect::<String>()))
                        });
                    }
                    Form::JsonLiteral => {
                        self.wrong_type(field, "a number or boolean", &at());
                        return None;
                    }
                }
                // Borrowed from the document, not from this node's owned text.
                Some(match text {
                    Cow::Borrowed(text) => Cow::Borrowed(*text),
                    Cow::Owned(text) => Cow::Borrowed(text.as_str()),
                })
            }
            other => {
                let kind = other.kind();
                self.wrong_type(field, kind, &at());
                None
            }
        }
    }

    fn wrong_type(&mut self, field: &str, found: &str, at: &Place) {
        self.wrong_types += 1;
        self.findings.push(Code::WrongType, at, || {
            note(format!(
                "`{field}` is {found} where a text is expected; it is left empty"
            ))
        });
    }

    fn wrong_json(&self, form: Form) -> bool {
        form == Form::JsonLiteral
    }

    fn spend(&mut self, cost: usize) {
        self.budget = self.budget.saturating_sub(cost);
    }
}

/// What EKS gives access entries without a username (rule P9).
fn default_username(matcher: &Matcher) -> String {
    match matcher {
        Matcher::Arn(ArnMatcher {
            caller: Some(caller),
            ..
        }) if matches!(caller.kind(), CallerKind::Role | CallerKind::AssumedRole) => format!(
            "arn:{}:sts::{}:assumed-role/{}/{{{{SessionName}}}}",
            caller.partition(),
            caller.account(),
            caller.name()
        ),
        Matcher::Arn(ArnMatcher {
            caller: Some(caller),
            ..
        }) => caller.canonical(),
        Matcher::Arn(ArnMatcher { written, .. }) => written.chars().take(1024).collect(),
        Matcher::Sso(sso) => format!(
            "arn:{}:sts::{}:assumed-role/{{{{RoleName}}}}/{{{{SessionName}}}}",
            sso.partition, sso.account
        ),
        Matcher::Pattern(pattern) => format!(
            "arn:{}:sts::{{{{AccountID}}}}:assumed-role/{{{{RoleName}}}}/{{{{SessionName}}}}",
            pattern.partition
        ),
    }
}
