//! What is wrong, dangerous or surprising in mapping rules, each with its place and what to do about it.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Works, but probably not as its author thinks.
    Warning,
    /// Does not work, or works for somebody else.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// The list a rule stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Section {
    /// Role rules.
    #[serde(rename = "mapRoles")]
    MapRoles,
    /// User rules.
    #[serde(rename = "mapUsers")]
    MapUsers,
    /// Accounts whose every principal authenticates.
    #[serde(rename = "mapAccounts")]
    MapAccounts,
    /// `IAMIdentityMapping` objects.
    #[serde(rename = "iamIdentityMappings")]
    Objects,
    /// The document around the lists.
    #[serde(rename = "document")]
    Document,
}

impl Section {
    /// The key under which the section stands.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::MapRoles => "mapRoles",
            Self::MapUsers => "mapUsers",
            Self::MapAccounts => "mapAccounts",
            Self::Objects => "iamIdentityMappings",
            Self::Document => "document",
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}

/// A place in a text, both counted from one, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// Where a finding points to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) section: Section,
    /// The entry in it, counted from zero.
    pub(crate) entry: Option<u32>,
    /// The line and column in the section's text, where known.
    pub(crate) position: Option<Position>,
    /// The name of the object, for `IAMIdentityMapping`s.
    pub(crate) object: Option<Arc<str>>,
}

impl Place {
    /// A place that is only known to be in `section`.
    pub(crate) const fn section(section: Section) -> Self {
        Self {
            section,
            entry: None,
            position: None,
            object: None,
        }
    }

    pub(crate) fn at(mut self, position: Option<Position>) -> Self {
        self.position = position.or(self.position);
        self
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $id:literal, $severity:ident, $check:expr;)+) => {
        /// What a finding is about. Codes never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as it is printed.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)+ }
            }

            /// How much findings of this code matter.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }

            /// The best-practice check that reports the same, if there is one.
            #[must_use]
            pub const fn check_id(self) -> Option<&'static str> {
                match self { $(Self::$variant => $check,)+ }
            }
        }
    };
}

codes! {
    /// The text of a section does not parse, or is no list: none of its entries is known.
    SectionBroken = "section_broken", Error, Some("CS-MAP-001");
    /// A top-level key that differs from a known one only by case or typing.
    TopLevelKey = "top_level_key", Error, Some("CS-MAP-002");
    /// A section grows towards the limit of 1 MiB, or has very many entries.
    SectionLarge = "section_large", Warning, None;
    /// A list item that is no mapping of fields.
    EntryNotAMap = "entry_not_a_map", Error, None;
    /// An entry that names nobody.
    MissingPrincipal = "missing_principal", Error, None;
    /// An entry that names somebody in two ways.
    AmbiguousPrincipal = "ambiguous_principal", Error, None;
    /// A field that is not known and therefore ignored.
    UnknownField = "unknown_field", Warning, None;
    /// A field that stands twice in one entry.
    DuplicateField = "duplicate_field", Error, None;
    /// A plain YAML scalar that is no text (`yes`, `123`), taken as it is written.
    NotText = "not_text", Warning, None;
    /// A value of the wrong kind; the field is left empty.
    WrongType = "wrong_type", Error, None;
    /// `{{Variable}}` without quotes where YAML would read a mapping.
    UnquotedTemplate = "unquoted_template", Warning, None;
    /// `groups` is one text and no list.
    GroupsNotAList = "groups_not_a_list", Error, None;
    /// No username, so the default one is used.
    MissingUsername = "missing_username", Warning, None;
    /// An account that is not 12 digits.
    InvalidAccount = "invalid_account", Error, None;
    /// An `sso` block that cannot match anybody.
    InvalidSso = "invalid_sso", Error, None;
    /// A `roleMatch` block that is refused.
    InvalidPattern = "invalid_pattern", Error, None;
    /// A field with a value it cannot have; the entry is refused.
    InvalidField = "invalid_field", Error, None;
    /// Something only the embedded STS can supply.
    NeedsEmbeddedSts = "needs_embedded_sts", Error, None;
    /// An ARN that is no ARN of a principal.
    InvalidArn = "invalid_arn", Error, Some("CS-MAP-004");
    /// A wildcard in an ARN; it is compared literally.
    WildcardInArn = "wildcard_in_arn", Error, Some("CS-MAP-004");
    /// The ARN of a session where a role's is meant.
    SessionArn = "session_arn", Error, Some("CS-MAP-004");
    /// A role ARN with a path, which STS never reports.
    RolePath = "role_path", Warning, Some("CS-MAP-004");
    /// A role ARN with a path under `strictRolePath`.
    RolePathRefused = "role_path_refused", Error, Some("CS-MAP-004");
    /// An ARN of another partition than the server's.
    OtherPartition = "other_partition", Warning, Some("CS-MAP-004");
    /// A role among the users or a user among the roles.
    WrongSection = "wrong_section", Warning, None;
    /// The root of an account is mapped.
    RootMapped = "root_mapped", Warning, None;
    /// The same principal twice; the later entry wins.
    DuplicateArn = "duplicate_arn", Error, Some("CS-MAP-003");
    /// The same account twice.
    DuplicateAccount = "duplicate_account", Info, None;
    /// The same `userid` twice; the later entry wins.
    DuplicateUserId = "duplicate_userid", Error, None;
    /// Several objects map one principal; the oldest wins.
    Conflict = "conflict", Error, None;
    /// A permission set's role by name: its suffix changes.
    SsoRoleByName = "sso_role_by_name", Info, None;
    /// An `sso` entry, which other authenticators ignore.
    SsoNotPortable = "sso_not_portable", Info, None;
    /// Every principal of an account authenticates.
    AccountMapped = "account_mapped", Warning, Some("CS-MAP-007");
    /// An IAM user is mapped.
    UserMapped = "user_mapped", Info, Some("CS-MAP-006");
    /// `{{X}}` that is no variable and stays as it is.
    UnknownVariable = "unknown_variable", Error, None;
    /// A group made from the session name.
    SessionNameInGroup = "session_name_in_group", Warning, None;
    /// A group made from the access key id.
    AccessKeyIdInGroup = "access_key_id_in_group", Warning, None;
    /// A username made from the access key id.
    AccessKeyIdInUsername = "access_key_id_in_username", Info, None;
    /// `{{SessionName}}` writes `a@b` and `a-b` alike.
    SessionNameConflates = "session_name_conflates", Info, None;
    /// A username that a session name decides alone.
    UsernameWithoutPrefix = "username_without_prefix", Warning, None;
    /// All sessions of a role share one username.
    SharedUsername = "shared_username", Warning, Some("CS-MAP-008");
    /// A username of the `system:` space that is not a node's.
    SystemUsername = "system_username", Warning, Some("CS-MAP-009");
    /// Node groups on an entry that is not a node's.
    NodeGroups = "node_groups", Warning, Some("CS-MAP-009");
    /// A node entry without the groups or username that nodes need.
    NodeEntryIncomplete = "node_entry_incomplete", Warning, Some("CS-MAP-010");
    /// A node name that the session's creator may choose.
    NodeNameFromSession = "node_name_from_session", Info, None;
    /// The group that RBAC cannot limit.
    SystemMasters = "system_masters", Warning, Some("CS-MAP-011");
    /// White space or a comma in a group, often two groups joined by a slip of the indentation.
    GroupWhiteSpace = "group_white_space", Warning, Some("CS-MAP-013");
    /// An empty group; it is dropped.
    EmptyGroup = "empty_group", Warning, None;
    /// The same group twice in one entry.
    DuplicateGroup = "duplicate_group", Warning, None;
    /// More than 100 groups in one entry.
    TooManyGroups = "too_many_groups", Warning, None;
    /// `sessionNames` is only as strong as the role's trust policy.
    SessionNamesAdvisory = "session_names_advisory", Info, None;
    /// More findings than are listed.
    MoreFindings = "more_findings", Warning, None;
}

impl Code {
    /// Whether a review of edits to `aws-auth` refuses a ConfigMap with this finding (authentication spec,
    /// section 3.2.2: unparsable sections, duplicate ARNs, entries without ARN, accounts that are not 12 digits,
    /// wildcards in ARNs, unknown variables).
    #[must_use]
    pub const fn refused_at_admission(self) -> bool {
        matches!(
            self,
            Self::SectionBroken
                | Self::DuplicateArn
                | Self::MissingPrincipal
                | Self::AmbiguousPrincipal
                | Self::InvalidAccount
                | Self::WildcardInArn
                | Self::UnknownVariable
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// One thing found in mapping rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub code: Code,
    /// One sentence: what was found and what that means.
    pub message: String,
    /// The list.
    pub section: Section,
    /// The entry in it, counted from zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u32>,
    /// The line in the section's text, counted from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column in that line, counted from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The name of the object, for `IAMIdentityMapping`s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Arc<str>>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.section)?;
        if let Some(object) = &self.object {
            write!(f, " {object}")?;
        } else if let Some(entry) = self.entry {
            write!(f, "[{entry}]")?;
        }
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        write!(f, ": {} [{}]", self.message, self.code)
    }
}

/// What a finding says; made only when the finding is kept.
pub(crate) struct Note {
    message: String,
    hint: Option<String>,
}

impl Note {
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

pub(crate) fn note(message: impl Into<String>) -> Note {
    Note {
        message: message.into(),
        hint: None,
    }
}

/// At most this many findings of one severity are kept, so that a hostile text cannot grow the list without end.
const MAX_PER_SEVERITY: usize = 1000;

/// Findings as they are collected.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    kept: [usize; 3],
    left_out: usize,
}

impl Findings {
    pub(crate) fn push(&mut self, code: Code, place: &Place, say: impl FnOnce() -> Note) {
        let severity = code.severity();
        let Some(kept) = self.kept.get_mut(severity as usize) else {
            return;
        };
        if *kept == MAX_PER_SEVERITY {
            self.left_out += 1;
            return;
        }
        *kept += 1;
        let Note { message, hint } = say();
        self.list.push(Finding {
            severity,
            code,
            message,
            section: place.section,
            entry: place.entry,
            line: place.position.map(|p| p.line),
            column: place.position.map(|p| p.column),
            object: place.object.clone(),
            hint,
        });
    }

    /// Takes over the findings of a text that begins `lines` lines further down.
    pub(crate) fn append(&mut self, other: Self, lines: u32) {
        self.left_out += other.left_out;
        for mut finding in other.list {
            finding.line = finding.line.map(|line| line.saturating_add(lines));
            match self.kept.get_mut(finding.severity as usize) {
                Some(kept) if *kept < MAX_PER_SEVERITY => {
                    *kept += 1;
                    self.list.push(finding);
                }
                _ => self.left_out += 1,
            }
        }
    }

    /// The first message of severity error.
    pub(crate) fn first_error(&self) -> Option<&str> {
        self.list
            .iter()
            .find(|finding| finding.severity == Severity::Error)
            .map(|finding| finding.message.as_str())
    }

    /// The findings in the order of the text.
    pub(crate) fn into_list(mut self) -> Vec<Finding> {
        if self.left_out > 0 {
            let left_out = self.left_out;
            self.list.push(Finding {
                severity: Code::MoreFindings.severity(),
                code: Code::MoreFindings,
                message: format!("{left_out} more findings are not listed"),
                section: Section::Document,
                entry: None,
                line: None,
                column: None,
                object: None,
                hint: None,
            });
        }
        self.list
            .sort_by_key(|finding| (finding.section, finding.entry, finding.line));
        self.list
    }
}

/// `text` in backticks, cut so that a message stays one line.
pub(crate) fn shown(text: &str) -> String {
    const MAX: usize = 120;
    let mut out = String::with_capacity(text.len().min(MAX) + 2);
    out.push('`');
    for (n, c) in text.chars().enumerate() {
        if n == MAX {
            out.push('…');
            break;
        }
        out.push(if c.is_control() { '\u{fffd}' } else { c });
    }
    out.push('`');
    out
}

/// The known word that `text` probably stands for: equal but for case, `_` and `-`, or at most two typing slips away.
pub(crate) fn did_you_mean(text: &str, known: &[&'static str]) -> Option<&'static str> {
    const MAX: usize = 24;
    if text.is_empty() || text.len() > MAX {
        return None;
    }
    let plain = |t: &str| {
        t.chars()
            .filter(|c| !matches!(c, '_' | '-' | ' '))
            .flat_map(char::to_lowercase)
            .collect::<Vec<_>>()
    };
    let wanted = plain(text);
    known
        .iter()
        .map(|candidate| (distance(&wanted, &plain(candidate)), *candidate))
        .min_by_key(|(d, _)| *d)
        .filter(|(d, candidate)| *d <= 2 && *d * 3 <= candidate.len())
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(x != y))
                .min(left + 1)
                .min(*above + 1);
            diagonal = *above;
            *above = here;
            left = here;
        }
    }
    // INVARIANT: the first cell of the row is only needed for an empty `b`, which no known word is.
    row.last().copied().unwrap_or(a.len())
}
