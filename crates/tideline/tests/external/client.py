"""A client of Cluster Autoscaler's externalgrpc protocol that shares no code with ours.

python client.py PROTO ADDRESS: its stubs are made of the protocol's file here and now; each step checks an answer.
"""

import importlib
import pathlib
import sys
import tempfile
import time

import grpc
from grpc_tools import protoc

PROTO, ADDRESS = sys.argv[1:]
POOL = "general"

stubs = tempfile.mkdtemp()
folder = str(pathlib.Path(PROTO).parent)
wellknown = str(pathlib.Path(importlib.import_module("grpc_tools").__file__).parent / "_proto")
made = ["protoc", "-I" + folder, "-I" + wellknown, "--python_out=" + stubs, "--grpc_python_out=" + stubs, PROTO]
assert protoc.main(made) == 0
sys.path.insert(0, stubs)
wire = importlib.import_module("externalgrpc_pb2")
stub = importlib.import_module("externalgrpc_pb2_grpc").CloudProviderStub(grpc.insecure_channel(ADDRESS))


def until(step, holds):
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError(step + " did not come")


def refused(step, call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() != grpc.StatusCode.UNAVAILABLE and error.details(), (step, error)
        return
    raise AssertionError(step + " was not refused")


def size():
    return stub.NodeGroupTargetSize(wire.NodeGroupTargetSizeRequest(id=POOL)).targetSize


def instances():
    return stub.NodeGroupNodes(wire.NodeGroupNodesRequest(id=POOL)).instances


stub.Refresh(wire.RefreshRequest())
groups = stub.NodeGroups(wire.NodeGroupsRequest()).nodeGroups
group = next(group for group in groups if group.id == POOL)
assert (group.minSize, group.maxSize) == (1, 6), group
template = stub.NodeGroupTemplateNodeInfo(wire.NodeGroupTemplateNodeInfoRequest(id=POOL))
assert b"cpu" in template.nodeBytes, template

begun = size()
stub.NodeGroupIncreaseSize(wire.NodeGroupIncreaseSizeRequest(id=POOL, delta=2))
assert size() == begun + 2
running = wire.InstanceStatus.instanceRunning
until("machines", lambda: [one.status.instanceState for one in instances()] == [running] * (begun + 2))
gone = instances()[0].id

node = wire.ExternalGrpcNode(providerID=gone, name="unknown")
assert stub.NodeGroupForNode(wire.NodeGroupForNodeRequest(node=node)).nodeGroup.id == POOL
stranger = wire.ExternalGrpcNode(providerID="simulated://nobody", name="nobody")
assert stub.NodeGroupForNode(wire.NodeGroupForNodeRequest(node=stranger)).nodeGroup.id == ""

stub.NodeGroupDeleteNodes(wire.NodeGroupDeleteNodesRequest(id=POOL, nodes=[node]))
until("one machine less", lambda: gone not in [one.id for one in instances()])
assert size() == begun + 1

refused("over the maximum", lambda: stub.NodeGroupIncreaseSize(wire.NodeGroupIncreaseSizeRequest(id=POOL, delta=9)))
refused("an unknown group", lambda: stub.NodeGroupTargetSize(wire.NodeGroupTargetSizeRequest(id="nobody")))
lower = wire.NodeGroupDecreaseTargetSizeRequest(id=POOL, delta=-1)
refused("fewer than there are", lambda: stub.NodeGroupDecreaseTargetSize(lower))
stub.Cleanup(wire.CleanupRequest())
print("all steps passed")
