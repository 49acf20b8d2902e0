#!/usr/bin/env python3
"""CuPy or PyTorch in the client, as a peer of tests/latency: python_peer.py cupy|torch.

The same work as its other peers: small kernels on 64 floats that stay on the device, or bytes from
host memory to the device, a kernel, and back. `first`, as a second word, is a new process to its
first result: two numbers, see README.md.
"""

import json
import sys
import time

BEGIN_NS = time.monotonic_ns()
FLOATS = 64


class Cupy:
    def __init__(self):
        import cupy
        self.cupy, self.stream = cupy, cupy.cuda.Stream(non_blocking=True)
        self.stream.use()
        self.name = f"CuPy {cupy.__version__}"

    def chain(self, kernels):
        x = self.cupy.zeros(FLOATS, self.cupy.float32)

        def run():
            for _ in range(kernels):
                self.cupy.add(x, 1, out=x)
            self.stream.synchronize()
        return run

    def payload(self, count):
        host = self.cupy.cuda.alloc_pinned_memory(4 * count)
        import numpy
        source = numpy.frombuffer(host, numpy.float32, count)
        source[:] = 1
        back = numpy.frombuffer(self.cupy.cuda.alloc_pinned_memory(4 * count), numpy.float32, count)
        x = self.cupy.empty(count, self.cupy.float32)

        def run():
            x.set(source, stream=self.stream)
            self.cupy.multiply(x, 2, out=x)
            x.get(stream=self.stream, out=back)
            self.stream.synchronize()
        return run


class Torch:
    def __init__(self):
        import torch
        if not torch.cuda.is_available():
            raise RuntimeError("PyTorch finds no GPU")
        self.torch = torch
        self.name = f"PyTorch {torch.__version__}"

    def chain(self, kernels):
        x = self.torch.zeros(FLOATS, device="cuda")

        def run():
            for _ in range(kernels):
                x.add_(1)
            self.torch.cuda.synchronize()
        return run

    def payload(self, count):
        source = self.torch.ones(count).pin_memory()
        back = self.torch.empty(count).pin_memory()
        x = self.torch.empty(count, device="cuda")

        def run():
            x.copy_(source, non_blocking=True)
            x.mul_(2)
            back.copy_(x, non_blocking=True)
            self.torch.cuda.synchronize()
        return run


def measure(library, words):
    keys = {key: float(value) for key, value in (word.split("=") for word in words)}
    unknown = set(keys) - {"kernels", "payload", "requests", "seconds", "warmup"}
    kernels, payload = int(keys.get("kernels", 1)), int(keys.get("payload", 0))
    if unknown or kernels < 1:
        return {"cannot": f"it does kernels and payloads one after another, not {' '.join(words)}"}
    run = library.payload(payload // 4) if payload else library.chain(kernels)
    for _ in range(max(10, int(keys.get("warmup", 0)))):
        run()
    samples, begin = [], time.perf_counter()
    requests, seconds = keys.get("requests", float("inf")), keys.get("seconds", float("inf"))
    while not samples or (len(samples) < requests and time.perf_counter() - begin < seconds):
        start = time.perf_counter_ns()
        run()
        samples.append(time.perf_counter_ns() - start)
    return {"samples_ns": samples, "seconds": time.perf_counter() - begin}


def main():
    try:
        library = {"cupy": Cupy, "torch": Torch}[sys.argv[1]]()
    except (ImportError, RuntimeError) as error:
        print(json.dumps({"error": f"{sys.argv[1]}: {error}"}), flush=True)
        return 1
    if sys.argv[2:] == ["first"]:
        library.payload(1024)()
        end_ns = time.monotonic_ns()
        print(end_ns - BEGIN_NS, end_ns)
        return 0
    print(json.dumps({"ready": library.name}), flush=True)
    for line in sys.stdin:
        try:
            answer = measure(library, line.split()[1:])
        except (RuntimeError, ValueError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
