//! Whole decisions as text: what a person sees is the table, and a change of it is what a reviewer looks at.
//!
//! `COUNTERSIGN_BLESS=1` writes the file anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fmt::Write as _;
use std::path::Path;

use countersign_access::{AccessFile, AccessRules, Catalogue, FileOptions};
use countersign_rbac::{Catalog, Index, Manifest, Object, TypeMeta};
use countersign_review::{
    AccessSnapshot, AskFault, Asked, Grant, MappingSource, Mode, Model, Parts, Policies, Principal,
    PrincipalFault, Subject, User, Words,
};

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The objects of the specification's example, without the defaults of Kubernetes.
fn objects() -> Vec<Object> {
    let text = data("../../../rbac/tests/data/rbac-golden.yaml");
    let mut objects = Vec::new();
    for document in text.split("\n---\n") {
        let meta: TypeMeta = serde_saphyr::from_str(document).unwrap();
        if meta.is_rbac() {
            let manifest: Manifest = serde_saphyr::from_str(document).unwrap();
            objects.push(Object::try_from(manifest).unwrap());
        }
    }
    objects
}

fn snapshot() -> AccessSnapshot {
    let snapshot: AccessSnapshot = serde_json::from_str(&data("shop.json")).unwrap();
    snapshot.checked().unwrap()
}

fn model(change: impl FnOnce(&mut AccessSnapshot)) -> Model {
    let mut snapshot = snapshot();
    change(&mut snapshot);
    Model::new(Parts {
        snapshot: Some(snapshot),
        index: Index::build(objects()).0,
        ..Parts::default()
    })
}

fn ask(model: &Model, line: &str) -> countersign_review::Review {
    let mut words = Words {
        default_namespace: "default",
        ..Words::default()
    };
    let mut session = None;
    let mut plain = Vec::new();
    let mut rest = line.split_whitespace();
    while let Some(word) = rest.next() {
        match word {
            "-n" => words.namespace = rest.next(),
            "-A" => words.all_namespaces = true,
            "--subresource" => words.subresource = rest.next(),
            "--name" => words.name = rest.next(),
            "--session" => session = rest.next(),
            word => plain.push(word),
        }
    }
    let [subject, verb, resource] = plain[..] else {
        panic!("{line}");
    };
    let subject = match subject.strip_prefix("role/") {
        Some(name) => Subject::parse(
            &format!("arn:aws:iam::111122223333:role/{name}"),
            session,
            false,
        ),
        None => Subject::parse(subject, session, false),
    };
    words.verb = verb;
    words.resource = resource;
    let asked = Asked::read(&words, model.catalog()).unwrap();
    model.review(&subject.unwrap(), &asked)
}

/// Questions by the mode of the cluster; `role/X` is short for its ARN.
const QUESTIONS: &[(Mode, &[&str])] = &[
    (
        Mode::ApiAndConfigMap,
        &[
            // aws-auth, and what the specification shows of it.
            "arn:aws:sts::111122223333:assumed-role/Dev/lea get pods/log -n shop",
            "role/Dev delete pods -n shop",
            "role/Dev get pods -n pay",
            "arn:aws:sts::111122223333:assumed-role/Admin/root get secrets -n kube-system",
            // Entries: groups, policies and their scopes.
            "role/Ops create jobs.batch -n pay",
            "role/Ops get secrets -n pay",
            "role/audit/Auditor get pods -n shop --session ana",
            "role/audit/Auditor list pods -n dev-a",
            "role/audit/Auditor list pods -A",
            "role/audit/Auditor get pods -n pay",
            "role/audit/Auditor get secrets/db -n shop",
            "role/Editor get pods -n shop",
            "role/Editor patch deployments.apps/web --subresource scale -n pay",
            "role/Editor list nodes",
            "arn:aws:iam::111122223333:user/root-of-all get /metrics",
            "role/Nodes get nodes",
            // Dead, unbound, absent, unknown.
            "role/Recreated get pods -n shop",
            "role/Fresh get pods -n shop",
            "role/Gone get pods -n shop",
            "role/Nobody get pods -n shop",
            "arn:aws:sts::111122223333:federated-user/feda get pods -n shop",
            // Kubernetes users, and what impersonation lacks.
            "user:erik list nodes",
            "user:zoe get pods -n shop",
            "user:dana get pods/cart-0 -n shop",
            "editor create pods -n shop",
            "group:platform get /debug",
            "group:platform get /debug/pprof",
            "sa:shop/db-job list secrets -n shop",
            "sa:shop/db-job get secrets/db -n shop",
            "fay get services -n shop",
            "dana get widgets.example.com -n shop",
            "dana frobnicate pods -n shop",
            "dana get nodes/n1 -n shop",
        ],
    ),
    (
        Mode::ConfigMap,
        &[
            "role/Founder delete nodes/n1",
            "role/Ops get pods -n shop",
            "role/audit/Auditor get pods -n shop",
        ],
    ),
    (
        Mode::Api,
        &[
            "role/Dev get pods -n shop",
            "role/Founder get pods -n shop",
            "role/Ops get /metrics",
        ],
    ),
];

#[test]
fn whole_decisions_read_as_they_should() {
    let mut text = String::new();
    for (mode, questions) in QUESTIONS {
        let model = model(|snapshot| snapshot.cluster.authentication_mode = *mode);
        for question in *questions {
            writeln!(
                text,
                "$ why {question}   # {mode}\n{}",
                ask(&model, question)
            )
            .unwrap();
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/why.txt");
    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        std::fs::write(path, text).unwrap();
        return;
    }
    let golden = data("why.txt");
    for (ours, theirs) in text.split("\n\n").zip(golden.split("\n\n")) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(text, golden, "another number of questions");
}

#[test]
fn joining_the_sources_changes_none_of_the_288_answers_of_rbac() {
    let golden: serde_json::Value =
        serde_json::from_str(&data("../../../rbac/tests/data/rbac-golden.json")).unwrap();
    let index = Index::build(objects()).0;
    let model = Model::new(Parts {
        index,
        ..Parts::default()
    });
    let cases = golden["canI"].as_array().unwrap();
    assert_eq!(cases.len(), 288);
    for case in cases {
        let text = |value: &serde_json::Value, name: &str| {
            value[name].as_str().unwrap_or_default().to_owned()
        };
        let request = &case["request"];
        let groups = case["groups"].as_array().into_iter().flatten();
        let groups = groups
            .map(|group| group.as_str().unwrap().to_owned())
            .collect();
        let user = User::new(text(case, "user"), groups, true);
        let asked = Asked {
            verb: text(request, "verb"),
            group: text(request, "apiGroup"),
            resource: text(request, "resource"),
            subresource: text(request, "subresource"),
            name: text(request, "name"),
            namespace: text(request, "namespace"),
            path: text(request, "path"),
            ..Asked::default()
        };
        let review = model.review(&Subject::User(user), &asked);
        let allowed = case["allowed"]
            .as_bool()
            .unwrap_or_else(|| panic!("{case}"));
        assert_eq!(review.allowed, allowed, "{case}");
        if case["rbacAllows"] == true {
            let reasons: Vec<String> = review.granted.iter().map(Grant::reason).collect();
            assert!(reasons.contains(&text(case, "rbacReason")), "{case}");
        }
    }
}

#[test]
fn a_no_that_something_unread_may_have_changed_is_incomplete() {
    let mut index = Index::build(objects()).0;
    index.mark_unread(countersign_rbac::Unread {
        namespace: None,
        reason: "roles could not be listed".into(),
    });
    let mut snapshot = snapshot();
    snapshot.aws_auth = None;
    let model = Model::new(Parts {
        snapshot: Some(snapshot),
        index,
        ..Parts::default()
    });
    for (question, incomplete) in [
        ("role/Dev get pods -n shop", true),
        ("dana get secrets -n shop", true),
        ("dana get pods -n shop", false),
        ("role/Ops get secrets -n shop", true),
    ] {
        let review = ask(&model, question);
        assert_eq!(review.incomplete, incomplete, "{question}");
        assert_eq!(review.allowed, !incomplete, "{question}");
    }
    // Without entries, no principal is known, and nobody says that it is refused for certain.
    let blind = Model::new(Parts::default());
    assert!(ask(&blind, "role/Dev get pods -n shop").incomplete);
}

#[test]
fn what_is_suggested_turns_the_no_into_a_yes() {
    let model = model(|_| ());
    let review = ask(&model, "role/audit/Auditor get pods -n pay");
    let command = review.would_help[0].command.as_deref().unwrap();
    assert_eq!(
        command,
        "aws eks associate-access-policy --cluster-name shop --principal-arn \
         arn:aws:iam::111122223333:role/audit/Auditor --policy-arn \
         arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy --access-scope \
         'type=namespace,namespaces=shop,dev-*,pay'"
    );
    let widened = self::model(|snapshot| {
        let entries = snapshot.entries.iter_mut();
        for policy in entries.flat_map(|entry| &mut entry.associated_access_policies) {
            policy.access_scope.namespaces.push("pay".to_owned());
        }
    });
    assert!(ask(&widened, "role/audit/Auditor get pods -n pay").allowed);
    // Every policy that is offered for an action allows it.
    let review = ask(&model, "role/Ops list secrets -n pay");
    let offered: Vec<&str> = review
        .would_help
        .iter()
        .map(|help| help.what.as_str())
        .collect();
    assert!(
        offered
            .iter()
            .any(|what| what.contains("AmazonEKSSecretReaderPolicy")),
        "{offered:?}"
    );
}

#[test]
fn rules_of_a_subject_include_those_of_access_policies() {
    let model = model(|_| ());
    let subject = |word: &str| Subject::parse(word, None, false).unwrap();
    let auditor = subject("arn:aws:iam::111122223333:role/audit/Auditor");
    let rules = model.rules(&auditor, "shop");
    assert!(
        rules
            .rows
            .iter()
            .any(|row| row.from == "access policy AmazonEKSViewPolicy (shop,dev-*)")
    );
    assert!(model.rules(&auditor, "pay").rows.is_empty());
    assert!(
        model.rules(&auditor, "").rows.is_empty(),
        "a namespace scope has nothing outside"
    );
    let admin = subject("arn:aws:iam::111122223333:user/root-of-all");
    let status = model.rules(&admin, "").status();
    assert_eq!(status.non_resource_rules.len(), 1);
    assert!(!status.incomplete);
    // A dead entry's groups count for nothing; aws-auth decides.
    let recreated = model.rules(&subject("arn:aws:iam::111122223333:role/Recreated"), "shop");
    assert_eq!(recreated.user.unwrap().name, "recreated-by-map");
    assert!(recreated.rows.is_empty());
    let nobody = model.rules(&subject("arn:aws:iam::111122223333:role/Nobody"), "shop");
    assert!(nobody.rows.is_empty() && nobody.user.is_none());
}

#[test]
fn questions_are_read_as_people_write_them() {
    let catalog = Catalog::builtin();
    let read = |words: Words<'_>| Asked::read(&words, catalog).map(|asked| asked.to_string());
    let of = |resource| Words {
        verb: "get",
        resource,
        default_namespace: "default",
        ..Words::default()
    };
    for (resource, expected) in [
        ("pods", "get pods in namespace default"),
        ("po", "get pods in namespace default"),
        ("Pod", "get pods in namespace default"),
        (
            "deploy/web",
            "get deployments.apps \"web\" in namespace default",
        ),
        (
            "deployments.apps/scale/web",
            "get deployments.apps/scale \"web\" in namespace default",
        ),
        ("pods/log", "get pods/log in namespace default"),
        (
            "pods/log/cart-0",
            "get pods/log \"cart-0\" in namespace default",
        ),
        ("pods/cart-0", "get pods \"cart-0\" in namespace default"),
        ("nodes", "get nodes at the cluster scope"),
        ("ns/shop", "get namespaces \"shop\" in namespace shop"),
        ("namespaces", "get namespaces at the cluster scope"),
        (
            "widgets.example.com/status/x",
            "get widgets.example.com/status \"x\" in namespace default",
        ),
        (
            "widgets.example.com/x",
            "get widgets.example.com \"x\" in namespace default",
        ),
        ("*", "get * in namespace default"),
        ("*.*", "get *.* in namespace default"),
        ("/metrics", "get /metrics"),
    ] {
        assert_eq!(read(of(resource)).as_deref(), Ok(expected), "{resource}");
    }
    let long = "x".repeat(2000);
    for (words, fault) in [
        (of(""), AskFault::NoResource),
        (
            Words {
                verb: "",
                ..of("pods")
            },
            AskFault::NoVerb,
        ),
        (
            of("pods/a/b/c"),
            AskFault::TooManyParts("pods/a/b/c".to_owned()),
        ),
        (of(&long), AskFault::TooLong),
        (
            Words {
                name: Some("x"),
                ..of("/metrics")
            },
            AskFault::PathWithParts,
        ),
    ] {
        assert_eq!(read(words), Err(fault));
    }
    let twice = Words {
        subresource: Some("exec"),
        ..of("pods/log/x")
    };
    assert!(matches!(read(twice), Err(AskFault::TwoSubresources { .. })));
    let twice = Words {
        name: Some("y"),
        ..of("pods/log/x")
    };
    assert!(matches!(read(twice), Err(AskFault::TwoNames { .. })));
}

#[test]
fn subjects_are_read_or_refused() {
    for (word, session) in [
        ("arn:aws:iam::1:role/x", None),
        ("arn:aws:s3:::bucket", None),
        ("arn:aws:iam::111122223333:group/x", None),
        ("arn:aws:iam::111122223333:role/x", Some("a b")),
        ("arn:aws:iam::111122223333:user/x", Some("session")),
        ("dana", Some("session")),
        ("sa:shop", None),
        ("sa:/x", None),
    ] {
        assert!(Subject::parse(word, session, false).is_err(), "{word}");
    }
    let fault = Principal::parse("arn:aws:iam::111122223333:user/x", Some("ana"));
    assert!(matches!(fault, Err(PrincipalFault::NoSessions(_))));
    let user = |word| match Subject::parse(word, None, false) {
        Ok(Subject::User(user)) => (user.name, user.groups.join(",")),
        other => panic!("{other:?}"),
    };
    let account = "system:serviceaccounts,system:serviceaccounts:shop,system:authenticated";
    for (word, name, groups) in [
        ("dana", "dana", "system:authenticated"),
        ("user:arn:aws:x", "arn:aws:x", "system:authenticated"),
        ("group:devs", "", "devs,system:authenticated"),
        ("sa:shop/build", "system:serviceaccount:shop:build", account),
        (
            "system:serviceaccount:shop:build",
            "system:serviceaccount:shop:build",
            account,
        ),
        (
            "system:anonymous",
            "system:anonymous",
            "system:unauthenticated",
        ),
    ] {
        assert_eq!(user(word), (name.to_owned(), groups.to_owned()), "{word}");
    }
}

#[test]
fn snapshots_are_read_again_as_they_were_written() {
    let snapshot = snapshot();
    let json = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(
        serde_json::from_str::<AccessSnapshot>(&json).unwrap(),
        snapshot
    );
    let other = json.replace("AccessSnapshot", "Deployment");
    let other: AccessSnapshot = serde_json::from_str(&other).unwrap();
    assert!(other.checked().is_err());
    // A later version may say more.
    let later = json.replacen('{', "{\"later\":[1],", 1);
    assert!(serde_json::from_str::<AccessSnapshot>(&later).is_ok());
    assert!(
        Policies::default()
            .grants_nothing("arn:aws:eks::aws:cluster-access-policy/No")
            .is_some()
    );
}

#[test]
fn no_name_of_a_cluster_reaches_the_terminal_as_a_control_character() {
    let model = model(|snapshot| {
        let entry = &mut snapshot.entries[0];
        entry.username = "a\u{1b}[2Jb\n  reason     forged".to_owned();
        entry.principal_arn = "arn:aws:iam::111122223333:role/Evil".to_owned();
        entry.binding = countersign_review::EntryBinding::Unbound;
    });
    let text = ask(&model, "role/Evil get pods -n shop --session ana").to_string();
    assert!(
        !text.contains('\u{1b}') && !text.contains("\n  reason     forged"),
        "{text}"
    );
    assert!(text.contains("forged"), "{text}");
}

const RULES: &str = r#"
accessRules:
- name: devs
  match: {roleArnLike: "arn:aws:iam::111122223333:role/Dev*"}
  username: "dev:{{SessionName}}"
  groups: [platform]
  policies:
  - {policy: AmazonEKSViewPolicy, namespaces: [pay]}
- name: mail
  match: {roleArnLike: "arn:aws:iam::111122223333:role/Mail", sessionNameLike: "*@example.com"}
  policies:
  - {policy: AmazonEKSViewPolicy, scope: cluster}
- name: all
  match: {account: "111122223333", everyone: true}
  clusters: [elsewhere]
- name: again
  match: {roleArnLike: "arn:aws:iam::111122223333:role/Recreate*"}
  policies:
  - {policy: AmazonEKSClusterAdminPolicy, scope: cluster}
"#;

#[test]
fn access_rules_are_followed_behind_the_entries() {
    let file = AccessFile::parse("rules.yaml", RULES, &FileOptions::default()).unwrap();
    let rules = AccessRules::new(file.rules, Catalogue::builtin()).unwrap();
    let of_mode = |mode| {
        let mut snapshot = snapshot();
        snapshot.cluster.authentication_mode = mode;
        Model::new(Parts {
            snapshot: Some(snapshot),
            index: Index::build(objects()).0,
            rules: rules.clone(),
            ..Parts::default()
        })
    };
    let devs = "access rule devs (rules.yaml:3)";
    for (mode, question, allowed, source, rule, user) in [
        (
            Mode::Api,
            "role/Dev get pods -n pay --session lea",
            true,
            MappingSource::AccessRule,
            devs,
            "dev:lea",
        ),
        (
            Mode::ApiAndConfigMap,
            "role/Developer get pods -n pay",
            true,
            MappingSource::AccessRule,
            devs,
            "dev:{{SessionName}}",
        ),
        (
            Mode::Api,
            "role/Dev get pods -n kube-system",
            false,
            MappingSource::AccessRule,
            devs,
            "dev:{{SessionName}}",
        ),
        (
            Mode::ConfigMap,
            "role/Developer get pods -n pay",
            false,
            MappingSource::None,
            "",
            "",
        ),
        (
            Mode::Api,
            "role/Mail get pods -n pay --session a@example.com",
            true,
            MappingSource::AccessRule,
            "access rule mail (rules.yaml:9)",
            "arn:aws:sts::111122223333:assumed-role/Mail/a-example.com",
        ),
        (
            Mode::Api,
            "role/Mail get pods -n pay --session a@example.org",
            false,
            MappingSource::None,
            "",
            "",
        ),
        // Entries come first, and a dead one hides the rule.
        (
            Mode::Api,
            "role/Recreated get pods -n pay",
            false,
            MappingSource::None,
            "",
            "",
        ),
        (
            Mode::Api,
            "arn:aws:iam::111122223333:user/zoe get pods -n pay",
            false,
            MappingSource::None,
            "",
            "",
        ),
    ] {
        let review = ask(&of_mode(mode), question);
        let mapping = review.mapping.as_ref().unwrap();
        assert_eq!(
            (review.allowed, mapping.source, &*mapping.rule),
            (allowed, source, rule),
            "{mode} {question}\n{review}"
        );
        let name = review.identity.as_ref().map(|user| &*user.username);
        assert_eq!(name.unwrap_or_default(), user, "{question}");
        assert!(!review.incomplete, "{question}\n{review}");
        if allowed {
            let reason = review.reason();
            let (_, origin) = rule.rsplit_once(" (").unwrap();
            assert!(reason.ends_with(&format!("({origin}")), "{reason}");
        }
    }
    let hidden = ask(&of_mode(Mode::Api), "role/Recreated get pods -n pay");
    assert!(
        hidden
            .to_string()
            .contains("access rule again (rules.yaml:16) is for it, and is not asked"),
        "{hidden}"
    );
    // What depends on a session that nobody named is not known.
    let unknown = ask(&of_mode(Mode::Api), "role/Mail get pods -n pay");
    assert!(
        !unknown.allowed && unknown.incomplete && unknown.to_string().contains("--session-name"),
        "{unknown}"
    );
}
