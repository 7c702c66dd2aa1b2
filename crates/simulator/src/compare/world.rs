//! Replicas on machines, minute by minute: what starts when, what it can serve, what it costs.
//!
//! Owns the rules of this small world, which are stated in docs/forecast-compare.md to the minute; the published
//! measurements that results are held against were made in the same one.

use super::policy::{Policy, Seen};
use super::{Comparison, whole};
use std::ops::Range;

/// The rules' numbers.
#[derive(Clone, Debug)]
pub struct World {
    /// From an order to serving, on a machine that is there.
    pub start_up_minutes: usize,
    /// From an order of a machine to its being there.
    pub machine_start_up_minutes: usize,
    pub replicas_per_machine: usize,
    /// How long an empty machine is kept.
    pub keep_empty_minutes: usize,
    pub most_replicas: usize,
}

impl Default for World {
    fn default() -> Self {
        Self {
            start_up_minutes: 1,
            machine_start_up_minutes: 3,
            replicas_per_machine: 8,
            keep_empty_minutes: 10,
            most_replicas: 200,
        }
    }
}

/// What a policy cost, and what harm was done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Replicas that are starting are paid for, machines likewise.
    pub replica_minutes: u64,
    pub machine_minutes: u64,
    pub overloaded_minutes: u64,
    pub requests: f64,
    /// Requests over capacity: nothing queues and nothing is tried again.
    pub lost: f64,
    /// Minutes with more than nine tenths of the capacity in use.
    pub hot_minutes: u64,
    pub changes: u64,
    /// Replicas that were started, and those of them that had to wait for a machine.
    pub started: u64,
    pub waited_for_machine: u64,
    /// Minutes that those waited beyond their own start-up.
    pub waited_minutes: u64,
    /// Share of what served that was used.
    pub mean_utilization: f64,
}

impl Outcome {
    pub fn lost_share(&self) -> f64 {
        if self.requests > 0.0 { self.lost / self.requests } else { 0.0 }
    }
}

struct Machine {
    ready: usize,
    empty_since: Option<usize>,
}

/// Replicas by when they serve, oldest first; replica `j` sits on machine `j / replicas_per_machine`.
struct State<'a> {
    world: &'a World,
    serves_from: Vec<usize>,
    machines: Vec<Machine>,
}

impl World {
    pub(super) fn check(&self) -> Result<(), String> {
        let checks = [
            ("a start-up", self.start_up_minutes, 0, 60),
            ("a machine's start-up", self.machine_start_up_minutes, 0, 59),
            ("replicas on a machine", self.replicas_per_machine, 1, 1_000),
            ("minutes that an empty machine is kept", self.keep_empty_minutes, 0, 10_000),
            ("most replicas", self.most_replicas, 1, 10_000),
        ];
        match checks.into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(value)) {
            Some((name, value, least, most)) => {
                Err(format!("{name}: {value} cannot be used; give {least} to {most}"))
            }
            None => Ok(()),
        }
    }

    /// Brings a number of replicas into what is allowed.
    pub(super) fn clamped(&self, replicas: usize) -> usize {
        replicas.clamp(1, self.most_replicas)
    }

    pub(super) fn run(
        &self,
        about: &Comparison,
        requests: &[f64],
        minutes: Range<usize>,
        policy: &mut dyn Policy,
        serving: &mut Vec<u16>,
    ) -> Outcome {
        let capacity = about.replica_capacity;
        let first = self.clamped(whole(requests[minutes.start - 1] / about.wanted_load()));
        let mut state = State::new(self, first, minutes.start);
        let mut outcome = Outcome::default();
        let mut served = 0.0;
        for minute in minutes {
            state.remove_empty(minute);
            let wish = policy.wish(&Seen { minute, requests, replicas: state.serves_from.len() });
            let replicas = self.clamped(wish.replicas);
            outcome.changes += u64::from(replicas != state.serves_from.len());
            state.scale(replicas, wish.ahead.div_ceil(self.replicas_per_machine), minute, &mut outcome);
            let ready = state.serves_from.iter().filter(|from| **from <= minute).count();
            let able = ready as f64 * capacity;
            let came = requests[minute];
            if came > able {
                outcome.overloaded_minutes += 1;
                outcome.lost += came - able;
            }
            outcome.hot_minutes += u64::from(came > 0.9 * able);
            outcome.replica_minutes += state.serves_from.len() as u64;
            outcome.machine_minutes += state.machines.len() as u64;
            outcome.requests += came;
            served += able;
            serving.push(u16::try_from(ready).unwrap_or(u16::MAX));
        }
        outcome.mean_utilization = if served > 0.0 { outcome.requests / served } else { 0.0 };
        outcome
    }
}

impl<'a> State<'a> {
    fn new(world: &'a World, replicas: usize, minute: usize) -> Self {
        let machines = replicas.div_ceil(world.replicas_per_machine);
        Self {
            world,
            serves_from: vec![minute; replicas],
            machines: (0..machines).map(|_| Machine { ready: minute, empty_since: None }).collect(),
        }
    }

    /// From the highest machine down, those that were empty long enough.
    fn remove_empty(&mut self, minute: usize) {
        let keep = self.world.keep_empty_minutes;
        while self
            .machines
            .pop_if(|last| last.empty_since.is_some_and(|since| minute - since >= keep))
            .is_some()
        {}
    }

    /// Replicas go at once and come when started; machines that a policy wants ahead come before those that replicas
    /// need.
    fn scale(&mut self, replicas: usize, ahead: usize, minute: usize, outcome: &mut Outcome) {
        let each = self.world.replicas_per_machine;
        self.serves_from.truncate(replicas);
        let ahead = ahead.min(self.world.most_replicas.div_ceil(each));
        let wanted = replicas.div_ceil(each).max(ahead);
        while self.machines.len() < wanted {
            let ready = minute + self.world.machine_start_up_minutes;
            self.machines.push(Machine { ready, empty_since: None });
        }
        for replica in self.serves_from.len()..replicas {
            let ready = self.machines[replica / each].ready.max(minute);
            self.serves_from.push(ready + self.world.start_up_minutes);
            outcome.started += 1;
            outcome.waited_for_machine += u64::from(ready > minute);
            outcome.waited_minutes += (ready - minute) as u64;
        }
        for (at, machine) in self.machines.iter_mut().enumerate() {
            if at < wanted {
                machine.empty_since = None;
            } else {
                machine.empty_since.get_or_insert(minute);
            }
        }
    }
}
