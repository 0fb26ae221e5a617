//! The kinds of parameters of EKS, each with the constraints of the service model, which has few of them.

use super::pattern::{CLUSTER_NAME as CLUSTER_NAME_TEXT, CLUSTER_NAME_OF_PODS, JWT};
use super::{ANY_INTEGER, ANY_NUMBER, Kind, Parameter, Text, in_query, optional, required};

const fn plain(least: usize, most: usize) -> Text {
    Text {
        least,
        most,
        pattern: None,
        choices: &[],
        secret: false,
    }
}

pub(crate) const TEXT: Kind = Kind::text(0, ANY_NUMBER);
pub(crate) const TEXTS: Kind = Kind::list(0, ANY_NUMBER, &TEXT);
/// The name of a cluster to be made; operations on existing ones take any text and do not find it.
pub(crate) const CLUSTER_NAME: Kind = Kind::matching(1, 100, &CLUSTER_NAME_TEXT);
/// The name of a cluster as EKS Auth takes it.
pub(crate) const POD_CLUSTER_NAME: Kind = Kind::matching(1, 100, &CLUSTER_NAME_OF_PODS);
/// The token of a pod's service account.
pub(crate) const POD_TOKEN: Kind = Kind::matching(1, ANY_NUMBER, &JWT).secret();
pub(crate) const TAGS: Kind = Kind::Map {
    least: 1,
    most: 50,
    key: plain(1, 128),
    value: plain(0, 256),
};
const TAG_KEY: Kind = Kind::text(1, 128);
pub(crate) const TAG_KEYS: Kind = Kind::list(1, 50, &TAG_KEY);
pub(crate) const MAX_RESULTS: Parameter = in_query(
    "maxResults",
    Kind::Integer {
        least: 1,
        most: 100,
    },
);
pub(crate) const NEXT_TOKEN: Parameter = in_query("nextToken", TEXT);
pub(crate) const CLIENT_TOKEN: Parameter = optional("clientRequestToken", TEXT);

// === Clusters ===

pub(crate) const AUTHENTICATION_MODE: Kind =
    Kind::choice(&["API", "API_AND_CONFIG_MAP", "CONFIG_MAP"]);
pub(crate) const CREATE_ACCESS_CONFIG: Kind = Kind::Structure(&[
    optional("bootstrapClusterCreatorAdminPermissions", Kind::Boolean),
    optional("authenticationMode", AUTHENTICATION_MODE),
]);
pub(crate) const UPDATE_ACCESS_CONFIG: Kind =
    Kind::Structure(&[optional("authenticationMode", AUTHENTICATION_MODE)]);
pub(crate) const VPC_CONFIG: Kind = Kind::Structure(&[
    optional("subnetIds", TEXTS),
    optional("securityGroupIds", TEXTS),
    optional("endpointPublicAccess", Kind::Boolean),
    optional("endpointPrivateAccess", Kind::Boolean),
    optional("publicAccessCidrs", TEXTS),
    optional(
        "controlPlaneEgressMode",
        Kind::choice(&["AWS_MANAGED", "CUSTOMER_ROUTED", "CUSTOMER_ISOLATED"]),
    ),
]);
const ENABLED: Kind = Kind::Structure(&[optional("enabled", Kind::Boolean)]);
pub(crate) const NETWORK_CONFIG: Kind = Kind::Structure(&[
    optional("serviceIpv4Cidr", TEXT),
    optional("ipFamily", Kind::choice(&["ipv4", "ipv6"])),
    optional(
        "elasticLoadBalancing",
        Kind::Structure(&[
            optional("enabled", Kind::Boolean),
            optional(
                "gatewayApi",
                Kind::Structure(&[optional(
                    "crds",
                    Kind::Structure(&[optional("managed", Kind::Boolean)]),
                )]),
            ),
        ]),
    ),
]);
const LOG_TYPE: Kind = Kind::choice(&[
    "api",
    "audit",
    "authenticator",
    "controllerManager",
    "scheduler",
]);
const LOG_SETUP: Kind = Kind::Structure(&[
    optional("types", Kind::list(0, ANY_NUMBER, &LOG_TYPE)),
    optional("enabled", Kind::Boolean),
]);
pub(crate) const LOGGING: Kind = Kind::Structure(&[optional(
    "clusterLogging",
    Kind::list(0, ANY_NUMBER, &LOG_SETUP),
)]);
const ENCRYPTION: Kind = Kind::Structure(&[
    optional("resources", TEXTS),
    optional("provider", Kind::Structure(&[optional("keyArn", TEXT)])),
]);
pub(crate) const ENCRYPTION_CONFIG: Kind = Kind::list(0, 1, &ENCRYPTION);
const SPREAD_LEVEL: Kind = Kind::choice(&["host", "rack"]);
pub(crate) const OUTPOST_CONFIG: Kind = Kind::Structure(&[
    required("outpostArns", TEXTS),
    required("controlPlaneInstanceType", TEXT),
    optional(
        "controlPlanePlacement",
        Kind::Structure(&[
            optional("groupName", TEXT),
            optional("spreadLevel", SPREAD_LEVEL),
        ]),
    ),
    optional("etcdInstanceType", TEXT),
    optional(
        "etcdPlacement",
        Kind::Structure(&[optional("spreadLevel", SPREAD_LEVEL)]),
    ),
]);
pub(crate) const UPGRADE_POLICY: Kind = Kind::Structure(&[optional(
    "supportType",
    Kind::choice(&["STANDARD", "EXTENDED"]),
)]);
pub(crate) const ZONAL_SHIFT: Kind = ENABLED;
const CIDRS: Kind = Kind::Structure(&[optional("cidrs", TEXTS)]);
pub(crate) const REMOTE_NETWORK: Kind = Kind::Structure(&[
    optional("remoteNodeNetworks", Kind::list(0, 1, &CIDRS)),
    optional("remotePodNetworks", Kind::list(0, 1, &CIDRS)),
]);
pub(crate) const COMPUTE: Kind = Kind::Structure(&[
    optional("enabled", Kind::Boolean),
    optional("nodePools", TEXTS),
    optional("nodeRoleArn", TEXT),
]);
pub(crate) const STORAGE: Kind = Kind::Structure(&[optional("blockStorage", ENABLED)]);
pub(crate) const SCALING: Kind = Kind::Structure(&[optional(
    "tier",
    Kind::choice(&["standard", "tier-xl", "tier-2xl", "tier-4xl", "tier-8xl"]),
)]);
pub(crate) const API_SERVER: Kind = Kind::Structure(&[
    optional("eventTtl", TEXT),
    optional(
        "serviceNodePortRange",
        Kind::Structure(&[
            optional("minPort", ANY_INTEGER),
            optional("maxPort", ANY_INTEGER),
        ]),
    ),
]);
const SCORED: Kind = Kind::Structure(&[
    optional("name", Kind::text(1, 253)),
    optional(
        "weight",
        Kind::Integer {
            least: 1,
            most: 100,
        },
    ),
]);
pub(crate) const SCHEDULER: Kind = Kind::Structure(&[optional(
    "nodeResourcesFit",
    Kind::Structure(&[optional(
        "scoringStrategy",
        Kind::Structure(&[
            optional("type", Kind::choice(&["LeastAllocated", "MostAllocated"])),
            optional("resources", Kind::list(0, 100, &SCORED)),
        ]),
    )]),
)]);
pub(crate) const CONTROLLER_MANAGER: Kind = Kind::Structure(&[
    optional(
        "podGcControllerConfig",
        Kind::Structure(&[optional(
            "terminatedPodGcThreshold",
            Kind::Integer {
                least: 1,
                most: 1_000_000,
            },
        )]),
    ),
    optional(
        "horizontalPodAutoscalerControllerConfig",
        Kind::Structure(&[optional("horizontalPodAutoscalerSyncPeriod", TEXT)]),
    ),
]);
pub(crate) const ROLLBACK: Kind = Kind::Structure(&[optional("timeoutMinutes", ANY_INTEGER)]);

// === Access entries and policies ===

pub(crate) const ACCESS_SCOPE: Kind = Kind::Structure(&[
    optional("type", Kind::choice(&["cluster", "namespace"])),
    optional("namespaces", TEXTS),
]);

// === Pod identity associations ===

pub(crate) const SESSION_TAG_KEYS: Kind = Kind::list(0, 6, &TEXT);
pub(crate) const EXTRA_SESSION_TAGS: Kind = Kind::Map {
    least: 0,
    most: 50,
    key: plain(0, ANY_NUMBER),
    value: plain(0, ANY_NUMBER),
};

// === Identity provider configs ===

pub(crate) const OIDC_CONFIG: Kind = Kind::Structure(&[
    required("identityProviderConfigName", TEXT),
    required("issuerUrl", TEXT),
    required("clientId", TEXT),
    optional("usernameClaim", TEXT),
    optional("usernamePrefix", TEXT),
    optional("groupsClaim", TEXT),
    optional("groupsPrefix", TEXT),
    optional(
        "requiredClaims",
        Kind::Map {
            least: 0,
            most: ANY_NUMBER,
            key: plain(1, 63),
            value: plain(1, 253),
        },
    ),
]);

// === Add-ons ===

pub(crate) const ROLE_ARN: Kind = Kind::text(1, 255);
pub(crate) const RESOLVE_CONFLICTS: Kind = Kind::choice(&["OVERWRITE", "NONE", "PRESERVE"]);
const ADDON_ASSOCIATION: Kind =
    Kind::Structure(&[required("serviceAccount", TEXT), required("roleArn", TEXT)]);
pub(crate) const ADDON_ASSOCIATIONS: Kind = Kind::list(0, ANY_NUMBER, &ADDON_ASSOCIATION);
pub(crate) const NAMESPACE_CONFIG: Kind =
    Kind::Structure(&[optional("namespace", Kind::text(1, 63))]);

// === What cannot exist ===

pub(crate) const PROVIDER_CONFIG: Kind =
    Kind::Structure(&[required("type", TEXT), required("name", TEXT)]);
const SUBSCRIPTION_STATUS: Kind = Kind::choice(&[
    "CREATING", "ACTIVE", "UPDATING", "EXPIRING", "EXPIRED", "DELETING",
]);
pub(crate) const SUBSCRIPTION_STATUSES: Kind = Kind::list(0, ANY_NUMBER, &SUBSCRIPTION_STATUS);
