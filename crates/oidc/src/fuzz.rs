//! Entry points for fuzzing; none may panic.

use jiff::Timestamp;

use crate::{
    Discovery, IssuerKeys, IssuerUrl, KeySet, PublicKey, TimeRules, UnverifiedIdToken,
    UnverifiedToken,
};

/// `data` as a token: whatever is read must be within the limits and must not verify with keys that did not sign it.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(token) = UnverifiedIdToken::parse(text) {
        assert!(!token.issuer().is_empty());
        assert!(token.verify(&KeySet::default()).is_err());
    }
    let Ok(token) = UnverifiedToken::parse(text) else {
        return;
    };
    let claims = token.unverified_claims();
    assert!(!claims.issuer.is_empty() && !claims.audiences.is_empty());
    assert!(token.verify(&KeySet::default()).is_err());
    let accepted = crate::check::VerifiedToken::new(claims).accept(
        &["sts.amazonaws.com"],
        TimeRules::default(),
        Timestamp::UNIX_EPOCH,
    );
    if let Ok(accepted) = accepted {
        assert_eq!(accepted.audience(), "sts.amazonaws.com");
        let keys = accepted.condition_keys("issuer.example", true);
        assert!(
            keys.iter()
                .all(|key| key.name.starts_with("issuer.example:"))
        );
    }
    let _ = claims
        .aws
        .authorize_role("arn:aws:iam::111122223333:role/Dev");
}

/// `data` as a payload: the reader behind a good signature.
pub fn claims(data: &[u8]) {
    let text = format!(
        "{}.{}.AA",
        crate::json::to_base64url(br#"{"alg":"RS256"}"#),
        crate::json::to_base64url(data)
    );
    token(text.as_bytes());
}

/// `data` as a key set, a discovery document, an issuer, a public key and stored signing keys.
pub fn documents(data: &[u8]) {
    if let Ok(set) = KeySet::parse(data) {
        assert!(!set.is_empty());
    }
    let _ = Discovery::parse(data, "https://issuer.example");
    let _ = PublicKey::from_pem(data);
    let _ = PublicKey::from_spki(data);
    let _ = IssuerKeys::decode(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(issuer) = text.parse::<IssuerUrl>()
    {
        assert_eq!(format!("https://{}", issuer.without_scheme()), text);
        assert!(!issuer.host().is_empty());
    }
}
