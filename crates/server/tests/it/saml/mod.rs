//! SAML providers of IAM, and AssumeRoleWithSAML.

mod assume;
mod providers;

use std::net::SocketAddr;

use bytes::Bytes;
use countersign_arn::Tag;
use countersign_saml::name_qualifier;
use countersign_server::listen::Peer;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::Value;

use crate::identity_provider::{ENTITY, Idp, PROVIDER, ROLE, Response};
use crate::world::{Answered, HOST, Keys, World, after, error, escape, now, trusts};

/// What a role that trusts the provider says.
fn trusting(actions: &str, condition: &str) -> String {
    trusts(PROVIDER, actions, condition).replace("\"AWS\"", "\"Federated\"")
}

const ASSUME: &str = r#"["sts:AssumeRoleWithSAML","sts:TagSession","sts:SetSourceIdentity"]"#;
const NOT_AUTHORIZED: (u16, &str, &str) = (
    403,
    "AccessDenied",
    "Not authorized to perform sts:AssumeRoleWithSAML",
);

fn genuine() -> Response {
    Response::valid("2026-03-14T09:26:00Z", "2026-03-14T09:31:00Z")
}

fn part<'t>(text: &'t str, name: &str) -> &'t str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close))
        .map_or("", |(inner, _)| inner)
}

struct Saml {
    world: World,
    idp: Idp,
    /// Assertions made so far: each needs an ID of its own.
    made: std::cell::Cell<u32>,
}

impl Saml {
    /// A provider `corp` and a role `Dev` that trusts it.
    async fn new() -> Self {
        let world = World::new().await;
        let idp = Idp::new();
        let saml = Self {
            world,
            idp,
            made: std::cell::Cell::new(0),
        };
        saml.create("corp", &saml.idp.metadata()).await;
        saml.world.role("Dev", &trusting(ASSUME, "")).await;
        saml
    }

    async fn iam(&self, given: &[(&str, &str)]) -> (u16, String) {
        let (status, _, body) = self.world.iam(&self.world.ana, given).await;
        (status, body)
    }

    async fn create(&self, name: &str, metadata: &str) {
        let (status, body) = self
            .iam(&[
                ("Action", "CreateSAMLProvider"),
                ("Name", name),
                ("SAMLMetadataDocument", metadata),
            ])
            .await;
        assert_eq!(status, 200, "{body}");
    }

    /// A response with an assertion that was never used.
    fn fresh(&self, response: &Response) -> String {
        let number = self.made.get() + 1;
        self.made.set(number);
        let id = format!("_a{number}");
        let xml = response.xml().replace("\"_a\"", &format!("\"{id}\""));
        crate::identity_provider::encoded(&self.idp.signed(&xml, &id))
    }

    async fn assume(&self, response: &str, more: &[(&str, &str)], when: Timestamp) -> Answered {
        let mut given = vec![
            ("Action", "AssumeRoleWithSAML"),
            ("Version", "2011-06-15"),
            ("SAMLAssertion", response),
        ];
        for (name, value) in [("RoleArn", ROLE), ("PrincipalArn", PROVIDER)] {
            if !more.iter().any(|(known, _)| *known == name) {
                given.push((name, value));
            }
        }
        given.extend(more);
        let body: Vec<String> = given
            .iter()
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        let (head, ()) = http::Request::post("/")
            .header("host", HOST)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(())
            .unwrap()
            .into_parts();
        let peer = Peer {
            address: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            tls: true,
        };
        let answer = self
            .world
            .api
            .answer(
                &head,
                &Bytes::from(body.join("&")),
                peer,
                when,
                "6b1e0c58-1c2d-4e3f-8a9b-0c1d2e3f4a5b",
            )
            .await;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// With a response that was never used.
    async fn ask(&self, response: &Response, more: &[(&str, &str)]) -> Answered {
        self.assume(&self.fresh(response), more, now()).await
    }
}

fn result(answered: &Answered) -> &Value {
    assert_eq!(answered.0, 200, "{}", answered.1);
    &answered.1["AssumeRoleWithSAMLResponse"]["AssumeRoleWithSAMLResult"]
}

fn keys(result: &Value) -> Keys {
    let text = |name: &str| result["Credentials"][name].as_str().unwrap().to_owned();
    Keys {
        id: text("AccessKeyId"),
        secret: text("SecretAccessKey"),
        token: Some(text("SessionToken")),
    }
}
