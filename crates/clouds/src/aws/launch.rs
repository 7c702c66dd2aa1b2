//! What a group would start: its launch template or configuration, every override, and what those types have.
//!
//! Owns which of these are asked for and for how long an answer counts. What a node looks like is `template`'s.

use super::Shared;
use super::cloud::{Group, Launch, LaunchFacts, NodeGroup, Override, TemplateId, TypeFacts};
use super::permissions::Optional;
use crate::calls::Failure;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer counts: `$Latest` may be another version by then. What a group itself says is read every time,
/// so a new version by number, or another type, is seen at once.
const FRESH: Duration = Duration::from_mins(5);
/// Architectures that are asked for where an image cannot be read.
const ARCHITECTURES: [&str; 2] = ["x86_64", "arm64"];

/// What was found out of a group's launches.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Launches {
    /// Every type that may come; empty where none could be found out.
    pub(super) types: Vec<TypeFacts>,
    pub(super) disk_gib: Option<u64>,
    pub(super) node_group: Option<NodeGroup>,
}

/// The answer, with what it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Known {
    launch: Option<Launch>,
    node_group: Option<(String, String)>,
    at: Instant,
    pub(super) launches: Launches,
}

impl Known {
    /// Whether it still says what the group would start.
    pub(super) fn holds_for(&self, group: &Group) -> bool {
        self.launch == group.launch && self.node_group == node_group_of(group) && self.at.elapsed() < FRESH
    }
}

/// Cluster and name of the managed node group that a group belongs to.
pub(super) fn node_group_of(group: &Group) -> Option<(String, String)> {
    let tag = |key: &str| group.tags.get(key).filter(|value| !value.is_empty()).cloned();
    Some((tag("eks:cluster-name")?, tag("eks:nodegroup-name")?))
}

impl Shared {
    pub(super) async fn find_out(&self, group: &Group) -> Result<Known, Failure> {
        let node_group = node_group_of(group);
        let mut launches = Launches::default();
        if let Some((cluster, name)) = &node_group {
            let asked = self.permissions.ask(Optional::NodeGroups, self.cloud.node_group(cluster, name));
            launches.node_group = asked.await?.flatten();
        }
        match &group.launch {
            None => {}
            Some(Launch::Configuration(name)) => {
                let asked =
                    self.permissions.ask(Optional::LaunchConfigurations, self.cloud.configuration(name));
                if let Some(facts) = asked.await?.flatten() {
                    launches.disk_gib = facts.disk_gib;
                    launches.types = self.types_from(&[facts]).await?;
                }
            }
            Some(Launch::Template { base, overrides }) => {
                if let Some(facts) = self.read_template(base).await? {
                    launches.disk_gib = facts.disk_gib;
                    let choices = self.choices(&facts, overrides).await?;
                    launches.types = self.types_from(&choices).await?;
                }
            }
        }
        Ok(Known { launch: group.launch.clone(), node_group, at: Instant::now(), launches })
    }

    async fn read_template(&self, template: &TemplateId) -> Result<Option<LaunchFacts>, Failure> {
        let asked = self.permissions.ask(Optional::LaunchTemplates, self.cloud.template(template));
        Ok(asked.await?.flatten())
    }

    /// The base, changed by each override in turn: all of them, because any may come.
    async fn choices(&self, base: &LaunchFacts, overrides: &[Override]) -> Result<Vec<LaunchFacts>, Failure> {
        if overrides.is_empty() {
            return Ok(vec![base.clone()]);
        }
        let mut choices = Vec::new();
        for one in overrides {
            let own = match &one.template {
                Some(template) => self.read_template(template).await?,
                None => None,
            };
            let mut choice = own.unwrap_or_else(|| base.clone());
            if one.kind.is_some() {
                (choice.kind, choice.requirements) = (one.kind.clone(), None);
            } else if one.requirements.is_some() {
                (choice.kind, choice.requirements) = (None, one.requirements.clone());
            }
            choices.push(choice);
        }
        Ok(choices)
    }

    async fn types_from(&self, choices: &[LaunchFacts]) -> Result<Vec<TypeFacts>, Failure> {
        let (mut names, mut found) = (BTreeSet::new(), Vec::new());
        for choice in choices {
            match (&choice.kind, &choice.requirements) {
                (Some(kind), _) => {
                    names.insert(kind.clone());
                }
                (None, Some(_)) => match self.required(choice).await? {
                    Some(required) => names.extend(required),
                    None => found.extend(least_required(choice)),
                },
                (None, None) => {}
            }
        }
        let known: BTreeMap<String, TypeFacts> = self.state().types.clone();
        let unknown: Vec<String> = names.iter().filter(|name| !known.contains_key(*name)).cloned().collect();
        if !unknown.is_empty() {
            let asked = self.permissions.ask(Optional::InstanceTypes, self.cloud.types(&unknown)).await?;
            let mut state = self.state();
            // What a type has never changes, so it is asked for once; there are some thousand types in all.
            state.types.extend(asked.into_iter().flatten().map(|facts| (facts.name.clone(), facts)));
        }
        let state = self.state();
        found.extend(names.iter().filter_map(|name| state.types.get(name).cloned()));
        Ok(found)
    }

    /// The types that meet a choice's requirements; `None` where that may not be asked.
    async fn required(&self, choice: &LaunchFacts) -> Result<Option<Vec<String>>, Failure> {
        let Some(requirements) = &choice.requirements else { return Ok(None) };
        let mut architectures = ARCHITECTURES.map(str::to_owned).to_vec();
        // An image by another name (`resolve:ssm:…`) cannot be looked up: then every architecture is possible.
        if let Some(image) = choice.image.as_ref().filter(|image| image.starts_with("ami-")) {
            let asked = self.permissions.ask(Optional::Images, self.cloud.architecture(image)).await?;
            if let Some(one) = asked.flatten() {
                architectures = vec![one];
            }
        }
        let mut names = Vec::new();
        for architecture in &architectures {
            let asked = self
                .permissions
                .ask(Optional::Requirements, self.cloud.types_of(requirements, architecture))
                .await?;
            match asked {
                Some(some) => names.extend(some),
                None => return Ok(None),
            }
        }
        Ok(Some(names))
    }
}

/// What any type has that meets the requirements: their lower bounds.
fn least_required(choice: &LaunchFacts) -> Option<TypeFacts> {
    let requirements = choice.requirements.as_ref()?;
    Some(TypeFacts {
        cores: u64::try_from(requirements.v_cpu_count.as_ref()?.min?).ok()?,
        memory_mib: u64::try_from(requirements.memory_mib.as_ref()?.min?).ok()?,
        ..TypeFacts::default()
    })
}
