//! Rules H1 to H6 of the authentication spec (section 2.2): which hosts are STS hosts of the configured partition.

use countersign_arn::Partition;

use crate::error::{ReasonCode, TokenError, quoted, shown};
use crate::region::{RegionLabel, has_region_shape, is_label};
use crate::rules::Rules;

/// The one host without a region.
pub(crate) const GLOBAL_HOST: &str = "sts.amazonaws.com";

/// Checks `host` (port included, as written in the URL) and names its region.
///
/// The reference asks an SDK's endpoint resolver, which takes any label for a region, and thereby also accepts hosts that
/// customers can name, such as `sts.s3.amazonaws.com`. Here the region must look like one or be listed.
pub(crate) fn check(host: &str, rules: &Rules) -> Result<RegionLabel, TokenError> {
    let label = check_form(host, rules)?;
    match rules.allowed_hosts() {
        Some(allowed) if !allowed.iter().any(|allowed| &**allowed == host) => Err(unexpected(host)),
        _ => Ok(label),
    }
}

pub(crate) fn check_form(host: &str, rules: &Rules) -> Result<RegionLabel, TokenError> {
    let partition = rules.partition();
    if host == GLOBAL_HOST {
        // H1
        if partition != Partition::Aws {
            return Err(refuse(format!(
                "global endpoint unsupported in partition {partition}"
            )));
        }
        return if rules.allow_global_endpoint() {
            Ok(RegionLabel::GLOBAL)
        } else {
            Err(unexpected(host))
        };
    }
    if host.is_empty() {
        return Err(refuse(
            "could not parse region for pre-signed URL , host is empty",
        ));
    }
    let (Some((service, rest)), true) = (host.split_once('.'), host.matches('.').count() >= 2)
    else {
        return Err(refuse(format!(
            "could not parse region for pre-signed URL {host}, invalid host format: {host}",
            host = shown(host)
        )));
    };
    let (region, domain) = rest.split_once('.').unwrap_or((rest, ""));
    if !is_label(region) {
        return Err(refuse(format!(
            "invalid region identifier format provided: {}",
            shown(region)
        )));
    }
    let fips = service == "sts-fips";
    if !(fips || service == "sts") {
        return Err(unexpected(host));
    }
    // H2
    let plain = domain == partition.plain_domain();
    if !plain && domain != partition.dual_stack_domain() {
        return Err(other_partition(host, region, domain, partition));
    }
    let listed = rules.is_listed(region);
    // H3
    if !listed && !has_region_shape(region) {
        return Err(unexpected(host));
    }
    // H4: `aws` and `aws-us-gov` share their domains, so the domain alone does not tell the partition.
    let belongs = match Partition::of_region(region) {
        Some(owner) => owner == partition,
        None => partition == Partition::Aws,
    };
    if !belongs && !listed {
        return Err(does_not_support(host, partition));
    }
    // H5: in GovCloud the plain host itself is the FIPS endpoint.
    if fips && plain && Partition::GovCloud.has_region(region) {
        return Err(unexpected(host));
    }
    Ok(RegionLabel::of(region, rules.regions()))
}

/// A host of another partition gets the reference's text for that; anything else is merely unexpected.
fn other_partition(host: &str, region: &str, domain: &str, partition: Partition) -> TokenError {
    let owner = Partition::of_region(region).unwrap_or(Partition::Aws);
    if domain == owner.plain_domain() || domain == owner.dual_stack_domain() {
        does_not_support(host, partition)
    } else {
        unexpected(host)
    }
}

fn does_not_support(host: &str, partition: Partition) -> TokenError {
    refuse(format!(
        "partition {{{partition}}} does not support hostname {}",
        shown(host)
    ))
}

fn unexpected(host: &str) -> TokenError {
    refuse(format!(
        "unexpected hostname {} in pre-signed URL",
        quoted(host)
    ))
}

fn refuse(text: impl Into<Box<str>>) -> TokenError {
    TokenError::new(ReasonCode::BadHost, text)
}
