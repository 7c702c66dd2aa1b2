//! What an EC2NodeClass means at the moment: its subnets, security groups, images and instance profile.
//!
//! Owns the watching of classes, the finding, and the table that is shown. Each class is looked at when it changes and
//! once a minute; while AWS does not answer, what was found last goes on counting.

use super::compute::{ImageQuery, Subnet};
use super::images::{self, Choice, Family};
use super::rows::Row;
use super::usable::Kubelet;
use super::{KIND, Shared, learned, market, written};
use api::karpenter::{AWS_GROUP, AmiTerm, Ec2NodeClass, NodeClassRef, SelectorTerm};
use claims::cloud::{Class, NoClass, SimulatedTerms};
use clouds::calls::{Failure, FailureKind};
use clouds::watching::{Seen, watch};
use futures::StreamExt as _;
use jiff::SignedDuration;
use kube::{Api, ResourceExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// How long the answer for a published image counts.
const PARAMETER_FRESH: SignedDuration = SignedDuration::from_mins(30);
const MOST_PARAMETERS: usize = 1000;
/// The owners of images that are found by name, where none is given: ourselves and AWS.
const OWNERS: [&str; 2] = ["self", "amazon"];
/// The version of the classes' hash.
const HASH: &str = "tideline-v1";

/// A class with what was found.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) object: Arc<Ec2NodeClass>,
    pub(super) family: Family,
    pub(super) kubelet: Kubelet,
    pub(super) subnets: Vec<Subnet>,
    /// Id and name.
    pub(super) groups: Vec<(String, String)>,
    pub(super) images: Vec<Choice>,
    pub(super) profile: String,
}

/// Why a class cannot be used: the condition that is false, and its reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) condition: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) passing: bool,
}

impl Wrong {
    fn lasting(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), passing: false }
    }

    fn of(condition: &'static str, failure: &Failure) -> Self {
        let passing = matches!(failure.kind, FailureKind::Ill | FailureKind::Busy);
        let reason = if passing { "NotAnswered" } else { "Refused" };
        Self { condition, reason, message: failure.to_string(), passing }
    }
}

impl Resolved {
    /// Gibibytes that a machine has for pods' own files.
    pub(super) fn disk_gib(&self, choice: &Choice, row: &Row) -> Option<u64> {
        let spec = &self.object.spec;
        if spec.instance_store_policy.is_some() && row.local_disk_gb > 0 {
            return Some((row.local_disk_gb * 1_000_000_000) >> 30);
        }
        let root =
            spec.block_device_mappings.iter().find(|disk| disk.root_volume == Some(true)).or_else(|| {
                // Bottlerocket keeps pods' files on its second disk.
                let wanted = match self.family {
                    Family::Bottlerocket => Some("/dev/xvdb"),
                    _ => choice.image.root.as_ref().map(|(name, _)| name.as_str()),
                };
                spec.block_device_mappings.iter().find(|disk| disk.device_name.as_deref() == wanted)
            });
        let sized = root.and_then(|disk| gib(disk.ebs.as_ref()?.volume_size.as_deref()?));
        sized.or_else(|| choice.image.root.as_ref().map(|(_, gib)| *gib))
    }

    /// Changes with everything that a machine is made with and that only a new machine gets.
    fn hash(&self) -> String {
        let mut spec = self.object.spec.clone();
        // Found anew each time: what they lead to is compared with each machine.
        spec.subnet_selector_terms.clear();
        spec.security_group_selector_terms.clear();
        spec.ami_selector_terms.clear();
        spec.capacity_reservation_selector_terms.clear();
        spec.ami_family = None;
        spec.ip_prefix_count = None;
        let text = serde_json::to_string(&spec).unwrap_or_default();
        format!("{HASH}-{:016x}", clouds::backoff::seed_for(0, &text))
    }
}

/// A volume's size in gibibytes, rounded up.
pub(super) fn gib(text: &str) -> Option<u64> {
    let quantity = k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned());
    let list = [("memory".to_owned(), quantity)].into();
    let bytes = intake::resources(&list).ok()?.memory.0;
    Some(bytes.div_ceil(1 << 30)).filter(|size| *size > 0)
}

pub(super) async fn follow(shared: Arc<Shared>) {
    let api: Api<Ec2NodeClass> = Api::all(shared.client.clone());
    let mut events = watch(api, "ec2nodeclasses", shared.settings.watches);
    let mut objects: BTreeMap<String, Arc<Ec2NodeClass>> = BTreeMap::new();
    let (mut listing, mut synced) = (None::<BTreeSet<String>>, false);
    let mut next = Instant::now();
    while shared.is_wanted() {
        tokio::select! {
            biased;
            Some(event) = events.next() => match event {
                Seen::Begin => {
                    listing = Some(BTreeSet::new());
                    continue;
                }
                Seen::Object(object) => {
                    let name = object.name_any();
                    if let Some(listing) = &mut listing {
                        listing.insert(name.clone());
                    }
                    let same = objects.get(&name).is_some_and(|known| {
                        known.metadata.generation == object.metadata.generation
                            && known.metadata.deletion_timestamp == object.metadata.deletion_timestamp
                    });
                    objects.insert(name, Arc::new(object));
                    if !same {
                        next = Instant::now();
                    }
                    continue;
                }
                Seen::Gone(object) => {
                    objects.remove(&object.name_any());
                    next = Instant::now();
                    continue;
                }
                Seen::Synced => {
                    if let Some(listed) = listing.take() {
                        objects.retain(|name, _| listed.contains(name));
                    }
                    synced = true;
                    next = Instant::now();
                    continue;
                }
                Seen::Broken { missing_kind, .. } => {
                    synced |= missing_kind;
                    continue;
                }
            },
            () = shared.resolve.notified(), if synced => {}
            () = tokio::time::sleep_until(next), if synced => {}
        }
        if synced {
            look(&shared, &objects).await;
            next = Instant::now() + shared.settings.pace.classes;
        }
    }
}

/// Looks at every class and shows them all.
async fn look(shared: &Arc<Shared>, objects: &BTreeMap<String, Arc<Ec2NodeClass>>) {
    if shared.state().rows.is_empty() {
        // Nothing can be offered before the types are known; who waits is told so.
        return;
    }
    if let Err(why) = know_cluster(shared).await {
        tracing::warn!(%why, cluster = shared.settings.cluster, "the cluster's own facts are not known");
    }
    let mut table = BTreeMap::new();
    shared.state().resolved.retain(|name, _| objects.contains_key(name));
    for (name, object) in objects {
        learned::remember(shared, object);
        let key = NodeClassRef { group: AWS_GROUP.to_owned(), kind: KIND.to_owned(), name: name.clone() };
        let found = if object.metadata.deletion_timestamp.is_some() {
            Err(Wrong::lasting("Ready", "NodeClassTerminating", format!("{KIND} {name} is being deleted")))
        } else {
            resolve(shared, object).await
        };
        let before = shared.state().resolved.get(name).cloned();
        let shown = match (&found, before) {
            (Ok(resolved), _) => Ok(Arc::new(resolved.clone())),
            // What was found of the same spec counts while AWS does not answer.
            (Err(wrong), Some(before)) if wrong.passing && before.object.spec == object.spec => Ok(before),
            (Err(wrong), _) => Err(wrong.clone()),
        };
        written::keep(shared, object, &found).await;
        let class = match shown {
            Ok(resolved) => {
                shared.state().resolved.insert(name.clone(), resolved.clone());
                show(shared, object, &resolved)
            }
            Err(wrong) => {
                shared.state().resolved.remove(name);
                let message = format!("{KIND} {name}: {}", wrong.message);
                Err(NoClass { reason: wrong.reason, message, passing: wrong.passing })
            }
        };
        table.insert(key, class);
    }
    shared.table.send_if_modified(|shown| {
        let is_news = shown.as_deref() != Some(&table);
        if is_news {
            *shown = Some(Arc::new(table));
        }
        is_news
    });
    // Which machines have drifted depends on the classes.
    shared.look.notify_one();
}

fn show(shared: &Shared, object: &Ec2NodeClass, resolved: &Resolved) -> Result<Arc<Class>, NoClass> {
    let types = market::types_of(shared, resolved);
    if types.is_empty() {
        let message = "no machine type is sold in its zones for its images";
        return Err(NoClass::passing("NoInstanceTypes", message));
    }
    Ok(Arc::new(Class {
        types: Arc::new(types),
        image: String::new(),
        hash: resolved.hash(),
        generation: object.metadata.generation.unwrap_or(0),
        simulated: SimulatedTerms::default(),
    }))
}

/// Finds out what machines are told to join: endpoint, authority, service addresses and version.
async fn know_cluster(shared: &Shared) -> Result<(), Failure> {
    let known = shared.state().cluster.clone();
    if known.version.is_some() && (known.endpoint.is_some() || shared.settings.endpoint.is_some()) {
        return Ok(());
    }
    let mut facts = super::ClusterFacts::default();
    let asked = shared.beside.cluster(&shared.settings.cluster).await;
    if let Ok(Some(found)) = &asked {
        facts = found.clone();
    }
    if let Ok(version) = shared.client.apiserver_version().await {
        let minor: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
        facts.version = Some(format!("{}.{minor}", version.major));
        tracing::debug!(version = facts.version, "discovered kubernetes version");
    }
    shared.state().cluster = facts;
    asked.map(drop)
}

async fn resolve(shared: &Shared, object: &Arc<Ec2NodeClass>) -> Result<Resolved, Wrong> {
    let spec = &object.spec;
    let invalid = |message: String| Wrong::lasting("ValidationSucceeded", "ValidationFailed", message);
    let family = images::family(spec).map_err(invalid)?;
    images::check(&spec.ami_selector_terms).map_err(invalid)?;
    let kubelet = Kubelet::read(spec.kubelet.as_ref()).map_err(invalid)?;
    if spec.placement_group_selector.is_some() {
        let message = "spec.placementGroupSelector: placement groups are not served; remove it";
        return Err(invalid(message.to_owned()));
    }
    if let Some(key) = spec.tags.keys().find(|key| is_ours(key)) {
        return Err(invalid(format!("spec.tags.{key}: this tag is set by us; remove it")));
    }
    let subnets = subnets(shared, &spec.subnet_selector_terms).await?;
    let groups = groups(shared, &spec.security_group_selector_terms).await?;
    let images = all_images(shared, &spec.ami_selector_terms).await?;
    let profile = written::profile(shared, object).await?;
    let found = Resolved { object: object.clone(), family, kubelet, subnets, groups, images, profile };
    say_news(shared, &found);
    Ok(found)
}

fn is_ours(key: &str) -> bool {
    key.starts_with("kubernetes.io/cluster/")
        || ["karpenter.sh/nodepool", super::NODE_CLAIM, super::CLASS, super::EKS_CLUSTER, super::CLAIM_UID]
            .contains(&key)
}

fn say_news(shared: &Shared, found: &Resolved) {
    let name = found.object.name_any();
    let before = shared.state().resolved.get(&name).cloned();
    let ids = |groups: &[(String, String)]| groups.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    if before.as_ref().is_none_or(|before| before.groups != found.groups) {
        tracing::debug!(ec2nodeclass = name, "security-groups" = ?ids(&found.groups), "discovered security groups");
    }
    let subnets = |of: &Resolved| of.subnets.iter().map(|subnet| subnet.id.clone()).collect::<Vec<_>>();
    if before.as_ref().is_none_or(|before| subnets(before) != subnets(found)) {
        tracing::debug!(ec2nodeclass = name, subnets = ?subnets(found), "discovered subnets");
    }
    if before.is_none_or(|before| before.images != found.images) {
        let images: Vec<&str> = found.images.iter().map(|choice| choice.image.id.as_str()).collect();
        tracing::debug!(ec2nodeclass = name, amis = ?images, "discovered amis");
    }
}

/// The filters of a term by tags.
fn by_tags(tags: &BTreeMap<String, String>) -> Vec<(String, Vec<String>)> {
    let filter = |(key, value): (&String, &String)| match value.as_str() {
        "*" => ("tag-key".to_owned(), vec![key.clone()]),
        _ => (format!("tag:{key}"), vec![value.clone()]),
    };
    tags.iter().map(filter).collect()
}

async fn subnets(shared: &Shared, terms: &[SelectorTerm]) -> Result<Vec<Subnet>, Wrong> {
    let mut found: BTreeMap<String, Subnet> = BTreeMap::new();
    for term in terms {
        let mut filters = by_tags(&term.tags);
        filters.extend(term.id.iter().map(|id| ("subnet-id".to_owned(), vec![id.clone()])));
        if filters.is_empty() {
            let message = "spec.subnetSelectorTerms: a term is empty; give tags or id";
            return Err(Wrong::lasting("ValidationSucceeded", "ValidationFailed", message));
        }
        let some = shared.compute.subnets(&filters).await.map_err(|why| Wrong::of("SubnetsReady", &why))?;
        found.extend(some.into_iter().map(|subnet| (subnet.id.clone(), subnet)));
    }
    if found.is_empty() {
        let message = "spec.subnetSelectorTerms: no subnet is found; look at tags or ids";
        return Err(Wrong::lasting("SubnetsReady", "SubnetsNotFound", message));
    }
    Ok(found.into_values().collect())
}

async fn groups(shared: &Shared, terms: &[SelectorTerm]) -> Result<Vec<(String, String)>, Wrong> {
    let mut found = BTreeSet::new();
    for term in terms {
        let mut filters = by_tags(&term.tags);
        filters.extend(term.id.iter().map(|id| ("group-id".to_owned(), vec![id.clone()])));
        filters.extend(term.name.iter().map(|name| ("group-name".to_owned(), vec![name.clone()])));
        if filters.is_empty() {
            let message = "spec.securityGroupSelectorTerms: a term is empty; give tags, id or name";
            return Err(Wrong::lasting("ValidationSucceeded", "ValidationFailed", message));
        }
        let some =
            shared.compute.groups(&filters).await.map_err(|why| Wrong::of("SecurityGroupsReady", &why))?;
        found.extend(some);
    }
    if found.is_empty() {
        let message =
            "spec.securityGroupSelectorTerms: no security group is found; look at tags, ids or names";
        return Err(Wrong::lasting("SecurityGroupsReady", "SecurityGroupsNotFound", message));
    }
    Ok(found.into_iter().collect())
}

async fn all_images(shared: &Shared, terms: &[AmiTerm]) -> Result<Vec<Choice>, Wrong> {
    let ill = |why: Failure| Wrong::of("AMIsReady", &why);
    let mut found = Vec::new();
    for term in terms {
        if let Some(alias) = &term.alias {
            found.extend(published(shared, alias).await?);
            continue;
        }
        let mut query = ImageQuery::default();
        if let Some(name) = &term.ssm_parameter {
            let Some(id) = parameter(shared, name).await.map_err(ill)? else {
                let message = format!("spec.amiSelectorTerms: there is no parameter {name} in SSM");
                return Err(Wrong::lasting("AMIsReady", "AMINotFound", message));
            };
            query.ids = vec![id];
        } else if let Some(id) = &term.id {
            query.filters.push(("image-id".to_owned(), vec![id.clone()]));
        } else {
            query.filters = by_tags(&term.tags);
            query.filters.extend(term.name.iter().map(|name| ("name".to_owned(), vec![name.clone()])));
            query.owners = match &term.owner {
                Some(owner) => vec![owner.clone()],
                None if term.name.is_some() => OWNERS.map(str::to_owned).to_vec(),
                None => Vec::new(),
            };
        }
        let images = match shared.compute.images(&query, shared.now()).await {
            Err(why) if why.kind == FailureKind::Missing => Vec::new(),
            answer => answer.map_err(ill)?,
        };
        found.extend(images.into_iter().map(|image| Choice { image, kind: None }));
    }
    if found.is_empty() {
        let message = "spec.amiSelectorTerms: no image is found";
        return Err(Wrong::lasting("AMIsReady", "AMINotFound", message));
    }
    Ok(images::sorted(found))
}

/// The images of an alias for the cluster's version.
async fn published(shared: &Shared, alias: &str) -> Result<Vec<Choice>, Wrong> {
    let ill = |why: Failure| Wrong::of("AMIsReady", &why);
    let Some(version) = shared.state().cluster.version.clone() else {
        let message = "the version of Kubernetes is not known yet";
        return Err(Wrong {
            condition: "AMIsReady",
            reason: "NotAnswered",
            message: message.to_owned(),
            passing: true,
        });
    };
    let wrong = |message| Wrong::lasting("ValidationSucceeded", "ValidationFailed", message);
    let mut ids: Vec<(String, images::Kind)> = Vec::new();
    for one in images::published(alias, &version).map_err(wrong)? {
        // Not every variant is published for every version.
        if let Some(id) = parameter(shared, &one.parameter).await.map_err(ill)? {
            ids.push((id, one.kind));
        }
    }
    if ids.is_empty() {
        let message = format!("{alias} has no image for Kubernetes {version}");
        return Err(Wrong::lasting("AMIsReady", "AMINotFound", message));
    }
    let mut query =
        ImageQuery { ids: ids.iter().map(|(id, _)| id.clone()).collect(), ..ImageQuery::default() };
    query.ids.sort();
    query.ids.dedup();
    let images = shared.compute.images(&query, shared.now()).await.map_err(ill)?;
    let with_kind = |(id, kind): &(String, images::Kind)| {
        let image = images.iter().find(|image| image.id == *id)?.clone();
        Some(Choice { image, kind: Some(*kind) })
    };
    Ok(ids.iter().filter_map(with_kind).collect())
}

async fn parameter(shared: &Shared, name: &str) -> Result<Option<String>, Failure> {
    let now = shared.now();
    let known = shared.state().parameters.get(name).cloned();
    if let Some((value, at)) = known
        && at.saturating_add(PARAMETER_FRESH).is_ok_and(|end| now < end)
    {
        return Ok(value);
    }
    let value = shared.beside.parameter(name).await?;
    let mut state = shared.state();
    if state.parameters.len() >= MOST_PARAMETERS {
        state.parameters.clear();
    }
    state.parameters.insert(name.to_owned(), (value.clone(), now));
    Ok(value)
}
