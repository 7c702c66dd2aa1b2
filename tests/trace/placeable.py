#!/usr/bin/env python3
"""Counts the pods of a trace that fit an empty machine of some shape of its list of nodes.

Written apart from the simulator, on the standard library only, so that the two can be held against each other:
`tideline simulate` must place exactly these pods. A pod that finds its machines taken waits and is placed later, so
the number of machines of a shape does not matter as long as every pod ends; a pod that never ends (no deletion_time)
could block others for good, which is reported.

usage: placeable.py PODS.csv[.gz] NODES.csv[.gz]
"""

import csv
import gzip
import json
import sys


def rows(path):
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    opener = gzip.open if packed else open
    with opener(path, "rt", newline="") as text:
        yield from csv.DictReader(text)


def main(pods_path, nodes_path):
    shapes = {
        (int(n["cpu_milli"]), int(n["memory_mib"]), int(n["gpu"]), n["model"]) for n in rows(nodes_path)
    }
    seen, placeable, endless, misfits = 0, 0, 0, []
    for pod in rows(pods_path):
        seen += 1
        # A share of a GPU counts as a whole one, as in the simulation.
        need = int(pod["cpu_milli"]), int(pod["memory_mib"]), int(pod["num_gpu"])
        models = {model for model in pod["gpu_spec"].split("|") if model}
        fits = any(
            all(want <= have for want, have in zip(need, shape)) and (not models or shape[3] in models)
            for shape in shapes
        )
        if fits:
            placeable += 1
            endless += pod["deletion_time"] == ""
        else:
            misfits.append(pod["name"])
    json.dump(
        {"podsSeen": seen, "placeable": placeable, "endless": endless, "misfits": misfits[:20]}, sys.stdout
    )
    print()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
