//! Backend modes, headers of dynamic files, statuses of objects, the order of attributes, the age of facts.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

use countersign_arn::CallerIdentity;
use countersign_mapping::*;

#[test]
fn backend_modes_are_an_ordered_list_without_duplicates() {
    use BackendKind::{Crd, DynamicFile, EksConfigMap, MountedFile};
    let modes = |names: &[&str]| BackendModes::parse(names.iter().copied());
    assert_eq!(BackendModes::default().modes(), [MountedFile]);
    assert_eq!(
        modes(&["DynamicFile", "EKSConfigMap,CRD", "MountedFile"])
            .unwrap()
            .modes(),
        [DynamicFile, EksConfigMap, Crd, MountedFile]
    );
    let aliases = modes(&["ConfigMap", "File"]).unwrap();
    assert_eq!(aliases.modes(), [EksConfigMap, MountedFile]);
    assert_eq!(aliases.deprecated(), ["ConfigMap", "File"]);
    assert!(modes(&["CRD"]).unwrap().deprecated().is_empty());
    for (names, error) in [
        (&[] as &[&str], InvalidBackendModes::Empty),
        (&[""], InvalidBackendModes::Empty),
        (&["crd"], InvalidBackendModes::Unknown("crd".into())),
        (&["CRD,"], InvalidBackendModes::Unknown(String::new())),
        (&["CRD, File"], InvalidBackendModes::Unknown(" File".into())),
        (
            &["AccessEntries"],
            InvalidBackendModes::Unknown("AccessEntries".into()),
        ),
        (&["CRD", "CRD"], InvalidBackendModes::Duplicate(Crd)),
        (
            &["File", "MountedFile"],
            InvalidBackendModes::Duplicate(MountedFile),
        ),
    ] {
        assert_eq!(modes(names), Err(error), "{names:?}");
    }
}

#[test]
fn a_dynamic_file_and_its_mode_come_together() {
    let with = BackendModes::parse(["DynamicFile"]).unwrap();
    let without = BackendModes::default();
    assert_eq!(with.check_dynamic_file(true), Ok(()));
    assert_eq!(without.check_dynamic_file(false), Ok(()));
    assert_eq!(
        with.check_dynamic_file(false),
        Err(InvalidBackendModes::NoDynamicFile)
    );
    assert_eq!(
        without.check_dynamic_file(true),
        Err(InvalidBackendModes::UnusedDynamicFile)
    );
}

#[test]
fn a_backend_mode_file_separates_modes_by_single_spaces() {
    let file = |modes: &str| {
        BackendModes::parse_file(&format!(
            "{{\"backendMode\":\"{modes}\",\"Version\":\"3\"}}"
        ))
    };
    assert_eq!(
        file("DynamicFile EKSConfigMap").unwrap().modes(),
        [BackendKind::DynamicFile, BackendKind::EksConfigMap]
    );
    for bad in [
        "",
        " ",
        "DynamicFile  CRD",
        "DynamicFile,CRD",
        "CRD ",
        "CRD CRD",
        "Nope",
    ] {
        assert!(file(bad).is_err(), "{bad:?}");
    }
    for bad in [
        "",
        "[]",
        "{}",
        "{\"backendMode\":5}",
        "{\"backendMode\":null}",
        "{",
    ] {
        assert!(matches!(
            BackendModes::parse_file(bad),
            Err(InvalidBackendModes::File(_))
        ));
    }
}

#[test]
fn the_header_of_a_dynamic_file_is_read() {
    let options = MappingOptions::default();
    let file = dynamic_file::parse(
        r#"{"Version":"7","LastUpdatedDateTime":"1767322000","ClusterId":"demo"}"#,
        &options,
    )
    .unwrap();
    assert_eq!(
        file.header,
        dynamic_file::Header {
            version: Some("7".into()),
            last_updated: Some(1_767_322_000),
            cluster_id: Some("demo".into()),
        }
    );
    let file = dynamic_file::parse(r#"{"LastUpdatedDateTime":"yesterday"}"#, &options).unwrap();
    assert_eq!(file.header.last_updated, None);
    assert_eq!(file.findings[0].code, Code::WrongType);
}

#[test]
fn objects_have_a_status_each() {
    let object = |name: &str, created_at, arn: &str| crd::Object {
        name: name.into(),
        created_at,
        spec: crd::Spec {
            arn: Some(arn.into()),
            username: "x:{{SessionNameRaw}}".into(),
            ..crd::Spec::default()
        },
    };
    let read = crd::read(
        &[
            object("younger", 2, "arn:aws:iam::444455556666:role/ops"),
            object("older", 1, "arn:aws:sts::444455556666:assumed-role/Ops/ana"),
            object("bad", 3, "nobody"),
        ],
        &MappingOptions::default(),
    );
    let statuses = serde_json::to_value(&read.statuses).unwrap();
    assert_eq!(
        statuses,
        serde_json::json!([
            {"name": "older", "canonicalARN": "arn:aws:iam::444455556666:role/ops", "ready": true},
            {"name": "younger", "canonicalARN": "arn:aws:iam::444455556666:role/ops", "ready": false,
             "error": "the older object `older` maps the same principal", "conflictsWith": "older"},
            {"name": "bad", "ready": false,
             "error": "`nobody` is not the ARN of a role or user; the entry is refused"},
        ])
    );
    let conflict = read
        .findings
        .iter()
        .find(|finding| finding.code == Code::Conflict)
        .unwrap();
    assert_eq!(conflict.object.as_deref(), Some("younger"));
}

fn caller() -> CallerIdentity {
    CallerIdentity::new(
        "arn:aws:sts::444455556666:assumed-role/Node/i-0123abcd",
        "444455556666",
        "AROAEXAMPLE:i-0123abcd",
        "ASIAEXAMPLE",
        "sts.amazonaws.com",
    )
    .unwrap()
}

fn chain(text: &str, options: ChainOptions) -> Chain {
    let mapping = MappingOptions::default();
    let loaded = mounted_file::parse(text, &mapping).unwrap();
    let table = MappingTable::new(BackendKind::MountedFile, loaded.entries, &mapping);
    Chain::new(vec![table.into()], options)
}

#[test]
fn attributes_keep_the_order_of_the_reference() {
    let chain = chain(
        "server: {mapRoles: [{rolearn: 'arn:aws:iam::444455556666:role/Node', username: a}]}",
        ChainOptions::default(),
    );
    let MappingDecision::Mapped(mapped) = chain.map(&caller()) else {
        panic!("not mapped");
    };
    let user = mapped.render(&caller(), None).unwrap();
    let keys: Vec<_> = user.extra.iter().map(|extra| &*extra.key).collect();
    assert_eq!(
        keys,
        [
            "arn",
            "canonicalArn",
            "sessionName",
            "accessKeyId",
            "principalId",
            "sigs.k8s.io/aws-iam-authenticator/principalId"
        ]
    );
    let user = user.with_extra("countersign.io/token-id", "0123");
    assert_eq!(user.extra("countersign.io/token-id"), Some("0123"));
    assert_eq!(user.extra("nothing"), None);
}

#[test]
fn a_scrubbed_identity_takes_no_further_attributes() {
    let chain = chain(
        "server: {mapRoles: [{rolearn: 'arn:aws:iam::444455556666:role/Node', username: a}]}",
        ChainOptions {
            scrubbed_accounts: vec!["444455556666".parse().unwrap()],
            ..ChainOptions::default()
        },
    );
    let MappingDecision::Mapped(mapped) = chain.map(&caller()) else {
        panic!("not mapped");
    };
    let user = mapped
        .render(&caller(), None)
        .unwrap()
        .with_extra("countersign.io/token-id", "0123");
    assert!(user.scrubbed && user.extra.is_empty());
    assert_eq!(user.uid, "aws-iam-authenticator:administrative:a");
}

#[test]
fn facts_of_an_instance_do_not_serve_another_caller() {
    let chain = chain(
        "server: {mapRoles: [{rolearn: 'arn:aws:iam::444455556666:role/Node', username: 'system:node:{{EC2PrivateDNSName}}', groups: ['system:nodes', 'system:bootstrappers']}]}",
        ChainOptions::default(),
    );
    let MappingDecision::Mapped(mapped) = chain.map(&caller()) else {
        panic!("not mapped");
    };
    let facts = Ec2Facts {
        private_dns_name: Some("n1".into()),
        ..Ec2Facts::default()
    };
    assert!(mapped.render(&caller(), Some(&facts)).is_ok());
    let other = CallerIdentity::new(
        "arn:aws:sts::444455556666:assumed-role/Node/i-99999999",
        "444455556666",
        "AROAEXAMPLE:i-99999999",
        "ASIAEXAMPLE",
        "sts.amazonaws.com",
    )
    .unwrap();
    let denied = mapped.render(&other, Some(&facts)).unwrap_err();
    assert_eq!(denied.reason, DenyReason::NotAnInstance);
}

#[test]
fn a_username_has_at_most_1024_bytes() {
    for (len, fits) in [(1024, true), (1025, false)] {
        let name = "a".repeat(len);
        let chain = chain(
            &format!(
                "server: {{mapRoles: [{{rolearn: 'arn:aws:iam::444455556666:role/Node', username: {name}}}]}}"
            ),
            ChainOptions::default(),
        );
        let MappingDecision::Mapped(mapped) = chain.map(&caller()) else {
            panic!("not mapped");
        };
        assert_eq!(mapped.render(&caller(), None).is_ok(), fits, "{len}");
    }
}

#[test]
fn a_template_beyond_all_bounds_refuses_its_entry() {
    let name = "a".repeat(2049);
    let refused = mounted_file::parse(
        &format!("server: {{mapRoles: [{{rolearn: 'arn:aws:iam::444455556666:role/Node', username: {name}}}]}}"),
        &MappingOptions::default(),
    )
    .unwrap_err();
    assert!(refused.summary.contains("2048"), "{refused}");
}

#[test]
fn a_principal_that_is_nobody_created_no_cluster() {
    let options = MappingOptions::default();
    for arn in [
        "nobody",
        "arn:aws:sts::444455556666:assumed-role/Ops/ana",
        "arn:aws:sts::444455556666:federated-user/kim",
    ] {
        assert!(MappingTable::cluster_creator(arn, None, &options).is_none());
    }
    assert!(
        MappingTable::cluster_creator("arn:aws:iam::444455556666:root", None, &options).is_some()
    );
}

#[test]
fn a_recreated_creator_is_not_the_creator() {
    let options = MappingOptions::default();
    let table = MappingTable::cluster_creator(
        "arn:aws:iam::444455556666:role/t/Node",
        Some("AROAOLD"),
        &options,
    )
    .unwrap();
    let chain = Chain::new(vec![table.into()], ChainOptions::default());
    let MappingDecision::Denied(denied) = chain.map(&caller()) else {
        panic!("mapped");
    };
    assert_eq!(denied.reason(), &DenyReason::PrincipalRecreated);
}

#[derive(Debug)]
struct Kept(LookedUp);

impl EntryLookup for Kept {
    fn kind(&self) -> BackendKind {
        BackendKind::AccessEntries
    }

    fn lookup(&self, _: &CallerIdentity) -> LookedUp {
        self.0.clone()
    }

    fn nearest(&self, _: &CallerIdentity) -> Vec<NearestMiss> {
        let miss = |n| NearestMiss {
            kind: MissKind::UserId,
            rule: rule(n),
            principal: "arn:aws:iam::111122223333:role/Dev".into(),
        };
        (0..100).map(miss).collect()
    }
}

fn rule(index: u32) -> RuleReference {
    RuleReference {
        backend: BackendKind::AccessEntries,
        section: Section::Objects,
        index,
        position: None,
        object: Some("arn:aws:iam::111122223333:role/Dev".into()),
    }
}

#[test]
fn entries_that_are_looked_up_stand_in_a_chain_as_tables_do() {
    let options = MappingOptions::default();
    let text = "server:\n  mapRoles:\n  - {rolearn: 'arn:aws:iam::111122223333:role/Dev', username: old, groups: [old]}\n";
    let entries = mounted_file::parse(text, &options).unwrap().entries;
    let table = Backend::from(MappingTable::new(
        BackendKind::EksConfigMap,
        entries,
        &options,
    ));
    let identity = CallerIdentity::new(
        "arn:aws:sts::111122223333:assumed-role/Dev/{{AccountID}}",
        "111122223333",
        "AROAEXAMPLE:{{AccountID}}",
        "ASIAEXAMPLE",
        "sts.amazonaws.com",
    );
    assert!(identity.is_err(), "braces are no part of a session name");
    let identity = CallerIdentity::new(
        "arn:aws:sts::111122223333:assumed-role/Dev/alice@x",
        "111122223333",
        "AROAEXAMPLE:alice@x",
        "ASIAEXAMPLE",
        "sts.amazonaws.com",
    )
    .unwrap();
    let entry = Entry {
        rule: rule(0),
        matcher: Matcher::Arn(ArnMatcher {
            written: "arn:aws:iam::111122223333:role/Dev".into(),
            caller: None,
            key: None,
            role_path: None,
        }),
        username: Template::new("dev:{{SessionName}}"),
        groups: Box::new([Template::literal("team:{{SessionName}}")]),
        conditions: Conditions::default(),
    };
    let mismatch = |mismatch| LookedUp::Mismatch(mismatch, rule(0));
    let told = "AccessEntries arn:aws:iam::111122223333:role/Dev";
    for (looked_up, alone, before_a_table) in [
        (
            LookedUp::Entry(entry.into()),
            "dev:alice-x [team:{{SessionName}}]",
            "dev:alice-x [team:{{SessionName}}]",
        ),
        (LookedUp::NotMapped, "not_mapped", "old [old]"),
        (
            mismatch(Mismatch::UserId),
            "principal_recreated",
            "old [old]",
        ),
        (
            mismatch(Mismatch::Unbound),
            "principal_not_bound",
            "old [old]",
        ),
    ] {
        let kept: std::sync::Arc<dyn EntryLookup> = std::sync::Arc::new(Kept(looked_up.clone()));
        let chain = Chain::new(
            vec![Backend::Entries(kept.clone())],
            ChainOptions::default(),
        );
        for (chain, wanted) in [
            (chain.clone(), alone),
            (
                chain.with_backends(vec![Backend::Entries(kept), table.clone()]),
                before_a_table,
            ),
        ] {
            let said = match chain.map(&identity) {
                MappingDecision::Mapped(mapped) => {
                    let user = mapped.render(&identity, None).unwrap();
                    format!("{} [{}]", user.username, user.groups.join(","))
                }
                MappingDecision::AccountAllowed(_) => "account".into(),
                MappingDecision::Denied(denied) => {
                    let denied = denied.explain(&identity);
                    assert_eq!(denied.nearest.len(), 5, "bounded");
                    if !matches!(looked_up, LookedUp::NotMapped) {
                        assert!(denied.text.contains(told), "{}", denied.text);
                        assert!(denied.text.contains("countersign access rebind"));
                    }
                    denied.reason.code().into()
                }
            };
            assert_eq!(said, wanted, "{looked_up:?}");
        }
    }
}
