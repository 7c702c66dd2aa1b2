//! The actions of AWS that are used, by the official SDK, with answers in plain structures.
//!
//! Owns paging, batches and the rate of calls. What an answer means is `reading`'s and `template`'s, which
//! permissions may be missing `permissions`'.

use super::failure::failure;
use super::requirements;
use crate::calls::{CallLimits, Calls, Failure};
use aws_sdk_autoscaling::types as scaling_types;
use aws_sdk_ec2::types as ec2_types;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Groups and names of one page.
const PAGE: i32 = 100;
const NAMES_AT_ONCE: usize = 100;
/// Pages of one list at most: more is refused, not guessed about.
const MOST_PAGES: usize = 200;
/// Activities that are read of one group: the newest.
const ACTIVITIES: i32 = 100;
/// Instance types that are asked for by name in one call, and that requirements may lead to.
const TYPES_AT_ONCE: usize = 100;
const MOST_TYPES: usize = 2000;

/// An Auto Scaling group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) desired: u32,
    /// Zones by name, each with its id where the answer has it.
    pub(super) zones: Vec<(String, Option<String>)>,
    pub(super) instances: Vec<Instance>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) suspended: BTreeSet<String>,
    /// Set while the group is being deleted.
    pub(super) status: String,
    /// What its capacity counts: empty or `units` for machines.
    pub(super) unit: String,
    pub(super) created: Option<Timestamp>,
    pub(super) launch: Option<Launch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) zone: String,
    pub(super) state: String,
}

/// What a group starts its instances from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Launch {
    Configuration(String),
    Template { base: TemplateId, overrides: Vec<Override> },
}

/// A launch template and its version, which may be `$Latest` or `$Default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateId {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) version: String,
}

/// One of the kinds of instance that a mixed group may start.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Override {
    pub(super) kind: Option<String>,
    pub(super) weight: Option<String>,
    pub(super) requirements: Option<ec2_types::InstanceRequirementsRequest>,
    pub(super) template: Option<TemplateId>,
}

/// What a launch template or configuration says of its instances.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LaunchFacts {
    pub(super) kind: Option<String>,
    pub(super) requirements: Option<ec2_types::InstanceRequirementsRequest>,
    pub(super) image: Option<String>,
    /// Gibibytes of the first disk that is declared.
    pub(super) disk_gib: Option<u64>,
}

/// What an instance type has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TypeFacts {
    /// Empty where only the least of a requirement is known.
    pub(super) name: String,
    pub(super) cores: u64,
    pub(super) memory_mib: u64,
    pub(super) architectures: Vec<String>,
    /// Accelerators by the resource that their device plug-in publishes.
    pub(super) devices: BTreeMap<&'static str, u64>,
    pub(super) gpu_name: Option<String>,
    /// Addresses for pods, by the rule of the VPC's network plug-in.
    pub(super) pod_addresses: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Activity {
    pub(super) id: String,
    pub(super) description: String,
    pub(super) status: String,
    pub(super) message: String,
    pub(super) started: Option<Timestamp>,
    pub(super) ended: Option<Timestamp>,
}

/// A managed node group of EKS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeGroup {
    pub(super) labels: BTreeMap<String, String>,
    /// Key, value and effect as EKS names it.
    pub(super) taints: Vec<(String, String, String)>,
    pub(super) capacity_type: Option<String>,
    pub(super) disk_gib: Option<u64>,
}

/// How groups are found.
pub(super) enum Query<'a> {
    Names(&'a [String]),
    Tags(&'a BTreeMap<String, Option<String>>),
}

/// The clients. Their futures are large, so each is on the heap.
pub(super) struct Cloud {
    scaling: aws_sdk_autoscaling::Client,
    compute: aws_sdk_ec2::Client,
    kubernetes: aws_sdk_eks::Client,
    scaling_calls: Calls,
    compute_calls: Calls,
    kubernetes_calls: Calls,
}

impl Cloud {
    pub(super) fn new(config: &aws_config::SdkConfig, limits: CallLimits) -> Self {
        let calls = |purpose| {
            let seed = crate::backoff::seed_for(limits.seed, purpose);
            Calls::new(CallLimits { seed, ..limits })
        };
        Self {
            scaling: aws_sdk_autoscaling::Client::new(config),
            compute: aws_sdk_ec2::Client::new(config),
            kubernetes: aws_sdk_eks::Client::new(config),
            scaling_calls: calls("aws-autoscaling"),
            compute_calls: calls("aws-ec2"),
            kubernetes_calls: calls("aws-eks"),
        }
    }

    pub(super) async fn groups(&self, query: Query<'_>) -> Result<Vec<Group>, Failure> {
        match query {
            Query::Tags(tags) => {
                let filters = tags.iter().map(|(key, value)| {
                    let filter = scaling_types::Filter::builder();
                    match value {
                        Some(value) => filter.name(format!("tag:{key}")).values(value),
                        None => filter.name("tag-key").values(key),
                    }
                    .build()
                });
                self.listed(&[], &filters.collect::<Vec<_>>()).await
            }
            Query::Names(names) => {
                let mut found = Vec::new();
                for some in names.chunks(NAMES_AT_ONCE) {
                    found.extend(self.listed(some, &[]).await?);
                }
                Ok(found)
            }
        }
    }

    async fn listed(
        &self,
        names: &[String],
        filters: &[scaling_types::Filter],
    ) -> Result<Vec<Group>, Failure> {
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..MOST_PAGES {
            let page = || async {
                let filled = |list: bool| list.then(|| names.to_vec());
                let request = self
                    .scaling
                    .describe_auto_scaling_groups()
                    .set_auto_scaling_group_names(filled(!names.is_empty()))
                    .set_filters(Some(filters.to_vec()).filter(|filters| !filters.is_empty()))
                    .set_next_token(token.clone())
                    .max_records(PAGE);
                Box::pin(request.send())
                    .await
                    .map_err(|error| failure("autoscaling:DescribeAutoScalingGroups", &error))
            };
            let answer = self.scaling_calls.read(page).await?;
            found.extend(answer.auto_scaling_groups.unwrap_or_default().into_iter().filter_map(group));
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(found);
            }
        }
        let most = MOST_PAGES * PAGE as usize;
        let message = format!("more than {most} groups match; name fewer of them");
        Err(Failure::new(crate::calls::FailureKind::Refused, "TooMany", message))
    }

    /// The newest activities of a group.
    pub(super) async fn activities(&self, name: &str) -> Result<Vec<Activity>, Failure> {
        let call = || async {
            let request = self
                .scaling
                .describe_scaling_activities()
                .auto_scaling_group_name(name)
                .max_records(ACTIVITIES);
            Box::pin(request.send())
                .await
                .map_err(|error| failure("autoscaling:DescribeScalingActivities", &error))
        };
        let answer = self.scaling_calls.read(call).await?;
        Ok(answer.activities.unwrap_or_default().into_iter().map(activity).collect())
    }

    pub(super) async fn configuration(&self, name: &str) -> Result<Option<LaunchFacts>, Failure> {
        let call = || async {
            let request = self.scaling.describe_launch_configurations().launch_configuration_names(name);
            Box::pin(request.send())
                .await
                .map_err(|error| failure("autoscaling:DescribeLaunchConfigurations", &error))
        };
        let answer = self.scaling_calls.read(call).await?;
        let found = answer.launch_configurations.unwrap_or_default().into_iter().next();
        Ok(found.map(|found| LaunchFacts {
            kind: found.instance_type.filter(|kind| !kind.is_empty()),
            requirements: None,
            image: found.image_id,
            disk_gib: found
                .block_device_mappings
                .unwrap_or_default()
                .into_iter()
                .find_map(|disk| u64::try_from(disk.ebs?.volume_size?).ok()),
        }))
    }

    pub(super) async fn template(&self, template: &TemplateId) -> Result<Option<LaunchFacts>, Failure> {
        let call = || async {
            let request = self
                .compute
                .describe_launch_template_versions()
                .set_launch_template_id(template.id.clone())
                .set_launch_template_name(template.name.clone().filter(|_| template.id.is_none()))
                .versions(&template.version);
            Box::pin(request.send())
                .await
                .map_err(|error| failure("ec2:DescribeLaunchTemplateVersions", &error))
        };
        let answer = self.compute_calls.read(call).await?;
        let found = answer.launch_template_versions.unwrap_or_default().into_iter().next();
        Ok(found.and_then(|found| found.launch_template_data).map(|data| LaunchFacts {
            kind: data.instance_type.map(|kind| kind.as_str().to_owned()),
            requirements: data.instance_requirements.map(|given| requirements::of_compute(&given)),
            image: data.image_id,
            disk_gib: data
                .block_device_mappings
                .unwrap_or_default()
                .into_iter()
                .find_map(|disk| u64::try_from(disk.ebs?.volume_size?).ok()),
        }))
    }

    /// The architecture of an image; `None` where there is no such image any more.
    pub(super) async fn architecture(&self, image: &str) -> Result<Option<String>, Failure> {
        let call = || async {
            let request = self.compute.describe_images().image_ids(image);
            Box::pin(request.send()).await.map_err(|error| failure("ec2:DescribeImages", &error))
        };
        let found = self.compute_calls.read(call).await?.images.unwrap_or_default().into_iter().next();
        Ok(found.and_then(|image| image.architecture).map(|architecture| architecture.as_str().to_owned()))
    }

    /// The instance types that meet requirements, for an architecture.
    pub(super) async fn types_of(
        &self,
        requirements: &ec2_types::InstanceRequirementsRequest,
        architecture: &str,
    ) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        let mut token = None;
        while names.len() < MOST_TYPES {
            let call = || async {
                let request = self
                    .compute
                    .get_instance_types_from_instance_requirements()
                    .architecture_types(architecture.into())
                    .virtualization_types(ec2_types::VirtualizationType::Hvm)
                    .instance_requirements(requirements.clone())
                    .set_next_token(token.clone());
                let sent = Box::pin(request.send()).await;
                sent.map_err(|error| failure("ec2:GetInstanceTypesFromInstanceRequirements", &error))
            };
            let answer = self.compute_calls.read(call).await?;
            let page = answer.instance_types.unwrap_or_default();
            names.extend(page.into_iter().filter_map(|found| found.instance_type));
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(names)
    }

    pub(super) async fn types(&self, names: &[String]) -> Result<Vec<TypeFacts>, Failure> {
        let mut found = Vec::new();
        for some in names.chunks(TYPES_AT_ONCE) {
            let call = || async {
                let wanted = some.iter().map(|name| name.as_str().into()).collect();
                let request = self.compute.describe_instance_types().set_instance_types(Some(wanted));
                Box::pin(request.send()).await.map_err(|error| failure("ec2:DescribeInstanceTypes", &error))
            };
            let answer = self.compute_calls.read(call).await?;
            found.extend(answer.instance_types.unwrap_or_default().into_iter().filter_map(type_facts));
        }
        Ok(found)
    }

    pub(super) async fn node_group(&self, cluster: &str, name: &str) -> Result<Option<NodeGroup>, Failure> {
        let call = || async {
            let request = self.kubernetes.describe_nodegroup().cluster_name(cluster).nodegroup_name(name);
            Box::pin(request.send()).await.map_err(|error| failure("eks:DescribeNodegroup", &error))
        };
        let answer = self.kubernetes_calls.read(call).await?;
        Ok(answer.nodegroup.map(|found| NodeGroup {
            labels: found.labels.unwrap_or_default().into_iter().collect(),
            taints: found
                .taints
                .unwrap_or_default()
                .into_iter()
                .map(|taint| {
                    let effect = taint.effect.map(|effect| effect.as_str().to_owned()).unwrap_or_default();
                    (taint.key.unwrap_or_default(), taint.value.unwrap_or_default(), effect)
                })
                .collect(),
            capacity_type: found.capacity_type.map(|kind| kind.as_str().to_owned()),
            disk_gib: found.disk_size.and_then(|size| u64::try_from(size).ok()),
        }))
    }

    pub(super) async fn set_desired(&self, name: &str, to: u32) -> Result<(), Failure> {
        let call = async {
            let request = self
                .scaling
                .set_desired_capacity()
                .auto_scaling_group_name(name)
                .desired_capacity(i32::try_from(to).unwrap_or(i32::MAX))
                .honor_cooldown(false);
            Box::pin(request.send()).await.map_err(|error| failure("autoscaling:SetDesiredCapacity", &error))
        };
        self.scaling_calls.once(call).await.map(drop)
    }

    /// Terminates an instance, and takes it off the group's desired capacity.
    pub(super) async fn terminate(&self, instance: &str) -> Result<(), Failure> {
        let call = async {
            let request = self
                .scaling
                .terminate_instance_in_auto_scaling_group()
                .instance_id(instance)
                .should_decrement_desired_capacity(true);
            let sent = Box::pin(request.send()).await;
            sent.map_err(|error| failure("autoscaling:TerminateInstanceInAutoScalingGroup", &error))
        };
        self.scaling_calls.once(call).await.map(drop)
    }
}

fn moment(time: &aws_sdk_autoscaling::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// `None` for an answer without a name, which no group lacks.
fn group(found: scaling_types::AutoScalingGroup) -> Option<Group> {
    let count = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    let mut ids = found.availability_zone_ids.unwrap_or_default().into_iter();
    let template = found.launch_template.map(template_id);
    let launch = match (found.mixed_instances_policy.and_then(|policy| policy.launch_template), template) {
        (Some(mixed), _) => mixed.launch_template_specification.map(|base| Launch::Template {
            base: template_id(base),
            overrides: mixed.overrides.unwrap_or_default().into_iter().map(override_of).collect(),
        }),
        (None, Some(base)) => Some(Launch::Template { base, overrides: Vec::new() }),
        (None, None) => {
            found.launch_configuration_name.filter(|name| !name.is_empty()).map(Launch::Configuration)
        }
    };
    let tags = found.tags.unwrap_or_default();
    Some(Group {
        name: found.auto_scaling_group_name.filter(|name| !name.is_empty())?,
        min: count(found.min_size),
        max: count(found.max_size),
        desired: count(found.desired_capacity),
        zones: found
            .availability_zones
            .unwrap_or_default()
            .into_iter()
            .map(|zone| (zone, ids.next()))
            .collect(),
        instances: found.instances.unwrap_or_default().into_iter().filter_map(instance).collect(),
        tags: tags.into_iter().filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect(),
        suspended: found
            .suspended_processes
            .unwrap_or_default()
            .into_iter()
            .filter_map(|process| process.process_name)
            .collect(),
        status: found.status.unwrap_or_default(),
        unit: found.desired_capacity_type.unwrap_or_default(),
        created: found.created_time.as_ref().and_then(moment),
        launch,
    })
}

fn instance(found: scaling_types::Instance) -> Option<Instance> {
    Some(Instance {
        id: found.instance_id.filter(|id| !id.is_empty())?,
        zone: found.availability_zone.unwrap_or_default(),
        state: found.lifecycle_state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
    })
}

fn template_id(found: scaling_types::LaunchTemplateSpecification) -> TemplateId {
    TemplateId {
        id: found.launch_template_id.filter(|id| !id.is_empty()),
        name: found.launch_template_name,
        version: found.version.filter(|version| !version.is_empty()).unwrap_or_else(|| "$Default".into()),
    }
}

fn override_of(found: scaling_types::LaunchTemplateOverrides) -> Override {
    Override {
        kind: found.instance_type.filter(|kind| !kind.is_empty()),
        weight: found.weighted_capacity,
        requirements: found.instance_requirements.map(|given| requirements::of_scaling(&given)),
        template: found.launch_template_specification.map(template_id),
    }
}

fn activity(found: scaling_types::Activity) -> Activity {
    Activity {
        id: found.activity_id.unwrap_or_default(),
        description: found.description.unwrap_or_default(),
        status: found.status_code.map(|code| code.as_str().to_owned()).unwrap_or_default(),
        message: found.status_message.unwrap_or_default(),
        started: found.start_time.as_ref().and_then(moment),
        ended: found.end_time.as_ref().and_then(moment),
    }
}

fn type_facts(found: ec2_types::InstanceTypeInfo) -> Option<TypeFacts> {
    let mut devices = BTreeMap::new();
    let mut gpu_name = None;
    for gpu in found.gpu_info.and_then(|info| info.gpus).unwrap_or_default() {
        let resource = match gpu.manufacturer.as_deref() {
            Some("AMD") => "amd.com/gpu",
            _ => "nvidia.com/gpu",
        };
        *devices.entry(resource).or_default() += u64::try_from(gpu.count.unwrap_or(0)).unwrap_or(0);
        gpu_name = gpu_name.or(gpu.name);
    }
    let neurons = found.neuron_info.and_then(|info| info.neuron_devices).unwrap_or_default();
    let neurons: u64 =
        neurons.iter().map(|device| u64::try_from(device.count.unwrap_or(0)).unwrap_or(0)).sum();
    if neurons > 0 {
        devices.insert("aws.amazon.com/neuron", neurons);
    }
    let network = found.network_info;
    let addresses = network.and_then(|network| {
        let interfaces = u32::try_from(network.maximum_network_interfaces?).ok()?;
        let each = u32::try_from(network.ipv4_addresses_per_interface?).ok()?;
        // One address of each interface is the machine's own; two pods use the machine's network.
        Some(interfaces * each.checked_sub(1)? + 2)
    });
    let architectures =
        found.processor_info.and_then(|info| info.supported_architectures).unwrap_or_default();
    Some(TypeFacts {
        name: found.instance_type?.as_str().to_owned(),
        cores: u64::try_from(found.v_cpu_info?.default_v_cpus?).ok()?,
        memory_mib: u64::try_from(found.memory_info?.size_in_mib?).ok()?,
        architectures: architectures.iter().map(|name| name.as_str().to_owned()).collect(),
        devices,
        gpu_name,
        pod_addresses: addresses,
    })
}
