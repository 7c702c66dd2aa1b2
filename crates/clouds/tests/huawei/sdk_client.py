"""The official SDK as a client of the stand-in at the address given: each step checks what a user of the service sees."""

import sys
import time

from huaweicloudsdkcce.v3 import (
    CceClient,
    DeleteNodeRequest,
    ListNodePoolsRequest,
    ListNodesRequest,
    ScaleNodePoolOptions,
    ScaleNodePoolRequest,
    ScaleNodePoolRequestBody,
    ScaleNodePoolSpec,
)
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

ADDRESS, PROJECT, CLUSTER, POOL = sys.argv[1:]


def client(secret="testsecret"):
    credentials = BasicCredentials("TESTID", secret, PROJECT)
    return CceClient.new_builder().with_credentials(credentials).with_endpoint("http://" + ADDRESS).build()


def refused(step, call, status, code):
    try:
        call()
    except ClientRequestException as error:
        assert (error.status_code, error.error_code) == (status, code), (step, error.status_code, error.error_code)
        return
    raise AssertionError(step + " was not refused")


def until(step, holds):
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(step + " did not come")


def pool():
    found = cce.list_node_pools(ListNodePoolsRequest(cluster_id=CLUSTER)).items
    return next(one for one in found if one.metadata.uid == POOL)


def nodes(**more):
    answer = cce.list_nodes(ListNodesRequest(cluster_id=CLUSTER, **more))
    return answer.items, answer.page_info


def scale(to):
    options = ScaleNodePoolOptions(scalable_checking="instant")
    spec = ScaleNodePoolSpec(desired_node_count=to, scale_groups=["default"], options=options)
    body = ScaleNodePoolRequestBody(kind="NodePool", api_version="v3", spec=spec)
    cce.scale_node_pool(ScaleNodePoolRequest(cluster_id=CLUSTER, nodepool_id=POOL, body=body))


cce = client()
first = pool()
assert (first.spec.initial_node_count, first.status.current_node) == (0, 0), first
assert first.spec.node_template.taints[0].effect == "NoSchedule"
assert first.spec.node_template.k8s_tags == {"tier": "web"}
scale(3)
until("three nodes", lambda: [node.status.phase for node in nodes()[0]] == ["Active"] * 3)
page, info = nodes(limit=2)
assert len(page) == 2 and info.next_marker == page[-1].metadata.uid, info
rest, info = nodes(limit=2, marker=info.next_marker)
assert len(rest) == 1 and info.next_marker is None, info
gone = page[0].metadata.uid
assert page[0].metadata.annotations["kubernetes.io/node-pool.id"] == POOL
cce.delete_node(DeleteNodeRequest(cluster_id=CLUSTER, node_id=gone))
until("two nodes", lambda: gone not in [node.metadata.uid for node in nodes()[0]])
assert pool().spec.initial_node_count == 2
refused("a node that is gone", lambda: cce.delete_node(DeleteNodeRequest(CLUSTER, gone)), 404, "CCE.01404001")
cce = client("wrong")
refused("another secret", pool, 401, "APIGW.0301")
print("all steps passed")
