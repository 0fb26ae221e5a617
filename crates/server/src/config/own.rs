//! Keys under `countersign`: what the reference does not have.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::pods::PodWebhookConfig;
use super::store::StoreOption;
use crate::audit::AuditOptions;
use crate::{EksAuthLimits, StsLimits};

/// Who verifies tokens and issues identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityMode {
    /// Real AWS STS.
    #[default]
    Aws,
    /// The embedded IAM and STS.
    Embedded,
}

/// Our own section. Every default is the reference's behaviour, except where that is a known fault.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct OwnConfig {
    /// Who verifies tokens; `aws`.
    pub identity: IdentityMode,
    /// Where the embedded store lives; needed for `identity: embedded`, and for access entries.
    #[serde(rename = "datadir")]
    pub data_dir: Option<PathBuf>,
    /// Where the records are, embedded mode only; `redb`, a file in `dataDir`.
    pub store: Option<StoreOption>,
    /// Seconds that this replica answers from its snapshot while the store is away; 300.
    #[serde(rename = "maxstorestaleness")]
    pub max_store_staleness: Option<u64>,
    /// File with the 32-byte root key in hex or base64; generated in the data directory when absent.
    #[serde(rename = "rootkeyfile")]
    pub root_key_file: Option<PathBuf>,
    /// Address of the AWS APIs, embedded mode only; `127.0.0.1:4600`.
    #[serde(rename = "awslisten")]
    pub aws_listen: Option<String>,
    /// Certificate of the AWS listener; plain HTTP when absent.
    #[serde(rename = "awstls")]
    pub aws_tls: Option<TlsFiles>,
    /// The embedded account; `111122223333`.
    #[serde(rename = "accountid")]
    pub account_id: Option<String>,
    /// Region of the embedded APIs; `us-east-1`.
    pub region: Option<String>,
    /// URLs under which clients reach the embedded STS.
    #[serde(rename = "trustedendpoints")]
    pub trusted_endpoints: Vec<String>,
    /// Whether those may be `http`.
    #[serde(rename = "allowinsecuretrustedendpoint")]
    pub allow_insecure_trusted_endpoint: bool,
    /// `http` (the reference's status codes) or `review`.
    #[serde(rename = "denymode")]
    pub deny_mode: Option<String>,
    /// Status when STS cannot be asked: 500, or 403 for strict parity.
    #[serde(rename = "upstreamfailurestatus")]
    pub upstream_failure_status: Option<u16>,
    /// Longest token, 1,024 to 65,536; 16,384.
    #[serde(rename = "maxtokenbytes")]
    pub max_token_bytes: Option<usize>,
    /// Whether `sts.amazonaws.com` is accepted; true.
    #[serde(rename = "allowglobalendpoint")]
    pub allow_global_endpoint: Option<bool>,
    /// Regions accepted whatever their name looks like.
    pub regions: Vec<String>,
    /// When set, the only STS hosts accepted.
    #[serde(rename = "allowedhosts")]
    pub allowed_hosts: Option<Vec<String>>,
    /// Real AWS STS and EC2: caches and limits.
    pub upstream: UpstreamOptions,
    /// Registers the default cluster with the EKS API at the first start, in this mode, which then decides instead of
    /// `server.backendMode`. Needs `dataDir` or `store`.
    #[serde(rename = "authenticationmode")]
    pub authentication_mode: Option<String>,
    /// How access policies get into force in the default cluster: `webhook`, `projection` or `both`; `webhook`.
    #[serde(rename = "accesspolicies")]
    pub access_policies: Option<String>,
    /// Mapping rules.
    pub mapping: MappingOptions,
    /// Access entries and access policies.
    pub access: AccessConfig,
    /// The authorization webhook.
    pub authorizer: AuthorizerConfig,
    /// Node names by instance id, for clusters off AWS.
    #[serde(rename = "nodenames")]
    pub node_names: BTreeMap<String, String>,
    /// CA of client certificates the webhook demands.
    #[serde(rename = "webhookclientca")]
    pub webhook_client_ca: Option<PathBuf>,
    /// Names accepted in those certificates.
    #[serde(rename = "webhookclientnames")]
    pub webhook_client_names: Vec<String>,
    /// Certificate and key by which kube-apiserver proves itself, written into the webhook kubeconfig.
    #[serde(rename = "webhookclientcertificate")]
    pub webhook_client_certificate: Option<TlsFiles>,
    /// Where decision events go: `stderr`, `off`, or a file's path.
    pub events: Option<String>,
    /// The audit log of the AWS APIs; on in embedded mode, in the data directory.
    pub audit: AuditOptions,
    /// Address of plain-HTTP `/healthz`; the reference's `0.0.0.0:21363` unless `off`.
    #[serde(rename = "healthlisten")]
    pub health_listen: Option<String>,
    /// Address of a listener for metrics and health besides the webhook's.
    #[serde(rename = "metricslisten")]
    pub metrics_listen: Option<String>,
    /// Failed authentications a second and address before `Throttling`; 20, 0 switches it off.
    #[serde(rename = "failurespersecond")]
    pub failures_per_second: Option<u32>,
    /// Calls of the embedded STS a second before `Throttling`.
    pub limits: LimitOptions,
    /// Whether a signature mismatch is explained to callers who are not on loopback.
    #[serde(rename = "debugsignatures")]
    pub debug_signatures: bool,
    /// Further clusters, each under `/clusters/NAME/authenticate` and `/clusters/NAME/authorize`.
    pub clusters: BTreeMap<String, PerCluster>,
    /// Tokens of OpenID Connect issuers and our own, embedded mode only.
    #[serde(rename = "webidentity")]
    pub web_identity: WebIdentityConfig,
    /// Pod identity associations as objects of the default cluster.
    #[serde(rename = "podidentityassociations")]
    pub pod_identity_associations: AssociationObjectsConfig,
    /// Credentials of EKS Pod Identity.
    #[serde(rename = "podidentity")]
    pub pod_identity: PodIdentityConfig,
    /// The issuers of clusters' service account tokens.
    pub issuer: ClusterIssuerConfig,
    /// The admission webhook; when it is there, service accounts of the clusters are read.
    #[serde(
        rename = "podidentitywebhook",
        deserialize_with = "super::pods::section"
    )]
    pub pod_identity_webhook: Option<PodWebhookConfig>,
    /// Users, roles and providers made once at start, embedded mode only.
    pub bootstrap: Bootstrap,
}

/// Calls of the embedded STS a second (STS spec, section 10), and of EKS Auth; 0 switches a limit off.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LimitOptions {
    /// Signed calls for one account; 600.
    #[serde(rename = "stsperaccount")]
    pub sts_per_account: Option<u32>,
    /// Signed calls with one access key; 100.
    #[serde(rename = "stsperkey")]
    pub sts_per_key: Option<u32>,
    /// Unsigned calls from one address; 50.
    #[serde(rename = "webidentityperaddress")]
    pub web_identity_per_address: Option<u32>,
    /// Sessions of one role by web identity; 300.
    #[serde(rename = "webidentityperrole")]
    pub web_identity_per_role: Option<u32>,
    /// Requests for pods' credentials with one access key, or from one node with a token; 100.
    #[serde(rename = "eksauthpercaller")]
    pub eks_auth_per_caller: Option<u32>,
    /// Requests for pods' credentials in the clusters of one account; 3,000.
    #[serde(rename = "eksauthperaccount")]
    pub eks_auth_per_account: Option<u32>,
}

/// Credentials of EKS Pod Identity (Pod Identity spec, section 5.2).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodIdentityConfig {
    /// Service accounts, each as `NAMESPACE:NAME`, whose pods may ask with a token of their own in the place of AWS
    /// credentials; `kube-system:countersign-agent`. An empty list: nobody.
    pub agents: Option<Vec<String>>,
    /// URL of the STS that gives the credentials with `identity: aws`; that of the region when absent.
    #[serde(rename = "stsendpoint")]
    pub sts_endpoint: Option<String>,
    /// Seconds that pods' sessions last with `identity: aws`, 900 to 43,200; 3,600. Roles must allow it.
    #[serde(rename = "sessionseconds")]
    pub session_seconds: Option<u32>,
    /// Whether associations may have patterns of names and the members that EKS does not have; true.
    pub extensions: Option<bool>,
    /// Roles by the annotations of kube2iam or kiam in the default cluster; none when absent.
    #[serde(rename = "annotatedroles")]
    pub annotated_roles: Option<AnnotatedRolesConfig>,
}

/// Roles by the annotations of kube2iam or kiam (imds spec, section 5.3).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AnnotatedRolesConfig {
    /// Whose annotations: `kube2iam` or `kiam`.
    pub style: String,
    /// What is put before role names, such as `arn:aws:iam::111122223333:role/`; without it annotations name ARNs.
    #[serde(rename = "basearn")]
    pub base_arn: Option<String>,
    /// The role of pods without annotation, allowed in every namespace; none when absent.
    #[serde(rename = "defaultrole")]
    pub default_role: Option<String>,
    /// The form of kube2iam's lists: `glob` or `regexp`; `glob`.
    pub format: Option<String>,
    /// Further accounts whose roles annotations may name, by their ids; the cluster's own may always be named.
    pub accounts: Vec<String>,
}

impl LimitOptions {
    /// The limits of EKS Auth, with the defaults of those that are not set.
    #[must_use]
    pub fn eks_auth(&self) -> EksAuthLimits {
        let default = EksAuthLimits::default();
        EksAuthLimits {
            per_caller: self.eks_auth_per_caller.unwrap_or(default.per_caller),
            per_account: self.eks_auth_per_account.unwrap_or(default.per_account),
        }
    }

    /// The limits, with the defaults of those that are not set.
    #[must_use]
    pub fn sts(&self) -> StsLimits {
        let default = StsLimits::default();
        StsLimits {
            per_account: self.sts_per_account.unwrap_or(default.per_account),
            per_key: self.sts_per_key.unwrap_or(default.per_key),
            web_identity_per_address: self
                .web_identity_per_address
                .unwrap_or(default.web_identity_per_address),
            web_identity_per_role: self
                .web_identity_per_role
                .unwrap_or(default.web_identity_per_role),
        }
    }
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TlsFiles {
    /// Certificate chain.
    pub certfile: PathBuf,
    /// Private key.
    pub keyfile: PathBuf,
}

/// Caches and limits in front of real AWS (authentication spec, section 11). Durations are seconds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct UpstreamOptions {
    /// How long a verified identity is remembered; 60, at most 300, 0 switches the cache off.
    #[serde(rename = "identitycachettl")]
    pub identity_cache_ttl: Option<u64>,
    /// How much longer while STS is unreachable; 0, at most 300.
    #[serde(rename = "staleidentityonoutage")]
    pub stale_identity_on_outage: Option<u64>,
    /// STS calls at once; 64.
    #[serde(rename = "maxinflight")]
    pub max_in_flight: Option<usize>,
    /// STS calls a second; 200.
    #[serde(rename = "ratepersecond")]
    pub rate_per_second: Option<u32>,
    /// Burst of them; 400.
    pub burst: Option<u32>,
    /// PEM file of CAs to trust for STS instead of the public ones.
    #[serde(rename = "cafile")]
    pub ca_file: Option<PathBuf>,
    /// Address to connect to for every STS host, for tests and private links; names and TLS stay those of the host.
    #[serde(rename = "connectto")]
    pub connect_to: Option<String>,
    /// Endpoint of EC2, for tests and private links.
    #[serde(rename = "ec2endpoint")]
    pub ec2_endpoint: Option<String>,
    /// Whether a node's instance must carry the mapped role; true.
    #[serde(rename = "verifyinstancerole")]
    pub verify_instance_role: Option<bool>,
}

/// Access entries and access policies (EKS API spec, sections 7.4 and 18.1).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AccessConfig {
    /// File with custom access policies, read again when it changes.
    #[serde(rename = "policiesfile")]
    pub policies_file: Option<PathBuf>,
    /// `firstUse`, or `strict`: an access entry without a unique id lets nobody in.
    #[serde(rename = "principalbinding")]
    pub principal_binding: Option<String>,
}

/// The authorization webhook (EKS API spec, section 9.5).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AuthorizerConfig {
    /// Whom to believe that another API server tells about: `assertion`, `trust` or `refuse`.
    pub delegated: Option<String>,
}

/// Options of mapping (authentication spec, section 3).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct MappingOptions {
    /// `keepLastGood` or `dropSection`.
    #[serde(rename = "onparseerror")]
    pub on_parse_error: Option<String>,
    /// Seconds after which a stale section is reported every minute; 86,400, 0 never.
    #[serde(rename = "maxstale")]
    pub max_stale: Option<u64>,
    /// Whether role ARNs with a path are refused instead of stripped.
    #[serde(rename = "strictrolepath")]
    pub strict_role_path: bool,
    /// `any` accepts every suffix of Identity Center roles.
    #[serde(rename = "ssosuffix")]
    pub sso_suffix: Option<String>,
    /// `require` fences `system:node:` usernames.
    #[serde(rename = "nodeusernames")]
    pub node_usernames: Option<String>,
    /// Groups that only some backends may give.
    #[serde(rename = "privilegedgroups")]
    pub privileged_groups: Vec<PrivilegedGroup>,
}

/// Tokens of OpenID Connect issuers for AssumeRoleWithWebIdentity, and the issuers of our own tokens (IRSA spec,
/// section 11).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct WebIdentityConfig {
    /// URL under which the outside world reaches the AWS listener; issuers of our own tokens begin with it. The listener's
    /// address when absent.
    #[serde(rename = "publicurl")]
    pub public_url: Option<String>,
    /// Seconds that clocks may differ; 300, at most 600.
    #[serde(rename = "clockskew")]
    pub clock_skew: Option<u32>,
    /// Seconds after its issue at which a token is too old whatever its end; 605,100.
    #[serde(rename = "maxtokenage")]
    pub max_token_age: Option<u32>,
    /// Milliseconds for an issuer to answer both documents; 5,000, at most 30,000.
    #[serde(rename = "issuertimeoutms")]
    pub issuer_timeout_ms: Option<u64>,
    /// PEM file of authorities to trust for issuers instead of the public ones.
    #[serde(rename = "cafile")]
    pub ca_file: Option<PathBuf>,
    /// Host names of issuers and key sets that may be at addresses that are not public.
    #[serde(rename = "allowprivateissuers")]
    pub allow_private_issuers: Vec<String>,
    /// Whether the thumbprints of a provider are trusted where no public authority vouches for its certificate.
    #[serde(rename = "thumbprinttrust")]
    pub thumbprint_trust: bool,
    /// Whether trust policies see the claims of Kubernetes of issuers with a `keysFile`. Not portable to AWS.
    #[serde(rename = "kubernetesclaims")]
    pub kubernetes_claims: bool,
    /// Whether the issuer of an identity provider config has to answer when the config is associated; true.
    #[serde(rename = "checkissuers")]
    pub check_issuers: Option<bool>,
    /// Settings of single issuers.
    pub issuers: Vec<IssuerConfig>,
}

/// The issuers of clusters' service account tokens (IRSA spec, sections 2.5 and 4.4).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ClusterIssuerConfig {
    /// `https` URL without a port that issuers begin with; `webIdentity.publicUrl` where it is one, else
    /// `https://issuer.countersign.internal`.
    #[serde(rename = "publicurl")]
    pub public_url: Option<String>,
    /// What is done about tokens whose pod or service account is gone, of clusters with a kubeconfig: `off`, `warn` or
    /// `enforce`; `enforce`.
    #[serde(rename = "boundcheck")]
    pub bound_check: Option<String>,
}

/// How the keys of one issuer are had.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct IssuerConfig {
    /// The issuer's URL, exactly as in its tokens.
    pub url: String,
    /// PEM file of authorities to trust for it alone.
    #[serde(rename = "cafile")]
    pub ca_file: Option<PathBuf>,
    /// Address to connect to, whatever its host name resolves to; names and TLS stay those of the host.
    #[serde(rename = "connectto")]
    pub connect_to: Option<String>,
    /// File with its public keys, PEM or a JSON key set. Nobody is asked then: for clusters of our own.
    #[serde(rename = "keysfile")]
    pub keys_file: Option<PathBuf>,
}

/// A group and the backends that may give it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PrivilegedGroup {
    /// The group, such as `system:masters`.
    pub group: String,
    /// Names of backends.
    pub backends: Vec<String>,
}

/// A further cluster. With neither `mappingFile` nor `backendMode` it is the one of this name in the EKS API, whose
/// authentication mode decides.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PerCluster {
    /// Its cluster id; the name when absent.
    #[serde(rename = "clusterid")]
    pub cluster_id: Option<String>,
    /// File with `mapRoles`, `mapUsers`, `mapAccounts` of this cluster, in the form of this file's `server` section.
    #[serde(rename = "mappingfile")]
    pub mapping_file: Option<PathBuf>,
    /// Kubeconfig for its aws-auth ConfigMap and mapping objects.
    pub kubeconfig: Option<PathBuf>,
    /// Ordered mapping backends.
    #[serde(rename = "backendmode")]
    pub backend_mode: Vec<String>,
    /// How its access policies get into force: `webhook`, `projection` or `both`; `webhook`. The last two need `kubeconfig`.
    #[serde(rename = "accesspolicies")]
    pub access_policies: Option<String>,
    /// Roles by the annotations of kube2iam or kiam; none when absent. Needs `kubeconfig`.
    #[serde(rename = "annotatedroles")]
    pub annotated_roles: Option<AnnotatedRolesConfig>,
    /// Pod identity associations as objects of it. Needs `kubeconfig`.
    #[serde(rename = "podidentityassociations")]
    pub pod_identity_associations: AssociationObjectsConfig,
}

/// Pod identity associations as `PodIdentityAssociation` objects (agent spec, section 9).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AssociationObjectsConfig {
    /// `off`, `read` (objects become associations) or `mirror` (and associations of the EKS API are shown as objects); nothing is done
    /// when absent.
    #[serde(rename = "customresources")]
    pub custom_resources: Option<String>,
    /// Which roles objects may give; none when empty.
    pub allow: Vec<AllowedRoles>,
}

/// A rule of the list: in these namespaces these roles.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AllowedRoles {
    /// Namespaces, `*` for any run of characters.
    pub namespaces: Vec<String>,
    /// ARNs of roles; `*` for any run of characters, `${namespace}` for the namespace of the object.
    pub roles: Vec<String>,
    /// The same of target roles; none when empty.
    #[serde(rename = "targetroles")]
    pub target_roles: Vec<String>,
    /// Keys of extra session tags; none when empty.
    #[serde(rename = "extrasessiontags")]
    pub extra_session_tags: Vec<String>,
}

/// What exists from the first start on. Nothing here changes what exists already.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Bootstrap {
    /// IAM users.
    pub users: Vec<BootstrapUser>,
    /// IAM roles.
    pub roles: Vec<BootstrapRole>,
    /// OpenID Connect providers.
    #[serde(rename = "openidconnectproviders")]
    pub oidc_providers: Vec<BootstrapProvider>,
}

/// An OpenID Connect provider made at the first start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct BootstrapProvider {
    /// The issuer's URL, exactly as in its tokens.
    pub url: String,
    /// Audiences that are accepted.
    #[serde(rename = "clientids")]
    pub client_ids: Vec<String>,
    /// SHA-1 of CA certificates, 40 hexadecimal digits each.
    pub thumbprints: Vec<String>,
}

/// An IAM user made at the first start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct BootstrapUser {
    /// Name.
    pub name: String,
    /// Path; `/`.
    pub path: Option<String>,
    /// File that gets the access key as JSON, mode 0600, when the user is made.
    #[serde(rename = "accesskeyfile")]
    pub access_key_file: Option<PathBuf>,
    /// File with an identity policy, which becomes the user's inline policy `bootstrap`.
    #[serde(rename = "policyfile")]
    pub policy_file: Option<PathBuf>,
}

/// An IAM role made at the first start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct BootstrapRole {
    /// Name.
    pub name: String,
    /// Path; `/`.
    pub path: Option<String>,
    /// File with its trust policy; this or `trustPolicy`.
    #[serde(rename = "trustpolicyfile")]
    pub trust_policy_file: Option<PathBuf>,
    /// The trust policy itself, JSON as a text.
    #[serde(rename = "trustpolicy")]
    pub trust_policy: Option<String>,
    /// Longest session in seconds, 3,600 to 43,200; 3,600.
    #[serde(rename = "maxsessionduration")]
    pub max_session_duration: Option<u32>,
    /// File with an identity policy, which becomes the role's inline policy `bootstrap`.
    #[serde(rename = "policyfile")]
    pub policy_file: Option<PathBuf>,
}
