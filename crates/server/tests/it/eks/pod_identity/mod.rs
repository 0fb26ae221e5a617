//! Pod identity associations (EKS API spec, section 10; pod identity spec, sections 6 and 9).

mod create;
mod extensions;
mod lists;
mod permissions;
mod trust;
mod update;

use countersign_server::aws::EksOptions;
use countersign_store::NewPodIdentityAssociation;
use countersign_store::records::AuthenticationMode::{Api, ConfigMap};
use serde_json::{Value, json};

use super::*;

const TARGET: &str = "/clusters/c1/pod-identity-associations";
const PICKER: &str = "arn:aws:iam::111122223333:role/team/Picker";
const OTHER: &str = "arn:aws:iam::111122223333:role/Other";
const UNTRUSTING: &str = "arn:aws:iam::111122223333:role/Untrusting";
const ELSEWHERE: &str = "arn:aws:iam::444455556666:role/Target";
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}"#;
const UNTRUSTED: &str = "Trust policy of the role provided is invalid.";
const POLICY_NEEDS: &str = "When policy is specified, disableSessionTags must be set to true";
const DRY: &[(&str, &str)] = &[("x-countersign-dry-run", "true")];

/// A trust policy with one statement for the service.
fn pods(actions: &str, condition: Value) -> String {
    let mut statement = json!({
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": serde_json::from_str::<Value>(actions).unwrap(),
    });
    if !condition.is_null() {
        statement["Condition"] = condition;
    }
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

const BOTH: &str = r#"["sts:AssumeRole", "sts:TagSession"]"#;

async fn world() -> World {
    let world = World::new().await;
    world.cluster("c1", Api).await;
    let trust = pods(BOTH, Value::Null);
    world
        .role_with("Picker", &trust, |role| role.path = "/team/".into())
        .await;
    world.role("Other", &trust).await;
    world.role("Untrusting", &trusts(ACCOUNT, ASSUME, "")).await;
    world
}

fn body(namespace: &str, service_account: &str, more: &Value) -> Value {
    let mut body = json!({
        "namespace": namespace,
        "serviceAccount": service_account,
        "roleArn": PICKER,
    });
    for (member, value) in more.as_object().unwrap() {
        body[member] = value.clone();
    }
    body
}

fn path(id: &str) -> String {
    format!("{TARGET}/{id}")
}

impl World {
    async fn associate(&self, namespace: &str, service_account: &str, more: Value) -> Reply {
        let body = body(namespace, service_account, &more);
        self.eks(&self.ana, "POST", TARGET, &body).await
    }

    /// The id of a new association.
    async fn associated(&self, namespace: &str, service_account: &str, more: Value) -> String {
        let made = self.associate(namespace, service_account, more).await.ok();
        let id = made["association"]["associationId"].as_str();
        id.unwrap().to_owned()
    }
}
