//! The whole decision over annotations, as tables (imds spec, sections 4, 5.3 and 5.8).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use countersign_arn::Partition;
use countersign_imds::annotated::{Annotations, NotGranted, Rules};
use countersign_imds::compat::{Compat, Denied, Format, Predecessor};

const BASE: &str = "arn:aws:iam::111122223333:role/";
const FAR: &str = "arn:aws:iam::444455556666:role/far";

fn rules(predecessor: Predecessor, accounts: &[&str], default: Option<&str>) -> Rules {
    Rules {
        compat: Compat {
            predecessor,
            base_arn: Some(BASE.into()),
            format: Format::Regexp,
            default_role: default.map(Into::into),
        },
        accounts: accounts
            .iter()
            .map(|account| account.parse().unwrap())
            .collect(),
    }
}

fn grant(
    rules: &Rules,
    annotations: Annotations<'_>,
) -> Result<countersign_imds::annotated::Granted, NotGranted> {
    let account = "111122223333".parse().unwrap();
    rules.grant((Partition::Aws, account), annotations)
}

#[test]
fn a_role_needs_the_pods_annotation_and_the_namespaces_list() {
    use Predecessor::{Kiam, Kube2iam};
    let denied = |denied| Err(NotGranted::Denied(denied));
    let both = format!("{BASE}a|{BASE}b");
    let far_list = format!(r#"["{FAR}"]"#);
    // Style, further accounts, role, list; the name that is shown, or why there is none.
    let cases = [
        // Rows 19 to 23 of section 5.8.
        (
            Kube2iam,
            vec![],
            Some("amber"),
            Some(r#"["amber-.*"]"#),
            denied(Denied::NotAllowed),
        ),
        (
            Kube2iam,
            vec![],
            Some("amber"),
            Some(r#"["amb"]"#),
            denied(Denied::NotAllowed),
        ),
        (
            Kiam,
            vec![],
            Some("ab"),
            Some(&*both),
            denied(Denied::NotAllowed),
        ),
        (
            Kube2iam,
            vec![],
            Some("amber"),
            None,
            denied(Denied::NoList),
        ),
        (
            Kube2iam,
            vec!["444455556666"],
            Some(FAR),
            Some(&*far_list),
            Ok(FAR),
        ),
        // The operator has not listed the other account.
        (
            Kube2iam,
            vec!["777788889999"],
            Some(FAR),
            Some(&*far_list),
            Err(NotGranted::OtherAccount),
        ),
        (
            Kube2iam,
            vec![],
            Some("amber"),
            Some(r#"["amb.*"]"#),
            Ok("amber"),
        ),
        (
            Kube2iam,
            vec![],
            Some("team/amber"),
            Some(r#"["team/.*"]"#),
            Ok("team/amber"),
        ),
        (Kiam, vec![], Some("a"), Some(&*both), Ok("a")),
        (Kiam, vec![], Some("a"), None, denied(Denied::NoList)),
        // No role, no list: nothing, and not an error of anybody.
        (
            Kube2iam,
            vec![],
            None,
            Some(r#"[".*"]"#),
            denied(Denied::NoRole),
        ),
        (
            Kube2iam,
            vec![],
            Some("  "),
            Some(r#"[".*"]"#),
            denied(Denied::NoRole),
        ),
        // What a list allows must be a role.
        (
            Kube2iam,
            vec![],
            Some("arn:aws:iam::111122223333:user/ana"),
            Some(r#"["arn:.*"]"#),
            Err(NotGranted::NotARole),
        ),
        (
            Kube2iam,
            vec![],
            Some("arn:aws-cn:iam::111122223333:role/a"),
            Some(r#"["arn:.*"]"#),
            Err(NotGranted::NotARole),
        ),
        (
            Kube2iam,
            vec![],
            Some("a b"),
            Some(r#"[".*"]"#),
            Err(NotGranted::NotARole),
        ),
        (
            Kube2iam,
            vec![],
            Some("a/"),
            Some(r#"[".*"]"#),
            Err(NotGranted::NotARole),
        ),
    ];
    for (style, accounts, role, list, expected) in cases {
        let annotations = Annotations {
            role,
            list,
            ..Annotations::default()
        };
        let granted = grant(&rules(style, &accounts, None), annotations);
        let shown = granted.as_ref().map(|granted| &*granted.shown);
        assert_eq!(
            shown.map_err(|refused| *refused),
            expected,
            "{style:?} {role:?} {list:?}"
        );
        let absent = granted.is_err_and(NotGranted::is_absence);
        assert_eq!(absent, expected == denied(Denied::NoRole), "{role:?}");
    }
}

#[test]
fn a_default_role_is_the_operators_and_for_every_namespace() {
    let rules = rules(Predecessor::Kube2iam, &[], Some("plain"));
    for (role, list, expected) in [
        (None, None, Ok(("plain", true))),
        (Some("plain"), None, Ok(("plain", true))),
        (Some("amber"), None, Err(NotGranted::Denied(Denied::NoList))),
        (Some("amber"), Some(r#"["amber"]"#), Ok(("amber", false))),
    ] {
        let annotations = Annotations {
            role,
            list,
            ..Annotations::default()
        };
        let granted = grant(&rules, annotations);
        let granted = granted
            .as_ref()
            .map(|granted| (&*granted.shown, granted.is_default));
        assert_eq!(granted.map_err(|refused| *refused), expected, "{role:?}");
    }
}

#[test]
fn session_names_and_external_ids_are_honoured() {
    let long = "n".repeat(80);
    let cut = format!("kiam-{}", "n".repeat(59));
    for (style, name, expected) in [
        (
            Predecessor::Kiam,
            Some("night job/7"),
            Some("kiam-night-job-7"),
        ),
        (Predecessor::Kiam, Some(&*long), Some(&*cut)),
        (Predecessor::Kiam, Some(" "), None),
        (Predecessor::Kiam, None, None),
        (Predecessor::Kube2iam, Some("job"), None),
    ] {
        let mut pod = BTreeMap::from([("iam.amazonaws.com/role".to_owned(), "a".to_owned())]);
        if let Some(name) = name {
            pod.insert("iam.amazonaws.com/session-name".into(), name.into());
        }
        let namespace = BTreeMap::from([
            (
                "iam.amazonaws.com/allowed-roles".to_owned(),
                r#"["a"]"#.to_owned(),
            ),
            ("iam.amazonaws.com/permitted".to_owned(), format!("{BASE}a")),
        ]);
        let annotations = Annotations::of(style, &pod, &namespace);
        let granted = grant(&rules(style, &[], None), annotations).unwrap();
        assert_eq!(granted.session_name.as_deref(), expected, "{name:?}");
    }
    let most = "x".repeat(1224);
    let over = "x".repeat(1225);
    for (id, expected) in [
        (None, Ok(None)),
        (Some(""), Ok(None)),
        (Some("tenant:7/a=b"), Ok(Some("tenant:7/a=b"))),
        (Some(&*most), Ok(Some(&*most))),
        (Some(&*over), Err(NotGranted::ExternalId)),
        (Some("x"), Err(NotGranted::ExternalId)),
        (Some("a b"), Err(NotGranted::ExternalId)),
        (Some("a\nb"), Err(NotGranted::ExternalId)),
    ] {
        let annotations = Annotations {
            role: Some("a"),
            external_id: id,
            list: Some(r#"["a"]"#),
            ..Annotations::default()
        };
        let granted = grant(&rules(Predecessor::Kube2iam, &[], None), annotations);
        let given = granted
            .as_ref()
            .map(|granted| granted.external_id.as_deref());
        assert_eq!(given.map_err(|refused| *refused), expected, "{id:?}");
    }
}

#[test]
fn an_operators_mistakes_are_told() {
    let with = |base: Option<&str>, default: Option<&str>| Rules {
        compat: Compat {
            predecessor: Predecessor::Kiam,
            base_arn: base.map(Into::into),
            format: Format::Glob,
            default_role: default.map(Into::into),
        },
        accounts: Vec::new(),
    };
    for (base, default, fine) in [
        (None, None, true),
        (Some(BASE), None, true),
        (
            Some("arn:aws:iam::111122223333:role/team"),
            Some("plain"),
            true,
        ),
        (None, Some(FAR), true),
        (None, Some("plain"), false),
        (Some("role/"), None, false),
        (Some("arn:aws:iam::1111:role/"), None, false),
        (Some("arn:aws-cn:iam::111122223333:role/"), None, false),
        (Some(BASE), Some("arn:aws:iam::111122223333:user/x"), false),
    ] {
        let checked = with(base, default).check(Partition::Aws);
        assert_eq!(checked.is_ok(), fine, "{base:?} {default:?}: {checked:?}");
    }
}
