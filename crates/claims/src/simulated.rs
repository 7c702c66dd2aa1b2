//! The simulated cloud of single machines: `SimulatedMachine` objects that belong to no pool.
//!
//! Owns writing and ending them. What makes nodes of them is the simulated cloud, wherever that runs. The machine has
//! the claim's name and notes its uid, so that there is never a second one.

use crate::cloud::{LaunchError, LaunchOrder, Launched, MachineCloud};
use crate::orders::quantities;
use api::karpenter::{CAPACITY_TYPE, UNREGISTERED};
use api::labels;
use api::simulated::{
    SimulatedLaunch, SimulatedMachine, SimulatedMachineSpec, SimulatedTemplate, TemplateTaint,
};
use clouds::watching::{code, describe, within};
use futures::future::BoxFuture;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use model::Flavour;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// On a machine: the claim that it was launched for, by uid; what could not be seen in time is found by it.
pub(crate) const CLAIM_UID: &str = "tideline.dev/claim-uid";
const IMAGE: &str = "tideline.dev/image";

pub(crate) struct SimulatedCloud {
    machines: Api<SimulatedMachine>,
    limit: Duration,
}

impl SimulatedCloud {
    pub(crate) fn new(client: Client, limit: Duration) -> Self {
        Self { machines: Api::all(client), limit }
    }

    async fn launch_one(&self, order: &LaunchOrder) -> Result<Launched, LaunchError> {
        if let Some(found) = self.find(&order.claim, &order.uid).await? {
            return Ok(launched(&found));
        }
        let sold_out = |flavour: &&Flavour| {
            let offer = offer_of(flavour);
            order.sold_out.iter().any(|(a, b, c)| (&**a, &**b, &**c) == (&*offer.0, &*offer.1, &*offer.2))
        };
        let Some(flavour) = order.options.iter().find(|flavour| !sold_out(flavour)) else {
            let offers = order.options.iter().map(offer_of).collect();
            let message = format!("{} kinds of machines are sold out", order.options.len());
            return Err(LaunchError::SoldOut { message, offers });
        };
        let machine = object(order, flavour);
        match within(self.limit, self.machines.create(&PostParams::default(), &machine)).await {
            Ok(made) => Ok(launched(&made)),
            Err(error) if code(&error) == Some(409) => match self.find(&order.claim, &order.uid).await? {
                Some(found) => Ok(launched(&found)),
                None => Err(LaunchError::Unknown("a machine of the same name is on its way out".to_owned())),
            },
            Err(error) => Err(unknown(&error)),
        }
    }

    /// The machine of a claim; one of the same name that was launched for another is none.
    async fn find(&self, claim: &str, uid: &str) -> Result<Option<SimulatedMachine>, LaunchError> {
        match within(self.limit, self.machines.get(claim)).await {
            Ok(found) => {
                Ok(Some(found).filter(|found| found.spec.launch.as_ref().is_some_and(|l| l.claim == uid)))
            }
            Err(error) if code(&error) == Some(404) => Ok(None),
            Err(error) => Err(unknown(&error)),
        }
    }

    async fn end(&self, claim: &str, uid: &str) -> Result<bool, LaunchError> {
        let Some(found) = self.find(claim, uid).await? else { return Ok(true) };
        let going = found.status.as_ref().is_some_and(|s| s.phase == api::simulated::MachinePhase::Deleting);
        if !going {
            let patch = Patch::Merge(json!({"status": {"phase": "Deleting"}}));
            match within(self.limit, self.machines.patch_status(claim, &PatchParams::default(), &patch)).await
            {
                Ok(_) => {}
                Err(error) if code(&error) == Some(404) => return Ok(true),
                Err(error) => return Err(unknown(&error)),
            }
        }
        Ok(false)
    }
}

fn unknown(error: &kube::Error) -> LaunchError {
    LaunchError::Unknown(describe(error))
}

pub(crate) fn offer_of(flavour: &Flavour) -> (Arc<str>, Arc<str>, Arc<str>) {
    let known = |value: &Option<Arc<str>>| value.clone().unwrap_or_default();
    let kind = flavour.capacity_type.map_or("", model::CapacityType::as_str);
    (known(&flavour.instance_type), known(&flavour.zone), Arc::from(kind))
}

fn object(order: &LaunchOrder, flavour: &Flavour) -> SimulatedMachine {
    let mut node_labels: BTreeMap<String, String> =
        flavour.template.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    node_labels.retain(|key, _| {
        !key.starts_with("karpenter.sh/registered") && !key.starts_with("karpenter.sh/init")
    });
    node_labels.extend(order.labels.clone());
    let mut taints: Vec<TemplateTaint> = order
        .taints
        .iter()
        .map(|taint| TemplateTaint {
            key: taint.key.clone(),
            value: taint.value.clone(),
            effect: taint.effect.clone(),
        })
        .collect();
    taints.push(TemplateTaint {
        key: UNREGISTERED.to_owned(),
        value: String::new(),
        effect: "NoExecute".to_owned(),
    });
    let mut machine = SimulatedMachine::new(
        &order.claim,
        SimulatedMachineSpec {
            pool: String::new(),
            provider_id: api::simulated::provider_id("claim", &order.claim),
            launch: Some(SimulatedLaunch {
                claim: order.uid.to_string(),
                template: SimulatedTemplate {
                    labels: node_labels,
                    taints,
                    allocatable: quantities(&flavour.template.allocatable),
                },
                boot: order.boot.clone(),
            }),
        },
    );
    let (instance_type, zone, capacity_type) = offer_of(flavour);
    machine.labels_mut().extend([
        (CLAIM_UID.to_owned(), order.uid.to_string()),
        (labels::INSTANCE_TYPE.to_owned(), instance_type.to_string()),
        (labels::ZONE.to_owned(), zone.to_string()),
        (CAPACITY_TYPE.to_owned(), capacity_type.to_string()),
    ]);
    machine.annotations_mut().insert(IMAGE.to_owned(), order.image.clone());
    machine
}

fn launched(machine: &SimulatedMachine) -> Launched {
    let label = |key: &str| machine.labels().get(key).map_or_else(Arc::default, |v| Arc::from(v.as_str()));
    Launched {
        provider_id: machine.spec.provider_id.clone(),
        instance_type: label(labels::INSTANCE_TYPE),
        zone: label(labels::ZONE),
        capacity_type: label(CAPACITY_TYPE),
        image: machine.annotations().get(IMAGE).cloned().unwrap_or_default(),
    }
}

impl MachineCloud for SimulatedCloud {
    fn launch<'a>(&'a self, order: &'a LaunchOrder) -> BoxFuture<'a, Result<Launched, LaunchError>> {
        Box::pin(self.launch_one(order))
    }

    fn terminate<'a>(&'a self, claim: &'a str, uid: &'a str) -> BoxFuture<'a, Result<bool, LaunchError>> {
        Box::pin(self.end(claim, uid))
    }
}
