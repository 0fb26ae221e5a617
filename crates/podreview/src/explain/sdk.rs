//! What an SDK finds first in a container (Pod Identity spec, section 8; IRSA spec, section 8): keys of the environment, web identity,
//! container credentials, instance metadata.

use crate::pod::ContainerFacts;

/// Addresses of the agent of EKS Pod Identity, as URIs begin.
const AGENT: [&str; 2] = ["http://169.254.170.23/", "http://[fd00:ec2::23]/"];

/// The first source that is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First<'a> {
    /// Both keys.
    Keys,
    /// One of two keys: SDKs stop with an error.
    HalfOfKeys,
    /// The role where its value stands there, and the file of the token.
    WebIdentity {
        role: Option<&'a str>,
        file: Option<&'a str>,
    },
    /// A token file without a role: SDKs stop with an error.
    WebIdentityWithoutRole,
    /// The agent, and the file of the token where one is named.
    Agent { file: Option<&'a str> },
    /// Another address.
    OtherContainer,
    /// Instance metadata, unless it is switched off.
    Metadata { disabled: bool },
}

pub(super) fn first(container: &ContainerFacts) -> First<'_> {
    let (id, secret) = (
        container.has("AWS_ACCESS_KEY_ID"),
        container.has("AWS_SECRET_ACCESS_KEY"),
    );
    match (id, secret) {
        (true, true) => return First::Keys,
        (true, false) => return First::HalfOfKeys,
        (false, _) => {}
    }
    if container.has("AWS_WEB_IDENTITY_TOKEN_FILE") {
        return match container.has("AWS_ROLE_ARN") {
            true => First::WebIdentity {
                role: container.value("AWS_ROLE_ARN"),
                file: container.value("AWS_WEB_IDENTITY_TOKEN_FILE"),
            },
            false => First::WebIdentityWithoutRole,
        };
    }
    if container.has("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return First::OtherContainer;
    }
    if container.has("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        let uri = container.value("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        let is_agent = uri.is_some_and(|uri| AGENT.iter().any(|agent| uri.starts_with(agent)));
        return match is_agent {
            true => First::Agent {
                file: container.value("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            },
            false => First::OtherContainer,
        };
    }
    let disabled = container
        .value("AWS_EC2_METADATA_DISABLED")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    First::Metadata { disabled }
}
