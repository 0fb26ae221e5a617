//! ARNs, partitions, account and unique ids, caller identities.
