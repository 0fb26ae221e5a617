//! The audit record of a call for a pod (Pod Identity spec, section 5.2, step 6).

use std::time::Duration;

use countersign_server::audit::{Audit, Output, Settings};
use countersign_server::usage::Usage;

use super::*;

#[tokio::test]
async fn a_record_names_pod_node_association_and_both_sessions_and_no_secret() {
    let mut pods = Pods::new().await;
    let id = pods.picker().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.json");
    let audit = Audit::start(Settings::new(Output::File(path.clone()))).unwrap();
    pods.world.api = AwsApi::new(
        Arc::clone(&pods.world.keys),
        pods.world.directory.clone(),
        Arc::clone(&pods.metrics),
        0,
        false,
    )
    .with_issuers(Arc::clone(&pods.issuers))
    .recorded_in(audit.clone(), Arc::new(Usage::default()), "eu-west-1");
    let first = pods
        .role("111122223333", "first", &trusts_pods(BOTH, ""))
        .await;
    pods.world.allow_role("first", ALL).await;
    let target = pods
        .role("111122223333", "target", &trusts(ACCOUNT, BOTH, ""))
        .await;
    pods.world.allow_role("target", ALL).await;
    pods.associate("two", &first, |new| {
        new.target_role_arn = Some(target.as_str().into());
    })
    .await;

    let good = pods.token("picker");
    let one = pods.ask(&pods.world.ana, &good).await.ok();
    let two = pods.ask(&pods.world.ana, &pods.token("two")).await.ok();
    pods.ask(&pods.world.ana, &pods.token("owner")).await;
    pods.world
        .iam(&keys_of(&two), &[("Action", "ListRoles")])
        .await;
    assert!(audit.stop(Duration::from_secs(10)));
    let text = std::fs::read_to_string(&path).unwrap();
    for secret in [
        good.rsplit('.').next().unwrap(),
        one["credentials"]["secretAccessKey"].as_str().unwrap(),
        one["credentials"]["sessionToken"].as_str().unwrap(),
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), 4, "{text}");
    let record = &records[0];
    assert_eq!(record["eventSource"], "eks-auth.amazonaws.com");
    assert_eq!(record["eventName"], "AssumeRoleForPodIdentity");
    assert_eq!(record["awsRegion"], "us-east-1");
    assert_eq!(record["requestParameters"]["clusterName"], CLUSTER);
    assert_eq!(
        record["requestParameters"]["token"],
        "HIDDEN_DUE_TO_SECURITY_REASONS"
    );
    let answered = &record["responseElements"];
    assert_eq!(
        answered["credentials"]["accessKeyId"],
        one["credentials"]["accessKeyId"]
    );
    assert_eq!(answered["assumedRoleUser"], one["assumedRoleUser"]);
    assert_eq!(answered["podIdentityAssociation"]["associationId"], id);
    let pod =
        |record: &Value| record["additionalEventData"]["countersign"]["podCredentials"].clone();
    assert_eq!(
        pod(record),
        json!({
            "cluster": CLUSTER_ARN, "namespace": "orchard", "serviceAccount": "picker", "podName": "picker-0", "podUid": UID,
            "node": NODE, "association": one["podIdentityAssociation"]["associationArn"], "session": one["assumedRoleUser"]["arn"],
        })
    );
    let name = two["assumedRoleUser"]["arn"]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap();
    assert_eq!(
        pod(&records[1])["firstSession"],
        format!("arn:aws:sts::111122223333:assumed-role/first/{name}")
    );
    assert_eq!(pod(&records[1])["session"], two["assumedRoleUser"]["arn"]);
    assert_eq!(records[2]["errorCode"], "ResourceNotFoundException");
    assert_eq!(pod(&records[2])["podName"], "owner-0");
    assert!(pod(&records[2])["session"].is_null());
    // What the pod does with its credentials is traced to it.
    let by = &records[3]["additionalEventData"]["countersign"]["podIdentity"];
    assert_eq!(
        (&by["podUid"], &by["namespace"]),
        (&json!(UID), &json!("orchard"))
    );
}
