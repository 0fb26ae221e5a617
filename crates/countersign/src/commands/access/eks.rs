//! Access entries from an EKS API.

use std::io::IsTerminal as _;

use anyhow::anyhow;
use countersign_arn::CallerArn;
use countersign_client::eks::{EksOptions, EksReader};
use countersign_client::{Io, Process};
use countersign_review::{
    AccessSnapshot, ClusterFacts, EntryFacts, Mode, PolicyFacts, Principal, ScopeFacts,
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::facts::EntryArgs;
use crate::report::Failure;

/// From this many entries on a person is told how far it is: each takes two calls.
const SLOW: usize = 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    name: String,
    arn: String,
    #[serde(default)]
    access_config: Option<AccessConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessConfig {
    #[serde(default)]
    authentication_mode: Option<Mode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    principal_arn: String,
    #[serde(rename = "type", default)]
    entry_type: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    kubernetes_groups: Option<Vec<String>>,
    #[serde(default)]
    access_entry_arn: Option<String>,
    #[serde(default)]
    created_at: Option<f64>,
    #[serde(default)]
    modified_at: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Association {
    policy_arn: String,
    access_scope: ScopeFacts,
    #[serde(default)]
    associated_at: Option<f64>,
    #[serde(default)]
    modified_at: Option<f64>,
}

/// All entries of a cluster, or those that can be of `principal`.
pub(super) fn snapshot(
    args: &EntryArgs,
    principal: Option<&Principal>,
    process: &Process<'_>,
    io: &mut Io<'_>,
) -> Result<AccessSnapshot, Failure> {
    let Some(wanted) = &args.cluster else {
        return Err(
            Failure::usage(anyhow!("no cluster is named")).hint("name it with `--cluster NAME`")
        );
    };
    let (name, of_arn) = match wanted.split_once(":cluster/") {
        Some((head, name)) => (name, head.split(':').nth(3)),
        None => (wanted.as_str(), None),
    };
    let options = EksOptions {
        region: args.region.as_deref().or(of_arn),
        profile: args.profile.as_deref(),
        endpoint_url: args.endpoint_url.as_deref(),
    };
    let reader = EksReader::new(&options, process, io)?;
    let cluster: Cluster = member(
        reader.get("DescribeCluster", &["clusters", name], &[])?,
        "cluster",
    )?;
    let mode = cluster
        .access_config
        .and_then(|config| config.authentication_mode)
        .unwrap_or(Mode::ConfigMap);
    let mut snapshot = AccessSnapshot::new(ClusterFacts {
        name: cluster.name,
        arn: Some(cluster.arn),
        authentication_mode: mode,
        // AWS keeps it to itself.
        creator: None,
    });
    if !mode.reads_entries() {
        return Ok(snapshot);
    }
    let entries = ["clusters", name, "access-entries"];
    let arns = reader.list("ListAccessEntries", &entries, "accessEntries")?;
    let arns: Vec<&str> = arns
        .iter()
        .filter_map(Value::as_str)
        .filter(|arn| match principal {
            None => true,
            Some(principal) => CallerArn::parse(arn).is_ok_and(|arn| principal.is_named(&arn)),
        })
        .collect();
    let tell = arns.len() >= SLOW && std::io::stderr().is_terminal();
    for (at, arn) in arns.iter().enumerate() {
        if tell && at % SLOW == 0 {
            let _ = write!(
                io.stderr,
                "\rreading access entries: {at} of {}",
                arns.len()
            );
        }
        let path = ["clusters", name, "access-entries", arn];
        let entry = member(
            reader.get("DescribeAccessEntry", &path, &[])?,
            "accessEntry",
        )?;
        let path = ["clusters", name, "access-entries", arn, "access-policies"];
        let operation = "ListAssociatedAccessPolicies";
        let policies = reader.list(operation, &path, "associatedAccessPolicies")?;
        let policies: Result<Vec<Association>, _> =
            policies.into_iter().map(serde_json::from_value).collect();
        snapshot.entries.push(facts(entry, policies?)?);
    }
    if tell {
        let _ = writeln!(io.stderr, "\rread {} access entries{:20}", arns.len(), "");
    }
    snapshot.checked().map_err(Failure::unknown)
}

fn member<T: DeserializeOwned>(mut answer: Value, name: &'static str) -> Result<T, Failure> {
    let value = answer.get_mut(name).map(Value::take).unwrap_or_default();
    serde_json::from_value(value)
        .map_err(|error| Failure::unknown(anyhow!("the EKS API gave no usable `{name}`: {error}")))
}

fn facts(entry: Entry, policies: Vec<Association>) -> Result<EntryFacts, Failure> {
    let entry_type = match &entry.entry_type {
        None => Default::default(),
        Some(word) => word.parse().map_err(Failure::unknown)?,
    };
    Ok(EntryFacts {
        username: entry.username.unwrap_or_default(),
        principal_arn: entry.principal_arn,
        entry_type,
        kubernetes_groups: entry.kubernetes_groups.unwrap_or_default(),
        access_entry_arn: entry.access_entry_arn,
        created_at: time(entry.created_at),
        modified_at: time(entry.modified_at),
        binding: Default::default(),
        associated_access_policies: policies
            .into_iter()
            .map(|policy| PolicyFacts {
                policy_arn: policy.policy_arn,
                access_scope: policy.access_scope,
                associated_at: time(policy.associated_at),
                modified_at: time(policy.modified_at),
            })
            .collect(),
    })
}

/// Seconds since the epoch, to the millisecond.
fn time(seconds: Option<f64>) -> Option<Timestamp> {
    let duration = SignedDuration::try_from_secs_f64(seconds?).ok()?;
    let millis = i64::try_from(duration.as_millis()).ok()?;
    Timestamp::from_millisecond(millis).ok()
}
