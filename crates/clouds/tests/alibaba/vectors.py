"""Writes vectors.json: what Alibaba Cloud's own SDK for Python signs for fixed requests.

Run it with alibabacloud_tea_openapi installed:  python vectors.py > vectors.json
"""

import hashlib
import json
from types import SimpleNamespace

from alibabacloud_tea_openapi.utils import Utils

ALGORITHM = "ACS3-HMAC-SHA256"
EMPTY = hashlib.sha256(b"").hexdigest()


def headers(action, version="2022-02-22", host="ess.aliyuncs.com", **more):
    return {
        "host": host,
        "x-acs-action": action,
        "x-acs-version": version,
        "x-acs-date": "2026-01-02T03:04:05Z",
        "x-acs-signature-nonce": "0123456789abcdef",
        "x-acs-content-sha256": EMPTY,
        **more,
    }


CASES = {
    "no query": ("POST", "/", {}, headers("DescribeRegions")),
    "plain query": (
        "POST",
        "/",
        Utils.query({"RegionId": "cn-hangzhou", "ScalingGroupIds": ["asg-1", "asg-2"], "PageSize": 50}),
        headers("DescribeScalingGroups"),
    ),
    "escapes": (
        "POST",
        "/",
        {"A": "a b+c*d~e/f?g=h&i%j", "B": "", "C": "伸缩组 é", "a": "small after capital", "Z.10": "1", "Z.2": "2"},
        headers("CreateScalingRule"),
    ),
    "json in a value": (
        "POST",
        "/",
        {"ActivityMetadata": '{"tideline/intent":"buy-1"}', "AdjustmentType": "TotalCapacity"},
        headers("ScaleWithAdjustment"),
    ),
    "temporary credentials": (
        "POST",
        "/",
        {"RegionId": "eu-central-1"},
        headers(
            "DescribeInstanceTypes",
            "2014-05-26",
            "ecs.eu-central-1.aliyuncs.com",
            **{"x-acs-security-token": "CAIS+token/with==", "x-acs-accesskey-id": "STS.key"},
        ),
    ),
    "more headers, with spaces": (
        "GET",
        "/",
        {"X": "1"},
        headers("X", accept="application/json", **{"user-agent": "  some agent  "}),
    ),
    "host with a port": ("POST", "/", {"X": "1"}, headers("X", host="127.0.0.1:8080")),
}


def vector(name, method, path, query, signed):
    request = SimpleNamespace(method=method, pathname=path, query=query, headers=signed)
    secret = "testsecret+/="
    return {
        "name": name,
        "method": method,
        "path": path,
        "query": query,
        "headers": signed,
        "payload": EMPTY,
        "keyId": "testid",
        "keySecret": secret,
        "authorization": Utils.get_authorization(request, ALGORITHM, EMPTY, "testid", secret),
    }


print(json.dumps([vector(name, *case) for name, case in CASES.items()], ensure_ascii=False, indent=1))
