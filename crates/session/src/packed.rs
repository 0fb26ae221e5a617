//! PackedPolicySize (STS spec, section 9).
//!
//! AWS compresses session policies and tags in an undocumented way. Here the packed bytes are the deflated minified
//! inline policy with the ARNs, plus the deflated list of the requested tags; 1,024 of them are 100 %. For tags this is
//! more generous than AWS: [`aws_tag_percent`] estimates AWS's own limit.

use countersign_arn::Tag;

use crate::deflate::deflate;
use crate::error::{Code, Refusal};
use crate::record::SessionPolicies;

/// Packed bytes that are 100 %.
const SPACE: usize = 1024;
/// Characters of tag keys and values that are about 100 % at AWS.
const AWS_TAG_SPACE: usize = 380;
/// Characters of plain text that policy and ARNs may have together.
pub const MAX_PLAIN_POLICY_CHARS: usize = 2048;

/// The part of the space that session policies and requested tags take, in percent; nothing when there are neither, as
/// STS then leaves `PackedPolicySize` out. GetFederationToken answers 0 in that case.
///
/// `tags` are the tags passed in the call, without inherited ones.
///
/// # Errors
/// `PackedPolicyTooLarge` above 100 percent.
pub fn packed_policy_percent<'t>(
    policies: &SessionPolicies,
    tags: impl Iterator<Item = &'t Tag>,
) -> Result<Option<u8>, Refusal> {
    let mut plain = String::from(policies.inline.as_deref().unwrap_or_default());
    for arn in &policies.arns {
        plain.push_str(arn);
    }
    let policy_bytes = deflate(plain.as_bytes()).len();
    let tag_bytes = deflate(canonical(tags).as_bytes()).len();
    let bytes = policy_bytes + tag_bytes;
    if bytes == 0 {
        return Ok(None);
    }
    let percent = (100 * bytes).div_ceil(SPACE);
    match u8::try_from(percent) {
        Ok(percent) if percent <= 100 => Ok(Some(percent)),
        _ => Err(too_large(percent, policy_bytes >= tag_bytes)),
    }
}

/// The refusal that names the percentage; `policies` chooses between the text about policies and that about tags.
pub(crate) fn too_large(percent: usize, policies: bool) -> Refusal {
    let text = if policies {
        format!("Packed policy consumes {percent}% of allotted space, please use smaller policy.")
    } else {
        format!("Packed size of session tags consumes {percent}% of allotted space.")
    };
    Refusal::new(Code::PackedPolicyTooLarge, text)
}

/// Checks that the inline policy as sent and the ARNs have at most 2,048 characters together (STS spec, section 2).
///
/// # Errors
/// `PackedPolicyTooLarge` with the percentage.
pub fn check_plain_policy_size<'a>(
    policy: Option<&str>,
    arns: impl Iterator<Item = &'a str>,
) -> Result<(), Refusal> {
    let chars = policy.map_or(0, |text| text.chars().count())
        + arns.map(|arn| arn.chars().count()).sum::<usize>();
    if chars > MAX_PLAIN_POLICY_CHARS {
        return Err(too_large(
            (100 * chars).div_ceil(MAX_PLAIN_POLICY_CHARS),
            true,
        ));
    }
    Ok(())
}

/// An estimate of the percentage that AWS would report for `tags` alone: 380 characters of keys and values are about
/// 100 %. For warnings, never for refusals.
#[must_use]
pub fn aws_tag_percent<'t>(tags: impl Iterator<Item = &'t Tag>) -> usize {
    let chars: usize = tags
        .map(|tag| tag.key.chars().count() + tag.value.chars().count())
        .sum();
    (100 * chars).div_ceil(AWS_TAG_SPACE)
}

/// The tags in one order whatever the order they were sent in, so that the answer is the same.
fn canonical<'t>(tags: impl Iterator<Item = &'t Tag>) -> String {
    let mut tags: Vec<&Tag> = tags.collect();
    tags.sort_by(|a, b| a.key.cmp(&b.key));
    let mut text = String::new();
    for Tag { key, value } in tags {
        for part in [key, value] {
            text.push_str(part);
            text.push('\0');
        }
    }
    text
}
