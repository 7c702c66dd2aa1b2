//! Room that is asked for before there are pods, on machines of direct pools.

use crate::{World, pool};
use api::capacity::{CapacityBuffer, ProvisioningRequest};
use controller::{CapacityBuffers, Config, ProvisioningRequests};
use k8s_openapi::api::core::v1::{Pod, PodTemplate};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use model::Policies;
use serde_json::{Value, json};

fn config() -> Config {
    let provisioning_requests = ProvisioningRequests { enabled: true, ..ProvisioningRequests::default() };
    let capacity_buffers = CapacityBuffers { controller: true, pod_injection: true };
    Config { provisioning_requests, capacity_buffers, ..Config::for_simulation(Policies::default(), 7) }
}

async fn make<K>(world: &World, object: Value)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    let objects: Api<K> = Api::namespaced(world.client.clone(), "default");
    objects.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

async fn template(world: &World, name: &str, cpu: &str) {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}});
    let template = json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name},
        "template": {"spec": {"containers": [container]}}});
    make::<PodTemplate>(world, template).await;
}

async fn ask(world: &World, name: &str, template: &str, count: u32) {
    let sets = json!([{"podTemplateRef": {"name": template}, "count": count}]);
    let request = json!({"apiVersion": "autoscaling.x-k8s.io/v1", "kind": "ProvisioningRequest",
        "metadata": {"name": name},
        "spec": {"provisioningClassName": "best-effort-atomic-scale-up.autoscaling.x-k8s.io", "podSets": sets}});
    make::<ProvisioningRequest>(world, request).await;
}

/// The reason of a request's condition, where it has this status.
async fn reason(world: &World, name: &str, kind: &str, holds: &str) -> Option<String> {
    let requests: Api<ProvisioningRequest> = Api::namespaced(world.client.clone(), "default");
    let conditions = requests.get(name).await.unwrap().status?.conditions;
    conditions.into_iter().find(|one| one.type_ == kind && one.status == holds).map(|one| one.reason)
}

#[tokio::test(start_paused = true)]
async fn a_request_is_bought_as_a_whole_and_what_no_machine_can_hold_is_not_bought_in_part() {
    let mut world =
        World::new(pool(&json!({"consolidateAfter": "30s", "budgets": [{"nodes": "100%"}]}))).await;
    let client = world.sandbox.client("tideline");
    world.start_with(&client, config());
    template(&world, "worker", "3").await;
    template(&world, "impossible", "4000").await;
    ask(&world, "huge", "impossible", 1).await;
    ask(&world, "job", "worker", 6).await;
    world
        .until("the job's room", 300, async |world| {
            reason(world, "job", "Provisioned", "True")
                .await
                .is_some_and(|why| why == "CapacityIsProvisioned")
        })
        .await;
    let huge = reason(&world, "huge", "Provisioned", "False").await;
    assert_eq!(huge.as_deref(), Some("CapacityIsNotFound"));
    let bought = world.made();
    assert!(bought > 0 && world.running().await == 0);
    // Empty machines would go after half a minute: these are held.
    tokio::time::sleep(std::time::Duration::from_mins(3)).await;
    assert_eq!((world.claims().await.len(), world.made()), (bought, bought));

    for number in 0..6 {
        let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "3"}}});
        let annotations = json!({"autoscaling.x-k8s.io/consume-provisioning-request": "job"});
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("job-{number}"), "annotations": annotations},
            "spec": {"containers": [container]}});
        make::<Pod>(&world, pod).await;
    }
    world.until("the job runs", 120, async |world| world.running().await == 6).await;
    assert_eq!(world.made(), bought, "nothing more was bought for its pods");
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "default");
    pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    world.until("nothing is left", 900, async |world| world.is_empty().await).await;
}

#[tokio::test(start_paused = true)]
async fn a_buffer_is_kept_and_filled_again_on_machines_of_direct_pools() {
    let mut world =
        World::new(pool(&json!({"consolidateAfter": "30s", "budgets": [{"nodes": "100%"}]}))).await;
    let client = world.sandbox.client("tideline");
    world.start_with(&client, config());
    template(&world, "spare", "1").await;
    let buffer = json!({"apiVersion": "autoscaling.x-k8s.io/v1beta1", "kind": "CapacityBuffer",
        "metadata": {"name": "spare"}, "spec": {"podTemplateRef": {"name": "spare"}, "replicas": 4}});
    make::<CapacityBuffer>(&world, buffer).await;
    world.until("room", 300, async |world| !world.nodes().await.is_empty()).await;
    tokio::time::sleep(std::time::Duration::from_mins(5)).await;
    let (held, made) = (world.claims().await.len(), world.made());
    assert!(held > 0);
    world.deploy_asking(3, json!({"cpu": "1"})).await;
    world.until("pods on the room", 15, async |world| world.running().await == 3).await;
    world.until("room again", 300, async |world| world.made() > made).await;
    let buffers: Api<CapacityBuffer> = Api::namespaced(world.client.clone(), "default");
    buffers.delete("spare", &DeleteParams::default()).await.unwrap();
    world.scale(0).await;
    world.until("nothing is left", 900, async |world| world.is_empty().await).await;
}
