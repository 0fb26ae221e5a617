//! What EKS Auth is told about the deployment.

use std::sync::Arc;

use countersign_upstream::ec2::InstanceLookup;

use super::annotated::AnnotatedCluster;
use super::real::RealSts;

/// The service account that Countersign's agent runs as, unless it is configured otherwise.
const AGENT: &str = "kube-system:countersign-agent";

/// Settings of EKS Auth.
#[derive(Debug, Clone)]
pub struct EksAuthOptions {
    /// The service accounts, each as `NAMESPACE:NAME`, whose pods may ask with a token of their own in the place of a
    /// signature, in every cluster; `kube-system:countersign-agent`. Empty: nobody may.
    pub agents: Vec<Box<str>>,
    /// What tells the node names of EC2 instances; `None`, the default, where nothing does.
    pub nodes: Option<InstanceLookup>,
    /// Real AWS STS, where it issues the credentials; `None`, the default, for the embedded one.
    pub real: Option<RealSts>,
    /// The clusters whose pods get roles by the annotations of kube2iam or kiam; none by default.
    pub annotated: Vec<Arc<AnnotatedCluster>>,
}

impl Default for EksAuthOptions {
    fn default() -> Self {
        Self {
            agents: vec![AGENT.into()],
            nodes: None,
            real: None,
            annotated: Vec::new(),
        }
    }
}
