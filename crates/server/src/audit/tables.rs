//! What may be written, by name, and what kind of call each operation is.
//!
//! Everything here is a list of what is known to be harmless: a parameter, a member of an answer or an operation that is in no
//! list is not written. A test compares the lists with the service models of botocore.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a call does, as far as the log is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Changes nothing. When the queue overflows, these records go first.
    Read,
    /// Gives credentials or a token. CloudTrail calls it a read, yet its answer is written: the new access key id joins the
    /// session's later calls to the one that made it.
    Issue,
    /// Changes something.
    Write,
}

/// The class of an operation; none for a name that is no operation of the service.
#[must_use]
pub fn class(service: &str, operation: &str) -> Option<Class> {
    CLASSES
        .get(operation)
        .filter(|(of, _)| *of == service)
        .map(|(_, class)| *class)
}

/// How the value of a parameter is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it is.
    Text,
    /// A list, or an empty one when its name stands alone.
    List,
    /// As a number, if it is one.
    Number,
    /// As a truth value, if it is one.
    Boolean,
    /// Not at all.
    Secret,
    /// As the beginning of its SHA-256: two calls with the same value can be seen to have it (STS spec, section 4.2).
    Digest,
}

/// How a parameter is written; none for names that no operation has.
pub(super) fn parameter(name: &str) -> Option<Kind> {
    PARAMETERS.get(name).copied()
}

/// Whether a member of an answer is written.
pub(super) fn is_answered(name: &str) -> bool {
    ANSWERS.contains_key(name)
}

static PARAMETERS: LazyLock<HashMap<&str, Kind>> = LazyLock::new(|| {
    [
        (TEXTS, Kind::Text),
        (LISTS, Kind::List),
        (NUMBERS, Kind::Number),
        (BOOLEANS, Kind::Boolean),
        (SECRETS, Kind::Secret),
        (DIGESTS, Kind::Digest),
    ]
    .into_iter()
    .flat_map(|(names, kind)| names.split_whitespace().map(move |name| (name, kind)))
    .collect()
});

static ANSWERS: LazyLock<HashMap<&str, ()>> = LazyLock::new(|| {
    [ANSWERED, EKS_AUTH_ANSWERED]
        .into_iter()
        .flat_map(str::split_whitespace)
        .map(|name| (name, ()))
        .collect()
});

static CLASSES: LazyLock<HashMap<&str, (&str, Class)>> = LazyLock::new(|| {
    [
        ("sts", STS_ISSUES, Class::Issue),
        ("sts", STS_READS, Class::Read),
        ("iam", IAM_READS, Class::Read),
        ("iam", IAM_WRITES, Class::Write),
        ("eks", EKS_READS, Class::Read),
        ("eks", EKS_WRITES, Class::Write),
        (
            "eks-auth",
            "AssumeAnnotatedRoleForPod AssumeRoleForPodIdentity",
            Class::Issue,
        ),
    ]
    .into_iter()
    .flat_map(|(service, names, class)| {
        names
            .split_whitespace()
            .map(move |name| (name, (service, class)))
    })
    .collect()
});

/// Parameters that are written as they are.
const TEXTS: &str = "\
    AWSServiceName AccessKeyId AccountAlias Arn AssertionEncryptionMode AssignmentStatus
    AssumeRolePolicyDocument AttachmentName AttachmentType CallerArn CertificateBody CertificateChain
    CertificateId ClientID ContextKeyName ContextKeyType CustomSuffix DelegationRequestId DeletionTaskId
    Description Encoding EntityArn EntityFilter EntityPath GlobalEndpointTokenVersion Granularity GroupName
    InlinePolicyIdentifier InstanceProfileName JobId Key Locale Marker Name NewGroupName NewPath
    NewServerCertificateName NewUserName Notes NotificationChannel OpenIDConnectProviderArn
    OrganizationsPolicyId OwnerAccountId OwnerId Path PathPrefix Permissions PermissionsBoundary Policy
    PolicyArn PolicyDocument PolicyName PolicySourceArn PolicyTemplateArn PolicyType PolicyUsageFilter
    PrincipalArn ProviderArn ProviderId RedirectUrl RemovePrivateKey RequestMessage RequestorWorkflowId
    ResourceHandlingOption ResourceOwner ResourcePolicy RoleArn RoleName RoleSessionName SAMLMetadataDocument
    SAMLProviderArn SSHPublicKeyBody SSHPublicKeyId Scope SerialNumber ServerCertificateName ServiceName
    ServiceNamespace ServiceSpecificCredentialId SigningAlgorithm SortKey SourceIdentity Status TargetPrincipal
    TaskPolicyArn TemplateArn Type Url UserName Value VersionId VirtualMFADeviceName arn";

/// Parameters that are lists; what their entries hold stands in the other tables.
const LISTS: &str = "\
    ActionNames Audience ClientIDList ContextEntries ContextKeyValues Filter OrderedOrganizationPolicyInputList
    Parameters PermissionsBoundaryPolicyInputList PolicyArns PolicyExclusionList PolicyInputList
    ProvidedContexts ResourceArns ServiceControlPolicyInputList ServiceNamespaces TagKeys Tags ThumbprintList
    TransitiveTagKeys Values";

/// Parameters that are numbers.
const NUMBERS: &str = "\
    CredentialAgeDays DurationSeconds MaxItems MaxPasswordAge MaxSessionDuration MinimumPasswordLength
    MinimumSessionTokenSize MinorVersion PasswordReusePrevention SessionDuration TemplateMinorVersion";

/// Parameters that are `true` or `false`.
const BOOLEANS: &str = "\
    AllUsers AllowUsersToChangePassword DelegationPermissionCheck HardExpiry OnlyAttached OnlySendByOwner
    PasswordResetRequired RequireLowercaseCharacters RequireNumbers RequireSymbols RequireUppercaseCharacters
    SetAsDefault";

/// Parameters whose values nobody may read.
const SECRETS: &str = "\
    AddPrivateKey AuthenticationCode1 AuthenticationCode2 ContextAssertion EncodedMessage NewPassword
    OldPassword Password PrivateKey SAMLAssertion TokenCode TradeInToken WebIdentityToken";

/// What partners agreed on: nobody may read it, yet auditors may see whether it was the same.
const DIGESTS: &str = "ExternalId";

/// Members of answers that are written. All others are left out, as CloudTrail does with secrets.
const ANSWERED: &str = "\
    AccessKey AccessKeyId Account Arn AssumeRolePolicyDocument AssumedPrincipal AssumedRoleId AssumedRoleUser
    AttachmentCount Audience Certificate CertificateBody CertificateId CreateDate Credentials DefaultVersionId
    DelegationRequestId DeletionTaskId Description Document EnableDate EnabledFeatures Expiration ExpirationDate
    FederatedUser FederatedUserId Fingerprint Group GroupId GroupName InstanceProfile InstanceProfileId
    InstanceProfileName IsAttachable IsDefaultVersion Issuer IssuerIdentifier Key LastUsedDate LoginProfile
    MaxSessionDuration NameQualifier OpenIDConnectProviderArn OrganizationId PackedPolicySize PasswordLastUsed
    PasswordResetRequired Path PermissionsBoundary PermissionsBoundaryArn PermissionsBoundaryType
    PermissionsBoundaryUsageCount Policy PolicyId PolicyName PolicyVersion Provider Region Role RoleId
    RoleLastUsed RoleName Roles SAMLProviderArn SSHPublicKey SSHPublicKeyBody SSHPublicKeyId SerialNumber
    ServerCertificateId ServerCertificateMetadata ServerCertificateName ServiceCredentialAlias ServiceName
    ServiceSpecificCredential ServiceSpecificCredentialId ServiceUserName SessionTokenSize
    SessionTokenUtilization SourceIdentity SourceRoleTemplate Status Subject SubjectFromWebIdentityToken
    SubjectType Tags TemplateArn TemplateMinorVersion UpdateDate UploadDate User UserId UserName Value VersionId
    VirtualMFADevice
    accessConfig accessEntry accessEntryArn accessScope arn associatedAccessPolicy associatedAt authenticationMode
    blockStorage bootstrapClusterCreatorAdminPermissions cidrs cluster clusterLogging clusterName computeConfig
    controlPlaneInstanceType controlPlanePlacement controlPlaneScalingConfig createdAt deletionProtection
    elasticLoadBalancing enabled encryptionConfig endpoint endpointPrivateAccess endpointPublicAccess errorCode
    errorMessage errors groupName health id identity ipFamily issuer issues keyArn kubernetesGroups
    kubernetesNetworkConfig logging modifiedAt name namespaces nodePools nodeRoleArn oidc outpostArns outpostConfig
    params platformVersion policyArn principalArn provider publicAccessCidrs remoteNetworkConfig remoteNodeNetworks
    remotePodNetworks resourceIds resources resourcesVpcConfig roleArn securityGroupIds serviceIpv4Cidr
    serviceIpv6Cidr status storageConfig subnetIds supportType tier type types update upgradePolicy username value
    version zonalShiftConfig";

/// The same of EKS Auth.
const EKS_AUTH_ANSWERED: &str = "\
    accessKeyId annotatedRole associationArn associationId assumeRoleId assumedRoleUser audience credentials expiration
    isDefault name namespace podIdentityAssociation roleArn serviceAccount subject";

/// Operations of EKS that change nothing.
const EKS_READS: &str = "\
    DescribeAccessEntry DescribeAddon DescribeAddonConfiguration DescribeAddonVersions DescribeCapability
    DescribeCertificateAuthority DescribeCluster DescribeClusterVersions DescribeEksAnywhereSubscription
    DescribeFargateProfile DescribeIdentityProviderConfig DescribeInsight DescribeInsightsRefresh
    DescribeNodegroup DescribePodIdentityAssociation DescribeUpdate ListAccessEntries ListAccessPolicies
    ListAddons ListAssociatedAccessPolicies ListCapabilities ListCertificateAuthorities ListClusters
    ListEksAnywhereSubscriptions ListFargateProfiles ListIdentityProviderConfigs ListInsights ListNodegroups
    ListPodIdentityAssociations ListTagsForResource ListUpdates";

/// Operations of EKS that change something.
const EKS_WRITES: &str = "\
    ActivateCertificateAuthority AssociateAccessPolicy AssociateEncryptionConfig
    AssociateIdentityProviderConfig CancelUpdate CreateAccessEntry CreateAddon CreateCapability
    CreateCertificateAuthority CreateCluster CreateEksAnywhereSubscription CreateFargateProfile CreateNodegroup
    CreatePodIdentityAssociation DeleteAccessEntry DeleteAddon DeleteCapability DeleteCertificateAuthority
    DeleteCluster DeleteEksAnywhereSubscription DeleteFargateProfile DeleteNodegroup
    DeletePodIdentityAssociation DeregisterCluster DisassociateAccessPolicy DisassociateIdentityProviderConfig
    RegisterCluster StartInsightsRefresh TagResource UntagResource UpdateAccessEntry UpdateAddon
    UpdateCapability UpdateClusterConfig UpdateClusterVersion UpdateEksAnywhereSubscription
    UpdateNodegroupConfig UpdateNodegroupVersion UpdatePodIdentityAssociation";

/// Operations of STS that give credentials or tokens.
const STS_ISSUES: &str = "\
    AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot GetDelegatedAccessToken
    GetFederationToken GetSessionToken GetWebIdentityToken";

/// The other operations of STS.
const STS_READS: &str = "\
    DecodeAuthorizationMessage GetAccessKeyInfo GetCallerIdentity";

/// Operations of IAM that change nothing.
const IAM_READS: &str = "\
    GenerateCredentialReport GenerateOrganizationsAccessReport GenerateServiceLastAccessedDetails
    GetAccessKeyLastUsed GetAccountAuthorizationDetails GetAccountPasswordPolicy GetAccountProperties
    GetAccountSummary GetContextKeysForCustomPolicy GetContextKeysForPrincipalPolicy GetCredentialReport
    GetDelegationRequest GetGroup GetGroupPolicy GetHumanReadableSummary GetInstanceProfile GetLoginProfile
    GetMFADevice GetOpenIDConnectProvider GetOrganizationsAccessReport GetOutboundWebIdentityFederationInfo
    GetPolicy GetPolicyVersion GetRole GetRolePolicy GetRoleTemplateVersion GetSAMLProvider GetSSHPublicKey
    GetServerCertificate GetServiceLastAccessedDetails GetServiceLastAccessedDetailsWithEntities
    GetServiceLinkedRoleDeletionStatus GetUser GetUserPolicy ListAccessKeys ListAccountAliases
    ListAttachedGroupPolicies ListAttachedRolePolicies ListAttachedUserPolicies ListDelegationRequests
    ListEntitiesForPolicy ListGroupPolicies ListGroups ListGroupsForUser ListInstanceProfileTags
    ListInstanceProfiles ListInstanceProfilesForRole ListMFADeviceTags ListMFADevices
    ListOpenIDConnectProviderTags ListOpenIDConnectProviders ListOrganizationsFeatures ListPolicies
    ListPoliciesGrantingServiceAccess ListPolicyTags ListPolicyVersions ListRolePolicies ListRoleTags ListRoles
    ListSAMLProviderTags ListSAMLProviders ListSSHPublicKeys ListServerCertificateTags ListServerCertificates
    ListServiceSpecificCredentials ListSigningCertificates ListUserPolicies ListUserTags ListUsers
    ListVirtualMFADevices SimulateCustomPolicy SimulatePrincipalPolicy";

/// Operations of IAM that change something.
const IAM_WRITES: &str = "\
    AcceptDelegationRequest AcquireRole AddClientIDToOpenIDConnectProvider AddRoleToInstanceProfile
    AddUserToGroup AssociateDelegationRequest AttachGroupPolicy AttachRolePolicy AttachUserPolicy ChangePassword
    CreateAccessKey CreateAccountAlias CreateDelegationRequest CreateGroup CreateInstanceProfile
    CreateLoginProfile CreateOpenIDConnectProvider CreatePolicy CreatePolicyVersion CreateRole
    CreateSAMLProvider CreateServiceLinkedRole CreateServiceSpecificCredential CreateUser CreateVirtualMFADevice
    DeactivateMFADevice DeleteAccessKey DeleteAccountAlias DeleteAccountPasswordPolicy DeleteGroup
    DeleteGroupPolicy DeleteInstanceProfile DeleteLoginProfile DeleteOpenIDConnectProvider DeletePolicy
    DeletePolicyVersion DeleteRole DeleteRolePermissionsBoundary DeleteRolePolicy DeleteSAMLProvider
    DeleteSSHPublicKey DeleteServerCertificate DeleteServiceLinkedRole DeleteServiceSpecificCredential
    DeleteSigningCertificate DeleteUser DeleteUserPermissionsBoundary DeleteUserPolicy DeleteVirtualMFADevice
    DetachGroupPolicy DetachRolePolicy DetachUserPolicy DisableOrganizationsRootCredentialsManagement
    DisableOrganizationsRootSessions DisableOutboundWebIdentityFederation EnableMFADevice
    EnableOrganizationsRootCredentialsManagement EnableOrganizationsRootSessions
    EnableOutboundWebIdentityFederation PutAccountProperties PutGroupPolicy PutRolePermissionsBoundary
    PutRolePolicy PutUserPermissionsBoundary PutUserPolicy RejectDelegationRequest
    RemoveClientIDFromOpenIDConnectProvider RemoveRoleFromInstanceProfile RemoveUserFromGroup
    ResetServiceSpecificCredential ResyncMFADevice SendDelegationToken SetDefaultPolicyVersion
    SetSecurityTokenServicePreferences TagInstanceProfile TagMFADevice TagOpenIDConnectProvider TagPolicy
    TagRole TagSAMLProvider TagServerCertificate TagUser UntagInstanceProfile UntagMFADevice
    UntagOpenIDConnectProvider UntagPolicy UntagRole UntagSAMLProvider UntagServerCertificate UntagUser
    UpdateAccessKey UpdateAccountPasswordPolicy UpdateAssumeRolePolicy UpdateDelegationRequest UpdateGroup
    UpdateLoginProfile UpdateOpenIDConnectProviderThumbprint UpdateRole UpdateRoleDescription UpdateSAMLProvider
    UpdateSSHPublicKey UpdateServerCertificate UpdateServiceSpecificCredential UpdateSigningCertificate
    UpdateUser UploadSSHPublicKey UploadServerCertificate UploadSigningCertificate";
