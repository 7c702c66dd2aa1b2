//! The Cluster API provider against the embedded API: one update lowers and names, marks are taken back, bad
//! annotations freeze.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use clock::Clock;
use clouds::cluster_api::{ClusterApi, RELEASED, pool_id};
use clouds::watching::WatchSettings;
use clouds::{OrderAnswer, Provider};
use futures::StreamExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use model::{Buy, Change, InputState, IntentId, Pool, Release, RemovalCause};
use serde_json::{Value, json};
use std::sync::Arc;

const MIN: &str = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size";
const MAX: &str = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size";

struct World {
    client: Client,
    provider: ClusterApi,
}

async fn world() -> World {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let store = sandbox::store::Store::new(clock, &sandbox::store::StoreOptions::default());
    let client = sandbox::api::Api::new(store).client();
    for (kind, plural) in
        [("MachineDeployment", "machinedeployments"), ("Machine", "machines"), ("Cluster", "clusters")]
    {
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.cluster.x-k8s.io")},
            "spec": {
                "group": "cluster.x-k8s.io", "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": "v1beta1", "served": true, "storage": true,
                              "schema": {"openAPIV3Schema": open}}],
            },
        });
        let crd: DynamicObject = serde_json::from_value(crd).unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
        ));
        Api::all_with(client.clone(), &resource).create(&PostParams::default(), &crd).await.unwrap();
    }
    let settings = WatchSettings { timeout_seconds: 0, ..Default::default() };
    let provider = ClusterApi::new(client.clone(), clock, settings);
    World { client, provider }
}

impl World {
    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("cluster.x-k8s.io", "v1beta1", kind));
        Api::namespaced_with(self.client.clone(), "default", &resource)
    }

    async fn create(&self, kind: &str, object: Value) {
        let mut object = object;
        object["apiVersion"] = json!("cluster.x-k8s.io/v1beta1");
        object["kind"] = json!(kind);
        let object = serde_json::from_value(object).unwrap();
        self.api(kind).create(&PostParams::default(), &object).await.unwrap();
    }

    async fn deployment(&self, annotations: Value, replicas: u32) {
        let spec = json!({"replicas": replicas, "clusterName": "c", "somethingNew": {"kept": true}});
        self.create(
            "MachineDeployment",
            json!({"metadata": {"name": "md", "annotations": annotations}, "spec": spec}),
        )
        .await;
    }

    async fn machine(&self, name: &str, provider_id: Option<&str>) {
        let labels = json!({"cluster.x-k8s.io/deployment-name": "md"});
        let metadata = json!({"name": name, "labels": labels});
        let mut object = json!({"metadata": metadata, "spec": {"clusterName": "c"}});
        if let Some(id) = provider_id {
            object["spec"]["providerID"] = json!(id);
        }
        self.create("Machine", object).await;
    }

    async fn replicas(&self) -> i64 {
        self.api("MachineDeployment").get("md").await.unwrap().data["spec"]["replicas"].as_i64().unwrap()
    }

    /// The pool as the watch first reports it.
    async fn first_pool(&self) -> Option<Arc<Pool>> {
        let mut changes = self.provider.watch();
        let mut pool = None;
        loop {
            match changes.next().await.unwrap() {
                Change::Pool(_, reported) => pool = reported,
                Change::Input(_, InputState::Fresh) => return pool,
                Change::Input(_, state) => panic!("{state:?}"),
                _ => {}
            }
        }
    }
}

fn release(machine: &str, min: u32) -> Release {
    Release {
        intent: IntentId::from("remove-1-0"),
        pool: pool_id("default", "md"),
        machine: machine.into(),
        node: None,
        cause: RemovalCause::UnderUsed,
        min,
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_answer_is_lost_does_not_shrink_twice() {
    let world = world().await;
    world.deployment(json!({MIN: "0", MAX: "5"}), 3).await;
    for name in ["m1", "m2", "m3"] {
        world.machine(name, Some(&format!("cloud:///zone/{name}"))).await;
    }
    for _ in 0..2 {
        let answer = world.provider.release(&release("cloud:///other/m2", 0)).await.unwrap();
        assert_eq!(answer, OrderAnswer::Done);
        assert_eq!(world.replicas().await, 2);
    }
    let machine = world.api("Machine").get("m2").await.unwrap();
    assert!(machine.annotations().contains_key("cluster.x-k8s.io/delete-machine"));
    let deployment = world.api("MachineDeployment").get("md").await.unwrap();
    assert_eq!(deployment.annotations()[RELEASED], "m2");
    assert_eq!(deployment.data["spec"]["somethingNew"], json!({"kept": true}));
    world.api("Machine").delete("m2", &DeleteParams::default()).await.unwrap();
    world.provider.release(&release("cloud:///zone/m1", 0)).await.unwrap();
    let deployment = world.api("MachineDeployment").get("md").await.unwrap();
    assert_eq!(deployment.annotations()[RELEASED], "m1");
}

#[tokio::test(start_paused = true)]
async fn a_refused_release_leaves_no_mark() {
    let world = world().await;
    world.deployment(json!({MIN: "1", MAX: "5"}), 2).await;
    world.machine("m1", None).await;
    let ours =
        json!({"metadata": {"annotations": {"cluster.x-k8s.io/delete-machine": "tideline/remove-1-0"}}});
    world.api("Machine").patch("m1", &PatchParams::default(), &Patch::Merge(&ours)).await.unwrap();
    let answer = world.provider.release(&release("pending-machine-default_m1", 2)).await.unwrap();
    assert!(matches!(answer, OrderAnswer::Obsolete { .. }));
    assert!(world.api("Machine").get("m1").await.unwrap().annotations().is_empty());
    assert_eq!(world.replicas().await, 2);
}

#[tokio::test(start_paused = true)]
async fn purchases_keep_the_maximum_and_pauses() {
    let world = world().await;
    world.deployment(json!({MIN: "0", MAX: "5"}), 1).await;
    let buy = |to| Buy {
        intent: IntentId::from("buy-1-0"),
        pool: pool_id("default", "md"),
        from: 1,
        to,
        max: 5,
        serves: model::Serves::default(),
        launches: Vec::new(),
    };
    assert_eq!(world.provider.buy(&buy(4)).await.unwrap(), OrderAnswer::Done);
    assert_eq!(world.provider.buy(&buy(2)).await.unwrap(), OrderAnswer::Done);
    assert_eq!(world.replicas().await, 4);
    assert!(matches!(world.provider.buy(&buy(6)).await.unwrap(), OrderAnswer::Obsolete { .. }));
    let paused = json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": ""}}});
    world
        .api("MachineDeployment")
        .patch("md", &PatchParams::default(), &Patch::Merge(&paused))
        .await
        .unwrap();
    assert!(matches!(world.provider.buy(&buy(5)).await.unwrap(), OrderAnswer::Obsolete { .. }));
    assert_eq!(world.replicas().await, 4);
}

#[tokio::test(start_paused = true)]
async fn the_watch_reports_bad_annotations_and_paused_clusters_as_frozen() {
    let bad = world().await;
    bad.deployment(json!({MIN: "3", MAX: "2"}), 1).await;
    let pool = bad.first_pool().await.unwrap();
    assert!(pool.frozen.as_ref().is_some_and(|why| why.contains(MIN)), "{:?}", pool.frozen);
    assert_eq!((pool.min, pool.max), (1, 1));

    let none = world().await;
    none.deployment(json!({}), 1).await;
    assert!(none.first_pool().await.is_none());

    let paused = world().await;
    paused.create("Cluster", json!({"metadata": {"name": "c"}, "spec": {"paused": true}})).await;
    paused.deployment(json!({MIN: "0", MAX: "2"}), 1).await;
    let pool = paused.first_pool().await.unwrap();
    assert!(pool.frozen.as_ref().is_some_and(|why| why.contains("Cluster c")), "{:?}", pool.frozen);
}
