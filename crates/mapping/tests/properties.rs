//! Properties with an oracle.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

use std::collections::BTreeMap;

use countersign_arn::CallerIdentity;
use countersign_mapping::config_map::ConfigMap;
use countersign_mapping::*;
use proptest::prelude::*;

fn caller(account: &str, role: &str, session: &str) -> Option<CallerIdentity> {
    CallerIdentity::new(
        &format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
        account,
        &format!("AROAEXAMPLE:{session}"),
        "ASIAEXAMPLE",
        "sts.amazonaws.com",
    )
    .ok()
}

fn chain(map_roles: &str) -> Chain {
    let options = MappingOptions::default();
    let data = BTreeMap::from([("mapRoles".to_owned(), map_roles.to_owned())]);
    let (entries, _) = ConfigMap::parse(&data, &options).in_force(None, OnParseError::KeepLastGood);
    let table = MappingTable::new(BackendKind::EksConfigMap, entries, &options);
    Chain::new(vec![table.into()], ChainOptions::default())
}

/// The obvious matcher, which takes exponential time.
fn glob(glob: &[char], name: &[char]) -> bool {
    match (glob, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => {
            self::glob(rest, name) || (!name.is_empty() && self::glob(glob, &name[1..]))
        }
        (['?', rest @ ..], [_, name @ ..]) => self::glob(rest, name),
        ([a, rest @ ..], [b, name @ ..]) => a.eq_ignore_ascii_case(b) && self::glob(rest, name),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_glob_matches_like_the_obvious_matcher(g in "[abA*?]{0,10}", name in "[abB]{0,12}") {
        let chars = |t: &str| t.chars().collect::<Vec<_>>();
        prop_assert_eq!(NameGlob::new(&g).matches(&name), glob(&chars(&g), &chars(&name)));
    }

    /// However wide the glob: a caller of an account that the rule does not list is never mapped, and one of a listed
    /// account is mapped exactly when the glob matches.
    #[test]
    fn a_pattern_cannot_match_another_account(
        listed in "[0-9]{12}",
        other in "[0-9]{12}",
        name in "[a-c]{3}[a-c*?]{0,6}",
        role in "[a-c]{3,9}",
        session in "[a-z]{2,8}",
    ) {
        let text = format!(
            "- {{roleMatch: {{accountID: '{listed}', name: '{name}'}}, username: '{{{{RoleName}}}}'}}"
        );
        let chain = chain(&text);
        for account in [&listed, &other] {
            let caller = caller(account, &role, &session).unwrap();
            let mapped = matches!(chain.map(&caller), MappingDecision::Mapped(_));
            prop_assert_eq!(mapped, *account == listed && NameGlob::new(&name).matches(&role));
        }
    }

    /// Names that no role has, as a hostile upstream might report them, do not carry a pattern into another account.
    #[test]
    fn an_odd_role_name_does_not_leave_its_account(
        other in "[0-9]{12}",
        role in "(team-|[:/*?]|444455556666|role|arn:aws:iam::){1,6}",
    ) {
        let chain = chain(
            "- {roleMatch: {accountID: '444455556666', name: 'team-*'}, username: '{{RoleName}}'}",
        );
        if let Some(caller) = caller(&other, &role, "session") {
            prop_assert!(!matches!(chain.map(&caller), MappingDecision::Mapped(_)));
        }
    }

    /// An account with a wildcard is refused, so that no account it would stand for is let in.
    #[test]
    fn an_accepted_pattern_lists_its_accounts(
        account in "[0-9*?]{12}",
        name in "[a-z*]{3,8}",
        role in "[a-z]{3,12}",
    ) {
        let text = format!(
            "- {{roleMatch: {{accountID: '{account}', name: '{name}'}}, username: '{{{{RoleName}}}}'}}"
        );
        let meant = account.replace(['*', '?'], "4");
        let caller = caller(&meant, &role, "session").unwrap();
        let chain = chain(&text);
        let mapped = matches!(chain.map(&caller), MappingDecision::Mapped(_));
        prop_assert!(!mapped || account == meant);
    }

    /// The index finds what a walk over the list from its end finds.
    #[test]
    fn a_lookup_finds_the_last_entry_of_the_role(
        names in prop::collection::vec("[a-cA-C]{1,2}", 1..20),
        role in "[a-cA-C]{1,2}",
    ) {
        let text: String = names
            .iter()
            .enumerate()
            .map(|(n, name)| format!(
                "- {{rolearn: 'arn:aws:iam::444455556666:role/{name}', username: 'u{n}:{{{{SessionNameRaw}}}}'}}\n"
            ))
            .collect();
        let chain = chain(&text);
        let caller = caller("444455556666", &role, "ana").unwrap();
        let expected = names.iter().rposition(|name| name.eq_ignore_ascii_case(&role));
        let found = match chain.map(&caller) {
            MappingDecision::Mapped(mapped) => Some(mapped.rule().index as usize),
            _ => None,
        };
        prop_assert_eq!(found, expected);
    }

    /// One pass: the value of a variable is written as it is, whatever it looks like.
    #[test]
    fn a_session_name_is_written_as_it_is(session in "[A-Za-z0-9+=,.@_-]{2,64}") {
        let caller = caller("444455556666", "Ops", &session).unwrap();
        let raw = Template::new("a:{{SessionNameRaw}}:b").render(&caller, None).unwrap();
        prop_assert_eq!(raw, format!("a:{session}:b"));
        let folded = Template::new("{{SessionName}}").render(&caller, None).unwrap();
        prop_assert_eq!(folded, session.replace('@', "-"));
    }

    /// Text without braces is its own template.
    #[test]
    fn a_text_without_braces_renders_to_itself(text in "[^{}]{0,64}") {
        let caller = caller("444455556666", "Ops", "ana").unwrap();
        prop_assert_eq!(Template::new(&text).render(&caller, None).unwrap(), text);
    }

    /// A rendered name begins with `system:` only if the template does.
    #[test]
    fn system_is_never_composed(
        template in "(sys|system|:|s|tem:|\\{\\{SessionName\\}\\}|\\{\\{SessionNameRaw\\}\\}|\\{\\{RoleName\\}\\}){1,5}",
        session in "(system|sys|tem|ystem|xx){1,2}",
        role in "(system|sys|tem|s|ystem){1,2}",
    ) {
        let caller = caller("444455556666", &role, &session).unwrap();
        let template = Template::new(&template);
        if let Ok(name) = template.render(&caller, None) {
            prop_assert!(!name.starts_with("system:") || template.as_str().starts_with("system:"));
        }
    }

    /// Quoting decides nothing: an entry means the same whichever way its scalars are written.
    #[test]
    fn the_way_a_scalar_is_written_does_not_matter(
        username in "[a-z]{1,8}:[a-z0-9]{1,8}",
        group in "[a-z][a-z0-9-]{0,8}",
    ) {
        let entries = |quote: &str| {
            let text = format!(
                "- rolearn: {quote}arn:aws:iam::444455556666:role/A{quote}\n  username: {quote}{username}{quote}\n  groups: [{quote}{group}{quote}]\n"
            );
            let chain = chain(&text);
            let caller = caller("444455556666", "A", "ana").unwrap();
            match chain.map(&caller) {
                MappingDecision::Mapped(mapped) => {
                    let user = mapped.render(&caller, None).unwrap();
                    (user.username, user.groups)
                }
                _ => panic!("not mapped"),
            }
        };
        prop_assert_eq!(entries(""), entries("'"));
        prop_assert_eq!(entries("\""), (username, vec![group]));
    }
}
