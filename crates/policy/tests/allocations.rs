//! Deciding allocates nothing.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that counts allocations through the global allocator"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use countersign_policy::{
    Action, Attached, Context, Level, Policy, PolicyKind, PolicySet, Principal, Request,
    blocked_by, decide,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    std::hint::black_box(work());
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn deciding_allocates_nothing_in_any_layer_and_for_any_operator() {
    let conditions = [
        r#"{"StringEquals": {"aws:username": "${aws:PrincipalTag/team, 'x'}"}}"#,
        r#"{"StringNotEqualsIgnoreCase": {"aws:username": ["BO", "É${aws:username}"]}}"#,
        r#"{"StringLike": {"aws:username": "*a?${aws:PrincipalTag/team}*z?????????????????????*"}}"#,
        r#"{"NumericLessThan": {"n": "10.5e3"}}"#,
        r#"{"DateGreaterThan": {"d": "2026-01-01"}}"#,
        r#"{"Bool": {"aws:SecureTransport": "true"}}"#,
        r#"{"BinaryEquals": {"b": "QUI="}}"#,
        r#"{"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]}}"#,
        r#"{"ArnLike": {"a": "arn:aws:iam::*:role/${aws:username}/*"}}"#,
        r#"{"Null": {"missing": "true"}}"#,
        r#"{"ForAnyValue:StringLikeIfExists": {"aws:TagKeys": ["x*", "te?m"]}}"#,
        r#"{"Unknown": {"k": "v"}}"#,
    ];
    let statements: Vec<String> = conditions
        .iter()
        .flat_map(|condition| {
            ["Allow", "Deny"].map(|effect| {
                format!(r#"{{"Effect": "{effect}", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::b/${{aws:username}}/*a?b*", "Condition": {condition}}}"#)
            })
        })
        .collect();
    let text = format!(
        r#"{{"Version": "2012-10-17", "Statement": [{}, {{"Effect": "Allow", "Action": ["s3:G*t?bj*"], "Resource": ["arn:aws:*::*:${{aws:username}}*?????????????????????????????b*", "arn:aws:s3:::*"]}}]}}"#,
        statements.join(",")
    );
    let attach = |kind| Attached::new(Arc::new(Policy::parse(&*text, kind).unwrap()), "p");
    let named = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["111122223333", "arn:aws:iam::111122223333:role/dev"]}, "Action": "s3:*", "Resource": "*"},
        {"Effect": "Deny", "NotPrincipal": {"AWS": ["111122223333"]}, "Action": "s3:*", "Resource": "*"}]}"#;
    let mut set = PolicySet {
        identity: vec![attach(PolicyKind::Identity)],
        session: Some(vec![attach(PolicyKind::Session)]),
        endpoint: Some(vec![attach(PolicyKind::Endpoint)]),
        resource: Some(vec![Attached::new(
            Arc::new(Policy::parse(named, PolicyKind::Resource).unwrap()),
            "r",
        )]),
        ..PolicySet::default()
    };
    set.scp = vec![Level {
        target: "r".into(),
        policies: vec![attach(PolicyKind::Scp)],
    }];
    set.rcp = vec![Level {
        target: "r".into(),
        policies: vec![attach(PolicyKind::Rcp)],
    }];
    let mut context = Context::new();
    for (key, value) in [
        ("aws:username", "ana"),
        ("aws:PrincipalTag/team", "red"),
        ("n", "9.5"),
        ("d", "2026-03-01T00:00:00Z"),
        ("aws:SecureTransport", "TRUE"),
        ("b", "QUI="),
        ("aws:SourceIp", "::ffff:10.1.2.3"),
        ("a", "arn:aws:iam::111122223333:role/ana/x"),
    ] {
        context.set(key, value);
    }
    context.set_list("aws:TagKeys", ["team", "x"]);
    for caller in [
        "arn:aws:sts::111122223333:assumed-role/dev/s1",
        "arn:aws:iam::111122223333:user/ana",
        "arn:aws:iam::444455556666:user/bo",
        "arn:aws:iam::111122223333:root",
        "anonymous",
        "pods.eks.amazonaws.com",
    ] {
        let principal = Principal::parse(caller, None).unwrap();
        for action in [
            "s3:GetObject",
            "sts:AssumeRole",
            "iam:PassRole",
            "kms:Decrypt",
        ] {
            let action = Action::parse(action).unwrap();
            for resource in [
                "*",
                "arn:aws:s3:::b/ana/xxxaybxxx",
                "arn:AWS:s3:::anaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
                "arn:aws:iam::111122223333:role/r",
            ] {
                let request = Request::new(&principal, &action, resource, &context).unwrap();
                for boundary in [false, true] {
                    set.boundary = boundary.then(|| attach(PolicyKind::Boundary));
                    let layers = set.layers();
                    assert_eq!(
                        allocations(|| decide(&request, &layers)),
                        0,
                        "{caller} {} {resource}",
                        action.as_str()
                    );
                    assert_eq!(allocations(|| blocked_by(&request, &layers)), 0);
                }
            }
        }
    }
}
