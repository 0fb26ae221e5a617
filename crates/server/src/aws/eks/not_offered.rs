//! Operations of the service model that are known by their routes and refused as unknown ones, behind the signature.

use crate::aws::authorize::Rule;
use crate::aws::operation::{Answer, Operation, eks};

const fn row(name: &'static str, method: &'static str, path: &'static str) -> Operation {
    eks(name, (method, path), &[], Rule::Own, Answer::NotOffered)
}

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    row(
        "ActivateCertificateAuthority",
        "POST",
        "/clusters/{name}/certificate-authorities/{certificateAuthorityId}/activate",
    ),
    row(
        "AssociateEncryptionConfig",
        "POST",
        "/clusters/{name}/encryption-config/associate",
    ),
    row(
        "AssociateIdentityProviderConfig",
        "POST",
        "/clusters/{name}/identity-provider-configs/associate",
    ),
    row(
        "CancelUpdate",
        "POST",
        "/clusters/{name}/updates/{updateId}/cancel-update",
    ),
    row("CreateAddon", "POST", "/clusters/{name}/addons"),
    row("CreateCapability", "POST", "/clusters/{name}/capabilities"),
    row(
        "CreateCertificateAuthority",
        "POST",
        "/clusters/{name}/certificate-authorities",
    ),
    row(
        "CreateEksAnywhereSubscription",
        "POST",
        "/eks-anywhere-subscriptions",
    ),
    row(
        "CreateFargateProfile",
        "POST",
        "/clusters/{name}/fargate-profiles",
    ),
    row("CreateNodegroup", "POST", "/clusters/{name}/node-groups"),
    row(
        "DeleteCertificateAuthority",
        "DELETE",
        "/clusters/{name}/certificate-authorities/{certificateAuthorityId}",
    ),
    row(
        "DeregisterCluster",
        "DELETE",
        "/cluster-registrations/{name}",
    ),
    row(
        "DescribeAddonConfiguration",
        "GET",
        "/addons/configuration-schemas",
    ),
    row(
        "DescribeCertificateAuthority",
        "GET",
        "/clusters/{name}/certificate-authorities/{certificateAuthorityId}",
    ),
    row("DescribeClusterVersions", "GET", "/cluster-versions"),
    row("DescribeInsight", "GET", "/clusters/{name}/insights/{id}"),
    row(
        "DescribeInsightsRefresh",
        "GET",
        "/clusters/{name}/insights-refresh",
    ),
    row(
        "ListCertificateAuthorities",
        "GET",
        "/clusters/{name}/certificate-authorities",
    ),
    row("ListInsights", "POST", "/clusters/{name}/insights"),
    row("RegisterCluster", "POST", "/cluster-registrations"),
    row(
        "StartInsightsRefresh",
        "POST",
        "/clusters/{name}/insights-refresh",
    ),
    row(
        "UpdateAddon",
        "POST",
        "/clusters/{name}/addons/{addonName}/update",
    ),
    row(
        "UpdateCapability",
        "POST",
        "/clusters/{name}/capabilities/{capabilityName}",
    ),
    row(
        "UpdateEksAnywhereSubscription",
        "POST",
        "/eks-anywhere-subscriptions/{id}",
    ),
    row(
        "UpdateNodegroupConfig",
        "POST",
        "/clusters/{name}/node-groups/{nodegroupName}/update-config",
    ),
    row(
        "UpdateNodegroupVersion",
        "POST",
        "/clusters/{name}/node-groups/{nodegroupName}/update-version",
    ),
];
