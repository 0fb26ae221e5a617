//! Several roles for one pod: profiles of an AWS configuration file (webhook spec, section 10).
//!
//! An account with the annotation `<prefix>/role-arn.<profile>` gives its pods a profile of that name, which assumes the role with
//! the pod's one token. The role of `<prefix>/role-arn` stays the one that is used without a profile.
//!
//! The file is an annotation that the patch adds to the pod, put beside the token by a second source, a downward API one, of
//! the same projected volume. ConfigMaps would have to be written in every namespace before the pod, while the webhook has no side
//! effects, looked after when accounts change, and removed; they would need the right to write ConfigMaps everywhere. So the pod
//! carries its file as it carries its variables: what was true when it was made. Who may change a pod's annotations may change its
//! images too, so that nobody gets at anything by it.
//!
//! Names and roles are checked before they stand in the file, for a line break in one of them would begin a setting of its own.

use std::fmt::Write as _;

use crate::note::{Note, Notes, ProfileIgnored};
use crate::options::Options;
use crate::role::{complete, is_role_arn};

/// Profiles of one account; further ones are left out with a warning.
pub const MAX_PROFILES: usize = 16;
/// The annotation of the pod with its file. It does not follow the prefix of the annotations, as the label does not: nobody reads it
/// but the pod's own volume.
pub const CONFIG_ANNOTATION: &str = "eks.amazonaws.com/aws-config";
/// Name of the file, beside the token.
pub const CONFIG_FILE: &str = "config";
/// The field of the pod that the file is made of.
pub(crate) const CONFIG_FIELD: &str = "metadata.annotations['eks.amazonaws.com/aws-config']";

/// No ARN of AWS is longer.
const MAX_ROLE: usize = 2048;
/// What an annotation's name of 63 characters leaves after `role-arn.`.
const MAX_NAME: usize = 54;

/// The file with those profiles that can be in it; none when no one can.
pub(crate) fn config<'a>(
    profiles: &'a [(Box<str>, Box<str>)],
    options: &Options,
    token_file: &str,
    notes: &mut Notes<'a>,
) -> Option<String> {
    let mut text = String::new();
    for (at, (profile, role)) in profiles.iter().enumerate() {
        let role = complete(role, options.composition.as_ref());
        let why = if at >= MAX_PROFILES {
            Some(ProfileIgnored::TooMany)
        } else if !is_profile_name(profile) {
            Some(ProfileIgnored::Name)
        } else if role.as_str().len() > MAX_ROLE || !is_role_arn(role.as_str()) {
            Some(ProfileIgnored::Role)
        } else {
            None
        };
        if let Some(why) = why {
            notes.add(Note::ProfileIgnored { profile, why });
            continue;
        }
        // Writing into memory does not fail.
        let _ = write!(
            text,
            "[profile {profile}]\nrole_arn = {}\nweb_identity_token_file = {token_file}\n",
            role.as_str()
        );
    }
    (!text.is_empty()).then_some(text)
}

/// `default` is the role without a profile, and no other.
fn is_profile_name(name: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_word) && name != "default"
}
