//! Time and audience of a verified token (IRSA spec, sections 6.2 and 6.3).

use jiff::Timestamp;

use crate::claims::Claims;
use crate::error::TokenError;

/// A token whose signature is the issuer's. Only [`crate::UnverifiedToken::verify`] makes one.
#[derive(Debug, Clone, Copy)]
pub struct VerifiedToken<'t> {
    claims: &'t Claims,
}

/// How far times may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRules {
    /// Seconds for which a token counts after `exp`, and before `nbf` and `iat`. AWS: 300.
    pub clock_skew_seconds: u32,
    /// Seconds since `iat` after which a token is too old whatever its `exp`. AWS refuses such tokens with `Token too old`
    /// and does not say from when. Ours: a week and five minutes, the longest life of a token that kubelet renews
    /// (IRSA spec, section 4.3); what lives longer was not meant for this use, such as the one-year tokens of old clients.
    pub max_age_seconds: u32,
}

impl Default for TimeRules {
    fn default() -> Self {
        Self {
            clock_skew_seconds: 300,
            max_age_seconds: 7 * 24 * 60 * 60 + 300,
        }
    }
}

/// A token that is verified, in time, and meant for the provider. Only [`VerifiedToken::accept`] makes one.
#[derive(Debug, Clone, Copy)]
pub struct AcceptedToken<'t> {
    claims: &'t Claims,
    audience: &'t str,
}

impl<'t> VerifiedToken<'t> {
    pub(crate) const fn new(claims: &'t Claims) -> Self {
        Self { claims }
    }

    /// The claims, which are the issuer's words.
    #[must_use]
    pub const fn claims(&self) -> &'t Claims {
        self.claims
    }

    /// Checks `exp`, `iat`, `nbf` and the audience, in this order (checks 8 to 10).
    ///
    /// The audience used is `azp` when the token has it, else the one of `aud`. It must be one of `client_ids`. Of several
    /// audiences without `azp` exactly one must be; it is then the one used. Whether two of them match is not left to
    /// their order.
    ///
    /// # Errors
    /// When a time or the audience does not fit.
    pub fn accept(
        self,
        client_ids: &[impl AsRef<str>],
        rules: TimeRules,
        now: Timestamp,
    ) -> Result<AcceptedToken<'t>, TokenError> {
        let claims = self.claims;
        let now = now.as_second();
        let skew = i64::from(rules.clock_skew_seconds);
        if now >= claims.expires.saturating_add(skew) {
            let expires = claims.expires;
            return Err(TokenError::Expired { expires, now });
        }
        if now
            > claims
                .issued
                .saturating_add(i64::from(rules.max_age_seconds))
        {
            let issued = claims.issued;
            return Err(TokenError::TooOld { issued, now });
        }
        let begins = [("nbf", claims.not_before), ("iat", Some(claims.issued))];
        for (claim, at) in begins {
            if let Some(at) = at
                && at > now.saturating_add(skew)
            {
                return Err(TokenError::NotYetValid { claim, at, now });
            }
        }
        let audience = audience(claims, client_ids)?;
        Ok(AcceptedToken { claims, audience })
    }
}

fn audience<'t>(claims: &'t Claims, client_ids: &[impl AsRef<str>]) -> Result<&'t str, TokenError> {
    let listed = |audience: &&str| client_ids.iter().any(|id| id.as_ref() == *audience);
    if let Some(party) = claims.authorized_party.as_deref() {
        return Some(party).filter(listed).ok_or(TokenError::Audience(
            "`azp` is not a client id of the provider",
        ));
    }
    let mut matching = claims.audiences.iter().map(AsRef::as_ref).filter(listed);
    match (matching.next(), matching.next()) {
        (Some(audience), None) => Ok(audience),
        (None, _) => Err(TokenError::Audience(
            "`aud` is not a client id of the provider",
        )),
        (Some(_), Some(_)) => Err(TokenError::Audience(
            "several audiences are client ids of the provider, and `azp` does not say which one is meant",
        )),
    }
}

impl<'t> AcceptedToken<'t> {
    /// The claims.
    #[must_use]
    pub const fn claims(&self) -> &'t Claims {
        self.claims
    }

    /// The audience used: what is answered as `Audience` and put into `<issuer>:aud`.
    #[must_use]
    pub const fn audience(&self) -> &'t str {
        self.audience
    }
}
