//! What the provider tells of groups and machines.

use crate::world::{GROUP, World, group, key, settings, state};
use clouds::alibaba::{Declared, Settings, pool_id};
use model::{InputState, MachineId, MachineState};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn an_empty_group_describes_its_nodes_and_bounds() {
    let mut world = World::with(
        |service| {
            let group = service.world.groups.get_mut(GROUP).unwrap();
            group.min = 1;
            group.max = 7;
            group.tags.push(("tideline.dev/taint/dedicated".into(), "db:NoSchedule".into()));
        },
        settings(),
        key(),
    );
    world.until_fresh().await;
    let pool = world.pool();
    assert_eq!((pool.min, pool.max, &*pool.name), (1, 7, "workers"), "the narrower of both bounds");
    let template = pool.template.as_ref().unwrap();
    assert_eq!(template.allocatable.cpu.0, 8000);
    assert_eq!(template.labels["node.kubernetes.io/instance-type"], "ecs.g7.2xlarge".into());
    assert_eq!(template.taints.len(), 1);
    assert_eq!(pool.frozen, None);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_wrong_stands_still_and_the_others_go_on() {
    let pools = ["0:10:asg-bp1", "0:10:asg-none", "0:10:asg-tag", "5:10:asg-small"];
    let pools = pools.iter().map(|text| text.parse::<Declared>().unwrap()).collect();
    let mut world = World::with(
        |service| {
            let tags = vec![("tideline.dev/taint/dedicated".into(), "db".into())];
            service.world.groups.insert("asg-tag".into(), doubles::alibaba::Group { tags, ..group() });
            service.world.groups.insert("asg-small".into(), doubles::alibaba::Group { max: 4, ..group() });
        },
        Settings::new("cn-hangzhou", pools),
        key(),
    );
    world.until_fresh().await;
    let frozen = |id: &str| world.cluster.pools()[&pool_id(id)].frozen.as_deref().unwrap_or_default();
    assert!(frozen("asg-none").contains("no scaling group asg-none in cn-hangzhou"));
    assert!(frozen("asg-tag").contains("tideline.dev/taint/dedicated"));
    assert!(frozen("asg-small").contains("nothing in common"));
    assert_eq!(frozen(GROUP), "");
    world.buy("buy-1", 1).await.unwrap();
    world.until_running(1).await;
}

#[tokio::test(start_paused = true)]
async fn machines_are_known_by_id_address_and_host_name() {
    let mut world = World::new();
    world.until_fresh().await;
    world.buy("buy-1", 1).await.unwrap();
    world
        .until("a machine being made", |cluster| {
            cluster.machines().values().any(|one| one.state == MachineState::Creating)
        })
        .await;
    world.until_running(1).await;
    let machine = world.machines()[0].clone();
    assert_eq!(machine.id, MachineId::from("cn-hangzhou.i-bp1000001"));
    assert!(machine.aliases.iter().any(|name| &**name == "192.168.0.11"));
    assert!(machine.aliases.iter().any(|name| &**name == "izbp1000001z"));
}

#[tokio::test(start_paused = true)]
async fn lists_that_lag_repeat_or_skip_do_not_confuse() {
    let mut world = World::new();
    world.double.state().world.listed_after = jiff::SignedDuration::from_secs(30);
    world.until_fresh().await;
    world.buy("buy-1", 3).await.unwrap();
    world.until("the size that was ordered", |cluster| cluster.pools()[&pool_id(GROUP)].target == 3).await;
    assert!(world.machines().is_empty(), "listed late");
    world.double.state().world.list_twice = true;
    world.until_running(3).await;
    world.double.state().world.list_twice = false;
    // One list leaves a machine out: it does not count as gone.
    world.double.state().world.list_without = Some(("i-bp1000002".into(), 1));
    world.pass(Duration::from_mins(2)).await;
    assert_eq!(world.machines().len(), 3);
    // One that is really gone is missed by every list.
    world.double.state().world.vanish(GROUP, "i-bp1000002");
    world.until("two machines", |cluster| cluster.machines().len() == 2).await;
    assert_eq!(world.pool().target, 2);
}

#[tokio::test(start_paused = true)]
async fn more_machines_than_one_page_are_all_read() {
    let mut world = World::new();
    world.double.state().world.groups.get_mut(GROUP).unwrap().max = 200;
    world.until_fresh().await;
    world.buy("buy-1", 120).await.unwrap();
    world.until_running(120).await;
}

#[tokio::test(start_paused = true)]
async fn a_region_that_cannot_be_read_is_stale_and_says_why() {
    let mut world = World::with(|service| service.granted.clear(), settings(), key());
    world.until("staleness", |cluster| matches!(state(cluster), Some(InputState::Stale { .. }))).await;
    let Some(InputState::Stale { why, .. }) = state(&world.cluster) else { panic!("not stale") };
    assert!(why.contains("ess:DescribeScalingGroups"), "{why}");
    assert!(why.contains("autoscaler@example"), "{why}");
    world.double.state().granted.push("*".into());
    world.until_fresh().await;
}

#[tokio::test(start_paused = true)]
async fn without_permission_for_types_a_pool_stands_and_waits_for_a_live_node() {
    let mut world = World::with(|service| service.granted = vec!["ess:*".into()], settings(), key());
    world.until_fresh().await;
    assert_eq!(world.pool().template, None);
    assert_eq!(world.pool().frozen, None);
}
