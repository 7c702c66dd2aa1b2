//! The machines that there are: listed by their tags, shown to whoever keeps claims, ended when asked.
//!
//! Owns the list and its lag: EC2 shows a new instance a little late, and one answer that leaves an instance out is
//! not enough. Drift of single machines is told here.

use super::compute::Instance;
use super::resolve::Resolved;
use super::{
    AT_RISK, CLAIM_UID, CLASS, EKS_CLUSTER, NODE_CLAIM, Shared, fleet, images, launch_template, unanswered,
};
use api::karpenter::{NODE_POOL, NodeClaim};
use claims::cloud::{CloudMachine, LaunchError, MachineKey, MachineList, Notice};
use clouds::calls::{Failure, FailureKind};
use clouds::watching::within;
use jiff::SignedDuration;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Lists lag behind launches by less than this.
const LAG: SignedDuration = SignedDuration::from_mins(1);
/// Lists in a row that must leave a machine out.
const MISSES: u32 = 2;
const SWEEP: Duration = Duration::from_mins(10);
const STATES: [&str; 5] = ["pending", "running", "stopping", "stopped", "shutting-down"];

/// A machine as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) instance: Instance,
    /// Lists in a row that did not name it.
    pub(super) misses: u32,
    pub(super) asked_to_end: bool,
}

pub(super) fn provider_id(instance: &Instance) -> String {
    format!("aws:///{}/{}", instance.zone, instance.id)
}

pub(super) async fn follow(shared: Arc<Shared>) {
    let pace = shared.settings.pace;
    let mut swept = Instant::now();
    while shared.is_wanted() {
        let looked = Instant::now();
        if let Err(why) = list(&shared).await {
            tracing::warn!(%why, "the machines of EC2 are not listed; tried again");
        }
        if swept.elapsed() >= SWEEP {
            launch_template::sweep(&shared).await;
            swept = Instant::now();
        }
        let moving =
            shared.state().held.values().any(|seen| seen.asked_to_end || seen.instance.state != "running");
        let every = if moving { pace.machines_moving } else { pace.machines_at_rest };
        tokio::select! {
            biased;
            () = shared.look.notified() => {}
            () = tokio::time::sleep_until(looked + every) => {}
        }
    }
}

async fn list(shared: &Shared) -> Result<(), Failure> {
    let began = shared.now();
    let wanted = [
        (format!("tag:{EKS_CLUSTER}"), vec![shared.settings.cluster.clone()]),
        ("tag-key".to_owned(), vec![NODE_POOL.to_owned()]),
        ("instance-state-name".to_owned(), STATES.map(str::to_owned).to_vec()),
    ];
    let mut found: BTreeMap<String, Instance> = BTreeMap::new();
    let mut strangers = Vec::new();
    for instance in shared.compute.instances(&wanted).await? {
        match instance.tags.get(CLAIM_UID).cloned() {
            Some(uid) => drop(found.insert(uid, instance)),
            None => strangers.push(instance),
        }
    }
    found.extend(adopt(shared, strangers).await);
    {
        let mut state = shared.state();
        let state = &mut *state;
        for (uid, instance) in &found {
            let asked = state.held.get(uid).is_some_and(|known| known.asked_to_end);
            let seen = Seen { instance: instance.clone(), misses: 0, asked_to_end: asked };
            state.held.insert(uid.clone(), seen);
        }
        state.held.retain(|uid, seen| {
            if found.contains_key(uid) {
                return true;
            }
            seen.misses += 1;
            let new = seen.instance.launched.saturating_add(LAG).is_ok_and(|end| began < end);
            new && !seen.asked_to_end || seen.misses < MISSES
        });
        let ids: BTreeSet<&String> = state.held.values().map(|seen| &seen.instance.id).collect();
        state.ending.retain(|id, _| ids.contains(id));
    }
    let as_of = began.checked_sub(LAG).unwrap_or(began);
    show(shared, Some(as_of));
    Ok(())
}

/// Machines that Karpenter launched have no uid of a claim in their tags: it is looked up and put there.
async fn adopt(shared: &Shared, strangers: Vec<Instance>) -> BTreeMap<String, Instance> {
    let mut adopted = BTreeMap::new();
    if strangers.is_empty() {
        return adopted;
    }
    let api: Api<NodeClaim> = Api::all(shared.client.clone());
    let limit = shared.settings.watches.call_timeout;
    let Ok(claims) = within(limit, api.list(&ListParams::default())).await else { return adopted };
    for mut instance in strangers {
        let of_instance = |claim: &&NodeClaim| {
            let id = claim.status.as_ref().and_then(|status| status.provider_id.as_deref());
            id.is_some_and(|id| id.rsplit('/').next() == Some(&instance.id))
        };
        let Some(claim) = claims.items.iter().find(of_instance) else {
            tracing::debug!(
                instance = instance.id,
                "an instance of a pool that no claim names is left alone"
            );
            continue;
        };
        let (name, uid) = (claim.name_any(), claim.uid().unwrap_or_default());
        let tags: BTreeMap<String, String> =
            [(CLAIM_UID.to_owned(), uid.clone()), (NODE_CLAIM.to_owned(), name)].into();
        if (shared.leads)() {
            match shared.compute.tag(&instance.id, &tags).await {
                Ok(()) => tracing::info!(instance = instance.id, "taken over with its claim"),
                Err(why) => tracing::warn!(%why, instance = instance.id, "not tagged with its claim"),
            }
        }
        instance.tags.extend(tags);
        adopted.insert(uid, instance);
    }
    adopted
}

/// A machine that was launched just now, or found for a claim.
pub(super) fn note(shared: &Shared, uid: &str, instance: Instance) {
    shared.state().held.insert(uid.to_owned(), fleet::seen(instance));
    show(shared, None);
    shared.look.notify_one();
}

/// Shows the machines that are held; as of then, if a list has just been read.
pub(super) fn show(shared: &Shared, as_of: Option<jiff::Timestamp>) {
    let machines = {
        let state = shared.state();
        let one = |(uid, seen): (&String, &Seen)| {
            let instance = &seen.instance;
            let class = instance.tags.get(CLASS).and_then(|name| state.resolved.get(name));
            let risk = instance
                .tags
                .get(AT_RISK)
                .map(|message| Notice::AtRisk { reason: "RebalanceRecommended", message: message.clone() });
            let machine = CloudMachine {
                claim: Arc::from(instance.tags.get(NODE_CLAIM).map_or("", String::as_str)),
                uid: Arc::from(uid.as_str()),
                provider_id: provider_id(instance),
                created_at: instance.launched,
                notice: state.ending.get(&instance.id).cloned().or(risk),
                drift: class.and_then(|class| drift(class, instance)),
            };
            (machine.uid.clone(), Arc::new(machine))
        };
        state.held.iter().map(one).collect::<BTreeMap<_, _>>()
    };
    shared.list.send_modify(|shown| {
        let before = shown.as_ref().map(|list| list.as_of);
        let Some(as_of) = as_of.or(before) else { return };
        *shown = Some(Arc::new(MachineList { as_of, machines }));
    });
}

/// Why a machine's class would make another one now.
fn drift(class: &Resolved, instance: &Instance) -> Option<(&'static str, String)> {
    if !class.images.iter().any(|choice| choice.image.id == instance.image) {
        return Some(("AMIDrift", format!("the class no longer has the image {}", instance.image)));
    }
    if !images::current(&class.images).contains(instance.image.as_str()) {
        return Some(("AMIDrift", format!("there is a newer image than {}", instance.image)));
    }
    if !instance.subnet.is_empty() && !class.subnets.iter().any(|subnet| subnet.id == instance.subnet) {
        return Some(("SubnetDrift", format!("the class no longer has the subnet {}", instance.subnet)));
    }
    let groups: BTreeSet<String> = class.groups.iter().map(|(id, _)| id.clone()).collect();
    if !instance.groups.is_empty() && instance.groups != groups {
        return Some(("SecurityGroupDrift", "the class has other security groups".to_owned()));
    }
    None
}

pub(super) async fn terminate(shared: &Shared, machine: &MachineKey) -> Result<bool, LaunchError> {
    let known = shared.state().held.get(&*machine.uid).cloned();
    let instance = match known {
        Some(seen) if seen.asked_to_end => return Ok(false),
        Some(seen) => seen.instance,
        None => match look_for(shared, machine).await? {
            None => return Ok(true),
            Some(instance) => {
                note(shared, &machine.uid, instance.clone());
                instance
            }
        },
    };
    if instance.state != "shutting-down" {
        match shared.compute.terminate(&instance.id).await {
            Err(why) if why.kind == FailureKind::Missing => {}
            answer => answer.map_err(unanswered)?,
        }
    }
    if let Some(seen) = shared.state().held.get_mut(&*machine.uid) {
        seen.asked_to_end = true;
    }
    shared.look.notify_one();
    Ok(false)
}

/// A machine that no list named: it is asked for by itself before it counts as gone.
async fn look_for(shared: &Shared, machine: &MachineKey) -> Result<Option<Instance>, LaunchError> {
    let by_tag = (format!("tag:{CLAIM_UID}"), vec![machine.uid.to_string()]);
    let mut found = shared.compute.instances(&[by_tag]).await.map_err(unanswered)?;
    let id = machine.provider_id.as_deref().and_then(|id| id.rsplit('/').next());
    if let Some(id) = id.filter(|id| id.starts_with("i-")) {
        let by_id = ("instance-id".to_owned(), vec![id.to_owned()]);
        found.extend(shared.compute.instances(&[by_id]).await.map_err(unanswered)?);
    }
    Ok(found.into_iter().find(|instance| instance.state != "terminated"))
}
