//! The simulated cloud of single machines: `SimulatedMachine` objects that belong to no pool.
//!
//! Owns writing and ending them, and showing them and their classes. What makes nodes of them is the simulated cloud,
//! wherever that runs. The machine has the claim's name and notes its uid, so that there is never a second one.

use crate::catalogue;
use crate::classes::{EC2_KIND, reference};
use crate::cloud::{
    Class, ClassTable, CloudMachine, LaunchError, LaunchOrder, Launched, MachineCloud, MachineKey,
    MachineList, NoClass, Notice, Offer, Repair, SimulatedTerms,
};
use crate::mirror::Mirror;
use crate::orders::{hash_of, quantities};
use api::karpenter::{
    AWS_GROUP, CAPACITY_TYPE, Ec2NodeClass, NodeClassRef, SimulatedNodeClass, UNREGISTERED,
};
use api::labels;
use api::simulated::{
    SimulatedLaunch, SimulatedMachine, SimulatedMachineSpec, SimulatedTemplate, TemplateTaint,
};
use clock::Clock;
use clouds::watching::{Seen, WatchSettings, code, describe, watch, within};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use model::{Flavour, InstanceType, Offering};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch as picture;

/// On a machine: the claim that it was launched for, by uid; what could not be seen in time is found by it.
pub(crate) const CLAIM_UID: &str = "tideline.dev/claim-uid";
const IMAGE: &str = "tideline.dev/image";
/// On a class of a cloud that is stood in for: the zones that the stand-in sells in.
const ZONES: &str = "tideline.dev/zones";
/// On a machine: what the cloud says of its future, for trying out: `ends` or `at-risk`.
const NOTICE: &str = "tideline.dev/notice";
/// As with kwok's machines.
const REPAIRS: &[Repair] = &[
    Repair { condition: "Ready", status: "False", after: SignedDuration::from_mins(10) },
    Repair { condition: "Ready", status: "Unknown", after: SignedDuration::from_mins(10) },
];
const OWN_KIND: &str = "SimulatedNodeClass";

pub(crate) struct SimulatedCloud {
    machines: Api<SimulatedMachine>,
    limit: Duration,
    /// Machines of EC2NodeClasses are stood in for.
    stands_in: bool,
    classes: picture::Receiver<Option<Arc<ClassTable>>>,
    list: picture::Receiver<Option<Arc<MachineList>>>,
}

impl SimulatedCloud {
    /// Begins to watch its objects, until nobody looks any more.
    pub(crate) fn start(client: &Client, clock: Clock, settings: WatchSettings, stands_in: bool) -> Self {
        let (class_sender, classes) = picture::channel(None);
        let (list_sender, list) = picture::channel(None);
        let watching = Watching {
            clock,
            stands_in,
            own: Mirror::new(),
            ec2: Mirror::new(),
            machines: Mirror::new(),
            shown: BTreeMap::new(),
            uids: BTreeMap::new(),
            table: class_sender,
            list: list_sender,
        };
        tokio::spawn(watching.run(events(client, settings, stands_in)));
        Self { machines: Api::all(client.clone()), limit: settings.call_timeout, stands_in, classes, list }
    }

    async fn launch_one(&self, order: &LaunchOrder) -> Result<Launched, LaunchError> {
        if let Some(found) = self.find(&order.claim, &order.uid).await? {
            return Ok(launched(&found));
        }
        let sold_out = |flavour: &&Flavour| {
            let offer = offer_of(flavour);
            let gone = &order.class.simulated.sold_out;
            gone.iter().any(|(a, b, c)| (&**a, &**b, &**c) == (&*offer.0, &*offer.1, &*offer.2))
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

impl MachineCloud for SimulatedCloud {
    fn kinds(&self) -> Vec<(&'static str, &'static str)> {
        let own = (api::GROUP, OWN_KIND);
        if self.stands_in { vec![own, (AWS_GROUP, EC2_KIND)] } else { vec![own] }
    }

    fn classes(&self) -> picture::Receiver<Option<Arc<ClassTable>>> {
        self.classes.clone()
    }

    fn machines(&self) -> picture::Receiver<Option<Arc<MachineList>>> {
        self.list.clone()
    }

    fn launch<'a>(&'a self, order: &'a LaunchOrder) -> BoxFuture<'a, Result<Launched, LaunchError>> {
        Box::pin(self.launch_one(order))
    }

    fn terminate<'a>(&'a self, machine: &'a MachineKey) -> BoxFuture<'a, Result<bool, LaunchError>> {
        Box::pin(self.end(&machine.claim, &machine.uid))
    }

    fn repairs(&self) -> &'static [Repair] {
        REPAIRS
    }
}

enum Event {
    Own(Seen<SimulatedNodeClass>),
    Ec2(Box<Seen<Ec2NodeClass>>),
    Machine(Seen<SimulatedMachine>),
}

fn events(client: &Client, settings: WatchSettings, stands_in: bool) -> BoxStream<'static, Event> {
    let own = watch(Api::all(client.clone()), "simulatednodeclasses", settings).map(Event::Own);
    let machines = watch(Api::all(client.clone()), "simulatedmachines", settings).map(Event::Machine);
    let mut all = vec![own.boxed(), machines.boxed()];
    if stands_in {
        all.push(
            watch(Api::all(client.clone()), "ec2nodeclasses", settings)
                .map(|seen| Event::Ec2(Box::new(seen)))
                .boxed(),
        );
    }
    stream::select_all(all).boxed()
}

/// What has been seen, and who is shown it.
struct Watching {
    clock: Clock,
    stands_in: bool,
    own: Mirror<SimulatedNodeClass>,
    ec2: Mirror<Ec2NodeClass>,
    machines: Mirror<SimulatedMachine>,
    shown: BTreeMap<Arc<str>, Arc<CloudMachine>>,
    /// What is shown, by the name of its object.
    uids: BTreeMap<String, Arc<str>>,
    table: picture::Sender<Option<Arc<ClassTable>>>,
    list: picture::Sender<Option<Arc<MachineList>>>,
}

impl Watching {
    async fn run(mut self, mut events: BoxStream<'static, Event>) {
        loop {
            let event = tokio::select! {
                biased;
                () = self.table.closed() => return,
                event = events.next() => event,
            };
            let Some(event) = event else { return };
            let (mut classes, mut machines) = self.take(event);
            while let Some(Some(event)) = events.next().now_or_never() {
                let more = self.take(event);
                (classes, machines) = (classes || more.0, machines || more.1);
            }
            if classes && self.own.synced && (self.ec2.synced || !self.stands_in) {
                self.table.send_replace(Some(Arc::new(self.class_table())));
            }
            if machines && self.machines.synced {
                let list = MachineList { as_of: self.clock.now(), machines: self.shown.clone() };
                self.list.send_replace(Some(Arc::new(list)));
            }
        }
    }

    /// Whether classes and whether machines may be different now.
    fn take(&mut self, event: Event) -> (bool, bool) {
        match event {
            Event::Own(seen) => {
                let synced = self.own.synced;
                let changed = !self.own.take(seen).is_empty();
                (changed || synced != self.own.synced, false)
            }
            Event::Ec2(seen) => {
                let synced = self.ec2.synced;
                let changed = !self.ec2.take(*seen).is_empty();
                (changed || synced != self.ec2.synced, false)
            }
            Event::Machine(seen) => {
                let synced = self.machines.synced;
                let changed = self.machines.take(seen);
                for name in &changed {
                    if let Some(uid) = self.uids.remove(name) {
                        self.shown.remove(&uid);
                    }
                    if let Some(machine) = self.machines.get(name).and_then(|machine| shown(machine)) {
                        self.uids.insert(name.clone(), machine.uid.clone());
                        self.shown.insert(machine.uid.clone(), Arc::new(machine));
                    }
                }
                (false, !changed.is_empty() || synced != self.machines.synced)
            }
        }
    }

    fn class_table(&self) -> ClassTable {
        let own = self.own.all().map(|object| (of_own(&object.name_any()), own_class(object)));
        let ec2 = self.ec2.all().map(|object| (of_ec2(&object.name_any()), stand_in(object)));
        own.chain(ec2).collect()
    }
}

fn of_own(name: &str) -> NodeClassRef {
    reference(api::GROUP, OWN_KIND, name)
}

fn of_ec2(name: &str) -> NodeClassRef {
    reference(AWS_GROUP, EC2_KIND, name)
}

fn own_class(object: &SimulatedNodeClass) -> Result<Arc<Class>, NoClass> {
    if object.metadata.deletion_timestamp.is_some() {
        return Err(terminating(OWN_KIND, &object.name_any()));
    }
    let types = catalogue::of_class(&object.spec)
        .map_err(|error| NoClass::lasting("ValidationFailed", error.to_string()))?;
    let sold_out = object.spec.instance_types.iter().flat_map(|entry| {
        let gone = entry.offerings.iter().filter(|offering| offering.sold_out);
        gone.map(|o| (entry.name.clone(), o.zone.clone(), o.capacity_type.clone()))
    });
    Ok(Arc::new(Class {
        types: Arc::new(types),
        image: object.spec.image.clone(),
        hash: hash_of(&object.spec.image),
        generation: object.metadata.generation.unwrap_or(0),
        simulated: SimulatedTerms { boot: object.spec.boot.clone(), sold_out: sold_out.collect() },
    }))
}

fn stand_in(object: &Ec2NodeClass) -> Result<Arc<Class>, NoClass> {
    if object.metadata.deletion_timestamp.is_some() {
        return Err(terminating(EC2_KIND, &object.name_any()));
    }
    let zones = object.annotations().get(ZONES).map_or("", String::as_str);
    let zones: Vec<&str> = zones.split(',').map(str::trim).filter(|zone| !zone.is_empty()).collect();
    let zones: &[&str] = if zones.is_empty() { &catalogue::ZONES } else { &zones };
    Ok(Arc::new(Class {
        types: Arc::new(catalogue::built_in(zones)),
        image: "simulated".to_owned(),
        hash: hash_of(&object.spec),
        generation: object.metadata.generation.unwrap_or(0),
        simulated: SimulatedTerms::default(),
    }))
}

fn terminating(kind: &str, name: &str) -> NoClass {
    NoClass::lasting("NodeClassTerminating", format!("{kind} {name} is being deleted"))
}

fn uid_of(machine: &SimulatedMachine) -> Option<Arc<str>> {
    machine.spec.launch.as_ref().map(|launch| Arc::from(&*launch.claim))
}

/// A machine as claims see it; `None` for one that belongs to a pool of its own.
fn shown(machine: &SimulatedMachine) -> Option<CloudMachine> {
    Some(CloudMachine {
        claim: Arc::from(machine.name_any()),
        uid: uid_of(machine)?,
        provider_id: machine.spec.provider_id.clone(),
        created_at: machine.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        notice: machine.annotations().get(NOTICE).and_then(|text| noticed(text)),
        drift: None,
    })
}

fn noticed(text: &str) -> Option<Notice> {
    match text {
        "ends" => {
            let message = "the cloud takes the machine back".to_owned();
            Some(Notice::Ends { reason: "SpotInterrupted", message, short: true })
        }
        "at-risk" => {
            let message = "the cloud may take the machine back".to_owned();
            Some(Notice::AtRisk { reason: "SpotRebalanceRecommendation", message })
        }
        _ => None,
    }
}

fn unknown(error: &kube::Error) -> LaunchError {
    LaunchError::Unknown(describe(error))
}

pub(crate) fn offer_of(flavour: &Flavour) -> Offer {
    let known = |value: &Option<Arc<str>>| value.clone().unwrap_or_default();
    let kind = flavour.capacity_type.map_or("", model::CapacityType::as_str);
    (known(&flavour.instance_type), known(&flavour.zone), Arc::from(kind))
}

pub(crate) fn offer_of_type(entry: &InstanceType, offering: &Offering) -> Offer {
    (entry.name.clone(), offering.zone.clone(), Arc::from(offering.capacity_type.as_str()))
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
                boot: order.class.simulated.boot.clone(),
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
    machine.annotations_mut().insert(IMAGE.to_owned(), order.class.image.clone());
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
