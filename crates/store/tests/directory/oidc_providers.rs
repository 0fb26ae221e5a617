//! OpenID Connect providers and their tags.

use countersign_arn::Tag;
use countersign_store::{DirectoryError, NewOidcProvider, Taggable, Thing};

use super::*;

const URL: &str = "oidc.example/id/AB12";
const ARN: &str = "arn:aws:iam::111122223333:oidc-provider/oidc.example/id/AB12";

fn new_provider(url: &str) -> NewOidcProvider {
    NewOidcProvider {
        account: account(0),
        url: url.into(),
        client_ids: vec!["sts.amazonaws.com".into(), "sts.amazonaws.com".into()],
        thumbprints: vec!["9E99A48A9960B14926BB7F3B02E22DA2B0AB7280".into()],
        tags: Vec::new(),
    }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.into(),
        value: value.into(),
    }
}

#[tokio::test]
async fn provider_is_made_changed_and_deleted() {
    let (_, directory) = with_account().await;
    let made = directory
        .create_oidc_provider(new_provider(URL), now())
        .await
        .unwrap();
    assert_eq!(
        made.arn(),
        "arn:aws:iam::111122223333:oidc-provider/oidc.example/id/AB12"
    );
    assert_eq!(*made.client_ids, ["sts.amazonaws.com".into()]);
    assert_eq!(
        *made.thumbprints,
        ["9e99a48a9960b14926bb7f3b02e22da2b0ab7280".into()]
    );
    assert!(matches!(
        directory
            .create_oidc_provider(new_provider(URL), now())
            .await,
        Err(DirectoryError::Exists {
            what: Thing::OidcProvider,
            ..
        })
    ));
    for id in ["b", "a", "b"] {
        directory.add_client_id(account(0), URL, id).await.unwrap();
    }
    for id in ["a", "absent"] {
        directory
            .remove_client_id(account(0), URL, id)
            .await
            .unwrap();
    }
    directory
        .set_thumbprints(account(0), URL, &[])
        .await
        .unwrap();
    directory
        .tag(
            account(0),
            Taggable::OidcProvider(ARN),
            &[tag("Team", "blue"), tag("k", "v")],
        )
        .await
        .unwrap();
    directory
        .tag(
            account(0),
            Taggable::OidcProvider(ARN),
            &[tag("team", "red")],
        )
        .await
        .unwrap();
    directory
        .untag(account(0), Taggable::OidcProvider(ARN), &["K", "absent"])
        .await
        .unwrap();
    let snapshot = directory.snapshot();
    let record = &snapshot.oidc_provider(account(0), URL).unwrap().record;
    assert_eq!(*record.client_ids, ["sts.amazonaws.com".into(), "b".into()]);
    assert!(record.thumbprints.is_empty());
    assert_eq!(record.tags, [tag("team", "red")]);

    directory
        .delete_oidc_provider(account(0), URL)
        .await
        .unwrap();
    assert!(matches!(
        directory.delete_oidc_provider(account(0), URL).await,
        Err(DirectoryError::NoSuch {
            what: Thing::OidcProvider,
            ..
        })
    ));
}

#[tokio::test]
async fn urls_that_are_none_are_refused() {
    let (_, directory) = with_account().await;
    let long = format!("a.example/{}", "x".repeat(250));
    let cases = [
        "",
        "/path",
        "Upper.example",
        "a.example?query",
        "a.example#part",
        "a.example:0",
        "a.example:http",
        "user@a.example",
        "a b.example",
        "a.example/\u{e9}",
        &long,
    ];
    for url in cases {
        let refused = directory
            .create_oidc_provider(new_provider(url), now())
            .await;
        assert!(
            matches!(refused, Err(DirectoryError::Invalid(_))),
            "{url}: {refused:?}"
        );
    }
    for url in ["localhost:8443", "a.example/", "a.example/x/"] {
        directory
            .create_oidc_provider(new_provider(url), now())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn client_ids_thumbprints_and_tags_have_their_limits() {
    let (_, directory) = with_account().await;
    let mut many = new_provider(URL);
    many.client_ids = (0..101).map(|n| format!("c{n}").into()).collect();
    assert!(matches!(
        directory.create_oidc_provider(many, now()).await,
        Err(DirectoryError::QuotaExceeded {
            quota: "ClientIdsPerOpenIdConnectProvider",
            limit: 100
        })
    ));
    let mut many = new_provider(URL);
    many.thumbprints = vec!["0".repeat(40).into(); 6];
    assert!(directory.create_oidc_provider(many, now()).await.is_err());
    directory
        .create_oidc_provider(new_provider(URL), now())
        .await
        .unwrap();
    let tags: Vec<Tag> = (0..50).map(|n| tag(&format!("k{n}"), "v")).collect();
    directory
        .tag(account(0), Taggable::OidcProvider(ARN), &tags)
        .await
        .unwrap();
    directory
        .tag(
            account(0),
            Taggable::OidcProvider(ARN),
            &[tag("K7", "again")],
        )
        .await
        .unwrap();
    assert!(matches!(
        directory
            .tag(
                account(0),
                Taggable::OidcProvider(ARN),
                &[tag("one-more", "v")]
            )
            .await,
        Err(DirectoryError::QuotaExceeded {
            quota: "Tags",
            limit: 50
        })
    ));
}
