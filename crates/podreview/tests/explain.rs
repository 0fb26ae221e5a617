//! The chain of a pod: each fact changed alone, and what becomes of the answer.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests fail by panicking"
)]

use countersign_podreview::explain::{
    Answer, Facts, Fallback, Found, Status, StepName, explain, fallback,
};
use countersign_podreview::trust::{NewTrust, PodIdentityTrust, WebIdentityTrust};
use countersign_podreview::{
    AccountFacts, AgentFacts, AssociationFacts, ClusterFacts, Fact, PodFacts, ProviderFacts,
    RoleFacts,
};
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::111122223333:role/cart";
const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/issuer.example/id/1";

fn pod(env: Value, volume: &str, mount: &str, audience: &str, path: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": "cart-0", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"serviceAccountName": "cart", "nodeName": "node-1",
            "containers": [{"name": "app", "env": env, "volumeMounts": [{"name": volume, "mountPath": mount}]}],
            "volumes": [{"name": volume, "projected": {"sources": [{"serviceAccountToken": {"audience": audience, "path": path, "expirationSeconds": 86400}}]}}]},
        "status": {"phase": "Running"}})
}

fn cluster() -> ClusterFacts {
    ClusterFacts {
        name: "demo".to_owned(),
        arn: "arn:aws:eks:us-east-1:111122223333:cluster/demo".to_owned(),
        issuer: Some("https://issuer.example/id/1".to_owned()),
    }
}

fn set(facts: &mut Facts, object: Value) {
    facts.pod = PodFacts::of_object(&object).unwrap();
    facts.object = object;
}

fn account(role: Option<&str>) -> Fact<AccountFacts> {
    let annotations = role.map(|role| ("eks.amazonaws.com/role-arn".to_owned(), role.to_owned()));
    Fact::Known(AccountFacts {
        namespace: "shop".to_owned(),
        name: "cart".to_owned(),
        annotations: annotations.into_iter().collect(),
    })
}

fn role(trust: &NewTrust) -> Fact<RoleFacts> {
    Fact::Known(RoleFacts {
        arn: ROLE.to_owned(),
        trust: trust.document(),
        tags: Vec::new(),
    })
}

fn irsa() -> Facts {
    let env = json!([{"name": "AWS_ROLE_ARN", "value": ROLE},
        {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"}]);
    let trust = NewTrust::Web(WebIdentityTrust {
        provider_arn: PROVIDER.to_owned(),
        audience: "sts.amazonaws.com".to_owned(),
        subjects: vec!["system:serviceaccount:shop:cart".to_owned()],
    });
    let provider = ProviderFacts {
        arn: PROVIDER.to_owned(),
        client_ids: vec!["sts.amazonaws.com".to_owned()],
    };
    let mut facts = Facts {
        account: account(Some(ROLE)),
        cluster: Fact::Known(cluster()),
        association: Fact::Missing,
        agent: Fact::Missing,
        ..Facts::default()
    };
    facts.roles.insert(ROLE.to_owned(), role(&trust));
    facts
        .providers
        .insert(PROVIDER.to_owned(), Fact::Known(provider));
    let mount = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
    set(
        &mut facts,
        pod(env, "aws-iam-token", mount, "sts.amazonaws.com", "token"),
    );
    facts
}

fn identity() -> Facts {
    let mount = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
    let env = json!([{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"},
        {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": format!("{mount}/eks-pod-identity-token")}]);
    let mut facts = Facts {
        account: account(None),
        cluster: Fact::Known(cluster()),
        association: Fact::Known(AssociationFacts {
            id: "a-0123456789abcdefg".to_owned(),
            namespace: "shop".to_owned(),
            service_account: "cart".to_owned(),
            role_arn: ROLE.to_owned(),
            created_at: Some(1_700_000_000),
            ..AssociationFacts::default()
        }),
        agent: Fact::Known(AgentFacts {
            pod: "kube-system/agent".to_owned(),
            ready: true,
        }),
        ..Facts::default()
    };
    facts.roles.insert(
        ROLE.to_owned(),
        role(&NewTrust::Pods(PodIdentityTrust::default())),
    );
    set(
        &mut facts,
        pod(
            env,
            "eks-pod-identity-token",
            mount,
            "pods.eks.amazonaws.com",
            "eks-pod-identity-token",
        ),
    );
    facts
}

type Change = fn(&mut Facts);
/// Name, facts, what is changed, the answer, and the step that decides with its status.
type Row = (
    &'static str,
    fn() -> Facts,
    Change,
    Answer,
    StepName,
    Status,
);

fn edit(facts: &mut Facts, change: impl FnOnce(&mut Value)) {
    let mut object = facts.object.clone();
    change(&mut object);
    set(facts, object);
}

#[test]
fn each_fact_alone_decides_with_its_step() {
    let rows: Vec<Row> = vec![
        (
            "irsa",
            irsa,
            |_| {},
            Answer::Yes,
            StepName::Trust,
            Status::Ok,
        ),
        (
            "no account",
            irsa,
            |f| f.account = Fact::Missing,
            Answer::No,
            StepName::ServiceAccount,
            Status::Fail,
        ),
        (
            "provider gone",
            irsa,
            |f| {
                f.providers.insert(PROVIDER.to_owned(), Fact::Missing);
            },
            Answer::No,
            StepName::Provider,
            Status::Fail,
        ),
        (
            "provider unread",
            irsa,
            |f| {
                f.providers
                    .insert(PROVIDER.to_owned(), Fact::Unread("x".to_owned()));
            },
            Answer::Unknown,
            StepName::Provider,
            Status::Unknown,
        ),
        (
            "audience",
            irsa,
            |f| {
                edit(f, |o| {
                    o["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["audience"] =
                        json!("vault")
                })
            },
            Answer::No,
            StepName::Trust,
            Status::Fail,
        ),
        (
            "role gone",
            irsa,
            |f| {
                f.roles.insert(ROLE.to_owned(), Fact::Missing);
            },
            Answer::No,
            StepName::Role,
            Status::Fail,
        ),
        (
            "role unread",
            irsa,
            |f| {
                f.roles
                    .insert(ROLE.to_owned(), Fact::Unread("x".to_owned()));
            },
            Answer::Unknown,
            StepName::Role,
            Status::Unknown,
        ),
        (
            "other account",
            irsa,
            |f| edit(f, |o| o["spec"]["serviceAccountName"] = json!("pay")),
            Answer::No,
            StepName::Trust,
            Status::Fail,
        ),
        (
            "no cluster",
            irsa,
            |f| f.cluster = Fact::Unread("x".to_owned()),
            Answer::Unknown,
            StepName::Issuer,
            Status::Unknown,
        ),
        (
            "no issuer",
            irsa,
            |f| {
                f.cluster = Fact::Known(ClusterFacts {
                    issuer: None,
                    ..cluster()
                })
            },
            Answer::No,
            StepName::Issuer,
            Status::Fail,
        ),
        (
            "plain issuer",
            irsa,
            |f| {
                f.cluster = Fact::Known(ClusterFacts {
                    issuer: Some("http://127.0.0.1/id/1".to_owned()),
                    ..cluster()
                })
            },
            Answer::No,
            StepName::Issuer,
            Status::Fail,
        ),
        (
            "volume gone",
            irsa,
            |f| edit(f, |o| o["spec"]["volumes"] = json!([])),
            Answer::No,
            StepName::Token,
            Status::Fail,
        ),
        (
            "annotation changed",
            irsa,
            |f| f.account = account(Some("arn:aws:iam::111122223333:role/new")),
            Answer::Yes,
            StepName::Mutation,
            Status::Warn,
        ),
        (
            "no role variable",
            irsa,
            |f| {
                edit(f, |o| {
                    o["spec"]["containers"][0]["env"]
                        .as_array_mut()
                        .unwrap()
                        .remove(0);
                })
            },
            Answer::No,
            StepName::Order,
            Status::Fail,
        ),
        (
            "keys",
            irsa,
            |f| {
                edit(
                    f,
                    |o| {
                        o["spec"]["containers"][0]["env"] = json!([{"name": "AWS_ACCESS_KEY_ID"}, {"name": "AWS_SECRET_ACCESS_KEY"}])
                    },
                )
            },
            Answer::Yes,
            StepName::Order,
            Status::Warn,
        ),
        (
            "half of keys",
            irsa,
            |f| {
                edit(f, |o| {
                    o["spec"]["containers"][0]["env"] = json!([{"name": "AWS_ACCESS_KEY_ID"}])
                })
            },
            Answer::No,
            StepName::Order,
            Status::Fail,
        ),
        (
            "missed",
            irsa,
            |f| {
                edit(f, |o| {
                    o["spec"]["containers"] = json!([{"name": "app"}]);
                    o["spec"]["volumes"] = json!([]);
                })
            },
            Answer::No,
            StepName::Mutation,
            Status::Fail,
        ),
        (
            "envFrom",
            irsa,
            |f| {
                edit(f, |o| {
                    o["spec"]["containers"] = json!([{"name": "app", "envFrom": [{}]}])
                })
            },
            Answer::Unknown,
            StepName::Mutation,
            Status::Unknown,
        ),
        (
            "ended",
            irsa,
            |f| edit(f, |o| o["status"]["phase"] = json!("Succeeded")),
            Answer::Yes,
            StepName::Pod,
            Status::Warn,
        ),
        (
            "identity",
            identity,
            |_| {},
            Answer::Yes,
            StepName::Agent,
            Status::Ok,
        ),
        (
            "no agent",
            identity,
            |f| f.agent = Fact::Missing,
            Answer::No,
            StepName::Agent,
            Status::Fail,
        ),
        (
            "agent not ready",
            identity,
            |f| f.agent = Fact::Known(AgentFacts::default()),
            Answer::No,
            StepName::Agent,
            Status::Fail,
        ),
        (
            "agent unread",
            identity,
            |f| f.agent = Fact::Unread("x".to_owned()),
            Answer::Unknown,
            StepName::Agent,
            Status::Unknown,
        ),
        (
            "association gone",
            identity,
            |f| f.association = Fact::Missing,
            Answer::No,
            StepName::Source,
            Status::Fail,
        ),
        (
            "association unread",
            identity,
            |f| f.association = Fact::Unread("x".to_owned()),
            Answer::Unknown,
            StepName::Source,
            Status::Unknown,
        ),
        (
            "trust of another",
            identity,
            |f| {
                let mut trust = PodIdentityTrust::default();
                trust
                    .request_tags
                    .insert("kubernetes-namespace".to_owned(), "till".to_owned());
                f.roles
                    .insert(ROLE.to_owned(), role(&NewTrust::Pods(trust)));
            },
            Answer::No,
            StepName::Trust,
            Status::Fail,
        ),
        (
            "audience of STS",
            identity,
            |f| {
                edit(f, |o| {
                    o["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["audience"] =
                        json!("sts.amazonaws.com")
                })
            },
            Answer::No,
            StepName::Token,
            Status::Fail,
        ),
        (
            "older than its association",
            identity,
            |f| {
                edit(f, |o| {
                    o["spec"]["containers"] = json!([{"name": "app"}]);
                    o["spec"]["volumes"] = json!([]);
                });
                if let Fact::Known(association) = &mut f.association {
                    association.created_at = Some(1_900_000_000);
                }
            },
            Answer::No,
            StepName::Mutation,
            Status::Fail,
        ),
        (
            "skip label",
            identity,
            |f| {
                edit(f, |o| {
                    o["metadata"]["labels"] =
                        json!({"eks.amazonaws.com/skip-pod-identity-webhook": "1"});
                    o["spec"]["containers"] = json!([{"name": "app"}]);
                })
            },
            Answer::No,
            StepName::Mutation,
            Status::Fail,
        ),
        (
            "target role gone",
            identity,
            |f| {
                if let Fact::Known(association) = &mut f.association {
                    association.target_role_arn =
                        Some("arn:aws:iam::999988887777:role/b".to_owned());
                }
                f.roles
                    .insert("arn:aws:iam::999988887777:role/b".to_owned(), Fact::Missing);
            },
            Answer::No,
            StepName::TargetRole,
            Status::Fail,
        ),
    ];
    for (name, base, change, answer, step, status) in rows {
        let mut facts = base();
        change(&mut facts);
        let explanation = explain(&facts);
        assert_eq!(explanation.answer, answer, "{name}\n{explanation}");
        let statuses: Vec<Status> = explanation
            .steps
            .iter()
            .filter(|own| own.step == step)
            .map(|own| own.status)
            .collect();
        assert!(
            statuses.contains(&status),
            "{name}: {statuses:?}\n{explanation}"
        );
        let order: Vec<StepName> = explanation.steps.iter().map(|own| own.step).collect();
        assert!(order.is_sorted(), "{name}: {order:?}");
    }
}

#[test]
fn skipped_containers_count_for_nothing() {
    let mut facts = irsa();
    edit(&mut facts, |object| {
        object["metadata"]["annotations"] = json!({"eks.amazonaws.com/skip-containers": "mesh"});
        object["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "mesh"}));
    });
    let explanation = explain(&facts);
    assert_eq!(explanation.answer, Answer::Yes, "{explanation}");
    assert_eq!(explanation.containers[1].answer, Answer::Skipped);
    assert_eq!(explanation.containers[1].credentials, Found::NodeRole);
}

/// Name, facts, what is changed, and the role and containers that would ask instance metadata.
type FallbackRow = (
    &'static str,
    fn() -> Facts,
    Change,
    Option<(Option<&'static str>, &'static [&'static str])>,
);

#[test]
fn containers_that_were_missed_end_at_instance_metadata() {
    fn bare(facts: &mut Facts) {
        edit(facts, |pod| {
            pod["spec"]["containers"][0] = json!({"name": "app"});
            pod["spec"]["volumes"] = json!([]);
        });
    }
    let rows: [FallbackRow; 12] = [
        ("injected by annotation", irsa, |_| {}, None),
        ("injected by association", identity, |_| {}, None),
        (
            "annotation, missed",
            irsa,
            bare,
            Some((Some(ROLE), &["app"])),
        ),
        (
            "association, missed",
            identity,
            bare,
            Some((None, &["app"])),
        ),
        (
            "one container added later",
            identity,
            |facts| {
                edit(facts, |pod| {
                    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
                    containers.push(json!({"name": "sidecar"}));
                });
            },
            Some((None, &["sidecar"])),
        ),
        (
            "keys of its own",
            identity,
            |facts| {
                bare(facts);
                edit(facts, |pod| {
                    pod["spec"]["containers"][0]["env"] = json!([
                        {"name": "AWS_ACCESS_KEY_ID", "value": "AKIAIOSFODNN7EXAMPLE"},
                        {"name": "AWS_SECRET_ACCESS_KEY", "value": "secret"},
                    ]);
                });
            },
            None,
        ),
        (
            "metadata switched off",
            identity,
            |facts| {
                bare(facts);
                edit(facts, |pod| {
                    pod["spec"]["containers"][0]["env"] =
                        json!([{"name": "AWS_EC2_METADATA_DISABLED", "value": "true"}]);
                });
            },
            None,
        ),
        (
            "variables from elsewhere",
            identity,
            |facts| {
                bare(facts);
                edit(facts, |pod| {
                    pod["spec"]["containers"][0]["envFrom"] =
                        json!([{"secretRef": {"name": "aws"}}]);
                });
            },
            Some((None, &["app"])),
        ),
        (
            "asks to be skipped",
            identity,
            |facts| {
                bare(facts);
                edit(facts, |pod| {
                    pod["metadata"]["annotations"] =
                        json!({"eks.amazonaws.com/skip-containers": "app"});
                });
            },
            None,
        ),
        (
            "nothing gives it a role",
            identity,
            |facts| {
                bare(facts);
                facts.association = Fact::Missing;
            },
            None,
        ),
        (
            "the association is not known",
            identity,
            |facts| {
                bare(facts);
                facts.association = Fact::Unread("down".to_owned());
            },
            None,
        ),
        (
            "the account is not known",
            irsa,
            |facts| {
                bare(facts);
                facts.account = Fact::Unread("down".to_owned());
            },
            None,
        ),
    ];
    for (name, facts, change, wanted) in rows {
        let mut facts = facts();
        change(&mut facts);
        let wanted = wanted.map(|(role, containers)| Fallback {
            role_arn: role.map(str::to_owned),
            containers: containers.iter().map(|name| (*name).to_owned()).collect(),
        });
        assert_eq!(fallback(&facts).unwrap(), wanted, "{name}");
    }
}
