//! What deciding costs, and whether it stays flat: `cargo bench -p countersign-rbac`.
//!
//! Clusters of 100 to 100,000 bindings on top of the default objects. Every class of requests is asked with thousands
//! of different callers, so that at the larger sizes little of the index is in the processor's caches, while each
//! request was just read, as it is in a server. The number is the mean over batches of the best round of each, since the
//! machine may be shared. Allocations are exact.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without it"
)]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench: it prints, reads the clock and stops at the first surprise"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_rbac::{
    Action, Binding, BindingKind, Change, Index, Metadata, Object, ObjectKey, PolicyRule,
    RBAC_GROUP, Request, ResourceAction, Role, RoleKind, RoleRef, Subject, User, default_objects,
    read_json,
};

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

const ROUNDS: u32 = 15;
const REQUESTS: usize = 4096;
const BATCH: usize = 32;

fn main() {
    println!(
        "{:>9}  {:<34} {:>9} {:>12}",
        "bindings", "question", "ns", "allocations"
    );
    // `cargo bench -p countersign-rbac --bench authorize -- 100000` measures one size only.
    let only = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    for bindings in [100, 1_000, 10_000, 100_000] {
        if only.is_some_and(|only: usize| only != bindings) {
            continue;
        }
        let cluster = Cluster::new(bindings);
        let index = cluster.index();
        for (class, questions) in cluster.questions() {
            measure(&index, bindings, class, &questions);
        }
        building(&cluster, bindings);
        changing(&cluster, &index, bindings);
        println!();
    }
    reading();
}

fn measure(index: &Index, bindings: usize, class: &str, questions: &[Question]) {
    let requests: Vec<Request<'_>> = questions.iter().map(Question::request).collect();
    let ask = |request: &Request<'_>| black_box(index.authorize(black_box(request)).is_allowed());
    let allowed = class.starts_with("hit");
    assert!(
        requests.iter().all(|request| ask(request) == allowed),
        "{class}"
    );
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let clock = (0..1_000).map(|_| Instant::now().elapsed()).min().unwrap();
    // The best time of each batch over all rounds; between two rounds everyone else was asked.
    let mut batches = vec![Duration::MAX; requests.len() / BATCH];
    for _ in 0..ROUNDS {
        for (batch, best) in requests.chunks(BATCH).zip(&mut batches) {
            batch.iter().for_each(touch);
            let start = Instant::now();
            batch.iter().for_each(|request| _ = ask(request));
            *best = start.elapsed().saturating_sub(clock).min(*best);
        }
    }
    let best: Duration = batches.iter().sum();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    println!(
        "{bindings:>9}  {class:<34} {:>9.0} {:>12.2}",
        best.as_nanos() as f64 / requests.len() as f64,
        allocations as f64 / (f64::from(ROUNDS) * requests.len() as f64)
    );
}

/// Brings the request into the caches.
fn touch(request: &Request<'_>) {
    let sum = |text: &str| text.bytes().fold(0_u8, u8::wrapping_add);
    let words = match request.action {
        Action::Resource(a) => [
            a.verb,
            a.group,
            a.resource,
            a.subresource,
            a.namespace,
            a.name,
        ],
        Action::NonResource { verb, path } => [verb, path, "", "", "", ""],
    };
    let groups = request.user.groups.iter().map(sum);
    let words = words.into_iter().chain([request.user.name]).map(sum);
    black_box(words.chain(groups).fold(0, u8::wrapping_add));
}

fn building(cluster: &Cluster, bindings: usize) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let objects = cluster.objects.clone();
        let start = Instant::now();
        let built = Index::build(objects);
        best = best.min(start.elapsed());
        black_box(built);
    }
    println!(
        "{bindings:>9}  {:<34} {:>6.2} ms",
        "build",
        best.as_secs_f64() * 1e3
    );
}

/// One binding gets another subject and goes back, on a clone of an index that stays in use.
fn changing(cluster: &Cluster, index: &Index, bindings: usize) {
    let mut index = index.clone();
    let mut times = Vec::new();
    for at in 0..1_000 {
        let object = &cluster.objects[cluster.objects.len() - 1 - (at * 7) % (bindings / 2)];
        let Object::Binding(binding) = object else {
            unreachable!("bindings come last");
        };
        let mut changed = binding.clone();
        changed.subjects.push(Subject::user("newcomer"));
        for change in [
            Change::Put(Object::Binding(changed)),
            Change::Delete(ObjectKey::Binding {
                kind: binding.kind,
                namespace: binding.metadata.namespace.clone(),
                name: binding.metadata.name.clone(),
            }),
            Change::Put(object.clone()),
        ] {
            let before = index.clone();
            let start = Instant::now();
            index.apply(change).unwrap();
            times.push(start.elapsed());
            drop(before);
        }
    }
    times.sort_unstable();
    let micros = |at: usize| times[at].as_secs_f64() * 1e6;
    println!(
        "{bindings:>9}  {:<34} {:>6.1} µs median, {:.1} µs at 99 %, {:.1} µs worst of {}",
        "apply one change",
        micros(times.len() / 2),
        micros(times.len() * 99 / 100),
        micros(times.len() - 1),
        times.len()
    );
}

fn reading() {
    let cluster = Cluster::new(10_000);
    let items: Vec<_> = cluster
        .objects
        .iter()
        .map(countersign_rbac::Manifest::from)
        .collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    let bytes = serde_json::to_vec(&list).unwrap();
    let best = best_of(|| assert!(read_json(black_box(&bytes)).problems.is_empty()));
    println!(
        "{:>9}  {:<34} {:>6.2} ms for {} KiB",
        10_000,
        "read the JSON",
        best.as_secs_f64() * 1e3,
        bytes.len() >> 10
    );
}

fn best_of(mut run: impl FnMut()) -> Duration {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..ROUNDS).map(|_| time(&mut run)).min().unwrap()
}

/// A made-up cluster: one in six bindings is cluster-wide; every namespace has three roles of its own.
struct Cluster {
    bindings: usize,
    namespaces: usize,
    cluster_roles: usize,
    objects: Vec<Object>,
}

const RESOURCES: [(&str, &str); 16] = [
    ("", "pods"),
    ("", "pods/log"),
    ("", "pods/exec"),
    ("", "configmaps"),
    ("", "secrets"),
    ("", "services"),
    ("", "serviceaccounts"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "deployments/scale"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
    ("networking.k8s.io", "ingresses"),
    ("networking.k8s.io", "networkpolicies"),
    ("policy", "poddisruptionbudgets"),
    ("example.com", "widgets"),
];
const VERBS: [&str; 7] = [
    "get", "list", "watch", "create", "update", "patch", "delete",
];

impl Cluster {
    fn new(bindings: usize) -> Self {
        let namespaces = (bindings / 20).max(5);
        let cluster_roles = (bindings / 10).clamp(20, 2_000);
        let mut objects = default_objects().to_vec();
        let mut random = Random(7);
        for at in 0..cluster_roles {
            objects.push(role("", &format!("cr-{at}"), 12, &mut random));
        }
        for namespace in 0..namespaces {
            for at in 0..3 {
                objects.push(role(
                    &format!("ns-{namespace}"),
                    &format!("r-{at}"),
                    4,
                    &mut random,
                ));
            }
        }
        for at in 0..bindings {
            // Each binding of a kind is found again by its number, see `questions`.
            let namespace = if at % 6 == 0 {
                String::new()
            } else {
                format!("ns-{}", at % namespaces)
            };
            let role = if namespace.is_empty() || at % 2 == 0 {
                ("ClusterRole", format!("cr-{}", at % cluster_roles))
            } else {
                ("Role", format!("r-{}", at % 3))
            };
            let subjects = vec![
                Subject::user(format!("user-{at}")),
                Subject::group(format!("group-{}", at / 4)),
                Subject::service_account(
                    format!("ns-{}", at % namespaces),
                    format!("sa-{}", at / namespaces),
                ),
            ];
            objects.push(Object::Binding(Binding {
                kind: if namespace.is_empty() {
                    BindingKind::ClusterRoleBinding
                } else {
                    BindingKind::RoleBinding
                },
                metadata: Metadata {
                    name: format!("binding-{at}"),
                    namespace,
                    ..Metadata::default()
                },
                role_ref: RoleRef {
                    api_group: RBAC_GROUP.into(),
                    kind: role.0.into(),
                    name: role.1,
                },
                subjects,
                origin: None,
            }));
        }
        Self {
            bindings,
            namespaces,
            cluster_roles,
            objects,
        }
    }

    fn index(&self) -> Index {
        let (index, refused) = Index::build(self.objects.iter().cloned());
        assert!(refused.is_empty());
        index
    }

    fn questions(&self) -> Vec<(&'static str, Vec<Question>)> {
        let mut random = Random(11);
        let mut make = |one: &mut dyn FnMut(&mut Random) -> Question| -> Vec<Question> {
            (0..REQUESTS).map(|_| one(&mut random)).collect()
        };
        let known = |groups: &[&str]| -> Vec<String> {
            let implied = ["system:authenticated"];
            groups
                .iter()
                .chain(&implied)
                .map(|g| (*g).to_owned())
                .collect()
        };
        let cluster_bound = |random: &mut Random| random.below(self.bindings / 6) * 6;
        let locally_bound = |random: &mut Random| loop {
            let at = random.below(self.bindings);
            if !at.is_multiple_of(6) {
                return at;
            }
        };
        let mut classes = Vec::new();
        classes.push((
            "hit, user, ClusterRoleBinding",
            make(&mut |random| {
                let at = cluster_bound(random);
                let namespace = format!("ns-{}", random.below(self.namespaces));
                self.granted(
                    at,
                    format!("user-{at}"),
                    known(&["g-none"]),
                    namespace,
                    random,
                )
            }),
        ));
        classes.push((
            "hit, group, RoleBinding",
            make(&mut |random| {
                let at = locally_bound(random);
                let namespace = format!("ns-{}", at % self.namespaces);
                let group = format!("group-{}", at / 4);
                self.granted(
                    at,
                    "member".into(),
                    known(&["a", "b", "c", "d", &group]),
                    namespace,
                    random,
                )
            }),
        ));
        classes.push((
            "hit, service account, RoleBinding",
            make(&mut |random| {
                let at = locally_bound(random);
                let namespace = format!("ns-{}", at % self.namespaces);
                let user = format!(
                    "system:serviceaccount:{namespace}:sa-{}",
                    at / self.namespaces
                );
                let groups = known(&[
                    "system:serviceaccounts",
                    &format!("system:serviceaccounts:{namespace}"),
                ]);
                self.granted(at, user, groups, namespace, random)
            }),
        ));
        classes.push((
            "hit, path",
            make(&mut |random| Question {
                path: "/apis/apps/v1".into(),
                verb: "get".into(),
                user: format!("user-{}", random.below(self.bindings)),
                groups: known(&[]),
                ..Question::default()
            }),
        ));
        let absent = |user: String, groups: Vec<String>, namespace: String| Question {
            verb: "get".into(),
            group: "nothing.example.org".into(),
            resource: "gizmos".into(),
            user,
            groups,
            namespace,
            ..Question::default()
        };
        classes.push((
            "miss, known user and group",
            make(&mut |random| {
                let at = random.below(self.bindings);
                let groups = known(&[&format!("group-{}", at / 4)]);
                absent(
                    format!("user-{at}"),
                    groups,
                    format!("ns-{}", at % self.namespaces),
                )
            }),
        ));
        classes.push((
            "miss, known user, known resource",
            make(&mut |random| {
                let at = random.below(self.bindings);
                let groups = known(&[&format!("group-{}", at / 4)]);
                let namespace = format!("ns-{}", at % self.namespaces);
                Question {
                    verb: "escalate".into(),
                    group: "apps".into(),
                    resource: "deployments".into(),
                    ..absent(format!("user-{at}"), groups, namespace)
                }
            }),
        ));
        classes.push((
            "miss, unknown user",
            make(&mut |random| {
                let namespace = format!("ns-{}", random.below(self.namespaces));
                absent(
                    format!("stranger-{}", random.below(1_000_000)),
                    known(&["strangers"]),
                    namespace,
                )
            }),
        ));
        classes.push((
            "miss, 31 groups",
            make(&mut |random| {
                let groups: Vec<String> = (0..30)
                    .map(|_| format!("corp-group-{}", random.below(100_000)))
                    .collect();
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                let namespace = format!("ns-{}", random.below(self.namespaces));
                absent("corp-user".into(), known(&groups), namespace)
            }),
        ));
        classes.push((
            "miss, cluster scope",
            make(&mut |random| Question {
                resource: "nodes".into(),
                group: String::new(),
                ..absent(
                    format!("user-{}", random.below(self.bindings)),
                    known(&[]),
                    String::new(),
                )
            }),
        ));
        classes
    }

    /// A question that the role of binding `at` answers.
    fn granted(
        &self,
        at: usize,
        user: String,
        groups: Vec<String>,
        namespace: String,
        random: &mut Random,
    ) -> Question {
        let Object::Binding(binding) = &self.objects[self.objects.len() - self.bindings + at]
        else {
            unreachable!("bindings come last");
        };
        let first_of_roles = default_objects().len();
        let role = match binding.role_ref.kind.as_str() {
            "ClusterRole" => at % self.cluster_roles,
            _ => self.cluster_roles + (at % self.namespaces) * 3 + at % 3,
        };
        let Object::Role(role) = &self.objects[first_of_roles + role] else {
            unreachable!("roles come before bindings");
        };
        let rule = &role.rules[random.below(role.rules.len())];
        let (resource, subresource) = rule.resources[0]
            .split_once('/')
            .unwrap_or((&rule.resources[0], ""));
        Question {
            verb: rule.verbs[0].clone(),
            group: rule.api_groups[0].clone(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: rule
                .resource_names
                .first()
                .cloned()
                .unwrap_or_else(|| "x".into()),
            namespace,
            user,
            groups,
            path: String::new(),
        }
    }
}

fn role(namespace: &str, name: &str, rules: usize, random: &mut Random) -> Object {
    let rule = |random: &mut Random| {
        let (group, resource) = RESOURCES[random.below(RESOURCES.len())];
        let verbs = (0..3)
            .map(|_| VERBS[random.below(VERBS.len())].to_owned())
            .collect();
        let names = if random.below(8) == 0 {
            vec![format!("obj-{}", random.below(50))]
        } else {
            Vec::new()
        };
        Arc::new(PolicyRule {
            verbs,
            api_groups: vec![group.to_owned()],
            resources: vec![resource.to_owned()],
            resource_names: names,
            non_resource_urls: Vec::new(),
        })
    };
    Object::Role(Role {
        kind: if namespace.is_empty() {
            RoleKind::ClusterRole
        } else {
            RoleKind::Role
        },
        metadata: Metadata {
            name: name.into(),
            namespace: namespace.into(),
            ..Metadata::default()
        },
        rules: (0..rules).map(|_| rule(random)).collect(),
        aggregation: None,
        origin: None,
    })
}

#[derive(Default)]
struct Question {
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    path: String,
    user: String,
    groups: Vec<String>,
}

impl Question {
    fn request(&self) -> Request<'_> {
        let action = if self.path.is_empty() {
            Action::Resource(ResourceAction {
                verb: &self.verb,
                group: &self.group,
                version: "v1",
                resource: &self.resource,
                subresource: &self.subresource,
                namespace: &self.namespace,
                name: &self.name,
                ..ResourceAction::default()
            })
        } else {
            Action::NonResource {
                verb: &self.verb,
                path: &self.path,
            }
        };
        Request {
            user: User::new(&self.user, &self.groups),
            action,
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
