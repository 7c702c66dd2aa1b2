//! The workloads of the benchmarks as Kubernetes JSON, written out by description.
//!
//! Owns their shapes: those of Cluster Autoscaler's own benchmarks, pods with preferences, and Deployments of mixed
//! sizes. What has a random part draws it from a fixed seed, so that every run measures the same input.

use serde_json::{Value, json};
use std::fmt::Write as _;

/// A node of Cluster Autoscaler's benchmarks: ten cores, ten thousand bytes, a hundred pods.
const ALLOCATABLE: &str = r#"{"cpu":"10","memory":"10000","pods":"100"}"#;

/// A `List` under construction.
pub(crate) struct List {
    text: String,
    count: usize,
}

impl List {
    pub(crate) fn new() -> Self {
        Self { text: String::from(r#"{"apiVersion":"v1","kind":"List","items":["#), count: 0 }
    }

    fn add(&mut self, item: &str) {
        if self.count > 0 {
            self.text.push(',');
        }
        self.text.push_str(item);
        self.count += 1;
    }

    pub(crate) fn finish(mut self) -> String {
        self.text.push_str("]}");
        self.text
    }

    /// The pool of the benchmarks' nodes.
    pub(crate) fn pool(&mut self, target: usize) {
        self.add(&format!(
            r#"{{"apiVersion":"tideline.dev/v1alpha1","kind":"SimulatedPool","metadata":{{"name":"group"}},"spec":{{"min":0,"max":10000,"replicas":{target},"template":{{"allocatable":{ALLOCATABLE}}}}}}}"#
        ));
    }

    pub(crate) fn nodes(&mut self, count: usize) {
        for i in 0..count {
            self.add(&format!(
                r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"node-{i}","uid":"node-{i}","labels":{{"kubernetes.io/hostname":"node-{i}","kubernetes.io/os":"linux"}}}},"spec":{{"providerID":"simulated://group/node-{i}"}},"status":{{"allocatable":{ALLOCATABLE}}}}}"#
            ));
        }
    }

    /// Pending pods without owner.
    pub(crate) fn pending(&mut self, prefix: &str, count: usize, cpu: &str, memory: &str) {
        for i in 0..count {
            self.pod(&format!("{prefix}-{i}"), "", &requests(cpu, memory), "");
        }
    }

    /// Running pods that may be evicted, pod i on node i mod `nodes`.
    pub(crate) fn running(&mut self, count: usize, nodes: usize, cpu: &str, memory: &str) {
        let metadata = r#","annotations":{"cluster-autoscaler.kubernetes.io/safe-to-evict":"true"}"#;
        for i in 0..count {
            let spec = format!(r#"{},"nodeName":"node-{}""#, requests(cpu, memory), i % nodes);
            self.pod(&format!("running-{i}"), metadata, &spec, r#","status":{"phase":"Running"}"#);
        }
    }

    /// One pod that wants no pod of its own kind on its node.
    pub(crate) fn lonely(&mut self) {
        let spec = format!(
            r#"{},"affinity":{{"podAntiAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":[{{"topologyKey":"kubernetes.io/hostname","labelSelector":{{"matchLabels":{{"app":"lonely"}}}}}}]}}}}"#,
            requests("100m", "100")
        );
        self.pod("lonely", r#","labels":{"app":"lonely"}"#, &spec, "");
    }

    fn pod(&mut self, name: &str, metadata: &str, spec: &str, status: &str) {
        self.add(&format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","namespace":"default","uid":"{name}"{metadata}}},"spec":{{{spec}}}{status}}}"#
        ));
    }
}

fn requests(cpu: &str, memory: &str) -> String {
    format!(
        r#""containers":[{{"name":"main","resources":{{"requests":{{"cpu":"{cpu}","memory":"{memory}"}}}}}}]"#
    )
}

/// A generator of numbers that is the same everywhere: a linear congruence of Knuth's.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

const CPU: [&str; 5] = ["100m", "250m", "500m", "1000m", "1500m"];
const MEMORY: [&str; 6] = ["100Mi", "256Mi", "512Mi", "1024Mi", "2048Mi", "4096Mi"];

/// Pods that would like a zone that there is (weight 100), not to share a node with others of their app (10; more
/// pods than anyone would buy nodes for), and for every second pod a zone that there is not (1).
pub(crate) fn preferring(count: usize) -> String {
    let mut dice = Dice(1);
    let mut list = List::new();
    for i in 0..count {
        let app = dice.roll(7);
        let zone = dice.roll(3) + 1;
        let missing = if i % 2 == 0 { "test-zone-9" } else { "test-zone-2" };
        let term = |weight: u32, zone: &str| {
            format!(
                r#"{{"weight":{weight},"preference":{{"matchExpressions":[{{"key":"topology.kubernetes.io/zone","operator":"In","values":["{zone}"]}}]}}}}"#
            )
        };
        let spec = format!(
            r#"{},"affinity":{{"nodeAffinity":{{"preferredDuringSchedulingIgnoredDuringExecution":[{},{}]}},"podAntiAffinity":{{"preferredDuringSchedulingIgnoredDuringExecution":[{{"weight":10,"podAffinityTerm":{{"topologyKey":"topology.kubernetes.io/zone","labelSelector":{{"matchLabels":{{"app":"app-{app}"}}}}}}}}]}}}}"#,
            requests(dice.pick(&CPU), dice.pick(&MEMORY)),
            term(100, &format!("test-zone-{zone}")),
            term(1, missing)
        );
        list.pod(&format!("wish-{i}"), &format!(r#","labels":{{"app":"app-{app}"}}"#), &spec, "");
    }
    list.finish()
}

/// Deployments of mixed shapes: a third is spread over zones, a tenth keeps its pods on different nodes, a few want
/// arm machines.
pub(crate) fn deployments(deployments: usize, pods: usize) -> String {
    let cores = ["100m", "250m", "500m", "1", "2", "4", "8"];
    let memory = ["128Mi", "512Mi", "1Gi", "2Gi", "4Gi", "8Gi", "16Gi"];
    let mut dice = Dice(2);
    let mut list = List::new();
    for number in 0..deployments {
        let (cpu, size) = (dice.roll(cores.len()), dice.roll(memory.len()));
        let mut spec = requests(cores[cpu], memory[size]);
        let selector = format!(r#""labelSelector":{{"matchLabels":{{"app":"app-{number}"}}}}"#);
        if dice.roll(3) == 0 {
            let _ = write!(
                spec,
                r#","topologySpreadConstraints":[{{"maxSkew":1,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"DoNotSchedule",{selector}}}]"#
            );
        } else if dice.roll(7) == 0 {
            let _ = write!(
                spec,
                r#","affinity":{{"podAntiAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":[{{"topologyKey":"kubernetes.io/hostname",{selector}}}]}}}}"#
            );
        }
        if dice.roll(20) == 0 {
            spec.push_str(r#","nodeSelector":{"kubernetes.io/arch":"arm64"}"#);
        }
        let metadata = format!(r#","labels":{{"app":"app-{number}"}}"#);
        for i in 0..pods / deployments {
            list.pod(&format!("app-{number}-{i}"), &metadata, &spec, "");
        }
    }
    list.finish()
}

/// A catalogue of so many types, in three zones, on demand and spot: larger ones cost less for what they have.
pub(crate) fn catalogue(types: usize) -> String {
    let mut all = Vec::new();
    for number in 0..types {
        let (cores, per_core) = (1 << (number % 6), 2 << (number / 6 % 3));
        let arch = if number % 5 == 4 { "arm64" } else { "amd64" };
        let price = f64::from(cores) * (0.03 + 0.004 * f64::from(per_core)) * (1.0 - 0.002 * number as f64);
        let offerings: Vec<Value> = (0..6)
            .map(|at| {
                let (zone, capacity) = (at % 3 + 1, ["on-demand", "spot"][at / 3]);
                let price = if capacity == "spot" { price * (0.3 + 0.01 * zone as f64) } else { price };
                json!({"zone": format!("test-zone-{zone}"), "capacityType": capacity, "price": price, "available": true})
            })
            .collect();
        let room =
            json!({"cpu": cores.to_string(), "memory": format!("{}Gi", cores * per_core), "pods": "110"});
        let one_of = |key: &str, values: &[&str]| json!({"key": key, "operator": "In", "values": values});
        let name = format!("type-{number}");
        all.push(json!({
            "name": name, "capacity": room, "allocatable": room, "offerings": offerings,
            "requirements": [
                one_of("kubernetes.io/arch", &[arch]),
                one_of("kubernetes.io/os", &["linux"]),
                one_of("karpenter.sh/capacity-type", &["on-demand", "spot"]),
                one_of("node.kubernetes.io/instance-type", &[&name]),
                one_of("topology.kubernetes.io/zone", &["test-zone-1", "test-zone-2", "test-zone-3"]),
            ],
        }));
    }
    Value::Array(all).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workloads_are_json_and_the_same_each_time() {
        let mut list = List::new();
        list.pool(1);
        list.nodes(2);
        list.pending("p", 3, "1", "1");
        list.running(4, 2, "1", "1");
        list.lonely();
        for text in [list.finish(), preferring(5), deployments(10, 20)] {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(value["items"].as_array().is_some_and(|items| items.len() >= 5));
        }
        assert_eq!(deployments(10, 20), deployments(10, 20));
    }
}
