//! Objects and texts from outside with mistakes made by chance: each is read or refused, and nothing ever panics.
//!
//! `TIDELINE_CHANCE=1000000 cargo test -p intake --test chance` makes more of them, as the nightly script does.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use intake::slim;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Mistakes for each kind of object, and texts for each parser.
fn tries() -> u64 {
    std::env::var("TIDELINE_CHANCE").map_or(1500, |text| text.parse().unwrap())
}

/// The last rounds of splitmix64: numbers without a pattern, the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut state = self.0;
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((state ^ (state >> 31)) % bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// What people, and other programs, put where something else belongs.
    fn odd(&mut self) -> Value {
        const TEXTS: [&str; 26] = [
            "",
            " ",
            "0",
            "-1",
            "-0",
            "1e400",
            "-1e9",
            "1e-9",
            "9223372036854775808",
            "9223372036854775807Ei",
            "1.5.2",
            "0x10",
            "1_000",
            "١٢",
            "12Qi",
            ".",
            "1h-1m",
            "999999999999999999h",
            "In",
            "Exists",
            "*/0 * * * *",
            "99 99 99 99 99",
            "2026-13-41T99:99:99Z",
            "0001-01-01T00:00:00Z",
            "a/b/c",
            "\u{0}\u{feff}é",
        ];
        match self.below(9) {
            0 => Value::Null,
            1 => json!([]),
            2 => json!({}),
            3 => json!(*self.pick(&[i64::MIN, -1, 0, 1, 65536, i64::MAX])),
            4 => json!(u64::MAX),
            5 => json!(*self.pick(&[1e308, -0.5, 1e-300])),
            6 => json!(self.below(2) == 0),
            7 => json!("x".repeat(1 << self.below(12))),
            _ => json!(*self.pick(&TEXTS)),
        }
    }

    /// One mistake somewhere in an object.
    fn spoil(&mut self, value: &mut Value) {
        let deeper = self.below(8) > 0;
        match value {
            Value::Object(fields) if deeper && !fields.is_empty() => {
                let key = fields.keys().nth(self.below(fields.len())).unwrap().clone();
                if self.below(12) == 0 {
                    fields.remove(&key);
                } else {
                    self.spoil(fields.get_mut(&key).unwrap());
                }
            }
            Value::Array(items) if deeper && !items.is_empty() => {
                let at = self.below(items.len());
                if self.below(12) == 0 {
                    items.push(items[at].clone());
                } else {
                    self.spoil(&mut items[at]);
                }
            }
            other => *other = self.odd(),
        }
    }
}

/// Reads the object with one to three mistakes, again and again.
fn spoiled(seed: u64, whole: &Value, read: impl Fn(Value)) {
    read(whole.clone());
    let mut chance = Chance(seed);
    for _ in 0..tries() {
        let mut object = whole.clone();
        for _ in 0..=chance.below(3) {
            chance.spoil(&mut object);
        }
        read(object);
    }
}

/// As a watch reads it: what does not decode is refused before anybody looks at it.
fn decoded<K: DeserializeOwned>(read: impl Fn(K)) -> impl Fn(Value) {
    move |object| {
        if let Ok(object) = serde_json::from_value(object) {
            read(object);
        }
    }
}

fn metadata() -> Value {
    json!({
        "name": "web-1", "namespace": "shop", "uid": "u", "generation": 3, "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
        "labels": {"app": "web", "tideline.dev/pool": "a", "kubernetes.io/hostname": "n"},
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "cluster-autoscaler.kubernetes.io/pod-scale-up-delay": "5m",
                        "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "a,b"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "o", "controller": true}],
    })
}

fn pod_spec() -> Value {
    let term = json!({"labelSelector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
                      "topologyKey": "zone", "namespaces": ["x"], "namespaceSelector": {}, "matchLabelKeys": ["v"]});
    let nodes = json!({"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}], "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]});
    json!({
        "nodeName": "n", "nodeSelector": {"disk": "ssd"}, "priority": 10, "hostNetwork": false, "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "schedulingGates": [{"name": "g"}],
        "containers": [{"name": "c", "resources": {"requests": {"cpu": "250m", "memory": "1.5Gi", "example.com/x": "2"}, "limits": {"cpu": "1"}},
                        "ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": "0.0.0.0", "protocol": "TCP"}]}],
        "initContainers": [{"name": "i", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1e2m"}}}],
        "overhead": {"cpu": "10m"}, "resources": {"requests": {"cpu": "1"}}, "resourceClaims": [{"name": "gpu"}],
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}],
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [nodes]},
                             "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "preference": nodes}]},
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}},
        "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2,
                                       "labelSelector": {"matchLabels": {"app": "web"}}, "nodeAffinityPolicy": "Honor"}],
        "volumes": [{"name": "a", "emptyDir": {"medium": "Memory"}}, {"name": "b", "persistentVolumeClaim": {"claimName": "c"}},
                    {"name": "d", "hostPath": {"path": "/"}}, {"name": "e", "ephemeral": {}}, {"name": "f", "iscsi": {"iqn": "q"}}],
    })
}

fn conditions() -> Value {
    json!([{"type": "Ready", "status": "True", "reason": "r", "lastTransitionTime": "2026-01-01T00:00:00Z"},
           {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

#[test]
fn pods() {
    let resources = json!({"requests": {"cpu": "2"}});
    let pod = json!({"metadata": metadata(), "spec": pod_spec(), "status": {
        "phase": "Running", "reason": "Evicted", "nominatedNodeName": "m", "conditions": conditions(), "resources": resources,
        "containerStatuses": [{"name": "c", "resources": resources, "allocatedResources": {"cpu": "1"}}]}});
    let read = |pod: slim::Pod| drop(intake::pod(&pod));
    spoiled(1, &pod, decoded(read));
}

#[test]
fn nodes() {
    let amounts = json!({"cpu": "3920m", "memory": "15842040Ki", "pods": "110", "hugepages-2Mi": "0", "ephemeral-storage": "1e10"});
    let node = json!({"metadata": metadata(), "spec": {"providerID": "simulated://a/b", "unschedulable": true,
                      "taints": [{"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}]},
                      "status": {"allocatable": amounts, "capacity": amounts, "conditions": conditions(),
                                 "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    let read = |node: slim::Node| drop(intake::node(&node));
    spoiled(2, &node, decoded(read));
}

#[test]
fn workloads_and_budgets() {
    let template = json!({"metadata": metadata(), "spec": pod_spec()});
    let set = json!({"metadata": metadata(), "spec": {"replicas": 3, "podManagementPolicy": "Parallel", "template": template,
                     "parallelism": 2, "completions": 5, "suspend": false, "selector": {"matchLabels": {"app": "web"}},
                     "minAvailable": "50%", "maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
                     "status": {"conditions": conditions(), "succeeded": 1, "disruptionsAllowed": 1, "observedGeneration": 3}});
    spoiled(3, &set, decoded(|set: slim::DaemonSet| drop(intake::daemon_set(&set))));
    spoiled(4, &set, decoded(|set: slim::ReplicaSet| drop(intake::replica_set(&set))));
    spoiled(5, &set, decoded(|set: slim::StatefulSet| drop(intake::stateful_set(&set))));
    spoiled(6, &set, decoded(|job: slim::Job| drop(intake::job(&job))));
    spoiled(7, &set, decoded(|set: slim::ReplicationController| drop(intake::replication_controller(&set))));
    spoiled(8, &set, decoded(|pdb: slim::PodDisruptionBudget| drop(intake::pdb(&pdb))));
    spoiled(9, &set, decoded(|namespace: slim::Namespace| drop(intake::namespace(&namespace))));
}

#[test]
fn what_tells_of_pods_to_come_and_what_rules_say() {
    let template = json!({"metadata": metadata(), "spec": pod_spec()});
    let job = json!({"metadata": metadata(), "spec": {"schedule": "*/5 3-8 * * 1-5", "timeZone": "Europe/Berlin", "suspend": false,
                     "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": {"parallelism": 3, "completions": 9, "template": template}}},
                     "status": {"active": [{}]}});
    spoiled(10, &job, decoded(|job: slim::CronJob| drop(intake::schedule_outlook(&job))));
    let ihpa = json!({"metadata": metadata(), "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}},
                      "status": {"outlook": [{"time": "2026-01-01T00:00:00Z", "replicas": 4, "provider": "Cron"}]}});
    let read = |ihpa: slim::IntelligentHorizontalPodAutoscaler| drop(intake::portraits_outlook(&ihpa));
    spoiled(11, &ihpa, decoded(read));
    let rules = json!({"metadata": metadata(), "spec": {"disable": false, "dryRun": true, "timeZone": "Asia/Shanghai", "targetRefs": [{"name": "a"}],
                       "rules": [{"ruleName": "night", "type": "Cron", "disable": false, "cronTrigger": {"schedule": "47 20 * * *"},
                                  "action": {"type": "ScaleUp", "unit": "Node", "value": 3}},
                                 {"ruleName": "busy", "type": "Metric", "metricTrigger": {"metricName": "Cpu", "metricOperation": ">", "metricValue": "70"},
                                  "action": {"type": "ScaleUp", "unit": "Percent", "value": 10}}]}});
    spoiled(12, &rules, decoded(|rules: slim::HorizontalNodeAutoscaler| drop(intake::rule_set(&rules))));
    let pool = json!({"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "p"}, "spec": {
        "weight": 5, "limits": {"cpu": "100"}, "disruption": {"consolidateAfter": "30s", "budgets": [{"nodes": "10%", "schedule": "0 9 * * *", "duration": "8h"}]},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}], "expireAfter": "720h",
            "requirements": [{"key": "cores", "operator": "Gt", "values": ["4"], "minValues": 2}]}}}});
    spoiled(13, &pool, |pool| drop(intake::node_pool(&pool)));
}

#[test]
fn volumes() {
    let capacity = json!({"storage": "10Gi"});
    let terms = json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]);
    let volume = json!({"metadata": metadata(), "spec": {"storageClassName": "fast", "volumeName": "v", "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": capacity}, "volumeMode": "Block", "selector": {"matchLabels": {"a": "b"}}, "capacity": capacity,
                        "claimRef": {"namespace": "shop", "name": "c", "uid": "u"}, "csi": {"driver": "d", "volumeHandle": "h"},
                        "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}, "status": {"phase": "Bound"}});
    spoiled(
        14,
        &volume,
        decoded(|claim: slim::storage::PersistentVolumeClaim| drop(intake::volume_claim(&claim))),
    );
    spoiled(
        15,
        &volume,
        decoded(|volume: slim::storage::PersistentVolume| drop(intake::persistent_volume(&volume))),
    );
    let class = json!({"metadata": metadata(), "provisioner": "d", "volumeBindingMode": "WaitForFirstConsumer", "storageClassName": "fast",
                       "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}],
                       "nodeTopology": {"matchLabels": {"zone": "a"}}, "capacity": "10Gi", "maximumVolumeSize": "1Gi"});
    spoiled(16, &class, decoded(|class: slim::storage::StorageClass| drop(intake::storage_class(&class))));
    spoiled(
        17,
        &class,
        decoded(|one: slim::storage::CsiStorageCapacity| drop(intake::storage_capacity(&one))),
    );
}

/// Texts of the letters that numbers, units, times and schedules are made of.
#[test]
fn quantities_and_durations() {
    const LETTERS: [&str; 30] = [
        "0",
        "1",
        "5",
        "9",
        "00",
        "99999999999999999999",
        ".",
        "-",
        "+",
        "e",
        "E",
        "m",
        "u",
        "n",
        "k",
        "Ki",
        "Mi",
        "Gi",
        "Ei",
        "P",
        "h",
        "s",
        "ms",
        "µs",
        "ns",
        " ",
        "_",
        "é",
        "\u{0}",
        "١",
    ];
    let mut chance = Chance(18);
    for _ in 0..tries() * 10 {
        let text: String = (0..chance.below(7)).map(|_| *chance.pick(&LETTERS)).collect();
        let whole = intake::quantity::whole(&text);
        if let (Ok(whole), Ok(milli)) = (&whole, intake::quantity::milli(&text)) {
            // Both round up, and both stop at the largest number.
            assert!(
                milli == u64::MAX || milli.div_ceil(1000) == *whole,
                "{text}: {milli} milli, {whole} whole"
            );
        }
        drop(intake::go_duration(&text));
    }
}

/// Files, cut off anywhere and with any bytes in them.
#[test]
fn files() {
    let whole = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: c}]\n---\n{\"kind\": \"List\", \"items\": [{\"kind\": \"Node\"}]}\n";
    let mut chance = Chance(19);
    for _ in 0..tries() {
        let mut bytes = whole.as_bytes().to_vec();
        for _ in 0..=chance.below(4) {
            let at = chance.below(bytes.len());
            match chance.below(3) {
                0 => bytes[at] = *chance.pick(b"\0\xff{}[]:-&*!|>'\"\n\t#%@`"),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.splice(at..at, whole.bytes().skip(at / 2).take(9)).for_each(drop),
            }
        }
        drop(intake::files::read_objects("chance", &mut bytes.as_slice()));
    }
}
