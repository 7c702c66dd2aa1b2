//! What can be bought: types, the zones that they are sold in, and prices, looked at in their own rhythm.
//!
//! Owns the loop, and the making of a class' types from what was found. A type without a price, an image or a zone is
//! not offered.

use super::Shared;
use super::resolve::Resolved;
use super::rows::{Row, row};
use super::{images, learned, prices, usable};
use api::labels;
use clouds::calls::Failure;
use jiff::SignedDuration;
use kube::ResourceExt as _;
use model::{CapacityType, InstanceType, MicroUsdPerHour, Offering, Operator, Requirement};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// After a look that failed.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// The history is asked for so far back: the present price of each type is told whatever its age.
const HISTORY: SignedDuration = SignedDuration::from_mins(1);
const ZONE_ID: &str = "topology.k8s.aws/zone-id";
const REGION: &str = "topology.kubernetes.io/region";

pub(super) async fn follow(shared: Arc<Shared>) {
    let pace = shared.settings.pace;
    let (mut types_at, mut spot_at) = (Instant::now(), Instant::now());
    while shared.is_wanted() {
        let now = Instant::now();
        if types_at <= now {
            let known = look(&shared).await;
            types_at = Instant::now() + wait(known, pace.types, "machine types of EC2");
            shared.resolve.notify_one();
        }
        if spot_at <= Instant::now() {
            let known = look_at_spot(&shared).await;
            spot_at = Instant::now() + wait(known, pace.spot_prices, "spot prices");
            shared.resolve.notify_one();
        }
        tokio::time::sleep_until(types_at.min(spot_at)).await;
    }
}

fn wait(known: Result<(), Failure>, usual: Duration, what: &str) -> Duration {
    match known {
        Ok(()) => usual,
        Err(why) => {
            tracing::warn!(%why, what, "not known; asked again");
            TRY_AGAIN.min(usual)
        }
    }
}

async fn look(shared: &Shared) -> Result<(), Failure> {
    let types = shared.compute.types().await?;
    let places = shared.compute.places().await?;
    let mut rows: Vec<Arc<Row>> = types.into_iter().filter_map(row).map(Arc::new).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let mut listed = BTreeMap::new();
    let told = super::beside::pricing_region(&shared.region).is_some() && !shared.settings.isolated;
    if told {
        match shared.beside.price_list(&shared.region).await {
            Ok(products) => listed = prices::listed(&products),
            Err(why) => {
                tracing::warn!(%why, "the price list is not had: prices of {} stand for it", prices::TABLE_OF);
            }
        }
    }
    tracing::info!(
        types = rows.len(),
        places = places.len(),
        prices = listed.len(),
        "discovered machine types"
    );
    let mut state = shared.state();
    for row in &rows {
        // A list that could be read before is better than the table.
        let known = listed.get(&row.name).copied();
        if let Some(price) = known.or_else(|| {
            let had = state.on_demand.get(&row.name).copied();
            had.or_else(|| prices::tabled(&row.name, row.cores))
        }) {
            state.on_demand.insert(row.name.clone(), price);
        }
    }
    state.rows = rows;
    state.places = places;
    Ok(())
}

async fn look_at_spot(shared: &Shared) -> Result<(), Failure> {
    let since = shared.now().checked_sub(HISTORY).unwrap_or_else(|_| shared.now());
    let found = shared.compute.spot_prices(since).await?;
    let read = |(key, text): ((String, String), String)| Some((key, prices::micro(&text)?));
    shared.state().spot = found.into_iter().filter_map(read).filter(|(_, price)| price.0 > 0).collect();
    Ok(())
}

/// The types that a class can launch, with their prices in its zones.
pub(super) fn types_of(shared: &Shared, class: &Resolved) -> Vec<InstanceType> {
    let state = shared.state();
    let zones: BTreeMap<&str, Option<&str>> =
        class.subnets.iter().map(|subnet| (subnet.zone.as_str(), subnet.zone_id.as_deref())).collect();
    let full = |zone: &str| {
        let now = shared.now();
        let mut of_zone = class.subnets.iter().filter(|subnet| subnet.zone == zone).peekable();
        of_zone.peek().is_some() && of_zone.all(|s| state.full.get(&s.id).is_some_and(|until| now < *until))
    };
    let open: BTreeSet<&str> = zones.keys().copied().filter(|zone| !full(zone)).collect();
    let mut types = Vec::new();
    for row in &state.rows {
        let Some(choice) = images::choose(&class.images, row) else { continue };
        let sold = |zone: &&&str| state.places.contains(&(row.name.clone(), (**zone).to_owned()));
        let on_demand = state.on_demand.get(&row.name).copied();
        let mut offerings = Vec::new();
        for zone in open.iter().filter(sold) {
            let mut offer = |capacity_type, price: Option<MicroUsdPerHour>| {
                let Some(price) = price else { return };
                offerings.push(Offering {
                    zone: Arc::from(*zone),
                    capacity_type,
                    price,
                    available: true,
                    remaining: None,
                });
            };
            if row.sells_on_demand {
                offer(CapacityType::OnDemand, on_demand);
            }
            if row.sells_spot {
                // Until spot prices are known, a spot machine is taken to cost what it costs on demand.
                let spot = state.spot.get(&(row.name.clone(), (*zone).to_owned())).copied();
                offer(CapacityType::Spot, spot.or(on_demand));
            }
        }
        if offerings.is_empty() {
            continue;
        }
        let memory = learned::memory(state.learned.get(&class.object.name_any()), row)
            .unwrap_or_else(|| usable::guessed_memory(row, shared.shares()));
        let disk = class.disk_gib(choice, row);
        let (capacity, allocatable) =
            usable::amounts(row, &class.kubelet, class.family, shared.shares(), memory, disk);
        types.push(InstanceType {
            name: Arc::from(row.name.as_str()),
            requirements: requirements(row, &shared.region, &zones),
            capacity,
            allocatable,
            offerings,
        });
    }
    types
}

fn requirements(row: &Row, region: &str, zones: &BTreeMap<&str, Option<&str>>) -> Vec<Requirement> {
    let is = |key: &str, value: &str| Requirement {
        key: Arc::from(key),
        operator: Operator::In,
        values: vec![Arc::from(value)],
    };
    let mut all = vec![is(labels::ARCH, row.architecture), is(labels::OS, "linux"), is(REGION, region)];
    // With one zone its id is a label that every node has.
    if let [(_, Some(id))] = zones.iter().collect::<Vec<_>>().as_slice() {
        all.push(is(ZONE_ID, id));
    }
    all.extend(row.labels().iter().map(|(key, value)| is(key, value)));
    all
}
