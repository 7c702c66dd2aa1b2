//! What a scenario's values may be: bounds, and the names that must agree.
//!
//! Owns the limits; each refusal names the field and the fix.

use super::{BootSpec, FaultKind, PodSpec, PoolSpec, RangeSpec, Scenario, Span, TaintSpec};
use crate::SimulatorError;
use crate::trace::is_object_name;
use std::collections::{BTreeMap, BTreeSet};

pub const MOST_POOLS: usize = 500;
/// Of one pool, and of all pools together.
pub const MOST_MACHINES: u32 = 100_000;
const MOST_PARTS: usize = 500;
const MOST_REPLICAS: u32 = 50_000;
const MOST_OBJECTS: usize = 10_000;
const MOST_PRICE: f64 = 1_000_000.0;
const MOST_BOOT_SECONDS: u32 = 86_400;
/// Changes that a generator may make over the whole run; more would not end in a sensible time.
const MOST_CHANGES: u64 = 2_000_000;

type Found = Result<(), (String, String)>;

fn wrong(field: impl Into<String>, problem: impl Into<String>) -> Found {
    Err((field.into(), problem.into()))
}

impl Scenario {
    /// Checks everything that the format alone cannot.
    pub fn check(&self, file: &str) -> Result<(), SimulatorError> {
        self.find_problem().map_err(|(field, problem)| SimulatorError::Field {
            file: file.to_owned(),
            field,
            problem,
        })
    }

    fn find_problem(&self) -> Found {
        if self.duration.is_none() && self.trace.is_none() {
            return wrong(
                "duration",
                "missing: write how long to simulate, such as 7d (a trace brings its own)",
            );
        }
        if self.duration == Some(Span::default()) {
            return wrong("duration", "is 0: write how long to simulate, such as 7d");
        }
        if self.start.as_second() < 0 || self.start.as_second() > 7_258_118_400 {
            return wrong("start", "must lie between 1970 and 2200");
        }
        check_pools(&self.pools)?;
        self.check_faults()?;
        self.check_workload()
    }

    fn check_faults(&self) -> Found {
        if self.faults.len() > MOST_PARTS {
            return wrong("faults", format!("{} of them: at most {MOST_PARTS}", self.faults.len()));
        }
        for (at, fault) in self.faults.iter().enumerate() {
            let field = |name: &str| format!("faults[{at}].{name}");
            if fault.until.is_some_and(|until| until <= fault.from) {
                return wrong(field("until"), "is not after `from`: the window is empty");
            }
            if fault.percent == 0 || fault.percent > 100 {
                return wrong(field("percent"), format!("{} is not between 1 and 100", fault.percent));
            }
            if fault.every.seconds == 0 {
                return wrong(field("every"), "is 0: write the mean time between two events, such as 1h");
            }
            if fault.delay > Span::hours(1) {
                return wrong(field("delay"), "is over 1h: no client waits that long");
            }
            if let Some(pool) = &fault.pool {
                let machines = matches!(
                    fault.kind,
                    FaultKind::NeverJoins
                        | FaultKind::MachineFails
                        | FaultKind::NotReady
                        | FaultKind::Vanishes
                );
                if !machines {
                    return wrong(
                        field("pool"),
                        format!("has no meaning for {}: remove it", fault.kind.name()),
                    );
                }
                // With a trace the pools may come from its nodes, which are not known yet.
                if self.trace.is_none() && !self.pools.iter().any(|p| p.name == *pool) {
                    return wrong(field("pool"), format!("\"{pool}\" is not declared under `pools`"));
                }
            }
        }
        Ok(())
    }

    fn check_workload(&self) -> Found {
        let work = &self.workload;
        let parts = work.waves.len() + work.bursts.len() + work.jobs.len();
        if parts > MOST_PARTS {
            return wrong("workload", format!("{parts} generators: at most {MOST_PARTS}"));
        }
        if work.objects.len() > MOST_OBJECTS {
            return wrong(
                "workload.objects",
                format!("{} of them: at most {MOST_OBJECTS}", work.objects.len()),
            );
        }
        let seconds = self.duration.map_or(super::span::LONGEST_SECONDS, |span| span.seconds);
        let mut names = BTreeSet::new();
        for (at, wave) in work.waves.iter().enumerate() {
            let field = |name: &str| format!("workload.waves[{at}].{name}");
            check_name(&field("name"), &wave.namespace, &wave.name, &mut names)?;
            check_replicas(&field("mean"), wave.mean.saturating_add(wave.daily_amplitude))?;
            if wave.peak_hour > 23 {
                return wrong(field("peakHour"), format!("{} is not an hour: 0 to 23", wave.peak_hour));
            }
            if wave.noise_percent > 100 {
                return wrong(field("noisePercent"), format!("{} is over 100", wave.noise_percent));
            }
            check_rate(&field("step"), wave.step, seconds)?;
            check_pod(&field("pod"), &wave.pod)?;
        }
        for (at, burst) in work.bursts.iter().enumerate() {
            let field = |name: &str| format!("workload.bursts[{at}].{name}");
            check_name(&field("name"), &burst.namespace, &burst.name, &mut names)?;
            check_range(&field("replicas"), burst.replicas)?;
            check_rate(&field("every"), burst.every, seconds)?;
            if burst.lasts.seconds == 0 {
                return wrong(field("lasts"), "is 0: write how long a burst lasts, such as 20m");
            }
            check_pod(&field("pod"), &burst.pod)?;
        }
        for (at, job) in work.jobs.iter().enumerate() {
            let field = |name: &str| format!("workload.jobs[{at}].{name}");
            check_name(&field("name"), &job.namespace, &job.name, &mut names)?;
            check_range(&field("pods"), job.pods)?;
            check_rate(&field("every"), job.every, seconds)?;
            if job.runs.min > job.runs.max {
                return wrong(field("runs"), "min is over max: swap them");
            }
            check_pod(&field("pod"), &job.pod)?;
        }
        for (at, object) in work.objects.iter().enumerate() {
            let has = |name: &str| object.get(name).is_some_and(serde_json::Value::is_string);
            if !has("apiVersion") || !has("kind") {
                return wrong(format!("workload.objects[{at}]"), "has no apiVersion or no kind: add them");
            }
        }
        Ok(())
    }
}

/// Checks pools on their own: those of a scenario, and those made from a trace's nodes.
pub(crate) fn check_pools(pools: &[PoolSpec]) -> Found {
    if pools.len() > MOST_POOLS {
        return wrong("pools", format!("{} of them: at most {MOST_POOLS}", pools.len()));
    }
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let mut machines = 0_u32;
    for (at, pool) in pools.iter().enumerate() {
        let field = |name: &str| format!("pools[{at}].{name}");
        // The number of a machine is appended, and the whole is a node's name and label.
        if !is_object_name(&pool.name) || pool.name.len() > 50 {
            return wrong(
                field("name"),
                format!("\"{}\" is not a name: lower-case letters, digits and -, at most 50", pool.name),
            );
        }
        if let Some(before) = first.insert(&pool.name, at) {
            return wrong(
                field("name"),
                format!("\"{}\" is taken by pools[{before}]: give each pool its own name", pool.name),
            );
        }
        if pool.min > pool.max {
            return wrong(
                field("min"),
                format!("{} is over max {}: lower it or raise max", pool.min, pool.max),
            );
        }
        machines = machines.saturating_add(pool.max);
        if machines > MOST_MACHINES {
            return wrong(field("max"), format!("all pools together exceed {MOST_MACHINES} machines"));
        }
        check_boot(&field("bootSeconds"), pool.boot_seconds)?;
        if let Some(price) = pool.price_per_hour_usd
            && !(0.0..=MOST_PRICE).contains(&price)
        {
            return wrong(field("pricePerHourUsd"), format!("{price} is not between 0 and {MOST_PRICE}"));
        }
        for name in ["cpu", "memory"] {
            if !pool.template.allocatable.contains_key(name) {
                return wrong(field("template.allocatable"), format!("has no {name}: add it"));
            }
        }
        check_quantities(&field("template.allocatable"), &pool.template.allocatable)?;
        for (taint_at, taint) in pool.template.taints.iter().enumerate() {
            check_taint(&field(&format!("template.taints[{taint_at}]")), taint)?;
        }
    }
    Ok(())
}

fn check_taint(field: &str, taint: &TaintSpec) -> Found {
    if taint.key.is_empty() {
        return wrong(format!("{field}.key"), "is empty: name the taint");
    }
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&taint.effect.as_str()) {
        return wrong(
            format!("{field}.effect"),
            format!("\"{}\" is not NoSchedule, PreferNoSchedule or NoExecute", taint.effect),
        );
    }
    Ok(())
}

fn check_boot(field: &str, boot: BootSpec) -> Found {
    if boot.min > boot.max {
        return wrong(format!("{field}.min"), format!("{} is over max {}: swap them", boot.min, boot.max));
    }
    if boot.max > MOST_BOOT_SECONDS {
        return wrong(format!("{field}.max"), format!("{} is over a day ({MOST_BOOT_SECONDS})", boot.max));
    }
    Ok(())
}

fn check_name(field: &str, namespace: &str, name: &str, taken: &mut BTreeSet<(String, String)>) -> Found {
    // Replica sets and pods append to it.
    if !is_object_name(name) || name.len() > 40 {
        return wrong(
            field,
            format!("\"{name}\" is not a name: lower-case letters, digits and -, at most 40"),
        );
    }
    if !is_object_name(namespace) || namespace.len() > 63 {
        return wrong(
            field.replace(".name", ".namespace"),
            format!("\"{namespace}\" is not a namespace's name"),
        );
    }
    if !taken.insert((namespace.to_owned(), name.to_owned())) {
        return wrong(field, format!("\"{name}\" is taken in namespace {namespace}: choose another"));
    }
    Ok(())
}

fn check_replicas(field: &str, replicas: u32) -> Found {
    if replicas > MOST_REPLICAS {
        return wrong(field, format!("{replicas} replicas: at most {MOST_REPLICAS}"));
    }
    Ok(())
}

fn check_range(field: &str, range: RangeSpec) -> Found {
    if range.min > range.max {
        return wrong(format!("{field}.min"), format!("{} is over max {}: swap them", range.min, range.max));
    }
    check_replicas(&format!("{field}.max"), range.max)
}

fn check_rate(field: &str, every: Span, seconds: u64) -> Found {
    if every.seconds == 0 {
        return wrong(field, "is 0: write a length of time such as 5m");
    }
    if seconds / every.seconds > MOST_CHANGES {
        return wrong(field, format!("{every} makes over {MOST_CHANGES} changes: make it longer"));
    }
    Ok(())
}

fn check_pod(field: &str, pod: &PodSpec) -> Found {
    if pod.requests.is_empty() {
        return wrong(format!("{field}.requests"), "is empty: write what a pod asks for, such as cpu: 500m");
    }
    check_quantities(&format!("{field}.requests"), &pod.requests)
}

fn check_quantities(field: &str, quantities: &BTreeMap<String, String>) -> Found {
    for (name, text) in quantities {
        if let Some(problem) = quantity_problem(name, text) {
            return wrong(format!("{field}.{name}"), problem);
        }
    }
    Ok(())
}

/// Why a quantity is of no use: its form, a sign, or an amount beyond any machine.
fn quantity_problem(name: &str, text: &str) -> Option<String> {
    // More than any machine has, and far from overflow in sums.
    let (amount, most, written) = match name {
        "cpu" => (intake::quantity::milli(text), 1_000_000_000, "1000000 cores"),
        "memory" | "ephemeral-storage" => (intake::quantity::whole(text), 1 << 50, "1Pi"),
        _ => (intake::quantity::whole(text), 1_000_000, "1000000"),
    };
    match amount {
        Err(error) => Some(error.to_string()),
        Ok(amount) => (amount > most).then(|| format!("{text} is absurd: at most {written}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
seed: 7
duration: 2d
pools:
- name: general
  max: 10
  template: {allocatable: {cpu: 4, memory: 16Gi}}
policies: {unneededTime: 5m}
workload:
  waves:
  - name: web
    mean: 10
    dailyAmplitude: 5
    pod: {requests: {cpu: 500m, memory: 1Gi}}
";

    fn problem(text: &str) -> String {
        Scenario::parse("s.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_small_scenario_reads_with_defaults() {
        let scenario = Scenario::parse("s.yaml", GOOD).unwrap();
        assert_eq!(scenario.pools[0].template.allocatable["cpu"], "4");
        assert_eq!(scenario.policies.unneeded_time, jiff::SignedDuration::from_mins(5));
        assert_eq!(scenario.workload.waves[0].peak_hour, 14);
    }

    #[test]
    fn each_slip_is_refused_with_its_field() {
        for (from, to, says) in [
            ("seed: 7", "sede: 7", "sede"),
            ("  max: 10", "  max: 10\n  min: 11", "pools[0].min: 11 is over max 10"),
            ("  max: 10", "  max: -1", "line 6"),
            ("16Gi", "-16Gi", "pools[0].template.allocatable.memory"),
            ("16Gi", "16GB", "unknown suffix"),
            ("cpu: 4,", "cpu: 99999999999999,", "is absurd"),
            ("cpu: 4, ", "", "has no cpu"),
            ("duration: 2d", "duration: 0s", "duration: is 0"),
            ("duration: 2d", "duration: 2 weeks", "not a length of time"),
            ("duration: 2d\n", "", "duration: missing"),
            ("name: general", "name: General", "pools[0].name"),
            ("name: web", "name: ''", "workload.waves[0].name"),
            ("mean: 10", "mean: 60000", "at most 50000"),
            ("requests: {cpu: 500m, memory: 1Gi}", "requests: {}", "requests: is empty"),
            ("unneededTime: 5m", "unneededTim: 5m", "unneededTim"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from}");
            let problem = problem(&text);
            assert!(problem.contains(says), "{to}: {problem}");
        }
    }

    #[test]
    fn duplicate_pools_are_refused() {
        let pool = "- name: general\n  max: 10\n  template: {allocatable: {cpu: 4, memory: 16Gi}}\n";
        let text = GOOD.replace(pool, &format!("{pool}{pool}"));
        assert!(
            problem(&text).contains("pools[1].name: \"general\" is taken by pools[0]"),
            "{}",
            problem(&text)
        );
    }

    #[test]
    fn cycles_and_alias_bombs_end_in_an_error() {
        assert!(problem("name: &a [*a]\n").contains("s.yaml"));
        let mut bomb = String::from("name: x\na0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let inner = vec![format!("*a{}", level - 1); 9].join(",");
            bomb = format!("{bomb}a{level}: &a{level} [{inner}]\n");
        }
        assert!(!problem(&bomb).is_empty());
    }
}
