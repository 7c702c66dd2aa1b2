//! What nodes of a group will look like, from all that AWS says of it.

use crate::world::{GROUP, IMAGE, World, group_of, launch_template};
use clouds::aws::Declarations;
use doubles::aws::{Aws, Fault};
use model::NodeTemplate;
use serde_json::json;

fn discovered() -> Declarations {
    Declarations { named: Vec::new(), discovered: vec!["asg:tag=mine".parse().unwrap()] }
}

fn node(world: &World, group: &str) -> NodeTemplate {
    world.pool_of(group).template.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_override_counts_and_a_new_type_is_seen() {
    let mixed = [
        ("MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateName", "workers"),
        ("MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.Version", "$Latest"),
        ("MixedInstancesPolicy.LaunchTemplate.Overrides.member.1.InstanceType", "m5.2xlarge"),
        ("MixedInstancesPolicy.LaunchTemplate.Overrides.member.2.InstanceType", "c6g.xlarge"),
    ];
    let prepare = async |double: &Aws| group_of(double, "mixed", 0, &[("mine", "")], &mixed).await;
    let Some(mut world) = World::with(0, discovered(), prepare).await else { return };
    world.until_fresh().await;
    let first = node(&world, "mixed");
    assert_eq!(first.allocatable.cpu.0, 4000, "the least of 8 and 4 cores");
    assert!(first.allocatable.memory.0 < 8 << 30, "the least of 32 and 8 GiB");
    assert!(!first.labels.contains_key("kubernetes.io/arch"), "one is arm64, one amd64");
    assert_eq!(&*first.labels["topology.kubernetes.io/region"], "cn-north-1");
    assert_eq!(&*first.labels["topology.kubernetes.io/zone"], "cn-north-1a");

    let mut changed = vec![("AutoScalingGroupName", "mixed")];
    changed.extend(mixed.iter().take(3));
    world.double.call("autoscaling", "UpdateAutoScalingGroup", &changed).await;
    world
        .until("the new type", |cluster| {
            let pool = cluster.pools().values().next().unwrap();
            pool.template.as_ref().is_some_and(|node| {
                node.labels
                    .get("node.kubernetes.io/instance-type")
                    .is_some_and(|name| &**name == "m5.2xlarge")
            })
        })
        .await;
    assert_eq!(node(&world, "mixed").allocatable.cpu.0, 8000);
}

#[tokio::test(flavor = "multi_thread")]
async fn requirements_lead_to_types() {
    let launch = "MixedInstancesPolicy.LaunchTemplate";
    let requirements = format!("{launch}.Overrides.member.1.InstanceRequirements");
    let names = [
        format!("{launch}.LaunchTemplateSpecification.LaunchTemplateName"),
        format!("{requirements}.VCpuCount.Min"),
        format!("{requirements}.MemoryMiB.Min"),
    ];
    let required = [(names[0].as_str(), "workers"), (names[1].as_str(), "2"), (names[2].as_str(), "4096")];
    let prepare = async |double: &Aws| {
        group_of(double, "required", 0, &[("mine", "")], &required).await;
        let types = ["m5.xlarge", "c5.2xlarge"];
        let items: String =
            types.map(|name| format!("<item><instanceType>{name}</instanceType></item>")).concat();
        let answer = format!(
            "<GetInstanceTypesFromInstanceRequirementsResponse><instanceTypeSet>{items}</instanceTypeSet>\
             </GetInstanceTypesFromInstanceRequirementsResponse>"
        );
        double.door().fail("ec2:GetInstanceTypesFromInstanceRequirements", Fault::Answer(answer));
    };
    let Some(mut world) = World::with(0, discovered(), prepare).await else { return };
    world.until_fresh().await;
    assert_eq!(node(&world, "required").allocatable.cpu.0, 4000);
    assert_eq!(&*node(&world, "required").labels["kubernetes.io/arch"], "amd64");
    let asked = world.double.door().calls.iter().find(|call| call.action.contains("Requirements")).cloned();
    let asked = asked.unwrap().body;
    assert!(asked.contains("InstanceRequirements.VCpuCount.Min=2"), "{asked}");
    assert!(asked.contains("ArchitectureType.1=x86_64"), "the image {IMAGE} is of that: {asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_node_group_says_labels_and_taints() {
    let tags = [
        ("mine", ""),
        ("eks:cluster-name", "cloudnative"),
        ("eks:nodegroup-name", "databases"),
        ("k8s.io/cluster-autoscaler/node-template/label/tier", "asg"),
        ("k8s.io/cluster-autoscaler/node-template/taint/broken", "no effect"),
    ];
    let launch = [("LaunchTemplate.LaunchTemplateName", "workers"), ("LaunchTemplate.Version", "$Latest")];
    let prepare = async |double: &Aws| {
        group_of(double, "managed", 0, &tags, &launch).await;
        let body = json!({
            "nodegroupName": "databases", "nodeRole": "arn:aws:iam::123456789012:role/node",
            "subnets": ["subnet-1"], "labels": {"tier": "eks", "more": "yes"}, "capacityType": "SPOT",
            "taints": [{"key": "dedicated", "value": "databases", "effect": "NO_SCHEDULE"}],
        });
        double.node_group("cloudnative", body).await;
    };
    let Some(mut world) = World::with(0, discovered(), prepare).await else { return };
    world.until_fresh().await;
    let node = node(&world, "managed");
    assert_eq!((&*node.labels["tier"], &*node.labels["more"]), ("eks", "yes"));
    assert_eq!(&*node.labels["eks.amazonaws.com/nodegroup"], "databases");
    assert_eq!(node.taints.len(), 1, "a tag that cannot be read is left out");
    assert_eq!(node.taints[0].to_string(), "{dedicated: databases}");
    assert_eq!((node.allocatable.cpu.0, node.allocatable.pods), (1930, 29), "less what EKS reserves");
    assert!(world.pool_of("managed").frozen.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn launch_configurations_and_templates_by_number_are_read() {
    let configuration =
        [("LaunchConfigurationName", "old"), ("InstanceType", "m5.xlarge"), ("ImageId", IMAGE)];
    let prepare = async |double: &Aws| {
        double.call("autoscaling", "CreateLaunchConfiguration", &configuration).await;
        group_of(double, "configured", 0, &[("mine", "")], &[("LaunchConfigurationName", "old")]).await;
        launch_template(double, "second", "c5.large").await;
        let launch = [("LaunchTemplate.LaunchTemplateName", "second"), ("LaunchTemplate.Version", "1")];
        group_of(double, "numbered", 0, &[("mine", "")], &launch).await;
    };
    let Some(mut world) = World::with(0, discovered(), prepare).await else { return };
    world.until_fresh().await;
    assert_eq!(node(&world, "configured").allocatable.cpu.0, 4000);
    assert_eq!(&*node(&world, "numbered").labels["node.kubernetes.io/instance-type"], "c5.large");
    assert_eq!(node(&world, "numbered").allocatable.ephemeral_storage.0, 50 * (1 << 30) * 9 / 10);
    assert!(!world.cluster.pools().contains_key(&clouds::aws::pool_id(GROUP)), "it has no such tag");
}
