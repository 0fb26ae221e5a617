//! Managed policies of AWS that are imported (IAM API spec, section 6).

use super::policies::check_document;
use super::{Directory, DirectoryError, readable};
use crate::records::{
    AwsPolicy, InvalidField, PolicyVersion, RecordKey, check_policy_name, check_policy_path,
};
use crate::{Transaction, limits};

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportedPolicies {
    /// Policies that were not there before, or got another version or default.
    pub written: usize,
    /// Policies that were there as they are.
    pub unchanged: usize,
}

/// Bytes of one record, so that its value is well within [`limits::VALUE_BYTES`].
const RECORD_BYTES: usize = limits::VALUE_BYTES / 4 * 3;
/// Bytes and writes of one transaction.
const BATCH_BYTES: usize = limits::TRANSACTION_BYTES / 2;
const BATCH_WRITES: usize = limits::OPERATIONS / 2;

impl Directory {
    /// Takes over managed policies of AWS. Versions that are there already stay beside those that are imported; of one
    /// number, the imported one holds. The same import again changes nothing.
    ///
    /// Policies are written in batches; after a failure, import again.
    ///
    /// # Errors
    /// Before anything is written, when a policy is none that AWS could have; see [`DirectoryError`].
    pub async fn import_aws_policies(
        &self,
        policies: &[AwsPolicy],
    ) -> Result<ImportedPolicies, DirectoryError> {
        for policy in policies {
            check(policy)?;
        }
        let mut done = ImportedPolicies::default();
        let mut rest = policies;
        while !rest.is_empty() {
            let (taken, batch) = self
                .write(|snapshot| {
                    let mut transaction = Transaction::new();
                    let mut batch = ImportedPolicies::default();
                    let mut taken = 0;
                    for policy in rest {
                        let key = readable(snapshot, RecordKey::AwsPolicy(&policy.name))?;
                        let known = snapshot.aws_policy(&policy.name);
                        let merged = merge(policy, known.map(|entry| &entry.record))?;
                        if known.is_some_and(|entry| entry.record == merged) {
                            batch.unchanged += 1;
                            taken += 1;
                            continue;
                        }
                        let value = merged.encode();
                        let full = transaction.bytes().saturating_add(value.len()) > BATCH_BYTES
                            || transaction.operations().len() >= BATCH_WRITES
                            || transaction
                                .operations()
                                .iter()
                                .any(|write| *write.key() == key);
                        if full && batch.written > 0 {
                            break;
                        }
                        transaction = match known {
                            Some(entry) => transaction.if_unchanged(&key, entry.modified),
                            None => transaction.if_absent(&key),
                        };
                        transaction = transaction.put(&key, value);
                        batch.written += 1;
                        taken += 1;
                    }
                    Ok((transaction, (taken, batch)))
                })
                .await?;
            done.written += batch.written;
            done.unchanged += batch.unchanged;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(done)
    }
}

fn check(policy: &AwsPolicy) -> Result<(), DirectoryError> {
    check_policy_name(&policy.name)?;
    check_policy_path(&policy.path)?;
    if policy.version(policy.default_version).is_none() {
        return Err(NO_DEFAULT.into());
    }
    for version in &policy.versions {
        // The largest policies of AWS are larger than a customer's may be.
        if version.document.len() > RECORD_BYTES / 2 || version.number == 0 {
            return Err(TOO_LARGE.into());
        }
        if version.document.len() <= 131_072 {
            check_document(&version.document)?;
        }
    }
    Ok(())
}

/// The imported policy with the versions that are known beside it, without the oldest if all together are too large for
/// one record.
fn merge(imported: &AwsPolicy, known: Option<&AwsPolicy>) -> Result<AwsPolicy, DirectoryError> {
    let mut merged = imported.clone();
    let earlier = known.into_iter().flat_map(|known| &known.versions);
    for version in earlier {
        if merged.version(version.number).is_none() {
            merged.versions.push(version.clone());
        }
    }
    merged.versions.sort_by_key(|version| version.number);
    merged.versions.dedup_by_key(|version| version.number);
    while merged.encode().len() > RECORD_BYTES {
        let oldest = merged
            .versions
            .iter()
            .position(|version: &PolicyVersion| version.number != merged.default_version)
            .ok_or(TOO_LARGE)?;
        merged.versions.remove(oldest);
    }
    Ok(merged)
}

const NO_DEFAULT: InvalidField = InvalidField {
    field: "the default version of a policy of AWS",
    expected: "one of its versions",
};

const TOO_LARGE: InvalidField = InvalidField {
    field: "a version of a policy of AWS",
    expected: "numbered from 1, and at most 192 KiB",
};
