//! `countersign access` with the real command: on a store, on a running server, on an EKS API, on a cluster, and on files.

mod files;
mod sources;
mod store;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use countersign_access::{AccessScope, EntryType};
use countersign_store::records::AuthenticationMode;
use countersign_store::{
    ClusterPlace, DataDir, Directory, NewAccessEntry, NewRole, Quotas, Random, RedbOptions,
    RootKeySource, Sealer,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::{BINARY, Running, clean_environment, countersign};

const VIEW: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";
const DEV: &str = "arn:aws:iam::111122223333:role/Dev";
const GONE: &str = "arn:aws:iam::111122223333:role/Gone";

const CONFIG: &str = r#"
countersign:
  bootstrap:
    roles:
    - name: Dev
      trustPolicy: '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}}'
    - name: Gone
      trustPolicy: '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}}'
"#;

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/examples/access")
        .join(name);
    path.canonicalize().unwrap().display().to_string()
}

/// Runs `countersign access` without a kubeconfig to find; gives exit code, stdout, stderr.
fn access(args: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let mut variables: BTreeMap<String, String> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    variables.insert("HOME".into(), "/nonexistent".into());
    let mut all = vec!["access"];
    all.extend(args);
    let Output {
        status,
        stdout,
        stderr,
    } = countersign(&all, &variables);
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

/// What a row of a table holds, whatever the width of its columns.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}
