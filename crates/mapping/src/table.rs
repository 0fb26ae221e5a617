//! The compiled entries of one backend and the lookup in them (authentication spec, section 3.4).
//!
//! ```text
//!   strict DynamicFile:  userid ─────────────► entry, whose ARN must fit as well
//!   every other table:   folded ARN ─────────► role entries with that ARN
//!                        partition/account/set ► permission sets
//!                        account ────────────► patterns
//!                        folded ARN ─────────► user entries with that ARN
//! ```

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use countersign_arn::{AccountId, CallerIdentity, CallerKind};

use crate::decode::Context;
use crate::entry::{
    AccountEntry, ArnMatcher, Case, Conditions, Entries, Entry, Matcher, RuleReference, SsoMatcher,
    fold, is_sso_path, known_role_path, parse_arn,
};
use crate::finding::Section;
use crate::options::{MappingOptions, SsoSuffix};
use crate::{BackendKind, Template};

/// The entries of one backend, indexed. A lookup that finds nothing to complain about does not allocate.
#[derive(Debug, Clone)]
pub struct MappingTable {
    backend: BackendKind,
    options: MappingOptions,
    entries: Entries,
    /// Role entries by folded ARN.
    roles: HashMap<Box<str>, Slot>,
    /// User entries by folded ARN.
    users: HashMap<Box<str>, Slot>,
    /// Permission sets by `partition/account/lower-cased name`.
    sso: HashMap<Box<str>, Slot>,
    /// Patterns by account, those with the longest literal text first, among equals the last one.
    patterns: HashMap<AccountId, Vec<u32>>,
    /// Role and user entries of a strict DynamicFile by `userid`.
    role_ids: HashMap<Box<str>, Slot>,
    user_ids: HashMap<Box<str>, Slot>,
    accounts: HashMap<AccountId, u32>,
    /// Every entry that names a principal, by account and lower-cased name: for explanations only.
    pub(crate) names: Names,
}

/// The entries of one key. A later entry replaces an earlier one completely (rule P15), except that an entry for some
/// session names stands beside one for all.
#[derive(Debug, Clone, Default)]
struct Slot {
    general: Option<u32>,
    by_session: Vec<u32>,
}

/// What a table says about a caller.
pub(crate) enum Found<'t> {
    Entry(&'t Entry),
    /// An entry is for this caller but for its unique id or ARN.
    Mismatch(Mismatch, &'t Entry),
    NotMapped,
}

/// Which part of an entry contradicts the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// The entry's `userid` is that of another principal with the same ARN: the principal was made again.
    UserId,
    /// The entry with the caller's `userid` has another ARN.
    Arn,
    /// The entry has no unique id yet, and may not take the caller's.
    Unbound,
}

impl MappingTable {
    /// Indexes the entries of a backend. O(entries).
    #[must_use]
    pub fn new(backend: BackendKind, entries: Entries, options: &MappingOptions) -> Self {
        let context = Context { backend, options };
        let mut table = Self {
            backend,
            options: options.clone(),
            roles: HashMap::with_capacity(entries.roles.len()),
            users: HashMap::with_capacity(entries.users.len()),
            sso: HashMap::new(),
            patterns: HashMap::new(),
            role_ids: HashMap::new(),
            user_ids: HashMap::new(),
            accounts: HashMap::with_capacity(entries.accounts.len()),
            names: Names::new(&entries),
            entries,
        };
        for (n, entry) in (0u32..).zip(&table.entries.roles) {
            match &entry.matcher {
                _ if context.by_user_id() => insert(
                    &mut table.role_ids,
                    entry.conditions.user_id.as_deref(),
                    n,
                    entry,
                ),
                Matcher::Arn(arn) => insert(&mut table.roles, arn.key.as_deref(), n, entry),
                Matcher::Sso(sso) => {
                    let mut key = Key::default();
                    key.sso(sso.partition.id(), sso.account, &sso.permission_set);
                    insert(&mut table.sso, Some(key.as_str()), n, entry);
                }
                Matcher::Pattern(pattern) => {
                    for account in &pattern.accounts {
                        let list = table.patterns.entry(*account).or_default();
                        if list.last() != Some(&n) {
                            list.push(n);
                        }
                    }
                }
            }
        }
        let literal_len = |n: &u32| match table.entries.roles.get(*n as usize).map(|e| &e.matcher) {
            Some(Matcher::Pattern(pattern)) => pattern.name.literal_len(),
            _ => 0,
        };
        for list in table.patterns.values_mut() {
            list.sort_by_key(|n| std::cmp::Reverse((literal_len(n), *n)));
        }
        for (n, entry) in (0u32..).zip(&table.entries.users) {
            match &entry.matcher {
                _ if context.by_user_id() => insert(
                    &mut table.user_ids,
                    entry.conditions.user_id.as_deref(),
                    n,
                    entry,
                ),
                Matcher::Arn(arn) => insert(&mut table.users, arn.key.as_deref(), n, entry),
                Matcher::Sso(_) | Matcher::Pattern(_) => {}
            }
        }
        for (n, account) in (0u32..).zip(&table.entries.accounts) {
            table.accounts.insert(account.account, n);
        }
        table
    }

    /// The entry of the principal that created the cluster: `kubernetes-admin` in `system:masters`
    /// (authentication spec, section 4, mode CONFIG_MAP). It is an entry like any other, so that it is listed and cited.
    ///
    /// None when `principal_arn` is not the ARN of a role, user or root.
    #[must_use]
    pub fn cluster_creator(
        principal_arn: &str,
        user_id: Option<&str>,
        options: &MappingOptions,
    ) -> Option<Self> {
        let caller = parse_arn(principal_arn)?;
        let path = match caller.kind() {
            CallerKind::Role => caller.path_and_name().strip_suffix(caller.name()),
            CallerKind::User | CallerKind::Root => None,
            CallerKind::AssumedRole | CallerKind::FederatedUser => return None,
        };
        let entry = Entry {
            rule: RuleReference {
                backend: BackendKind::ClusterCreator,
                section: Section::MapRoles,
                index: 0,
                position: None,
                object: None,
            },
            matcher: Matcher::Arn(ArnMatcher {
                written: principal_arn.into(),
                key: Some(crate::entry::folded(
                    caller.canonical_without_role_path(),
                    caller.kind(),
                )),
                role_path: path.filter(|path| !path.is_empty()).map(Into::into),
                caller: Some(caller),
            }),
            username: Template::new("kubernetes-admin"),
            groups: Box::new([Template::new("system:masters")]),
            conditions: Conditions {
                user_id: user_id.map(Into::into),
                ..Conditions::default()
            },
        };
        let entries = Entries {
            roles: vec![Arc::new(entry)],
            ..Entries::default()
        };
        Some(Self::new(BackendKind::ClusterCreator, entries, options))
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> BackendKind {
        self.backend
    }

    /// All entries, also those that never match.
    #[must_use]
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The entry for `identity`.
    pub(crate) fn lookup(&self, identity: &CallerIdentity) -> Found<'_> {
        if self.backend == BackendKind::DynamicFile && self.options.dynamic_file_user_id_strict {
            return self.by_user_id(identity);
        }
        let mut key = Key::default();
        key.arn(identity);
        let entry = self
            .exact(&self.roles, &self.entries.roles, key.as_str(), identity)
            .or_else(|| self.permission_set(identity))
            .or_else(|| self.pattern(identity))
            .or_else(|| self.exact(&self.users, &self.entries.users, key.as_str(), identity));
        match entry {
            None => Found::NotMapped,
            Some(entry) => match &entry.conditions.user_id {
                Some(id) if **id != *identity.user_id() => Found::Mismatch(Mismatch::UserId, entry),
                _ => Found::Entry(entry),
            },
        }
    }

    /// The account entry that lets `account` in.
    pub(crate) fn account(&self, account: AccountId) -> Option<&AccountEntry> {
        let n = self.accounts.get(&account)?;
        self.entries.accounts.get(*n as usize)
    }

    fn exact<'t>(
        &'t self,
        index: &'t HashMap<Box<str>, Slot>,
        entries: &'t [Arc<Entry>],
        key: &str,
        identity: &CallerIdentity,
    ) -> Option<&'t Entry> {
        index.get(key)?.pick(entries, identity)
    }

    fn permission_set(&self, identity: &CallerIdentity) -> Option<&Entry> {
        let caller = identity.caller();
        if self.sso.is_empty()
            || caller.kind() != CallerKind::AssumedRole
            || caller.path_and_name() != caller.name()
            || known_role_path(identity).is_some_and(|path| !is_sso_path(path))
        {
            return None;
        }
        let find = |set: &str| {
            let mut key = Key::default();
            key.sso(caller.partition().id(), caller.account(), set);
            self.sso
                .get(key.as_str())?
                .pick(&self.entries.roles, identity)
        };
        match self.options.sso_suffix {
            SsoSuffix::Exact => find(SsoMatcher::split_role_name(caller.name())?.0),
            // The longest name first: it has the longest literal text (rule M3).
            SsoSuffix::Any => {
                let mut set = caller.name().strip_prefix(SsoMatcher::ROLE_PREFIX)?;
                while let Some((shorter, _)) = set.rsplit_once('_') {
                    if let Some(entry) = find(shorter) {
                        return Some(entry);
                    }
                    set = shorter;
                }
                None
            }
        }
    }

    fn pattern(&self, identity: &CallerIdentity) -> Option<&Entry> {
        self.patterns
            .get(&identity.account())?
            .iter()
            .filter_map(|n| self.entries.roles.get(*n as usize))
            .find(|entry| match &entry.matcher {
                Matcher::Pattern(pattern) => {
                    pattern.matches(identity) && entry.admits_session(identity)
                }
                Matcher::Arn(_) | Matcher::Sso(_) => false,
            })
            .map(|entry| &**entry)
    }

    fn by_user_id(&self, identity: &CallerIdentity) -> Found<'_> {
        let id = identity.user_id();
        let entry = self
            .role_ids
            .get(id)
            .and_then(|slot| slot.pick_any_path(&self.entries.roles, identity))
            .or_else(|| {
                self.user_ids
                    .get(id)
                    .and_then(|slot| slot.pick_any_path(&self.entries.users, identity))
            });
        let Some(entry) = entry else {
            // The same ARN with another id is a principal that was deleted and made again.
            return match self.names.same_arn(identity, &self.entries) {
                Some(entry) => Found::Mismatch(Mismatch::UserId, entry),
                None => Found::NotMapped,
            };
        };
        let Matcher::Arn(arn) = &entry.matcher else {
            return Found::NotMapped;
        };
        let mut key = Key::default();
        key.arn(identity);
        if arn.written.is_empty() || arn.key.as_deref() == Some(key.as_str()) {
            Found::Entry(entry)
        } else {
            Found::Mismatch(Mismatch::Arn, entry)
        }
    }
}

impl Entry {
    /// Whether the entry is for the caller's session name.
    pub(crate) fn admits_session(&self, identity: &CallerIdentity) -> bool {
        let names = &self.conditions.session_names;
        names.is_empty() || names.iter().any(|name| **name == *identity.session_name())
    }
}

impl Slot {
    fn pick<'t>(&self, entries: &'t [Arc<Entry>], identity: &CallerIdentity) -> Option<&'t Entry> {
        self.pick_any_path(entries, identity)
            .filter(|entry| match &entry.matcher {
                Matcher::Arn(arn) => arn.path_fits(identity),
                Matcher::Sso(_) | Matcher::Pattern(_) => true,
            })
    }

    fn pick_any_path<'t>(
        &self,
        entries: &'t [Arc<Entry>],
        identity: &CallerIdentity,
    ) -> Option<&'t Entry> {
        let entry = |n: &u32| entries.get(*n as usize).map(|entry| &**entry);
        self.by_session
            .iter()
            .rev()
            .filter_map(entry)
            .find(|entry| entry.admits_session(identity))
            .or_else(|| self.general.as_ref().and_then(entry))
    }
}

fn insert(index: &mut HashMap<Box<str>, Slot>, key: Option<&str>, n: u32, entry: &Entry) {
    let Some(key) = key else {
        return;
    };
    // Looking before inserting spares the copy of a key that is there.
    let slot = match index.get_mut(key) {
        Some(slot) => slot,
        None => index.entry(key.into()).or_default(),
    };
    if entry.conditions.session_names.is_empty() {
        slot.general = Some(n);
    } else {
        slot.by_session.push(n);
    }
}

/// A key on the stack; longer ones, which no AWS name makes, go to the heap.
pub(crate) struct Key {
    stack: [u8; STACK],
    len: usize,
    heap: Option<String>,
}

/// A role ARN has at most 130 bytes, a user ARN with the longest path 620.
const STACK: usize = 640;

impl Default for Key {
    fn default() -> Self {
        Self {
            stack: [0; STACK],
            len: 0,
            heap: None,
        }
    }
}

impl Key {
    /// The caller's canonical ARN, folded.
    pub(crate) fn arn(&mut self, identity: &CallerIdentity) {
        fold(
            identity.canonical_arn(),
            identity.caller().kind(),
            |part, case| self.push(part, case),
        );
    }

    fn sso(&mut self, partition: &str, account: AccountId, set: &str) {
        self.push(partition, Case::Kept);
        self.push("/", Case::Kept);
        self.push(account.as_str(), Case::Kept);
        self.push("/", Case::Kept);
        self.push(set, Case::Folded);
    }

    fn push(&mut self, part: &str, case: Case) {
        let end = self.len + part.len();
        if let (None, Some(space)) = (&self.heap, self.stack.get_mut(self.len..end)) {
            space.copy_from_slice(part.as_bytes());
            if case == Case::Folded {
                space.make_ascii_lowercase();
            }
            self.len = end;
            return;
        }
        let mut heap = self.heap.take().unwrap_or_else(|| self.as_str().to_owned());
        match case {
            Case::Folded => heap.push_str(&part.to_ascii_lowercase()),
            Case::Kept => heap.push_str(part),
        }
        self.heap = Some(heap);
    }

    pub(crate) fn as_str(&self) -> &str {
        match &self.heap {
            Some(heap) => heap,
            None => self
                .stack
                .get(..self.len)
                .and_then(|bytes| std::str::from_utf8(bytes).ok())
                .unwrap_or_default(),
        }
    }
}

/// Entries by the account and name of their principal: sorted hashes, so that an index which only explanations need
/// costs twelve bytes an entry.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    state: RandomState,
    by_name: Vec<(u64, u32)>,
    by_account: Vec<(AccountId, u32)>,
    roles: u32,
}

impl Names {
    fn new(entries: &Entries) -> Self {
        let mut names = Self {
            state: RandomState::new(),
            by_name: Vec::with_capacity(entries.roles.len() + entries.users.len()),
            by_account: Vec::with_capacity(entries.roles.len() + entries.users.len()),
            roles: u32::try_from(entries.roles.len()).unwrap_or(u32::MAX),
        };
        for (n, entry) in (0u32..).zip(entries.roles.iter().chain(&entries.users)) {
            match &entry.matcher {
                Matcher::Arn(arn) => {
                    if let Some(caller) = &arn.caller {
                        let hash = names.hash(caller.account(), caller.name());
                        names.by_name.push((hash, n));
                        names.by_account.push((caller.account(), n));
                    }
                }
                Matcher::Sso(sso) => names.by_account.push((sso.account, n)),
                Matcher::Pattern(pattern) => names
                    .by_account
                    .extend(pattern.accounts.iter().map(|account| (*account, n))),
            }
        }
        names.by_name.sort_unstable();
        names.by_account.sort_unstable();
        names
    }

    fn hash(&self, account: AccountId, name: &str) -> u64 {
        let mut key = Key::default();
        key.push(name, Case::Folded);
        self.state.hash_one((account, key.as_str()))
    }

    /// Entries whose principal has this account and, but for case, this name (and a few others by chance).
    pub(crate) fn named<'t>(
        &'t self,
        account: AccountId,
        name: &str,
        entries: &'t Entries,
    ) -> impl Iterator<Item = &'t Entry> {
        let hash = self.hash(account, name);
        let from = self.by_name.partition_point(|(have, _)| *have < hash);
        self.by_name
            .iter()
            .skip(from)
            .take_while(move |(have, _)| *have == hash)
            .filter_map(|(_, n)| self.entry(*n, entries))
    }

    /// Entries for principals of this account, in order.
    pub(crate) fn of_account<'t>(
        &'t self,
        account: AccountId,
        entries: &'t Entries,
    ) -> impl Iterator<Item = &'t Entry> {
        let from = self.by_account.partition_point(|(have, _)| *have < account);
        self.by_account
            .iter()
            .skip(from)
            .take_while(move |(have, _)| *have == account)
            .filter_map(|(_, n)| self.entry(*n, entries))
    }

    fn entry<'t>(&self, n: u32, entries: &'t Entries) -> Option<&'t Entry> {
        match n.checked_sub(self.roles) {
            None => entries.roles.get(n as usize),
            Some(user) => entries.users.get(user as usize),
        }
        .map(|entry| &**entry)
    }

    /// An entry with the caller's ARN, whatever its `userid`.
    fn same_arn<'t>(
        &'t self,
        identity: &CallerIdentity,
        entries: &'t Entries,
    ) -> Option<&'t Entry> {
        let mut key = Key::default();
        key.arn(identity);
        self.named(identity.account(), identity.caller().name(), entries)
            .take(MAX_SAME_NAME)
            .find(|entry| match &entry.matcher {
                Matcher::Arn(arn) => arn.key.as_deref() == Some(key.as_str()),
                Matcher::Sso(_) | Matcher::Pattern(_) => false,
            })
    }
}

/// Entries of one name that are looked at.
pub(crate) const MAX_SAME_NAME: usize = 64;
