//! Against an independent signer: the aws-sigv4 crate signs and this verifies, this signs and has the same signature.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use countersign_sigv4::{
    Credentials, Header, KeyLookup, Parsed, PathRule, Payload, Request, SecretKey, ServicePolicy,
    Signer,
};
use jiff::Timestamp;
use proptest::prelude::*;

const KEY: &str = "AKIARTX3GSDSXFDOCIS2";

#[derive(Debug, Clone)]
struct Case {
    service: &'static str,
    method: &'static str,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    second: i64,
    secret: String,
    token: Option<String>,
}

/// Every way of writing a text in a query that decodes to it.
fn query_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[A-Za-z0-9._~-]{1,5}",
        Just("+".to_owned()),
        Just("%20".to_owned()),
        Just("%2b%2F%2f%7E".to_owned()),
        Just("%C3%A9".to_owned()),
        Just("%e2%82%ac".to_owned()),
        "[/:@!$'()*,;?]",
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|p| p.concat())
}

fn query() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => (query_text(), query_text()).prop_map(|(n, v)| format!("{n}={v}")),
        1 => query_text(),
        1 => "[ab]=[ab=]".prop_map(String::from),
    ];
    proptest::collection::vec(part, 0..6).prop_map(|p| p.join("&"))
}

fn path(service: &'static str) -> BoxedStrategy<String> {
    let word = "[A-Za-z0-9._~-]{1,8}".prop_filter("dots alone are segments of their own", |s| {
        !s.chars().all(|c| c == '.')
    });
    if service == "s3" {
        // The oracle does not re-encode S3 paths, so they are given in canonical form.
        let word = prop_oneof![
            word,
            Just("a%20b%2B%C3%A9".to_owned()),
            Just(".".to_owned()),
            Just(String::new())
        ];
        return proptest::collection::vec(word, 1..5)
            .prop_map(|s| format!("/{}", s.join("/")))
            .boxed();
    }
    let special = prop_oneof![
        Just("arn%3Aaws%3aiam%2Frole".to_owned()),
        Just("a:b@c!$&'()*+,;=".to_owned()),
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
    ];
    let middle = prop_oneof![3 => word.clone(), 2 => special];
    // The signers of AWS themselves disagree about a path that ends in a dot segment.
    (
        proptest::collection::vec(middle, 0..5),
        prop_oneof![word.boxed(), Just(String::new()).boxed()],
    )
        .prop_map(|(mut s, last)| {
            s.push(last);
            format!("/{}", s.join("/"))
        })
        .boxed()
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        Just("accept".to_owned()),
        "X-Amz-Meta-[A-C]",
        "x-[a-z]{1,3}",
        Just("x-k8s-aws-id".to_owned())
    ];
    let value = "[!-~]{0,6}( {0,3}[!-~]{1,6}){0,2} {0,2}";
    proptest::collection::vec((name, value), 0..5)
}

fn case() -> impl Strategy<Value = Case> {
    proptest::sample::select(vec!["sts", "eks", "s3"]).prop_flat_map(|service| {
        let methods: Vec<&'static str> = if service == "sts" {
            vec!["GET", "POST"]
        } else {
            vec!["GET", "POST", "PUT", "DELETE"]
        };
        (
            proptest::sample::select(methods),
            path(service),
            query(),
            headers(),
            proptest::collection::vec(any::<u8>(), 0..80),
            1_000_000_000i64..4_000_000_000,
            "[A-Za-z0-9/+]{40}",
            proptest::option::of("[A-Za-z0-9/+=.]{1,60}"),
        )
            .prop_map(
                move |(method, path, query, headers, body, second, secret, token)| Case {
                    service,
                    method,
                    path,
                    query,
                    headers,
                    body,
                    second,
                    secret,
                    token,
                },
            )
    })
}

impl Case {
    fn target(&self, more: &str) -> String {
        let mut query = self.query.clone();
        if !query.is_empty() && !more.is_empty() {
            query.push('&');
        }
        query.push_str(more);
        format!("{}?{query}", self.path)
    }

    fn given(&self) -> Vec<(&str, &str)> {
        let host = ("host", "svc.example:8443");
        std::iter::once(host)
            .chain(self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())))
            .collect()
    }

    fn policy(&self) -> ServicePolicy {
        let mut policy = ServicePolicy::for_service(self.service);
        if policy.paths == PathRule::Plain {
            policy.paths = PathRule::Normalise;
        }
        policy
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.second).unwrap()
    }

    fn oracle(&self, location: SignatureLocation) -> (Pairs, Pairs) {
        let s3 = self.service == "s3";
        let presigning = location == SignatureLocation::QueryParams;
        let mut settings = SigningSettings::default();
        settings.signature_location = location;
        settings.expires_in = presigning.then(|| Duration::from_secs(60));
        if s3 {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let identity =
            AwsCredentials::new(KEY, self.secret.clone(), self.token.clone(), None, "test").into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name(self.service)
            .time(SystemTime::UNIX_EPOCH + Duration::from_secs(self.second.unsigned_abs()))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let url = format!("https://svc.example:8443{}", self.target(""));
        let body = if presigning && s3 {
            SignableBody::UnsignedPayload
        } else {
            SignableBody::Bytes(&self.body)
        };
        let request =
            SignableRequest::new(self.method, url, self.given().into_iter(), body).unwrap();
        let (headers, params) = sign(request, &params).unwrap().into_parts().0.into_parts();
        (
            headers
                .iter()
                .map(|h| (h.name().to_owned(), h.value().to_owned()))
                .collect(),
            params
                .into_iter()
                .map(|(n, v)| (n.to_owned(), v.into_owned()))
                .collect(),
        )
    }

    /// Verifies the case with these headers added and this query appended.
    fn verifies(&self, added: &[(String, String)], more_query: &str) -> bool {
        let target = self.target(more_query);
        let mut headers: Vec<Header<'_>> = self
            .given()
            .into_iter()
            .map(|(n, v)| (n, v.as_bytes()))
            .collect();
        headers.extend(added.iter().map(|(n, v)| (n.as_str(), v.as_bytes())));
        let mut request = Request::new(self.method, target.as_bytes());
        request.headers = &headers;
        request.tls = true;
        request.body = Payload::Bytes(&self.body);
        let policy = self.policy();
        let secret = SecretKey::new(self.secret.clone());
        let parsed = Parsed::from_request(&request, &policy, self.now()).unwrap();
        assert_eq!(parsed.session_token(), self.token.as_deref());
        parsed.verify(KeyLookup::Secret(&secret)).is_ok()
    }

    /// The canonical text with these headers added where the request is accepted, `None` where it is refused.
    fn accepted(&self, added: &[(String, String)]) -> Option<String> {
        let target = self.target("");
        let given = self.headers.iter().chain(added);
        let host: Header<'_> = ("host", b"svc.example:8443");
        let headers: Vec<Header<'_>> = std::iter::once(host)
            .chain(given.map(|(n, v)| (n.as_str(), v.as_bytes())))
            .collect();
        let mut request = Request::new(self.method, target.as_bytes());
        request.headers = &headers;
        request.tls = true;
        request.body = Payload::Bytes(&self.body);
        let policy = self.policy();
        let secret = SecretKey::new(self.secret.clone());
        let parsed = Parsed::from_request(&request, &policy, self.now()).ok()?;
        let canonical = parsed.canonical_request(request.body);
        parsed.verify(KeyLookup::Secret(&secret)).ok()?;
        Some(canonical)
    }

    fn with_ours<T>(&self, f: impl FnOnce(&Signer<'_>, &Request<'_>) -> T) -> T {
        let secret = SecretKey::new(self.secret.clone());
        let credentials = Credentials {
            key_id: KEY,
            secret: &secret,
            session_token: self.token.as_deref(),
        };
        let headers: Vec<Header<'_>> = self
            .given()
            .into_iter()
            .map(|(n, v)| (n, v.as_bytes()))
            .collect();
        let target = self.target("");
        let mut request = Request::new(self.method, target.as_bytes());
        request.headers = &headers;
        request.body = Payload::Bytes(&self.body);
        f(
            &Signer::new(credentials, "eu-west-1", self.service),
            &request,
        )
    }
}

/// Names and values, of headers or of query parameters.
type Pairs = Vec<(String, String)>;

fn climbs_above_root(path: &str) -> bool {
    let mut depth = 0i32;
    path.split('/').any(|segment| {
        depth += match segment {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn header_signatures_of_the_oracle_verify_and_are_ours(case in case()) {
        prop_assume!(case.service == "s3" || !climbs_above_root(&case.path));
        let (theirs, _) = case.oracle(SignatureLocation::Headers);
        prop_assert!(case.verifies(&theirs, ""));
        let ours = case.with_ours(|signer, request| signer.sign(request, case.now()).unwrap());
        let authorization = theirs.iter().find(|(n, _)| n == "authorization").map(|(_, v)| v.as_str());
        prop_assert_eq!(Some(ours.authorization()), authorization);
        let ours: Vec<(String, String)> = ours.headers().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        prop_assert!(case.verifies(&ours, ""));
    }

    /// Path, query, headers, body and the authentication itself: one changed byte, and the request either still has the
    /// canonical text that was signed (other white space, an escape in other case) or is refused.
    #[test]
    fn a_changed_byte_of_a_request_the_oracle_signed_is_refused(
        case in case(),
        part in 0..5_u8,
        place in any::<proptest::sample::Index>(),
        flip in 1..0x80_u8,
    ) {
        prop_assume!(case.service == "s3" || !climbs_above_root(&case.path));
        let (mut theirs, _) = case.oracle(SignatureLocation::Headers);
        let signed = case.accepted(&theirs).expect("the oracle's request verifies");
        let mut changed = case.clone();
        let change = |text: &mut String| {
            let mut bytes = std::mem::take(text).into_bytes();
            if !bytes.is_empty() {
                let at = place.index(bytes.len());
                *bytes.get_mut(at).unwrap() ^= flip;
            }
            *text = String::from_utf8(bytes).unwrap();
        };
        match part {
            0 => change(&mut changed.path),
            1 => change(&mut changed.query),
            2 if !changed.headers.is_empty() => {
                let at = place.index(changed.headers.len());
                change(&mut changed.headers.get_mut(at).unwrap().1);
            }
            3 if !changed.body.is_empty() => {
                let at = place.index(changed.body.len());
                *changed.body.get_mut(at).unwrap() ^= flip;
            }
            _ => {
                let at = place.index(theirs.len());
                change(&mut theirs.get_mut(at).unwrap().1);
            }
        }
        if let Some(canonical) = changed.accepted(&theirs) {
            prop_assert_eq!(canonical, signed);
        }
    }

    #[test]
    fn query_signatures_of_the_oracle_verify_and_are_ours(case in case()) {
        prop_assume!(case.service == "s3" || !climbs_above_root(&case.path));
        let (_, theirs) = case.oracle(SignatureLocation::QueryParams);
        let escape = |text: &str| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
        let query = theirs.iter().map(|(n, v)| format!("{n}={}", escape(v))).collect::<Vec<_>>().join("&");
        prop_assert!(case.verifies(&[], &query));
        let ours = case.with_ours(|signer, request| signer.presign(request, 60, case.now()).unwrap());
        let signature = theirs.iter().find(|(n, _)| n == "X-Amz-Signature").map(|(_, v)| v.as_str());
        prop_assert_eq!(ours.rsplit_once("X-Amz-Signature=").map(|(_, v)| v), signature);
        let own = ours.get(case.query.len()..).unwrap().trim_start_matches('&');
        prop_assert!(case.verifies(&[], own));
    }
}
