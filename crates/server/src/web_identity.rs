//! Tokens of OpenID Connect issuers, verified for STS (IRSA spec, sections 2.4 and 6.2).

use std::fmt;
use std::sync::Arc;

use countersign_oidc::{
    IssuerUrl, TimeRules, TokenError, UnverifiedIdToken, UnverifiedToken, VerifiedIdToken,
    VerifiedToken,
};
use countersign_upstream::jwks::{
    FetchFailure, FetchOptions, FetchResult, HttpsKeys, InvalidIssuerOptions, KeySource,
    KeySourceOptions, Thumbprint,
};

/// How tokens of issuers are verified, and under which URL our own tokens are.
pub struct WebIdentity {
    keys: KeySource,
    times: TimeRules,
    kubernetes_claims: bool,
    public_url: Box<str>,
}

/// Settings of [`WebIdentity`].
#[derive(Debug, Clone, Default)]
pub struct WebIdentityOptions {
    /// How issuers are asked.
    pub fetch: FetchOptions,
    /// How their keys are kept.
    pub source: KeySourceOptions,
    /// How far times may be off.
    pub times: TimeRules,
    /// Whether trust policies see `<issuer>:kubernetes.io/…` for issuers of registered clusters.
    pub kubernetes_claims: bool,
    /// The URL under which the outside world reaches this service, without a final slash: issuers of our own tokens begin
    /// with it.
    pub public_url: String,
}

impl WebIdentity {
    /// Sets up the clients that fetch keys.
    ///
    /// # Errors
    /// When a certificate authority cannot be used.
    pub fn new(options: WebIdentityOptions) -> Result<Self, InvalidIssuerOptions> {
        let fetch = HttpsKeys::new(options.fetch.clone())?;
        let source = KeySource::new(options.source, Arc::new(fetch));
        Ok(Self::with_keys(source, &options))
    }

    /// The same with a source of keys made before; how keys are fetched and kept is its own then.
    #[must_use]
    pub fn with_keys(keys: KeySource, options: &WebIdentityOptions) -> Self {
        Self {
            keys,
            times: options.times,
            kubernetes_claims: options.kubernetes_claims,
            public_url: options.public_url.trim_end_matches('/').into(),
        }
    }

    /// The keys of issuers; clusters register theirs here.
    #[must_use]
    pub const fn keys(&self) -> &KeySource {
        &self.keys
    }

    /// How far times may be off.
    pub(crate) const fn times(&self) -> TimeRules {
        self.times
    }

    /// Whether trust policies see the claims of Kubernetes of an issuer, which is one of our clusters or not.
    pub(crate) const fn shows_kubernetes_claims(&self, of_ours: bool) -> bool {
        self.kubernetes_claims && of_ours
    }

    /// Whether this is the issuer of a cluster of ours.
    pub(crate) fn is_registered(&self, issuer: &str) -> bool {
        self.keys.registered(issuer).is_some()
    }

    /// The URL that issuers of our own tokens begin with.
    pub(crate) const fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Verifies the signature of a token whose issuer is that of a registered provider (checks 6 and 7). Keys are asked
    /// for once more when the token names one that is not known.
    ///
    /// # Errors
    /// When there are no keys, or none that verifies.
    pub(crate) async fn verify<'t>(
        &self,
        token: &'t UnverifiedToken<'_>,
        issuer: &IssuerUrl,
        thumbprints: &[Thumbprint],
    ) -> Result<VerifiedToken<'t>, TokenError> {
        let failed = |failure: FetchFailure| refusal(issuer, &failure);
        let keys = self.keys.keys(issuer, thumbprints).await.map_err(failed)?;
        let refused = match token.verify(&keys) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        // A token that names no key was tried with the only one there is, which may have been replaced.
        let newer_may_help = match &refused {
            TokenError::UnknownKey(_) => true,
            TokenError::BadSignature => token.key_id().is_none(),
            _ => false,
        };
        if !newer_may_help {
            return Err(refused);
        }
        let newer = self
            .keys
            .keys_beyond(&keys, issuer, thumbprints)
            .await
            .map_err(failed)?;
        if Arc::ptr_eq(&newer, &keys) {
            return Err(refused);
        }
        token.verify(&newer)
    }

    /// Verifies the signature of a person's token with the keys of `issuer`, which must be that of a config. Keys are asked
    /// for once more when the token names one that is not known; a header that no key can help with asks for none.
    ///
    /// # Errors
    /// When there are no keys, or none that verifies.
    pub(crate) async fn verify_id_token<'t>(
        &self,
        token: &'t UnverifiedIdToken<'_>,
        issuer: &IssuerUrl,
    ) -> Result<VerifiedIdToken<'t>, TokenError> {
        token.check_header()?;
        let failed = |failure: FetchFailure| refusal(issuer, &failure);
        let keys = self.keys.keys(issuer, &[]).await.map_err(failed)?;
        let refused = match token.verify(&keys) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        let newer_may_help = match &refused {
            TokenError::UnknownKey(_) => true,
            TokenError::BadSignature => !token.names_key(),
            _ => false,
        };
        if !newer_may_help {
            return Err(refused);
        }
        let newer = self
            .keys
            .keys_beyond(&keys, issuer, &[])
            .await
            .map_err(failed)?;
        if Arc::ptr_eq(&newer, &keys) {
            return Err(refused);
        }
        token.verify(&newer)
    }
}

fn refusal(issuer: &IssuerUrl, failure: &FetchFailure) -> TokenError {
    let issuer = issuer.as_str().into();
    match failure.result() {
        FetchResult::Untrusted => TokenError::IssuerUntrusted { issuer },
        FetchResult::Unusable => TokenError::IssuerUnusable { issuer },
        FetchResult::Unreachable | FetchResult::Ok => TokenError::IssuerUnreachable { issuer },
    }
}

impl fmt::Debug for WebIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebIdentity")
            .field("keys", &self.keys)
            .field("times", &self.times)
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}
