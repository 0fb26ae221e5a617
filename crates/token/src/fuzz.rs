//! Entry points for fuzzing; none may panic.

use countersign_arn::Partition;
use jiff::Timestamp;

use crate::exec_credential::ExecInfo;
use crate::{Options, PREFIX, PresignedToken, Rules, mint, sts};

/// A token as it arrives, and the same bytes as the URL inside a token.
pub fn token(data: &[u8]) {
    let rules = Rules::new(Options {
        trusted_endpoints: vec!["https://sts.cs.example:8443/".to_owned()],
        ..Options::default()
    })
    .unwrap_or_default();
    let now = Timestamp::from_second(1_767_323_045).unwrap_or_default();
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for candidate in [text, &mint(text), &format!("{PREFIX}{text}")] {
        match PresignedToken::parse(candidate, &rules, now) {
            Ok(token) => {
                let whole = format!(
                    "{}://{}{}?{}",
                    token.scheme(),
                    token.host(),
                    token.path(),
                    token.raw_query()
                );
                assert_eq!(whole, token.url());
                assert!(candidate.len() <= rules.max_token_bytes());
                let _ = (token.access_key_id(), token.signature(), token.expires_at());
            }
            Err(error) => assert!(error.to_string().len() < 2048),
        }
    }
}

/// A body of STS; the first two bytes choose the status.
pub fn sts_response(data: &[u8]) {
    let (status, body) = match data {
        [0..=127, _, body @ ..] => (200, body),
        [high, low, body @ ..] => (u16::from_be_bytes([*high, *low]) % 600, body),
        _ => (200, data),
    };
    let replayed = sts::Replayed {
        partition: Partition::Aws,
        access_key_id: "",
        sts_endpoint: "sts.amazonaws.com",
        region: "global",
    };
    if let Err(error) = sts::parse_response(status, body, &replayed) {
        assert!(error.to_string().len() < 4096);
    }
}

/// A value of `KUBERNETES_EXEC_INFO`.
pub fn exec_info(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = ExecInfo::parse(Some(text));
    }
}
