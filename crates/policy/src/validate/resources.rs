//! The form of resources.

use super::{LEGACY, Rejection, problem, reject};
use crate::document::Document;
use countersign_arn::Partition;

const IAM_PATHS: &str = r#"IAM resource path must either be "*", root, or start with user/, federated-user/, role/, group/, instance-profile/, mfa/, server-certificate/, policy/, sms-mfa/, saml-provider/, oidc-provider/, report/, access-report/."#;

/// Those of the message, and newer ones that AWS's own policies use.
const IAM_PREFIXES: [&str; 17] = [
    "user/",
    "federated-user/",
    "role/",
    "group/",
    "instance-profile/",
    "mfa/",
    "server-certificate/",
    "policy/",
    "sms-mfa/",
    "saml-provider/",
    "oidc-provider/",
    "report/",
    "access-report/",
    "assumed-role/",
    "contextProvider/",
    "delegation-request/",
    "role-template/",
];

/// Walks all `Resource` elements, then all `NotResource` elements, each list from the largest string to the smallest. The last entry that
/// fails gives the message; as long as none has failed, an element is also put to the two checks of legacy parsing, which win at once.
pub(super) fn walk(document: &Document) -> Result<Option<Box<Rejection>>, Box<Rejection>> {
    let mut failed: Option<Box<Rejection>> = None;
    for negated in [false, true] {
        for (index, statement) in document.statements().iter().enumerate() {
            let Some(list) = statement
                .resource
                .as_ref()
                .filter(|list| list.negated == negated)
            else {
                continue;
            };
            let element = if negated { "NotResource" } else { "Resource" };
            let mut entries: Vec<_> = list.entries.iter().collect();
            entries.sort_by(|left, right| right.value.cmp(&left.value));
            // IAM skips empty strings inside a list.
            entries.retain(|entry| !list.is_list || !entry.value.is_empty());
            for entry in &entries {
                if let Err((code, message)) = form(&entry.value) {
                    let why = format!("`{}` is not the ARN of a resource", entry.value);
                    failed = Some(reject(
                        message,
                        problem(code, index, element, entry.span, why)
                            .hint("write arn:partition:service:region:account:resource, or \"*\""),
                    ));
                }
            }
            if failed.is_some() {
                continue;
            }
            if let Some(entry) = entries.iter().find(|entry| !legacy(&entry.value)) {
                return Err(reject(
                    LEGACY,
                    problem(
                        "MISSING_ARN_FIELD",
                        index,
                        element,
                        entry.span,
                        format!("`{}` lacks fields of an ARN", entry.value),
                    )
                    .hint("an ARN has six fields: arn:partition:service:region:account:resource"),
                ));
            }
        }
    }
    Ok(failed)
}

fn legacy(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let enough = text.bytes().filter(|b| *b == b':').count() >= 5 || !text.contains("::");
    enough
        && text
            .split(':')
            .nth(2)
            .is_some_and(|service| !service.is_empty())
}

fn form(text: &str) -> Result<(), (&'static str, String)> {
    if text == "*" {
        return Ok(());
    }
    let Some((_, rest)) = text.split_once(':') else {
        return Err((
            "INVALID_ARN_PREFIX",
            format!("Resource {text} must be in ARN format or \"*\"."),
        ));
    };
    let (partition, rest) = match rest.split_once(':') {
        Some((partition, rest)) => (partition, Some(rest)),
        None => (rest, None),
    };
    if partition != "*" && partition.parse::<Partition>().is_err() {
        return Err(("INVALID_PARTITION", bad_partition(partition, rest)));
    }
    let vendor = || {
        (
            "INVALID_SERVICE_IN_ACTION",
            "Resource vendor must be fully qualified and cannot contain regexes.".to_owned(),
        )
    };
    let Some(rest) = rest else {
        return Err(vendor());
    };
    let (service, behind) = match rest.split_once(':') {
        Some((service, behind)) => (service, behind),
        None => (rest, ""),
    };
    if service.contains(['*', '?']) {
        return Err(vendor());
    }
    let resource = behind.splitn(3, ':').nth(2).unwrap_or_default();
    // No fourth field counts as a region too.
    let has_region = !behind.starts_with(':');
    match service {
        "iam" if has_region => Err((
            "ARN_REGION_NOT_ALLOWED",
            format!("IAM resource {text} cannot contain region information."),
        )),
        "s3" if has_region
            && !resource.starts_with("accesspoint/")
            && !resource.starts_with("access-grants/") =>
        {
            Err((
                "ARN_REGION_NOT_ALLOWED",
                format!("Resource {text} can not contain region information."),
            ))
        }
        "iam"
            if resource != "*"
                && resource != "root"
                && !IAM_PREFIXES
                    .iter()
                    .any(|prefix| resource.starts_with(prefix)) =>
        {
            Err(("INVALID_ARN_RESOURCE", IAM_PATHS.to_owned()))
        }
        _ => Ok(()),
    }
}

fn bad_partition(partition: &str, rest: Option<&str>) -> String {
    let fields: Vec<&str> = rest.unwrap_or_default().splitn(4, ':').collect();
    let field = |index: usize| match fields.get(index) {
        Some(&"") if fields.len() == 1 => "*",
        Some(field) => field,
        None => "*",
    };
    format!(
        "Partition \"{partition}\" is not valid for resource \"arn:{partition}:{}:{}:{}:{}\".",
        field(0),
        field(1),
        field(2),
        field(3)
    )
}
