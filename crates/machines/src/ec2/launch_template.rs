//! Launch templates: everything of a launch but type and subnet, one for each image and kind of node.
//!
//! Owns their contents, their names, and the taking away of those that nothing was launched with lately. A name says
//! what the template holds, so one that is there is never changed.

use super::boot::{Boot, user_data};
use super::images::Choice;
use super::resolve::{Resolved, gib};
use super::{CLASS, EKS_CLUSTER, Shared};
use api::karpenter::{BlockDevice, NodeTaint, UNREGISTERED};
use aws_sdk_ec2::types::{
    LaunchTemplateBlockDeviceMappingRequest as DiskRequest, LaunchTemplateEbsBlockDeviceRequest,
    LaunchTemplateIamInstanceProfileSpecificationRequest as ProfileRequest,
    LaunchTemplateInstanceMetadataOptionsRequest,
    LaunchTemplateInstanceNetworkInterfaceSpecificationRequest as InterfaceRequest,
    LaunchTemplatesMonitoringRequest, RequestLaunchTemplateData,
};
use base64::Engine as _;
use claims::cloud::{LaunchError, LaunchOrder};
use jiff::SignedDuration;
use kube::ResourceExt as _;
use std::collections::BTreeMap;

const PREFIX: &str = "karpenter.k8s.aws/";
/// By it the templates of a cluster are found.
const CLUSTER_TAG: &str = "karpenter.k8s.aws/cluster";
/// A template that nothing was launched with for so long is taken away.
const UNUSED: SignedDuration = SignedDuration::from_mins(30);

fn refused(code: &str, message: String) -> LaunchError {
    LaunchError::Refused { code: code.to_owned(), message }
}

/// The template for an image, by name and contents.
pub(super) fn of(
    shared: &Shared,
    class: &Resolved,
    order: &LaunchOrder,
    choice: &Choice,
) -> Result<(String, RequestLaunchTemplateData), LaunchError> {
    let spec = &class.object.spec;
    let boot = boot(shared, class, order)?;
    let text = user_data(class.family, &boot).map_err(|why| refused("UserData", why))?;
    let encoded = base64::engine::general_purpose::STANDARD.encode(&text);
    let groups: Vec<String> = class.groups.iter().map(|(id, _)| id.clone()).collect();
    let metadata = &spec.metadata_options;
    let mut data = RequestLaunchTemplateData::builder()
        .image_id(&choice.image.id)
        .iam_instance_profile(ProfileRequest::builder().name(&class.profile).build())
        .monitoring(
            LaunchTemplatesMonitoringRequest::builder()
                .enabled(spec.detailed_monitoring.unwrap_or(false))
                .build(),
        )
        .metadata_options(
            LaunchTemplateInstanceMetadataOptionsRequest::builder()
                .http_endpoint(metadata.http_endpoint.as_str().into())
                .http_protocol_ipv6(metadata.http_protocol_ipv6.as_str().into())
                .http_put_response_hop_limit(i32::try_from(metadata.http_put_response_hop_limit).unwrap_or(1))
                .http_tokens(metadata.http_tokens.as_str().into())
                .build(),
        );
    if !encoded.is_empty() {
        data = data.user_data(encoded);
    }
    for disk in &spec.block_device_mappings {
        data = data.block_device_mappings(disk_of(disk, choice)?);
    }
    if spec.associate_public_ip_address.is_some() || spec.ip_prefix_count.is_some_and(|count| count > 0) {
        let interface = InterfaceRequest::builder()
            .device_index(0)
            .set_associate_public_ip_address(spec.associate_public_ip_address)
            .set_ipv4_prefix_count(spec.ip_prefix_count.filter(|count| *count > 0))
            .set_groups(Some(groups))
            .build();
        data = data.network_interfaces(interface);
    } else {
        data = data.set_security_group_ids(Some(groups));
    }
    let data = data.build();
    // User data is left out of what the SDK prints.
    let contents = format!("{}/{data:?}/{text}", shared.settings.cluster);
    let name = format!("{PREFIX}{:016x}", clouds::backoff::seed_for(0, &contents));
    Ok((name, data))
}

fn boot(shared: &Shared, class: &Resolved, order: &LaunchOrder) -> Result<Boot, LaunchError> {
    let cluster = shared.state().cluster.clone();
    let endpoint = shared.settings.endpoint.clone().or(cluster.endpoint);
    let is_custom = class.family == super::images::Family::Custom;
    let Some(endpoint) = endpoint.or_else(|| is_custom.then(String::new)) else {
        let message =
            "the API server's address is not known: EKS does not tell it, and --cluster-endpoint is missing";
        return Err(LaunchError::Unknown(message.to_owned()));
    };
    let mut taints = vec![NodeTaint {
        key: UNREGISTERED.to_owned(),
        effect: "NoExecute".to_owned(),
        ..NodeTaint::default()
    }];
    taints.extend(order.taints.iter().cloned());
    let spec = &class.object.spec;
    // A kubelet may not label itself with everything; what it may not is put there when the node is registered.
    let may = |key: &str| {
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        let of_kubernetes = domain == "kubernetes.io"
            || domain == "k8s.io"
            || domain.ends_with(".kubernetes.io")
            || domain.ends_with(".k8s.io");
        !of_kubernetes || domain == "node.kubernetes.io"
    };
    let labels = order.labels.iter().filter(|(key, _)| may(key));
    let max_pods =
        spec.kubelet.as_ref().and_then(|fields| fields.get("maxPods")).and_then(serde_json::Value::as_u64);
    Ok(Boot {
        cluster: shared.settings.cluster.clone(),
        endpoint,
        authority: shared.settings.authority.clone().or(cluster.authority),
        service_cidr: cluster.service_cidr,
        labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        taints,
        kubelet: spec.kubelet.clone().unwrap_or_default(),
        max_pods,
        joins_disks: spec.instance_store_policy.is_some(),
        own: spec.user_data.clone(),
    })
}

fn disk_of(disk: &BlockDevice, choice: &Choice) -> Result<DiskRequest, LaunchError> {
    let root = choice.image.root.as_ref().map(|(name, _)| name.clone());
    let name = disk.device_name.clone().or_else(|| root.filter(|_| disk.root_volume == Some(true)));
    let Some(name) = name else {
        let message = "spec.blockDeviceMappings: a device has no deviceName".to_owned();
        return Err(refused("BlockDevice", message));
    };
    let mut request = DiskRequest::builder().device_name(name);
    if let Some(ebs) = &disk.ebs {
        let number = |value: Option<i64>| value.and_then(|value| i32::try_from(value).ok());
        let size = match &ebs.volume_size {
            None => None,
            Some(text) => {
                let wrong = || format!("spec.blockDeviceMappings: volumeSize {text} is no size; write 50Gi");
                let size = gib(text).ok_or_else(|| refused("BlockDevice", wrong()))?;
                i32::try_from(size).ok()
            }
        };
        request = request.ebs(
            LaunchTemplateEbsBlockDeviceRequest::builder()
                .set_volume_size(size)
                .set_volume_type(ebs.volume_type.as_deref().map(Into::into))
                .set_iops(number(ebs.iops))
                .set_throughput(number(ebs.throughput))
                .set_encrypted(ebs.encrypted)
                .set_kms_key_id(ebs.kms_key_id.clone())
                .set_delete_on_termination(Some(ebs.delete_on_termination.unwrap_or(true)))
                .set_snapshot_id(ebs.snapshot_id.clone())
                .set_volume_initialization_rate(ebs.volume_initialization_rate)
                .build(),
        );
    }
    Ok(request.build())
}

/// Makes a template unless it was used lately.
pub(super) async fn make(
    shared: &Shared,
    class: &Resolved,
    name: &str,
    data: RequestLaunchTemplateData,
    anew: bool,
) -> Result<(), LaunchError> {
    let now = shared.now();
    let known = shared.state().templates.insert(name.to_owned(), now).is_some();
    if known && !anew {
        return Ok(());
    }
    let mut tags: BTreeMap<String, String> = class.object.spec.tags.clone();
    tags.insert(format!("kubernetes.io/cluster/{}", shared.settings.cluster), "owned".to_owned());
    tags.insert(EKS_CLUSTER.to_owned(), shared.settings.cluster.clone());
    tags.insert(CLUSTER_TAG.to_owned(), shared.settings.cluster.clone());
    tags.insert(CLASS.to_owned(), class.object.name_any());
    shared.compute.make_template(name, data, &tags).await.map_err(|why| {
        shared.state().templates.remove(name);
        super::unanswered(why)
    })
}

/// Takes away what nothing was launched with for a while.
pub(super) async fn sweep(shared: &Shared) {
    if !(shared.leads)() {
        return;
    }
    let now = shared.now();
    let old = |at: jiff::Timestamp| at.saturating_add(UNUSED).is_ok_and(|end| end < now);
    shared.state().templates.retain(|_, used| !old(*used));
    let found = match shared.compute.templates((CLUSTER_TAG, &shared.settings.cluster)).await {
        Ok(found) => found,
        Err(why) => {
            tracing::warn!(%why, "launch templates are not listed; old ones stay");
            return;
        }
    };
    for template in found {
        let unused = !shared.state().templates.contains_key(&template.name);
        if unused && template.name.starts_with(PREFIX) && template.created.is_some_and(old) {
            match shared.compute.delete_template(&template.name).await {
                Ok(()) => tracing::debug!(template = template.name, "launch template taken away"),
                Err(why) => tracing::warn!(%why, template = template.name, "launch template stays"),
            }
        }
    }
}
