//! The tables of `tests/data/cases`: texts of backends, callers, and what each of them gets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use countersign_arn::{CallerIdentity, SessionFacts, Tag};
use countersign_mapping::config_map::ConfigMap;
use countersign_mapping::*;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Case {
    name: String,
    #[serde(default)]
    options: Options,
    #[serde(default)]
    chain: ChainCase,
    backends: Vec<BackendCase>,
    /// `code` or `code@line`; no other error may be found.
    #[serde(default)]
    findings: Vec<String>,
    /// Sections that are broken, with a part of the reason.
    #[serde(default)]
    broken: BTreeMap<String, String>,
    /// A part of the reason why a source is refused as a whole.
    refused: Option<String>,
    #[serde(default)]
    callers: Vec<Caller>,
    /// How many entries there are in all.
    entries: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Options {
    partition: Option<String>,
    embedded: bool,
    strict_role_path: bool,
    sso_suffix_any: bool,
    user_id_strict: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct ChainCase {
    reserved: BTreeMap<String, Vec<String>>,
    require_node_usernames: bool,
    privileged_groups: BTreeMap<String, Vec<String>>,
    verify: String,
    scrubbed: Vec<String>,
    mapping_extras: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
enum BackendCase {
    AwsAuth(BTreeMap<String, String>),
    Manifest(String),
    Config(String),
    DynamicFile(String),
    Objects(Vec<ObjectCase>),
    Creator(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ObjectCase {
    name: String,
    #[serde(default)]
    created: i64,
    #[serde(flatten)]
    spec: crd::Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Caller {
    /// `Ops/ana`: a session of a role in account 444455556666.
    role: Option<String>,
    /// `team/kim`: a user of that account.
    user: Option<String>,
    arn: Option<String>,
    id: Option<String>,
    facts: Option<Facts>,
    instance: Option<Instance>,
    action_allowed: Option<bool>,
    username: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    /// `EKSConfigMap mapRoles[0]`
    rule: Option<String>,
    uid: Option<String>,
    #[serde(default)]
    extra: BTreeMap<String, String>,
    account: Option<String>,
    denied: Option<String>,
    text: Option<String>,
    #[serde(default)]
    nearest: Vec<String>,
    /// The instance that has to be looked up.
    lookup: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Facts {
    arn: Option<String>,
    source_identity: Option<String>,
    #[serde(default)]
    mfa: bool,
    #[serde(default)]
    session_tags: BTreeMap<String, String>,
    #[serde(default)]
    principal_tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Instance {
    id: Option<String>,
    name: Option<String>,
    owner: Option<String>,
    state: Option<String>,
    roles: Option<Vec<String>>,
    from_metadata: Option<bool>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[test]
fn every_case_of_the_tables_holds() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cases");
    let mut failures = String::new();
    let mut cases = 0;
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let table: Vec<Case> =
            serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for case in table {
            cases += 1;
            let mut wrong = Vec::new();
            check(&case, &mut wrong);
            for wrong in wrong {
                writeln!(
                    failures,
                    "{} / {}: {wrong}",
                    file.file_stem().unwrap().to_string_lossy(),
                    case.name
                )
                .unwrap();
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(cases > 100, "only {cases} cases were found");
}

fn check(case: &Case, wrong: &mut Vec<String>) {
    let options = options(&case.options);
    let mut findings = Vec::new();
    let mut backends = Vec::new();
    let mut broken = BTreeMap::new();
    let mut entries = 0;
    for backend in &case.backends {
        match load(backend, &options, &mut findings, &mut broken) {
            Ok(table) => {
                entries += table.entries().len();
                backends.push(Backend::from(table));
            }
            Err(refused) => {
                match &case.refused {
                    Some(part) if refused.summary.contains(part) => {}
                    _ => wrong.push(format!("refused: {refused}")),
                }
                check_findings(case, &refused.findings, wrong);
                return;
            }
        }
    }
    if case.refused.is_some() {
        wrong.push("was not refused".into());
    }
    if let Some(wanted) = case.entries
        && wanted != entries
    {
        wrong.push(format!("{entries} entries instead of {wanted}"));
    }
    for (section, part) in &case.broken {
        match broken.get(section) {
            Some(error) if format!("{error}").contains(part) => {}
            other => wrong.push(format!("{section} broken: {other:?}")),
        }
    }
    for section in broken.keys().filter(|s| !case.broken.contains_key(*s)) {
        wrong.push(format!("{section} is broken: {}", broken[section]));
    }
    check_findings(case, &findings, wrong);
    let chain = Chain::new(backends, chain_options(&case.chain));
    for caller in &case.callers {
        check_caller(&chain, caller, wrong);
    }
}

fn options(case: &Options) -> MappingOptions {
    MappingOptions {
        partition: case
            .partition
            .as_deref()
            .map(|p| p.parse().unwrap())
            .unwrap_or_default(),
        authority: if case.embedded {
            Authority::Embedded
        } else {
            Authority::Aws
        },
        strict_role_path: case.strict_role_path,
        sso_suffix: if case.sso_suffix_any {
            SsoSuffix::Any
        } else {
            SsoSuffix::Exact
        },
        dynamic_file_user_id_strict: case.user_id_strict,
    }
}

fn backend_kind(name: &str) -> BackendKind {
    BackendModes::parse([name]).unwrap().modes()[0]
}

fn chain_options(case: &ChainCase) -> ChainOptions {
    ChainOptions {
        reserved_prefixes: case
            .reserved
            .iter()
            .map(|(backend, prefixes)| ReservedPrefixes {
                backend: backend_kind(backend),
                prefixes: prefixes.clone(),
            })
            .collect(),
        node_usernames: if case.require_node_usernames {
            NodeUsernames::Require
        } else {
            NodeUsernames::Lint
        },
        privileged_groups: case
            .privileged_groups
            .iter()
            .map(|(group, backends)| {
                let backends = backends.iter().map(|b| backend_kind(b)).collect();
                (group.clone(), backends)
            })
            .collect(),
        verify_instance_role: match case.verify.as_str() {
            "" => VerifyInstanceRole::WhatIsKnown,
            "require" => VerifyInstanceRole::Require,
            "off" => VerifyInstanceRole::Off,
            other => panic!("verify: {other}"),
        },
        scrubbed_accounts: case.scrubbed.iter().map(|a| a.parse().unwrap()).collect(),
        mapping_extras: case.mapping_extras,
    }
}

fn load(
    backend: &BackendCase,
    options: &MappingOptions,
    findings: &mut Vec<Finding>,
    broken: &mut BTreeMap<String, BrokenText>,
) -> Result<MappingTable, mounted_file::RefusedSource> {
    let refused = |error: BrokenText| mounted_file::RefusedSource {
        summary: error.to_string(),
        findings: Vec::new(),
    };
    let (kind, entries) = match backend {
        BackendCase::AwsAuth(_) | BackendCase::Manifest(_) => {
            let map = match backend {
                BackendCase::AwsAuth(data) => ConfigMap::parse(data, options),
                BackendCase::Manifest(text) => {
                    ConfigMap::parse_manifest(text, options).map_err(refused)?
                }
                _ => unreachable!(),
            };
            findings.extend(map.findings.clone());
            for (key, error) in [
                ("mapRoles", map.roles.error()),
                ("mapUsers", map.users.error()),
                ("mapAccounts", map.accounts.error()),
            ] {
                if let Some(error) = error {
                    broken.insert(key.into(), error.clone());
                }
            }
            let (entries, _) = map.in_force(None, OnParseError::KeepLastGood);
            (BackendKind::EksConfigMap, entries)
        }
        BackendCase::Config(text) => {
            let loaded = mounted_file::parse(text, options)?;
            findings.extend(loaded.findings);
            (BackendKind::MountedFile, loaded.entries)
        }
        BackendCase::DynamicFile(text) => {
            let file = dynamic_file::parse(text, options)?;
            findings.extend(file.findings);
            (BackendKind::DynamicFile, file.entries)
        }
        BackendCase::Objects(objects) => {
            let objects: Vec<_> = objects
                .iter()
                .map(|object| crd::Object {
                    name: object.name.clone(),
                    created_at: object.created,
                    spec: object.spec.clone(),
                })
                .collect();
            let read = crd::read(&objects, options);
            findings.extend(read.findings);
            (BackendKind::Crd, read.entries)
        }
        BackendCase::Creator(arn) => {
            return Ok(MappingTable::cluster_creator(arn, None, options).unwrap());
        }
    };
    Ok(MappingTable::new(kind, entries, options))
}

fn check_findings(case: &Case, findings: &[Finding], wrong: &mut Vec<String>) {
    for wanted in &case.findings {
        let (code, line) = match wanted.split_once('@') {
            Some((code, line)) => (code, Some(line.parse::<u32>().unwrap())),
            None => (wanted.as_str(), None),
        };
        assert!(
            Code::ALL.iter().any(|known| known.id() == code),
            "no such code: {code}"
        );
        let found = findings
            .iter()
            .any(|f| f.code.id() == code && line.is_none_or(|line| f.line == Some(line)));
        if !found {
            wrong.push(format!("finding {wanted} is missing"));
        }
    }
    for finding in findings {
        let expected = case
            .findings
            .iter()
            .any(|wanted| wanted.split('@').next() == Some(finding.code.id()));
        if finding.severity == Severity::Error && !expected {
            wrong.push(format!("unexpected {finding}"));
        }
    }
}

fn identity(caller: &Caller) -> CallerIdentity {
    let (arn, id) = match (&caller.role, &caller.user, &caller.arn) {
        (Some(role), None, None) => {
            let session = role.rsplit_once('/').unwrap().1;
            (
                format!("arn:aws:sts::444455556666:assumed-role/{role}"),
                format!("AROAEXAMPLEEXAMPLE123:{session}"),
            )
        }
        (None, Some(user), None) => (
            format!("arn:aws:iam::444455556666:user/{user}"),
            "AIDAEXAMPLEEXAMPLE123".to_owned(),
        ),
        (None, None, Some(arn)) => {
            let id = match arn.split_once(":assumed-role/") {
                Some((_, rest)) => {
                    format!("AROAEXAMPLEEXAMPLE123:{}", rest.rsplit_once('/').unwrap().1)
                }
                None => "AIDAEXAMPLEEXAMPLE123".to_owned(),
            };
            (arn.clone(), id)
        }
        _ => panic!("a caller has exactly one of role, user and arn"),
    };
    let id = caller.id.clone().unwrap_or(id);
    let account = arn.split(':').nth(4).unwrap().to_owned();
    let identity = CallerIdentity::new(
        &arn,
        &account,
        &id,
        "ASIAEXAMPLEEXAMPLE00",
        "sts.eu-west-1.amazonaws.com",
    )
    .unwrap();
    match &caller.facts {
        None => identity,
        Some(facts) => {
            let tags = |tags: &BTreeMap<String, String>| {
                tags.iter()
                    .map(|(key, value)| Tag {
                        key: key.as_str().into(),
                        value: value.as_str().into(),
                    })
                    .collect()
            };
            let canonical = identity.canonical_arn().to_owned();
            identity.with_facts(Arc::new(SessionFacts {
                principal_arn: facts.arn.clone().unwrap_or(canonical),
                source_identity: facts.source_identity.clone(),
                session_tags: tags(&facts.session_tags),
                principal_tags: tags(&facts.principal_tags),
                mfa: facts.mfa,
                issued_at: None,
            }))
        }
    }
}

fn facts(instance: &Instance) -> Ec2Facts {
    Ec2Facts {
        instance_id: instance.id.as_deref().and_then(Ec2InstanceId::parse),
        private_dns_name: instance.name.clone(),
        owner: instance.owner.as_deref().map(|a| a.parse().unwrap()),
        state: instance.state.as_deref().map(InstanceState::of),
        profile_roles: instance.roles.clone(),
        tags: instance
            .tags
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        issued_by_metadata: instance.from_metadata,
    }
}

fn check_caller(chain: &Chain, caller: &Caller, wrong: &mut Vec<String>) {
    let identity = identity(caller);
    let who = identity.arn();
    let instance = caller.instance.as_ref().map(facts);
    let inputs = RenderInputs {
        instance: instance.as_ref(),
        action_allowed: caller.action_allowed,
    };
    let mut lookup = None;
    let mut rule = None;
    let result = match chain.map(&identity) {
        MappingDecision::Mapped(mapped) => {
            lookup = mapped.required_lookup().map(|id| id.to_string());
            rule = Some(mapped.rule().to_string());
            mapped.render(&identity, inputs)
        }
        MappingDecision::AccountAllowed(allowed) => {
            rule = Some(allowed.rule().to_string());
            if caller.account.is_none() {
                wrong.push(format!("{who}: allowed by {}", allowed.rule()));
                return;
            }
            Ok(allowed.render(&identity))
        }
        MappingDecision::Denied(denied) => Err(denied.explain(&identity)),
    };
    if caller.lookup.is_some() && lookup != caller.lookup {
        wrong.push(format!("{who}: lookup {lookup:?}"));
    }
    match result {
        Ok(user) => {
            let username = caller.username.as_ref().or(caller.account.as_ref());
            if username != Some(&user.username) || caller.groups != user.groups {
                wrong.push(format!("{who}: got {} {:?}", user.username, user.groups));
            }
            if let Some(wanted) = &caller.rule
                && rule.as_deref().is_none_or(|rule| !rule.starts_with(wanted))
            {
                wrong.push(format!("{who}: by {rule:?}"));
            }
            if let Some(uid) = &caller.uid
                && *uid != user.uid
            {
                wrong.push(format!("{who}: uid {}", user.uid));
            }
            if !caller.extra.is_empty() {
                let extra: BTreeMap<String, String> = user
                    .extra
                    .iter()
                    .map(|e| (e.key.to_string(), e.values.join("|")))
                    .collect();
                if extra != caller.extra {
                    wrong.push(format!("{who}: extra {extra:?}"));
                }
            }
        }
        Err(denied) => {
            let code = denied.reason.code();
            assert!(DenyReason::CODES.contains(&code));
            if caller.denied.as_deref() != Some(code) {
                wrong.push(format!("{who}: denied {code}: {denied}"));
            }
            if let Some(text) = &caller.text
                && !denied.text.contains(text)
            {
                wrong.push(format!("{who}: text {:?}", denied.text));
            }
            let nearest: Vec<String> = denied
                .nearest
                .iter()
                .map(|miss| {
                    serde_json::to_value(miss.kind)
                        .unwrap()
                        .as_str()
                        .unwrap()
                        .to_owned()
                })
                .collect();
            if !caller.nearest.is_empty() && nearest != caller.nearest {
                wrong.push(format!("{who}: nearest {nearest:?}"));
            }
        }
    }
}
