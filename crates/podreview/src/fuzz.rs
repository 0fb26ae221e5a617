//! Entry points for fuzzing: arbitrary bytes, no panic.

use serde_json::Value;

use crate::explain::{Facts, explain};
use crate::fact::{AccountFacts, AssociationFacts, ClusterFacts, Fact};
use crate::pod::PodFacts;
use crate::trust::{
    CheckFacts, NewTrust, PodIdentityTrust, WebIdentityTrust, check, merge, without_subject,
};

/// Reads arbitrary bytes as a pod, explains it, and prints the explanation.
pub fn pod(data: &[u8]) {
    let Ok(object) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let Ok(pod) = PodFacts::of_object(&object) else {
        return;
    };
    let facts = Facts {
        account: Fact::Known(AccountFacts::of_object(&object)),
        cluster: Fact::Known(ClusterFacts {
            name: "demo".to_owned(),
            arn: "arn:aws:eks:us-east-1:111122223333:cluster/demo".to_owned(),
            issuer: Some("https://issuer.example/id/1".to_owned()),
        }),
        association: Fact::Known(AssociationFacts::default()),
        pod,
        object,
        ..Facts::default()
    };
    let _ = explain(&facts).to_string();
}

/// Reads arbitrary bytes as a trust policy and changes it. What comes out is a policy again, and says what was asked for.
pub fn trust(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = crate::pretty(text);
    let _ = check(text, &CheckFacts::default());
    let provider_arn = "arn:aws:iam::111122223333:oidc-provider/issuer.example/id/1".to_owned();
    let web = NewTrust::Web(WebIdentityTrust {
        provider_arn: provider_arn.clone(),
        audience: "sts.amazonaws.com".to_owned(),
        subjects: vec!["system:serviceaccount:a:b".to_owned()],
    });
    for new in [web, NewTrust::Pods(PodIdentityTrust::default())] {
        if let Ok(merged) = merge(text, &new) {
            let again = merge(&merged.document, &new).map(|again| again.change);
            assert!(
                matches!(again, Ok(crate::trust::Change::Unchanged)),
                "merged twice is merged once"
            );
        }
    }
    let _ = without_subject(text, &provider_arn, "system:serviceaccount:a:b");
}
