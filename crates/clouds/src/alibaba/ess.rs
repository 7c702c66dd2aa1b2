//! The actions of Auto Scaling (ESS, 2022-02-22) and of ECS (2014-05-26) that we use, with their answers as types.
//!
//! Owns names of actions and parameters, pages and their bounds. What follows from an answer is the callers' business.

use super::client::{Client, Parameters};
use crate::calls::{Failure, FailureKind};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Entries of one page, the most that ESS gives.
const PAGE: usize = 50;
/// Pages read of one list at most: a group of more is refused, not guessed about.
const MOST_PAGES: usize = 100;
/// Groups that one question may name.
const GROUPS_AT_ONCE: usize = 20;
/// Types that one question may name.
const TYPES_AT_ONCE: usize = 10;
/// Machines that one removal may name.
pub(super) const REMOVED_AT_ONCE: usize = 20;

pub(super) struct Ess {
    pub(super) scaling: Client,
    pub(super) compute: Client,
    pub(super) region: String,
}

/// Absent and `null` are the same: the service leaves out what does not apply, or says null.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
            #[allow(clippy::struct_field_names, reason = "the names are the API's")]
            #[serde(rename_all = "PascalCase", default)]
            pub(super) struct $name {
                $($(#[$meta])* #[serde(deserialize_with = "or_default")] pub(super) $field: $type,)*
            }
        )*
    };
}

answers! {
    ScalingGroups { scaling_groups: Vec<ScalingGroup>, total_count: usize }
    ScalingGroup {
        scaling_group_id: String,
        scaling_group_name: String,
        lifecycle_state: String,
        min_size: u32,
        max_size: u32,
        enable_desired_capacity: bool,
        desired_capacity: Option<u32>,
        total_capacity: u32,
        active_capacity: u32,
        pending_capacity: u32,
        pending_wait_capacity: u32,
        protected_capacity: u32,
        standby_capacity: u32,
        total_instance_count: Option<u32>,
        active_scaling_configuration_id: String,
        launch_template_id: String,
        suspended_processes: Vec<String>,
        system_suspended: bool,
        group_type: String,
        tags: Vec<GroupTag>,
    }
    GroupTag { tag_key: String, tag_value: String }
    ScalingInstances { scaling_instances: Vec<ScalingInstance>, total_count: usize }
    ScalingInstance {
        instance_id: String,
        lifecycle_state: String,
        creation_type: String,
        entrusted: bool,
        created_time: String,
        creation_time: String,
        private_ip_address: String,
        zone_id: String,
    }
    ScalingActivities { scaling_activities: Vec<ScalingActivity>, total_count: usize }
    ScalingActivity {
        scaling_activity_id: String,
        status_code: String,
        status_message: String,
        cause: String,
        detail: String,
        start_time: String,
        end_time: String,
        error_code: String,
        error_message: String,
        error_messages: Vec<ActivityError>,
        scaling_instance_number: u32,
        created_capacity: u32,
    }
    ActivityError { code: String, message: String, description: String }
    ScalingConfigurations { scaling_configurations: Vec<ScalingConfiguration>, total_count: usize }
    ScalingConfiguration {
        scaling_configuration_id: String,
        instance_type: String,
        instance_types: Vec<String>,
        weighted_capacities: Vec<u32>,
        system_disk_size: u64,
        zone_id: String,
        tags: Vec<ConfigurationTag>,
    }
    ConfigurationTag { key: String, value: String }
    ScalingRules { scaling_rules: Vec<ScalingRule>, total_count: usize }
    ScalingRule {
        scaling_rule_id: String,
        scaling_rule_ari: String,
        scaling_rule_name: String,
        adjustment_type: String,
        adjustment_value: i64,
        cooldown: i64,
    }
    CreatedRule { scaling_rule_id: String, scaling_rule_ari: String }
    Accepted { scaling_activity_id: String }
    Removed { scaling_activity_id: String, ignored_instances: Vec<IgnoredInstance> }
    IgnoredInstance { instance_id: String, code: String, message: String }
    InstanceTypes { instance_types: InstanceTypeList }
    InstanceTypeList { instance_type: Vec<InstanceType> }
    InstanceType {
        instance_type_id: String,
        cpu_core_count: u64,
        memory_size: f64,
        cpu_architecture: String,
        #[serde(rename = "GPUAmount")]
        gpu_amount: u64,
        #[serde(rename = "GPUSpec")]
        gpu_spec: String,
    }
}

/// A removal as it is asked for.
pub(super) struct Removal<'a> {
    pub(super) group: &'a str,
    pub(super) instances: &'a [String],
    pub(super) token: &'a str,
}

fn listed(parameters: &mut Parameters, name: &str, values: &[impl AsRef<str>]) {
    for (at, value) in values.iter().enumerate() {
        parameters.insert(format!("{name}.{}", at + 1), value.as_ref().to_owned());
    }
}

impl Ess {
    fn parameters(&self, pairs: &[(&str, &str)]) -> Parameters {
        let region = [("RegionId", self.region.as_str())];
        region.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The groups that exist of those named.
    pub(super) async fn groups(&self, ids: &[String]) -> Result<BTreeMap<String, ScalingGroup>, Failure> {
        let mut found = BTreeMap::new();
        for ids in ids.chunks(GROUPS_AT_ONCE) {
            let mut parameters = self.parameters(&[("PageSize", &PAGE.to_string())]);
            listed(&mut parameters, "ScalingGroupIds", ids);
            let page: ScalingGroups = self.scaling.read("DescribeScalingGroups", parameters).await?;
            found
                .extend(page.scaling_groups.into_iter().map(|group| (group.scaling_group_id.clone(), group)));
        }
        Ok(found)
    }

    /// The instances of a group, each once, and whether the list was whole: pages shift while instances come and go.
    pub(super) async fn instances(
        &self,
        group: &str,
    ) -> Result<(BTreeMap<String, ScalingInstance>, bool), Failure> {
        let mut found = BTreeMap::new();
        for page in 1..=MOST_PAGES {
            let parameters = self.parameters(&[
                ("ScalingGroupId", group),
                ("PageNumber", &page.to_string()),
                ("PageSize", &PAGE.to_string()),
            ]);
            let answer: ScalingInstances = self.scaling.read("DescribeScalingInstances", parameters).await?;
            let last = answer.scaling_instances.is_empty() || page * PAGE >= answer.total_count;
            for instance in answer.scaling_instances {
                found.insert(instance.instance_id.clone(), instance);
            }
            if last {
                let whole = found.len() >= answer.total_count;
                return Ok((found, whole));
            }
        }
        let message = format!("{group} has more than {} instances; split the group", MOST_PAGES * PAGE);
        Err(Failure::new(FailureKind::Refused, "TooMany", message))
    }

    /// The newest activities of a group: one page, newest first.
    pub(super) async fn activities(&self, group: &str) -> Result<Vec<ScalingActivity>, Failure> {
        let parameters =
            self.parameters(&[("ScalingGroupId", group), ("PageSize", "20"), ("PageNumber", "1")]);
        let answer: ScalingActivities = self.scaling.read("DescribeScalingActivities", parameters).await?;
        Ok(answer.scaling_activities)
    }

    pub(super) async fn configuration(
        &self,
        group: &str,
        id: &str,
    ) -> Result<Option<ScalingConfiguration>, Failure> {
        let mut parameters = self.parameters(&[("ScalingGroupId", group)]);
        listed(&mut parameters, "ScalingConfigurationIds", &[id]);
        let answer: ScalingConfigurations =
            self.scaling.read("DescribeScalingConfigurations", parameters).await?;
        Ok(answer.scaling_configurations.into_iter().find(|found| found.scaling_configuration_id == id))
    }

    /// The types that exist of those named.
    pub(super) async fn instance_types(&self, names: &[String]) -> Result<Vec<InstanceType>, Failure> {
        let mut found = Vec::new();
        for names in names.chunks(TYPES_AT_ONCE) {
            let mut parameters = self.parameters(&[]);
            listed(&mut parameters, "InstanceTypes", names);
            let answer: InstanceTypes = self.compute.read("DescribeInstanceTypes", parameters).await?;
            found.extend(answer.instance_types.instance_type);
        }
        Ok(found)
    }

    /// Sets the size of a group at once.
    pub(super) async fn scale(&self, group: &str, to: u32, token: &str) -> Result<Accepted, Failure> {
        let parameters = self.parameters(&[
            ("ScalingGroupId", group),
            ("AdjustmentType", "TotalCapacity"),
            ("AdjustmentValue", &to.to_string()),
            ("SyncActivity", "true"),
            ("ActivityMetadata", r#"{"tideline/managed":"true"}"#),
            ("ClientToken", token),
        ]);
        self.scaling.order("ScaleWithAdjustment", parameters).await
    }

    pub(super) async fn rule(&self, group: &str, name: &str) -> Result<Option<ScalingRule>, Failure> {
        let mut parameters = self.parameters(&[("ScalingGroupId", group), ("PageSize", &PAGE.to_string())]);
        listed(&mut parameters, "ScalingRuleNames", &[name]);
        let answer: ScalingRules = self.scaling.read("DescribeScalingRules", parameters).await?;
        Ok(answer.scaling_rules.into_iter().find(|rule| rule.scaling_rule_name == name))
    }

    pub(super) async fn create_rule(&self, group: &str, name: &str, to: u32) -> Result<CreatedRule, Failure> {
        let parameters = self.parameters(&[
            ("ScalingGroupId", group),
            ("ScalingRuleName", name),
            ("ScalingRuleType", "SimpleScalingRule"),
            ("AdjustmentType", "TotalCapacity"),
            ("AdjustmentValue", &to.to_string()),
            ("Cooldown", "0"),
        ]);
        self.scaling.order("CreateScalingRule", parameters).await
    }

    pub(super) async fn modify_rule(&self, rule: &str, to: u32) -> Result<(), Failure> {
        let parameters = self.parameters(&[
            ("ScalingRuleId", rule),
            ("AdjustmentType", "TotalCapacity"),
            ("AdjustmentValue", &to.to_string()),
            ("Cooldown", "0"),
        ]);
        self.scaling.order::<serde_json::Value>("ModifyScalingRule", parameters).await.map(drop)
    }

    pub(super) async fn execute_rule(&self, ari: &str, token: &str) -> Result<Accepted, Failure> {
        let parameters = self.parameters(&[("ScalingRuleAri", ari), ("ClientToken", token)]);
        self.scaling.order("ExecuteScalingRule", parameters).await
    }

    /// Takes named instances out of a group and releases them, the size lowered with them.
    pub(super) async fn remove(&self, removal: &Removal<'_>) -> Result<Removed, Failure> {
        let mut parameters = self.parameters(&[
            ("ScalingGroupId", removal.group),
            ("DecreaseDesiredCapacity", "true"),
            ("IgnoreInvalidInstance", "true"),
            ("RemovePolicy", "release"),
            ("ClientToken", removal.token),
        ]);
        listed(&mut parameters, "InstanceIds", removal.instances);
        self.scaling.order("RemoveInstances", parameters).await
    }
}
