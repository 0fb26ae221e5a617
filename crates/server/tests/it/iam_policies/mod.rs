//! Roles, managed policies, attachments, inline policies, boundaries, instance profiles, tags and service-linked roles: what
//! IAM answers, word by word.

mod entities;
mod instances_and_services;
mod managed_policies;
mod permission;
mod roles;

use crate::world::{ACCOUNT, ASSUME, Given, Keys, World, trusts};

/// Status, code and message.
type Refusal<'a> = (u16, &'a str, &'a str);

const POLICY: &str = "arn:aws:iam::111122223333:policy/p";
const ADMIN: &str = "arn:aws:iam::aws:policy/AdministratorAccess";
const OF_SERVICE: &str = "arn:aws:iam::aws:policy/aws-service-role/AmazonEKSServiceRolePolicy";
const DOCUMENT: &str = " {\"Version\": \"2012-10-17\",\n\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"s3:Get*\",\"Resource\":\"*\"}}\t";

fn parts(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open)
        .skip(1)
        .map(|rest| rest.split(&close).next().unwrap().to_owned())
        .collect()
}

fn part(text: &str, name: &str) -> String {
    parts(text, name).into_iter().next().unwrap_or_default()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

async fn send(world: &World, keys: &Keys, action: &str, more: Given<'_>) -> (u16, String) {
    let mut given = vec![("Action", action)];
    given.extend(more);
    let (status, _, body) = world.iam(keys, &given).await;
    (status, body)
}

/// An answer that must be a success.
async fn ok(world: &World, action: &str, more: Given<'_>) -> String {
    let (status, body) = send(world, &world.ana, action, more).await;
    assert_eq!(status, 200, "{action}: {body}");
    body
}

/// An answer that must be this error.
async fn refused(world: &World, action: &str, more: Given<'_>, expected: Refusal<'_>) {
    let (status, body) = send(world, &world.ana, action, more).await;
    let message = part(&body, "Message")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&amp;", "&");
    assert_eq!(
        (status, &*part(&body, "Code"), &*message),
        expected,
        "{action} {more:?}"
    );
}

/// All pages of a list, one entry each.
async fn pages(world: &World, action: &str, more: Given<'_>, entry: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut marker = String::new();
    loop {
        let mut given = vec![("MaxItems", "1")];
        given.extend(more);
        if !marker.is_empty() {
            given.push(("Marker", &marker));
        }
        let body = ok(world, action, &given).await;
        let found = parts(&body, entry);
        assert!(found.len() <= 1, "{body}");
        all.extend(found);
        let next = part(&body, "Marker");
        assert_eq!(part(&body, "IsTruncated"), (!next.is_empty()).to_string());
        if next.is_empty() {
            return all;
        }
        assert!(next.len() <= 320, "{}", next.len());
        marker = next;
    }
}

async fn with_policy() -> World {
    let world = World::new().await;
    ok(
        &world,
        "CreatePolicy",
        &[("PolicyName", "p"), ("PolicyDocument", DOCUMENT)],
    )
    .await;
    world
}

async fn add_role(world: &World, name: &str) {
    let trust = trusts(ACCOUNT, ASSUME, "");
    let given = [("RoleName", name), ("AssumeRolePolicyDocument", &*trust)];
    ok(world, "CreateRole", &given).await;
}
