//! What comes from outside: reviews, manifests, hostile bytes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use countersign_rbac::review::{
    AccessReview, AccessReviewKind, AccessReviewStatus, ParsedSelectors, ReviewError,
    ReviewVersion, RulesReview, RulesReviewStatus,
};
use countersign_rbac::selector::Operator;
use countersign_rbac::{
    Action, Index, MAX_OBJECT_BYTES, Object, Request, RoleKind, Subject, User, fuzz, read_json,
};
use serde_json::{Value, json};
use support::{data, yaml_objects};

fn recorded() -> Vec<(String, Vec<u8>)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kube-1.36");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let name = |path: &std::path::Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files
        .iter()
        .map(|path| (name(path), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn every_review_of_a_real_api_server_is_read_and_written_back_unchanged() {
    let recorded = recorded();
    assert!(recorded.len() > 60);
    for (name, bytes) in recorded {
        let review =
            AccessReview::from_json(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(review.validate(), [], "{name}");
        assert_eq!(
            review.version == ReviewVersion::V1beta1,
            name.contains("v1beta1"),
            "{name}"
        );
        assert!(
            !review.spec.groups.is_empty(),
            "{name}: groups, in whichever field"
        );
        let selectors = ParsedSelectors::of(&review);
        assert_eq!(selectors.evaluation_error(), "", "{name}");
        assert!(review.action(&selectors).is_some(), "{name}");
        let before: Value = serde_json::from_slice(&bytes).unwrap();
        let after: Value = serde_json::from_slice(&review.to_json()).unwrap();
        assert_eq!(before, after, "{name}");
    }
}

#[test]
fn a_request_asks_with_the_review_that_it_came_from() {
    for (name, bytes) in recorded() {
        let review = AccessReview::from_json(&bytes).unwrap();
        let selectors = ParsedSelectors::of(&review);
        let request = Request {
            user: review.user(),
            action: review.action(&selectors).unwrap(),
        };
        let asked = AccessReview::asking(review.version, review.kind, &request);
        assert_eq!(asked.validate(), [], "{name}");
        let mut expected = review.spec.clone();
        expected.uid.clear();
        expected.extra.clear();
        assert_eq!(asked.spec, expected, "{name}");
        let own = AccessReview::asking(
            review.version,
            AccessReviewKind::SelfSubjectAccessReview,
            &request,
        );
        assert!(
            own.spec.user.is_empty() && own.spec.groups.is_empty() && own.validate().is_empty()
        );
    }
}

#[test]
fn a_review_is_answered_in_its_own_version_and_shape() {
    let text = String::from_utf8(data("rbac-golden.yaml")).unwrap();
    let (index, _) = Index::build(yaml_objects(&text));
    for (version, groups) in [
        ("authorization.k8s.io/v1", "groups"),
        ("authorization.k8s.io/v1beta1", "group"),
    ] {
        let body = json!({"apiVersion": version, "kind": "SubjectAccessReview", "metadata": {}, "spec": {
            "resourceAttributes": {"namespace": "shop", "verb": "list", "version": "v1", "resource": "pods"},
            "user": "lea", groups: ["devs"]}, "status": {"allowed": false}});
        let review = AccessReview::from_json(body.to_string().as_bytes()).unwrap();
        let selectors = ParsedSelectors::of(&review);
        let action = review.action(&selectors).unwrap();
        let decision = index.authorize(&Request {
            user: review.user(),
            action,
        });
        let status = AccessReviewStatus::of(&decision, &selectors);
        let answer: Value =
            serde_json::from_slice(&review.clone().answered(status).to_json()).unwrap();
        assert_eq!(answer["apiVersion"], version);
        assert_eq!(answer["spec"], body["spec"]);
        let reason = "RBAC: allowed by RoleBinding \"readers/shop\" of ClusterRole \"pod-reader\" to Group \"devs\"";
        assert_eq!(answer["status"], json!({"allowed": true, "reason": reason}));
    }
}

#[test]
fn groups_of_the_other_version_are_not_read() {
    for (version, groups) in [
        ("authorization.k8s.io/v1", "group"),
        ("authorization.k8s.io/v1beta1", "groups"),
    ] {
        let body = json!({"apiVersion": version, "kind": "SubjectAccessReview",
            "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}, "user": "lea", groups: ["system:masters"]}});
        let review = AccessReview::from_json(body.to_string().as_bytes()).unwrap();
        assert!(review.spec.groups.is_empty(), "{version}");
    }
}

#[test]
fn a_no_says_so_and_nothing_else() {
    let status = AccessReviewStatus {
        allowed: false,
        ..AccessReviewStatus::default()
    };
    assert_eq!(
        serde_json::to_value(&status).unwrap(),
        json!({"allowed": false})
    );
}

#[test]
fn reviews_that_the_api_server_would_refuse_are_told() {
    let pods = json!({"verb": "list", "resource": "pods", "namespace": "shop"});
    let path = json!({"path": "/", "verb": "get"});
    let sar = "SubjectAccessReview";
    let cases = [
        (
            sar,
            json!({}),
            json!({"user": "a", "resourceAttributes": pods}),
            vec![],
        ),
        (
            sar,
            json!({"creationTimestamp": null, "managedFields": [{}], "labels": {}}),
            json!({"groups": ["a"], "nonResourceAttributes": path}),
            vec![],
        ),
        (
            sar,
            json!({"name": "x"}),
            json!({"user": "a", "resourceAttributes": pods}),
            vec!["metadata: must be empty"],
        ),
        (
            sar,
            json!({"namespace": "x"}),
            json!({"user": "a", "resourceAttributes": pods}),
            vec!["metadata: must be empty"],
        ),
        (
            sar,
            json!({}),
            json!({"resourceAttributes": pods, "nonResourceAttributes": path}),
            vec![
                "spec.nonResourceAttributes: cannot be specified in combination with resourceAttributes",
                "spec.user: at least one of user or group must be specified",
            ],
        ),
        (
            "SelfSubjectAccessReview",
            json!({}),
            json!({}),
            vec![
                "spec.resourceAttributes: exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ],
        ),
        (
            "SelfSubjectAccessReview",
            json!({}),
            json!({"resourceAttributes": pods}),
            vec![],
        ),
        (
            "LocalSubjectAccessReview",
            json!({"namespace": "pay", "name": "x"}),
            json!({"user": "a", "resourceAttributes": pods}),
            vec![
                "metadata: must be empty except for namespace",
                "spec.resourceAttributes.namespace: must match metadata.namespace",
            ],
        ),
        (
            "LocalSubjectAccessReview",
            json!({"namespace": "pay"}),
            json!({"user": "a", "nonResourceAttributes": path}),
            vec!["spec.nonResourceAttributes: disallowed on this kind of request"],
        ),
        (
            sar,
            json!({}),
            json!({"user": "a", "resourceAttributes": {"fieldSelector": {}, "labelSelector": {"rawSelector": "a", "requirements": [{"key": "a", "operator": "Exists"}]}}}),
            vec![
                "spec.resourceAttributes.fieldSelector.requirements: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required",
                "spec.resourceAttributes.labelSelector.rawSelector: may not specified at the same time as requirements",
            ],
        ),
    ];
    for (kind, metadata, spec, expected) in cases {
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec});
        let review = AccessReview::from_json(body.to_string().as_bytes()).unwrap();
        assert_eq!(review.kind.as_str(), kind);
        let found: Vec<String> = review
            .validate()
            .iter()
            .map(|e| format!("{}: {}", e.field, e.detail))
            .collect();
        assert_eq!(found, expected, "{body}");
    }
}

#[test]
fn selectors_that_cannot_be_read_ask_the_broader_question_and_are_told() {
    let ask = |fields: Value, labels: Value| {
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "a",
            "resourceAttributes": {"verb": "list", "resource": "pods", "fieldSelector": fields, "labelSelector": labels}}});
        ParsedSelectors::of(&AccessReview::from_json(body.to_string().as_bytes()).unwrap())
    };
    let good = ask(
        json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]}),
        json!({"rawSelector": "app in (a,b),!old"}),
    );
    assert_eq!(
        (
            good.fields.len(),
            good.labels.len(),
            good.evaluation_error().as_str()
        ),
        (1, 2, "")
    );
    assert_eq!(good.fields[0].operator, Operator::In);
    let mixed = ask(
        json!({"requirements": [
            {"key": "a", "operator": "In", "values": ["1", "2"]},
            {"key": "a", "operator": "Exists"},
            {"key": "a", "operator": "NotIn", "values": ["1"]}]}),
        json!({"requirements": [{"key": "a", "operator": "Near", "values": ["1"]}, {"key": "a", "operator": "In"}]}),
    );
    assert_eq!((mixed.fields.len(), mixed.labels.len()), (1, 0));
    assert_eq!(
        mixed.evaluation_error(),
        "spec.resourceAttributes.fieldSelector partially ignored due to parse error; spec.resourceAttributes.labelSelector ignored due to parse error"
    );
    let raw = ask(json!({"rawSelector": "a"}), json!({"rawSelector": "a in"}));
    assert!(raw.fields.is_empty() && raw.labels.is_empty() && !raw.evaluation_error().is_empty());
}

#[test]
fn a_version_left_out_means_all() {
    let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "a", "resourceAttributes": {"verb": "list", "resource": "pods"}}});
    let review = AccessReview::from_json(body.to_string().as_bytes()).unwrap();
    let selectors = ParsedSelectors::default();
    assert!(
        matches!(review.action(&selectors), Some(Action::Resource(action)) if action.version == "*")
    );
}

#[test]
fn bodies_that_are_no_review_are_refused() {
    let refuse = |body: &str| AccessReview::from_json(body.as_bytes()).unwrap_err();
    assert!(matches!(refuse(""), ReviewError::Malformed(_)));
    assert!(matches!(refuse("[]"), ReviewError::Malformed(_)));
    assert!(matches!(
        refuse(r#"{"kind":"SubjectAccessReview"}"#),
        ReviewError::UnknownVersion(_)
    ));
    assert!(matches!(
        refuse(r#"{"apiVersion":"authorization.k8s.io/v2","kind":"SubjectAccessReview"}"#),
        ReviewError::UnknownVersion(_)
    ));
    assert!(matches!(
        refuse(r#"{"apiVersion":"/v1","kind":"SubjectAccessReview"}"#),
        ReviewError::UnknownVersion(_)
    ));
    assert!(matches!(
        refuse(r#"{"apiVersion":"authorization.k8s.io/v1","kind":"TokenReview"}"#),
        ReviewError::UnexpectedKind(_)
    ));
    let twice = r#"{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"a","user":"root"}}"#;
    assert!(
        matches!(refuse(twice), ReviewError::Malformed(_)),
        "a repeated field is ambiguous"
    );
    let typed = r#"{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"groups":"system:masters"}}"#;
    assert!(matches!(refuse(typed), ReviewError::Malformed(_)));
    let large = " ".repeat((1 << 20) + 1);
    assert!(matches!(refuse(&large), ReviewError::TooLarge(_)));
}

#[test]
fn a_rules_review_lists_rules_unmerged_and_says_when_it_is_incomplete() {
    let text = String::from_utf8(data("rbac-golden.yaml")).unwrap();
    let (index, _) = Index::build(yaml_objects(&text));
    let body = br#"{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":"shop"}}"#;
    let review = RulesReview::from_json(body).unwrap();
    let groups = ["platform"];
    let user = User::new("dana", &groups);
    let rules = index.rules_for(&user, &review.namespace);
    let answered = review.clone().answered(RulesReviewStatus::of(&rules));
    let answer: Value = serde_json::from_slice(&answered.to_json()).unwrap();
    assert_eq!(
        answer,
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "metadata": {}, "spec": {}, "status": {
            "resourceRules": [
                {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["nodes"]},
                {"verbs": ["*"], "apiGroups": ["apps", "batch"], "resources": ["*"]},
                {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods", "pods/log"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/metrics", "/debug/*"]}],
            "incomplete": false}})
    );
    assert_eq!(
        RulesReview::from_json(&answered.to_json()).unwrap().status,
        answered.status
    );

    let rules = index.rules_for(&User::new("zoe", &[]), "shop");
    let mut status = RulesReviewStatus::of(&rules);
    assert!(status.incomplete);
    assert_eq!(
        status.evaluation_error,
        "role.rbac.authorization.k8s.io \"missing\" not found"
    );
    status.add_error("webhook authorizer does not support user rule resolution");
    assert_eq!(
        status.evaluation_error,
        "role.rbac.authorization.k8s.io \"missing\" not found, webhook authorizer does not support user rule resolution"
    );
    let no_namespace =
        br#"{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{}}"#;
    assert_eq!(
        RulesReview::from_json(no_namespace),
        Err(ReviewError::NoNamespace)
    );
    assert_eq!(
        ReviewError::NoNamespace.to_string(),
        "no namespace on request"
    );
}

#[test]
fn lists_of_all_sorts_are_read_and_other_kinds_ignored() {
    let role = json!({"metadata": {"name": "r", "namespace": "shop"}, "rules": null});
    let typed = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleList", "items": [role, role]});
    let mut written = role.clone();
    written["apiVersion"] = json!("rbac.authorization.k8s.io/v1beta1");
    written["kind"] = json!("Role");
    let audit_policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "None", "resources": [{"group": ""}]}]});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [typed, written, audit_policy, {"kind": "Role", "apiVersion": "example.com/v1"}]});
    let read = read_json(list.to_string().as_bytes());
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    assert_eq!((read.objects.len(), read.ignored), (3, 2));
    assert!(read.objects.iter().all(|object| object.kind() == "Role"));
    let single = read_json(written.to_string().as_bytes());
    assert_eq!(single.objects.len(), 1);
}

#[test]
fn one_bad_item_is_told_and_does_not_hide_the_others() {
    let good = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}});
    let group = "rbac.authorization.k8s.io";
    let bad = [
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {}}),
        json!({"apiVersion": format!("{group}/v9"), "kind": "ClusterRole", "metadata": {"name": "r"}}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "Roles", "metadata": {"name": "r"}}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": 5}}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "r"}, "rules": [{"verbs": "get"}]}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "r", "annotations": {"x": "y".repeat(MAX_OBJECT_BYTES)}}}),
        json!(7),
        json!([format!("{group}/v1"), "Role"]),
    ];
    for item in bad {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [item, good]});
        let read = read_json(list.to_string().as_bytes());
        assert_eq!((read.objects.len(), read.problems.len()), (1, 1));
        assert!(read.problems[0].to_string().starts_with("items[0]: "));
    }
    let mut nested = json!({"apiVersion": "v1", "kind": "List", "items": []});
    for _ in 0..6 {
        nested = json!({"apiVersion": "v1", "kind": "List", "items": [nested]});
    }
    assert_eq!(read_json(nested.to_string().as_bytes()).problems.len(), 1);
}

#[test]
fn old_versions_mean_what_they_meant() {
    let alpha = json!({"apiVersion": "rbac.authorization.k8s.io/v1alpha1", "kind": "ClusterRoleBinding", "metadata": {"name": "b", "namespace": "ignored"},
        "roleRef": {"kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "User", "apiVersion": "rbac.authorization.k8s.io/v1alpha1", "name": "*"}, {"kind": "User", "name": "dana"}]});
    let read = read_json(alpha.to_string().as_bytes());
    let Object::Binding(binding) = &read.objects[0] else {
        panic!("a binding");
    };
    assert_eq!(
        binding.subjects,
        [
            Subject::group("system:authenticated"),
            Subject::user("dana")
        ]
    );
    assert_eq!(binding.role_ref.api_group, "rbac.authorization.k8s.io");
    assert_eq!(binding.metadata.namespace, "");
    let beta = alpha.to_string().replace("v1alpha1", "v1beta1");
    let read = read_json(beta.as_bytes());
    let Object::Binding(binding) = &read.objects[0] else {
        panic!("a binding");
    };
    assert_eq!(
        binding.subjects[0],
        Subject::user("*"),
        "later the star is a name"
    );
}

#[test]
fn yaml_names_stay_text() {
    let text = "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: 012, namespace: no}\nroleRef: {kind: Role, name: 1e3}\nsubjects: [{kind: User, name: 0x10}, {kind: ServiceAccount, name: true}]\n";
    let objects = yaml_objects(text);
    let Object::Binding(binding) = &objects[0] else {
        panic!("a binding");
    };
    assert_eq!(
        (
            binding.metadata.name.as_str(),
            binding.metadata.namespace.as_str()
        ),
        ("012", "no")
    );
    assert_eq!(binding.role_ref.name, "1e3");
    assert_eq!(
        (
            binding.subjects[0].name.as_str(),
            binding.subjects[1].name.as_str()
        ),
        ("0x10", "true")
    );
}

#[test]
fn the_copy_that_apply_leaves_is_not_kept() {
    let object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r",
        "resourceVersion": "7", "creationTimestamp": null, "managedFields": [{"manager": "kubectl"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "x"}}});
    let read = read_json(object.to_string().as_bytes());
    let metadata = read.objects[0].metadata();
    assert_eq!(metadata.annotations.len(), 1);
    assert_eq!(metadata.resource_version, "7");
    let Object::Role(role) = &read.objects[0] else {
        panic!("a role");
    };
    assert_eq!(role.kind, RoleKind::ClusterRole);
}

// === hostile bytes ===

/// Runs an entry point over a corpus and over mutations of it that are the same every time.
fn hammer(target: fn(&[u8]), corpus: &[Vec<u8>]) {
    countersign_mutation::run(
        target,
        corpus,
        &countersign_mutation::characters("{}[]\",:*/\\0"),
        2000,
    );
}

#[test]
fn no_object_makes_the_reader_or_the_index_panic() {
    let text = String::from_utf8(data("rbac-golden.yaml")).unwrap();
    let mut corpus: Vec<Vec<u8>> = yaml_objects(&text)
        .iter()
        .map(|object| serde_json::to_vec(&countersign_rbac::Manifest::from(object)).unwrap())
        .collect();
    let items: Vec<Value> = corpus
        .iter()
        .map(|bytes| serde_json::from_slice(bytes).unwrap())
        .collect();
    corpus.push(
        serde_json::to_vec(&json!({"apiVersion": "v1", "kind": "List", "items": items})).unwrap(),
    );
    hammer(fuzz::objects, &corpus);
}

#[test]
fn no_review_makes_the_answer_panic() {
    let mut corpus: Vec<Vec<u8>> = recorded().into_iter().map(|(_, bytes)| bytes).collect();
    corpus.push(br#"{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":"shop"}}"#.to_vec());
    hammer(fuzz::review, &corpus);
}

#[test]
fn no_request_line_or_selector_makes_the_parser_panic() {
    let cases: Vec<Value> = serde_json::from_slice(&data("http-requests.json")).unwrap();
    let mut corpus: Vec<Vec<u8>> = cases
        .iter()
        .map(|case| case["request"].as_str().unwrap().into())
        .collect();
    corpus.push(b"a in (b,c),d notin (e),!f,g>1".to_vec());
    corpus.push(br"a=b\,c,d!=e".to_vec());
    hammer(fuzz::http, &corpus);
}

#[test]
fn the_kinds_of_reviews_have_their_names() {
    let kind = AccessReviewKind::default();
    assert_eq!(kind.as_str(), "SubjectAccessReview");
    assert_eq!(ReviewVersion::default().as_str(), "authorization.k8s.io/v1");
}
