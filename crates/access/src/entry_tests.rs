use super::*;
use crate::username::default_username;

const ACCOUNT: &str = "111122223333";

fn request<'a>(
    principal_arn: &'a str,
    entry_type: Option<&'a str>,
    groups: Option<&'a [&'a str]>,
    username: Option<&'a str>,
) -> EntryRequest<'a> {
    EntryRequest {
        principal_arn,
        entry_type,
        groups,
        username,
        cluster_account: ACCOUNT.parse().unwrap(),
        partition: Partition::Aws,
    }
}

fn check(request: EntryRequest<'_>) -> Result<CheckedEntry, String> {
    check_entry(&request, &Limits::default()).map_err(|fault| fault.to_string())
}

const ROLE: &str = "arn:aws:iam::111122223333:role/team/Dev";
const OTHER: &str = "arn:aws:iam::444455556666:role/Dev";
const USER: &str = "arn:aws:iam::111122223333:user/ci";
const ROOT: &str = "arn:aws:iam::111122223333:root";
const LINKED: &str =
    "arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS";
const NODES: &str = "[EC2_LINUX, EC2_WINDOWS, FARGATE_LINUX, HYBRID_LINUX, EC2]";

#[test]
fn a_standard_entry_may_be_of_any_role_user_or_root() {
    for (arn, username) in [
        (
            ROLE,
            "arn:aws:sts::111122223333:assumed-role/Dev/{{SessionName}}",
        ),
        (
            OTHER,
            "arn:aws:sts::444455556666:assumed-role/Dev/{{SessionName}}",
        ),
        (USER, USER),
        (ROOT, ROOT),
    ] {
        let entry = check(request(arn, None, Some(&["b", "a", "b"]), None)).unwrap();
        assert_eq!(entry.entry_type, EntryType::Standard);
        assert_eq!(entry.groups, ["b".into(), "a".into()] as [Box<str>; 2]);
        assert_eq!(entry.username, None);
        assert_eq!(
            default_username(&entry.principal, entry.entry_type),
            username
        );
    }
    let given = check(request(
        ROLE,
        Some("STANDARD"),
        None,
        Some("ops:{{SessionNameRaw}}"),
    ));
    assert_eq!(
        given.unwrap().username.as_deref(),
        Some("ops:{{SessionNameRaw}}")
    );
    // With the colon only, and as spelled.
    for name in ["system", "sts:x", "System:x", "my-system:x", "awsx:", "ek:"] {
        assert!(check(request(ROLE, None, Some(&[name]), Some(name))).is_ok());
    }
}

/// Requests and the beginning of EKS's text, in the order of the checks: each also breaks every later check that it can.
#[test]
fn values_are_checked_in_eks_order_and_words() {
    let masters: Option<&[&str]> = Some(&["system:masters"]);
    let bad_name = Some("system:node:x");
    let format = "The principalArn parameter format is not valid";
    let node_account = format!(
        "AccessEntry principalArn must be from the same account as the cluster when using types {NODES}"
    );
    let node_role = format!("AccessEntry principalArn must be IAM role when using types {NODES}");
    for (given, text) in [
        (
            request(
                "arn:aws:sts::111122223333:assumed-role/Dev/s",
                Some("X"),
                masters,
                bad_name,
            ),
            format,
        ),
        (request("*", Some("X"), masters, bad_name), format),
        (
            request(
                "arn:aws-cn:iam::111122223333:role/Dev",
                Some("X"),
                masters,
                bad_name,
            ),
            format,
        ),
        (
            request(LINKED, Some("X"), masters, bad_name),
            "The caller is not allowed to modify access entries with a principalArn value of a Service Linked Role",
        ),
        (
            request(ROLE, Some("standard"), masters, bad_name),
            "The specified type is invalid: `standard` is not one of [STANDARD, EC2_LINUX, EC2_WINDOWS, FARGATE_LINUX, HYBRID_LINUX, EC2, HYPERPOD_LINUX]",
        ),
        (
            request(USER, Some("EC2_LINUX"), masters, bad_name),
            &node_role,
        ),
        (
            request(ROOT, Some("HYPERPOD_LINUX"), masters, bad_name),
            &node_role,
        ),
        (
            request(OTHER, Some("EC2"), masters, bad_name),
            &node_account,
        ),
        (
            request(ROLE, Some("EC2_LINUX"), masters, bad_name),
            "The specified kubernetesGroups is invalid: setting kubernetesGroups is not allowed when the type is \"EC2_LINUX\"",
        ),
        (
            request(ROLE, Some("FARGATE_LINUX"), Some(&[]), bad_name),
            "The specified username is invalid: setting username is not allowed when the type is \"FARGATE_LINUX\"",
        ),
        (
            request(ROLE, None, masters, bad_name),
            "The username must not begin with system:",
        ),
        (
            request(ROLE, None, masters, Some("eks:{{SessionName")),
            "The username must not begin with eks:",
        ),
        (
            request(ROLE, None, masters, Some("{{SessionName}}")),
            "The kubernetes group name system:masters is invalid, it cannot start with system:",
        ),
        (
            request(ROLE, None, Some(&["a", "iam:b", "aws:c"]), None),
            "The kubernetes group name iam:b is invalid, it cannot start with iam:",
        ),
        (
            request(ROLE, None, Some(&["countersign:entry:7d2c"]), None),
            "The kubernetes group name countersign:entry:7d2c is invalid, it cannot start with countersign:entry:",
        ),
        (
            request(ROLE, None, Some(&[""]), None),
            "The specified kubernetesGroups is invalid: a group name has 1 to 256 bytes",
        ),
        (
            request(ROLE, None, Some(&["a\n"]), None),
            "The specified kubernetesGroups is invalid: a group name",
        ),
        (
            request(ROLE, None, None, Some("{{SessionName}}")),
            "The specified username is invalid: a colon must stand somewhere before {{SessionName}}",
        ),
        (
            request(ROLE, None, None, Some("a:{{AccountID}}")),
            "The specified username is invalid: only the placeholders {{SessionName}} and {{SessionNameRaw}}",
        ),
        (
            request(USER, None, None, Some("a:{{SessionName}}")),
            "The specified username is invalid: a placeholder may only be used when",
        ),
        (
            request(ROLE, None, None, Some("")),
            "The specified username is invalid: a username has 1 to 256 bytes",
        ),
        (
            request(ROLE, None, None, Some("a\u{0}")),
            "The specified username is invalid: a username has",
        ),
    ] {
        let fault = check(given).unwrap_err();
        assert!(fault.starts_with(text), "{given:?}: {fault}");
    }
}

#[test]
fn nodes_say_nothing_but_their_role() {
    for entry_type in EntryType::ALL {
        let entry = check(request(ROLE, Some(entry_type.as_str()), Some(&[]), None)).unwrap();
        assert_eq!((entry.entry_type, entry.groups.len()), (entry_type, 0));
        let nodes = shown_groups(entry_type).contains(&"system:nodes");
        assert_eq!(nodes, entry_type != EntryType::Standard);
    }
}

#[test]
fn limits_are_settings() {
    let limits = Limits {
        groups: 2,
        name_bytes: 4,
        ..Limits::default()
    };
    for (groups, username, expected) in [
        (&["a", "b", "a"][..], "abcd", None),
        (
            &["a", "b", "c"],
            "abcd",
            Some(EntryFault::TooManyGroups(3, 2)),
        ),
        (&["abcde"], "abcd", Some(EntryFault::GroupText(4))),
        (&[], "abcde", Some(EntryFault::UsernameText(4))),
    ] {
        let result = check_entry(&request(ROLE, None, Some(groups), Some(username)), &limits);
        assert_eq!(result.err(), expected);
    }
}

#[test]
fn updates_check_the_prefix_before_the_type() {
    let limits = Limits::default();
    let update = |entry_type, groups, username| {
        check_update(entry_type, PrincipalKind::Role, groups, username, &limits)
            .map_err(|fault| fault.to_string())
    };
    let node = "system:node:{{EC2PrivateDNSName}}";
    let standard_only =
        "This operation can only be performed on Access Entries with a type of \"STANDARD\".";
    for (entry_type, groups, username, text) in [
        (
            EntryType::Ec2Linux,
            None,
            Some(node),
            "The username must not begin with system:",
        ),
        (EntryType::Ec2Linux, None, Some("x"), standard_only),
        (EntryType::Ec2, Some(&["system:x"][..]), None, standard_only),
        (EntryType::HyperpodLinux, None, None, standard_only),
        (
            EntryType::Standard,
            Some(&["system:x"]),
            Some("{{x}}"),
            "The kubernetes group name system:x is invalid",
        ),
        (
            EntryType::Standard,
            None,
            Some("a:{{x}}"),
            "The specified username is invalid",
        ),
    ] {
        let fault = update(entry_type, groups, username).unwrap_err();
        assert!(fault.starts_with(text), "{fault}");
    }
    let kept = update(EntryType::Standard, None, None).unwrap();
    assert_eq!((kept.groups, kept.username), (None, None));
    let emptied = update(EntryType::Standard, Some(&[]), Some("a:{{SessionName}}")).unwrap();
    assert_eq!(emptied.groups, Some(Vec::new()));
    assert_eq!(emptied.username.as_deref(), Some("a:{{SessionName}}"));
}
