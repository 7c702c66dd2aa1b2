//! Huawei Cloud's CCE: node pools of one cluster as pools, their nodes as machines.
//!
//! Owns the settings and the joining of the parts: `signature` and `client` speak to the API, `credentials` says who
//! we are, `cce` knows the requests, `view` reads, `orders` writes, `template` describes nodes that do not exist yet.

mod cce;
mod client;
mod credentials;
mod orders;
mod reading;
pub mod signature;
mod template;
mod view;

pub use credentials::Source;

use crate::backoff::seed_for;
use crate::calls::{CallLimits, Calls};
use crate::keys::Held;
use crate::polling::{Pace, Poll};
use crate::transport::Transport;
use crate::{OrderAnswer, Provider, ProviderError};
use cce::Cce;
use client::Client;
use clock::Clock;
use credentials::Credentials;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use jiff::SignedDuration;
use model::{Buy, Change, Lower, PoolId, ProviderKind, Release};
use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// Prefix of this provider's pool ids and its name as an input, as `--cloud-provider` names it.
pub const NAME: &str = "huaweicloud";
/// The one form of discovery: every pool whose elastic scaling is on.
pub const DISCOVERY: &str = "cce:autoscaling";
/// Largest size of a pool that is believed; more is a typing error.
const MOST_NODES: u32 = 10_000;

/// The pool with this id at CCE.
pub fn pool_id(uid: &str) -> PoolId {
    PoolId::from(format!("{NAME}/{uid}"))
}

fn uid_of(pool: &PoolId) -> Option<&str> {
    pool.as_str().strip_prefix(NAME)?.strip_prefix('/').filter(|uid| !uid.is_empty())
}

/// A pool as `--nodes=min:max:pool` declares it, by its name or its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub min: u32,
    pub max: u32,
    pub pool: String,
}

impl FromStr for Declared {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("\"{text}\": {why}; write min:max:name or min:max:id of a node pool");
        let parts: Vec<&str> = text.splitn(3, ':').map(str::trim).collect();
        let [min, max, pool] = parts[..] else { return Err(wrong("three parts are needed")) };
        let number = |part: &str| part.parse().ok().filter(|number| *number <= MOST_NODES);
        let (Some(min), Some(max)) = (number(min), number(max)) else {
            return Err(wrong("a bound is no whole number of nodes"));
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if pool.is_empty() || !pool.chars().all(fits) {
            return Err(wrong("the last part is neither name nor id of a node pool"));
        }
        if max == 0 || min > max {
            return Err(wrong("the minimum is over the maximum, or the maximum is 0"));
        }
        Ok(Self { min, max, pool: pool.to_owned() })
    }
}

/// The provider's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub region: String,
    pub project: String,
    /// Id of the CCE cluster.
    pub cluster: String,
    pub pools: Vec<Declared>,
    /// Whether pools whose elastic scaling is on are served without being named.
    pub discover: bool,
    /// Addresses, each with its scheme.
    pub cce: String,
    pub ecs: String,
    pub metadata: String,
    pub limits: CallLimits,
    pub poll: Poll,
    /// How long the pools may be unreadable before nothing is planned on what was read of them.
    pub stale_after: SignedDuration,
}

impl Settings {
    pub fn new(region: &str, project: &str, cluster: &str) -> Self {
        Self {
            region: region.to_owned(),
            project: project.to_owned(),
            cluster: cluster.to_owned(),
            pools: Vec::new(),
            discover: false,
            cce: format!("https://cce.{region}.myhuaweicloud.com"),
            ecs: format!("https://ecs.{region}.myhuaweicloud.com"),
            metadata: "http://169.254.169.254".to_owned(),
            limits: CallLimits::default(),
            poll: Poll::default(),
            stale_after: SignedDuration::from_mins(2),
        }
    }

    /// Sets one address, as `cce=https://…` names it.
    pub fn set_endpoint(&mut self, text: &str) -> Result<(), String> {
        let (name, address) = text.split_once('=').unwrap_or((text, ""));
        let place = match name {
            "cce" => &mut self.cce,
            "ecs" => &mut self.ecs,
            "metadata" => &mut self.metadata,
            _ => return Err(format!("\"{name}\": write cce, ecs or metadata, and the address after =")),
        };
        if !address.starts_with("https://") && !address.starts_with("http://") {
            return Err(format!("{name} is \"{address}\"; write an address that begins with https://"));
        }
        address.trim_end_matches('/').clone_into(place);
        Ok(())
    }

    /// Refuses what cannot work; the message names the flag and the fix.
    pub fn validate(&self) -> Result<(), String> {
        let fits = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        };
        for (value, what, fix) in [
            (
                &self.region,
                "region",
                "set --huaweicloud-region or HUAWEICLOUD_SDK_REGION, such as cn-north-4",
            ),
            (&self.project, "project", "set HUAWEICLOUD_SDK_PROJECT_ID to the project's id"),
            (&self.cluster, "cluster", "set --huaweicloud-cluster to the id of the CCE cluster"),
        ] {
            if !fits(value) {
                return Err(format!("\"{value}\" is no {what}; {fix}"));
            }
        }
        if self.pools.is_empty() && !self.discover {
            return Err(format!(
                "no node pool is named; add --nodes=min:max:name for each, or --node-group-auto-discovery={DISCOVERY}"
            ));
        }
        let mut seen = BTreeSet::new();
        match self.pools.iter().find(|one| !seen.insert(&one.pool)) {
            Some(twice) => Err(format!("--nodes names {} twice; keep one of them", twice.pool)),
            None => Ok(()),
        }
    }
}

/// The provider.
#[derive(Clone)]
pub struct Huawei {
    shared: Arc<Shared>,
}

/// What reading and ordering share.
struct Shared {
    cce: Cce,
    region: String,
    pools: Vec<Declared>,
    discover: bool,
    pace: Pace,
    stale_after: SignedDuration,
    clock: Clock,
}

impl Huawei {
    pub fn new(
        settings: Settings,
        source: Source,
        transport: &Arc<dyn Transport>,
        clock: Clock,
    ) -> Result<Self, String> {
        settings.validate()?;
        let limits = settings.limits;
        let calls = |purpose| Calls::new(CallLimits { seed: seed_for(limits.seed, purpose), ..limits });
        let credentials = Credentials {
            source,
            transport: transport.clone(),
            metadata: settings.metadata,
            calls: calls("huawei-credentials"),
            clock,
            held: Held::default(),
        };
        let client = Client {
            project: settings.project,
            transport: transport.clone(),
            credentials,
            calls: calls("huawei"),
            clock,
            skew_seconds: AtomicI64::new(0),
        };
        let cce = Cce {
            client,
            cluster: settings.cluster,
            endpoint: Arc::from(settings.cce),
            ecs: Arc::from(settings.ecs),
        };
        let shared = Shared {
            cce,
            region: settings.region,
            pools: settings.pools,
            discover: settings.discover,
            pace: Pace::new(settings.poll),
            stale_after: settings.stale_after,
            clock,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Provider for Huawei {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Huaweicloud
    }

    fn name(&self) -> Arc<str> {
        Arc::from(NAME)
    }

    fn watch(&self) -> BoxStream<'static, Change> {
        let view = view::View::new(self.shared.clone());
        stream::unfold(view, |mut view| async move { Some((view.next().await, view)) }).boxed()
    }

    fn buy<'a>(&'a self, order: &'a Buy) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.shared.raise(order))
    }

    fn lower<'a>(&'a self, order: &'a Lower) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.shared.reduce(order))
    }

    fn release<'a>(&'a self, order: &'a Release) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.shared.give_back(order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_and_wrong_ones_say_how() {
        let read = |text: &str| text.parse::<Declared>();
        assert_eq!(read("1:5:blue"), Ok(Declared { min: 1, max: 5, pool: "blue".into() }));
        for (text, part) in [
            ("1:5", "three parts"),
            ("a:5:blue", "whole number"),
            ("6:5:blue", "over the maximum"),
            ("0:0:blue", "maximum is 0"),
            ("1:5:", "neither name nor id"),
            ("1:5:a b", "neither name nor id"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(part) && why.contains("write min:max:name"), "{why}");
        }
    }

    #[test]
    fn settings_that_cannot_work_name_their_fix() {
        let mut settings = Settings::new("cn-north-4", "p1", "c1");
        assert!(settings.validate().unwrap_err().contains("add --nodes"));
        settings.pools = vec!["1:5:blue".parse().unwrap()];
        assert_eq!(settings.validate(), Ok(()));
        settings.pools.push("1:5:blue".parse().unwrap());
        assert!(settings.validate().unwrap_err().contains("twice"));
        for (settings, part) in [
            (Settings::new("", "p1", "c1"), "--huaweicloud-region"),
            (Settings::new("r", "", "c1"), "HUAWEICLOUD_SDK_PROJECT_ID"),
            (Settings::new("r", "p1", "../c"), "--huaweicloud-cluster"),
        ] {
            assert!(settings.validate().unwrap_err().contains(part));
        }
        assert!(settings.set_endpoint("cce=ftp://x").unwrap_err().contains("https://"));
        assert!(settings.set_endpoint("iam=https://x").unwrap_err().contains("write cce, ecs or metadata"));
        settings.set_endpoint("cce=http://127.0.0.1:1/").unwrap();
        assert_eq!(settings.cce, "http://127.0.0.1:1");
    }
}
