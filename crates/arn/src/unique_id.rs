//! The unique ids of IAM: a four-letter prefix, the account, and random characters.
//!
//! Ids of the new style hold the account in the nine characters behind the prefix: the 48-bit number made of a one, the
//! account in 40 bits and 7 free bits, in base32 (RFC 4648). Ids are names, not secrets.

use crate::AccountId;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What an id names, told by its first four letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `AKIA`: a long-term access key.
    AccessKey,
    /// `ASIA`: a temporary access key.
    TemporaryAccessKey,
    /// `AIDA`: a user.
    User,
    /// `AROA`: a role.
    Role,
    /// `AGPA`: a group.
    Group,
    /// `AIPA`: an instance profile.
    InstanceProfile,
    /// `ANPA`: a managed policy.
    ManagedPolicy,
    /// `ANVA`: a version of a managed policy.
    ManagedPolicyVersion,
    /// `ASCA`: a server certificate.
    Certificate,
    /// `APKA`: a public key.
    PublicKey,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::AccessKey,
        Self::TemporaryAccessKey,
        Self::User,
        Self::Role,
        Self::Group,
        Self::InstanceProfile,
        Self::ManagedPolicy,
        Self::ManagedPolicyVersion,
        Self::Certificate,
        Self::PublicKey,
    ];

    /// The four letters an id of this kind begins with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::AccessKey => "AKIA",
            Self::TemporaryAccessKey => "ASIA",
            Self::User => "AIDA",
            Self::Role => "AROA",
            Self::Group => "AGPA",
            Self::InstanceProfile => "AIPA",
            Self::ManagedPolicy => "ANPA",
            Self::ManagedPolicyVersion => "ANVA",
            Self::Certificate => "ASCA",
            Self::PublicKey => "APKA",
        }
    }

    /// Characters of a whole id: 20 for keys, 21 for everything else.
    #[must_use]
    pub const fn id_len(self) -> usize {
        match self {
            Self::AccessKey | Self::TemporaryAccessKey => 20,
            _ => 21,
        }
    }

    /// The kind that the id's prefix names.
    #[must_use]
    pub fn of(id: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| id.starts_with(kind.prefix()))
    }
}

/// Makes an id of `kind` for `account` from 16 random bytes, of which 64 bits are used.
///
/// Uniqueness is the store's business: a key id has 39 free bits.
#[must_use]
pub fn encode(kind: Kind, account: AccountId, random: [u8; 16]) -> String {
    let number = account.as_number();
    let head = (1u64 << 39) + (number >> 1);
    let mut id = String::with_capacity(kind.id_len());
    id.push_str(kind.prefix());
    for shift in (0..8).rev() {
        id.push(letter(head >> (5 * shift)));
    }
    let mut bits = random.into_iter().map(u64::from);
    id.push(letter(
        ((number & 1) << 4) | (bits.next().unwrap_or(0) & 15),
    ));
    while id.len() < kind.id_len() {
        id.push(letter(bits.next().unwrap_or(0)));
    }
    id
}

/// The account inside `id`, if it is an id of the new style.
///
/// Ids of the old style (keys that begin with `AKIAI` or `AKIAJ`) carry none.
#[must_use]
pub fn account_of(id: &str) -> Option<AccountId> {
    let body = id.as_bytes().get(4..)?;
    if body.len() < 12 || !body.iter().all(|b| ALPHABET.contains(b)) {
        return None;
    }
    let mut bits = 0u64;
    for byte in body.iter().take(10) {
        let digit = ALPHABET.iter().position(|letter| letter == byte)?;
        bits = (bits << 5) | u64::try_from(digit).ok()?;
    }
    let number48 = bits >> 2;
    if number48 >> 47 == 0 {
        return None;
    }
    AccountId::from_number((number48 & 0x7fff_ffff_ff80) >> 7)
}

fn letter(bits: u64) -> char {
    let index = usize::try_from(bits & 31).unwrap_or(0);
    ALPHABET.get(index).copied().map_or('A', char::from)
}
