//! Trust policies: written, merged, judged, checked.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;

use countersign_podreview::trust::{
    Change, CheckFacts, Level, NewTrust, PodCall, PodIdentityTrust, TrustError, Verdict, WebCall,
    WebIdentityTrust, check, decide_pod_identity, decide_web_identity, merge, without_subject,
};
use countersign_podreview::{SessionSettings, subject, trust};
use proptest::prelude::*;
use serde_json::{Value, json};

const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/issuer.example/id/1";
const ROLE: &str = "arn:aws:iam::111122223333:role/cart";
const CLUSTER: &str = "arn:aws:eks:us-east-1:111122223333:cluster/demo";

fn web(subjects: &[&str]) -> NewTrust {
    NewTrust::Web(WebIdentityTrust {
        provider_arn: PROVIDER.to_owned(),
        audience: "sts.amazonaws.com".to_owned(),
        subjects: subjects
            .iter()
            .map(|subject| (*subject).to_owned())
            .collect(),
    })
}

fn scoped(namespace: &str, account: &str) -> NewTrust {
    NewTrust::Pods(PodIdentityTrust {
        source_account: Some("111122223333".to_owned()),
        source_arn: Some(CLUSTER.to_owned()),
        request_tags: BTreeMap::from([
            ("kubernetes-namespace".to_owned(), namespace.to_owned()),
            ("kubernetes-service-account".to_owned(), account.to_owned()),
        ]),
    })
}

fn takes(trust: &str, namespace: &str, account: &str) -> trust::TrustDecision {
    let subject = subject(namespace, account);
    let call = WebCall {
        role_arn: ROLE,
        provider_arn: PROVIDER,
        audience: "sts.amazonaws.com",
        subject: &subject,
        role_tags: &[],
    };
    decide_web_identity(trust, &call).unwrap()
}

fn pods(trust: &str, namespace: &str, account: &str, tags: bool) -> trust::TrustDecision {
    let call = PodCall {
        role_arn: ROLE,
        cluster_arn: CLUSTER,
        cluster_name: "demo",
        namespace,
        service_account: account,
        pod: None,
        tags,
        sessions: &SessionSettings::default(),
        role_tags: &[],
    };
    decide_pod_identity(trust, &call).unwrap()
}

#[test]
fn written_documents_are_what_people_read() {
    let exact = web(&["system:serviceaccount:shop:cart"]).document();
    assert_eq!(
        exact,
        r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": {
        "Federated": "arn:aws:iam::111122223333:oidc-provider/issuer.example/id/1"
      },
      "Action": "sts:AssumeRoleWithWebIdentity",
      "Condition": {
        "StringEquals": {
          "issuer.example/id/1:aud": "sts.amazonaws.com",
          "issuer.example/id/1:sub": "system:serviceaccount:shop:cart"
        }
      }
    }
  ]
}"#
    );
    let pattern: Value =
        serde_json::from_str(&web(&["system:serviceaccount:shop:*"]).document()).unwrap();
    assert_eq!(
        pattern["Statement"][0]["Condition"],
        json!({"StringEquals": {"issuer.example/id/1:aud": "sts.amazonaws.com"},
               "StringLike": {"issuer.example/id/1:sub": "system:serviceaccount:shop:*"}})
    );
    let narrow: Value = serde_json::from_str(&scoped("shop", "cart").document()).unwrap();
    assert_eq!(
        narrow["Statement"][0],
        json!({"Sid": "AllowEksAuthToAssumeRoleForPodIdentity", "Effect": "Allow",
               "Principal": {"Service": "pods.eks.amazonaws.com"}, "Action": ["sts:AssumeRole", "sts:TagSession"],
               "Condition": {"ArnEquals": {"aws:SourceArn": CLUSTER}, "StringEquals": {
                   "aws:SourceAccount": "111122223333", "aws:RequestTag/kubernetes-namespace": "shop",
                   "aws:RequestTag/kubernetes-service-account": "cart"}}})
    );
}

#[test]
fn merging_keeps_other_statements_and_is_idempotent() {
    // Members in an order, and with a space, that a tree of sorted maps would lose.
    let other = r#"{"Sid":"Nodes","Principal":{"AWS":"arn:aws:iam::111122223333:role/node"},"Effect":"Allow","Action":"sts:AssumeRole"}"#;
    let existing = format!(r#"{{"Version":"2012-10-17","Statement":{other}}}"#);
    let cart = web(&["system:serviceaccount:shop:cart"]);
    let first = merge(&existing, &cart).unwrap();
    assert_eq!(first.change, Change::Added(1));
    let compact: String = first.document.split_whitespace().collect();
    assert!(
        compact.contains(&other.replace(' ', "")),
        "{}",
        first.document
    );
    assert_eq!(
        merge(&first.document, &cart).unwrap().change,
        Change::Unchanged
    );

    let second = merge(&first.document, &web(&["system:serviceaccount:shop:pay"])).unwrap();
    assert_eq!(second.change, Change::Extended(1));
    for account in ["cart", "pay"] {
        assert_eq!(
            takes(&second.document, "shop", account).verdict,
            Verdict::Allowed
        );
    }
    assert_eq!(
        takes(&second.document, "shop", "other").verdict,
        Verdict::Denied
    );

    // Patterns are a test of another kind, and another statement.
    let third = merge(&second.document, &web(&["system:serviceaccount:till:*"])).unwrap();
    assert_eq!(third.change, Change::Added(2));
    assert_eq!(
        takes(&third.document, "till", "any").verdict,
        Verdict::Allowed
    );

    // Statements for associations stand beside one another under ids of their own.
    let one = merge(&existing, &scoped("shop", "cart")).unwrap();
    let two = merge(&one.document, &scoped("shop", "pay")).unwrap();
    let document: Value = serde_json::from_str(&two.document).unwrap();
    assert_eq!(
        document["Statement"][2]["Sid"],
        "AllowEksAuthToAssumeRoleForPodIdentity2"
    );

    // Away again.
    let gone = without_subject(
        &second.document,
        PROVIDER,
        "system:serviceaccount:shop:cart",
    )
    .unwrap();
    assert_eq!(gone.change, Change::Extended(1));
    assert_eq!(
        takes(&gone.document, "shop", "cart").verdict,
        Verdict::Denied
    );
    assert_eq!(
        takes(&gone.document, "shop", "pay").verdict,
        Verdict::Allowed
    );
    let gone = without_subject(&gone.document, PROVIDER, "system:serviceaccount:shop:pay").unwrap();
    assert_eq!(gone.change, Change::Removed(1));
    let alone = cart.document();
    let last = without_subject(&alone, PROVIDER, "system:serviceaccount:shop:cart");
    assert!(matches!(last, Err(TrustError::Empty)), "{last:?}");
    for broken in [
        "",
        "{}",
        "[]",
        r#"{"Statement": 1}"#,
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Maybe"}]}"#,
    ] {
        assert!(merge(broken, &cart).is_err(), "{broken}");
    }
}

#[test]
fn decisions_name_the_statement_or_what_is_missing() {
    let exact = web(&["system:serviceaccount:shop:cart"]).document();
    let yes = takes(&exact, "shop", "cart");
    assert_eq!(
        (yes.verdict, yes.statement.as_deref()),
        (Verdict::Allowed, Some("Statement[0]"))
    );
    let no = takes(&exact, "shop", "pay");
    assert_eq!(no.verdict, Verdict::Denied);
    assert!(
        no.reason.contains("system:serviceaccount:shop:pay"),
        "{}",
        no.reason
    );

    // A wildcard under StringEquals is met by nobody.
    let wild = exact.replace("shop:cart", "shop:*");
    assert_eq!(takes(&wild, "shop", "cart").verdict, Verdict::Denied);
    let deny = exact.replace("\"Allow\"", "\"Deny\"");
    let denied = takes(&deny, "shop", "cart");
    assert_eq!(denied.verdict, Verdict::Denied);
    assert!(denied.reason.contains("denies"), "{}", denied.reason);
    // What only the call itself has.
    let address = exact.replace(
        "\"StringEquals\": {",
        "\"IpAddress\": {\"aws:SourceIp\": \"192.0.2.0/24\"}, \"StringEquals\": {",
    );
    let depends = takes(&address, "shop", "cart");
    assert_eq!(depends.verdict, Verdict::Depends, "{}", depends.reason);
    assert!(
        depends.reason.contains("aws:SourceIp"),
        "{}",
        depends.reason
    );

    // Both at once, and as a denial; a claim of another issuer is no such thing, since no call has it.
    let rows = [
        (
            address.replace("192.0.2.0/24\"}", "192.0.2.0/24\"}, \"StringLike\": {\"sts:RoleSessionName\": \"a*\"}"),
            Verdict::Depends,
        ),
        (
            exact.replace(
                "\"Statement\": [",
                "\"Statement\": [{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"sts:*\", \"Condition\": {\"NotIpAddress\": {\"aws:SourceIp\": \"192.0.2.0/24\"}}},",
            ),
            Verdict::Depends,
        ),
        (exact.replace("id/1:sub", "id/2:sub"), Verdict::Denied),
        (address.replace("shop:cart", "shop:pay"), Verdict::Denied),
    ];
    for (text, wanted) in rows {
        let answer = takes(&text, "shop", "cart");
        assert_eq!(answer.verdict, wanted, "{}\n{text}", answer.reason);
    }

    let narrow = scoped("shop", "cart").document();
    let rows = [
        ("shop", "cart", true, Verdict::Allowed),
        ("shop", "pay", true, Verdict::Denied),
        ("till", "cart", true, Verdict::Denied),
        // Sessions without tags never meet a test of tags.
        ("shop", "cart", false, Verdict::Denied),
    ];
    for (namespace, account, tags, wanted) in rows {
        let answer = pods(&narrow, namespace, account, tags);
        assert_eq!(
            answer.verdict, wanted,
            "{namespace}/{account} {tags}: {}",
            answer.reason
        );
    }
    let without = narrow.replace(
        "\"sts:AssumeRole\",\n        \"sts:TagSession\"",
        "\"sts:AssumeRole\"",
    );
    let answer = pods(&without, "shop", "cart", true);
    assert_eq!(answer.verdict, Verdict::Denied);
    assert!(
        answer.reason.contains("sts:TagSession"),
        "{}",
        answer.reason
    );
}

#[test]
fn every_check_fires_and_is_silent() {
    let good = web(&["system:serviceaccount:shop:cart"]).document();
    let facts = CheckFacts {
        account: Some("111122223333".to_owned()),
        providers: Some(vec![PROVIDER.to_owned()]),
        ..CheckFacts::default()
    };
    let ids = |text: &str, facts: &CheckFacts| -> Vec<String> {
        let found = check(text, facts).unwrap();
        found.into_iter().map(|finding| finding.id).collect()
    };
    assert_eq!(ids(&good, &facts), [""; 0]);
    let sub = "\"issuer.example/id/1:sub\": \"system:serviceaccount:shop:cart\"";
    let aud = "\"issuer.example/id/1:aud\": \"sts.amazonaws.com\"";
    let rows = [
        ("T1", good.replace(&format!("{aud},"), aud).replace(sub, "")),
        ("T2", good.replace(&format!("{aud},"), "")),
        ("T3", good.replace("shop:cart", "shop:*")),
        (
            "T4",
            good.replace("StringEquals", "StringLike")
                .replace("shop:cart", "*:*"),
        ),
        (
            "T4",
            good.replace("StringEquals", "StringLike")
                .replace("shop:cart", "*:cart"),
        ),
        (
            "T5",
            good.replace("issuer.example/id/1:sub", "issuer.example/id/2:sub"),
        ),
        (
            "T5",
            good.replace("issuer.example/id/1:sub", "issuer.example/id/1/:sub"),
        ),
        (
            "T7",
            good.replace("StringEquals", "ForAllValues:StringEquals"),
        ),
    ];
    for (id, text) in rows {
        let found = ids(&text, &facts);
        assert!(found.iter().any(|own| own == id), "{id}: {found:?}\n{text}");
    }
    let gone = CheckFacts {
        providers: Some(Vec::new()),
        ..facts.clone()
    };
    assert_eq!(ids(&good, &gone), ["T6"]);
    let cluster = CheckFacts {
        service_accounts: Some(vec!["shop:pay".to_owned()]),
        ..facts.clone()
    };
    assert_eq!(ids(&good, &cluster), ["T8"]);
    let shared = CheckFacts {
        users: vec!["shop:pay".to_owned()],
        ..facts.clone()
    };
    assert_eq!(ids(&good, &shared), ["T9"]);
    // Who may make pods where a subject of the policy is: fires for its own namespace, and for somebody.
    let makers = |namespace: &str, who: &[&str]| CheckFacts {
        pod_makers: [(
            namespace.to_owned(),
            who.iter().map(|name| (*name).to_owned()).collect(),
        )]
        .into(),
        ..facts.clone()
    };
    let named = good.split("system:serviceaccount:").nth(1).unwrap();
    let own = named.split(':').next().unwrap();
    let pattern = good.replace(
        &format!("system:serviceaccount:{own}:"),
        "system:serviceaccount:*:",
    );
    for (text, facts, expected) in [
        (&good, makers(own, &["Group deployers"]), vec!["T10"]),
        (&good, makers(own, &[]), vec![]),
        (&good, makers("other", &["Group deployers"]), vec![]),
        (&good, makers("*", &["Group deployers"]), vec![]),
    ] {
        assert_eq!(ids(text, &facts), expected, "{facts:?}");
    }
    let found = check(&good, &makers(own, &["Group deployers"])).unwrap();
    assert!(found[0].message.contains("Group deployers") && found[0].message.contains(own));
    assert_eq!(found[0].level, Level::Info);
    let namespaces = |text: &str| countersign_podreview::trust::namespaces(text).unwrap();
    assert_eq!(namespaces(&good), [own.to_owned()].into());
    assert!(namespaces(&pattern).is_empty());
    // A whole namespace may be what is wanted.
    let namespace = web(&["system:serviceaccount:shop:*"]).document();
    let found = check(&namespace, &facts).unwrap();
    assert!(
        found.iter().all(|finding| finding.level == Level::Info),
        "{found:?}"
    );
}

proptest! {
    /// What is merged in is let in, whatever was there before; what was let in before still is; and away is away.
    #[test]
    fn merging_lets_in_what_was_asked(names in prop::collection::vec(("[a-z]{1,4}", "[a-z]{1,4}"), 1..6)) {
        let mut document = scoped("a", "b").document();
        for (namespace, account) in &names {
            document = merge(&document, &web(&[&subject(namespace, account)])).unwrap().document;
        }
        for (namespace, account) in &names {
            prop_assert_eq!(takes(&document, namespace, account).verdict, Verdict::Allowed);
        }
        let (namespace, account) = &names[0];
        let gone = without_subject(&document, PROVIDER, &subject(namespace, account)).unwrap();
        prop_assert_eq!(takes(&gone.document, namespace, account).verdict, Verdict::Denied);
        prop_assert_eq!(pods(&gone.document, "a", "b", true).verdict, Verdict::Allowed);
    }
}
