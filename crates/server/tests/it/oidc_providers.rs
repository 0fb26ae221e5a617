//! OpenID Connect providers and their tags, as IAM answers them.

use crate::world::{World, part, refusal};

const URL: &str = "https://Issuer.Example/id/AB12";
const ARN: &str = "arn:aws:iam::111122223333:oidc-provider/issuer.example/id/AB12";
const THUMBPRINT: &str = "9E99A48A9960B14926BB7F3B02E22DA2B0AB7280";

/// The call, and status, code and message of its answer.
type Case<'a> = (Vec<(&'a str, &'a str)>, u16, &'a str, &'a str);

async fn ok(world: &World, parameters: &[(&str, &str)]) -> String {
    let answer = world.iam(&world.ana, parameters).await;
    assert_eq!(answer.0, 200, "{parameters:?}: {}", answer.2);
    answer.2
}

#[tokio::test]
async fn providers_are_made_shown_changed_and_deleted_in_iams_words() {
    let world = World::new().await;
    let made = ok(
        &world,
        &[
            ("Action", "CreateOpenIDConnectProvider"),
            ("Url", URL),
            ("ClientIDList.member.1", "sts.amazonaws.com"),
            ("ThumbprintList.member.1", THUMBPRINT),
            ("Tags.member.1.Key", "team"),
            ("Tags.member.1.Value", "blue"),
        ],
    )
    .await;
    assert_eq!(part(&made, "OpenIDConnectProviderArn"), ARN);
    assert_eq!(part(&made, "Key"), "team");

    let of = ("OpenIDConnectProviderArn", ARN);
    for change in [
        [
            ("Action", "AddClientIDToOpenIDConnectProvider"),
            of,
            ("ClientID", "second"),
        ],
        [
            ("Action", "AddClientIDToOpenIDConnectProvider"),
            of,
            ("ClientID", "second"),
        ],
        [
            ("Action", "RemoveClientIDFromOpenIDConnectProvider"),
            of,
            ("ClientID", "sts.amazonaws.com"),
        ],
        [
            ("Action", "RemoveClientIDFromOpenIDConnectProvider"),
            of,
            ("ClientID", "absent"),
        ],
        [
            ("Action", "UntagOpenIDConnectProvider"),
            of,
            ("TagKeys.member.1", "TEAM"),
        ],
    ] {
        ok(&world, &change).await;
    }
    let shown = ok(&world, &[("Action", "GetOpenIDConnectProvider"), of]).await;
    assert_eq!(part(&shown, "Url"), "issuer.example/id/AB12");
    assert_eq!(part(part(&shown, "ClientIDList"), "member"), "second");
    assert_eq!(
        part(part(&shown, "ThumbprintList"), "member"),
        THUMBPRINT.to_ascii_lowercase()
    );
    assert!(shown.contains("<Tags/>"), "a list even when empty: {shown}");
    let listed = ok(&world, &[("Action", "ListOpenIDConnectProviders")]).await;
    assert_eq!(part(&listed, "Arn"), ARN);
    ok(&world, &[("Action", "DeleteOpenIDConnectProvider"), of]).await;
    let listed = ok(&world, &[("Action", "ListOpenIDConnectProviders")]).await;
    assert!(listed.contains("<OpenIDConnectProviderList/>"), "{listed}");
}

#[tokio::test]
async fn what_iam_refuses_about_providers() {
    let world = World::new().await;
    let create = ("Action", "CreateOpenIDConnectProvider");
    ok(&world, &[create, ("Url", URL)]).await;
    let gone = "arn:aws:iam::111122223333:oidc-provider/gone.example";
    let not_found = format!("OpenIDConnect Provider not found for arn {gone}");
    let of = ("OpenIDConnectProviderArn", gone);
    let invalid_url = "Invalid Open ID Connect Provider URL";
    let six: Vec<(String, String)> = (1..=6)
        .map(|n| (format!("ThumbprintList.member.{n}"), "0".repeat(40)))
        .collect();
    let mut too_many = vec![create, ("Url", "https://a.example")];
    too_many.extend(six.iter().map(|(name, value)| (&**name, &**value)));
    let cases: &[Case<'_>] = &[
        (
            vec![create, ("Url", URL)],
            409,
            "EntityAlreadyExists",
            "Provider with url https://Issuer.Example/id/AB12 already exists.",
        ),
        (
            vec![create, ("Url", "http://a.example")],
            400,
            "ValidationError",
            invalid_url,
        ),
        (
            vec![create, ("Url", "https://a.example?x=y")],
            400,
            "ValidationError",
            invalid_url,
        ),
        (
            vec![create, ("Url", "https://someone@a.example")],
            400,
            "ValidationError",
            invalid_url,
        ),
        (
            too_many,
            400,
            "InvalidInput",
            "Thumbprint list must contain fewer than 5 entries.",
        ),
        (
            vec![("Action", "GetOpenIDConnectProvider"), of],
            404,
            "NoSuchEntity",
            &not_found,
        ),
        (
            vec![
                ("Action", "TagOpenIDConnectProvider"),
                of,
                ("Tags.member.1.Key", "k"),
                ("Tags.member.1.Value", "v"),
            ],
            404,
            "NoSuchEntity",
            &not_found,
        ),
        (
            vec![
                ("Action", "UpdateOpenIDConnectProviderThumbprint"),
                of,
                ("ThumbprintList.member.1", THUMBPRINT),
            ],
            404,
            "NoSuchEntity",
            &not_found,
        ),
        (
            vec![("Action", "DeleteOpenIDConnectProvider"), of],
            404,
            "NoSuchEntity",
            "OpenId connect Provider arn:aws:iam::111122223333:oidc-provider/gone.example cannot be found.",
        ),
    ];
    for (parameters, status, code, message) in cases {
        let answered = refusal(&world.iam(&world.ana, parameters).await);
        assert_eq!(
            answered,
            (*status, (*code).to_owned(), (*message).to_owned()),
            "{parameters:?}"
        );
    }
}

#[tokio::test]
async fn the_port_of_https_is_dropped_others_are_refused_and_a_final_slash_counts() {
    let world = World::new().await;
    let create = |url: &'static str| [("Action", "CreateOpenIDConnectProvider"), ("Url", url)];
    for (url, stored) in [
        ("https://h.example:443/id/X", "h.example/id/X"),
        ("https://h.example/id/X/", "h.example/id/X/"),
        ("https://h.example:443", "h.example"),
        ("https://h.example/id/x", "h.example/id/x"),
    ] {
        let made = ok(&world, &create(url)).await;
        let arn = format!("arn:aws:iam::111122223333:oidc-provider/{stored}");
        assert_eq!(part(&made, "OpenIDConnectProviderArn"), arn);
        let shown = ok(
            &world,
            &[
                ("Action", "GetOpenIDConnectProvider"),
                ("OpenIDConnectProviderArn", &arn),
            ],
        )
        .await;
        assert_eq!(part(&shown, "Url"), stored);
    }
    for url in [
        "https://h.example:8443/id/X",
        "https://h.example:1",
        "https://h.example:4430/id/X",
    ] {
        let (status, code, _) = refusal(&world.iam(&world.ana, &create(url)).await);
        assert_eq!((status, code.as_str()), (400, "InvalidInput"), "{url}");
    }
}
