//! Launching: one fleet of one instance for a claim, over all that would do.
//!
//! Owns the request, the reading of its answer, and what is remembered of shortages in subnets. The token is the
//! claim's, so asking again brings the same instance.

use super::compute::{Instance, Subnet, tags_of};
use super::held::{self, Seen};
use super::images::{self, Choice};
use super::resolve::Resolved;
use super::{CLAIM_UID, CLASS, EKS_CLUSTER, NODE_CLAIM, Shared, launch_template, unanswered};
use api::karpenter::NODE_POOL;
use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::operation::create_fleet::builders::CreateFleetInputBuilder;
use aws_sdk_ec2::types::{
    CreateFleetError, DefaultTargetCapacityType, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest,
    FleetOnDemandAllocationStrategy, FleetType, OnDemandOptionsRequest, ResourceType, SpotAllocationStrategy,
    SpotOptionsRequest, TagSpecification, TargetCapacitySpecificationRequest,
};
use claims::cloud::{LaunchError, LaunchOrder, Launched, Offer};
use jiff::SignedDuration;
use kube::ResourceExt as _;
use model::{CapacityType, Flavour};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Codes that say: not to be had now, here.
const SHORT: &[&str] = &[
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "VcpuLimitExceeded",
    "UnfulfillableCapacity",
    "Unsupported",
    "InsufficientFreeAddressesInSubnet",
    "MaxFleetCountExceeded",
    "ReservationCapacityExceeded",
    "InsufficientHostCapacity",
    "SpotMaxPriceTooLow",
];
const NO_ADDRESS: &str = "InsufficientFreeAddressesInSubnet";
const NO_TEMPLATE: &str = "InvalidLaunchTemplateName.NotFoundException";
const ANOTHER_REQUEST: &str = "IdempotentParameterMismatch";
/// A subnet without a free address is left out for so long.
const FULL_FOR: SignedDuration = SignedDuration::from_mins(3);
/// Types, times zones, of one fleet.
const MOST_OVERRIDES: usize = 300;
const LONGEST_MESSAGE: usize = 300;

pub(super) async fn launch(shared: &Shared, order: &LaunchOrder) -> Result<Launched, LaunchError> {
    if let Some(found) = find(shared, order).await? {
        return Ok(found);
    }
    let class = shared.state().resolved.get(&order.class_ref.name).cloned();
    let Some(class) = class else {
        return Err(LaunchError::Unknown(format!("what {} means is not known yet", order.class_ref.name)));
    };
    let mut kinds: Vec<CapacityType> = Vec::new();
    for kind in order.options.iter().filter_map(|option| option.capacity_type) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let (mut short, mut told) = (Vec::new(), String::new());
    for kind in kinds {
        let options: Vec<&Flavour> =
            order.options.iter().filter(|option| option.capacity_type == Some(kind)).collect();
        match one_kind(shared, &class, order, kind, &options).await {
            Err(LaunchError::SoldOut { message, offers }) => {
                short.extend(offers);
                told = message;
            }
            answer => return answer,
        }
    }
    Err(LaunchError::SoldOut { message: told, offers: short })
}

/// The machine of the claim, if it is there: known from a list, or asked for where an answer was lost.
async fn find(shared: &Shared, order: &LaunchOrder) -> Result<Option<Launched>, LaunchError> {
    let (known, was_lost) = {
        let state = shared.state();
        let known = state.held.get(&*order.uid).map(|seen| seen.instance.clone());
        (known, state.unanswered.contains(&*order.uid))
    };
    if known.is_some() || !was_lost {
        return Ok(known.map(|instance| launched(&instance)));
    }
    let wanted = (format!("tag:{CLAIM_UID}"), vec![order.uid.to_string()]);
    let found = shared.compute.instances(&[wanted]).await.map_err(unanswered)?;
    let alive = |instance: &Instance| !matches!(instance.state.as_str(), "terminated" | "shutting-down");
    let found = found.into_iter().find(alive);
    if let Some(instance) = &found {
        held::note(shared, &order.uid, instance.clone());
    }
    Ok(found.map(|instance| launched(&instance)))
}

fn launched(instance: &Instance) -> Launched {
    let capacity_type = if instance.is_spot { CapacityType::Spot } else { CapacityType::OnDemand };
    Launched {
        provider_id: held::provider_id(instance),
        instance_type: Arc::from(instance.kind.as_str()),
        zone: Arc::from(instance.zone.as_str()),
        capacity_type: Arc::from(capacity_type.as_str()),
        image: instance.image.clone(),
    }
}

/// The subnet for each zone: the one with the most free addresses that is not known to be full.
fn subnets<'a>(shared: &Shared, class: &'a Resolved) -> BTreeMap<&'a str, &'a Subnet> {
    let now = shared.now();
    let mut state = shared.state();
    state.full.retain(|_, until| now < *until);
    let mut best: BTreeMap<&str, &Subnet> = BTreeMap::new();
    for subnet in class.subnets.iter().filter(|subnet| !state.full.contains_key(&subnet.id)) {
        let entry = best.entry(&subnet.zone).or_insert(subnet);
        if subnet.free_addresses > entry.free_addresses {
            *entry = subnet;
        }
    }
    best
}

/// What a fleet is asked for: templates by name, each with its overrides.
struct Wanted {
    configs: Vec<FleetLaunchTemplateConfigRequest>,
    /// The image of each template.
    templates: BTreeMap<String, (Choice, aws_sdk_ec2::types::RequestLaunchTemplateData)>,
    count: usize,
}

fn wanted(
    shared: &Shared,
    class: &Resolved,
    order: &LaunchOrder,
    options: &[&Flavour],
) -> Result<Wanted, LaunchError> {
    let subnets = subnets(shared, class);
    let rows = shared.state().rows.clone();
    let mut templates = BTreeMap::new();
    let mut overrides: BTreeMap<String, Vec<FleetLaunchTemplateOverridesRequest>> = BTreeMap::new();
    let mut count = 0;
    for (rank, option) in options.iter().enumerate() {
        let (Some(kind), Some(zone)) = (&option.instance_type, &option.zone) else { continue };
        let Some(row) = rows.iter().find(|row| *row.name == **kind) else { continue };
        let (Some(choice), Some(subnet)) = (images::choose(&class.images, row), subnets.get(&**zone)) else {
            continue;
        };
        if count >= MOST_OVERRIDES {
            break;
        }
        let (name, data) = launch_template::of(shared, class, order, choice)?;
        templates.entry(name.clone()).or_insert_with(|| (choice.clone(), data));
        overrides.entry(name).or_default().push(
            FleetLaunchTemplateOverridesRequest::builder()
                .instance_type((&**kind).into())
                .subnet_id(&subnet.id)
                .availability_zone(&subnet.zone)
                .priority(rank as f64)
                .build(),
        );
        count += 1;
    }
    let configs = overrides.into_iter().map(|(name, overrides)| {
        let template = FleetLaunchTemplateSpecificationRequest::builder()
            .launch_template_name(name)
            .version("$Latest")
            .build();
        FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(template)
            .set_overrides(Some(overrides))
            .build()
    });
    Ok(Wanted { configs: configs.collect(), templates, count })
}

async fn one_kind(
    shared: &Shared,
    class: &Resolved,
    order: &LaunchOrder,
    kind: CapacityType,
    options: &[&Flavour],
) -> Result<Launched, LaunchError> {
    let wanted = wanted(shared, class, order, options)?;
    if wanted.count == 0 {
        let message = "no zone of the options has a subnet with free addresses".to_owned();
        return Err(LaunchError::SoldOut { message, offers: options.iter().map(|o| offer(o)).collect() });
    }
    for anew in [false, true] {
        for (name, (_, data)) in &wanted.templates {
            launch_template::make(shared, class, name, data.clone(), anew).await?;
        }
        shared.state().unanswered.insert(order.uid.to_string());
        let answer = shared.compute.fleet(request(shared, class, order, kind, &wanted)).await;
        let missing = match &answer {
            Ok(answer) => answer.errors().iter().any(|error| error.error_code() == Some(NO_TEMPLATE)),
            Err(failure) => &*failure.code == NO_TEMPLATE,
        };
        if missing && !anew {
            continue;
        }
        return match answer {
            Ok(answer) => {
                shared.state().unanswered.remove(&*order.uid);
                read(shared, class, order, kind, &wanted, options, &answer)
            }
            // The same token with other options: the first request may have launched; the next look asks for it.
            Err(failure) if &*failure.code == ANOTHER_REQUEST => {
                Err(LaunchError::Unknown(failure.to_string()))
            }
            Err(failure) if SHORT.contains(&&*failure.code) => {
                shared.state().unanswered.remove(&*order.uid);
                let offers = options.iter().map(|option| offer(option)).collect();
                Err(LaunchError::SoldOut { message: failure.to_string(), offers })
            }
            Err(failure) => {
                if !failure.is_passing() {
                    shared.state().unanswered.remove(&*order.uid);
                }
                Err(unanswered(failure))
            }
        };
    }
    Err(LaunchError::Unknown("the launch template is not found".to_owned()))
}

/// The tags of what is launched for a claim.
fn tags(shared: &Shared, class: &Resolved, order: &LaunchOrder) -> BTreeMap<String, String> {
    let mut tags = class.object.spec.tags.clone();
    let mut put = |key: &str, value: &str| drop(tags.insert(key.to_owned(), value.to_owned()));
    put(&format!("kubernetes.io/cluster/{}", shared.settings.cluster), "owned");
    put(EKS_CLUSTER, &shared.settings.cluster);
    put(CLASS, &class.object.name_any());
    put(NODE_CLAIM, &order.claim);
    put(CLAIM_UID, &order.uid);
    put(NODE_POOL, order.pool.as_deref().unwrap_or_default());
    tags
}

fn request(
    shared: &Shared,
    class: &Resolved,
    order: &LaunchOrder,
    kind: CapacityType,
    wanted: &Wanted,
) -> CreateFleetInputBuilder {
    let tags = tags_of(&tags(shared, class, order));
    let target = match kind {
        CapacityType::Spot => DefaultTargetCapacityType::Spot,
        CapacityType::OnDemand | CapacityType::Reserved => DefaultTargetCapacityType::OnDemand,
    };
    let mut request = CreateFleetInputBuilder::default()
        .r#type(FleetType::Instant)
        .client_token(format!("{}-{}", order.uid, kind.as_str()))
        .set_launch_template_configs(Some(wanted.configs.clone()))
        .target_capacity_specification(
            TargetCapacitySpecificationRequest::builder()
                .total_target_capacity(1)
                .default_target_capacity_type(target)
                .build(),
        )
        .set_context(class.object.spec.context.clone());
    for resource in [ResourceType::Instance, ResourceType::Volume, ResourceType::Fleet] {
        let all = TagSpecification::builder().resource_type(resource).set_tags(Some(tags.clone()));
        request = request.tag_specifications(all.build());
    }
    if kind == CapacityType::Spot {
        // The cheapest of those that are least likely to be taken back soon; where somebody else has a word in prices, ours
        // of them in the order of that.
        let strategy = if order.overlaid {
            SpotAllocationStrategy::CapacityOptimizedPrioritized
        } else {
            SpotAllocationStrategy::PriceCapacityOptimized
        };
        request.spot_options(SpotOptionsRequest::builder().allocation_strategy(strategy).build())
    } else {
        let strategy = FleetOnDemandAllocationStrategy::Prioritized;
        request.on_demand_options(OnDemandOptionsRequest::builder().allocation_strategy(strategy).build())
    }
}

fn read(
    shared: &Shared,
    class: &Resolved,
    order: &LaunchOrder,
    kind: CapacityType,
    wanted: &Wanted,
    options: &[&Flavour],
    answer: &CreateFleetOutput,
) -> Result<Launched, LaunchError> {
    note_full(shared, answer.errors());
    let made = answer.instances().iter().find_map(|one| Some((one.instance_ids().first()?, one)));
    if let Some((id, one)) = made {
        let spec = one.launch_template_and_overrides();
        let overrides = spec.and_then(|spec| spec.overrides());
        let subnet = overrides.and_then(|overrides| overrides.subnet_id()).or(one.subnet_id());
        let zone = overrides.and_then(|overrides| overrides.availability_zone()).or(one.availability_zone());
        let of_subnet = |id: &str| class.subnets.iter().find(|subnet| subnet.id == id);
        let zone = subnet.and_then(of_subnet).map(|subnet| subnet.zone.as_str()).or(zone).unwrap_or_default();
        let template = spec
            .and_then(|spec| spec.launch_template_specification())
            .and_then(|template| wanted.templates.get(template.launch_template_name()?))
            .or_else(|| wanted.templates.values().next());
        let instance = Instance {
            id: id.clone(),
            kind: one.instance_type().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
            zone: zone.to_owned(),
            is_spot: kind == CapacityType::Spot,
            state: "pending".to_owned(),
            image: template.map(|(choice, _)| choice.image.id.clone()).unwrap_or_default(),
            subnet: subnet.unwrap_or_default().to_owned(),
            groups: class.groups.iter().map(|(id, _)| id.clone()).collect(),
            tags: tags(shared, class, order),
            launched: shared.now(),
        };
        held::note(shared, &order.uid, instance.clone());
        return Ok(launched(&instance));
    }
    let codes: BTreeSet<String> = answer.errors().iter().map(told).collect();
    let mut message = codes.into_iter().collect::<Vec<_>>().join("; ");
    message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
    let other =
        answer.errors().iter().find(|error| !error.error_code().is_some_and(|code| SHORT.contains(&code)));
    if let Some(other) = other {
        let code = other.error_code().unwrap_or("Unknown").to_owned();
        return Err(LaunchError::Refused { code, message });
    }
    if message.is_empty() {
        "EC2 launched nothing and gives no reason".clone_into(&mut message);
    }
    Err(LaunchError::SoldOut { message, offers: options.iter().map(|option| offer(option)).collect() })
}

fn told(error: &CreateFleetError) -> String {
    let code = error.error_code().unwrap_or_default();
    format!("{code}: {}", error.error_message().unwrap_or_default())
}

fn note_full(shared: &Shared, errors: &[CreateFleetError]) {
    let until = shared.now().saturating_add(FULL_FOR).unwrap_or(jiff::Timestamp::MAX);
    let full = errors.iter().filter(|error| error.error_code() == Some(NO_ADDRESS));
    let ids = full.filter_map(|error| error.launch_template_and_overrides()?.overrides()?.subnet_id());
    let ids: Vec<String> = ids.map(str::to_owned).collect();
    let mut state = shared.state();
    for id in ids {
        tracing::warn!(subnet = id, "the subnet has no free address; it is left out for three minutes");
        state.full.insert(id, until);
    }
}

fn offer(option: &Flavour) -> Offer {
    let known = |value: &Option<Arc<str>>| value.clone().unwrap_or_default();
    let kind = option.capacity_type.map_or("", CapacityType::as_str);
    (known(&option.instance_type), known(&option.zone), Arc::from(kind))
}

/// A machine that was launched, for the list.
pub(super) fn seen(instance: Instance) -> Seen {
    Seen { instance, misses: 0, asked_to_end: false }
}
