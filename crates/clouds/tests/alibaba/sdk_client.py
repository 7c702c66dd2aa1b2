"""The official SDK as a client of the stand-in at the address given: each step checks what a user of the service sees."""

import sys
import time

from alibabacloud_ess20220222 import models
from alibabacloud_ess20220222.client import Client
from alibabacloud_tea_openapi.utils_models import Config

GROUP = "asg-bp1"


def client(secret="testsecret"):
    return Client(
        Config(
            access_key_id="testid",
            access_key_secret=secret,
            region_id="cn-hangzhou",
            endpoint=sys.argv[1],
            protocol="HTTP",
        )
    )


def refused(code, call):
    try:
        call()
    except Exception as error:
        assert error.code == code, f"{error.code} instead of {code}"
        return error
    raise AssertionError(f"not refused with {code}")


def until(what, holds):
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come")


def group():
    request = models.DescribeScalingGroupsRequest(region_id="cn-hangzhou", scaling_group_ids=[GROUP])
    groups = ess.describe_scaling_groups(request).body.scaling_groups
    assert len(groups) == 1, groups
    return groups[0]


def instances():
    request = models.DescribeScalingInstancesRequest(region_id="cn-hangzhou", scaling_group_id=GROUP, page_size=50)
    return ess.describe_scaling_instances(request).body.scaling_instances


ess = client()
assert group().scaling_group_name == "workers"
assert group().total_capacity == 0 and group().enable_desired_capacity is False
refused("SignatureDoesNotMatch", lambda: client("other").describe_scaling_groups(models.DescribeScalingGroupsRequest(region_id="cn-hangzhou")))

configuration = ess.describe_scaling_configurations(
    models.DescribeScalingConfigurationsRequest(
        region_id="cn-hangzhou", scaling_configuration_ids=[group().active_scaling_configuration_id]
    )
).body.scaling_configurations[0]
assert configuration.instance_types == ["ecs.g7.2xlarge"], configuration.instance_types

scale = models.ScaleWithAdjustmentRequest(
    scaling_group_id=GROUP, adjustment_type="TotalCapacity", adjustment_value=2, sync_activity=True, client_token="t1"
)
denied = refused("Forbidden.RAM", lambda: ess.scale_with_adjustment(scale))
assert denied.access_denied_detail["AuthAction"] == "ess:ScaleWithAdjustment", denied.access_denied_detail

rule = ess.create_scaling_rule(
    models.CreateScalingRuleRequest(
        region_id="cn-hangzhou",
        scaling_group_id=GROUP,
        scaling_rule_name="sdk",
        adjustment_type="TotalCapacity",
        adjustment_value=1,
        cooldown=0,
    )
).body
ess.modify_scaling_rule(
    models.ModifyScalingRuleRequest(scaling_rule_id=rule.scaling_rule_id, adjustment_type="TotalCapacity", adjustment_value=2)
)
found = ess.describe_scaling_rules(
    models.DescribeScalingRulesRequest(region_id="cn-hangzhou", scaling_group_id=GROUP, scaling_rule_names=["sdk"])
).body.scaling_rules
assert [one.adjustment_value for one in found] == [2], found

execute = models.ExecuteScalingRuleRequest(
    region_id="cn-hangzhou", scaling_rule_ari=rule.scaling_rule_ari, client_token="t2"
)
activity = ess.execute_scaling_rule(execute).body.scaling_activity_id
assert ess.execute_scaling_rule(execute).body.scaling_activity_id == activity, "the same token, the same activity"
until("two machines in service", lambda: [one.lifecycle_state for one in instances()] == ["InService"] * 2)
assert all(one.private_ip_address and one.zone_id and one.created_time for one in instances())

activities = ess.describe_scaling_activities(
    models.DescribeScalingActivitiesRequest(region_id="cn-hangzhou", scaling_group_id=GROUP)
).body.scaling_activities
assert activities[0].scaling_activity_id == activity and activities[0].status_code == "Successful"
assert activities[0].created_capacity == 2

leaving = instances()[0].instance_id
removed = ess.remove_instances(
    models.RemoveInstancesRequest(
        region_id="cn-hangzhou",
        scaling_group_id=GROUP,
        instance_ids=[leaving, "i-none"],
        ignore_invalid_instance=True,
        client_token="t3",
    )
).body
assert [one.instance_id for one in removed.ignored_instances] == ["i-none"], removed.ignored_instances
until("one machine", lambda: len(instances()) == 1)
assert instances()[0].instance_id != leaving
print("all steps passed")
