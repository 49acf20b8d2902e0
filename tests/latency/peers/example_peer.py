#!/usr/bin/env python3
"""A whole peer of tests/latency: does nothing, as fast as it can. See README.md."""
import json
import sys
import time

print(json.dumps({"ready": "an example that does nothing"}), flush=True)
for line in sys.stdin:
    keys = dict(word.split("=") for word in line.split()[1:])
    if set(keys) - {"kernels", "requests", "warmup"} or keys.get("kernels", "1") != "0":
        print(json.dumps({"cannot": "it does null requests, one after another"}), flush=True)
        continue
    samples = []
    for _ in range(int(keys["requests"])):
        begin = time.perf_counter_ns()
        pass  # The work.
        samples.append(time.perf_counter_ns() - begin)
    print(json.dumps({"samples_ns": samples}), flush=True)
