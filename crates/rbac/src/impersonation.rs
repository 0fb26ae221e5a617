//! Who may act as someone else (RBAC spec, section 7): classic impersonation, and the constrained kinds that Kubernetes
//! 1.36 tries first.

use std::collections::BTreeMap;

use crate::http::decode;
use crate::message::forbidden;
use crate::object::{
    ANONYMOUS, AUTHENTICATED, NODES, SUPERUSERS, UNAUTHENTICATED, is_dns_subdomain, split_node,
    split_service_account,
};
use crate::quote::Quoted;
use crate::request::{Action, Groups, Request, ResourceAction, User};

const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";
/// Extra key of service account tokens bound to a pod: the node of that pod.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From this many groups, or extra keys or values, the constrained kinds first ask for all at once.
const MANY: usize = 4;

/// Extra facts about a user, such as the scopes of a token.
pub type Extra = BTreeMap<String, Vec<String>>;

/// Whom a caller asks to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// `Impersonate-User`
    pub user: String,
    /// `Impersonate-Uid`, or empty.
    pub uid: String,
    /// `Impersonate-Group`, repeated.
    pub groups: Vec<String>,
    /// `Impersonate-Extra-KEY`, repeated.
    pub extra: Extra,
}

/// A group, UID or extra was asked for without a user; answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("requested groups, UID or extra without impersonating a user name")]
pub struct NoUser;

/// The kinds of impersonation in the order they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A pod acts as the node it runs on.
    AssociatedNode,
    /// Any node.
    ArbitraryNode,
    /// A service account.
    ServiceAccount,
    /// Any other user, with groups, UID and extra.
    UserInfo,
    /// The verb `impersonate` on everything asserted; whatever the target may do.
    Classic,
}

/// The caller is let through as this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonated {
    /// Which kind allowed it.
    pub mode: Mode,
    /// The user name.
    pub user: String,
    /// The UID, or empty.
    pub uid: String,
    /// The groups, with those that the API server adds.
    pub groups: Vec<String>,
    /// The extra.
    pub extra: Extra,
}

/// No kind allows it; answered with 403.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ImpersonationRefused {
    /// The kind whose refusal is told: the first that applied.
    pub mode: Mode,
    /// The API server's message.
    pub message: String,
}

/// Asks all authorizers: nothing if allowed, else their reason. In the mode of associated nodes the values of the
/// caller's extra must be kept from authorizers that look at them, since that answer stands for every node.
pub type Ask<'f> = &'f mut dyn FnMut(&Request<'_>, Mode) -> Result<(), String>;

impl Target {
    /// Reads the headers of a request; `None` if they ask for nobody.
    pub fn from_headers<'h>(
        headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    ) -> Result<Option<Self>, NoUser> {
        let mut target = Self::default();
        let (mut user, mut uid) = (None, None);
        let mut asks_more = false;
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            match name.as_str() {
                "impersonate-user" => _ = user.get_or_insert(value),
                "impersonate-uid" => _ = uid.get_or_insert(value),
                "impersonate-group" => {
                    asks_more = true;
                    target.groups.push(value.to_owned());
                }
                other => {
                    if let Some(key) = other.strip_prefix("impersonate-extra-") {
                        asks_more = true;
                        let key = decode(key, false).unwrap_or_else(|| key.to_owned());
                        target.extra.entry(key).or_default().push(value.to_owned());
                    }
                }
            }
        }
        user.unwrap_or_default().clone_into(&mut target.user);
        uid.unwrap_or_default().clone_into(&mut target.uid);
        match (target.user.is_empty(), asks_more || !target.uid.is_empty()) {
            (true, true) => Err(NoUser),
            (true, false) => Ok(None),
            (false, _) => Ok(Some(target)),
        }
    }

    /// Whether the caller may act as this target, to do this. `constrained` is on by default from 1.36; before, there
    /// is only the classic kind.
    pub fn check(
        &self,
        caller: &User<'_>,
        caller_extra: &Extra,
        action: &Action<'_>,
        constrained: bool,
        ask: Ask<'_>,
    ) -> Result<Impersonated, ImpersonationRefused> {
        let modes: &[Mode] = if constrained {
            &Mode::CONSTRAINED_FIRST
        } else {
            &[Mode::Classic]
        };
        let mut first_refusal = None;
        for mode in modes {
            if !mode.applies(self, caller, caller_extra) {
                continue;
            }
            let mut check = Check {
                target: self,
                caller,
                mode: *mode,
                ask: &mut *ask,
            };
            match check.run(action) {
                Ok(()) => return Ok(self.become_user(*mode)),
                Err(message) => {
                    first_refusal.get_or_insert(ImpersonationRefused {
                        mode: *mode,
                        message,
                    });
                }
            }
        }
        Err(first_refusal.unwrap_or(ImpersonationRefused {
            mode: Mode::Classic,
            message: "all impersonation modes failed".into(),
        }))
    }

    fn become_user(&self, mode: Mode) -> Impersonated {
        let mut groups = self.groups.clone();
        if mode != Mode::Classic && split_node(&self.user).is_some() {
            groups = vec![NODES.to_owned()];
        } else if groups.is_empty()
            && let Some((namespace, _)) = split_service_account(&self.user)
        {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        let has = |group: &str| groups.iter().any(|held| held == group);
        let implied = if self.user == ANONYMOUS {
            UNAUTHENTICATED
        } else {
            AUTHENTICATED
        };
        if !has(implied) && !has(UNAUTHENTICATED) {
            groups.push(implied.to_owned());
        }
        Impersonated {
            mode,
            user: self.user.clone(),
            uid: self.uid.clone(),
            groups,
            extra: self.extra.clone(),
        }
    }

    fn is_name_only(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }
}

impl Mode {
    const CONSTRAINED_FIRST: [Self; 5] = [
        Self::AssociatedNode,
        Self::ArbitraryNode,
        Self::ServiceAccount,
        Self::UserInfo,
        Self::Classic,
    ];

    /// The verb on the identity. Audit events tell it for the constrained kinds.
    pub fn identity_verb(self) -> &'static str {
        match self {
            Self::AssociatedNode => "impersonate:associated-node",
            Self::ArbitraryNode => "impersonate:arbitrary-node",
            Self::ServiceAccount => "impersonate:serviceaccount",
            Self::UserInfo => "impersonate:user-info",
            Self::Classic => "impersonate",
        }
    }

    /// The verb on the action, which the classic kind does not ask for.
    pub fn action_verb(self, verb: &str) -> Option<String> {
        let mode = self.identity_verb().strip_prefix("impersonate:")?;
        Some(format!("impersonate-on:{mode}:{verb}"))
    }

    fn applies(self, target: &Target, caller: &User<'_>, caller_extra: &Extra) -> bool {
        let node = split_node(&target.user);
        let is_service_account = split_service_account(&target.user).is_some();
        match self {
            Self::AssociatedNode => {
                let own_node = match caller_extra.get(NODE_NAME).map(Vec::as_slice) {
                    Some([only]) => Some(only.as_str()),
                    _ => None,
                };
                target.is_name_only()
                    && node.is_some()
                    && split_service_account(caller.name).is_some()
                    && own_node == node
            }
            Self::ArbitraryNode => target.is_name_only() && node.is_some(),
            Self::ServiceAccount => target.is_name_only() && is_service_account,
            Self::UserInfo => node.is_none() && !is_service_account,
            Self::Classic => true,
        }
    }
}

/// Whether holding a verb can mean acting as someone else. Looking for `impersonate` alone misses the constrained kinds.
pub fn is_impersonation_verb(verb: &str) -> bool {
    verb == "*"
        || verb == "impersonate"
        || verb.starts_with("impersonate:")
        || verb.starts_with("impersonate-on:")
}

/// The checks of one kind; each error is a message for the client.
struct Check<'a, 'f> {
    target: &'a Target,
    caller: &'a User<'a>,
    mode: Mode,
    ask: Ask<'f>,
}

impl Check<'_, '_> {
    fn run(&mut self, action: &Action<'_>) -> Result<(), String> {
        if let Some(verb) = self.mode.action_verb(action.verb()) {
            self.authorize(action.with_verb(&verb))?;
        }
        self.user_name()?;
        self.uid()?;
        self.groups()?;
        self.extra()
    }

    fn user_name(&mut self) -> Result<(), String> {
        let user = self.target.user.as_str();
        let mut identity = self.identity("users", user);
        if let Some(node) = split_node(user)
            && self.mode != Mode::Classic
        {
            identity.resource = "nodes";
            // The answer for the own node holds for every node, so it is asked for all of them.
            identity.name = if self.mode == Mode::AssociatedNode {
                "*"
            } else {
                node
            };
        } else if let Some((namespace, name)) = split_service_account(user) {
            identity.resource = "serviceaccounts";
            identity.namespace = namespace;
            identity.name = name;
        }
        self.authorize(identity.into())
    }

    fn uid(&mut self) -> Result<(), String> {
        let uid = self.target.uid.as_str();
        if uid.is_empty() {
            return Ok(());
        }
        let mut identity = self.identity("uids", uid);
        identity.group = AUTHENTICATION_GROUP;
        self.authorize(identity.into())
    }

    fn groups(&mut self) -> Result<(), String> {
        let target = self.target;
        let groups = &target.groups;
        let is_constrained = self.mode != Mode::Classic;
        if is_constrained {
            if groups.iter().any(String::is_empty) {
                let reason = "impersonating the empty string group is not allowed";
                return Err(self.refuse(self.identity("groups", ""), reason));
            }
            if groups.iter().any(|group| group == SUPERUSERS) {
                let reason = "impersonating the system:masters group is not allowed";
                return Err(self.refuse(self.identity("groups", SUPERUSERS), reason));
            }
            if groups.len() >= MANY && self.authorize(self.identity("groups", "*").into()).is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            self.authorize(self.identity("groups", group).into())?;
        }
        Ok(())
    }

    fn extra(&mut self) -> Result<(), String> {
        let target = self.target;
        let extra = &target.extra;
        if extra.is_empty() {
            return Ok(());
        }
        let mut identity = self.identity("userextras", "");
        identity.group = AUTHENTICATION_GROUP;
        if self.mode != Mode::Classic {
            for (key, values) in extra {
                if let Err(reason) = check_extra(key, values) {
                    return Err(self.refuse(identity, &reason));
                }
            }
            let values = extra.values().map(Vec::len).sum::<usize>();
            let all = ResourceAction {
                subresource: "*",
                name: "*",
                ..identity
            };
            if (extra.len() >= MANY || values >= MANY) && self.authorize(all.into()).is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                let one = ResourceAction {
                    subresource: key,
                    name: value,
                    ..identity
                };
                self.authorize(one.into())?;
            }
        }
        Ok(())
    }

    fn identity<'s>(&self, resource: &'s str, name: &'s str) -> ResourceAction<'s> {
        ResourceAction {
            verb: self.mode.identity_verb(),
            group: match self.mode {
                Mode::Classic => "",
                _ => AUTHENTICATION_GROUP,
            },
            version: "v1",
            resource,
            name,
            ..ResourceAction::default()
        }
    }

    fn authorize(&mut self, action: Action<'_>) -> Result<(), String> {
        let request = Request {
            user: *self.caller,
            action,
        };
        (self.ask)(&request, self.mode).map_err(|reason| forbidden(&request, &reason))
    }

    fn refuse(&self, action: ResourceAction<'_>, reason: &str) -> String {
        let request = Request {
            user: *self.caller,
            action: action.into(),
        };
        forbidden(&request, reason)
    }
}

/// What only the constrained kinds refuse in extra.
fn check_extra(key: &str, values: &[String]) -> Result<(), String> {
    let refuse = |what: &str| Err(format!("impersonating {what} in extra is not allowed"));
    if key.is_empty() {
        return refuse("the empty string key");
    }
    let is_path_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    let is_prefixed_path = key.split_once('/').is_some_and(|(domain, path)| {
        is_dns_subdomain(domain) && !path.is_empty() && path.bytes().all(is_path_byte)
    });
    if !is_prefixed_path {
        return Err(format!(
            "impersonating an invalid key in extra is not allowed: {} must be a domain-prefixed path (such as \"acme.io/foo\")",
            Quoted(key)
        ));
    }
    if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!(
            "impersonating a non-lowercase key in extra is not allowed: {}",
            Quoted(key)
        ));
    }
    if values.is_empty() {
        return refuse("empty values");
    }
    if values.iter().any(String::is_empty) {
        return refuse("the empty string value");
    }
    Ok(())
}

impl Impersonated {
    /// The impersonated user, to ask authorizers about.
    pub fn as_user(&self) -> User<'_> {
        User {
            name: &self.user,
            groups: Groups::Owned(&self.groups),
        }
    }
}
