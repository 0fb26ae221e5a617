//! Shared configuration files, credential plans and endpoints, as tables in `tests/data`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails should panic"
)]

mod common;

use std::collections::BTreeMap;

use common::Shell;
use countersign_client::credentials::{Plan, SdkSource, plan};
use countersign_client::endpoint::{Endpoint, Service};
use countersign_client::ini;
use countersign_client::profile::Profiles;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IniCase {
    name: String,
    text: String,
    #[serde(default)]
    sections: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    nested: BTreeMap<String, String>,
    error: Option<String>,
}

#[test]
fn files_read_as_the_aws_cli_reads_them() {
    let cases: Vec<IniCase> = serde_json::from_str(include_str!("data/ini.json")).unwrap();
    for case in cases {
        match (ini::parse(&case.text), case.error) {
            (Ok(sections), None) => {
                let headers: Vec<_> = sections.iter().map(|s| s.header.as_str()).collect();
                assert_eq!(headers.len(), case.sections.len(), "{}", case.name);
                for (header, properties) in &case.sections {
                    let section = sections.iter().find(|s| s.header == *header).unwrap();
                    for (name, value) in properties {
                        assert_eq!(section.get(name), Some(value.as_str()), "{}", case.name);
                    }
                }
                for (path, value) in &case.nested {
                    let [header, parent, name] = path.split(' ').collect::<Vec<_>>()[..] else {
                        panic!("{path}")
                    };
                    let section = sections.iter().find(|s| s.header == header).unwrap();
                    assert_eq!(section.nested(parent, name), Some(value.as_str()));
                }
            }
            (Err(error), Some(text)) => {
                assert!(error.to_string().contains(&text), "{}: {error}", case.name);
                assert!(!error.to_string().contains("AKIA"));
            }
            (result, _) => panic!("{}: {result:?}", case.name),
        }
    }
    assert!(ini::parse(&"#".repeat((1 << 20) + 1)).is_err());
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanCase {
    name: String,
    flag: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    config: Option<String>,
    credentials: Option<String>,
    plan: Option<String>,
    error: Option<String>,
}

fn shell(env: &BTreeMap<String, String>, config: Option<&str>, credentials: Option<&str>) -> Shell {
    let mut shell = Shell::new();
    for (name, value) in env {
        shell = shell.set(name, value);
    }
    if let Some(text) = config {
        shell = shell.file(".aws/config", text);
    }
    if let Some(text) = credentials {
        shell = shell.file(".aws/credentials", text);
    }
    shell
}

fn describe(plan: &Plan<'_>) -> String {
    match plan {
        Plan::Found(found) => format!("{} from {}", found.access_key_id, found.source),
        Plan::AssumeRole(role) => format!(
            "role {} of {} with {}",
            role.role_arn,
            role.profile,
            describe(&role.source)
        ),
        Plan::Sdk(source) => match source {
            SdkSource::Profile(name) => format!("sdk profile {name}"),
            SdkSource::WebIdentity => "sdk web-identity".to_owned(),
            SdkSource::Container => "sdk container".to_owned(),
            SdkSource::InstanceMetadata => "sdk instance".to_owned(),
            SdkSource::Machine => "sdk machine".to_owned(),
        },
    }
}

#[test]
fn credentials_are_sought_in_the_order_of_the_aws_cli() {
    let cases: Vec<PlanCase> =
        serde_json::from_str(include_str!("data/credential-plans.json")).unwrap();
    let mut failures = Vec::new();
    for case in cases {
        let shell = shell(
            &case.env,
            case.config.as_deref(),
            case.credentials.as_deref(),
        );
        let env = shell.environment();
        let got = Profiles::load(&env, case.flag.as_deref())
            .map_err(|error| error.to_string())
            .and_then(|profiles| {
                plan(&env, &profiles)
                    .map(|p| describe(&p))
                    .map_err(|error| error.to_string())
            });
        let fine = match (&got, &case.plan, &case.error) {
            (Ok(got), Some(plan), None) => got == plan,
            (Err(got), None, Some(error)) => got.contains(error),
            _ => false,
        };
        if !fine {
            failures.push(format!("{}: {got:?}", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointCase {
    name: String,
    region: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    config: Option<String>,
    sts: Option<String>,
    eks: Option<String>,
    signed: Option<String>,
    error: Option<String>,
}

#[test]
fn endpoints_follow_environment_and_profile() {
    let cases: Vec<EndpointCase> =
        serde_json::from_str(include_str!("data/endpoints.json")).unwrap();
    for case in cases {
        let shell = shell(&case.env, case.config.as_deref(), None);
        let env = shell.environment();
        let profiles = Profiles::load(&env, None).unwrap();
        let resolve =
            |service| Endpoint::resolve(service, &case.region, &env, &profiles.selected());
        match (resolve(Service::Sts), &case.error) {
            (Ok(endpoint), None) => {
                assert_eq!(Some(endpoint.url()), case.sts.as_deref(), "{}", case.name);
                let signed = case.signed.as_ref().unwrap_or(&case.region);
                assert_eq!(endpoint.region(), signed, "{}", case.name);
            }
            (Err(error), Some(text)) => {
                assert!(error.to_string().contains(text), "{}: {error}", case.name);
            }
            (result, _) => panic!("{}: {result:?}", case.name),
        }
        if let Some(eks) = &case.eks {
            assert_eq!(resolve(Service::Eks).unwrap().url(), eks, "{}", case.name);
        }
    }
}

#[test]
fn hosts_that_clients_sign_for_are_hosts_that_verifiers_accept() {
    use countersign_arn::Partition;
    use countersign_token::{Options, PresignedToken, Rules, known_regions, mint};
    let now = common::NOW.parse().unwrap();
    for region in known_regions() {
        let rules = Rules::new(Options {
            partition: Partition::of_region(region).unwrap(),
            ..Options::default()
        })
        .unwrap();
        for (fips, dual_stack) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut shell = Shell::new();
            if fips {
                shell = shell.set("AWS_USE_FIPS_ENDPOINT", "true");
            }
            if dual_stack {
                shell = shell.set("AWS_USE_DUALSTACK_ENDPOINT", "true");
            }
            let env = shell.environment();
            let profiles = Profiles::load(&env, None).unwrap();
            let endpoint =
                Endpoint::resolve(Service::Sts, region, &env, &profiles.selected()).unwrap();
            let token = mint(&format!(
                "{endpoint}?Action=GetCallerIdentity&X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=x-k8s-aws-id"
            ));
            let parsed = PresignedToken::parse(&token, &rules, now)
                .unwrap_or_else(|error| panic!("{endpoint}: {error}"));
            assert_eq!(parsed.region_label().as_str(), *region);
        }
    }
}

#[test]
fn debug_output_shows_no_secret() {
    let shell = shell(
        &BTreeMap::new(),
        None,
        Some("[default]\naws_access_key_id=AKIDEXAMPLE\naws_secret_access_key=s3cret\naws_session_token=t0ken\n"),
    )
    .set("AWS_SECRET_ACCESS_KEY", "env-s3cret");
    let env = shell.environment();
    let profiles = Profiles::load(&env, None).unwrap();
    let plan = plan(&env, &profiles).unwrap();
    for shown in [
        format!("{profiles:?}"),
        format!("{plan:?}"),
        format!("{env:?}"),
    ] {
        assert!(
            !shown.contains("s3cret") && !shown.contains("t0ken"),
            "{shown}"
        );
    }
}
