//! Leader election on a Lease, and the fence that every outgoing call stands behind.
//!
//! Owns the Lease: acquiring, renewing on a monotonic clock, giving it back at exit. Holding it is necessary and
//! not sufficient: what makes a second leader harmless is the business of whoever acts.

use clock::Clock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// How the lead is taken and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LeaderElection {
    pub enabled: bool,
    /// Name of the Lease. The default is Cluster Autoscaler's, so that the two never act at once.
    pub name: String,
    /// Who we are in the Lease; empty = host name and a random part, chosen at start.
    pub identity: String,
    pub lease_seconds: u32,
    pub renew_deadline_seconds: u32,
    pub retry_seconds: u32,
}

impl Default for LeaderElection {
    fn default() -> Self {
        Self {
            enabled: true,
            name: "cluster-autoscaler".into(),
            identity: String::new(),
            lease_seconds: 15,
            renew_deadline_seconds: 10,
            retry_seconds: 2,
        }
    }
}

/// Why a Lease could not be taken or renewed this time.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("{verb} lease {name}: {source}; see that the role allows it and the API server answers")]
    Api { verb: &'static str, name: String, source: kube::Error },
    #[error("{verb} lease {name}: no answer within {} s", .limit.as_secs())]
    Silence { verb: &'static str, name: String, limit: Duration },
}

impl LeaseError {
    fn is_absence(&self) -> bool {
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if status.code == 404)
    }
}

/// Where we stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Somebody else leads, or nobody was asked yet.
    Standby {
        holder: Option<Arc<str>>,
    },
    Leader,
    /// We led and could not keep it.
    Lost {
        why: Arc<str>,
    },
}

/// Until when calls may be made; shared with everything that makes them.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Mutex<Limit>>);

#[derive(Clone, Copy, Debug)]
enum Limit {
    /// No election: nothing limits us.
    Open,
    Until(Instant),
    Closed,
}

impl Fence {
    /// For those who act without an election.
    pub fn open() -> Self {
        Self(Arc::new(Mutex::new(Limit::Open)))
    }

    fn closed() -> Self {
        Self(Arc::new(Mutex::new(Limit::Closed)))
    }

    /// Whether a call of at most this length ends while we surely still lead.
    pub fn allows(&self, call: Duration) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Limit::Open => true,
            Limit::Until(end) => Instant::now() + call < end,
            Limit::Closed => false,
        }
    }

    /// Ends all acting, for good.
    pub fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Limit::Closed;
    }

    fn extend(&self, end: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Limit::Until(end);
    }
}

/// A running election.
pub struct Election {
    pub state: watch::Receiver<Leadership>,
    pub fence: Fence,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Election {
    pub fn start(
        client: &Client,
        clock: Clock,
        namespace: &str,
        config: &LeaderElection,
        identity: String,
    ) -> Self {
        let (sender, state) = watch::channel(Leadership::Standby { holder: None });
        let (stop, stopped) = oneshot::channel();
        let fence = Fence::closed();
        let candidate = Candidate {
            leases: Api::namespaced(client.clone(), namespace),
            clock,
            config: config.clone(),
            identity,
            fence: fence.clone(),
            seen: None,
        };
        let task = tokio::spawn(candidate.run(sender, stopped));
        Self { state, fence, stop, task }
    }

    /// Gives the Lease back, if we hold it, so that a successor need not wait for its end.
    pub async fn release(self) {
        self.fence.close();
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the election ended badly; the lease runs out by itself");
        }
    }
}

struct Candidate {
    leases: Api<Lease>,
    clock: Clock,
    config: LeaderElection,
    identity: String,
    fence: Fence,
    /// The last record of somebody else's, and when we first saw it: its age is measured here, not by its clock.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    async fn run(mut self, sender: watch::Sender<Leadership>, mut stopped: oneshot::Receiver<()>) {
        let retry = Duration::from_secs(u64::from(self.config.retry_seconds));
        let renew_deadline = Duration::from_secs(u64::from(self.config.renew_deadline_seconds));
        let mut held_since: Option<Instant> = None;
        loop {
            let begun = Instant::now();
            let won = self.acquire_or_renew(retry.max(Duration::from_secs(1)) * 2).await;
            match (won, held_since) {
                (Ok(None), _) => {
                    self.fence.extend(begun + Duration::from_secs(u64::from(self.config.lease_seconds)));
                    held_since = Some(begun);
                    sender.send_if_modified(|state| replace(state, Leadership::Leader));
                }
                (Ok(Some(holder)), None) => {
                    let holder = Some(Arc::from(holder));
                    sender.send_if_modified(|state| replace(state, Leadership::Standby { holder }));
                }
                (Ok(Some(holder)), Some(_)) => {
                    return self.lose(&sender, &format!("{holder} took the lease {}", self.config.name));
                }
                (Err(error), Some(since)) if since.elapsed() >= renew_deadline => {
                    return self.lose(&sender, &format!("it was not renewed in time ({error})"));
                }
                (Err(error), _) => tracing::warn!(%error, lease = self.config.name, "lease not written"),
            }
            tokio::select! {
                biased;
                _ = &mut stopped => {
                    if held_since.is_some() {
                        self.give_back().await;
                    }
                    return;
                }
                () = tokio::time::sleep(retry) => {}
            }
        }
    }

    fn lose(&self, sender: &watch::Sender<Leadership>, why: &str) {
        self.fence.close();
        sender.send_replace(Leadership::Lost { why: Arc::from(why) });
    }

    /// One attempt. `None` means that we hold the Lease, else who does.
    async fn acquire_or_renew(&mut self, limit: Duration) -> Result<Option<String>, LeaseError> {
        let (name, plain) = (self.config.name.clone(), PostParams::default());
        let mut lease = match self.call(limit, "read", self.leases.get(&name)).await {
            Ok(lease) => lease,
            Err(error) if error.is_absence() => {
                let metadata = ObjectMeta { name: Some(name), ..Default::default() };
                let lease = Lease { metadata, spec: Some(self.record(None)) };
                let created = self.leases.create(&plain, &lease);
                return self.call(limit, "create", created).await.map(|_| None);
            }
            Err(error) => return Err(error),
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity && !self.has_run_out(&spec) {
            return Ok(Some(holder));
        }
        lease.spec = Some(self.record(Some(&spec)));
        let replaced = self.leases.replace(&name, &plain, &lease);
        self.call(limit, "update", replaced).await.map(|_| None)
    }

    async fn call<T>(
        &self,
        limit: Duration,
        verb: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, LeaseError> {
        let name = self.config.name.clone();
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(LeaseError::Api { verb, name, source }),
            Err(_) => Err(LeaseError::Silence { verb, name, limit }),
        }
    }

    /// Whether somebody else's record has stood unchanged for its whole length, by our own clock.
    fn has_run_out(&mut self, spec: &LeaseSpec) -> bool {
        let record = format!("{:?} {:?} {:?}", spec.holder_identity, spec.renew_time, spec.lease_transitions);
        let length = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let length = Duration::from_secs(length.unwrap_or_else(|| u64::from(self.config.lease_seconds)));
        match &self.seen {
            Some((known, since)) if *known == record => since.elapsed() > length,
            _ => {
                self.seen = Some((record, Instant::now()));
                false
            }
        }
    }

    fn record(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        let same = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&*self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.config.lease_seconds).ok(),
            acquire_time: before
                .filter(|_| same)
                .and_then(|spec| spec.acquire_time.clone())
                .or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if same || before.is_none() { transitions } else { transitions + 1 }),
            ..Default::default()
        }
    }

    async fn give_back(&self) {
        let limit = Duration::from_secs(5);
        let Ok(mut lease) = self.call(limit, "read", self.leases.get(&self.config.name)).await else {
            return;
        };
        let ours =
            lease.spec.as_ref().is_some_and(|spec| spec.holder_identity.as_deref() == Some(&*self.identity));
        if !ours {
            return;
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let plain = PostParams::default();
        let replaced = self.leases.replace(&self.config.name, &plain, &lease);
        if let Err(error) = self.call(limit, "give back", replaced).await {
            tracing::warn!(%error, "lease not given back; it runs out by itself");
        }
    }
}

fn replace(state: &mut Leadership, new: Leadership) -> bool {
    let changed = *state != new;
    *state = new;
    changed
}

/// Our name in a Lease: the one that is given, else made of the host and the process.
pub fn identity(given: &str, clock: Clock) -> String {
    if !given.is_empty() {
        return given.to_owned();
    }
    let host = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let host = host.unwrap_or_else(|| "tideline".to_owned());
    // Two processes on one host differ by when they started.
    format!("{host}_{}_{}", std::process::id(), clock.now().as_nanosecond())
}
