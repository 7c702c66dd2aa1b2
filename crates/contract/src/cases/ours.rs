//! Our own definitions as an API server takes them: accepted, defaulted, checked, and ordered by.
//!
//! Owns the kinds of the simulated cloud. Leaves custom resources in general to `custom`.

use super::cases;
use super::custom::DEFINITIONS;
use crate::world::{APPLY, World, generation};
use serde_json::{Value, json};

cases! { ApiServer,
    our_definitions_serve_the_simulated_cloud: [
        "patch customresourcedefinitions.apiextensions.k8s.io apply", "create custom", "update custom", "patch custom apply",
        "update custom/scale",
    ];
}

async fn our_definitions_serve_the_simulated_cloud(w: World) {
    for definition in api::crds() {
        let name = definition.metadata.name.clone().unwrap();
        let path = format!("{DEFINITIONS}/{name}");
        let mut wanted = serde_json::to_value(&definition).unwrap();
        wanted["apiVersion"] = json!("apiextensions.k8s.io/v1");
        wanted["kind"] = json!("CustomResourceDefinition");
        w.patch(&format!("{path}?fieldManager=tideline&force=true"), APPLY, wanted).await.ok();
        w.until(&path, |answer| {
            let conditions = answer.body["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|c| c["type"] == "Established" && c["status"] == "True")
        })
        .await;
    }
    let path = "/apis/tideline.dev/v1alpha1/simulatedpools";
    w.until(path, |answer| answer.code == 200).await;
    let pool = |spec: Value| {
        json!({
            "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": w.unique}, "spec": spec
        })
    };
    let template = json!({"allocatable": {"cpu": "4", "memory": "16Gi"}});
    w.post(path, &pool(json!({"min": 3, "max": 2, "template": template}))).await.invalid(&["spec"]);
    w.post(path, &pool(json!({"max": -1, "template": template}))).await.invalid(&["spec.max"]);
    let mut made =
        w.post(path, &pool(json!({"max": 5, "replicas": 2, "template": template}))).await.code(201);
    assert_eq!((made["spec"]["min"].as_i64(), generation(&made)), (Some(0), 1));
    let one = format!("{path}/{}", w.unique);
    // The order to let a machine go is one guarded write.
    made["spec"]["replicas"] = json!(1);
    made["spec"]["terminate"] = json!([format!("{}-1", w.unique)]);
    let stale = made.clone();
    let ordered = w.put(&one, &made).await.code(200);
    assert_eq!((ordered["spec"]["replicas"].as_i64(), generation(&ordered)), (Some(1), 2));
    w.put(&one, &stale).await.conflict();
    let mut scale = w.get(&format!("{one}/scale")).await.ok();
    scale["spec"]["replicas"] = json!(4);
    w.put(&format!("{one}/scale"), &scale).await.code(200);
    let machine = json!({
        "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedMachine", "metadata": {"name": w.unique},
        "spec": {"pool": w.unique, "providerID": format!("simulated://{}/1", w.unique)}
    });
    let path =
        format!("/apis/tideline.dev/v1alpha1/simulatedmachines/{}?fieldManager=cloud&force=true", w.unique);
    w.patch(&path, APPLY, machine).await.code(201);
}
