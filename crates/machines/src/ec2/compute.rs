//! EC2's actions for single machines, with answers in plain structures.
//!
//! Owns paging, filters and the rate of calls. What an answer means is for `types`, `resolve`, `held` and `fleet`.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::operation::create_fleet::builders::CreateFleetInputBuilder;
use aws_sdk_ec2::types::{
    Filter, InstanceTypeInfo, LocationType, RequestLaunchTemplateData, ResourceType, Tag, TagSpecification,
};
use clouds::aws::failure;
use clouds::calls::{CallLimits, Calls, Failure, FailureKind};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

const PAGE: i32 = 100;
const LARGE_PAGE: i32 = 1000;
/// Pages of one list at most: more is refused, not guessed about.
const MOST_PAGES: usize = 300;
const LINUX: &str = "Linux/UNIX";
const LINUX_IN_A_VPC: &str = "Linux/UNIX (Amazon VPC)";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subnet {
    pub(super) id: String,
    pub(super) zone: String,
    pub(super) zone_id: Option<String>,
    pub(super) free_addresses: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) id: String,
    pub(super) name: String,
    /// Kubernetes' name of it.
    pub(super) architecture: &'static str,
    pub(super) created: String,
    pub(super) deprecated: bool,
    /// The disk that it boots from: its name and gibibytes.
    pub(super) root: Option<(String, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) zone: String,
    pub(super) is_spot: bool,
    pub(super) state: String,
    pub(super) image: String,
    pub(super) subnet: String,
    pub(super) groups: BTreeSet<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) launched: Timestamp,
}

/// How images are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ImageQuery {
    pub(super) ids: Vec<String>,
    pub(super) filters: Vec<(String, Vec<String>)>,
    pub(super) owners: Vec<String>,
}

/// A launch template that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateSeen {
    pub(super) name: String,
    pub(super) created: Option<Timestamp>,
}

pub(super) struct Compute {
    client: Client,
    calls: Calls,
}

fn filters(list: &[(String, Vec<String>)]) -> Option<Vec<Filter>> {
    let one = |(name, values): &(String, Vec<String>)| {
        Filter::builder().name(name).set_values(Some(values.clone())).build()
    };
    (!list.is_empty()).then(|| list.iter().map(one).collect())
}

pub(super) fn tags_of(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

fn moment(time: &aws_sdk_ec2::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

fn too_many(what: &str) -> Failure {
    let message = format!("{what}: the list does not end after {MOST_PAGES} pages");
    Failure::new(FailureKind::Refused, "TooMany", message)
}

/// Reads a list page by page.
macro_rules! pages {
    ($self:ident, $action:literal, $field:ident, $request:expr) => {{
        let (mut found, mut token) = (Vec::new(), None::<String>);
        let mut pages = 0;
        loop {
            let call = || async {
                let request = $request.set_next_token(token.clone());
                Box::pin(request.send()).await.map_err(|error| failure($action, &error))
            };
            let answer = $self.calls.read(call).await?;
            found.extend(answer.$field.unwrap_or_default());
            token = answer.next_token.filter(|token| !token.is_empty());
            pages += 1;
            if token.is_none() {
                break;
            }
            if pages >= MOST_PAGES {
                return Err(too_many($action));
            }
        }
        found
    }};
}

impl Compute {
    pub(super) fn new(config: &aws_config::SdkConfig, limits: CallLimits) -> Self {
        Self { client: Client::new(config), calls: Calls::new(limits) }
    }

    pub(super) async fn types(&self) -> Result<Vec<InstanceTypeInfo>, Failure> {
        let wanted = filters(&[
            ("supported-virtualization-type".to_owned(), vec!["hvm".to_owned()]),
            (
                "processor-info.supported-architecture".to_owned(),
                vec!["x86_64".to_owned(), "arm64".to_owned()],
            ),
        ]);
        Ok(pages!(
            self,
            "ec2:DescribeInstanceTypes",
            instance_types,
            self.client.describe_instance_types().set_filters(wanted.clone()).max_results(PAGE)
        ))
    }

    /// Where each type is sold: type and zone.
    pub(super) async fn places(&self) -> Result<BTreeSet<(String, String)>, Failure> {
        let found = pages!(
            self,
            "ec2:DescribeInstanceTypeOfferings",
            instance_type_offerings,
            self.client
                .describe_instance_type_offerings()
                .location_type(LocationType::AvailabilityZone)
                .max_results(LARGE_PAGE)
        );
        let pair = |offering: aws_sdk_ec2::types::InstanceTypeOffering| {
            Some((offering.instance_type?.as_str().to_owned(), offering.location?))
        };
        Ok(found.into_iter().filter_map(pair).collect())
    }

    /// The newest price of each type and zone, as text.
    pub(super) async fn spot_prices(
        &self,
        since: Timestamp,
    ) -> Result<BTreeMap<(String, String), String>, Failure> {
        let since = aws_sdk_ec2::primitives::DateTime::from_secs(since.as_second());
        let found = pages!(
            self,
            "ec2:DescribeSpotPriceHistory",
            spot_price_history,
            self.client
                .describe_spot_price_history()
                .product_descriptions(LINUX)
                .product_descriptions(LINUX_IN_A_VPC)
                .start_time(since)
                .max_results(LARGE_PAGE)
        );
        let mut newest: BTreeMap<(String, String), (i64, String)> = BTreeMap::new();
        for one in found {
            let (Some(kind), Some(zone), Some(price)) =
                (one.instance_type, one.availability_zone, one.spot_price)
            else {
                continue;
            };
            let at = one.timestamp.map_or(0, |time| time.secs());
            let entry = newest.entry((kind.as_str().to_owned(), zone)).or_insert((at, price.clone()));
            if entry.0 < at {
                *entry = (at, price);
            }
        }
        Ok(newest.into_iter().map(|(key, (_, price))| (key, price)).collect())
    }

    pub(super) async fn subnets(&self, wanted: &[(String, Vec<String>)]) -> Result<Vec<Subnet>, Failure> {
        let found = pages!(
            self,
            "ec2:DescribeSubnets",
            subnets,
            self.client.describe_subnets().set_filters(filters(wanted)).max_results(LARGE_PAGE)
        );
        let read = |subnet: aws_sdk_ec2::types::Subnet| {
            Some(Subnet {
                id: subnet.subnet_id?,
                zone: subnet.availability_zone?,
                zone_id: subnet.availability_zone_id,
                free_addresses: subnet.available_ip_address_count.unwrap_or(0),
            })
        };
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// Security groups: id and name.
    pub(super) async fn groups(
        &self,
        wanted: &[(String, Vec<String>)],
    ) -> Result<Vec<(String, String)>, Failure> {
        let found = pages!(
            self,
            "ec2:DescribeSecurityGroups",
            security_groups,
            self.client.describe_security_groups().set_filters(filters(wanted)).max_results(LARGE_PAGE)
        );
        let pair = |group: aws_sdk_ec2::types::SecurityGroup| {
            Some((group.group_id?, group.group_name.unwrap_or_default()))
        };
        Ok(found.into_iter().filter_map(pair).collect())
    }

    pub(super) async fn images(&self, query: &ImageQuery, now: Timestamp) -> Result<Vec<Image>, Failure> {
        let some = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
        let found = pages!(
            self,
            "ec2:DescribeImages",
            images,
            self.client
                .describe_images()
                .set_image_ids(some(&query.ids))
                .set_owners(some(&query.owners))
                .set_filters(filters(&query.filters))
                .include_deprecated(!query.ids.is_empty())
        );
        Ok(found.into_iter().filter_map(|image| read_image(image, now)).collect())
    }

    pub(super) async fn instances(&self, wanted: &[(String, Vec<String>)]) -> Result<Vec<Instance>, Failure> {
        let found = pages!(
            self,
            "ec2:DescribeInstances",
            reservations,
            self.client.describe_instances().set_filters(filters(wanted)).max_results(LARGE_PAGE)
        );
        let all = found.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default());
        Ok(all.filter_map(read_instance).collect())
    }

    pub(super) async fn terminate(&self, id: &str) -> Result<(), Failure> {
        let call = async {
            let sent = Box::pin(self.client.terminate_instances().instance_ids(id).send()).await;
            sent.map_err(|error| failure("ec2:TerminateInstances", &error))
        };
        self.calls.once(call).await.map(drop)
    }

    pub(super) async fn tag(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<(), Failure> {
        let call = async {
            let request = self.client.create_tags().resources(id).set_tags(Some(tags_of(tags)));
            Box::pin(request.send()).await.map_err(|error| failure("ec2:CreateTags", &error))
        };
        self.calls.once(call).await.map(drop)
    }

    /// Makes a launch template; one of this name that is there is as good, because the name says what it holds.
    pub(super) async fn make_template(
        &self,
        name: &str,
        data: RequestLaunchTemplateData,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let call = async {
            let tags = TagSpecification::builder()
                .resource_type(ResourceType::LaunchTemplate)
                .set_tags(Some(tags_of(tags)))
                .build();
            let request = self
                .client
                .create_launch_template()
                .launch_template_name(name)
                .launch_template_data(data)
                .tag_specifications(tags);
            Box::pin(request.send()).await.map_err(|error| failure("ec2:CreateLaunchTemplate", &error))
        };
        match self.calls.once(call).await {
            Err(failure) if &*failure.code == "InvalidLaunchTemplateName.AlreadyExistsException" => Ok(()),
            answer => answer.map(drop),
        }
    }

    pub(super) async fn templates(&self, tag: (&str, &str)) -> Result<Vec<TemplateSeen>, Failure> {
        let wanted = filters(&[(format!("tag:{}", tag.0), vec![tag.1.to_owned()])]);
        let found = pages!(
            self,
            "ec2:DescribeLaunchTemplates",
            launch_templates,
            self.client.describe_launch_templates().set_filters(wanted.clone()).max_results(200)
        );
        let read = |one: aws_sdk_ec2::types::LaunchTemplate| {
            Some(TemplateSeen {
                name: one.launch_template_name?,
                created: one.create_time.as_ref().and_then(moment),
            })
        };
        Ok(found.into_iter().filter_map(read).collect())
    }

    pub(super) async fn delete_template(&self, name: &str) -> Result<(), Failure> {
        let call = async {
            let request = self.client.delete_launch_template().launch_template_name(name);
            Box::pin(request.send()).await.map_err(|error| failure("ec2:DeleteLaunchTemplate", &error))
        };
        match self.calls.once(call).await {
            Err(failure) if failure.kind == FailureKind::Missing => Ok(()),
            answer => answer.map(drop),
        }
    }

    pub(super) async fn fleet(&self, request: CreateFleetInputBuilder) -> Result<CreateFleetOutput, Failure> {
        let call = async {
            let sent = Box::pin(request.send_with(&self.client)).await;
            sent.map_err(|error| failure("ec2:CreateFleet", &error))
        };
        self.calls.once(call).await
    }
}

fn read_image(image: aws_sdk_ec2::types::Image, now: Timestamp) -> Option<Image> {
    let architecture = match image.architecture?.as_str() {
        "x86_64" => "amd64",
        "arm64" => "arm64",
        _ => return None,
    };
    let root = image.root_device_name.and_then(|name| {
        let disks = image.block_device_mappings.unwrap_or_default();
        let disk = disks.into_iter().find(|disk| disk.device_name.as_deref() == Some(&*name))?;
        Some((name, u64::try_from(disk.ebs?.volume_size?).ok()?))
    });
    Some(Image {
        id: image.image_id?,
        name: image.name.unwrap_or_default(),
        architecture,
        created: image.creation_date.unwrap_or_default(),
        deprecated: image
            .deprecation_time
            .and_then(|text| text.parse::<Timestamp>().ok())
            .is_some_and(|at| at <= now),
        root,
    })
}

fn read_instance(found: aws_sdk_ec2::types::Instance) -> Option<Instance> {
    Some(Instance {
        id: found.instance_id?,
        kind: found.instance_type.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        zone: found.placement.and_then(|placement| placement.availability_zone).unwrap_or_default(),
        is_spot: found.instance_lifecycle.is_some_and(|lifecycle| lifecycle.as_str() == "spot"),
        state: found
            .state
            .and_then(|state| state.name)
            .map(|name| name.as_str().to_owned())
            .unwrap_or_default(),
        image: found.image_id.unwrap_or_default(),
        subnet: found.subnet_id.unwrap_or_default(),
        groups: found
            .security_groups
            .unwrap_or_default()
            .into_iter()
            .filter_map(|group| group.group_id)
            .collect(),
        tags: found
            .tags
            .unwrap_or_default()
            .into_iter()
            .filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())))
            .collect(),
        launched: found.launch_time.as_ref().and_then(moment).unwrap_or(Timestamp::UNIX_EPOCH),
    })
}
