use super::*;
use crate::catalogue::{AggregateLabel, Catalogue, DerivedRules};
use crate::rules::AccessRules;

fn options() -> FileOptions {
    FileOptions::default()
}

const EXAMPLE: &str = r#"# a comment
account: "111122223333"
policies:
- name: WidgetReader
  description: Widgets
  version: 2
  rules:
  - {apiGroups: [example.com], resources: [widgets], verbs: [get, list, watch]}
  - apiGroups: [""]
    resources: [pods, pods/log]
    verbs: [get]
    resourceNames: [web-0]
  - {nonResourceURLs: [/metrics, /probe/*], verbs: [get]}
  aggregate: [view]
- name: Everything.Aggregated
  aggregate: true
accessRules:
- name: platform
  clusters: [c1]
  match: {account: "444455556666", permissionSet: Platform}
  username: "platform:{{SessionName}}"
  groups: [platform]
  policies:
  - {policy: AmazonEKSAdminPolicy, namespaces: ["platform-*"]}
- name: teams
  match:
    roleArnLike: arn:aws:iam::111122223333:role/team-*
    sessionNameLike: "*@example.com"
  username: "{{RoleName}}:{{SessionNameRaw}}"
  policies:
  - {policy: WidgetReader, scope: cluster}
  - {policy: "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy", scope: namespace, namespaces: [a, b]}
"#;

#[test]
fn a_file_is_read_with_its_lines() {
    let file = AccessFile::parse("p.yaml", EXAMPLE, &options()).unwrap();
    let [reader, all] = file.policies.as_slice() else {
        panic!("two policies");
    };
    assert_eq!((&*reader.name, reader.version), ("WidgetReader", 2));
    assert_eq!(
        reader.owner,
        Owner::Account("111122223333".parse().unwrap())
    );
    assert_eq!(reader.origin.as_deref(), Some("p.yaml:4"));
    let lines: Vec<Option<u32>> = reader.rules.iter().map(|rule| rule.line).collect();
    assert_eq!(lines, [Some(8), Some(9), Some(13)]);
    assert_eq!(reader.rule_origin(1, DerivedRules::Off), "p.yaml:9");
    assert_eq!(*reader.aggregate, [AggregateLabel::View]);
    assert_eq!(*all.aggregate, AggregateLabel::ALL);
    let catalogue = Catalogue::new(file.policies, DerivedRules::Off).unwrap();
    let rules = AccessRules::new(file.rules, &catalogue).unwrap();
    let arns: Vec<Vec<&str>> = rules
        .iter()
        .map(|rule| rule.associations().map(|(arn, _)| arn).collect())
        .collect();
    assert_eq!(
        arns,
        [
            vec!["arn:aws:eks::aws:cluster-access-policy/AmazonEKSAdminPolicy"],
            vec![
                "arn:aws:eks::111122223333:cluster-access-policy/WidgetReader",
                "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
            ],
        ]
    );
    for empty in ["", "\n# nothing\n", "policies: []\n"] {
        let file = AccessFile::parse("p.yaml", empty, &options()).unwrap();
        assert!(file.policies.is_empty() && file.rules.is_empty());
    }
}

/// One mistake each, with its line and field.
#[test]
fn every_mistake_has_its_line_and_field() {
    let rule = |text: &str| format!("policies:\n- name: P\n  rules:\n  - {text}\n");
    let policy = |text: &str| format!("policies:\n- {text}\n");
    let access = |text: &str| {
        format!(
            "accessRules:\n- name: r\n  match: {{account: \"111122223333\", everyone: true}}\n  {text}\n"
        )
    };
    let matcher = |text: &str| format!("accessRules:\n- name: r\n  match: {{{text}}}\n");
    for (text, line, field, message) in [
        ("policies: [".to_owned(), None, "file", ""),
        ("policy: []\n".to_owned(), Some(1), "file", "unknown field"),
        ("- a\n".to_owned(), None, "file", ""),
        (
            "account: \"*\"\n".to_owned(),
            Some(1),
            "account",
            "`*` is not exactly 12 digits",
        ),
        (
            policy("{name: \"a b\", aggregate: true}"),
            Some(2),
            "policies[0].name",
            "`a b` is not",
        ),
        (
            policy("{name: AmazonEKSViewPolicy, aggregate: true}"),
            Some(2),
            "policies[0].name",
            "a policy of AWS",
        ),
        (
            policy("{name: P, aggregate: true}\n- {name: P, aggregate: true}"),
            Some(3),
            "policies[1].name",
            "twice",
        ),
        (
            policy("name: P"),
            Some(2),
            "policies[0].rules",
            "needs `rules` or `aggregate`",
        ),
        (
            policy("{name: P, aggregate: false}"),
            Some(2),
            "policies[0].rules",
            "needs",
        ),
        (
            policy("{name: P, aggregate: [cluster-admin]}"),
            Some(2),
            "policies[0].aggregate",
            "`cluster-admin` is not one of",
        ),
        (
            policy("{name: P, aggregate: true, version: 0}"),
            Some(2),
            "policies[0].version",
            "begin at 1",
        ),
        (
            policy("{name: P, aggregate: true, effect: Deny}"),
            Some(2),
            "file",
            "unknown field",
        ),
        (
            rule("{verbs: [], apiGroups: [a], resources: [b]}"),
            Some(4),
            "policies[0].rules[0].verbs",
            "at least one value",
        ),
        (
            rule("{verbs: [get], resources: [pods]}"),
            Some(4),
            "policies[0].rules[0].apiGroups",
            "at least one api group",
        ),
        (
            rule("{verbs: [get], apiGroups: [\"\"]}"),
            Some(4),
            "policies[0].rules[0].resources",
            "at least one resource",
        ),
        (
            rule("{verbs: [get], apiGroups: [\"\"], resources: [pods], nonResourceURLs: [/a]}"),
            Some(4),
            "policies[0].rules[0].nonResourceURLs",
            "both",
        ),
        (
            rule("{verbs: [get], apiGroups: [\"\"], resources: [pods/*]}"),
            Some(4),
            "policies[0].rules[0].resources",
            "`pods/*` is no wildcard",
        ),
        (
            rule("{verbs: [get], apiGroups: [\"\"], resources: [Pods]}"),
            Some(4),
            "policies[0].rules[0].resources",
            "lower-case plurals",
        ),
        (
            rule("{verbs: [get], apiGroups: [core], resources: [pods]}"),
            Some(4),
            "policies[0].rules[0].apiGroups",
            "`core` matches nothing",
        ),
        (
            rule("{verbs: [get], apiGroups: [apps/v1], resources: [x]}"),
            Some(4),
            "policies[0].rules[0].apiGroups",
            "no version",
        ),
        (
            rule("{verbs: [get], nonResourceURLs: [metrics]}"),
            Some(4),
            "policies[0].rules[0].nonResourceURLs",
            "begin with `/`",
        ),
        (
            rule("{verbs: [get], group: [a]}"),
            Some(4),
            "file",
            "unknown field",
        ),
        (
            "accessRules:\n- name: R\n  match: {account: \"111122223333\", everyone: true}\n"
                .to_owned(),
            Some(2),
            "accessRules[0].name",
            "lower-case",
        ),
        (
            access("clusters: [\"c*\"]"),
            Some(4),
            "accessRules[0].clusters",
            "without wildcards",
        ),
        (
            access("clusters: []"),
            Some(4),
            "accessRules[0].clusters",
            "leave it out",
        ),
        (
            access("groups: [\"system:masters\"]"),
            Some(4),
            "accessRules[0].groups",
            "cannot start with system:",
        ),
        (
            access("groups: [\"a:{{SessionName}}\"]"),
            Some(4),
            "accessRules[0].groups",
            "no placeholders",
        ),
        (
            access("username: \"system:admin\""),
            Some(4),
            "accessRules[0].username",
            "must not begin with system:",
        ),
        (
            access("username: shared"),
            Some(4),
            "accessRules[0].username",
            "would be one user",
        ),
        (
            access("username: \"{{SessionName}}\""),
            Some(4),
            "accessRules[0].username",
            "a colon must stand",
        ),
        (
            access("username: \"a:{{Else}}\""),
            Some(4),
            "accessRules[0].username",
            "{{RoleName}} and {{AccountID}}",
        ),
        (
            access("policies: [{policy: AmazonEKSViewPolicy}]"),
            Some(4),
            "accessRules[0].policies[0].scope",
            "say `scope: cluster`",
        ),
        (
            access("policies: [{policy: X, scope: cluster, namespaces: [a]}]"),
            Some(4),
            "accessRules[0].policies[0].scope",
            "should not include namespaces",
        ),
        (
            access("policies: [{policy: X, namespaces: []}]"),
            Some(4),
            "accessRules[0].policies[0].scope",
            "At least 1 namespace",
        ),
        (
            access("policies: [{policy: X, namespaces: [A]}]"),
            Some(4),
            "accessRules[0].policies[0].scope",
            "`A` is not",
        ),
        (
            matcher("everyone: true"),
            Some(3),
            "accessRules[0].match.account",
            "name the account",
        ),
        (
            matcher("account: \"*\", everyone: true"),
            Some(3),
            "accessRules[0].match.account",
            "without wildcards",
        ),
        (
            matcher("account: \"111122223333\""),
            Some(3),
            "accessRules[0].match",
            "exactly one of",
        ),
        (
            matcher("account: \"111122223333\", everyone: false"),
            Some(3),
            "accessRules[0].match",
            "exactly one of",
        ),
        (
            matcher("account: \"111122223333\", everyone: true, permissionSet: A"),
            Some(3),
            "accessRules[0].match",
            "exactly one of",
        ),
        (
            matcher("account: \"111122223333\", permissionSet: \"A*\""),
            Some(3),
            "accessRules[0].match.permissionSet",
            "no wildcards",
        ),
        (
            matcher("account: \"111122223333\", everyone: true, sessionNameLike: \"abc*\""),
            Some(3),
            "accessRules[0].match.sessionNameLike",
            "needs `permissionSet`",
        ),
        (
            matcher("account: \"111122223333\", permissionSet: A, sessionNameLike: \"*\""),
            Some(3),
            "accessRules[0].match.sessionNameLike",
            "too wide",
        ),
        (
            matcher("account: \"111122223333\", permissionSet: A, partition: mars"),
            Some(3),
            "accessRules[0].match.partition",
            "mars",
        ),
        (
            matcher("account: \"111122223333\", group: devs"),
            Some(3),
            "accessRules[0].match.group",
            "only known where",
        ),
        (
            matcher("account: \"111122223333\", permissionSet: A, tags: {a: b}"),
            Some(3),
            "accessRules[0].match.tags",
            "only known where",
        ),
        (
            matcher("roleArnLike: \"arn:aws:iam::*:role/team-x\""),
            Some(3),
            "accessRules[0].match.roleArnLike",
            "are literal",
        ),
        (
            matcher("roleArnLike: \"arn:*:iam::111122223333:role/team-x\""),
            Some(3),
            "accessRules[0].match.roleArnLike",
            "are literal",
        ),
        (
            matcher("roleArnLike: \"arn:aws:iam::111122223333:role/te*\""),
            Some(3),
            "accessRules[0].match.roleArnLike",
            "too wide",
        ),
        (
            matcher("roleArnLike: \"arn:aws:iam::111122223333:role/*-team\""),
            Some(3),
            "accessRules[0].match.roleArnLike",
            "too wide",
        ),
        (
            matcher("roleArnLike: \"arn:aws:iam::111122223333:role/teams/team-*\""),
            Some(3),
            "accessRules[0].match.roleArnLike",
            "leave the path out",
        ),
        (
            matcher("roleArnLike: \"arn:aws:iam::111122223333:user/team-x\""),
            Some(3),
            "accessRules[0].match.roleArnLike",
            "is not of the form",
        ),
        (
            matcher("roleArnLike: \"arn:aws:sts::111122223333:assumed-role/team-x/s\""),
            Some(3),
            "accessRules[0].match.roleArnLike",
            "is not of the form",
        ),
        (
            matcher(
                "account: \"444455556666\", roleArnLike: \"arn:aws:iam::111122223333:role/team-x\"",
            ),
            Some(3),
            "accessRules[0].match.roleArnLike",
            "another account",
        ),
    ] {
        let errors = AccessFile::parse("p.yaml", &text, &options()).unwrap_err();
        let [error] = errors.as_slice() else {
            panic!("{text}: {errors:?}");
        };
        if line.is_some() {
            assert_eq!(error.line, line, "{text}: {error}");
        }
        assert_eq!(error.field, field, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
        assert!(error.to_string().starts_with("p.yaml"));
        assert!(!error.message.contains('\n'));
    }
}

#[test]
fn all_mistakes_are_told_at_once_up_to_a_limit() {
    let text = "policies:\n- {name: \"a b\", rules: [{verbs: [get], apiGroups: [core], resources: [Pods]}]}\n- {name: Q}\n";
    let errors = AccessFile::parse("p.yaml", text, &options()).unwrap_err();
    assert_eq!(errors.len(), 4);
    let many = format!("policies:\n{}", "- {name: \"-\"}\n".repeat(500));
    let errors = AccessFile::parse("p.yaml", &many, &options()).unwrap_err();
    assert_eq!(errors.len(), 100);
    let large = " ".repeat(MAX_FILE + 1);
    let errors = AccessFile::parse("p.yaml", &large, &options()).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "p.yaml: file: 1048577 bytes, and at most 1048576 are read"
    );
}

#[test]
fn what_only_an_iam_of_our_own_knows_is_taken_there() {
    let options = FileOptions {
        iam_is_known: true,
        ..options()
    };
    let text = r#"accessRules:
- {name: a, match: {account: "111122223333", group: devs}}
- {name: b, match: {account: "111122223333", everyone: true, tags: {team: x}}}
- {name: c, match: {roleArnLike: "arn:aws:iam::111122223333:role/teams/team-*"}}
- {name: d, match: {account: "111122223333", everyone: true}, username: shared, allowSharedUsername: true}
"#;
    let file = AccessFile::parse("p.yaml", text, &options).unwrap();
    let shown: Vec<String> = file.rules.iter().map(|r| r.matcher.to_string()).collect();
    assert_eq!(
        shown,
        [
            "members of group devs of account 111122223333",
            "everyone of account 111122223333, tagged team=x",
            "roles teams/team-* of account 111122223333",
            "everyone of account 111122223333",
        ]
    );
}

#[test]
fn policies_of_rules_are_looked_up() {
    let rule = |policies: &str| {
        let text = format!(
            "accessRules:\n- name: r\n  match: {{account: \"111122223333\", everyone: true}}\n  policies: [{policies}]\n"
        );
        let file = AccessFile::parse("p.yaml", &text, &options()).unwrap();
        AccessRules::new(file.rules, Catalogue::builtin()).map_err(|error| error.to_string())
    };
    for (policies, message) in [
        (
            "{policy: Nothing, scope: cluster}",
            "p.yaml:2: accessRules[].policies: there is no policy `Nothing`",
        ),
        (
            "{policy: AmazonEKSHybridPolicy, scope: cluster}",
            "service-linked roles",
        ),
        (
            "{policy: \"arn:aws-cn:eks::aws:cluster-access-policy/AmazonEKSViewPolicy\", scope: cluster}",
            "there is no policy",
        ),
        (
            "{policy: AmazonEKSViewPolicy, namespaces: [a]}, {policy: \"arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy\", namespaces: [b]}",
            "is there twice",
        ),
    ] {
        let error = rule(policies).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    assert!(rule("{policy: AmazonEKSViewPolicy, scope: cluster}").is_ok());
    let text = "accessRules:\n- {name: r, match: {account: \"111122223333\", everyone: true}}\n";
    let file = || AccessFile::parse("p.yaml", text, &options()).unwrap().rules;
    let twice = file().into_iter().chain(file());
    assert!(AccessRules::new(twice, Catalogue::builtin()).is_err());
}
