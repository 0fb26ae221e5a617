//! Entry points for fuzzing; none may panic.

use countersign_arn::Partition;

use crate::annotated::{Annotations, Rules};
use crate::checks::MetadataOptions;
use crate::compat::{Compat, Format, Predecessor, matches_expression, matches_glob};
use crate::decision::{Class, Decision, Mode, Request, Session, Settings, classify, decide};
use crate::harmless::HarmlessPaths;
use crate::host::{Cgroup, pod_of};
use crate::network_policy::{NetworkPolicy, evaluate};
use crate::node::{self, befores};
use crate::path::Path;
use crate::predecessors::nft_shadows;
use crate::probe::{Reply, Seen, addresses, findings};
use crate::rules::shadows;

/// `data` as a request, line by line: path, method, host, life of the token. Whatever it is, nothing secret is forwarded, and the
/// decision depends on nothing but the normalised path.
pub fn request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n');
    let path = lines.next().unwrap_or_default();
    let method = lines
        .next()
        .filter(|line| !line.is_empty())
        .unwrap_or("GET");
    let request = Request {
        method,
        path,
        host: lines.next().filter(|line| !line.is_empty()),
        forwarded: false,
        ttl: lines.next(),
        session: Session::Valid,
    };
    for mode in [Mode::Block, Mode::Serve, Mode::Audit] {
        let settings = Settings {
            mode,
            v1: true,
            harmless: HarmlessPaths::default(),
        };
        let decided = decide(&request, &settings);
        nothing_secret_is_forwarded(&decided.decision, &settings);
        let Ok(normal) = Path::normalise(path) else {
            assert!(matches!(decided.decision, Decision::Refuse(_)));
            continue;
        };
        // Written anew, the path means the same, and gets the same decision.
        let again = normal.to_string();
        let rewritten = Request {
            path: if again.is_empty() { "/" } else { &again },
            ..request
        };
        assert_eq!(
            decide(&rewritten, &settings),
            decided,
            "{path:?} as {again:?}"
        );
    }
}

/// What is asked of the node's service is harmless, and nothing is passed on but in `audit`.
pub fn nothing_secret_is_forwarded(decision: &Decision, settings: &Settings) {
    match decision {
        Decision::Harmless(harmless) => {
            let path = Path::normalise(harmless.as_str());
            assert!(path.is_ok_and(|path| {
                matches!(classify(&path, &settings.harmless), Class::Harmless(same) if same == *harmless)
            }));
        }
        Decision::PassOn { path } => {
            assert_eq!(settings.mode, Mode::Audit);
            assert!(
                path.is_ascii() && Path::normalise(path).is_ok() || path.is_empty(),
                "{path}"
            );
        }
        Decision::Role(_) => assert_eq!(settings.mode, Mode::Serve),
        Decision::Token { .. } | Decision::Index | Decision::Refuse(_) => {}
    }
}

/// `data` as annotations: a role and a list.
pub fn annotations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (role, list) = text.split_once('\n').unwrap_or((text, ""));
    for (predecessor, format) in [
        (Predecessor::Kube2iam, Format::Glob),
        (Predecessor::Kube2iam, Format::Regexp),
        (Predecessor::Kiam, Format::Regexp),
    ] {
        let compat = Compat {
            predecessor,
            base_arn: Some("arn:aws:iam::111122223333:role/".into()),
            format,
            default_role: None,
        };
        assert!(compat.resolve(Some(role), None).is_err());
        let _ = compat.resolve(Some(role), Some(list));
        let rules = Rules {
            compat,
            accounts: Vec::new(),
        };
        let annotations = Annotations {
            role: Some(role),
            external_id: Some(list),
            session_name: Some(role),
            list: Some(list),
        };
        if let Ok(account) = "111122223333".parse()
            && let Ok(granted) = rules.grant((Partition::Aws, account), annotations)
        {
            assert!(granted.arn.starts_with("arn:aws:iam::111122223333:role/"));
            assert!(granted.arn.ends_with(&granted.shown));
            assert!(granted.session_name.is_none_or(|name| name.len() <= 64));
        }
    }
    let _ = matches_glob(list, role);
    let _ = matches_expression(list, role);
}

/// `data` as what answers a probe. Nothing of it goes back that could end a line.
pub fn answer(data: &[u8]) {
    let reply = Reply::parse(data);
    if let Some(token) = reply.token() {
        assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Some(role) = reply.role() {
        assert!(role.len() <= 64 && !role.contains(char::is_control));
    }
    let mut asked = 0;
    let seen = Seen::look(addresses()[0], |_, request| {
        asked += 1;
        assert_eq!(request.matches("\r\n\r\n").count(), 1);
        assert!(!request.contains("security-credentials/ HTTP") || asked == 3);
        reply.clone()
    });
    let _ = findings(&[seen]);
}

/// `data` as documents: policies, options, a listing of rules.
pub fn documents(data: &[u8]) {
    if let Ok(policy) = serde_json::from_slice::<NetworkPolicy>(data) {
        let namespace = policy.metadata.namespace.clone();
        let _ = evaluate(&[namespace], &[policy], &[]);
    }
    let _ = serde_json::from_slice::<MetadataOptions>(data);
    if let Ok(text) = std::str::from_utf8(data) {
        for shadow in shadows(text) {
            assert_eq!(shadow.delete.first().map(String::as_str), Some("-D"));
        }
        for shadow in nft_shadows(text) {
            assert!(!shadow.rule.contains(['\'', ';', '{', '\n']));
        }
        let _ = node::Rules::of_nft(text);
        let _ = node::Rules::of_iptables(text, text, jiff::Timestamp::UNIX_EPOCH);
        for unit in befores(text) {
            assert!(!unit.contains(char::is_whitespace));
        }
    }
}

/// `data` as the path of a cgroup.
pub fn cgroup(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(uid) = pod_of(text) {
        assert!(!Cgroup::of_pod(&uid).is_empty());
    }
    if let Ok(cgroup) = text.parse::<Cgroup>() {
        assert_eq!(cgroup.as_str(), text);
        assert!(!text.contains(['"', '\n', ' ', ';']));
    }
}
