//! Alibaba Cloud's Auto Scaling (ESS): scaling groups as pools, their ECS instances as machines.
//!
//! Owns the settings and the joining of the parts: `signature` and `client` speak to the API, `credentials` says who
//! we are, `ess` knows the actions, `view` reads, `orders` writes, `template` describes nodes that do not exist yet.

mod client;
mod credentials;
mod endpoints;
mod ess;
mod orders;
mod reading;
pub mod signature;
mod template;
mod view;

use credentials::Credentials;
pub use credentials::{AccessKey, Source};
pub use endpoints::Endpoints;

use crate::backoff::seed_for;
use crate::calls::{CallLimits, Calls, Failure};
use crate::polling::{Pace, Poll};
use crate::transport::Transport;
use crate::{OrderAnswer, Provider, ProviderError};
use client::{Client, Product};
use clock::Clock;
use ess::Ess;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use jiff::SignedDuration;
use model::{Buy, Change, Lower, MachineId, PoolId, ProviderKind, Release};
use orders::Ordered;
use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Prefix of this provider's pool ids and its name as an input, as `--cloud-provider` names it.
pub const NAME: &str = "alicloud";
/// Largest size of a group that is believed; more is a typing error.
const MOST_MACHINES: u32 = 100_000;
/// Machines that never came and were given back, which are remembered.
const MOST_FORGOTTEN: usize = 10_000;

pub fn pool_id(group: &str) -> PoolId {
    PoolId::from(format!("{NAME}/{group}"))
}

fn group_of(pool: &PoolId) -> Option<&str> {
    pool.as_str().strip_prefix(NAME)?.strip_prefix('/').filter(|group| !group.is_empty())
}

/// A pool as `--nodes=min:max:asg-id` declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub min: u32,
    pub max: u32,
    pub group: String,
}

impl FromStr for Declared {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("\"{text}\": {why}; write min:max:asg-id, such as 1:10:asg-bp18p2yfxow2dloq");
        let mut parts = text.splitn(3, ':');
        let (Some(min), Some(max), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("three parts are needed"));
        };
        let number = |part: &str| part.trim().parse::<u32>().ok().filter(|number| *number <= MOST_MACHINES);
        let min = number(min).ok_or_else(|| wrong("the minimum is no whole number of machines"))?;
        let max = number(max).ok_or_else(|| wrong("the maximum is no whole number of machines"))?;
        let group = group.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if group.is_empty() || !group.chars().all(fits) {
            return Err(wrong("the last part is no id of a scaling group"));
        }
        if max == 0 || min > max {
            return Err(wrong("the minimum is over the maximum, or the maximum is 0"));
        }
        Ok(Self { min, max, group: group.to_owned() })
    }
}

/// The provider's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub region: String,
    pub pools: Vec<Declared>,
    pub endpoints: Endpoints,
    pub limits: CallLimits,
    pub poll: Poll,
    /// How long groups may be unreadable before nothing is planned on what was read of them.
    pub stale_after: SignedDuration,
}

impl Settings {
    pub fn new(region: &str, pools: Vec<Declared>) -> Self {
        Self {
            region: region.to_owned(),
            pools,
            endpoints: Endpoints::of(region),
            limits: CallLimits::default(),
            poll: Poll::default(),
            stale_after: SignedDuration::from_mins(2),
        }
    }

    /// Refuses what cannot work; the message names the flag and the fix.
    pub fn validate(&self) -> Result<(), String> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.region.is_empty() || !self.region.chars().all(fits) {
            return Err(format!(
                "region \"{}\" is no region's id; set REGION_ID to one such as cn-hangzhou",
                self.region
            ));
        }
        if self.pools.is_empty() {
            return Err("no scaling group is named; add --nodes=min:max:asg-id for each".to_owned());
        }
        let mut seen = std::collections::BTreeSet::new();
        match self.pools.iter().find(|pool| !seen.insert(&pool.group)) {
            Some(twice) => Err(format!("--nodes names {} twice; keep one of them", twice.group)),
            None => Ok(()),
        }
    }
}

/// The provider.
#[derive(Clone)]
pub struct Alibaba {
    shared: Arc<Shared>,
}

impl Alibaba {
    pub fn new(
        settings: Settings,
        source: Source,
        transport: &Arc<dyn Transport>,
        clock: Clock,
    ) -> Result<Self, String> {
        settings.validate()?;
        let Settings { region, pools, endpoints, limits, poll, stale_after } = settings;
        let calls = |purpose| Calls::new(CallLimits { seed: seed_for(limits.seed, purpose), ..limits });
        let credentials = Arc::new(Credentials::new(
            source,
            transport.clone(),
            endpoints.sts,
            endpoints.metadata,
            calls("alibaba-credentials"),
            clock,
        ));
        let client = |name, version, endpoint| {
            let product = Product { name, version, endpoint };
            Client::new(product, transport.clone(), credentials.clone(), calls(name), clock)
        };
        let ess = Ess {
            scaling: client("ess", "2022-02-22", endpoints.ess),
            compute: client("ecs", "2014-05-26", endpoints.ecs),
            region,
        };
        let shared =
            Shared { ess, pools, pace: Pace::new(poll), stale_after, clock, state: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// The region of the instance that we run on, by its metadata service at this address.
pub async fn instance_region(
    transport: &Arc<dyn Transport>,
    metadata: &str,
    limits: CallLimits,
    clock: Clock,
) -> Result<String, Failure> {
    let source = Source::InstanceRole { name: String::new() };
    let (calls, nowhere) = (Calls::new(limits), String::new());
    Credentials::new(source, transport.clone(), nowhere, metadata.to_owned(), calls, clock).region().await
}

/// What reading and ordering share.
struct Shared {
    ess: Ess,
    pools: Vec<Declared>,
    pace: Pace,
    stale_after: SignedDuration,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last size asked of each group, until its activity has ended.
    ordered: BTreeMap<String, Ordered>,
    rules_until: BTreeMap<String, Instant>,
    forgotten: VecDeque<MachineId>,
    /// What was last said of each group, so that it is said once.
    said: BTreeMap<String, Arc<str>>,
}

impl State {
    fn forget(&mut self, machine: MachineId) {
        if self.forgotten.len() >= MOST_FORGOTTEN {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(machine);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that a task died between plain assignments: the values are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ordered(&self, group: &str) -> Option<Ordered> {
        self.state().ordered.get(group).cloned()
    }

    fn forget_order(&self, group: &str) {
        self.state().ordered.remove(group);
    }

    fn is_forgotten(&self, machine: &MachineId) -> bool {
        self.state().forgotten.contains(machine)
    }

    fn is_news(&self, group: &str, text: &Arc<str>) -> bool {
        self.state().said.insert(group.to_owned(), text.clone()).as_ref() != Some(text)
    }
}

impl Provider for Alibaba {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Alicloud
    }

    fn name(&self) -> Arc<str> {
        Arc::from(NAME)
    }

    fn watch(&self) -> BoxStream<'static, Change> {
        let view = view::View::new(self.shared.clone());
        stream::unfold(view, |mut view| async move {
            let change = view.next().await;
            Some((change, view))
        })
        .boxed()
    }

    fn buy<'a>(&'a self, order: &'a Buy) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.shared.raise(order))
    }

    fn lower<'a>(&'a self, order: &'a Lower) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.shared.reduce(order))
    }

    fn release<'a>(&'a self, order: &'a Release) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(async move {
            let mut answers = self.shared.give_back(std::slice::from_ref(order)).await;
            answers.pop().unwrap_or(Ok(OrderAnswer::Done))
        })
    }

    fn most_releases_at_once(&self) -> usize {
        ess::REMOVED_AT_ONCE
    }

    fn release_several<'a>(
        &'a self,
        orders: &'a [Release],
    ) -> BoxFuture<'a, Vec<Result<OrderAnswer, ProviderError>>> {
        Box::pin(self.shared.give_back(orders))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_and_wrong_ones_say_how() {
        let read = |text: &str| text.parse::<Declared>();
        assert_eq!(read("1:5:asg-x"), Ok(Declared { min: 1, max: 5, group: "asg-x".into() }));
        for (text, part) in [
            ("1:5", "three parts"),
            ("a:5:asg-x", "minimum"),
            ("1:-5:asg-x", "maximum"),
            ("6:5:asg-x", "over the maximum"),
            ("0:0:asg-x", "maximum is 0"),
            ("1:5:", "no id"),
            ("1:5:asg:tag=x", "no id"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(part) && why.contains("write min:max:asg-id"), "{why}");
        }
    }

    #[test]
    fn settings_refuse_a_group_named_twice() {
        let pool: Declared = "1:5:asg-x".parse().unwrap();
        let settings = |region, pools| Settings::new(region, pools).validate();
        assert!(settings("cn-hangzhou", vec![pool.clone()]).is_ok());
        assert!(settings("cn-hangzhou", vec![pool.clone(), pool.clone()]).unwrap_err().contains("twice"));
        assert!(settings("cn-hangzhou", Vec::new()).unwrap_err().contains("--nodes"));
        assert!(settings("", vec![pool]).unwrap_err().contains("REGION_ID"));
    }
}
