//! What a pool is told to be, how it grows and shrinks, and who may ask.

use crate::world::{POOL, World, is_obsolete, key, settings, state};
use clouds::OrderAnswer;
use clouds::huawei::{Source, pool_id};
use doubles::huawei as double;
use model::{InputState, MachineState};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn an_empty_pool_is_described_grows_and_shrinks_by_name() {
    let mut world = World::new();
    world.until_fresh().await;
    let pool = world.pool().clone();
    assert_eq!((&*pool.name, pool.min, pool.max, pool.target), ("blue", 0, 10, 0));
    let template = pool.template.as_ref().unwrap();
    assert_eq!((template.allocatable.cpu.0, template.allocatable.pods), (3920, 60));
    assert_eq!(template.labels["tier"], "web".into());
    assert_eq!(template.taints[0].to_string(), "{dedicated: db}");

    assert_eq!(world.buy(3).await.unwrap(), OrderAnswer::Done);
    world.until("machines on their way", |cluster| cluster.machines().len() == 3).await;
    assert!(world.cluster.machines().values().all(|one| one.state == MachineState::Creating));
    world.until_running(3).await;
    let machine = world.cluster.machines().values().next().unwrap();
    assert!(machine.aliases.iter().any(|alias| alias.starts_with("192.168.")), "{machine:?}");
    assert!(machine.created_at.as_second() > 1_767_225_000, "{machine:?}");

    let gone = world.machines()[1].clone();
    assert_eq!(world.release(&gone, 0).await.unwrap(), OrderAnswer::Done);
    world.until_running(2).await;
    assert_eq!(world.pool().target, 2);
    assert!(!world.machines().contains(&gone));
    assert_eq!(world.release(&gone, 0).await.unwrap(), OrderAnswer::Done, "it is gone already");
    let kept = world.machines()[0].clone();
    assert!(is_obsolete(&world.release(&kept, 2).await, "at its minimum of 2"));
    assert!(is_obsolete(&world.lower(2, 1).await, "only named ones may go"));
    let state = world.double.state();
    assert_eq!((state.world.chosen_by_cce, state.world.pools[POOL].desired), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn an_order_given_twice_counts_once_and_a_smaller_one_changes_nothing() {
    let mut world = World::new();
    world.until_fresh().await;
    world.buy(3).await.unwrap();
    world.restarted().buy(3).await.unwrap();
    world.buy(2).await.unwrap();
    world.until_running(3).await;
    assert_eq!(world.double.count("scale"), 1);
}

#[tokio::test(start_paused = true)]
async fn elastic_scaling_finds_pools_and_brings_its_bounds() {
    let mut found = settings();
    found.pools.clear();
    found.discover = true;
    let on = |service: &mut double::Service| {
        service.world.pools.get_mut(POOL).unwrap().scaling = Some((1, 4, 7));
        let other = double::Pool { name: "by-hand".into(), ..double::Pool::default() };
        service.world.pools.insert("np-other".into(), other);
    };
    let mut world = World::with(on, found, key());
    world.until_fresh().await;
    assert_eq!(world.cluster.pools().len(), 1);
    let pool = world.pool();
    assert_eq!((pool.min, pool.max, pool.priority), (1, 4, 7));
    assert_eq!(pool.options.cool_down, Some(jiff::SignedDuration::from_mins(10)));
    world.double.state().world.pools.get_mut(POOL).unwrap().scaling = None;
    world.until("the pool is left alone", |cluster| cluster.pools().is_empty()).await;

    // Declared as well: the narrower bounds hold.
    let mut world = World::with(on, settings(), key());
    world.until_fresh().await;
    assert_eq!((world.pool().min, world.pool().max), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_wrong_stands_still_and_the_others_go_on() {
    let mut wanted = settings();
    wanted.pools.push("1:2:green".parse().unwrap());
    wanted.pools.push("1:2:ill".parse().unwrap());
    let mut world = World::with(
        |service| {
            let error = Some("a node could not be deleted".to_owned());
            let ill = double::Pool { name: "ill".into(), error, ..double::Pool::default() };
            service.world.pools.insert("np-ill".into(), ill);
        },
        wanted,
        key(),
    );
    world.until_fresh().await;
    let frozen = |id: &str| world.cluster.pools()[&pool_id(id)].frozen.clone().unwrap_or_default();
    assert!(frozen("green").contains("check --nodes and --huaweicloud-cluster"), "{}", frozen("green"));
    assert!(frozen("np-ill").contains("could not be deleted"), "{}", frozen("np-ill"));
    assert_eq!(&*frozen(POOL), "");
    world.buy(1).await.unwrap();
    world
        .until("a machine", |cluster| {
            cluster.machines().values().any(|one| one.state == MachineState::Running)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn keys_of_the_agency_are_renewed_before_they_end() {
    let mut world = World::with(
        |service| {
            service.keys.clear();
            service.agency = Some(jiff::SignedDuration::from_mins(15));
        },
        settings(),
        Source::Agency,
    );
    world.until_fresh().await;
    world.pass(Duration::from_hours(1)).await;
    assert_eq!(state(&world.cluster), Some(&InputState::Fresh));
    let asked = world.double.count("securitykey");
    assert!((5..=7).contains(&asked), "asked for {asked} keys");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_named_with_its_fix() {
    let refused = |service: &mut double::Service| service.refused.push("cce:nodepool:list".into());
    let none = |service: &mut double::Service| service.keys.clear();
    for (prepare, source, part) in [
        (
            &refused as &dyn Fn(&mut double::Service),
            key(),
            "lacks the permission cce:nodepool:list: grant it in IAM",
        ),
        (&none, key(), "check HUAWEICLOUD_SDK_AK"),
        (&none, Source::Agency, "has no agency; give it one"),
    ] {
        let mut world = World::with(|service| prepare(service), settings(), source);
        world.until("a complaint", |cluster| state(cluster).is_some()).await;
        let Some(InputState::Stale { why, .. }) = state(&world.cluster) else { panic!("it is not stale") };
        assert!(why.contains(part) && !why.contains("testsecret"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_types_of_servers_the_pool_is_served_undescribed() {
    let refuse =
        |service: &mut double::Service| service.refused.push("ecs:cloudServerFlavors:get".to_owned());
    let mut world = World::with(refuse, settings(), key());
    world.until_fresh().await;
    assert_eq!((world.pool().template.as_ref(), world.pool().frozen.as_ref()), (None, None));
    world.pass(Duration::from_mins(4)).await;
    assert_eq!(world.double.count("flavors"), 0);
    world.double.state().refused.clear();
    world.until("a description", |cluster| cluster.pools()[&pool_id(POOL)].template.is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_is_corrected_by_theirs() {
    let ahead = |service: &mut double::Service| service.skew = jiff::SignedDuration::from_hours(1);
    let mut world = World::with(ahead, settings(), key());
    world.until_fresh().await;
    world.buy(2).await.unwrap();
    world.until_running(2).await;
}

#[test]
fn the_policy_file_grants_what_is_used_and_no_more() {
    let text = include_str!("../../../../deploy/huawei-cloud/iam-policy.json");
    let policy: serde_json::Value = serde_json::from_str(text).unwrap();
    let granted: Vec<&str> =
        policy["Statement"][0]["Action"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    assert_eq!(granted.len(), double::PERMISSIONS.len());
    assert!(double::PERMISSIONS.iter().all(|used| granted.contains(used)), "{granted:?}");
}

#[test]
fn the_environment_is_read_whole_or_not_at_all() {
    let of = |pairs: &'static [(&str, &str)]| {
        Source::from_environment(move |name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    };
    assert_eq!(of(&[]).map(|source| source.describe()), Ok("the agency of this server"));
    let both = &[("HUAWEICLOUD_SDK_AK", "id"), ("HUAWEICLOUD_SDK_SK", "secret")];
    assert_eq!(of(both).map(|source| source.describe()), Ok("an access key"));
    let why = of(&[("HUAWEICLOUD_SDK_SK", "secret")]).err().unwrap();
    assert!(why.contains("HUAWEICLOUD_SDK_AK is not; set both") && !why.contains("secret\""), "{why}");
}
