//! Role ARNs: whether a text can be one, and completing short names (webhook spec, sections 3.1 and 12).

use std::sync::Arc;

use countersign_arn::{AccountId, Partition};

use crate::patch::Str;

/// Account and partition with which short role names are completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Composition {
    /// Account of the role.
    pub account: AccountId,
    /// Partition of the account.
    pub partition: Partition,
}

/// The partition of a region as the reference tells it: by the region's prefix, everything unknown being `aws`. A
/// region that is newer than this program still belongs to the partition of its neighbours.
pub fn partition_of_region(region: &str) -> Partition {
    let prefixes = [
        ("cn-", Partition::China),
        ("us-gov-", Partition::GovCloud),
        ("us-iso-", Partition::Iso),
        ("us-isob-", Partition::IsoB),
        ("eu-isoe-", Partition::IsoE),
        ("us-isof-", Partition::IsoF),
        ("eusc-", Partition::EuropeanSovereign),
    ];
    let mut prefixes = prefixes.into_iter();
    let known = prefixes.find(|(prefix, _)| region.starts_with(prefix));
    known.map_or(Partition::Aws, |(_, partition)| partition)
}

/// Whether the text has the form `arn:aws…:iam::<12 digits>:role/<path and name>`.
pub fn is_role_arn(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("arn:aws") else {
        return false;
    };
    let mut fields = rest.splitn(5, ':');
    let mut next = || fields.next().unwrap_or_default();
    let (partition, service, region, account) = (next(), next(), next(), next());
    let role = next().strip_prefix("role/").unwrap_or_default();
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"_-/.@+=,".contains(&b);
    partition
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && service == "iam"
        && region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && !role.is_empty()
        && role.bytes().all(is_word)
}

/// The role as it is handed to the pod: completed when it is no ARN and there is something to complete it with.
///
/// The reference leaves the ConfigMap's names alone. A short name there cannot work, so it is completed as well.
pub(crate) fn complete<'a>(role: &'a str, composition: Option<&Composition>) -> Str<'a> {
    match composition {
        Some(Composition { account, partition }) if !role.starts_with("arn:") => {
            // `role//name` would be another role than the one meant.
            let role = role.trim_start_matches('/');
            let arn = [
                "arn:",
                partition.id(),
                ":iam::",
                account.as_str(),
                ":role/",
                role,
            ]
            .concat();
            Str::Shared(Arc::from(arn))
        }
        _ => Str::Borrowed(role),
    }
}
