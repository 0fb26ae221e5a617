//! Entry points for fuzzing; none may panic.

use serde_json::Value;

use crate::{
    AccountFact, AccountSettings, AssociationFact, AssociationSpec, Associations, Facts, Flags,
    Notes, Options, PatchStyle, Review, RoleMap, Webhook, merge_patch,
};

/// The body of a review, with the first bytes choosing what is known about the account.
pub fn review(data: &[u8]) {
    let (choice, body) = data.split_first().unwrap_or((&0, &[]));
    let settings = AccountSettings::from_annotations(
        "eks.amazonaws.com",
        [
            (
                "eks.amazonaws.com/role-arn",
                "arn:aws:iam::210987654321:role/orchard-reader",
            ),
            (
                "eks.amazonaws.com/role-arn.writer",
                "arn:aws:iam::210987654321:role/orchard-writer",
            ),
        ],
    );
    let facts = Facts {
        account: match choice & 3 {
            0 => AccountFact::Missing,
            1 => AccountFact::Unread,
            _ => AccountFact::Known(&settings),
        },
        association: (choice & 4 != 0).then(AssociationFact::default),
        role_map: None,
        random: u64::from(*choice),
    };
    let options = Options {
        patch_style: match choice & 8 {
            0 => PatchStyle::Additive,
            _ => PatchStyle::Replace,
        },
        default_region: (choice & 16 != 0).then(|| "eu-west-1".to_owned()),
        inject_session_name: choice & 32 != 0,
        ephemeral_containers: choice & 64 != 0,
        role_profiles: choice & 128 != 0,
        ..Options::default()
    };
    let Ok(webhook) = Webhook::new(options) else {
        return;
    };
    let answer = webhook.admit(body, |_| facts);
    let written: Result<Value, _> = serde_json::from_slice(&answer.body);
    assert!(written.is_ok(), "an answer is JSON");
    if let Ok(review) = Review::parse(body) {
        let decision = webhook.decide(&review, &facts);
        assert_eq!(
            decision.patch.is_some(),
            decision.outcome == crate::Outcome::Mutated
        );
        for warning in decision.notes.warnings() {
            assert!(
                warning.is_ascii() && warning.len() <= crate::MAX_WARNING_CHARS,
                "{warning}"
            );
        }
        assert!(decision.to_string().len() < 4096 + 512 * decision.containers.len() + body.len());
    }
}

/// The text of the ConfigMap, and of an identities file.
pub fn sources(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok((map, refused)) = RoleMap::parse(text) {
        assert!(map.len() + refused.len() <= text.len());
        if let Some(found) = map.find("orchard", "picker") {
            assert!(!found.is_exact || found.key == "orchard/picker");
        }
    }
    let _ = Associations::parse_identities(text);
}

/// Profiles of an account, in lines `name=role`: whatever they are, the file has a profile for each that can be in it, of three
/// lines, and nothing else.
pub fn profiles(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let prefix = "eks.amazonaws.com";
    let pairs = text.split('\u{1}').filter_map(|pair| pair.split_once('='));
    let pairs: Vec<_> = pairs
        .map(|(name, role)| (format!("{prefix}/role-arn.{name}"), role))
        .collect();
    let pairs = pairs.iter().map(|(key, role)| (&**key, *role));
    let settings = AccountSettings::from_annotations(prefix, pairs);
    let mut notes = Notes::default();
    let options = Options::default();
    let file = crate::profiles::config(&settings.profiles, &options, "/t/token", &mut notes);
    for (at, line) in file.unwrap_or_default().lines().enumerate() {
        let expected = match at % 3 {
            0 => "[profile ",
            1 => "role_arn = arn:aws",
            _ => "web_identity_token_file = /t/token",
        };
        assert!(line.starts_with(expected), "{line}");
    }
}

/// A command line, arguments separated by line breaks.
pub fn flags(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(flags) = Flags::parse(text.split('\n')) {
        let again = Webhook::new(flags.options);
        assert!(again.is_ok(), "parsed flags are usable");
    }
}

/// The `spec` of an object that asks for an association.
pub fn association_object(data: &[u8]) {
    let Ok(given) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    if let Ok(spec) = AssociationSpec::parse(&given)
        && let Ok(written) = serde_json::to_value(&spec)
    {
        assert_eq!(AssociationSpec::parse(&written).as_ref(), Ok(&spec));
        assert!(merge_patch(&written, &written).is_none());
    }
}
