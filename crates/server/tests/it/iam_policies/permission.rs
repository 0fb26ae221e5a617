//! What is asked before anything is done.

use super::{POLICY, part, send};
use crate::world::World;

/// Operation, parameters, and the resource that is asked for.
type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str);

/// Every operation, called by somebody who may do nothing: refused before it is looked whether anything exists.
#[tokio::test]
async fn nothing_is_done_without_permission() {
    const ROLE: &str = "arn:aws:iam::111122223333:role/r";
    const USER: &str = "arn:aws:iam::111122223333:user/u";
    const GROUP: &str = "arn:aws:iam::111122223333:group/g";
    const PROFILE: &str = "arn:aws:iam::111122223333:instance-profile/i";
    let world = World::new().await;
    let (role, user, group) = (("RoleName", "r"), ("UserName", "u"), ("GroupName", "g"));
    let (profile, policy) = (("InstanceProfileName", "i"), ("PolicyArn", POLICY));
    let (named, document) = (("PolicyName", "p"), ("PolicyDocument", "x"));
    let boundary = ("PermissionsBoundary", POLICY);
    let trust = ("AssumeRolePolicyDocument", "x");
    let tag = [("Tags.member.1.Key", "k"), ("Tags.member.1.Value", "v")];
    let key = ("TagKeys.member.1", "k");
    let version = ("VersionId", "v1");
    let oidc = (
        "OpenIDConnectProviderArn",
        "arn:aws:iam::111122223333:oidc-provider/o.example",
    );
    let saml = (
        "SAMLProviderArn",
        "arn:aws:iam::111122223333:saml-provider/s",
    );
    let device = ("SerialNumber", "arn:aws:iam::111122223333:mfa/m");
    let slr = "arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS";
    let table: Vec<Row<'_>> = vec![
        ("CreateRole", vec![role, trust], ROLE),
        ("GetRole", vec![role], ROLE),
        ("ListRoles", vec![], "*"),
        ("UpdateRole", vec![role], ROLE),
        (
            "UpdateRoleDescription",
            vec![role, ("Description", "")],
            ROLE,
        ),
        ("UpdateAssumeRolePolicy", vec![role, document], ROLE),
        ("DeleteRole", vec![role], ROLE),
        ("CreateInstanceProfile", vec![profile], PROFILE),
        ("GetInstanceProfile", vec![profile], PROFILE),
        ("ListInstanceProfiles", vec![], "*"),
        ("ListInstanceProfilesForRole", vec![role], ROLE),
        ("AddRoleToInstanceProfile", vec![profile, role], PROFILE),
        (
            "RemoveRoleFromInstanceProfile",
            vec![profile, role],
            PROFILE,
        ),
        ("DeleteInstanceProfile", vec![profile], PROFILE),
        ("CreatePolicy", vec![named, document], POLICY),
        ("GetPolicy", vec![policy], POLICY),
        ("ListPolicies", vec![], "*"),
        ("DeletePolicy", vec![policy], POLICY),
        ("CreatePolicyVersion", vec![policy, document], POLICY),
        ("GetPolicyVersion", vec![policy, version], POLICY),
        ("ListPolicyVersions", vec![policy], POLICY),
        ("SetDefaultPolicyVersion", vec![policy, version], POLICY),
        ("DeletePolicyVersion", vec![policy, version], POLICY),
        ("ListEntitiesForPolicy", vec![policy], POLICY),
        ("AttachUserPolicy", vec![user, policy], USER),
        ("DetachUserPolicy", vec![user, policy], USER),
        ("ListAttachedUserPolicies", vec![user], USER),
        ("AttachGroupPolicy", vec![group, policy], GROUP),
        ("DetachGroupPolicy", vec![group, policy], GROUP),
        ("ListAttachedGroupPolicies", vec![group], GROUP),
        ("AttachRolePolicy", vec![role, policy], ROLE),
        ("DetachRolePolicy", vec![role, policy], ROLE),
        ("ListAttachedRolePolicies", vec![role], ROLE),
        ("PutUserPolicy", vec![user, named, document], USER),
        ("GetUserPolicy", vec![user, named], USER),
        ("ListUserPolicies", vec![user], USER),
        ("DeleteUserPolicy", vec![user, named], USER),
        ("PutGroupPolicy", vec![group, named, document], GROUP),
        ("GetGroupPolicy", vec![group, named], GROUP),
        ("ListGroupPolicies", vec![group], GROUP),
        ("DeleteGroupPolicy", vec![group, named], GROUP),
        ("PutRolePolicy", vec![role, named, document], ROLE),
        ("GetRolePolicy", vec![role, named], ROLE),
        ("ListRolePolicies", vec![role], ROLE),
        ("DeleteRolePolicy", vec![role, named], ROLE),
        ("PutUserPermissionsBoundary", vec![user, boundary], USER),
        ("DeleteUserPermissionsBoundary", vec![user], USER),
        ("PutRolePermissionsBoundary", vec![role, boundary], ROLE),
        ("DeleteRolePermissionsBoundary", vec![role], ROLE),
        ("TagUser", vec![user, tag[0], tag[1]], USER),
        ("UntagUser", vec![user, key], USER),
        ("ListUserTags", vec![user], USER),
        ("TagRole", vec![role, tag[0], tag[1]], ROLE),
        ("UntagRole", vec![role, key], ROLE),
        ("ListRoleTags", vec![role], ROLE),
        ("TagPolicy", vec![policy, tag[0], tag[1]], POLICY),
        ("UntagPolicy", vec![policy, key], POLICY),
        ("ListPolicyTags", vec![policy], POLICY),
        ("TagInstanceProfile", vec![profile, tag[0], tag[1]], PROFILE),
        ("UntagInstanceProfile", vec![profile, key], PROFILE),
        ("ListInstanceProfileTags", vec![profile], PROFILE),
        (
            "TagOpenIDConnectProvider",
            vec![oidc, tag[0], tag[1]],
            oidc.1,
        ),
        ("UntagOpenIDConnectProvider", vec![oidc, key], oidc.1),
        ("ListOpenIDConnectProviderTags", vec![oidc], oidc.1),
        ("TagSAMLProvider", vec![saml, tag[0], tag[1]], saml.1),
        ("UntagSAMLProvider", vec![saml, key], saml.1),
        ("ListSAMLProviderTags", vec![saml], saml.1),
        ("TagMFADevice", vec![device, tag[0], tag[1]], device.1),
        ("UntagMFADevice", vec![device, key], device.1),
        ("ListMFADeviceTags", vec![device], device.1),
        (
            "CreateServiceLinkedRole",
            vec![("AWSServiceName", "eks.amazonaws.com")],
            slr,
        ),
        ("DeleteServiceLinkedRole", vec![role], ROLE),
        (
            "GetServiceLinkedRoleDeletionStatus",
            vec![(
                "DeletionTaskId",
                "task/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS/x",
            )],
            slr,
        ),
    ];
    let before = world.directory.snapshot().revision();
    for (action, given, resource) in table {
        let (status, body) = send(&world, &world.bob, action, &given).await;
        assert_eq!(
            (status, &*part(&body, "Code")),
            (403, "AccessDenied"),
            "{body}"
        );
        assert_eq!(
            part(&body, "Message"),
            format!(
                "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: iam:{action} on resource: {resource} \
                 because no identity-based policy allows the iam:{action} action"
            )
        );
    }
    assert_eq!(world.directory.snapshot().revision(), before);
}
