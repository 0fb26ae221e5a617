//! Tags of everything that has some.

use countersign_arn::Tag;
use countersign_store::{DirectoryError, NewInstanceProfile, Taggable};

use crate::{account, new_policy, new_role, new_user, now, with_account};

const POLICY: &str = "arn:aws:iam::111122223333:policy/p";

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.into(),
        value: value.into(),
    }
}

async fn world() -> countersign_store::Directory {
    let (_, directory) = with_account().await;
    directory.create_user(new_user("ana"), now()).await.unwrap();
    directory.create_role(new_role("ops"), now()).await.unwrap();
    directory
        .create_managed_policy(new_policy("p"), now())
        .await
        .unwrap();
    let profile = NewInstanceProfile {
        account: account(0),
        name: "nodes".into(),
        path: "/".into(),
        tags: Vec::new(),
    };
    directory
        .create_instance_profile(profile, now())
        .await
        .unwrap();
    directory
}

fn tags_of(directory: &countersign_store::Directory, what: Taggable<'_>) -> Vec<(String, String)> {
    let snapshot = directory.snapshot();
    let tags = match what {
        Taggable::User(name) => &snapshot.user(account(0), name).unwrap().record.tags,
        Taggable::Role(name) => &snapshot.role(account(0), name).unwrap().record.tags,
        Taggable::InstanceProfile(name) => {
            &snapshot
                .instance_profile(account(0), name)
                .unwrap()
                .record
                .tags
        }
        _ => {
            &snapshot
                .managed_policy(account(0), "p")
                .unwrap()
                .record
                .tags
        }
    };
    tags.iter()
        .map(|tag| (tag.key.to_string(), tag.value.to_string()))
        .collect()
}

#[tokio::test]
async fn keys_are_one_ignoring_case_but_for_policies() {
    let directory = world().await;
    for (what, expected) in [
        (
            Taggable::User("ANA"),
            [("TEAM", "3"), ("other", "2")].as_slice(),
        ),
        (Taggable::Role("ops"), &[("TEAM", "3"), ("other", "2")]),
        (
            Taggable::InstanceProfile("Nodes"),
            &[("TEAM", "3"), ("other", "2")],
        ),
        (
            Taggable::Policy(POLICY),
            &[("team", "1"), ("other", "2"), ("TEAM", "3")],
        ),
    ] {
        let add = |tags: Vec<Tag>| {
            let directory = directory.clone();
            async move { directory.tag(account(0), what, &tags).await }
        };
        add(vec![tag("team", "1"), tag("other", "2")])
            .await
            .unwrap();
        add(vec![tag("TEAM", "3")]).await.unwrap();
        let expected: Vec<_> = expected
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(tags_of(&directory, what), expected);
        directory
            .untag(account(0), what, &["absent", "Other", "team"])
            .await
            .unwrap();
        let left = tags_of(&directory, what).len();
        assert_eq!(left, if expected.len() == 3 { 2 } else { 0 });
    }
}

#[tokio::test]
async fn nothing_has_more_than_fifty_tags() {
    let directory = world().await;
    for what in [Taggable::Role("ops"), Taggable::Policy(POLICY)] {
        let many = |from: usize, to: usize| -> Vec<Tag> {
            (from..to).map(|n| tag(&format!("k{n}"), "")).collect()
        };
        assert!(matches!(
            directory.tag(account(0), what, &many(0, 51)).await,
            Err(DirectoryError::Invalid(_))
        ));
        directory.tag(account(0), what, &many(0, 50)).await.unwrap();
        assert!(matches!(
            directory.tag(account(0), what, &many(50, 51)).await,
            Err(DirectoryError::QuotaExceeded {
                quota: "Tags",
                limit: 50
            })
        ));
        directory
            .tag(account(0), what, &many(20, 50))
            .await
            .unwrap();
        assert_eq!(tags_of(&directory, what).len(), 50);
    }
}

#[tokio::test]
async fn what_is_no_tag_or_not_there_is_refused() {
    let directory = world().await;
    for tags in [
        vec![tag("", "")],
        vec![tag("aws:x", "")],
        vec![tag("AWS:x", "")],
        vec![tag("a", ""), tag("A", "")],
        vec![tag(&"k".repeat(129), "")],
        vec![tag("k", &"v".repeat(257))],
    ] {
        assert!(matches!(
            directory
                .tag(account(0), Taggable::Role("ops"), &tags)
                .await,
            Err(DirectoryError::Invalid(_))
        ));
    }
    for (what, shown) in [
        (Taggable::User("bo"), "there is no user `bo`"),
        (Taggable::Role("bo"), "there is no role `bo`"),
        (
            Taggable::InstanceProfile("bo"),
            "there is no instance profile `bo`",
        ),
        (Taggable::Policy("bo"), "there is no managed policy `bo`"),
        (
            Taggable::OidcProvider("arn:aws:iam::111122223333:oidc-provider/x.example"),
            "there is no OpenID Connect provider `arn:aws:iam::111122223333:oidc-provider/x.example`",
        ),
        (
            Taggable::SamlProvider("arn:aws:iam::111122223333:saml-provider/x"),
            "there is no SAML provider `arn:aws:iam::111122223333:saml-provider/x`",
        ),
        (Taggable::SamlProvider("x"), "there is no SAML provider `x`"),
        (
            Taggable::MfaDevice("arn:aws:iam::111122223333:mfa/x"),
            "there is no MFA device `arn:aws:iam::111122223333:mfa/x`",
        ),
    ] {
        for result in [
            directory.tag(account(0), what, &[tag("a", "b")]).await,
            directory.untag(account(0), what, &["a"]).await,
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with(shown), "{error}");
        }
    }
}
