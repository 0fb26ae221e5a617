//! Groups, passwords, MFA devices and the account, as IAM answers them.

mod account;
mod devices;
mod groups;
mod passwords;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_store::records::InlinePolicy;
use countersign_store::{SecretString, totp_code};
use jiff::Timestamp;

use crate::world::{Keys, World, after, now, trusts};

const IAM: (&str, &str) = ("iam", "2010-05-08");

fn part<'t>(text: &'t str, name: &str) -> &'t str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close))
        .map_or("", |(inner, _)| inner)
}

fn parts(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split_once(&close))
        .map(|(inner, _)| inner.to_owned())
        .collect()
}

/// One call; the parameters are `Name=Value`.
async fn at(world: &World, keys: &Keys, call: &str, when: Timestamp) -> (u16, String) {
    let mut words = call.split(' ');
    let mut given = vec![("Action", words.next().unwrap())];
    given.extend(words.map(|word| word.split_once('=').unwrap()));
    let (status, _, body) = world.send(keys, IAM, &given, when).await;
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn ok(world: &World, call: &str) -> String {
    let (status, body) = at(world, &world.ana, call, now()).await;
    assert_eq!(status, 200, "{call}: {body}");
    body
}

/// `STATUS CODE: message`
async fn refused_to(world: &World, keys: &Keys, call: &str) -> String {
    let (status, body) = at(world, keys, call, now()).await;
    let message = part(&body, "Message")
        .replace("&quot;", "\"")
        .replace("&amp;", "&");
    format!("{status} {}: {message}", part(&body, "Code"))
}

async fn refused(world: &World, call: &str) -> String {
    refused_to(world, &world.ana, call).await
}

async fn allow(world: &World, user: &str, document: &str) {
    let policy = InlinePolicy {
        name: "p".into(),
        document: document.into(),
    };
    world
        .directory
        .put_user_policy(world.account, user, policy)
        .await
        .unwrap();
}

/// All entries of a list, page by page of one.
async fn paged(world: &World, call: &str, member: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut marker = String::new();
    for _ in 0..200 {
        let more = if marker.is_empty() {
            String::new()
        } else {
            format!(" Marker={marker}")
        };
        let body = ok(world, &format!("{call} MaxItems=1{more}")).await;
        let found = parts(&body, member);
        assert!(found.len() <= 1, "{call}: {body}");
        all.extend(found);
        if part(&body, "IsTruncated") == "false" {
            assert!(!body.contains("<Marker>"), "{body}");
            return all;
        }
        marker = part(&body, "Marker").to_owned();
        assert!((1..=320).contains(&marker.len()), "{marker}");
    }
    panic!("{call} does not end");
}

struct Device {
    serial: String,
    seed: SecretString,
}

impl Device {
    async fn new(world: &World, name: &str) -> Self {
        let made = ok(
            world,
            &format!("CreateVirtualMFADevice VirtualMFADeviceName={name}"),
        )
        .await;
        let seed = STANDARD.decode(part(&made, "Base32StringSeed")).unwrap();
        let picture = STANDARD.decode(part(&made, "QRCodePNG")).unwrap();
        assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));
        Self {
            serial: part(&made, "SerialNumber").to_owned(),
            seed: SecretString::new(String::from_utf8(seed).unwrap()),
        }
    }

    fn code(&self, seconds: i64) -> String {
        totp_code(&self.seed, after(seconds)).unwrap()
    }

    fn codes(&self, seconds: i64) -> String {
        format!(
            "SerialNumber={} AuthenticationCode1={} AuthenticationCode2={}",
            self.serial,
            self.code(seconds),
            self.code(seconds + 30)
        )
    }
}
