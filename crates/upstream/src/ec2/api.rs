//! [`Ec2`] over the EC2 and IAM Query APIs.

use std::sync::Arc;

use countersign_arn::{Arn, Partition};
use countersign_mapping::Ec2InstanceId;
use futures::future::BoxFuture;
use http::Uri;

use super::credentials::{AssumedRole, CredentialsError, ProvideCredentials, SharedCredentials};
use super::query::{AwsError, QueryClient, Service};
use super::xml::Element;
use super::{Ec2, Instance, Profile};
use crate::clock::Clock;
use crate::http::HttpsClient;

/// Where and as whom to ask.
#[derive(Clone)]
pub struct Ec2ApiOptions {
    /// The partition.
    pub partition: Partition,
    /// The region of the instances.
    pub region: String,
    /// Credentials to ask with, or to assume `role_arn` with.
    pub credentials: Arc<dyn ProvideCredentials>,
    /// `ec2DescribeInstancesRoleARN`: a role to assume first.
    pub role_arn: Option<String>,
    /// `sourceARN`: on whose behalf the role is assumed.
    pub source_arn: Option<String>,
    /// URLs in the place of those of EC2, IAM and STS; with `http://` or a port for a server of one's own.
    pub ec2_endpoint: Option<Uri>,
    /// See `ec2_endpoint`.
    pub iam_endpoint: Option<Uri>,
    /// See `ec2_endpoint`.
    pub sts_endpoint: Option<Uri>,
}

impl std::fmt::Debug for Ec2ApiOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ec2ApiOptions")
            .field("partition", &self.partition)
            .field("region", &self.region)
            .field("role_arn", &self.role_arn)
            .finish_non_exhaustive()
    }
}

/// The EC2 API: DescribeInstances, and GetInstanceProfile of IAM for the role of a profile.
#[derive(Debug)]
pub struct Ec2Api {
    client: QueryClient,
    ec2: Service,
    iam: Service,
}

/// Pages read of one answer. A hundred instances come in one; more pages mean that somebody else answers.
const MAX_PAGES: usize = 8;

impl Ec2Api {
    /// A client with these options.
    ///
    /// # Errors
    /// When `role_arn` is no role or `source_arn` no ARN, or an endpoint is no URL.
    pub fn new(
        http: HttpsClient,
        clock: Arc<dyn Clock>,
        options: &Ec2ApiOptions,
    ) -> Result<Self, CredentialsError> {
        let (partition, region) = (options.partition, &options.region);
        let domain = partition.plain_domain();
        let service =
            |name: &'static str, signing_region: &str, own: &Option<Uri>, host: String| {
                let endpoint = match own {
                    Some(own) => own.clone(),
                    None => format!("https://{host}/")
                        .parse()
                        .map_err(|_| CredentialsError(format!("`{host}` is no host")))?,
                };
                Service::new(name, signing_region, endpoint).ok_or_else(|| {
                    CredentialsError(format!("the {name} endpoint is no URL with a host"))
                })
            };
        let ec2 = service(
            "ec2",
            region,
            &options.ec2_endpoint,
            format!("ec2.{region}.{domain}"),
        )?;
        let (iam_host, iam_region) = iam_endpoint(partition);
        let iam = service(
            "iam",
            iam_region,
            &options.iam_endpoint,
            iam_host.to_owned(),
        )?;
        let mut credentials: SharedCredentials = Arc::clone(&options.credentials);
        if let Some(role_arn) = options.role_arn.as_deref().filter(|arn| !arn.is_empty()) {
            let sts = service(
                "sts",
                region,
                &options.sts_endpoint,
                format!("sts.{region}.{domain}"),
            )?;
            let base = QueryClient::new(http.clone(), credentials, Arc::clone(&clock));
            credentials = Arc::new(AssumedRole::new(
                base,
                sts,
                role_arn,
                options.source_arn.as_deref(),
            )?);
        }
        Ok(Self {
            client: QueryClient::new(http, credentials, clock),
            ec2,
            iam,
        })
    }

    async fn describe(&self, ids: &[Ec2InstanceId]) -> Result<Vec<Instance>, AwsError> {
        // A filter gives the instances that exist; the parameter `Ec2InstanceId` would fail the whole call for one that does not.
        let names: Vec<String> = (1..=ids.len())
            .map(|n| format!("Filter.1.Value.{n}"))
            .collect();
        let mut instances = Vec::new();
        let mut next_token = String::new();
        for _ in 0..MAX_PAGES {
            let mut parameters = vec![
                ("Action", "DescribeInstances"),
                ("Version", "2016-11-15"),
                ("Filter.1.Name", "instance-id"),
            ];
            parameters.extend(
                names
                    .iter()
                    .map(String::as_str)
                    .zip(ids.iter().map(Ec2InstanceId::as_str)),
            );
            if !next_token.is_empty() {
                parameters.push(("NextToken", &next_token));
            }
            let answer = self.client.call(&self.ec2, &parameters, &[]).await?;
            if answer.name() != "DescribeInstancesResponse" {
                return Err(AwsError::BadAnswer);
            }
            instances.extend(instances_of(&answer));
            next_token = answer.text_at(&["nextToken"]).to_owned();
            if next_token.is_empty() {
                return Ok(instances);
            }
        }
        Err(AwsError::BadAnswer)
    }

    async fn roles(&self, profile_arn: &str) -> Result<Vec<String>, AwsError> {
        let arn = Arn::parse(profile_arn).map_err(|_| AwsError::BadAnswer)?;
        let name = arn
            .resource
            .strip_prefix("instance-profile/")
            .and_then(|path| path.rsplit('/').next())
            .ok_or(AwsError::BadAnswer)?;
        let parameters = [
            ("Action", "GetInstanceProfile"),
            ("Version", "2010-05-08"),
            ("InstanceProfileName", name),
        ];
        let answer = self.client.call(&self.iam, &parameters, &[]).await?;
        let profile = answer
            .at(&["GetInstanceProfileResult", "InstanceProfile"])
            .ok_or(AwsError::BadAnswer)?;
        // Names are unique in an account, but the answer may come from another account than the instance.
        if profile.text_at(&["Arn"]) != profile_arn {
            return Err(AwsError::BadAnswer);
        }
        Ok(profile
            .items("Roles")
            .map(|role| role.text_at(&["RoleName"]).to_owned())
            .collect())
    }
}

impl Ec2 for Ec2Api {
    fn describe_instances<'a>(
        &'a self,
        ids: &'a [Ec2InstanceId],
    ) -> BoxFuture<'a, Result<Vec<Instance>, AwsError>> {
        Box::pin(self.describe(ids))
    }

    fn profile_roles<'a>(
        &'a self,
        profile_arn: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, AwsError>> {
        Box::pin(self.roles(profile_arn))
    }
}

/// IAM has one endpoint for a whole partition, signed for one region.
fn iam_endpoint(partition: Partition) -> (&'static str, &'static str) {
    match partition {
        Partition::Aws => ("iam.amazonaws.com", "us-east-1"),
        Partition::China => ("iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        Partition::GovCloud => ("iam.us-gov.amazonaws.com", "us-gov-west-1"),
        Partition::Iso => ("iam.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
        Partition::IsoB => ("iam.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"),
        Partition::IsoE => ("iam.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1"),
        Partition::IsoF => ("iam.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1"),
        Partition::EuropeanSovereign => ("iam.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
    }
}

/// The instances in an answer of DescribeInstances; items without a sound id are left out.
pub(crate) fn instances_of(answer: &Element) -> Vec<Instance> {
    answer
        .items("reservationSet")
        .flat_map(|reservation| {
            let owner = reservation.text_at(&["ownerId"]);
            reservation
                .items("instancesSet")
                .filter_map(move |instance| instance_of(instance, owner))
        })
        .collect()
}

fn instance_of(instance: &Element, owner: &str) -> Option<Instance> {
    let profile = instance.text_at(&["iamInstanceProfile", "arn"]);
    Some(Instance {
        id: Ec2InstanceId::parse(instance.text_at(&["instanceId"]))?,
        private_dns_name: instance.text_at(&["privateDnsName"]).to_owned(),
        state: Some(instance.text_at(&["instanceState", "name"]).to_owned()),
        owner: owner.parse().ok(),
        profile: match profile {
            "" => Profile::Absent,
            arn => Profile::Arn(arn.to_owned()),
        },
        tags: instance
            .items("tagSet")
            .map(|tag| {
                (
                    tag.text_at(&["key"]).to_owned(),
                    tag.text_at(&["value"]).to_owned(),
                )
            })
            .collect(),
    })
}
