//! Handing a cluster back: nothing of ours is left on it, sizes stay as they are, and the peer can start.
//!
//! Owns what is looked for and in which order. It takes the Lease first, so that no controller acts meanwhile; what
//! was under way is ended where it stands. Custom resource definitions and the user's own objects stay.

use crate::config::LedgerPlace;
use crate::executor::undo_marks;
use crate::ledger_store::{DAMAGED, HEAD, LedgerStore};
use crate::{Config, ControllerError};
use api::annotations::{CORDONED, INTENT};
use clock::Clock;
use clouds::cluster_api::ClusterApi;
use clouds::watching::{code, describe, within};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use leadership::{Election, Leadership};
use model::{NodeName, Uid, UndoNode};
use std::sync::Arc;
use std::time::Duration;

/// Nodes in one page of a list, and pages read at most.
const PAGE: u32 = 500;
const MOST_PAGES: usize = 200;
/// Tries for one node that others write to at the same time.
const MOST_TRIES: u32 = 10;

/// What an exit did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// One sentence for each object that was put right.
    pub done: Vec<String>,
    /// What could not be put right, and why; empty after a clean exit.
    pub left: Vec<String>,
}

/// Takes every mark of ours off a cluster. In a dry run nothing is changed and no Lease is taken.
pub async fn hand_back(
    client: &Client,
    clock: Clock,
    config: &Config,
    dry_run: bool,
) -> Result<Handed, ControllerError> {
    let election = if dry_run || !config.leader_election.enabled {
        None
    } else {
        Some(take_lease(client, clock, config).await?)
    };
    let exit = Exit { client, clock, config, dry_run, limit: config.call_timeout() };
    let result = exit.run().await;
    if let Some(election) = election {
        election.release().await;
    }
    result
}

/// Waits for the Lease for a little longer than a dead holder's takes to run out.
async fn take_lease(client: &Client, clock: Clock, config: &Config) -> Result<Election, ControllerError> {
    let lease = &config.leader_election;
    let identity = format!("tideline-exit_{}", clock.now().as_nanosecond());
    let mut election = Election::start(client, clock, &config.namespace, lease, identity);
    let patience = Duration::from_secs(u64::from(lease.lease_seconds + 3 * lease.retry_seconds));
    let leads = tokio::time::timeout(
        patience + config.call_timeout(),
        election.state.wait_for(|state| *state == Leadership::Leader),
    );
    if matches!(leads.await, Ok(Ok(_))) {
        return Ok(election);
    }
    let holder = match &*election.state.borrow() {
        Leadership::Standby { holder: Some(holder) } => holder.to_string(),
        _ => "somebody".to_owned(),
    };
    election.release().await;
    Err(ControllerError::LostLeadership {
        why: format!(
            "{holder} holds the Lease {}/{}; stop that controller first (scale its Deployment to 0)",
            config.namespace, lease.name
        ),
    })
}

struct Exit<'a> {
    client: &'a Client,
    clock: Clock,
    config: &'a Config,
    dry_run: bool,
    limit: Duration,
}

impl Exit<'_> {
    async fn run(&self) -> Result<Handed, ControllerError> {
        let mut handed = Handed::default();
        self.say_what_was_under_way(&mut handed).await?;
        self.free_nodes(&mut handed).await?;
        let provider = ClusterApi::new(self.client.clone(), self.clock, self.config.watch_settings());
        match provider.hand_back(self.dry_run).await {
            Ok(said) => handed.done.extend(said),
            Err(error) if error.is_absent() => {}
            Err(error) => handed.left.push(error.to_string()),
        }
        // Last: whoever is interrupted before it finds everything again.
        self.drop_maps(&mut handed).await;
        Ok(handed)
    }

    /// Purchases and removals that the ledger knows of end here: the size that was ordered stays.
    async fn say_what_was_under_way(&self, handed: &mut Handed) -> Result<(), ControllerError> {
        let mut ledger = None;
        for place in [LedgerPlace::Own, LedgerPlace::WithStatus] {
            let config = Config { ledger: place, ..self.config.clone() };
            if ledger.is_none() {
                ledger = LedgerStore::new(self.client, &config).peek().await?;
            }
        }
        for (pool, order) in ledger.iter().flat_map(|ledger| &ledger.scale_ups) {
            handed.done.push(format!(
                "pool {pool}: the order {}->{} is no longer followed; its size stays",
                order.from, order.to
            ));
        }
        for (node, removal) in ledger.iter().flat_map(|ledger| &ledger.removals) {
            handed.done.push(format!("node {node}: its removal ({}) is ended", removal.cause));
        }
        Ok(())
    }

    async fn free_nodes(&self, handed: &mut Handed) -> Result<(), ControllerError> {
        let resource = ApiResource::erase::<Node>(&());
        let nodes: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let mut params = ListParams::default().limit(PAGE);
        for _ in 0..MOST_PAGES {
            let page = within(self.limit, nodes.list(&params)).await.map_err(|error| {
                ControllerError::Api { attempted: "list nodes".into(), message: describe(&error) }
            })?;
            for node in page.items.iter().filter(|node| is_ours(node)) {
                self.free_node(&nodes, node, handed).await;
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(());
            }
        }
        handed.left.push(format!("more than {} nodes: run it again", MOST_PAGES * PAGE as usize));
        Ok(())
    }

    async fn free_node(&self, nodes: &Api<DynamicObject>, node: &DynamicObject, handed: &mut Handed) {
        let name = node.name_any();
        let cordoned = node.annotations().contains_key(CORDONED);
        let what = if cordoned { "taints, cordon and annotations" } else { "taints and annotations" };
        if self.dry_run {
            handed.done.push(format!("node {name}: {what} taken off"));
            return;
        }
        let step = UndoNode {
            intent: "exit".into(),
            node: NodeName::from(name.as_str()),
            uid: Uid::from(node.metadata.uid.as_deref().unwrap_or_default()),
            taints: vec![Arc::from(api::taints::TO_BE_DELETED), Arc::from(api::taints::DELETION_CANDIDATE)],
            uncordon: true,
        };
        let mut why = String::new();
        for _ in 0..MOST_TRIES {
            match undo_marks(nodes, self.limit, &step).await {
                Ok(()) => {
                    handed.done.push(format!("node {name}: {what} taken off"));
                    return;
                }
                Err(problem) => why = problem,
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        handed.left.push(format!("node {name}: {why}; run it again"));
    }

    async fn drop_maps(&self, handed: &mut Handed) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.config.namespace);
        let (first, second) = (format!("{HEAD}-1"), format!("{HEAD}-2"));
        for name in [HEAD, &first, &second, DAMAGED, &self.config.status.config_map] {
            let found = within(self.limit, maps.get_opt(name)).await;
            let gone = match found {
                Ok(None) => continue,
                Ok(Some(_)) if self.dry_run => Ok(()),
                Ok(Some(_)) => match within(self.limit, maps.delete(name, &DeleteParams::default())).await {
                    Err(error) if code(&error) != Some(404) => Err(error),
                    _ => Ok(()),
                },
                Err(error) => Err(error),
            };
            match gone {
                Ok(()) => handed.done.push(format!("configmap {}/{name} deleted", self.config.namespace)),
                Err(error) => handed.left.push(format!(
                    "configmap {}/{name}: {}; delete it by hand",
                    self.config.namespace,
                    describe(&error)
                )),
            }
        }
    }
}

/// Whether a node carries a mark of ours, or the soft mark that any autoscaler of this Lease's name leaves.
fn is_ours(node: &DynamicObject) -> bool {
    let annotated = [INTENT, CORDONED].iter().any(|key| node.annotations().contains_key(*key));
    let taints = node.data.pointer("/spec/taints").and_then(serde_json::Value::as_array);
    annotated
        || taints.into_iter().flatten().any(|taint| {
            taint.get("key").and_then(serde_json::Value::as_str) == Some(api::taints::DELETION_CANDIDATE)
        })
}
