//! The add-ons there are (EKS API spec, section 14).
//!
//! One of them is ours: `eks-pod-identity-agent` stands for Countersign's own agent, and its version is that of this program.
//! The others are records: tools that manage them find them again, and nothing is installed. Which versions of those go with
//! which Kubernetes is not known here; every well-formed version is taken, and one of each is listed.

/// The oldest Kubernetes version that Pod Identity works with.
const OLDEST_MINOR: u32 = 24;
/// What the versions of add-ons have in the place of a fourth number.
const BUILD: &str = "-eksbuild.";
/// The name under which the agent is an add-on.
pub(super) const AGENT: &str = "eks-pod-identity-agent";

/// An add-on.
#[derive(Debug)]
pub(super) struct CatalogueAddon {
    pub(super) name: &'static str,
    /// EKS's word for what it is for.
    pub(super) kind: &'static str,
    /// The namespace that it is in when none is given.
    pub(super) namespace: &'static str,
    /// The version that is listed, and meant when none is given. That of the agent is made from ours.
    version: &'static str,
    /// The service accounts that can have roles, with the managed policies that EKS recommends for them.
    pub(super) service_accounts: &'static [(&'static str, &'static [&'static str])],
}

/// All of them, in byte order of their names.
pub(super) const ADDONS: &[CatalogueAddon] = &[
    CatalogueAddon {
        name: "aws-ebs-csi-driver",
        kind: "storage",
        namespace: "kube-system",
        version: "v1.37.0-eksbuild.1",
        service_accounts: &[(
            "ebs-csi-controller-sa",
            &["arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"],
        )],
    },
    CatalogueAddon {
        name: "aws-efs-csi-driver",
        kind: "storage",
        namespace: "kube-system",
        version: "v2.1.0-eksbuild.1",
        service_accounts: &[(
            "efs-csi-controller-sa",
            &["arn:aws:iam::aws:policy/service-role/AmazonEFSCSIDriverPolicy"],
        )],
    },
    CatalogueAddon {
        name: "coredns",
        kind: "networking",
        namespace: "kube-system",
        version: "v1.11.3-eksbuild.1",
        service_accounts: &[],
    },
    CatalogueAddon {
        name: AGENT,
        kind: "security",
        namespace: "kube-system",
        version: concat!("v", env!("CARGO_PKG_VERSION"), "-eksbuild.1"),
        service_accounts: &[],
    },
    CatalogueAddon {
        name: "kube-proxy",
        kind: "networking",
        namespace: "kube-system",
        version: "v1.31.2-eksbuild.3",
        service_accounts: &[],
    },
    CatalogueAddon {
        name: "vpc-cni",
        kind: "networking",
        namespace: "kube-system",
        version: "v1.19.0-eksbuild.1",
        service_accounts: &[(
            "aws-node",
            &["arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy"],
        )],
    },
];

impl CatalogueAddon {
    /// The add-on of this name.
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        ADDONS.iter().find(|addon| addon.name == name)
    }

    /// The version that is listed.
    pub(super) const fn version(&self) -> &'static str {
        self.version
    }

    /// Whether the add-on may have this version.
    pub(super) fn takes(&self, version: &str) -> bool {
        if self.name == AGENT {
            return version == self.version;
        }
        is_version(version)
    }

    /// JSON Schema of `configurationValues`: any object. Nothing is installed from a record, and the agent's flags are its
    /// manifest's.
    pub(super) const fn schema(&self) -> &'static str {
        r#"{"$schema":"http://json-schema.org/draft-06/schema#","type":"object"}"#
    }
}

/// `vX.Y.Z-eksbuild.N`
fn is_version(text: &str) -> bool {
    let number = |part: &str| {
        (1..=9).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    text.strip_prefix('v')
        .and_then(|rest| rest.split_once(BUILD))
        .is_some_and(|(version, build)| {
            let mut parts = version.splitn(3, '.');
            number(build)
                && (0..3).all(|_| parts.next().is_some_and(number))
                && version.split('.').count() == 3
        })
}

/// The Kubernetes versions that add-ons go with, oldest first, up to `latest`, which is `1.NN`.
pub(super) fn kubernetes_versions(latest: &str) -> Vec<String> {
    let minor = latest
        .strip_prefix("1.")
        .and_then(|minor| minor.parse().ok())
        .unwrap_or(OLDEST_MINOR);
    (OLDEST_MINOR..=minor)
        .map(|minor| format!("1.{minor}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_one_form() {
        for (text, good) in [
            ("v1.19.0-eksbuild.1", true),
            ("v0.0.0-eksbuild.0", true),
            ("v10.200.3000-eksbuild.42", true),
            ("1.19.0-eksbuild.1", false),
            ("v1.19-eksbuild.1", false),
            ("v1.19.0.1-eksbuild.1", false),
            ("v1.19.0", false),
            ("v1.19.0-eksbuild.", false),
            ("v1.19.0-eksbuild.1-eksbuild.2", false),
            ("v1.019.0-eksbuild.1", false),
            ("v1.-1.0-eksbuild.1", false),
            ("v1.19.0-eksbuild.1 ", false),
            ("latest", false),
            ("", false),
        ] {
            assert_eq!(is_version(text), good, "{text}");
        }
        assert!(ADDONS.iter().all(|addon| is_version(addon.version)));
        assert!(ADDONS.is_sorted_by(|a, b| a.name < b.name));
    }
}
