//! Speed of the engine: `cargo bench -p countersign-policy`. Each line says what it measures, the median of many batches, and how many
//! allocations one round takes.
#![allow(
    unsafe_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench reads the clock, prints, and counts allocations through the global allocator"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use countersign_policy::explain::explain;
use countersign_policy::simulate::{self, Options};
use countersign_policy::tables::managed_policies;
use countersign_policy::{
    Action, Attached, Context, Document, Layers, Level, Outcome, Policy, PolicyKind, PolicySet,
    Principal, Request, decide,
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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

/// Median and least nanoseconds of one round, and allocations per round. On a busy machine the least is the better measure.
fn measure<T>(mut round: impl FnMut() -> T) -> (f64, f64, u64) {
    let started = Instant::now();
    let mut rounds = 0u32;
    while started.elapsed().as_millis() < 50 {
        black_box(round());
        rounds += 1;
    }
    let batch = (rounds / 50).max(1);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    black_box(round());
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let mut samples: Vec<f64> = (0..101)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..batch {
                black_box(round());
            }
            started.elapsed().as_nanos() as f64 / f64::from(batch)
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    (samples[samples.len() / 2], samples[0], allocations)
}

/// Runs a measurement, unless an argument names others.
fn report<T>(name: &str, round: impl FnMut() -> T) -> f64 {
    let mut wanted = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .peekable();
    if wanted.peek().is_some() && !wanted.any(|wanted| name.contains(&wanted)) {
        return f64::NAN;
    }
    let (median, least, allocations) = measure(round);
    println!("{name:<56} {median:>12.1} ns, least {least:>12.1} ns {allocations:>7} allocations");
    least
}

const USER: &str = "arn:aws:iam::111122223333:user/ana";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/dev/s1";
const BUCKET_KEY: &str = "arn:aws:s3:::data/ana/report.csv";

fn identity(documents: &[String]) -> PolicySet {
    PolicySet {
        identity: documents
            .iter()
            .map(|text| attached(text, PolicyKind::Identity))
            .collect(),
        ..PolicySet::default()
    }
}

fn attached(text: &str, kind: PolicyKind) -> Attached {
    Attached::new(Arc::new(Policy::parse(text, kind).unwrap()), "p")
}

fn ask(
    name: &str,
    principal: &str,
    action: &str,
    resource: &str,
    context: &Context<'_>,
    layers: &Layers<'_>,
    expected: Outcome,
) {
    let principal = Principal::parse(principal, None).unwrap();
    let action = Action::parse(action).unwrap();
    let request = Request::new(&principal, &action, resource, context).unwrap();
    assert_eq!(decide(&request, layers).outcome, expected, "{name}");
    report(name, || decide(black_box(&request), black_box(layers)));
}

fn context() -> Context<'static> {
    let mut context = Context::new();
    for (key, value) in [
        ("aws:PrincipalArn", USER),
        ("aws:PrincipalAccount", "111122223333"),
        ("aws:PrincipalType", "User"),
        ("aws:username", "ana"),
        ("aws:SecureTransport", "true"),
        ("aws:RequestedRegion", "eu-west-1"),
        ("aws:SourceIp", "203.0.113.7"),
        ("aws:CurrentTime", "2026-03-01T12:00:00Z"),
        ("aws:ResourceAccount", "111122223333"),
        ("aws:PrincipalTag/team", "red"),
    ] {
        context.set(key, value);
    }
    context
}

const THREE: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Deny", "Action": "s3:DeleteBucket", "Resource": "*"},
    {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "arn:aws:s3:::data/${aws:username}/*",
     "Condition": {"StringEquals": {"aws:PrincipalTag/team": "red"}}},
    {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]}"#;

fn small() {
    let set = identity(&[THREE.to_owned()]);
    let (layers, context) = (set.layers(), context());
    ask(
        "3 statements, 1 condition: allow",
        USER,
        "s3:GetObject",
        BUCKET_KEY,
        &context,
        &layers,
        Outcome::Allowed,
    );
    ask(
        "3 statements, 1 condition: explicit deny",
        USER,
        "s3:DeleteBucket",
        "arn:aws:s3:::data",
        &context,
        &layers,
        Outcome::ExplicitDeny,
    );
    ask(
        "3 statements, 1 condition: implicit deny",
        USER,
        "s3:GetObject",
        "arn:aws:s3:::data/bo/x",
        &context,
        &layers,
        Outcome::ImplicitDeny,
    );
    let admin = identity(&[r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#.to_owned()]);
    ask(
        "AdministratorAccess: allow",
        USER,
        "s3:GetObject",
        BUCKET_KEY,
        &context,
        &admin.layers(),
        Outcome::Allowed,
    );
    let principal = Principal::parse(USER, None).unwrap();
    let action = Action::parse("s3:GetObject").unwrap();
    report("3 statements, and making the request from its ARN", || {
        let request = Request::new(&principal, &action, black_box(BUCKET_KEY), &context).unwrap();
        decide(&request, &layers)
    });
}

/// Ten documents of thirty statements over sixty services; five statements are about S3.
fn three_hundred() -> Vec<String> {
    (0..10)
        .map(|document| {
            let statements: Vec<String> = (0..30)
                .map(|statement| {
                    let number = document * 30 + statement;
                    if number % 60 == 7 {
                        let (effect, action) = match number {
                            7 => ("Deny", "s3:DeleteBucket"),
                            67 | 127 => ("Allow", "s3:Put*"),
                            _ => ("Allow", "s3:Get*"),
                        };
                        let folder = if number > 200 { "ana" } else { "bo" };
                        return format!(r#"{{"Effect": "{effect}", "Action": ["{action}", "s3:X{number}"], "Resource": "arn:aws:s3:::data/{folder}/*"}}"#);
                    }
                    let service = format!("service{}", number % 60);
                    format!(
                        r#"{{"Effect": "Allow", "Action": ["{service}:Describe*", "{service}:Get{number}"], "Resource": "arn:aws:{service}:*:111122223333:thing/{number}/*", "Condition": {{"StringEquals": {{"aws:RequestedRegion": "eu-west-1"}}}}}}"#
                    )
                })
                .collect();
            format!(r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#, statements.join(","))
        })
        .collect()
}

fn large() {
    let set = identity(&three_hundred());
    let (layers, context) = (set.layers(), context());
    ask(
        "300 statements in 10 documents: allow",
        USER,
        "s3:GetObject",
        BUCKET_KEY,
        &context,
        &layers,
        Outcome::Allowed,
    );
    ask(
        "300 statements in 10 documents: explicit deny",
        USER,
        "s3:DeleteBucket",
        "arn:aws:s3:::data/bo/x",
        &context,
        &layers,
        Outcome::ExplicitDeny,
    );
    ask(
        "300 statements in 10 documents: implicit deny",
        USER,
        "s3:GetObject",
        "arn:aws:s3:::data/eve/x",
        &context,
        &layers,
        Outcome::ImplicitDeny,
    );
    ask(
        "300 statements in 10 documents: other service",
        USER,
        "sqs:SendMessage",
        "arn:aws:sqs:eu-west-1:111122223333:q",
        &context,
        &layers,
        Outcome::ImplicitDeny,
    );
}

fn layered() {
    let full = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
    let scp = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringNotEquals": {"aws:RequestedRegion": ["eu-west-1", "us-east-1"]}}}]}"#;
    let trust = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/dev"}, "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {"aws:PrincipalTag/team": "red"}}}}"#;
    let mut documents = three_hundred();
    documents.truncate(2);
    let mut set = identity(&documents);
    set.identity.push(attached(r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::111122223333:role/*"}}"#, PolicyKind::Identity));
    set.boundary = Some(attached(full, PolicyKind::Boundary));
    set.session = Some(vec![attached(full, PolicyKind::Session)]);
    set.scp = ["r-root", "ou-1", "111122223333"]
        .into_iter()
        .map(|target| Level {
            target: target.into(),
            policies: vec![attached(scp, PolicyKind::Scp)],
        })
        .collect();
    set.resource = Some(vec![attached(trust, PolicyKind::Trust)]);
    ask(
        "all layers, 10 keys, AssumeRole: allow",
        SESSION,
        "sts:AssumeRole",
        "arn:aws:iam::111122223333:role/r",
        &context(),
        &set.layers(),
        Outcome::Allowed,
    );

    let web = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC"}, "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {"oidc.eks.eu-west-1.amazonaws.com/id/ABC:aud": "sts.amazonaws.com", "oidc.eks.eu-west-1.amazonaws.com/id/ABC:sub": "system:serviceaccount:shop:cart"}}}}"#;
    let set = PolicySet {
        resource: Some(vec![attached(web, PolicyKind::Trust)]),
        ..PolicySet::default()
    };
    let mut context = Context::new();
    context.set(
        "oidc.eks.eu-west-1.amazonaws.com/id/ABC:aud",
        "sts.amazonaws.com",
    );
    context.set(
        "oidc.eks.eu-west-1.amazonaws.com/id/ABC:sub",
        "system:serviceaccount:shop:cart",
    );
    let principal = Principal::federated(
        "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC",
    );
    let action = Action::parse("sts:AssumeRoleWithWebIdentity").unwrap();
    let request = Request::new(
        &principal,
        &action,
        "arn:aws:iam::111122223333:role/cart",
        &context,
    )
    .unwrap();
    let layers = set.layers();
    assert!(decide(&request, &layers).is_allowed());
    report("web identity trust, sub and aud: allow", || {
        decide(black_box(&request), &layers)
    });
}

fn compiling() {
    let documents = three_hundred();
    let bytes: usize = documents.iter().map(String::len).sum();
    let nanos = report("read and compile 300 statements", || {
        for text in &documents {
            black_box(Policy::compile(
                Document::parse(&**text).unwrap(),
                PolicyKind::Identity,
            ));
        }
    });
    println!("{:<64} {:>12.1} MB/s", "", bytes as f64 / nanos * 1000.0);
    let managed: Vec<&str> = managed_policies()
        .iter()
        .map(|policy| policy.document())
        .collect();
    let bytes: usize = managed.iter().map(|text| text.len()).sum();
    let nanos = report("read and compile the shipped AWS managed policies", || {
        for text in &managed {
            black_box(Policy::parse(*text, PolicyKind::Identity).unwrap());
        }
    });
    println!("{:<64} {:>12.1} MB/s", "", bytes as f64 / nanos * 1000.0);
}

fn explaining() {
    let set = identity(&three_hundred());
    let (layers, context) = (set.layers(), context());
    let principal = Principal::parse(USER, None).unwrap();
    let action = Action::parse("s3:GetObject").unwrap();
    let request = Request::new(&principal, &action, "arn:aws:s3:::data/eve/x", &context).unwrap();
    report("explain an implicit deny over 300 statements", || {
        explain(&request, &layers)
    });
}

/// Alternating stars and literals that match up to the very end of the text and then fail. Linear means that times double with sizes.
fn hostile() {
    for size in [512usize, 1024, 2048, 4096] {
        let resource = format!("arn:aws:s3:::b/{}", "a".repeat(size));
        let pattern = format!("arn:aws:s3:::b/{}*b*", "*a".repeat(size - 16));
        worst(
            &format!("(*a)^{}*b* against a^{size}", size - 16),
            &pattern,
            &resource,
        );
    }
    for size in [512usize, 1024, 2048, 4096] {
        let resource = format!("arn:aws:s3:::b/{}", "a".repeat(size));
        let pattern = format!("arn:aws:s3:::b/{}*b*", "*a".repeat(size * 3 / 2));
        worst(
            &format!("(*a)^{}*b* against a^{size}, 6 KB to 2 KB", size * 3 / 2),
            &pattern,
            &resource,
        );
    }
    for size in [512usize, 1024, 2048, 4096] {
        let resource = format!("arn:aws:s3:::b/{}", "ab".repeat(size / 2));
        let pattern = format!(
            "arn:aws:s3:::b/{}*{}c*",
            "*ab".repeat(size / 8),
            "ab".repeat(size / 8)
        );
        worst(
            &format!(
                "(*ab)^{}*(ab)^{}c* against (ab)^{}",
                size / 8,
                size / 8,
                size / 2
            ),
            &pattern,
            &resource,
        );
    }
    for size in [512usize, 1024, 2048] {
        let resource = format!("arn:aws:s3:::b/{}", "ab".repeat(size / 2));
        let pattern = format!("arn:aws:s3:::b/{}*c*", "*a?".repeat(size / 2 - 8));
        worst(
            &format!("(*a?)^{}*c* against (ab)^{}", size / 2 - 8, size / 2),
            &pattern,
            &resource,
        );
        let pattern = format!("arn:aws:s3:::b/*{}c*", "a?".repeat(size / 4));
        worst(
            &format!("*(a?)^{}c* against (ab)^{}", size / 4, size / 2),
            &pattern,
            &resource,
        );
    }
}

/// A whole managed policy of hostile patterns, 6 KB, against a resource of 2 KB.
fn hostile_document() {
    let resource = format!("arn:aws:s3:::b/{}", "a".repeat(2030));
    for (name, pattern) in [
        ("*aa?b*", "*aa?b*"),
        ("*aab*", "*aab*"),
        ("*a*a?a*b", "*a*a?a*b*"),
    ] {
        let entries: Vec<String> = (0..6000 / (pattern.len() + 20))
            .map(|number| format!(r#""arn:aws:s3:::{pattern}{number}*""#))
            .collect();
        let text = format!(
            r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": "*", "Resource": [{}]}}}}"#,
            entries.join(",")
        );
        let set = identity(&[text]);
        ask(
            &format!("{} times {name} against a^2030", entries.len()),
            USER,
            "s3:GetObject",
            &resource,
            &Context::new(),
            &set.layers(),
            Outcome::ImplicitDeny,
        );
    }
}

fn worst(name: &str, pattern: &str, resource: &str) {
    let set = identity(&[format!(
        r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": "*", "Resource": "{pattern}"}}}}"#
    )]);
    ask(
        name,
        USER,
        "s3:GetObject",
        resource,
        &Context::new(),
        &set.layers(),
        Outcome::ImplicitDeny,
    );
}

fn simulating() {
    let cases: Vec<String> = (0..1000)
        .map(|number| {
            format!(
                r#"{{"id": "case-{number}", "request": {{"principal": "{SESSION}", "action": "s3:GetObject", "resource": "arn:aws:s3:::shop/{number}/a.json",
                "context": {{"aws:PrincipalTag/kubernetes-namespace": "shop", "aws:TagKeys": ["a", "b"]}}}},
                "policies": {{"identity": [{THREE}], "boundary": [{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::shop/{number}/*"}}}}]}},
                "expected": {{"decision": "implicitDeny"}}}}"#
            )
        })
        .collect();
    let text = format!("[{}]", cases.join(",\n"));
    let refuse = |_: &str| Err("no files".to_owned());
    report("simulate 1,000 cases from one file", || {
        let cases = simulate::parse("bench.json", &text, &refuse).unwrap();
        let report = simulate::run(&cases, &Options::default());
        assert_eq!((report.summary.total, report.summary.failed), (1000, 0));
    });
    println!("{:<64} {:>12} bytes", "", text.len());
}

fn main() {
    small();
    large();
    layered();
    compiling();
    explaining();
    hostile();
    hostile_document();
    simulating();
}
