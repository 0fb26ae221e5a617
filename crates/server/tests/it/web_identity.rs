//! AssumeRoleWithWebIdentity in process: every check in its order, every text (IRSA spec, section 6; STS spec, section 2.3).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use countersign_oidc::{Algorithm, KeySet, SigningKey};
use countersign_server::aws::AwsApi;
use countersign_server::listen::Peer;
use countersign_server::metrics::Metrics;
use countersign_server::web_identity::{WebIdentity, WebIdentityOptions};
use countersign_store::NewOidcProvider;
use countersign_upstream::http::ExchangeFailure;
use countersign_upstream::jwks::{
    Fetch, FetchFailure, FetchedKeys, KeyFetch, KeySource, KeySourceOptions,
};
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::*;

pub(crate) const ISSUER: &str = "https://issuer.example/id/1";
const PREFIX: &str = "issuer.example/id/1";
const SUBJECT: &str = "system:serviceaccount:orchard:picker";
const CLIENT: &str = "sts.amazonaws.com";
const NO_KEY: &str = "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements";

/// An issuer whose answer can be changed.
pub(crate) struct Issuer {
    answer: Mutex<Result<FetchedKeys, FetchFailure>>,
    asked: AtomicUsize,
}

impl Issuer {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn answers(&self, answer: Result<FetchedKeys, FetchFailure>) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Publishes these keys.
    fn publishes(&self, keys: &[&SigningKey]) {
        let keys = KeySet::of(keys.iter().map(|key| key.public().clone())).unwrap();
        self.answers(Ok(FetchedKeys {
            keys: Arc::new(keys),
            max_age: None,
        }));
    }
}

impl KeyFetch for Issuer {
    fn fetch<'a>(&'a self, _: &'a Fetch) -> BoxFuture<'a, Result<FetchedKeys, FetchFailure>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async move { answer })
    }
}

pub(crate) struct WebWorld {
    pub(crate) world: World,
    pub(crate) web: Arc<WebIdentity>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) key: SigningKey,
}

impl WebWorld {
    /// The account has a provider for [`ISSUER`].
    pub(crate) async fn new() -> Self {
        let mut world = World::new().await;
        let key = SigningKey::generate(Algorithm::Rs256).unwrap();
        let issuer = Arc::new(Issuer {
            answer: Mutex::new(Err(down())),
            asked: AtomicUsize::new(0),
        });
        issuer.publishes(&[&key]);
        let fetch: Arc<dyn KeyFetch> = Arc::<Issuer>::clone(&issuer);
        let options = WebIdentityOptions {
            kubernetes_claims: true,
            public_url: "https://cs.example/".to_owned(),
            ..WebIdentityOptions::default()
        };
        let keys = KeySource::new(KeySourceOptions::default(), fetch);
        let web = Arc::new(WebIdentity::with_keys(keys, &options));
        world.api = AwsApi::new(
            Arc::clone(&world.keys),
            world.directory.clone(),
            Arc::new(Metrics::new()),
            0,
            false,
        )
        .with_web_identity(Arc::clone(&web));
        let this = Self {
            world,
            web,
            issuer,
            key,
        };
        this.provider("111122223333", PREFIX, &[CLIENT]).await;
        this
    }

    pub(crate) async fn provider(&self, account: &str, url: &str, client_ids: &[&str]) {
        let new = NewOidcProvider {
            account: account.parse().unwrap(),
            url: url.into(),
            client_ids: client_ids.iter().map(|id| (*id).into()).collect(),
            thumbprints: Vec::new(),
            tags: Vec::new(),
        };
        self.world
            .directory
            .create_oidc_provider(new, now())
            .await
            .unwrap();
    }

    /// A role that trusts the provider for the actions, under a condition.
    pub(crate) async fn role(&self, name: &str, actions: &str, condition: &str) -> String {
        self.world.role(name, &trust(actions, condition)).await
    }

    /// One call without a signature.
    pub(crate) async fn call(&self, more: Given<'_>, when: Timestamp) -> Answered {
        let (status, body) = self.send(more, "application/json", when).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn send(&self, more: Given<'_>, accept: &str, when: Timestamp) -> (u16, String) {
        let fixed = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
        ];
        let pairs: Vec<String> = fixed
            .iter()
            .chain(more)
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        let (head, ()) = http::Request::post("/")
            .header("host", HOST)
            .header("accept", accept)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(())
            .unwrap()
            .into_parts();
        let peer = Peer {
            address: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            tls: true,
        };
        let body = Bytes::from(pairs.join("&"));
        let answer = self
            .world
            .api
            .answer(&head, &body, peer, when, "request-1")
            .await;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    pub(crate) async fn assume(
        &self,
        role: &str,
        token: &str,
        more: Given<'_>,
        when: Timestamp,
    ) -> Answered {
        let mut all = vec![
            ("RoleArn", role),
            ("RoleSessionName", "picker-0"),
            ("WebIdentityToken", token),
        ];
        all.retain(|(name, _)| !more.iter().any(|(known, _)| known == name));
        all.extend(more);
        self.call(&all, when).await
    }

    /// A token with these claims in the place of, or beside, good ones.
    pub(crate) fn token(&self, more: Value) -> String {
        self.key.sign(&claims(more)).unwrap()
    }
}

fn trust(actions: &str, condition: &str) -> String {
    let condition = if condition.is_empty() {
        String::new()
    } else {
        format!(r#","Condition":{condition}"#)
    };
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Federated":"arn:aws:iam::111122223333:oidc-provider/{PREFIX}"}},"Action":{actions}{condition}}}]}}"#
    )
}

pub(crate) const WEB: &str = r#""sts:AssumeRoleWithWebIdentity""#;
const WEB_ALL: &str =
    r#"["sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"]"#;

fn claims(more: Value) -> Value {
    let at = now().as_second();
    let mut claims = json!({
        "iss": ISSUER, "sub": SUBJECT, "aud": [CLIENT], "iat": at - 60, "nbf": at - 60, "exp": at + 3600, "jti": "t-1",
    });
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn down() -> FetchFailure {
    FetchFailure::Unreachable {
        document: "key set",
        source: Some(ExchangeFailure::Timeout),
    }
}

fn members(answered: &Answered) -> &Value {
    assert_eq!(answered.0, 200, "{}", answered.1);
    &answered.1["AssumeRoleWithWebIdentityResponse"]["AssumeRoleWithWebIdentityResult"]
}

fn keys_of(answered: &Answered) -> Keys {
    let credentials = &members(answered)["Credentials"];
    let text = |name: &str| credentials[name].as_str().unwrap().to_owned();
    Keys {
        id: text("AccessKeyId"),
        secret: text("SecretAccessKey"),
        token: Some(text("SessionToken")),
    }
}

#[tokio::test]
async fn a_token_becomes_a_session_of_the_role() {
    let world = WebWorld::new().await;
    let condition = format!(
        r#"{{"StringEquals":{{"{PREFIX}:aud":"{CLIENT}","{PREFIX}:sub":"{SUBJECT}","aws:FederatedProvider":"arn:aws:iam::111122223333:oidc-provider/{PREFIX}","sts:RoleSessionName":"picker-0"}}}}"#
    );
    let role = world.role("orchard-reader", WEB, &condition).await;
    let token = world.token(json!({}));
    let answered = world.assume(&role, &token, &[], now()).await;
    let of = members(&answered);
    assert_eq!(of["SubjectFromWebIdentityToken"], SUBJECT);
    assert_eq!(of["Audience"], CLIENT);
    assert_eq!(of["Provider"], ISSUER);
    assert_eq!(
        of["AssumedRoleUser"]["Arn"],
        "arn:aws:sts::111122223333:assumed-role/orchard-reader/picker-0"
    );
    assert!(of["PackedPolicySize"].is_null() && of["SourceIdentity"].is_null());
    assert_eq!(of["Credentials"]["Expiration"], 1773484013.0);
    let (_, who) = world.world.whoami(&keys_of(&answered), after(3599)).await;
    assert_eq!(
        who["GetCallerIdentityResponse"]["GetCallerIdentityResult"]["Arn"],
        "arn:aws:sts::111122223333:assumed-role/orchard-reader/picker-0"
    );
    assert_eq!(world.issuer.asked(), 1);

    let given = [
        ("RoleArn", role.as_str()),
        ("RoleSessionName", "picker-0"),
        ("WebIdentityToken", token.as_str()),
        ("DurationSeconds", "900"),
    ];
    let (status, xml) = world.send(&given, "*/*", now()).await;
    assert_eq!(status, 200, "{xml}");
    let order: Vec<usize> = [
        "<AssumeRoleWithWebIdentityResult>",
        "<Credentials>",
        "<SubjectFromWebIdentityToken>system:serviceaccount:orchard:picker<",
        "<AssumedRoleUser>",
        "<Provider>https://issuer.example/id/1<",
        "<Audience>sts.amazonaws.com<",
    ]
    .iter()
    .map(|member| {
        xml.find(member)
            .unwrap_or_else(|| panic!("{member}: {xml}"))
    })
    .collect();
    assert!(order.is_sorted(), "{xml}");
}

#[tokio::test]
async fn tokens_are_refused_with_the_texts_of_aws() {
    let world = WebWorld::new().await;
    let role = world.role("Dev", WEB, "").await;
    let at = now().as_second();
    let other = SigningKey::generate(Algorithm::Rs256).unwrap();
    let invalid = "InvalidIdentityToken";
    let cases: Vec<(String, &str, String)> = vec![
        ("opaque-access-token".into(), invalid, "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)".into()),
        (world.token(json!({"aud": null})), invalid, "Missing a required claim: aud".into()),
        (world.token(json!({"sub": null})), invalid, "Missing a required claim: sub".into()),
        (world.token(json!({"exp": at as f64 + 3600.5})), invalid, "The claim exp must be an integer".into()),
        (world.token(json!({"iss": "https://other.example"})), invalid, "No OpenIDConnect provider found in your account for https://other.example".into()),
        (world.token(json!({"iss": "https://issuer.example/id/1/"})), invalid, "No OpenIDConnect provider found in your account for https://issuer.example/id/1/".into()),
        (world.token(json!({"iss": "http://issuer.example/id/1"})), invalid, "No OpenIDConnect provider found in your account for http://issuer.example/id/1".into()),
        (world.token(json!({"iss": "https://cs.example/outbound/1"})), invalid, "Tokens from GetWebIdentityToken cannot be exchanged for credentials".into()),
        (world.token(json!({"aud": "sts.amazon.com"})), invalid, "Incorrect token audience".into()),
        (world.token(json!({"azp": "web"})), invalid, "Incorrect token audience".into()),
        (world.token(json!({"exp": at - 300})), "ExpiredTokenException", format!("Token expired: current date/time {at} must be before the expiration date/time {}", at - 300)),
        (world.token(json!({"iat": at - 700_000})), "ExpiredTokenException", format!("Token too old: current date/time {at}, issued at date/time {}", at - 700_000)),
        (world.token(json!({"nbf": at + 301})), invalid, format!("Token not yet valid: current date/time {at} must not be before the nbf date/time {}", at + 301)),
        (world.token(json!({"https://aws.amazon.com/roles": ["arn:aws:iam::111122223333:role/Other"]})), invalid, "The target role ARN is not present in the roles claim of the identity token".into()),
        (other.sign(&claims(json!({}))).unwrap(), invalid, NO_KEY.into()),
    ];
    for (token, code, text) in cases {
        let answered = world.assume(&role, &token, &[], now()).await;
        assert_eq!(error(&answered), (400, code, text.as_str()), "{token}");
        assert!(!answered.1.to_string().contains(&token) || token.len() < 30);
    }
    // Within five minutes after its end a token is good.
    let late = world.token(json!({"exp": at - 299}));
    members(&world.assume(&role, &late, &[], now()).await);
}

#[tokio::test]
async fn a_changed_or_stripped_signature_is_refused() {
    let world = WebWorld::new().await;
    let role = world.role("Dev", WEB, "").await;
    let token = world.token(json!({}));
    let [header, payload, signature]: [&str; 3] =
        token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let none = "eyJhbGciOiJub25lIn0";
    let text = "The signature of the token is not valid";
    let unsupported = "The token must be signed with RS256, RS384, RS512, ES256, ES384 or ES512";
    let admin = world.token(json!({"sub": "system:serviceaccount:kube-system:admin"}));
    let admin = admin.split('.').nth(1).unwrap();
    for (forged, told) in [
        (format!("{header}.{admin}.{signature}"), text),
        (format!("{header}.{payload}.{}", &signature[..20]), text),
        (format!("{header}.{payload}."), text),
        (format!("{none}.{payload}."), unsupported),
        (format!("{none}.{payload}.{signature}"), unsupported),
    ] {
        let answered = world.assume(&role, &forged, &[], now()).await;
        assert_eq!(error(&answered), (400, "InvalidIdentityToken", told));
    }
}

#[tokio::test]
async fn what_the_trust_policy_does_not_allow_and_what_is_not_there_look_alike() {
    let world = WebWorld::new().await;
    let equals =
        |key: &str, value: &str| format!(r#"{{"StringEquals":{{"{PREFIX}:{key}":"{value}"}}}}"#);
    let like = |value: &str| format!(r#"{{"StringLike":{{"{PREFIX}:sub":"{value}"}}}}"#);
    let cases = [
        ("a", WEB, equals("sub", SUBJECT), true),
        (
            "b",
            WEB,
            equals("sub", "system:serviceaccount:orchard:other"),
            false,
        ),
        // A wildcard in StringEquals is a character (acceptance 6).
        (
            "c",
            WEB,
            equals("sub", "system:serviceaccount:orchard:*"),
            false,
        ),
        ("d", WEB, like("system:serviceaccount:orchard:*"), true),
        ("e", WEB, like("system:serviceaccount:other:*"), false),
        ("f", WEB, equals("aud", "other"), false),
        // A key of another provider, and one that does not exist.
        (
            "g",
            WEB,
            r#"{"StringEquals":{"issuer.example/id/2:sub":"x"}}"#.into(),
            false,
        ),
        (
            "h",
            WEB,
            equals("kubernetes.io/namespace", "orchard"),
            false,
        ),
        ("i", r#""sts:AssumeRole""#, String::new(), false),
        (
            "j",
            WEB,
            r#"{"Null":{"sts:RoleAuthorizedByIdp":"true"}}"#.into(),
            true,
        ),
        (
            "k",
            WEB,
            r#"{"StringEquals":{"aws:SourceIp":"192.0.2.7"}}"#.into(),
            true,
        ),
    ];
    let refused = (
        403,
        "AccessDenied",
        "Not authorized to perform sts:AssumeRoleWithWebIdentity",
    );
    let token = world.token(
        json!({"kubernetes.io": {"namespace": "orchard", "serviceaccount": {"name": "picker"}}}),
    );
    for (name, actions, condition, allowed) in cases {
        let role = world.role(name, actions, &condition).await;
        let answered = world.assume(&role, &token, &[], now()).await;
        if allowed {
            members(&answered);
        } else {
            assert_eq!(error(&answered), refused, "{name}");
        }
    }
    let account = trusts(ACCOUNT, WEB, "");
    let for_account = world.world.role("for-account", &account).await;
    for role in [
        for_account.as_str(),
        "arn:aws:iam::111122223333:role/nobody",
        "arn:aws:iam::111122223333:role/team/a",
        "arn:aws:iam::111122223333:user/ana",
    ] {
        let answered = world.assume(role, &token, &[], now()).await;
        assert_eq!(error(&answered), refused, "{role}");
    }
    // The provider is looked for in the account of the role.
    let answered = world
        .assume("arn:aws:iam::444455556666:role/a", &token, &[], now())
        .await;
    let text = "No OpenIDConnect provider found in your account for https://issuer.example/id/1";
    assert_eq!(error(&answered), (400, "InvalidIdentityToken", text));
}

#[tokio::test]
async fn parameters_are_checked_before_the_token_is_read() {
    let world = WebWorld::new().await;
    let role = world.role("Dev", WEB, "").await;
    let cases: &[(Given<'_>, &str)] = &[
        (
            &[("WebIdentityToken", "a.b")],
            "1 validation error detected: Value at 'webIdentityToken' failed to satisfy constraint: Member must have length greater than or equal to 4",
        ),
        (
            &[("RoleSessionName", "a:b")],
            r"1 validation error detected: Value 'a:b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
        ),
        (
            &[("RoleArn", "nothing-valid-in-here")],
            "nothing-valid-in-here is invalid",
        ),
        (
            &[("ProviderId", "www.amazon.com")],
            "ProviderId must not be given with an OpenID Connect token.",
        ),
        (
            &[("DurationSeconds", "899")],
            "1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
        ),
    ];
    for (more, text) in cases {
        let answered = world.assume(&role, "no token", more, now()).await;
        assert_eq!(error(&answered), (400, "ValidationError", *text));
    }
    let answered = world.call(&[], now()).await;
    assert!(
        error(&answered)
            .2
            .starts_with("3 validation errors detected: Value null at 'roleArn'")
    );
}

#[tokio::test]
async fn limits_of_the_session_are_checked_after_permission() {
    let world = WebWorld::new().await;
    let role = world
        .world
        .role_with("Dev", &trust(WEB, ""), |new| {
            new.max_session_duration = 3600
        })
        .await;
    let refusing = world.role("No", r#""sts:AssumeRole""#, "").await;
    let token = world.token(json!({}));
    let long = format!(
        r#"{{"Version":"2012-10-17","Id":"{}","Statement":[]}}"#,
        "x".repeat(2048)
    );
    let cases: &[(Given<'_>, (u16, &str, &str))] = &[
        (
            &[("DurationSeconds", "3601")],
            (
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            ),
        ),
        (&[("Policy", "{")], (400, "MalformedPolicyDocument", "")),
        (
            &[(
                "PolicyArns.member.1.arn",
                "arn:aws:iam::aws:policy/NoSuchPolicy",
            )],
            (
                400,
                "MalformedPolicyDocument",
                "Policy arn:aws:iam::aws:policy/NoSuchPolicy does not exist or is not attachable.",
            ),
        ),
        (&[("Policy", &long)], (400, "ValidationError", "")),
    ];
    for (more, (status, code, text)) in cases {
        let answered = world.assume(&role, &token, more, now()).await;
        let told = error(&answered);
        assert_eq!(
            (told.0, told.1),
            (*status, *code),
            "{more:?}: {}",
            answered.1
        );
        assert!(text.is_empty() || told.2 == *text, "{}", told.2);
        if *code != "ValidationError" || more[0].0 == "DurationSeconds" {
            let answered = world.assume(&refusing, &token, more, now()).await;
            assert_eq!(error(&answered).1, "AccessDenied", "{more:?}");
        }
    }
    let policy = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:GetUser","Resource":"*"}}"#;
    let answered = world
        .assume(&role, &token, &[("Policy", policy)], now())
        .await;
    assert!(
        members(&answered)["PackedPolicySize"]
            .as_i64()
            .is_some_and(|size| size > 0)
    );
}

#[tokio::test]
async fn tags_and_source_identity_of_the_token_need_their_own_permission() {
    let world = WebWorld::new().await;
    let both = world.role("Both", WEB_ALL, "").await;
    let untagged = world
        .role(
            "Untagged",
            r#"["sts:AssumeRoleWithWebIdentity","sts:SetSourceIdentity"]"#,
            "",
        )
        .await;
    let unsourced = world
        .role(
            "Unsourced",
            r#"["sts:AssumeRoleWithWebIdentity","sts:TagSession"]"#,
            "",
        )
        .await;
    let conditional = world
        .role("Conditional", WEB_ALL, r#"{"StringEquals":{"aws:RequestTag/team":"blue","sts:SourceIdentity":"alice"},"ForAllValues:StringEquals":{"sts:TransitiveTagKeys":["team"],"aws:TagKeys":["team"]}}"#)
        .await;
    let tags = json!({"principal_tags": {"team": ["blue"]}, "transitive_tag_keys": ["team"]});
    let token = world.token(json!({
        "https://aws.amazon.com/tags": tags, "https://aws.amazon.com/source_identity": "alice",
    }));
    for role in [&both, &conditional] {
        let answered = world.assume(role, &token, &[], now()).await;
        assert_eq!(members(&answered)["SourceIdentity"], "alice");
        assert!(
            members(&answered)["PackedPolicySize"]
                .as_i64()
                .is_some_and(|size| size > 0)
        );
    }
    for (role, action) in [
        (&untagged, "sts:TagSession"),
        (&unsourced, "sts:SetSourceIdentity"),
    ] {
        let answered = world.assume(role, &token, &[], now()).await;
        let text = format!("Not authorized to perform {action}");
        assert_eq!(error(&answered), (403, "AccessDenied", text.as_str()));
    }
    // Transitive tags and the source identity go on into the next session.
    let next = world
        .world
        .role(
            "Next",
            &trusts(
                &both,
                EVERYTHING,
                r#"{"StringEquals":{"aws:PrincipalTag/team":"blue","aws:SourceIdentity":"alice"}}"#,
            ),
        )
        .await;
    world.world.allow_role("Both", ALL).await;
    let session = keys_of(&world.assume(&both, &token, &[], now()).await);
    let (status, answer) = world.world.assume(&session, &next, &[], now()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(result(&answer)["SourceIdentity"], "alice");

    let faults = [
        (
            json!({"https://aws.amazon.com/tags": {"principal_tags": {"team": ["a"], "Team": ["b"]}}}),
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ),
        (
            json!({"https://aws.amazon.com/tags": {"principal_tags": {"a": ["b"]}, "transitive_tag_keys": ["c"]}}),
            "InvalidParameterValue",
            "The specified transitive tag key must be included in the requested tags.",
        ),
        (
            json!({"https://aws.amazon.com/tags": {"principal_tags": {"a": ["b", "c"]}}}),
            "InvalidIdentityToken",
            "The claim https://aws.amazon.com/tags must be one text or a list of exactly one text for each key of principal_tags",
        ),
        (
            json!({"https://aws.amazon.com/source_identity": "a:b"}),
            "ValidationError",
            r"1 validation error detected: Value 'a:b' at 'sourceIdentity' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
        ),
    ];
    for (more, code, text) in faults {
        let answered = world.assume(&both, &world.token(more), &[], now()).await;
        assert_eq!(error(&answered), (400, code, text));
    }
}

#[tokio::test]
async fn a_token_that_names_its_roles_says_so_to_the_policy() {
    let world = WebWorld::new().await;
    let role = world
        .role("Dev", WEB, r#"{"Bool":{"sts:RoleAuthorizedByIdp":"true"}}"#)
        .await;
    let with = world.token(json!({"https://aws.amazon.com/roles": [role]}));
    members(&world.assume(&role, &with, &[], now()).await);
    let without = world.token(json!({}));
    let answered = world.assume(&role, &without, &[], now()).await;
    assert_eq!(error(&answered).1, "AccessDenied");
}

#[tokio::test]
async fn of_several_audiences_exactly_one_may_be_known() {
    let world = WebWorld::new().await;
    world
        .provider("111122223333", "two.example", &["a", "b"])
        .await;
    let trusting = trust(WEB, r#"{"StringEquals":{"two.example:aud":"b"}}"#).replace(
        &format!("oidc-provider/{PREFIX}"),
        "oidc-provider/two.example",
    );
    let role = world.world.role("Two", &trusting).await;
    let refused = (400, "InvalidIdentityToken", "Incorrect token audience");
    let cases = [
        (json!({"aud": ["b", "x"]}), Some("b")),
        (json!({"aud": ["a", "b"]}), None),
        (json!({"aud": ["x"], "azp": "b"}), Some("b")),
        (json!({"aud": ["b"], "azp": "x"}), None),
    ];
    for (mut more, audience) in cases {
        more["iss"] = json!("https://two.example");
        let answered = world.assume(&role, &world.token(more), &[], now()).await;
        match audience {
            Some(audience) => assert_eq!(members(&answered)["Audience"], audience),
            None => assert_eq!(error(&answered), refused),
        }
    }
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_told_apart() {
    let issuer = "https://issuer.example/id/1";
    let cases = [
        (
            down(),
            "IDPCommunicationError",
            "The identity provider could not be reached to verify the identity token",
        ),
        (
            FetchFailure::Status {
                document: "key set",
                status: 404,
            },
            "InvalidIdentityToken",
            NO_KEY,
        ),
        (
            FetchFailure::PrivateAddress {
                document: "key set",
            },
            "InvalidIdentityToken",
            NO_KEY,
        ),
        (
            FetchFailure::Untrusted {
                document: "key set",
            },
            "InvalidIdentityToken",
            "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
        ),
    ];
    for (failure, code, text) in cases {
        let world = WebWorld::new().await;
        let role = world.role("Dev", WEB, "").await;
        world.issuer.answers(Err(failure));
        let answered = world
            .assume(&role, &world.token(json!({"iss": issuer})), &[], now())
            .await;
        assert_eq!(error(&answered), (400, code, text));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_costs_one_fetch_and_an_outage_none() {
    let world = WebWorld::new().await;
    let role = world.role("Dev", WEB, "").await;
    members(
        &world
            .assume(&role, &world.token(json!({})), &[], now())
            .await,
    );
    let next = SigningKey::generate(Algorithm::Es256).unwrap();
    world.issuer.publishes(&[&world.key, &next]);
    let token = next.sign(&claims(json!({}))).unwrap();
    let calls = (0..50).map(|_| world.assume(&role, &token, &[], now()));
    for answered in futures::future::join_all(calls).await {
        members(&answered);
    }
    assert_eq!(world.issuer.asked(), 2);
    world.issuer.answers(Err(down()));
    tokio::time::advance(std::time::Duration::from_secs(23 * 3600)).await;
    members(&world.assume(&role, &token, &[], now()).await);
    let unknown = SigningKey::generate(Algorithm::Es256).unwrap();
    let answered = world
        .assume(
            &role,
            &unknown.sign(&claims(json!({}))).unwrap(),
            &[],
            now(),
        )
        .await;
    assert_eq!(error(&answered).1, "IDPCommunicationError");
}

#[tokio::test]
async fn clusters_of_ours_are_not_asked_and_their_claims_are_keys() {
    let world = WebWorld::new().await;
    let keys = KeySet::of([world.key.public().clone()]).unwrap();
    world.web.keys().register(ISSUER, Arc::new(keys));
    let role = world
        .role("Dev", WEB, &format!(r#"{{"StringEquals":{{"{PREFIX}:kubernetes.io/namespace":"orchard","{PREFIX}:kubernetes.io/pod/name":"picker-0"}}}}"#))
        .await;
    let of = |namespace: &str| {
        world.token(json!({"kubernetes.io": {
            "namespace": namespace, "serviceaccount": {"name": "picker", "uid": "1"}, "pod": {"name": "picker-0", "uid": "2"},
        }}))
    };
    members(&world.assume(&role, &of("orchard"), &[], now()).await);
    let answered = world.assume(&role, &of("other"), &[], now()).await;
    assert_eq!(error(&answered).1, "AccessDenied");
    assert_eq!(world.issuer.asked(), 0);
}

#[tokio::test]
async fn a_service_without_web_identities_says_nothing_about_them() {
    let world = World::new().await;
    let with = WebWorld::new().await;
    let without = WebWorld {
        world,
        ..WebWorld::new().await
    };
    let token = with.token(json!({}));
    let answered = without
        .assume("arn:aws:iam::111122223333:role/Dev", &token, &[], now())
        .await;
    assert_eq!((answered.0, error(&answered).1), (500, "InternalFailure"));
}
