//! The pools that a plan may grow, besides those of the cluster: groups from flags, NodePools over a catalogue.
//!
//! Owns which pools there are when nothing, or little, was said of them.

use super::groups::{self, Group, Template};
use crate::error::CommandError;
use intake::NodePool;
use model::{Cluster, InstanceType, Labels, Pool};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The direct pool over a catalogue when no NodePool is given.
const DEFAULT_POOL: &str = "default";

/// What to buy from, as the command line says.
#[derive(clap::Args)]
pub(super) struct OfferingFlags {
    /// A catalogue of machine types with prices (JSON, gzip or not): what NodePools, or one pool without wishes where
    /// none is given, may launch
    #[arg(long, value_name = "FILE")]
    offerings: Option<PathBuf>,
    /// A group of equal nodes, none of which exists yet; may be given again [Cluster Autoscaler's flag]
    #[arg(long, value_name = "MIN:MAX:NAME")]
    nodes: Vec<Group>,
    /// What a node of such a group looks like, unless NAME is a machine type of --offerings:
    /// NAME:cpu=4,memory=16Gi,pods=110,label/KEY=VALUE,taint/KEY=VALUE:EFFECT,price=0.2
    #[arg(long, value_name = "NAME:RESOURCES")]
    node_template: Vec<Template>,
}

/// Label values that pods ask for, by key.
type Asked = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

/// The pools of flags and manifests, and what is to be said of them.
pub(super) fn pools(
    flags: &OfferingFlags,
    node_pools: Vec<NodePool>,
    cluster: &Cluster,
) -> Result<(Vec<Pool>, Vec<String>), CommandError> {
    let catalogue = match &flags.offerings {
        Some(path) => Some(Arc::new(read(path)?)),
        None => None,
    };
    let listed = catalogue.as_ref().map_or(&[][..], |types| types.as_slice());
    let mut pools = groups::pools(&flags.nodes, &flags.node_template, listed)?;
    let mut notes = Vec::new();
    let Some(catalogue) = catalogue else {
        notes.extend(node_pools.iter().map(|pool| {
            format!("NodePool {} is left out: give --offerings FILE to say what it may launch", pool.name)
        }));
        return Ok((pools, notes));
    };
    let asked = asked(cluster);
    let wished = !node_pools.is_empty();
    pools.extend(node_pools.into_iter().map(|pool| pool.over(catalogue.clone(), asked.clone())));
    if !wished && flags.nodes.is_empty() {
        pools.push(NodePool::plain(DEFAULT_POOL).over(catalogue, asked));
    }
    Ok((pools, notes))
}

fn read(path: &Path) -> Result<Vec<InstanceType>, CommandError> {
    let name = path.display().to_string();
    let mut file =
        std::fs::File::open(path).map_err(|source| CommandError::Read { path: path.to_owned(), source })?;
    let text = intake::files::read_text(&name, &mut file)?;
    intake::catalogue(&text)
        .map_err(|error| CommandError::Input(format!("{name}: {error} (docs/plan.md describes the format)")))
}

/// What the waiting pods' selectors name: a pool that may choose a label's value offers these.
fn asked(cluster: &Cluster) -> Asked {
    let mut asked = Asked::new();
    let mut last = None;
    for pod in cluster.waiting_pods() {
        let shape = &pod.shape;
        // Pods of one owner come one after the other and share their shape.
        if last.is_some_and(|last| Arc::ptr_eq(last, shape)) {
            continue;
        }
        last = Some(shape);
        note_labels(&mut asked, &shape.node_selector);
        let preferred = shape.preferences.node_affinity.iter().map(|weighted| &weighted.term);
        for term in shape.node_affinity.iter().flatten().chain(preferred) {
            for requirement in &term.match_expressions {
                let values = asked.entry(requirement.key.clone()).or_default();
                values.extend(requirement.values.iter().cloned());
            }
        }
    }
    asked
}

fn note_labels(asked: &mut Asked, labels: &Labels) {
    for (key, value) in labels {
        asked.entry(key.clone()).or_default().insert(value.clone());
    }
}
