//! The parameters of AssumeRole (STS spec, sections 1.6 and 2).

use countersign_arn::Tag;

use crate::aws::ApiError;
use crate::aws::shape::Input;

/// What a call to AssumeRole asks for, every member within its constraints.
#[derive(Debug, Default)]
pub(super) struct AssumeRoleRequest<'p> {
    pub(super) role_arn: &'p str,
    pub(super) session_name: &'p str,
    pub(super) policy: Option<&'p str>,
    pub(super) policy_arns: Vec<&'p str>,
    pub(super) duration_seconds: Option<i64>,
    pub(super) tags: Vec<Tag>,
    pub(super) transitive_tag_keys: Vec<&'p str>,
    pub(super) external_id: Option<&'p str>,
    pub(super) serial_number: Option<&'p str>,
    pub(super) token_code: Option<&'p str>,
    pub(super) source_identity: Option<&'p str>,
}

impl<'p> AssumeRoleRequest<'p> {
    /// Takes the parameters, which are within their constraints, and checks the rest.
    pub(super) fn of(input: &Input<'p>) -> Result<Self, ApiError> {
        if input.get("ProvidedContexts").is_some() {
            return Err(validation("Provided contexts are not supported."));
        }
        let request = Self {
            role_arn: input.required("RoleArn"),
            session_name: input.required("RoleSessionName"),
            policy: input.text("Policy"),
            policy_arns: input
                .list("PolicyArns")
                .iter()
                .filter_map(|policy| policy.member("arn"))
                .collect(),
            duration_seconds: input.integer("DurationSeconds"),
            tags: input.tags("Tags"),
            transitive_tag_keys: input.texts("TransitiveTagKeys"),
            external_id: input.text("ExternalId"),
            serial_number: input.text("SerialNumber"),
            token_code: input.text("TokenCode"),
            source_identity: input.text("SourceIdentity"),
        };
        if !has_arn_shape(request.role_arn) {
            return Err(validation(format!("{} is invalid", request.role_arn)));
        }
        if let Some(arn) = request.policy_arns.iter().find(|arn| !has_arn_shape(arn)) {
            return Err(validation(format!("{arn} is invalid")));
        }
        Ok(request)
    }
}

fn validation(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "ValidationError", message)
}

/// `^arn:[^:]+:[^:]+:[^:]*:[^:]*:[^:]+$`
pub(super) fn has_arn_shape(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    matches!(parts.as_slice(), ["arn", partition, service, _, _, resource]
        if !partition.is_empty() && !service.is_empty() && !resource.is_empty())
}
