//! The simulated provider against the embedded API: orders are idempotent, guarded and never too much.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::simulated::{SimulatedMachine, SimulatedPool};
use clock::Clock;
use clouds::simulated::{Simulated, pool_id};
use clouds::watching::WatchSettings;
use clouds::{OrderAnswer, Provider};
use futures::StreamExt as _;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use model::{Buy, Change, InputState, IntentId, Lower, MachineState, Release, RemovalCause};
use serde_json::json;

struct World {
    client: Client,
    provider: Simulated,
}

async fn world() -> World {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let store = sandbox::store::Store::new(clock, &sandbox::store::StoreOptions::default());
    let client = sandbox::api::Api::new(store).client();
    let crds = Api::all(client.clone());
    for crd in api::crds() {
        crds.create(&PostParams::default(), &crd).await.unwrap();
    }
    let settings = WatchSettings { timeout_seconds: 0, ..Default::default() };
    let provider = Simulated::new(client.clone(), clock, settings);
    World { client, provider }
}

impl World {
    fn pools(&self) -> Api<SimulatedPool> {
        Api::all(self.client.clone())
    }

    fn machines(&self) -> Api<SimulatedMachine> {
        Api::all(self.client.clone())
    }

    async fn pool(&self, min: i32, max: i32, replicas: i32) {
        let pool = json!({
            "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": "a"},
            "spec": {"min": min, "max": max, "replicas": replicas,
                     "template": {"allocatable": {"cpu": "4", "memory": "8Gi"}}},
        });
        let pool = serde_json::from_value(pool).unwrap();
        self.pools().create(&PostParams::default(), &pool).await.unwrap();
    }

    async fn machine(&self, name: &str) {
        let machine = json!({
            "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedMachine",
            "metadata": {"name": name, "labels": {"tideline.dev/pool": "a"}},
            "spec": {"pool": "a", "providerID": format!("simulated://a/{name}")},
        });
        let machine = serde_json::from_value(machine).unwrap();
        self.machines().create(&PostParams::default(), &machine).await.unwrap();
    }

    async fn spec(&self) -> (i32, Vec<String>) {
        let spec = self.pools().get("a").await.unwrap().spec;
        (spec.replicas, spec.terminate)
    }
}

fn buy(to: u32) -> Buy {
    Buy {
        intent: IntentId::from("buy-1-0"),
        pool: pool_id("a"),
        from: 0,
        to,
        max: 10,
        serves: model::Serves::default(),
        launches: Vec::new(),
    }
}

fn lower(from: u32, to: u32) -> Lower {
    Lower { intent: IntentId::from("lower-1-0"), pool: pool_id("a"), from, to }
}

fn release(machine: &str) -> Release {
    Release {
        intent: IntentId::from("remove-1-0"),
        pool: pool_id("a"),
        machine: format!("simulated://a/{machine}").into(),
        node: None,
        cause: RemovalCause::Empty,
        min: 0,
    }
}

fn is_obsolete(answer: &OrderAnswer) -> bool {
    matches!(answer, OrderAnswer::Obsolete { .. })
}

#[tokio::test(start_paused = true)]
async fn a_purchase_sent_twice_is_one_and_never_lowers() {
    let world = world().await;
    assert!(is_obsolete(&world.provider.buy(&buy(3)).await.unwrap()));
    world.pool(0, 5, 1).await;
    for _ in 0..2 {
        assert_eq!(world.provider.buy(&buy(3)).await.unwrap(), OrderAnswer::Done);
        assert_eq!(world.spec().await.0, 3);
    }
    assert_eq!(world.provider.buy(&buy(2)).await.unwrap(), OrderAnswer::Done);
    assert_eq!(world.spec().await.0, 3);
    assert!(is_obsolete(&world.provider.buy(&buy(6)).await.unwrap()));
    assert_eq!(world.spec().await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_release_names_its_machine_once_and_keeps_the_minimum() {
    let world = world().await;
    world.pool(1, 5, 3).await;
    for name in ["a-1", "a-2", "a-3"] {
        world.machine(name).await;
    }
    for _ in 0..2 {
        assert_eq!(world.provider.release(&release("a-2")).await.unwrap(), OrderAnswer::Done);
        assert_eq!(world.spec().await, (2, vec!["a-2".to_owned()]));
    }
    // The machine went meanwhile: its name is taken off the list with the next write.
    world.machines().delete("a-2", &DeleteParams::default()).await.unwrap();
    assert_eq!(world.provider.release(&release("a-3")).await.unwrap(), OrderAnswer::Done);
    assert_eq!(world.spec().await, (1, vec!["a-3".to_owned()]));
    assert!(is_obsolete(&world.provider.release(&release("a-1")).await.unwrap()));
    // One that is gone is done, even at the minimum.
    assert_eq!(world.provider.release(&release("a-2")).await.unwrap(), OrderAnswer::Done);
    assert_eq!(world.spec().await, (1, vec!["a-3".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn lowering_never_goes_under_what_exists() {
    let world = world().await;
    world.pool(1, 9, 5).await;
    world.machine("a-1").await;
    world.machine("a-2").await;
    assert!(is_obsolete(&world.provider.lower(&lower(5, 1)).await.unwrap()));
    assert!(is_obsolete(&world.provider.lower(&lower(4, 2)).await.unwrap()), "raised since");
    for _ in 0..2 {
        assert_eq!(world.provider.lower(&lower(5, 2)).await.unwrap(), OrderAnswer::Done);
        assert_eq!(world.spec().await.0, 2);
    }
    assert!(is_obsolete(&world.provider.lower(&lower(5, 0)).await.unwrap()), "under the minimum");
}

#[tokio::test(start_paused = true)]
async fn the_watch_begins_with_all_and_tells_of_terminations_at_once() {
    let world = world().await;
    world.pool(0, 5, 2).await;
    world.machine("a-1").await;
    world.machine("a-2").await;
    let mut changes = world.provider.watch();
    let (mut pools, mut machines) = (0, 0);
    loop {
        match changes.next().await.unwrap() {
            Change::Pool(_, Some(pool)) => {
                assert_eq!((pool.min, pool.max, pool.target), (0, 5, 2));
                pools += 1;
            }
            Change::Machine(_, Some(machine)) => {
                assert_eq!(machine.state, MachineState::Creating);
                machines += 1;
            }
            Change::Input(_, state) => {
                assert_eq!(state, InputState::Fresh);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((pools, machines), (1, 2));
    world.provider.release(&release("a-1")).await.unwrap();
    assert!(matches!(changes.next().await.unwrap(), Change::Pool(_, Some(pool)) if pool.target == 1));
    assert!(matches!(changes.next().await.unwrap(), Change::Machine(id, Some(machine))
            if id.as_str().ends_with("a-1") && machine.state == MachineState::Deleting));
    world.machines().delete("a-1", &DeleteParams::default()).await.unwrap();
    assert!(
        matches!(changes.next().await.unwrap(), Change::Machine(id, None) if id.as_str().ends_with("a-1"))
    );
}
