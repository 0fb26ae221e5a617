//! What deciding by access policies costs: `cargo bench -p countersign-access`.
//!
//! The number is the best of several rounds over thousands of requests, since the machine may be shared. Allocations are
//! exact.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench: it prints, reads the clock and stops at the first surprise"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_access::{AccessScope, Catalogue, CompiledPolicies, EntryType, EntryView};
use countersign_rbac::{Action, ResourceAction};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: u32 = 20;
const REQUESTS: u32 = 4_096;

type Association = (String, AccessScope);

fn main() {
    println!(
        "{:>12}  {:<34} {:>9} {:>12}",
        "associations", "question", "ns", "allocations"
    );
    let mut random = Random(7);
    for count in [1, 20] {
        for (class, cluster, expected) in [
            ("hit, scope cluster", true, true),
            ("hit, scope namespace", false, true),
            ("miss, known resource", true, false),
            ("miss, unknown resource", true, false),
            ("miss, other namespace", false, false),
        ] {
            let entry = entry(count, cluster);
            let requests: Vec<Action<'_>> = (0..REQUESTS)
                .map(|_| request(class, expected, &mut random))
                .collect();
            measure(count, class, &entry, &requests, expected);
        }
    }
    let start = Instant::now();
    for _ in 0..100 {
        black_box(CompiledPolicies::new(Catalogue::builtin().clone()));
    }
    println!(
        "{:>12}  {:<34} {:>6.2} ms",
        "",
        "compile the catalogue",
        start.elapsed().as_secs_f64() * 10.0
    );
}

/// `count` associations of which only the last in order, the view policy, has to do with the requests.
fn entry(count: usize, cluster: bool) -> Vec<Association> {
    let grants_much = [
        "AWSBackupFullAccessPolicyForBackup",
        "AWSBackupFullAccessPolicyForRestore",
        "AmazonEKSAdminPolicy",
        "AmazonEKSAdminViewPolicy",
        "AmazonEKSClusterAdminPolicy",
        "AmazonEKSEditPolicy",
        "AmazonEKSViewPolicy",
    ];
    let others = Catalogue::builtin()
        .policies()
        .filter(|policy| !grants_much.contains(&&*policy.name))
        .take(count - 1)
        .map(|policy| policy.name.to_string());
    let all = others.chain(["AmazonEKSViewPolicy".to_owned()]);
    all.map(|name| {
        let scope = if cluster {
            AccessScope::Cluster
        } else {
            AccessScope::Namespace(["dev-*", "*-prod", "team-a"].map(Into::into).into())
        };
        (
            format!("arn:aws:eks::aws:cluster-access-policy/{name}"),
            scope,
        )
    })
    .collect()
}

const RESOURCES: [(&str, &str, &str); 8] = [
    ("", "pods", ""),
    ("", "pods", "log"),
    ("apps", "deployments", ""),
    ("apps", "statefulsets", "status"),
    ("batch", "jobs", ""),
    ("networking.k8s.io", "ingresses", ""),
    ("", "services", ""),
    ("", "configmaps", ""),
];

fn request(class: &str, expected: bool, random: &mut Random) -> Action<'static> {
    let (group, resource, subresource) = match class {
        "miss, unknown resource" => ("nothing.example.org", "gizmos", ""),
        _ => random.of(&RESOURCES),
    };
    let verb = match expected || class == "miss, other namespace" {
        true => random.of(&["get", "list", "watch"]),
        false => random.of(&["escalate", "delete", "polish"]),
    };
    let namespace = match class {
        "miss, other namespace" => random.of(&["kube-system", "default", "prod-a"]),
        _ => random.of(&["dev-a", "dev-payments", "a-prod", "team-a"]),
    };
    Action::Resource(ResourceAction {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name: "web-0",
        ..ResourceAction::default()
    })
}

fn measure(
    count: usize,
    class: &str,
    associations: &[Association],
    requests: &[Action<'_>],
    expected: bool,
) {
    let policies = CompiledPolicies::builtin();
    let ask = |action: &Action<'_>| {
        let entry = EntryView {
            principal_arn: "arn:aws:iam::111122223333:role/team/Dev",
            principal_id: "AROADEV0000000000001",
            entry_type: EntryType::Standard,
            associations: associations
                .iter()
                .map(|(arn, scope)| (arn.as_str(), scope)),
        };
        black_box(policies.authorize(&entry, black_box(action)).is_allowed())
    };
    assert!(
        requests.iter().all(|action| ask(action) == expected),
        "{class}"
    );
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        requests.iter().for_each(|action| _ = ask(action));
        best = best.min(start.elapsed());
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    println!(
        "{count:>12}  {class:<34} {:>9.0} {:>12.2}",
        best.as_secs_f64() * 1e9 / f64::from(REQUESTS),
        allocations as f64 / f64::from(ROUNDS * REQUESTS)
    );
}

/// The same numbers every time.
struct Random(u64);

impl Random {
    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let place = usize::try_from(self.0 % list.len() as u64).unwrap();
        *list.get(place).unwrap()
    }
}
