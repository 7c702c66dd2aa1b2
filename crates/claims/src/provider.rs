//! The provider: NodePools and NodeClaims as the planner sees them, and claims written for its orders.
//!
//! Owns the watching and the orders. A claim has the name that the order gave it, so writing it again writes nothing,
//! and giving a machine back is deleting its claim: what follows is the keeper's.

use crate::Parts;
use crate::classes::{Classes, Clouds, pictures};
use crate::cloud::ClassTable;
use crate::guard::Guard;
use crate::orders;
use crate::shortages::Shortages;
use crate::view::View;
use api::karpenter::{NodeClaim, NodeOverlay, NodePool, ORDER};
use clock::Clock;
use clouds::objects::failure;
use clouds::watching::{Freshness, Seen, WatchSettings, code, watch, within};
use clouds::{OrderAnswer, Provider, ProviderError};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, ResourceExt as _};
use model::{Buy, Change, Lower, ProviderKind, Release, claim_of};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Claims that are written at once.
const AT_ONCE: usize = 16;

pub struct DirectPools {
    client: Client,
    clock: Clock,
    settings: WatchSettings,
    classes: Arc<Mutex<Classes>>,
    shortages: Arc<Shortages>,
    clouds: Clouds,
    guard: Guard,
    pools: Api<NodePool>,
    claims: Api<NodeClaim>,
    limit: Duration,
}

impl DirectPools {
    pub(crate) fn new(client: Client, clock: Clock, settings: WatchSettings, parts: Parts) -> Self {
        let Parts { clouds, shortages, guard, .. } = parts;
        Self {
            pools: Api::all(client.clone()),
            claims: Api::all(client.clone()),
            client,
            clock,
            settings,
            classes: Arc::new(Mutex::new(Classes::new(clouds.clone()))),
            shortages,
            clouds,
            guard,
            limit: settings.call_timeout,
        }
    }

    async fn order(&self, order: &Buy) -> Result<OrderAnswer, ProviderError> {
        let obsolete = |why: String| Ok(OrderAnswer::Obsolete { why: Arc::from(why) });
        let name = order.pool.as_str().split_once('/').map_or("", |(_, name)| name);
        let pool = match within(self.limit, self.pools.get(name)).await {
            Ok(pool) if pool.metadata.deletion_timestamp.is_none() => pool,
            Ok(_) => return obsolete(format!("NodePool {name} is being deleted")),
            Err(error) if code(&error) == Some(404) => return obsolete(format!("NodePool {name} is gone")),
            Err(error) => return Err(failure(format!("read NodePool {name}"), error)),
        };
        if let Some(held) = self.guard.holds_pool(&pool) {
            return obsolete(held.message);
        }
        let reference = &pool.spec.template.spec.node_class_ref;
        let class = self.classes.lock().unwrap_or_else(PoisonError::into_inner).of(reference);
        let class = match class {
            Ok(class) => class,
            Err(no) => return obsolete(no.message),
        };
        let mut claims: Vec<NodeClaim> = Vec::new();
        for launch in &order.launches {
            let named = launch.names.iter();
            claims
                .extend(named.map(|name| orders::claim(&pool, &class, order.intent.as_str(), launch, name)));
        }
        let written = claims.into_iter().map(|claim| self.write(claim));
        stream::iter(written).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(OrderAnswer::Done)
    }

    /// Writes a claim unless it is there. One of the same name that another order made stands in its place: the plan
    /// is made anew when it is seen.
    async fn write(&self, claim: NodeClaim) -> Result<(), ProviderError> {
        let name = claim.name_any();
        match within(self.limit, self.claims.create(&PostParams::default(), &claim)).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(409) => {
                let order = claim.annotations().get(ORDER);
                if let Ok(found) = within(self.limit, self.claims.get(&name)).await
                    && found.annotations().get(ORDER) != order
                {
                    tracing::warn!(claim = name, "a claim of this name is there already; none is written");
                }
                Ok(())
            }
            Err(error) => Err(failure(format!("write NodeClaim {name}"), error)),
        }
    }

    async fn give_back(&self, order: &Release) -> Result<OrderAnswer, ProviderError> {
        let Some(name) = claim_of(&order.machine) else { return Ok(OrderAnswer::Done) };
        let claim = match within(self.limit, self.claims.get(name)).await {
            Ok(claim) if claim.metadata.deletion_timestamp.is_none() => claim,
            Ok(_) => return Ok(OrderAnswer::Done),
            Err(error) if code(&error) == Some(404) => return Ok(OrderAnswer::Done),
            Err(error) => return Err(failure(format!("read NodeClaim {name}"), error)),
        };
        if let Some(held) = self.guard.holds(&claim.spec.node_class_ref) {
            return Ok(OrderAnswer::Obsolete { why: Arc::from(held.message) });
        }
        let same = Preconditions { uid: claim.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match within(self.limit, self.claims.delete(name, &params)).await {
            Ok(_) => Ok(OrderAnswer::Done),
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(OrderAnswer::Done),
            Err(error) => Err(failure(format!("delete NodeClaim {name}"), error)),
        }
    }
}

enum Event {
    Pool(Seen<NodePool>),
    Claim(Seen<NodeClaim>),
    Overlay(Seen<NodeOverlay>),
    Classes(usize, Option<Arc<ClassTable>>),
    /// Something is sold out, or is no longer; somebody else acts, or does no longer.
    Market,
}

struct Watching {
    events: BoxStream<'static, Event>,
    view: View,
    clock: Clock,
    classes: Arc<Mutex<Classes>>,
}

impl Watching {
    fn take(&mut self, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Pool(seen) => self.view.see_pool(seen, now),
            Event::Claim(seen) => self.view.see_claim(seen, now),
            Event::Overlay(seen) => self.view.see_overlay(seen, now),
            Event::Classes(cloud, table) => {
                let different =
                    self.classes.lock().unwrap_or_else(PoisonError::into_inner).refresh(cloud, table);
                self.view.classes_changed(&different, now);
            }
            Event::Market => self.view.market_changed(now),
        }
    }
}

/// Says when what is sold out may have changed: something was noted, or a wait has ended.
fn market(shortages: Arc<Shortages>, clock: Clock) -> BoxStream<'static, Event> {
    let changes = shortages.changes();
    stream::unfold((shortages, changes), move |(shortages, mut changes)| async move {
        let end = shortages.next_end(clock.now());
        let ended = async {
            match end {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = changes.changed() => {
                if changed.is_err() {
                    return None;
                }
            }
            () = ended => {}
        }
        Some((Event::Market, (shortages, changes)))
    })
    .boxed()
}

impl Provider for DirectPools {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Karpenter
    }

    fn name(&self) -> Arc<str> {
        Arc::from(crate::NAME)
    }

    fn watch(&self) -> BoxStream<'static, Change> {
        let client = &self.client;
        let pools = watch(Api::<NodePool>::all(client.clone()), "nodepools", self.settings).map(Event::Pool);
        let claims =
            watch(Api::<NodeClaim>::all(client.clone()), "nodeclaims", self.settings).map(Event::Claim);
        let classes =
            self.clouds.0.iter().enumerate().map(|(at, cloud)| {
                pictures(cloud.classes()).map(move |table| Event::Classes(at, table)).boxed()
            });
        let others = pictures(self.guard.peer()).map(|_| Event::Market);
        let market = market(self.shortages.clone(), self.clock);
        let overlays = watch(Api::all(client.clone()), "nodeoverlays", self.settings).map(Event::Overlay);
        let objects = [overlays.boxed(), pools.boxed(), claims.boxed(), market, others.boxed()];
        let events = stream::select_all(objects.into_iter().chain(classes)).boxed();
        let freshness = Freshness::of(2, self.settings.stale_after);
        let watching = Watching {
            events,
            view: View::new(freshness, self.classes.clone(), self.shortages.clone(), self.guard.clone()),
            clock: self.clock,
            classes: self.classes.clone(),
        };
        stream::unfold(watching, |mut watching| async move {
            loop {
                if let Some(change) = watching.view.changes.pop_front() {
                    return Some((change, watching));
                }
                let event = watching.events.next().await?;
                watching.take(event);
            }
        })
        .boxed()
    }

    fn buy<'a>(&'a self, order: &'a Buy) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.order(order))
    }

    fn lower<'a>(&'a self, order: &'a Lower) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        let why = format!("pool {} launches single machines; there is no size to lower", order.pool);
        Box::pin(std::future::ready(Ok(OrderAnswer::Obsolete { why: Arc::from(why) })))
    }

    fn release<'a>(&'a self, order: &'a Release) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.give_back(order))
    }
}
