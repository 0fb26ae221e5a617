//! The conformance suite, over plain text, TLS and authentication.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_store::{
    EtcdOptions, EtcdPassword, EtcdStore, EtcdTls, EtcdUser, Random, SecretString, conformance,
};
use etcd_client::{Client, PermissionType};
use jiff::Timestamp;

use crate::server::Etcd;

pub(crate) fn options(etcd: &Etcd, prefix: &str) -> EtcdOptions {
    EtcdOptions::new(&etcd.endpoints(), prefix, Timestamp::now).unwrap()
}

/// Runs the suite; every store is below a prefix of its own.
async fn run(options: EtcdOptions, client: Client) {
    let made = AtomicUsize::new(0);
    conformance::run(
        async || {
            let mut options = options.clone();
            options.prefix = format!(
                "{}{}/",
                options.prefix,
                made.fetch_add(1, Ordering::Relaxed)
            );
            EtcdStore::new(options, Random::system())
        },
        async |_: &EtcdStore| {
            let mut client = client.clone();
            let now = client.get("now", None).await.unwrap();
            let now = now.header().unwrap().revision();
            client.compact(now, None).await.unwrap();
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn etcd_is_a_store() {
    let Some(etcd) = Etcd::start("etcd_is_a_store", 1).await else {
        return;
    };
    run(options(&etcd, "/suite"), etcd.client().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn etcd_with_tls_and_authentication_is_a_store() {
    let Some(etcd) = Etcd::start_with("etcd_with_tls_and_authentication_is_a_store", 1, true).await
    else {
        return;
    };
    let mut admin = etcd.client().await;
    secure(&mut admin, "/suite/").await;
    let pki = etcd.tls.clone().unwrap();
    let password = etcd.dir.path().join("password");
    std::fs::write(&password, "opensesame\n").unwrap();
    let mut options = options(&etcd, "/suite");
    options.tls = Some(EtcdTls {
        ca_file: pki.ca,
        identity: Some(pki.client),
    });
    options.user = Some(EtcdUser {
        name: "countersign".into(),
        password: EtcdPassword::File(password),
    });
    run(options, etcd.client_as("root", "toor").await).await;
}

/// Switches authentication on, with a user that may do what the store needs and nothing else.
async fn secure(admin: &mut Client, prefix: &str) {
    admin.role_add("root").await.unwrap();
    admin.user_add("root", "toor", None).await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.role_add("countersign").await.unwrap();
    let below = etcd_client::Permission::new(PermissionType::Readwrite, prefix).with_prefix();
    admin
        .role_grant_permission("countersign", below)
        .await
        .unwrap();
    admin
        .user_add("countersign", "opensesame", None)
        .await
        .unwrap();
    admin
        .user_grant_role("countersign", "countersign")
        .await
        .unwrap();
    admin.auth_enable().await.unwrap();
}

#[tokio::test]
async fn tokens_that_are_over_are_had_anew_and_passwords_are_read_anew() {
    use countersign_store::{Key, LoadError, Store, Transaction};
    let name = "tokens_that_are_over_are_had_anew_and_passwords_are_read_anew";
    let Some(etcd) = Etcd::start(name, 1).await else {
        return;
    };
    secure(&mut etcd.client().await, "/t/").await;
    let password = etcd.dir.path().join("password");
    std::fs::write(&password, "wrong").unwrap();
    let mut settings = options(&etcd, "/t");
    settings.user = Some(EtcdUser {
        name: "countersign".into(),
        password: EtcdPassword::File(password.clone()),
    });
    let store = EtcdStore::new(settings.clone(), Random::system());
    match store.load().await {
        Err(LoadError::Unavailable(reason)) => {
            let reason = reason.to_string();
            assert!(
                reason.contains("authentication failed") && !reason.contains("wrong"),
                "{reason}"
            );
        }
        other => panic!("a wrong password was taken: {other:?}"),
    }
    std::fs::write(&password, "opensesame").unwrap();
    let key = Key::new("a").unwrap();
    let put = || Transaction::new().put(&key, b"1".as_slice());
    store.load().await.unwrap().collect().await.unwrap();
    store.commit(put()).await.unwrap();
    // The server's tokens live for two seconds.
    tokio::time::sleep(Duration::from_secs(4)).await;
    store.commit(put()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (revision, records) = store.load().await.unwrap().collect().await.unwrap();
    assert_eq!(records.len(), 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut watch = store.watch(revision);
    use futures::StreamExt;
    assert!(watch.next().await.unwrap().is_ok());
    // The roles change: tokens are of an old revision from here on.
    let mut admin = etcd.client_as("root", "toor").await;
    admin.role_add("other").await.unwrap();
    store.commit(put()).await.unwrap();
    admin
        .user_change_password("countersign", "changed")
        .await
        .unwrap();
    std::fs::write(&password, "changed").unwrap();
    store.commit(put()).await.unwrap();

    // What it may not do is refused, and said.
    settings.prefix = "/elsewhere/".into();
    settings.user.as_mut().unwrap().password =
        EtcdPassword::Given(Arc::new(SecretString::new("changed")));
    let store = EtcdStore::new(settings, Random::system());
    let error = store.load().await.unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("permission denied"), "{reason}");
}
