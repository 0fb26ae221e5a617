//! Roles and associations that do not stand on the service account: the ConfigMap and the identities file
//! (webhook spec, sections 3.2 to 3.4).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::json::Object;
use crate::review::describe;
use crate::table::{AccountTable, KeyError};

/// Name of the ConfigMap that holds the role map.
pub const ROLE_MAP_CONFIG_MAP: &str = "pod-identity-webhook";
/// Key in the ConfigMap under which the JSON stands.
pub const ROLE_MAP_KEY: &str = "config";
/// A larger text of either kind is refused; a ConfigMap cannot hold more.
pub const MAX_SOURCE_BYTES: usize = 1 << 20;

/// Roles by account, as the ConfigMap has them.
pub type RoleMap = AccountTable<RoleMapEntry>;
/// Associations by account. The identities file gives exact ones; the store of associations may hold patterns.
pub type Associations = AccountTable<Association>;

/// One value of the ConfigMap's object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleMapEntry {
    /// `RoleARN`. An entry without one gives no role, and hides the patterns that would.
    pub role_arn: Option<Box<str>>,
    /// `Audience`; absent or empty is the default of the configuration.
    pub audience: Option<Box<str>>,
    /// `UseRegionalSTS`; absent is the default of the configuration.
    pub regional_sts: Option<bool>,
    /// `TokenExpiration` in seconds; absent or 0 is the default.
    pub token_expiration: Option<i64>,
}

/// That an account has an association. Which role it gives is the auth service's business, not the pod's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Association {
    /// The association's id; identities of a file have none.
    pub id: Option<Box<str>>,
}

/// A source that cannot be used. What was in force before stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// See [`MAX_SOURCE_BYTES`].
    #[error("{0} bytes are more than {MAX_SOURCE_BYTES}")]
    TooLarge(usize),
    /// Not JSON, of another shape, or a name stands twice.
    #[error("not readable: {0}")]
    Malformed(String),
}

impl RoleMap {
    /// Reads the text under [`ROLE_MAP_KEY`]. Keys that are no `namespace/name` come back, to be reported; the other
    /// keys count.
    ///
    /// Names of members are compared without regard to case, as the reference does.
    pub fn parse(text: &str) -> Result<(Self, Vec<(String, KeyError)>), SourceError> {
        let entries: Entries<Object<RoleMapEntry>> = parse(text)?;
        let entries = entries.0.into_iter();
        Ok(Self::build(
            entries.map(|(key, Object(entry))| (key, entry)),
        ))
    }
}

impl Associations {
    /// Reads an identities file, `{"identities":[{"namespace":"orchard","serviceAccount":"picker"}]}`. An empty file
    /// has no identities. Both members are compared exactly; `*` is no pattern here.
    pub fn parse_identities(text: &str) -> Result<Self, SourceError> {
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let Object(file): Object<IdentitiesFile> = parse(text)?;
        let identities = file.0.into_iter().map(|Object(identity)| identity);
        // Names that no object has would never match, except that `a/b` with `c` reads like `a` with `b/c`.
        let identities = identities.filter(|identity| !identity.namespace.contains('/'));
        let key = |identity: Identity| [&*identity.namespace, "/", &*identity.account].concat();
        Ok(Self::exact(
            identities.map(|identity| (key(identity), Association::default())),
        ))
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, SourceError> {
    if text.len() > MAX_SOURCE_BYTES {
        return Err(SourceError::TooLarge(text.len()));
    }
    serde_json::from_str(text).map_err(|error| SourceError::Malformed(describe(&error)))
}

/// An object with arbitrary names, none twice.
struct Entries<T>(BTreeMap<String, T>);

struct IdentitiesFile(Vec<Object<Identity>>);

#[derive(Default)]
struct Identity {
    namespace: String,
    account: String,
}

/// A reader for an object with known members in any case. Each arm stores a member; unknown ones are skipped.
macro_rules! read_members {
    ($type:ty, $expecting:literal, |$value:ident, $map:ident| { $($name:literal => $store:expr,)* }) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;

                impl<'de> Visitor<'de> for Reader {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut $map: A) -> Result<$type, A::Error> {
                        const NAMES: &[&str] = &[$($name),*];
                        let mut seen = [false; NAMES.len()];
                        let mut $value = <$type>::empty();
                        while let Some(name) = $map.next_key::<String>()? {
                            let known = NAMES.iter().zip(&mut seen);
                            let mut known = known.filter(|(known, _)| known.eq_ignore_ascii_case(&name));
                            if let Some((known, seen)) = known.next() {
                                if std::mem::replace(seen, true) {
                                    return Err(A::Error::duplicate_field(known));
                                }
                            }
                            match name.to_ascii_lowercase() {
                                $(lower if lower.eq_ignore_ascii_case($name) => $store,)*
                                _ => {
                                    $map.next_value::<IgnoredAny>()?;
                                }
                            }
                        }
                        Ok($value)
                    }
                }

                deserializer.deserialize_map(Reader)
            }
        }
    };
}

read_members!(RoleMapEntry, "a role map entry", |entry, map| {
    "RoleARN" => entry.role_arn = filled(map.next_value()?),
    "Audience" => entry.audience = filled(map.next_value()?),
    "UseRegionalSTS" => entry.regional_sts = map.next_value()?,
    "TokenExpiration" => {
        entry.token_expiration = map.next_value::<Option<i64>>()?.filter(|seconds| *seconds != 0);
    },
});

read_members!(Identity, "an identity", |identity, map| {
    "namespace" => identity.namespace = map.next_value()?,
    "serviceAccount" => identity.account = map.next_value()?,
});

read_members!(IdentitiesFile, "an object with identities", |file, map| {
    "identities" => file.0 = map.next_value::<Option<_>>()?.unwrap_or_default(),
});

impl RoleMapEntry {
    fn empty() -> Self {
        Self::default()
    }
}

impl Identity {
    fn empty() -> Self {
        Self::default()
    }
}

impl IdentitiesFile {
    fn empty() -> Self {
        Self(Vec::new())
    }
}

fn filled(text: Option<Box<str>>) -> Option<Box<str>> {
    text.filter(|text| !text.is_empty())
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object by namespace and account")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if entries.insert(key, value).is_some() {
                        return Err(A::Error::custom("a key stands twice"));
                    }
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Reader(std::marker::PhantomData))
    }
}
