//! Whether another Karpenter acts on this cluster, and so which pools are ours.
//!
//! Owns finding it: a Deployment that runs its image, or its Lease while somebody renews it. While it is there, and as
//! long as it is not known, pools are left to it; but not those whose class is of our own group, which it does not see.

use crate::mirror::Mirror;
use api::karpenter::NodeClassRef;
use clock::Clock;
use clouds::watching::{Seen, WatchSettings, watch, watch_named};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ObjectMeta};
use kube::{Client, ResourceExt as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch as picture;

/// The Lease that Karpenter's replicas elect a leader by, in whichever namespace they run.
const LEASE: &str = "karpenter-leader-election";
/// On a NodePool: with `true` it is left alone whoever else is there, so that pools can be taken over one by one.
pub(crate) const HOLD: &str = "tideline.dev/hold";
pub(crate) const NOT_KNOWN_YET: &str = "NotKnownYet";
/// A Lease that does not say how long it holds.
const USUAL_LEASE: SignedDuration = SignedDuration::from_secs(15);

/// Who else acts on NodePools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Not known yet, with the reason.
    Unknown(Arc<str>),
    Absent,
    /// What was found.
    Runs(Arc<str>),
}

/// Why a pool, a claim or a class is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub reason: &'static str,
    pub message: String,
}

/// Tells who else is there, to whoever is about to act.
#[derive(Clone)]
pub(crate) struct Guard(picture::Receiver<Peer>);

impl Guard {
    /// Begins to look, until nobody asks any more.
    pub(crate) fn start(client: &Client, clock: Clock, settings: WatchSettings) -> Self {
        let unknown = "the API server has not said yet whether another Karpenter runs";
        let (sender, receiver) = picture::channel(Peer::Unknown(Arc::from(unknown)));
        let deployments = watch(Api::<Deployment>::all(client.clone()), "deployments", settings);
        let leases = watch_named(Api::<Lease>::all(client.clone()), "leases", settings, LEASE);
        let events = [
            deployments.map(|seen| Event::Deployment(Box::new(only_peers(seen)))).boxed(),
            leases.map(|seen| Event::Lease(Box::new(seen))).boxed(),
        ];
        let watching = Watching {
            clock,
            deployments: Mirror::new(),
            leases: Mirror::new(),
            renewed: BTreeMap::new(),
            broken: None,
            sender,
        };
        tokio::spawn(watching.run(stream::select_all(events).boxed()));
        Self(receiver)
    }

    /// For a dry run, which acts on nothing and so is in nobody's way.
    pub(crate) fn none() -> Self {
        Self(picture::channel(Peer::Absent).1)
    }

    pub(crate) fn peer(&self) -> picture::Receiver<Peer> {
        self.0.clone()
    }

    /// Why nothing is done with what has this class; `None` where it is ours.
    pub(crate) fn holds(&self, class: &NodeClassRef) -> Option<Held> {
        if class.group == api::GROUP {
            return None;
        }
        self.holds_all()
    }

    /// Why nothing is done with what has no class.
    pub(crate) fn holds_all(&self) -> Option<Held> {
        match &*self.0.borrow() {
            Peer::Absent => None,
            Peer::Unknown(why) => Some(Held { reason: NOT_KNOWN_YET, message: why.to_string() }),
            Peer::Runs(who) => Some(Held {
                reason: "KarpenterRuns",
                message: format!(
                    "{who} acts on this pool; stop it, or use a class of group {} (docs/karpenter.md)",
                    api::GROUP
                ),
            }),
        }
    }

    /// The same for a pool, which its owner may hold.
    pub(crate) fn holds_pool(&self, pool: &api::karpenter::NodePool) -> Option<Held> {
        if pool.annotations().get(HOLD).is_some_and(|value| value == "true") {
            let message = format!("the pool is annotated {HOLD}: \"true\"");
            return Some(Held { reason: "OnHold", message });
        }
        self.holds(&pool.spec.template.spec.node_class_ref)
    }
}

enum Event {
    Deployment(Box<Seen<Deployment>>),
    Lease(Box<Seen<Lease>>),
}

struct Watching {
    clock: Clock,
    /// Those that run Karpenter, without what they say.
    deployments: Mirror<Deployment>,
    leases: Mirror<Lease>,
    /// What each Lease said last, and when we saw it say so: its age is measured here, not by its writer's clock.
    renewed: BTreeMap<String, (String, Timestamp)>,
    broken: Option<Arc<str>>,
    sender: picture::Sender<Peer>,
}

impl Watching {
    async fn run(mut self, mut events: BoxStream<'static, Event>) {
        loop {
            let now = self.clock.now();
            let peer = self.peer(now);
            self.sender.send_if_modified(|known| {
                let changed = *known != peer;
                *known = peer;
                changed
            });
            let ends = self.leases.all().filter_map(|lease| self.held_until(lease)).filter(|at| *at > now);
            let (ends, clock) = (ends.min(), self.clock);
            tokio::select! {
                biased;
                () = self.sender.closed() => return,
                event = events.next() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                () = async {
                    match ends {
                        Some(at) => clock.sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Deployment(seen) => {
                self.note(&seen);
                self.deployments.take(*seen);
            }
            Event::Lease(seen) => {
                self.note(&seen);
                let now = self.clock.now();
                for key in self.leases.take(*seen) {
                    let Some(lease) = self.leases.get(&key) else {
                        self.renewed.remove(&key);
                        continue;
                    };
                    let says = lease.spec.as_ref().map(|spec| (&spec.holder_identity, &spec.renew_time));
                    let says = format!("{says:?}");
                    if self.renewed.get(&key).is_none_or(|(known, _)| *known != says) {
                        self.renewed.insert(key, (says, now));
                    }
                }
            }
        }
    }

    fn note<K>(&mut self, seen: &Seen<K>) {
        if let Seen::Broken { why, missing_kind: false } = seen {
            self.broken = Some(why.clone());
        }
    }

    /// Until when somebody holds a Lease; `None` where nobody does.
    fn held_until(&self, lease: &Lease) -> Option<Timestamp> {
        let spec = lease.spec.as_ref()?;
        spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())?;
        let lasts = spec.lease_duration_seconds.map_or(USUAL_LEASE, |s| SignedDuration::from_secs(s.into()));
        let (_, seen_at) = self.renewed.get(&crate::mirror::key_of(lease))?;
        seen_at.saturating_add(lasts).ok()
    }

    fn peer(&self, now: Timestamp) -> Peer {
        if let Some(found) = self.deployments.all().next() {
            return Peer::Runs(Arc::from(format!("Deployment {}", crate::mirror::key_of(&**found))));
        }
        let held = self.leases.all().find(|lease| self.held_until(lease).is_some_and(|at| at > now));
        if let Some(lease) = held {
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
            let key = crate::mirror::key_of(&**lease);
            return Peer::Runs(Arc::from(format!("{} with Lease {key}", holder.unwrap_or_default())));
        }
        if !self.deployments.synced || !self.leases.synced {
            let why = self.broken.as_deref().unwrap_or("the API server has not answered");
            let message = format!("it is not known whether another Karpenter runs: {why}");
            return Peer::Unknown(Arc::from(message));
        }
        Peer::Absent
    }
}

/// Only Deployments that run Karpenter are kept, and of these only their names.
fn only_peers(seen: Seen<Deployment>) -> Seen<Deployment> {
    let bare = |object: &Deployment| Deployment {
        metadata: ObjectMeta {
            name: object.metadata.name.clone(),
            namespace: object.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        ..Deployment::default()
    };
    match seen {
        Seen::Object(object) if runs_karpenter(&object) => Seen::Object(bare(&object)),
        Seen::Object(object) => Seen::Gone(bare(&object)),
        other => other,
    }
}

fn runs_karpenter(deployment: &Deployment) -> bool {
    let Some(spec) = &deployment.spec else { return false };
    let left = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
    if spec.replicas == Some(0) && left == 0 {
        return false;
    }
    let containers = spec.template.spec.as_ref().map_or(&[][..], |pod| &pod.containers);
    containers.iter().any(|container| {
        let commands = container.command.iter().flatten().take(1);
        let mut words = container.image.iter().chain(commands);
        // An image of ours may go by the peer's name.
        words.clone().all(|word| !word.contains("tideline")) && words.any(|word| word.contains("karpenter"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(image: &str, replicas: u32, left: u32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "karpenter", "namespace": "kube-system"},
            "spec": {"replicas": replicas, "selector": {},
                "template": {"spec": {"containers": [{"name": "controller", "image": image}]}}},
            "status": {"replicas": left},
        }))
        .unwrap()
    }

    #[test]
    fn a_karpenter_is_known_by_its_image_and_is_gone_with_its_last_pod() {
        let image = "public.ecr.aws/karpenter/controller:1.8.0";
        assert!(runs_karpenter(&deployment(image, 2, 0)), "about to start");
        assert!(runs_karpenter(&deployment(image, 0, 1)), "on its way out");
        assert!(!runs_karpenter(&deployment(image, 0, 0)));
        assert!(!runs_karpenter(&deployment("registry.example/karpenter/tideline:1", 2, 2)), "us");
        assert!(!runs_karpenter(&deployment("nginx", 2, 2)));
    }
}
