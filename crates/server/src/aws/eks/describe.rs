//! Clusters and updates as answers have them (EKS API spec, sections 3.1 and 6).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_arn::Tag;
use countersign_store::records::{
    Cluster, ClusterSettings, ClusterStatus, ClusterUpdate, IpFamily, LogType, ScalingTier,
    SupportType, UpdateStatus, VpcConfig,
};

use crate::aws::operation::Call;
use crate::aws::query::Member;

/// What answers say of the platform; there is one.
const PLATFORM_VERSION: &str = "eks.1";
/// EKS picks one of two ranges when none is asked for; this is the first.
const SERVICE_RANGE: &str = "10.100.0.0/16";

type Members = Vec<(&'static str, Member)>;

pub(super) fn text(text: impl Into<String>) -> Member {
    Member::Text(text.into())
}

pub(super) fn texts(all: &[Box<str>]) -> Member {
    Member::List(all.iter().map(|one| text(&**one)).collect())
}

/// Tags as a map.
pub(super) fn tag_map(tags: &[Tag]) -> Member {
    Member::Map(
        tags.iter()
            .map(|tag| (tag.key.to_string(), text(&*tag.value)))
            .collect(),
    )
}

/// The answer of CreateCluster, which says `CREATING` however soon the cluster is there, and nothing of its endpoint.
pub(super) fn as_created(call: &Call<'_>, cluster: &Cluster) -> Member {
    super::clusters::one(cluster_member(call, cluster, ClusterStatus::Creating))
}

/// A cluster.
pub(super) fn cluster_member(call: &Call<'_>, cluster: &Cluster, status: ClusterStatus) -> Member {
    let settings = &cluster.settings;
    let mut members: Members = vec![
        ("name", text(&*cluster.name)),
        ("arn", text(cluster.arn())),
        ("createdAt", Member::Time(cluster.created)),
        ("status", text(status.as_str())),
        ("platformVersion", text(PLATFORM_VERSION)),
        ("tags", tag_map(&cluster.tags)),
        (
            "accessConfig",
            Member::Structure(vec![
                (
                    "bootstrapClusterCreatorAdminPermissions",
                    Member::Bool(cluster.bootstrap_creator_admin),
                ),
                (
                    "authenticationMode",
                    text(cluster.authentication_mode.as_str()),
                ),
            ]),
        ),
        (
            "deletionProtection",
            Member::Bool(cluster.deletion_protection),
        ),
        (
            "health",
            Member::Structure(vec![("issues", Member::List(Vec::new()))]),
        ),
    ];
    members.extend(
        cluster
            .version
            .as_deref()
            .map(|version| ("version", text(version))),
    );
    members.extend(
        cluster
            .role_arn
            .as_deref()
            .map(|arn| ("roleArn", text(arn))),
    );
    if let Some(issuer) = issuer(call, cluster) {
        let oidc = Member::Structure(vec![("issuer", text(issuer))]);
        members.push(("identity", Member::Structure(vec![("oidc", oidc)])));
    }
    let certificates = if status == ClusterStatus::Creating {
        Vec::new()
    } else {
        members.push(("endpoint", text(endpoint(call, cluster))));
        let pem = cluster
            .certificate_authority
            .as_deref()
            .or(call.eks.certificate_authority.as_deref());
        vec![("data", text(STANDARD.encode(pem.unwrap_or_default())))]
    };
    members.push(("certificateAuthority", Member::Structure(certificates)));
    members.extend(settings_members(settings));
    Member::Structure(members)
}

/// `https://BASE/id/ID`.
pub(super) fn issuer(call: &Call<'_>, cluster: &Cluster) -> Option<String> {
    call.issuers.map(|issuers| issuers.issuer_url(cluster))
}

/// Where the Kubernetes API is: as it was registered, else a name below the public URL's host that nobody else has.
fn endpoint(call: &Call<'_>, cluster: &Cluster) -> String {
    if let Some(endpoint) = &cluster.endpoint {
        return endpoint.to_string();
    }
    let host = call
        .web_identity
        .and_then(|identity| identity.public_url().parse::<http::Uri>().ok())
        .and_then(|url| url.host().map(str::to_owned))
        .unwrap_or_else(|| "eks.invalid".to_owned());
    format!("https://{}.{}.{host}", cluster.id, cluster.region)
}

fn settings_members(settings: &ClusterSettings) -> Members {
    let default = VpcConfig::default();
    let vpc = settings.vpc.as_ref().unwrap_or(&default);
    let mut members: Members = vec![
        ("resourcesVpcConfig", vpc_member(vpc)),
        ("kubernetesNetworkConfig", network_member(settings)),
        ("logging", logging_member(settings)),
        (
            "upgradePolicy",
            Member::Structure(vec![(
                "supportType",
                text(
                    settings
                        .support_type
                        .unwrap_or(SupportType::Extended)
                        .as_str(),
                ),
            )]),
        ),
        (
            "controlPlaneScalingConfig",
            Member::Structure(vec![(
                "tier",
                text(
                    settings
                        .scaling_tier
                        .unwrap_or(ScalingTier::Standard)
                        .as_str(),
                ),
            )]),
        ),
    ];
    members.extend(
        settings
            .client_request_token
            .as_deref()
            .map(|token| ("clientRequestToken", text(token))),
    );
    if !settings.encryption.is_empty() {
        let all = settings.encryption.iter().map(|one| {
            let provider = Member::Structure(vec![("keyArn", text(&*one.key_arn))]);
            Member::Structure(vec![
                ("resources", texts(&one.resources)),
                ("provider", provider),
            ])
        });
        members.push(("encryptionConfig", Member::List(all.collect())));
    }
    if let Some(enabled) = settings.zonal_shift {
        members.push(("zonalShiftConfig", switch(enabled)));
    }
    if let Some(remote) = &settings.remote_network {
        let networks = |networks: &[Vec<Box<str>>]| {
            let all = networks
                .iter()
                .map(|cidrs| Member::Structure(vec![("cidrs", texts(cidrs))]));
            Member::List(all.collect())
        };
        members.push((
            "remoteNetworkConfig",
            Member::Structure(vec![
                ("remoteNodeNetworks", networks(&remote.node_networks)),
                ("remotePodNetworks", networks(&remote.pod_networks)),
            ]),
        ));
    }
    if let Some(compute) = &settings.compute {
        let mut inner: Members = vec![
            ("enabled", Member::Bool(compute.enabled.unwrap_or(false))),
            ("nodePools", texts(&compute.node_pools)),
        ];
        inner.extend(
            compute
                .node_role_arn
                .as_deref()
                .map(|arn| ("nodeRoleArn", text(arn))),
        );
        members.push(("computeConfig", Member::Structure(inner)));
    }
    if let Some(enabled) = settings.block_storage {
        let storage = Member::Structure(vec![("blockStorage", switch(enabled))]);
        members.push(("storageConfig", storage));
    }
    if let Some(outpost) = &settings.outpost {
        let mut inner: Members = vec![("outpostArns", texts(&outpost.outpost_arns))];
        inner.extend(
            outpost
                .control_plane_instance_type
                .as_deref()
                .map(|kind| ("controlPlaneInstanceType", text(kind))),
        );
        inner.extend(outpost.placement_group.as_deref().map(|group| {
            (
                "controlPlanePlacement",
                Member::Structure(vec![("groupName", text(group))]),
            )
        }));
        members.push(("outpostConfig", Member::Structure(inner)));
    }
    members
}

fn switch(enabled: bool) -> Member {
    Member::Structure(vec![("enabled", Member::Bool(enabled))])
}

fn vpc_member(vpc: &VpcConfig) -> Member {
    let mut members: Members = vec![
        ("subnetIds", texts(&vpc.subnet_ids)),
        ("securityGroupIds", texts(&vpc.security_group_ids)),
        (
            "endpointPublicAccess",
            Member::Bool(vpc.endpoint_public_access),
        ),
        (
            "endpointPrivateAccess",
            Member::Bool(vpc.endpoint_private_access),
        ),
        ("publicAccessCidrs", texts(&vpc.public_access_cidrs)),
    ];
    members.extend(
        vpc.cluster_security_group_id
            .as_deref()
            .map(|id| ("clusterSecurityGroupId", text(id))),
    );
    members.extend(vpc.vpc_id.as_deref().map(|id| ("vpcId", text(id))));
    Member::Structure(members)
}

fn network_member(settings: &ClusterSettings) -> Member {
    let network = settings.network.as_ref();
    let family = network
        .and_then(|network| network.ip_family)
        .unwrap_or(IpFamily::Ipv4);
    let mut members: Members = vec![
        ("ipFamily", text(family.as_str())),
        (
            "elasticLoadBalancing",
            switch(
                network
                    .and_then(|network| network.elastic_load_balancing)
                    .unwrap_or(false),
            ),
        ),
    ];
    match family {
        IpFamily::Ipv4 => {
            let range = network.and_then(|network| network.service_ipv4_cidr.as_deref());
            members.push(("serviceIpv4Cidr", text(range.unwrap_or(SERVICE_RANGE))));
        }
        IpFamily::Ipv6 => members.extend(
            network
                .and_then(|network| network.service_ipv6_cidr.as_deref())
                .map(|range| ("serviceIpv6Cidr", text(range))),
        ),
    }
    Member::Structure(members)
}

/// Two groups: the logs that are on, and those that are off.
fn logging_member(settings: &ClusterSettings) -> Member {
    let group = |enabled: bool| {
        let logs: Vec<Member> = LogType::ALL
            .iter()
            .filter(|log| settings.logs.contains(log) == enabled)
            .map(|log| text(log.as_str()))
            .collect();
        (!logs.is_empty()).then(|| {
            Member::Structure(vec![
                ("types", Member::List(logs)),
                ("enabled", Member::Bool(enabled)),
            ])
        })
    };
    let groups = [true, false].into_iter().filter_map(group).collect();
    Member::Structure(vec![("clusterLogging", Member::List(groups))])
}

/// An update in a state.
pub(super) fn update_member(update: &ClusterUpdate, status: UpdateStatus) -> Member {
    let params = update.params.iter().map(|(kind, value)| {
        Member::Structure(vec![("type", text(&**kind)), ("value", text(&**value))])
    });
    let errors = update.errors.iter().map(|error| {
        Member::Structure(vec![
            ("errorCode", text(&*error.code)),
            ("errorMessage", text(&*error.message)),
            ("resourceIds", texts(&error.resource_ids)),
        ])
    });
    Member::Structure(vec![(
        "update",
        Member::Structure(vec![
            ("id", text(&*update.id)),
            ("status", text(status.as_str())),
            ("type", text(&*update.kind)),
            ("params", Member::List(params.collect())),
            ("createdAt", Member::Time(update.created)),
            ("errors", Member::List(errors.collect())),
        ]),
    )])
}
