//! Service accounts: list, watch, and the one read on a miss (webhook spec, section 9).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod common;

use std::time::Duration;

use common::api_server::ApiServer;
use countersign_sources::kubernetes::{
    AccountLookup, AccountReads, ServiceAccountOptions, ServiceAccounts,
};
use serde_json::{Value, json};
use tokio::time::Instant;

const LIST: &str = "GET /api/v1/serviceaccounts?limit=250";
const GET: &str = "GET /api/v1/namespaces/orchard/serviceaccounts/picker";

fn account(namespace: &str, name: &str, version: u64, role: Option<&str>) -> Value {
    let annotations = role.map(|role| json!({"eks.amazonaws.com/role-arn": role, "other": "x"}));
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {
            "name": name, "namespace": namespace, "uid": "u", "resourceVersion": version.to_string(),
            "annotations": annotations, "managedFields": [{"manager": "helm"}],
        },
        "secrets": [{"name": "s"}],
    })
}

fn list(version: u64, next: &str, items: &[Value]) -> Value {
    json!({
        "kind": "ServiceAccountList", "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string(), "continue": next},
        "items": items,
    })
}

fn watch(version: u64) -> String {
    format!(
        "GET /api/v1/serviceaccounts?watch=true&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion={version}"
    )
}

fn options() -> ServiceAccountOptions {
    ServiceAccountOptions {
        retry_after: Duration::from_millis(20),
        ..ServiceAccountOptions::default()
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn role(found: &AccountLookup) -> String {
    match found {
        AccountLookup::Known(settings) => settings.role_arn.as_deref().unwrap_or("-").to_owned(),
        other => format!("{other:?}"),
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn lists_pages_follows_changes_and_survives_breaks() {
    let mut server = ApiServer::start().await;
    let accounts = ServiceAccounts::new(server.client(), options());
    tokio::spawn(accounts.clone().run());
    let first = [
        account("orchard", "picker", 5, Some("a")),
        account("orchard", "default", 4, None),
    ];
    server
        .expect(LIST)
        .await
        .answer(200, &list(9, "to k=n", &first));
    assert!(!accounts.health().listed);
    server
        .expect("GET /api/v1/serviceaccounts?limit=250&continue=to%20k%3Dn")
        .await
        .answer(200, &list(9, "", &[account("lichen", "x", 3, Some("b"))]));
    let feed = server.expect(&watch(9)).await.watch();
    let role_of = |namespace: &str, name: &str| {
        let settings = accounts.known(namespace, name)?;
        Some(settings.role_arn.as_deref().unwrap_or("-").to_owned())
    };
    assert_eq!(role_of("orchard", "picker").as_deref(), Some("a"));
    assert_eq!(role_of("orchard", "default").as_deref(), Some("-"));
    assert_eq!(role_of("lichen", "x").as_deref(), Some("b"));
    let health = accounts.health();
    assert_eq!(
        (health.listed, health.accounts, health.annotated),
        (true, 3, 2)
    );

    feed.send("MODIFIED", &account("orchard", "picker", 10, Some("c")));
    feed.send("DELETED", &account("lichen", "x", 11, Some("b")));
    feed.send("ADDED", &account("orchard", "new", 12, None));
    feed.send(
        "BOOKMARK",
        &json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"resourceVersion": "20"}}),
    );
    until("the changes", || role_of("orchard", "new").is_some()).await;
    assert_eq!(role_of("orchard", "picker").as_deref(), Some("c"));
    assert_eq!(role_of("lichen", "x"), None);
    feed.hang_up();
    // Goes on behind the bookmark, and lists again when that is too old.
    server.expect(&watch(20)).await.refuse(410, "Expired");
    server.expect(LIST).await.refuse(500, "InternalError");
    server.expect(LIST).await.answer(
        200,
        &list(30, "", &[account("orchard", "picker", 10, Some("c"))]),
    );
    let _feed = server.expect(&watch(30)).await.watch();
    until("the new list", || role_of("orchard", "new").is_none()).await;
    assert_eq!(role_of("orchard", "picker").as_deref(), Some("c"));
    assert_eq!(accounts.health().failures_total, 1);
    until("no failure", || accounts.health().failing.is_none()).await;
}

#[tokio::test]
async fn an_unknown_account_is_read_once_for_all_who_ask() {
    let mut server = ApiServer::start().await;
    let accounts = ServiceAccounts::new(server.client(), options());
    tokio::spawn(accounts.clone().run());
    server.expect(LIST).await.answer(200, &list(9, "", &[]));
    let _feed = server.expect(&watch(9)).await.watch();
    until("listed", || accounts.health().listed).await;
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let accounts = accounts.clone();
            tokio::spawn(async move { accounts.find("orchard", "picker", soon()).await })
        })
        .collect();
    let call = server.expect(GET).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(server.unexpected(), None);
    call.answer(200, &account("orchard", "picker", 12, Some("a")));
    for one in asking {
        assert_eq!(role(&one.await.unwrap()), "a");
    }
    // It is known now, although the watch has not told about it.
    assert_eq!(role(&accounts.find("orchard", "picker", soon()).await), "a");
    assert_eq!(server.unexpected(), None);
    assert_eq!(
        accounts.reads(),
        AccountReads {
            found: 1,
            ..AccountReads::default()
        }
    );
}

#[tokio::test]
async fn reads_end_in_time_and_leave_nothing_behind() {
    let mut server = ApiServer::start().await;
    let accounts = ServiceAccounts::new(server.client(), options());
    tokio::spawn(accounts.clone().run());
    server.expect(LIST).await.answer(200, &list(9, "", &[]));
    let _feed = server.expect(&watch(9)).await.watch();
    until("listed", || accounts.health().listed).await;
    let find = |deadline: Duration| {
        let accounts = accounts.clone();
        tokio::spawn(async move {
            let start = Instant::now();
            let found = accounts.find("orchard", "picker", start + deadline).await;
            (role(&found), start.elapsed())
        })
    };
    // Not there: nothing else is tried.
    let asked = find(Duration::from_secs(5));
    server.expect(GET).await.refuse(404, "NotFound");
    assert_eq!(asked.await.unwrap().0, "Missing");
    // Refused: it would be again.
    let asked = find(Duration::from_secs(5));
    server.expect(GET).await.refuse(403, "Forbidden");
    assert_eq!(asked.await.unwrap().0, "Unread");
    // A failure is followed by one more call.
    let asked = find(Duration::from_secs(5));
    server.expect(GET).await.refuse(500, "InternalError");
    server.expect(GET).await.refuse(503, "ServiceUnavailable");
    assert_eq!(asked.await.unwrap().0, "Unread");
    assert_eq!(server.unexpected(), None);
    // So is silence, and both together take no longer than half a second.
    let asked = find(Duration::from_secs(5));
    let first = server.expect(GET).await;
    let second = server.expect(GET).await;
    let (found, took) = asked.await.unwrap();
    assert_eq!(found, "Unread");
    assert!(took < Duration::from_millis(900), "{took:?}");
    drop((first, second));
    // Who asks waits for its own deadline only, and the next one joins the same call.
    let asked = find(Duration::from_millis(50));
    let call = server.expect(GET).await;
    assert_eq!(asked.await.unwrap().0, "Unread");
    let asked = find(Duration::from_secs(5));
    tokio::time::sleep(Duration::from_millis(20)).await;
    call.answer(200, &account("orchard", "picker", 12, Some("a")));
    assert_eq!(asked.await.unwrap().0, "a");
    let reads = accounts.reads();
    assert_eq!((reads.found, reads.missing, reads.failed), (1, 1, 3));
}

#[tokio::test]
async fn before_the_first_list_lookups_wait_then_read() {
    let mut server = ApiServer::start().await;
    let mut options = options();
    options.first_list_wait = Duration::from_millis(300);
    let accounts = ServiceAccounts::new(server.client(), options);
    tokio::spawn(accounts.clone().run());
    let listing = server.expect(LIST).await;
    let find = || {
        let accounts = accounts.clone();
        tokio::spawn(async move { accounts.find("orchard", "picker", soon()).await })
    };
    let asked = find();
    let start = Instant::now();
    let call = server.expect(GET).await;
    assert!(start.elapsed() >= Duration::from_millis(250));
    call.answer(200, &account("orchard", "picker", 5, Some("read")));
    assert_eq!(role(&asked.await.unwrap()), "read");
    listing.answer(
        200,
        &list(9, "", &[account("orchard", "picker", 7, Some("listed"))]),
    );
    let _feed = server.expect(&watch(9)).await.watch();
    until("listed", || accounts.health().listed).await;
    assert_eq!(role(&find().await.unwrap()), "listed");
}

#[tokio::test]
async fn no_path_is_made_of_hostile_names() {
    let mut server = ApiServer::start().await;
    let accounts = ServiceAccounts::new(server.client(), options());
    let long = "a".repeat(254);
    for (namespace, name) in [
        ("orchard", "../secrets/x"),
        ("orchard", "a/b"),
        ("orchard", "x?y=z"),
        ("orchard", ""),
        ("", "picker"),
        ("..", "picker"),
        ("orchard", ".."),
        ("orchard", "%2e%2e"),
        ("Orchard", "picker"),
        ("orchard", "pick\u{e9}r"),
        ("orchard", &long),
    ] {
        let found = accounts.find(namespace, name, soon()).await;
        assert_eq!(found, AccountLookup::Missing, "{namespace} {name}");
    }
    assert_eq!(server.unexpected(), None);
}

/// 100,000 accounts in at most 60 MiB, while they are listed and after.
#[tokio::test]
async fn a_hundred_thousand_accounts_fit() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib / 1024
    };
    let mut server = ApiServer::start().await;
    let accounts = ServiceAccounts::new(server.client(), options());
    let before = resident();
    tokio::spawn(accounts.clone().run());
    let pages = 400;
    for page in 0..pages {
        let call = server.next().await;
        let items: Vec<Value> = (0..250)
            .map(|n| {
                let n = page * 250 + n;
                let role = format!("arn:aws:iam::210987654321:role/team-{n}");
                let role = (n % 4 == 0).then_some(&*role);
                account(
                    &format!("namespace-{:05}", n / 20),
                    &format!("account-{n:06}"),
                    n,
                    role,
                )
            })
            .collect();
        let next = if page + 1 == pages { "" } else { "more" };
        call.answer(200, &list(200_000, next, &items));
    }
    until("listed", || accounts.health().listed).await;
    let health = accounts.health();
    assert_eq!((health.accounts, health.annotated), (100_000, 25_000));
    let grown = resident() - before;
    assert!(grown <= 60, "{grown} MiB");
}
