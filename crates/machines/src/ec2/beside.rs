//! What is asked of services beside EC2: image parameters, instance profiles, the price list, the cluster itself.
//!
//! Owns the rate of these calls and their endpoints where the SDK's own would be another partition's.

use aws_config::{Region, SdkConfig};
use clouds::aws::failure;
use clouds::calls::{CallLimits, Calls, Failure, FailureKind};
use std::collections::BTreeMap;

/// Pages of the price list at most, of a hundred products each.
const MOST_PAGES: usize = 200;

/// What EKS says of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClusterFacts {
    pub(super) endpoint: Option<String>,
    pub(super) authority: Option<String>,
    pub(super) service_cidr: Option<String>,
    pub(super) version: Option<String>,
}

pub(super) struct Beside {
    parameters: aws_sdk_ssm::Client,
    identities: aws_sdk_iam::Client,
    prices: aws_sdk_pricing::Client,
    kubernetes: aws_sdk_eks::Client,
    calls: Calls,
}

/// The region whose endpoint tells the prices of a region; none where no list is served.
pub(super) fn pricing_region(region: &str) -> Option<&'static str> {
    let starts = |prefix: &str| region.starts_with(prefix);
    match region {
        _ if starts("cn-") => Some("cn-northwest-1"),
        _ if starts("us-gov-") || starts("us-iso") => None,
        _ if starts("ap-") => Some("ap-south-1"),
        _ if starts("eu-") => Some("eu-central-1"),
        _ => Some("us-east-1"),
    }
}

impl Beside {
    pub(super) fn new(config: &SdkConfig, limits: CallLimits) -> Self {
        let region = config.region().map(ToString::to_string).unwrap_or_default();
        let mut pricing = aws_sdk_pricing::config::Builder::from(config);
        if let Some(at) = pricing_region(&region) {
            pricing = pricing.region(Region::new(at));
        }
        Self {
            parameters: aws_sdk_ssm::Client::new(config),
            identities: aws_sdk_iam::Client::new(config),
            prices: aws_sdk_pricing::Client::from_conf(pricing.build()),
            kubernetes: aws_sdk_eks::Client::new(config),
            calls: Calls::new(limits),
        }
    }

    /// A parameter's value; `None` where there is none of this name.
    pub(super) async fn parameter(&self, name: &str) -> Result<Option<String>, Failure> {
        let call = || async {
            let sent = Box::pin(self.parameters.get_parameter().name(name).send()).await;
            sent.map_err(|error| failure("ssm:GetParameter", &error))
        };
        match self.calls.read(call).await {
            Ok(answer) => Ok(answer.parameter.and_then(|parameter| parameter.value)),
            Err(failure) if failure.kind == FailureKind::Missing => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The roles of an instance profile; `None` where there is no such profile.
    pub(super) async fn profile(&self, name: &str) -> Result<Option<Vec<String>>, Failure> {
        let call = || async {
            let sent = Box::pin(self.identities.get_instance_profile().instance_profile_name(name).send());
            sent.await.map_err(|error| failure("iam:GetInstanceProfile", &error))
        };
        match self.calls.read(call).await {
            Ok(answer) => {
                let roles = answer.instance_profile.map(|profile| profile.roles).unwrap_or_default();
                Ok(Some(roles.into_iter().map(|role| role.role_name).collect()))
            }
            Err(failure) if failure.kind == FailureKind::Missing || &*failure.code == "NoSuchEntity" => {
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn make_profile(
        &self,
        name: &str,
        path: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let mut all = Vec::new();
        for (key, value) in tags {
            let built = aws_sdk_iam::types::Tag::builder().key(key).value(value).build();
            all.push(built.map_err(|error| Failure::new(FailureKind::Refused, "Tag", error.to_string()))?);
        }
        let call = async {
            let request = self.identities.create_instance_profile().instance_profile_name(name).path(path);
            let sent = Box::pin(request.set_tags(Some(all)).send()).await;
            sent.map_err(|error| failure("iam:CreateInstanceProfile", &error))
        };
        match self.calls.once(call).await {
            Err(failure) if &*failure.code == "EntityAlreadyExists" => Ok(()),
            answer => answer.map(drop),
        }
    }

    pub(super) async fn add_role(&self, profile: &str, role: &str) -> Result<(), Failure> {
        let call = async {
            let request =
                self.identities.add_role_to_instance_profile().instance_profile_name(profile).role_name(role);
            Box::pin(request.send()).await.map_err(|error| failure("iam:AddRoleToInstanceProfile", &error))
        };
        self.calls.once(call).await.map(drop)
    }

    pub(super) async fn remove_role(&self, profile: &str, role: &str) -> Result<(), Failure> {
        let call = async {
            let request = self
                .identities
                .remove_role_from_instance_profile()
                .instance_profile_name(profile)
                .role_name(role);
            Box::pin(request.send())
                .await
                .map_err(|error| failure("iam:RemoveRoleFromInstanceProfile", &error))
        };
        self.calls.once(call).await.map(drop)
    }

    pub(super) async fn delete_profile(&self, name: &str) -> Result<(), Failure> {
        let call = async {
            let sent = Box::pin(self.identities.delete_instance_profile().instance_profile_name(name).send());
            sent.await.map_err(|error| failure("iam:DeleteInstanceProfile", &error))
        };
        match self.calls.once(call).await {
            Err(failure) if failure.kind == FailureKind::Missing || &*failure.code == "NoSuchEntity" => {
                Ok(())
            }
            answer => answer.map(drop),
        }
    }

    /// The price list of a region: each product as the text that AWS gives.
    pub(super) async fn price_list(&self, region: &str) -> Result<Vec<String>, Failure> {
        let wanted = [
            ("regionCode", region),
            ("serviceCode", "AmazonEC2"),
            ("preInstalledSw", "NA"),
            ("operatingSystem", "Linux"),
            ("capacitystatus", "Used"),
            ("marketoption", "OnDemand"),
            ("tenancy", "Shared"),
        ];
        let mut filters = Vec::new();
        for (field, value) in wanted {
            let built = aws_sdk_pricing::types::Filter::builder()
                .r#type(aws_sdk_pricing::types::FilterType::TermMatch)
                .field(field)
                .value(value)
                .build();
            filters.push(
                built.map_err(|error| Failure::new(FailureKind::Refused, "Filter", error.to_string()))?,
            );
        }
        let (mut found, mut token) = (Vec::new(), None::<String>);
        for _ in 0..MOST_PAGES {
            let call = || async {
                let request = self
                    .prices
                    .get_products()
                    .service_code("AmazonEC2")
                    .set_filters(Some(filters.clone()))
                    .set_next_token(token.clone());
                Box::pin(request.send()).await.map_err(|error| failure("pricing:GetProducts", &error))
            };
            let answer = self.calls.read(call).await?;
            found.extend(answer.price_list.unwrap_or_default());
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(found);
            }
        }
        let message = "pricing:GetProducts: the list does not end";
        Err(Failure::new(FailureKind::Refused, "TooMany", message))
    }

    pub(super) async fn cluster(&self, name: &str) -> Result<Option<ClusterFacts>, Failure> {
        let call = || async {
            let sent = Box::pin(self.kubernetes.describe_cluster().name(name).send()).await;
            sent.map_err(|error| failure("eks:DescribeCluster", &error))
        };
        let found = match self.calls.read(call).await {
            Ok(answer) => answer.cluster,
            Err(failure) if failure.kind == FailureKind::Missing => None,
            Err(failure) => return Err(failure),
        };
        Ok(found.map(|cluster| ClusterFacts {
            endpoint: cluster.endpoint,
            authority: cluster.certificate_authority.and_then(|authority| authority.data),
            service_cidr: cluster
                .kubernetes_network_config
                .and_then(|network| network.service_ipv4_cidr.or(network.service_ipv6_cidr)),
            version: cluster.version,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_asked_for_where_they_are_told() {
        for (region, at) in [
            ("cn-north-1", Some("cn-northwest-1")),
            ("eu-west-3", Some("eu-central-1")),
            ("ap-east-1", Some("ap-south-1")),
            ("sa-east-1", Some("us-east-1")),
            ("us-gov-west-1", None),
        ] {
            assert_eq!(pricing_region(region), at, "{region}");
        }
    }
}
