//! SAML providers, their metadata and tags.

use countersign_arn::Tag;
use countersign_store::{DirectoryError, NewSamlProvider, PackedMetadata, Taggable, Thing};

use super::*;

fn new_provider(name: &str, document: &str) -> NewSamlProvider {
    NewSamlProvider {
        account: account(0),
        name: name.into(),
        metadata: PackedMetadata::pack(document).unwrap(),
        valid_until: Timestamp::from_second(1_900_000_000).unwrap(),
        tags: Vec::new(),
    }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.into(),
        value: value.into(),
    }
}

#[tokio::test]
async fn provider_is_made_changed_and_deleted() {
    let (_, directory) = with_account().await;
    let made = directory
        .create_saml_provider(new_provider("Corp", "<first/>"), now())
        .await
        .unwrap();
    assert_eq!(made.arn(), "arn:aws:iam::111122223333:saml-provider/Corp");
    assert_eq!(made.metadata().as_deref(), Some("<first/>"));
    assert!(
        made.uuid.len() == 26
            && made
                .uuid
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    );
    // Names count with case.
    directory
        .create_saml_provider(new_provider("corp", "<other/>"), now())
        .await
        .unwrap();
    assert!(matches!(
        directory
            .create_saml_provider(new_provider("Corp", "<x/>"), now())
            .await,
        Err(DirectoryError::Exists {
            what: Thing::SamlProvider,
            ..
        })
    ));

    let later = Timestamp::from_second(1_950_000_000).unwrap();
    let second = PackedMetadata::pack("<second/>").unwrap();
    directory
        .set_saml_metadata(account(0), "Corp", second, later)
        .await
        .unwrap();
    let arn = "arn:aws:iam::111122223333:saml-provider/Corp";
    directory
        .tag(
            account(0),
            Taggable::SamlProvider(arn),
            &[tag("team", "red")],
        )
        .await
        .unwrap();
    let snapshot = directory.snapshot();
    let record = &snapshot.saml_provider(account(0), "Corp").unwrap().record;
    assert_eq!(record.metadata().as_deref(), Some("<second/>"));
    assert_eq!((record.valid_until, &record.uuid), (later, &made.uuid));
    assert_eq!(record.tags, [tag("team", "red")]);

    directory
        .delete_saml_provider(account(0), "Corp")
        .await
        .unwrap();
    assert!(matches!(
        directory.delete_saml_provider(account(0), "Corp").await,
        Err(DirectoryError::NoSuch {
            what: Thing::SamlProvider,
            ..
        })
    ));
    assert!(
        directory
            .snapshot()
            .saml_provider(account(0), "corp")
            .is_some()
    );
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    let (_, directory) = with_account().await;
    let long = "x".repeat(129);
    for name in ["", "a b", "a/b", "a+b", "\u{e9}", &long] {
        let refused = directory
            .create_saml_provider(new_provider(name, "<a/>"), now())
            .await;
        assert!(matches!(refused, Err(DirectoryError::Invalid(_))), "{name}");
    }
    for name in ["a", "A._-9", &long[1..]] {
        directory
            .create_saml_provider(new_provider(name, "<a/>"), now())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn large_metadata_is_kept_when_it_deflates() {
    let (_, directory) = with_account().await;
    let large = format!("<a>{}</a>", "certificate ".repeat(800_000));
    directory
        .create_saml_provider(new_provider("large", &large), now())
        .await
        .unwrap();
    let snapshot = directory.snapshot();
    let record = &snapshot.saml_provider(account(0), "large").unwrap().record;
    assert_eq!(record.metadata(), Some(large));

    // What has no pattern stays as large as it is.
    let mut state = 1_u64;
    let noise: String = (0..500_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b' ' + u8::try_from(state % 95).unwrap())
        })
        .collect();
    assert!(matches!(
        PackedMetadata::pack(&noise),
        Err(DirectoryError::QuotaExceeded {
            quota: "SAMLMetadataDocumentSize",
            limit: 409_600
        })
    ));
}

#[tokio::test]
async fn providers_have_their_quota() {
    let store = Arc::new(TestStore::in_memory().unwrap());
    let quotas = Quotas {
        saml_providers_per_account: 1,
        ..Quotas::default()
    };
    let directory = Directory::open(
        Arc::clone(&store) as Arc<dyn Store>,
        sealer(1),
        Random::system(),
        quotas,
    )
    .await
    .unwrap();
    directory
        .create_account(new_account(0), now())
        .await
        .unwrap();
    directory
        .create_saml_provider(new_provider("a", "<a/>"), now())
        .await
        .unwrap();
    assert!(matches!(
        directory
            .create_saml_provider(new_provider("b", "<a/>"), now())
            .await,
        Err(DirectoryError::QuotaExceeded {
            quota: "SAMLProvidersPerAccount",
            limit: 1
        })
    ));
}
