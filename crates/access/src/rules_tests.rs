use super::*;
use crate::file::{AccessFile, FileOptions};

const FILE: &str = r#"accessRules:
- {name: all, match: {account: "111122223333", everyone: true}}
- {name: devs, match: {account: "111122223333", group: devs}}
- {name: team, match: {roleArnLike: "arn:aws:iam::111122223333:role/team-*"}}
- {name: team-a, match: {roleArnLike: "arn:aws:iam::111122223333:role/team-a*"}}
- {name: team-a-mail, match: {roleArnLike: "arn:aws:iam::111122223333:role/team-a*", sessionNameLike: "*@example.com"}}
- {name: pathed, match: {roleArnLike: "arn:aws:iam::111122223333:role/ops/oncall?"}}
- {name: tagged, match: {roleArnLike: "arn:aws:iam::111122223333:role/team-*", tags: {Stage: prod}}}
- {name: admin, match: {account: "111122223333", permissionSet: Admin}}
- {name: other-cluster, clusters: [c2], match: {roleArnLike: "arn:aws:iam::111122223333:role/team-a-long-name"}}
- {name: last-a, match: {roleArnLike: "arn:aws:iam::111122223333:role/same"}}
- {name: last-b, match: {roleArnLike: "arn:aws:iam::111122223333:role/same"}}
- {name: china, match: {account: "111122223333", partition: aws-cn, everyone: true}}
"#;

fn rules() -> AccessRules {
    let options = FileOptions {
        iam_is_known: true,
        ..FileOptions::default()
    };
    let file = AccessFile::parse("r.yaml", FILE, &options).unwrap();
    AccessRules::new(file.rules, Catalogue::builtin()).unwrap()
}

#[test]
fn the_most_specific_rule_of_the_account_is_found() {
    let rules = rules();
    let groups: [Box<str>; 1] = ["Devs".into()];
    let tags = [Tag {
        key: "stage".into(),
        value: "prod".into(),
    }];
    let hash = "0123456789abcdef";
    for (arn, known, expected) in [
        ("arn:aws:iam::111122223333:root", false, Some("all")),
        ("arn:aws:iam::111122223333:user/ci", false, Some("all")),
        ("arn:aws:iam::111122223333:user/ci", true, Some("devs")),
        (
            "arn:aws:sts::111122223333:assumed-role/Ops/ana",
            false,
            Some("all"),
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/team-b/ana",
            false,
            Some("team"),
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/team-b/ana",
            true,
            Some("tagged"),
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/TEAM-B/ana",
            false,
            Some("team"),
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/team-a/ana",
            false,
            Some("team-a"),
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/team-a/ana@example.com",
            false,
            Some("team-a-mail"),
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/team-a-long-name/ana",
            false,
            Some("team-a"),
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/oncall1/ana",
            false,
            Some("all"),
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/oncall1/ana",
            true,
            Some("pathed"),
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/same/ana",
            false,
            Some("last-b"),
        ),
        // More than a role and a session: nothing that AWS makes.
        (
            "arn:aws:sts::111122223333:assumed-role/x/team-a/ana",
            false,
            None,
        ),
        ("arn:aws:sts::111122223333:federated-user/ana", true, None),
        (
            "arn:aws:sts::444455556666:assumed-role/team-a/ana",
            true,
            None,
        ),
        (
            "arn:aws-us-gov:sts::111122223333:assumed-role/team-a/ana",
            true,
            None,
        ),
        (
            "arn:aws-cn:sts::111122223333:assumed-role/team-a/ana",
            true,
            Some("china"),
        ),
    ] {
        let caller = CallerArn::parse(arn).unwrap();
        let subject = RuleSubject {
            caller: &caller,
            role_path: known.then_some("/ops/"),
            principal_tags: known.then_some(&tags),
            iam_groups: known.then_some(&groups),
        };
        let found = rules.find("c1", &subject).map(|rule| &*rule.name);
        assert_eq!(found, expected, "{arn}");
    }
    for (role, expected) in [
        (format!("AWSReservedSSO_Admin_{hash}"), "admin"),
        (format!("AWSReservedSSO_admin_{hash}"), "admin"),
        (format!("AWSReservedSSO_Admin_ReadOnly_{hash}"), "all"),
        (format!("AWSReservedSSO_Adm_{hash}"), "all"),
        ("AWSReservedSSO_Admin_0123456789abcdeX".to_owned(), "all"),
        ("AWSReservedSSO_Admin_0123456789abcde".to_owned(), "all"),
        (format!("XAWSReservedSSO_Admin_{hash}"), "all"),
        ("team-a-long-name".to_owned(), "other-cluster"),
    ] {
        let arn = format!("arn:aws:sts::111122223333:assumed-role/{role}/ana");
        let caller = CallerArn::parse(&arn).unwrap();
        let subject = RuleSubject {
            caller: &caller,
            role_path: None,
            principal_tags: None,
            iam_groups: None,
        };
        let found = rules.find("c2", &subject).map(|rule| &*rule.name);
        assert_eq!(found, Some(expected), "{role}");
    }
}

#[test]
fn usernames_of_rules_tell_callers_apart_and_are_never_reserved() {
    let mut rule = rules().iter().next().unwrap().clone();
    let role = CallerArn::parse("arn:aws:sts::111122223333:assumed-role/system/ana@x").unwrap();
    let user = CallerArn::parse("arn:aws:iam::111122223333:user/a/ci").unwrap();
    let mut name = |template: Option<&str>, caller: &CallerArn| {
        rule.username = template.map(Into::into);
        rule.username_of(caller)
    };
    for (template, caller, expected) in [
        (
            None,
            &role,
            Ok("arn:aws:sts::111122223333:assumed-role/system/ana-x"),
        ),
        (None, &user, Ok("arn:aws:iam::111122223333:user/a/ci")),
        (Some("a:{{SessionNameRaw}}"), &role, Ok("a:ana@x")),
        (
            Some("r:{{RoleName}}:{{AccountID}}"),
            &role,
            Ok("r:system:111122223333"),
        ),
        (
            Some("{{RoleName}}:{{SessionName}}"),
            &role,
            Err(ExpandFault::Reserved("system:")),
        ),
        (
            Some("a:{{SessionName}}"),
            &user,
            Err(ExpandFault::NoSessionName),
        ),
        (Some("{{RoleName}}"), &user, Err(ExpandFault::Unknown)),
    ] {
        assert_eq!(name(template, caller), expected.map(str::to_owned));
    }
}
