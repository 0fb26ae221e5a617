//! Credentials of real AWS STS for pods (`identity: aws`). The embedded server stands for AWS: it checks every signature,
//! trust policy, tag and external id, over HTTP.

use countersign_server::aws::RealSts;
use countersign_upstream::clock::SystemClock;
use countersign_upstream::ec2::AwsCredentials;
use countersign_upstream::http::HttpsClient;
use countersign_upstream::roles::{StsRoles, StsRolesOptions};
use zeroize::Zeroizing;

use super::clients::served;
use super::*;

struct Aws {
    world: World,
    url: String,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl Aws {
    /// AWS with two accounts; `ana` is Countersign there.
    async fn start() -> Self {
        let mut world = World::new().await;
        let directory = &world.directory;
        directory
            .maintain_session_keys(Timestamp::now())
            .await
            .unwrap();
        let api = std::mem::replace(
            &mut world.api,
            AwsApi::new(
                Arc::clone(&world.keys),
                directory.clone(),
                Arc::new(Metrics::new()),
                0,
                false,
            ),
        );
        let (url, stop) = served(api).await;
        Self {
            world,
            url,
            _stop: stop,
        }
    }

    fn sts(&self, keys: &Keys) -> RealSts {
        real(&self.url, keys)
    }
}

fn real(url: &str, keys: &Keys) -> RealSts {
    let credentials = AwsCredentials {
        access_key_id: keys.id.clone(),
        secret_access_key: Zeroizing::new(keys.secret.clone()),
        session_token: None,
        expires_at: None,
    };
    let options = StsRolesOptions {
        partition: countersign_arn::Partition::Aws,
        region: "us-east-1".to_owned(),
        credentials: Arc::new(credentials),
        endpoint: Some(url.parse().unwrap()),
    };
    let http = HttpsClient::builder().build().unwrap();
    let roles = StsRoles::new(http, Arc::new(SystemClock), &options).unwrap();
    RealSts::new(Arc::new(roles))
}

fn options(real: RealSts) -> EksAuthOptions {
    EksAuthOptions {
        real: Some(real),
        ..EksAuthOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_get_credentials_of_real_sts() {
    let aws = Aws::start().await;
    let pods = Pods::with(options(aws.sts(&aws.world.ana))).await;
    let namespace = r#"{"StringEquals":{"aws:RequestTag/kubernetes-namespace":"orchard","aws:RequestTag/eks-cluster-name":"orchard"}}"#;
    let reader = aws
        .world
        .role("orchard-reader", &trusts(ACCOUNT, BOTH, namespace))
        .await;
    aws.world.allow_role("orchard-reader", ALL).await;
    let untagged = aws
        .world
        .role("untagged", &trusts(ACCOUNT, ASSUME, ""))
        .await;
    aws.world.allow_role("untagged", ALL).await;
    let external =
        r#"{"StringEquals":{"sts:ExternalId":"us-east-1/111122223333/orchard/orchard/far"}}"#;
    let far = aws
        .world
        .role("far", &trusts(ACCOUNT, ASSUME, external))
        .await;

    pods.associate("picker", &reader, |_| ()).await;
    let answer = pods.ask(&pods.world.ana, &pods.token("picker")).await.ok();
    let arn = answer["assumedRoleUser"]["arn"].as_str().unwrap();
    assert!(
        arn.starts_with(
            "arn:aws:sts::111122223333:assumed-role/orchard-reader/eks-orchard-picker-0-"
        ),
        "{arn}"
    );
    // They are credentials of that STS, and not of ours.
    let (_, who) = aws.world.whoami(&keys_of(&answer), Timestamp::now()).await;
    assert_eq!(
        who["GetCallerIdentityResponse"]["GetCallerIdentityResult"]["Arn"],
        arn
    );
    assert_eq!(pods.world.whoami(&keys_of(&answer), now()).await.0, 403);
    let expires = answer["credentials"]["expiration"].as_f64().unwrap();
    let life = expires - Timestamp::now().as_second() as f64;
    assert!((3500.0..3700.0).contains(&life), "{life}");

    // As the association says.
    pods.associate("lasting", &reader, |new| {
        new.sessions.name_template = Some("{namespace}.{pod}".into());
        new.sessions.duration_seconds = Some(900);
    })
    .await;
    let reply = pods.ask(&pods.world.ana, &pods.token("lasting")).await;
    let answer = reply.ok();
    let arn = answer["assumedRoleUser"]["arn"].as_str().unwrap();
    assert!(arn.ends_with("/orchard.lasting-0"), "{arn}");
    let expires = answer["credentials"]["expiration"].as_f64().unwrap();
    let life = expires - Timestamp::now().as_second() as f64;
    assert!((800.0..1000.0).contains(&life), "{life}");

    // The target role, with the external id where there are no tags.
    for (account, target, allowed) in [("far", &far, true), ("near", &far, false)] {
        pods.associate(account, &untagged, |new| {
            new.target_role_arn = Some(target.as_str().into());
            new.disable_session_tags = Some(true);
        })
        .await;
        let reply = pods.ask(&pods.world.ana, &pods.token(account)).await;
        if allowed {
            let arn = reply.ok()["assumedRoleUser"]["arn"].to_string();
            assert!(arn.contains("assumed-role/far/eks-orchard-"), "{arn}");
        } else {
            reply.refused(400, "AccessDeniedException", "target role");
        }
    }

    // Tags that the role does not let be passed.
    pods.associate("tagged", &untagged, |_| ()).await;
    pods.ask(&pods.world.ana, &pods.token("tagged"))
        .await
        .refused(400, "AccessDeniedException", "associated role");
    let text = pods.metrics.render();
    assert!(
        text.contains(r#"countersign_eks_auth_upstream_seconds_count{result="ok"}"#),
        "{text}"
    );
    assert!(text.contains(r#"countersign_eks_auth_upstream_seconds_count{result="refused"}"#));
}

/// What is wrong with Countersign's own credentials, or with AWS, is not final for a pod.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_our_own_credentials_pass() {
    let aws = Aws::start().await;
    let role = aws.world.role("r", &trusts(ACCOUNT, BOTH, "")).await;
    let forged = Keys {
        secret: "a".repeat(40),
        ..aws.world.ana.clone()
    };
    let unknown = Keys {
        id: "AKIAIOSFODNN7EXAMPLE".into(),
        ..aws.world.ana.clone()
    };
    let nobody = {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", closed.local_addr().unwrap())
    };
    let cases = [
        aws.sts(&forged),
        aws.sts(&unknown),
        real(&nobody, &aws.world.ana),
    ];
    for real in cases {
        let pods = Pods::with(options(real)).await;
        pods.associate("picker", &role, |_| ()).await;
        pods.ask(&pods.world.ana, &pods.token("picker"))
            .await
            .refused(503, "ServiceUnavailableException", "AWS STS");
    }
}
