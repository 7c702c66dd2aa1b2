"""Writes vectors.json: what Huawei Cloud's own SDK for Python signs for fixed requests.

Run it with huaweicloudsdkcore installed:  python vectors.py > vectors.json
"""

import json
from types import SimpleNamespace

from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

KEY, SECRET = "TESTID", "test/secret+="
POOLS = "/api/v3/projects/p1/clusters/c1/nodepools"


def headers(**more):
    return {
        "host": "cce.cn-north-4.myhuaweicloud.com",
        "x-sdk-date": "20260102T030405Z",
        "content-type": "application/json",
        "x-project-id": "p1",
        **more,
    }


SCALE = json.dumps({"kind": "NodePool", "apiVersion": "v3", "spec": {"desiredNodeCount": 3, "scaleGroups": ["default"]}})

CASES = {
    "list of pools": ("GET", POOLS, {}, headers(), ""),
    "page of nodes": ("GET", "/api/v3/projects/p1/clusters/c1/nodes", {"limit": "1000", "marker": "a b/é"}, headers(), ""),
    "a size": ("POST", POOLS + "/np-1/operation/scale", {}, headers(), SCALE),
    "temporary credentials": ("DELETE", POOLS + "/n-1", {}, headers(**{"x-security-token": "gQpj+token/with=="}), ""),
    "path to be escaped": ("GET", "/v1/p 1/a~b/c+d/é", {"Z": "1", "a": "*'()", "B": ""}, headers(), ""),
    "header with an underscore": ("GET", "/", {}, headers(x_trace="1", accept="  application/json "), ""),
    "text in another alphabet": ("POST", POOLS, {}, headers(), json.dumps({"name": "节点池"}, ensure_ascii=False)),
}


def vector(name, method, path, query, signed, body):
    request = SdkRequest(
        method=method,
        schema="https",
        host=signed["host"],
        resource_path=path,
        query_params=list(query.items()),
        header_params=dict(signed),
        body=body,
    )
    answer = Signer(SimpleNamespace(ak=KEY, sk=SECRET)).sign(request)
    return {
        "name": name,
        "method": method,
        "path": path,
        "query": query,
        "headers": signed,
        "body": body,
        "keyId": KEY,
        "keySecret": SECRET,
        "authorization": answer.header_params["Authorization"],
    }


print(json.dumps([vector(name, *case) for name, case in CASES.items()], ensure_ascii=False, indent=1))
