//! Identity provider configs: shapes, checks in their order, updates, permissions (EKS API spec, section 12).

use countersign_store::records::AuthenticationMode::{Api, ConfigMap};
use serde_json::{Value, json};

use super::*;

const CONFIGS: &str = "/clusters/c1/identity-provider-configs";
const ISSUER: &str = "https://id.example";

fn oidc(name: &str, issuer: &str, more: Value) -> Value {
    let mut oidc = json!({
        "identityProviderConfigName": name, "issuerUrl": issuer, "clientId": "kubernetes",
    });
    for (member, value) in more.as_object().unwrap() {
        oidc[member] = value.clone();
    }
    json!({ "oidc": oidc })
}

fn named(name: &str) -> Value {
    json!({"identityProviderConfig": {"type": "oidc", "name": name}})
}

impl World {
    async fn configs(&self, verb: &str, body: &Value) -> Reply {
        let target = format!("{CONFIGS}/{verb}");
        self.eks(&self.ana, "POST", &target, body).await
    }

    async fn listed(&self) -> Value {
        self.eks(&self.ana, "GET", CONFIGS, &Value::Null).await.ok()["identityProviderConfigs"]
            .clone()
    }

    /// The update with the id in an answer, as it is afterwards.
    async fn update(&self, answer: &Value) -> Value {
        let id = answer["update"]["id"].as_str().unwrap();
        let target = format!("/clusters/c1/updates/{id}");
        self.eks(&self.ana, "GET", &target, &Value::Null).await.ok()["update"].clone()
    }
}

#[tokio::test]
async fn configs_come_and_go_as_updates_of_the_cluster() {
    let world = World::new().await;
    world.cluster("c1", ConfigMap).await;
    assert_eq!(world.listed().await, json!([]));
    let mut body = oidc(
        "corp",
        ISSUER,
        json!({
            "usernameClaim": "email", "usernamePrefix": "corp:", "groupsClaim": "groups", "groupsPrefix": "g:",
            "requiredClaims": {"hd": "corp"},
        }),
    );
    body["tags"] = json!({"a": "1"});
    let made = world.configs("associate", &body).await.ok();
    assert_eq!(made["tags"], json!({"a": "1"}));
    let update = &made["update"];
    assert_eq!(
        (&update["type"], &update["status"], &update["params"]),
        (
            &json!("AssociateIdentityProviderConfig"),
            &json!("InProgress"),
            &json!([{"type": "IdentityProviderConfig", "value": "[{\"name\":\"corp\",\"type\":\"oidc\"}]"}])
        )
    );
    assert_eq!(world.update(&made).await["status"], "Successful");
    let shown = world.configs("describe", &named("corp")).await.ok();
    let shown = &shown["identityProviderConfig"]["oidc"];
    let arn = shown["identityProviderConfigArn"].as_str().unwrap();
    let begin = "arn:aws:eks:us-east-1:111122223333:identityproviderconfig/c1/oidc/corp/";
    assert_eq!(arn.strip_prefix(begin).unwrap().len(), 36);
    assert_eq!(
        *shown,
        json!({
            "identityProviderConfigName": "corp", "identityProviderConfigArn": arn, "clusterName": "c1",
            "issuerUrl": ISSUER, "clientId": "kubernetes", "usernameClaim": "email", "usernamePrefix": "corp:",
            "groupsClaim": "groups", "groupsPrefix": "g:", "requiredClaims": {"hd": "corp"}, "tags": {"a": "1"},
            "status": "ACTIVE",
        })
    );
    // Tags are those of /tags.
    let tags = format!("/tags/{}", escape(arn));
    world
        .eks(&world.ana, "POST", &tags, &json!({"tags": {"b": "2"}}))
        .await
        .ok();
    let got = world.eks(&world.ana, "GET", &tags, &Value::Null).await.ok();
    assert_eq!(got, json!({"tags": {"a": "1", "b": "2"}}));
    let other = format!("/tags/{}", escape(&arn.replace("/c1/", "/c2/")));
    let gone = world.eks(&world.ana, "GET", &other, &Value::Null).await;
    gone.refused(404, "NotFoundException", "No resource found");
    // A second one, and pages.
    let second = oidc("a-second", "https://id2.example/x", json!({}));
    let made = world.configs("associate", &second).await.ok();
    assert_eq!(
        made["update"]["params"][0]["value"],
        "[{\"name\":\"a-second\",\"type\":\"oidc\"},{\"name\":\"corp\",\"type\":\"oidc\"}]"
    );
    let one = |name: &str| json!({"type": "oidc", "name": name});
    let page = format!("{CONFIGS}?maxResults=1");
    let first = world.eks(&world.ana, "GET", &page, &Value::Null).await.ok();
    assert_eq!(first["identityProviderConfigs"], json!([one("a-second")]));
    let next = escape(first["nextToken"].as_str().unwrap());
    let page = format!("{page}&nextToken={next}");
    let rest = world.eks(&world.ana, "GET", &page, &Value::Null).await.ok();
    assert_eq!(rest, json!({"identityProviderConfigs": [one("corp")]}));
    for (name, left) in [
        ("corp", "[{\"name\":\"a-second\",\"type\":\"oidc\"}]"),
        ("a-second", "[]"),
    ] {
        let gone = world.configs("disassociate", &named(name)).await.ok();
        let update = &gone["update"];
        assert_eq!(update["type"], "DisassociateIdentityProviderConfig");
        assert_eq!(update["params"][0]["value"], left);
        let missing =
            format!("No config found for cluster: c1, config type: oidc, config name: {name}");
        for verb in ["describe", "disassociate"] {
            world.configs(verb, &named(name)).await.not_found(&missing);
        }
    }
    assert_eq!(world.listed().await, json!([]));
    // A name can be used again.
    world
        .configs("associate", &oidc("corp", ISSUER, json!({})))
        .await
        .ok();
}

#[tokio::test]
async fn the_checks_and_their_texts() {
    let world = World::new().await;
    let system = "The prefix system: is reserved for Kubernetes system use";
    // The cluster comes before the values (section 1.7).
    let reply = world
        .configs("associate", &oidc("corp", "http://x", json!({})))
        .await;
    reply.not_found("No cluster found for name: c1.");
    world.cluster("c1", Api).await;
    world
        .configs(
            "associate",
            &oidc("there", "https://there.example", json!({})),
        )
        .await
        .ok();
    let long = "x".repeat(12 << 10);
    for (body, status, code, text) in [
        (
            oidc("corp", "http://id.example", json!({})),
            400,
            "InvalidParameterException",
            "IssuerURL must use https:// scheme.",
        ),
        (
            oidc("corp", "https://id.example?tenant=1", json!({})),
            400,
            "InvalidParameterException",
            "The issuerUrl provided is invalid: ",
        ),
        (
            oidc("corp", "https://user@id.example", json!({})),
            400,
            "InvalidParameterException",
            "The issuerUrl provided is invalid: ",
        ),
        (
            oidc("corp", "https://[::1]/", json!({})),
            400,
            "InvalidParameterException",
            "The issuerUrl provided is invalid: ",
        ),
        (
            oidc("corp", "https://", json!({})),
            400,
            "InvalidParameterException",
            "The issuerUrl provided is invalid: ",
        ),
        (
            oidc("corp", ISSUER, json!({"usernamePrefix": "system:"})),
            400,
            "InvalidParameterException",
            system,
        ),
        (
            oidc("corp", ISSUER, json!({"groupsPrefix": "system:"})),
            400,
            "InvalidParameterException",
            system,
        ),
        (
            oidc("corp", ISSUER, json!({"groupsPrefix": "system:x"})),
            400,
            "InvalidParameterException",
            system,
        ),
        (
            oidc("corp", ISSUER, json!({"clientId": ""})),
            400,
            "InvalidParameterException",
            "The parameter clientId must not be empty",
        ),
        (
            oidc("", ISSUER, json!({})),
            400,
            "InvalidParameterException",
            "The parameter identityProviderConfigName must not be empty",
        ),
        (
            oidc("a/b", ISSUER, json!({})),
            400,
            "InvalidParameterException",
            "identityProviderConfigName must be ",
        ),
        (
            oidc("corp", ISSUER, json!({"groupsClaim": "a\nb"})),
            400,
            "InvalidParameterException",
            "The OIDC configuration must not have control characters",
        ),
        (
            oidc("corp", ISSUER, json!({"clientId": long})),
            400,
            "InvalidParameterException",
            "The OIDC configuration has ",
        ),
        (
            oidc("corp", ISSUER, json!({"requiredClaims": {"": "x"}})),
            400,
            "InvalidParameterException",
            "",
        ),
        (
            oidc("corp", ISSUER, json!({"requiredClaims": {"x": ""}})),
            400,
            "InvalidParameterException",
            "",
        ),
        (
            json!({"oidc": {"issuerUrl": ISSUER, "clientId": "x"}}),
            400,
            "InvalidParameterException",
            "",
        ),
        (json!({}), 400, "InvalidParameterException", ""),
        (
            oidc("there", ISSUER, json!({})),
            409,
            "ResourceInUseException",
            "Identity provider config already exists",
        ),
        (
            oidc("corp", "https://there.example", json!({})),
            409,
            "ResourceInUseException",
            "Identity provider config already exists",
        ),
    ] {
        let reply = world.configs("associate", &body).await;
        reply.refused(status, code, text);
        assert_eq!(reply.body["clusterName"], "c1", "{reply:?}");
    }
    for verb in ["describe", "disassociate"] {
        let saml = json!({"identityProviderConfig": {"type": "saml", "name": "there"}});
        let reply = world.configs(verb, &saml).await;
        reply.invalid("The identity provider config type saml is not supported.");
    }
    // A final slash makes another issuer; usernames of any claim without a prefix are warned of.
    let body = oidc(
        "bare",
        "https://there.example/",
        json!({"usernamePrefix": "-", "usernameClaim": "nick"}),
    );
    let reply = world.configs("associate", &body).await;
    assert!(reply.warnings()[0].contains("nick"), "{reply:?}");
    reply.ok();
    let body = oidc(
        "bare2",
        "https://b.example",
        json!({"usernamePrefix": "-", "usernameClaim": "email"}),
    );
    let reply = world.configs("associate", &body).await;
    assert!(reply.warnings().is_empty(), "{reply:?}");
    reply.ok();
    assert_eq!(world.listed().await.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_request_token_makes_one_config_and_a_dry_run_none() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let mut body = oidc("corp", ISSUER, json!({}));
    body["clientRequestToken"] = json!("t-1");
    let first = world.configs("associate", &body).await.ok();
    let again = world.configs("associate", &body).await.ok();
    assert_eq!(first, again);
    body["oidc"]["clientId"] = json!("other");
    let reply = world.configs("associate", &body).await;
    reply.invalid("clientRequestToken was already used with different parameters");
    assert_eq!(world.listed().await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn policies_say_who_may_associate_which_issuer() {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let allow = json!({"Version": "2012-10-17", "Statement": [
        {
            "Effect": "Allow", "Action": "eks:AssociateIdentityProviderConfig",
            "Resource": "arn:aws:eks:*:111122223333:cluster/c1",
            "Condition": {"StringEquals": {"eks:issuerUrl": ISSUER, "eks:clientId": "kubernetes"}},
        },
        {
            "Effect": "Allow",
            "Action": ["eks:DescribeIdentityProviderConfig", "eks:DisassociateIdentityProviderConfig"],
            "Resource": "arn:aws:eks:*:111122223333:identityproviderconfig/c1/oidc/corp/*",
        },
    ]});
    world.allow_user("bob", &allow.to_string()).await;
    let call = async |verb: &str, body: &Value| {
        let target = format!("{CONFIGS}/{verb}");
        world.eks(&world.bob, "POST", &target, body).await
    };
    let corp = oidc("corp", ISSUER, json!({}));
    let mut tagged = corp.clone();
    tagged["tags"] = json!({"a": "1"});
    // Who has the right to the pattern learns that it is not there.
    call("describe", &named("corp"))
        .await
        .not_found("No config found");
    for (verb, body, allowed) in [
        (
            "associate",
            oidc("corp", "https://other.example", json!({})),
            false,
        ),
        (
            "associate",
            oidc("corp", ISSUER, json!({"clientId": "other"})),
            false,
        ),
        ("associate", tagged, false),
        ("associate", corp, true),
        ("describe", named("corp"), true),
        ("describe", named("other"), false),
        ("disassociate", named("other"), false),
        ("disassociate", named("corp"), true),
    ] {
        let reply = call(verb, &body).await;
        if allowed {
            reply.ok();
        } else {
            reply.denied();
        }
    }
    world
        .eks(&world.bob, "GET", CONFIGS, &Value::Null)
        .await
        .denied();
}
