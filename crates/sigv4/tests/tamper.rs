//! No byte that a signature covers can change unnoticed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers")]

mod common;

use common::{Message, Store, policy, time, vectors};
use countersign_sigv4::{Kind, Parsed, Request, Verified};
use proptest::prelude::*;

struct Outcome {
    accepted: bool,
    canonical: Option<String>,
}

fn judge(request: &Request<'_>, service: &str, now: &str) -> Outcome {
    let (policy, now, store) = (policy(service), time(now), Store::new());
    match Parsed::from_request(request, &policy, now) {
        Err(_) => Outcome {
            accepted: false,
            canonical: None,
        },
        Ok(parsed) => {
            let verdict: Result<Verified, _> = parsed.verify(store.lookup(&parsed, now));
            Outcome {
                accepted: verdict.is_ok(),
                canonical: Some(parsed.canonical_request(request.body)),
            }
        }
    }
}

/// Every place in a message where a byte may be changed: the request line, header values, the body.
fn places(message: &Message, covered: &dyn Fn(&str) -> bool) -> Vec<(usize, usize)> {
    let mut places: Vec<(usize, usize)> = (0..message.target.len()).map(|at| (0, at)).collect();
    for (i, (name, value)) in message.headers.iter().enumerate() {
        if covered(&name.to_ascii_lowercase()) {
            places.extend((0..value.len()).map(|at| (i + 1, at)));
        }
    }
    places.extend((0..message.body.len()).map(|at| (usize::MAX, at)));
    places
}

fn with_changed<T>(
    message: &Message,
    (part, at): (usize, usize),
    flip: u8,
    f: impl FnOnce(&Request<'_>) -> T,
) -> T {
    let mut target = message.target.clone().into_bytes();
    let mut body = message.body.clone().into_bytes();
    let mut values: Vec<Vec<u8>> = message
        .headers
        .iter()
        .map(|(_, v)| v.clone().into_bytes())
        .collect();
    match part {
        0 => target[at] ^= flip,
        usize::MAX => body[at] ^= flip,
        i => values[i - 1][at] ^= flip,
    }
    let headers: Vec<(&str, &[u8])> = message
        .headers
        .iter()
        .zip(&values)
        .map(|((name, _), value)| (name.as_str(), value.as_slice()))
        .collect();
    let mut request = Request::new(&message.method, &target);
    request.headers = &headers;
    request.tls = true;
    request.body = countersign_sigv4::Payload::Bytes(&body);
    f(&request)
}

#[test]
fn every_single_byte_of_every_vector_is_covered() {
    for v in vectors().vectors {
        let signed = v.canonical_request.rsplit('\n').nth(1).unwrap().to_owned();
        let unsigned_body = v.canonical_request.ends_with("UNSIGNED-PAYLOAD");
        let covered = |name: &str| name == "authorization" || signed.split(';').any(|s| s == name);
        for place in places(&v.message, &covered) {
            if place.0 == usize::MAX && unsigned_body {
                continue;
            }
            let outcome = with_changed(&v.message, place, 1, |r| {
                judge(r, &v.service, &v.server_time)
            });
            // A change of the text that does not change what it means, such as another dot in `/./`, is no change;
            // the authentication itself is not part of the canonical text and may not change at all.
            let (part, at) = place;
            let in_header =
                part != usize::MAX && part > 0 && v.message.headers[part - 1].0 == "Authorization";
            let in_query = part == 0
                && v.message
                    .target
                    .find(&v.signature)
                    .is_some_and(|start| at >= start);
            let same_meaning = outcome.canonical.as_deref() == Some(&v.canonical_request)
                && !in_header
                && !in_query;
            assert_eq!(outcome.accepted, same_meaning, "{} {place:?}", v.name);
        }
    }
}

#[test]
fn every_method_but_the_signed_one_fails() {
    for v in vectors().vectors {
        for method in ["GET", "POST", "PUT", "get", "HEAD", ""] {
            let mut message = v.message.clone();
            message.method = method.to_owned();
            let outcome = message.with(|r| judge(r, &v.service, &v.server_time));
            assert_eq!(
                outcome.accepted,
                method == v.message.method,
                "{} {method}",
                v.name
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Any bit of any byte, unlike the exhaustive test above; a request is accepted only if it means what was signed.
    #[test]
    fn a_changed_byte_is_accepted_only_where_it_means_the_same(
        which in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), flip in 1u8..
    ) {
        let all = vectors().vectors;
        let v = which.get(&all);
        let places = places(&v.message, &|_| true);
        let place = *place.get(&places);
        let outcome = with_changed(&v.message, place, flip, |r| judge(r, &v.service, &v.server_time));
        if outcome.accepted {
            let canonical = outcome.canonical.unwrap();
            let unsigned = canonical.ends_with("UNSIGNED-PAYLOAD");
            prop_assert!(canonical == v.canonical_request || unsigned, "{} {:?}", v.name, place);
        }
    }
}

#[test]
fn a_presigned_request_cannot_be_moved_into_a_header() {
    let v = vectors()
        .vectors
        .into_iter()
        .find(|v| v.name == "sts-presigned-eks-token")
        .unwrap();
    let policy = policy("sts");
    v.message.with(|request| {
        let parsed = Parsed::from_request(request, &policy, time(&v.server_time)).unwrap();
        let store = Store::new();
        let verified = parsed
            .verify(store.lookup(&parsed, time(&v.server_time)))
            .unwrap();
        assert_eq!(verified.kind(), Kind::Query);
    });
    let mut message = v.message.clone();
    let signature = message.query().rsplit_once('=').unwrap().1.to_owned();
    message.target = "/?Action=GetCallerIdentity&Version=2011-06-15".into();
    message
        .headers
        .push(("X-Amz-Date".into(), "20260314T092653Z".into()));
    message.headers.push((
        "Authorization".into(),
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIARTX3GSDSXFDOCIS2/20260314/us-west-2/sts/aws4_request, \
             SignedHeaders=host;x-amz-date;x-k8s-aws-id, Signature={signature}"
        ),
    ));
    assert!(!message.with(|r| judge(r, "sts", &v.server_time)).accepted);
}
