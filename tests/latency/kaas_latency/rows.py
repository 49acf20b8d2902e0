"""The table: what is measured, and what is promised of it. Everything else only carries this out.

A measure is one `measure` line of the peer protocol and the parties that take turns with it, KaaS
first. A row holds one figure of a measure against a bound: of the figure itself, or of its ratio to
the same figure of the best of some peers. To add a row, add a line.
"""

from typing import NamedTuple


class Measure(NamedTuple):
    name: str
    what: str
    device: str                # "cuda" or "host": where it can be measured.
    command: str               # Of the peer protocol, without the number of requests.
    requests: int              # Of each client in a round; 0: the command has seconds.
    parties: tuple[str, ...]   # KaaS first.
    clients: int = 1           # Processes of each party, at the same time.
    neighbour: str = ""        # A command that a process beside is kept busy with, of each party.
    kind: str = "requests"     # Or "first", "tail", "stages"; see rounds.py.
    weight: float = 1.0        # Its part of the time budget.


class Row(NamedTuple):
    name: str
    what: str
    measure: str
    figure: str                # One of report.UNITS.
    at_most: bool
    bound: float
    against: tuple[str, ...] = ()  # Peers; the ratio to the best of them. Empty: the figure itself.


MICRO = "busy_ns=10000 seconds=0.3"
SATURATING = "busy_ns=200000 blocks=8448 depth=4"
SERVED = ("grpc", "zeromq")
OWN = ("own-stream", "own-graph")
SWEEP_CLIENTS = (1, 2, 4, 8, 16)
SWEEP_PAYLOADS = (1024, 16384, 65536, 262144, 1048576)
SWEEP_KERNELS = (2, 4, 16, 64)

CUDA_MEASURES = (
    Measure("kernels-1", "1 small kernel", "cuda", "kernels=1", 2000,
            ("kaas", "kaas-memory", "kaas-kaasd", *OWN, "cupy", "torch")),
    Measure("kernels-8", "8 small kernels", "cuda", "kernels=8", 1000,
            ("kaas", "kaas-memory", "kaas-kaasd", *OWN, "torch")),
    Measure("kernels-32", "32 small kernels", "cuda", "kernels=32", 400,
            ("kaas", "kaas-memory", *OWN, "torch")),
    Measure("kernels-128", "128 small kernels", "cuda", "kernels=128", 150,
            ("kaas", "kaas-memory", *OWN, "torch")),
    Measure("tail", "null request, one after another, for long", "cuda", "kernels=0", 0,
            ("kaas", "own-stream", "own-graph"), kind="tail", weight=6),
    Measure("payload-4k", "4 KiB in, a kernel, 4 KiB out", "cuda", "payload=4096", 1000,
            ("kaas", "kaas-kaasd", *OWN, *SERVED, "torch"), weight=2),
    Measure("served-1", "1 small kernel, beside servers", "cuda", "kernels=1", 500,
            ("kaas", *SERVED)),
    Measure("paced", "one request each 100 ms, nobody spinning between", "cuda",
            "kernels=1 every_us=100000", 3,
            ("kaas-default", "kaas-asleep", "own-stream", "own-stream-blocking"), weight=6),
    Measure("neighbour", "10 us kernel beside a saturating neighbour", "cuda", MICRO, 0,
            ("kaas-urgent", "own-stream", "own-stream-mps"), neighbour=SATURATING, weight=5),
    Measure("clients-4", "4 clients, kernels of 100 us", "cuda", "busy_ns=100000 seconds=0.15", 0,
            ("kaas", "own-stream-mps", "own-graph-mps", "own-stream"), clients=4, weight=3),
    Measure("first", "a new process to its first result", "cuda", "", 1, ("kaas", "own-stream"),
            kind="first", weight=3),
    Measure("rate-8", "single-kernel requests, 8 clients with 16 under way each", "cuda",
            "kernels=1 depth=16 seconds=0.2", 0, ("kaas", "kaas-kaasd", "own-stream"), clients=8,
            weight=2),
    Measure("open-1", "1 small kernel, open loop, 10,000 a second", "cuda",
            "kernels=1 rate=10000 seconds=0.2", 0, ("kaas", *OWN, "zeromq")),
    Measure("stages", "where the time of a null request goes", "cuda", "kernels=0", 5000, ("kaas",),
            kind="stages"),
    Measure("stages-paced", "where the time of one small kernel each 100 ms goes", "cuda",
            "kernels=1 every_us=100000", 60, ("kaas",), kind="stages"),
    *(Measure(f"kernels-{kernels}", f"{kernels} small kernels", "cuda", f"kernels={kernels}", 200,
              ("kaas", *OWN), weight=0.5) for kernels in SWEEP_KERNELS),
    *(Measure(f"payload-{payload}", f"{payload} bytes in and out", "cuda", f"payload={payload}",
              100, ("kaas", *OWN, *SERVED), weight=0.5) for payload in SWEEP_PAYLOADS),
    *(Measure(f"crowd-{clients}", f"{clients} clients, 1 small kernel, one under way each", "cuda",
              "kernels=1 seconds=0.1", 0, ("kaas", "own-stream", "own-stream-mps", *SERVED),
              clients=clients, weight=0.7) for clients in SWEEP_CLIENTS),
)

HOST_PEERS = ("boost", "socket", "iceoryx", "zeromq", "grpc")
HOST_MEASURES = (
    Measure("host-null", "null request through kaasd, spinning", "host", "kernels=0", 2000,
            ("kaas-kaasd", *HOST_PEERS, "inprocess")),
    Measure("host-null-lane", "null request on a granted lane, hot", "host", "kernels=0", 2000,
            ("kaas-lane", "boost", "iceoryx", "inprocess")),
    Measure("host-paced", "null request each 4 ms, everyone asleep", "host",
            "kernels=0 every_us=4000", 20,
            ("kaas-default", "kaas-asleep", "socket-sleep", "boost-sleep", "zeromq", "grpc"),
            weight=3),
    Measure("host-pipelined", "null requests through kaasd, 64 under way", "host",
            "kernels=0 depth=64", 50000, ("kaas-kaasd",)),
    Measure("host-pipelined-lane", "null requests on a lane, 64 under way", "host",
            "kernels=0 depth=64", 50000, ("kaas-lane",)),
    Measure("host-tail", "null request, one after another, for long", "host", "kernels=0", 0,
            ("kaas", "kaas-kaasd", "boost"), kind="tail", weight=3),
    Measure("host-payload-4k", "4 KiB in, a kernel, 4 KiB out", "host", "payload=4096", 500,
            ("kaas", *HOST_PEERS, "inprocess")),
    Measure("host-first", "a new process to its first result", "host", "", 1, ("kaas",),
            kind="first", weight=2),
    Measure("host-open", "null request, open loop, 5,000 a second", "host",
            "kernels=0 rate=5000 seconds=0.2", 0, ("kaas", *HOST_PEERS)),
    Measure("host-stages", "where the time of a null request goes", "host", "kernels=0", 5000,
            ("kaas",), kind="stages"),
    Measure("host-stages-paced", "where the time of a null request each 4 ms goes", "host",
            "kernels=0 every_us=4000", 200, ("kaas",), kind="stages"),
    *(Measure(f"host-payload-{payload}", f"{payload} bytes in and out", "host",
              f"payload={payload}", 100, ("kaas", *HOST_PEERS), weight=0.5)
      for payload in SWEEP_PAYLOADS),
    *(Measure(f"host-kernels-{kernels}", f"{kernels} small kernels", "host", f"kernels={kernels}",
              200, ("kaas", "kaas-memory", "boost", "inprocess"), weight=0.5)
      for kernels in (1, 8, 32, 128)),
    *(Measure(f"host-crowd-{clients}", f"{clients} clients, null requests, one under way each",
              "host", "kernels=0 seconds=0.1", 0, ("kaas", "socket", "zeromq", "grpc"),
              clients=clients, weight=0.7) for clients in (1, 2, 4, 8)),
)

MEASURES = {measure.name: measure for measure in CUDA_MEASURES + HOST_MEASURES}

STREAM_BOUNDS = {1: 0.85, 8: 0.42, 32: 0.34, 128: 0.29}
GRAPH_BOUNDS = {1: 1.15, 8: 1.08, 32: 1.03, 128: 1.01}
CONTEXTS = ("own-stream",)
MPS = ("own-stream-mps", "own-graph-mps")

ROWS = (
    *(Row(f"stream-{kernels}", f"{kernels} small kernels against stream and synchronise",
          f"kernels-{kernels}", "p50_us", True, bound, ("own-stream",))
      for kernels, bound in STREAM_BOUNDS.items()),
    *(Row(f"graph-{kernels}", f"{kernels} small kernels against a graph launch, polled",
          f"kernels-{kernels}", "p50_us", True, bound, ("own-graph",))
      for kernels, bound in GRAPH_BOUNDS.items()),
    Row("tail-p99", "p99 of a null request over its p50", "tail", "p99/p50", True, 2),
    Row("tail-p99.9", "p99.9 of a null request over its p50", "tail", "p99.9/p50", True, 5),
    Row("payload-4k", "4 KiB in and out against copies and synchronise", "payload-4k", "p50_us",
        True, 0.65, ("own-stream",)),
    Row("served-kernel", "1 kernel against a hand-written server", "served-1", "p50_us", True,
        1 / 5, SERVED),
    Row("served-4k", "4 KiB against a hand-written server", "payload-4k", "p50_us", True, 1 / 5,
        SERVED),
    Row("paced", "one request each 100 ms against the same in an own process", "paced", "p50_us",
        True, 1.5, ("own-stream", "own-stream-blocking")),
    Row("neighbour-p50", "10 us kernel beside a saturating neighbour against own contexts",
        "neighbour", "p50_us", True, 1 / 50, CONTEXTS),
    Row("neighbour-p99", "the same at p99", "neighbour", "p99_us", True, 1 / 5, CONTEXTS),
    Row("clients-4", "4 clients, kernels of 100 us, against MPS", "clients-4", "p50_us", True, 1.05,
        MPS),
    Row("first-vs-own", "first result of a new process against an own context", "first", "ms", True,
        1 / 150, CONTEXTS),
    Row("first", "first result of a new process", "first", "ms", True, 1.5),
    Row("rate-8", "single-kernel requests a second of 8 clients", "rate-8", "rate", False, 400_000),
    Row("host-null-lane", "null request on a granted lane, hot", "host-null-lane", "p50_us", True,
        1),
    Row("host-pipelined", "pipelined null requests a second through kaasd", "host-pipelined",
        "rate", False, 1_000_000),
    Row("host-pipelined-lane", "pipelined null requests a second on a lane", "host-pipelined-lane",
        "rate", False, 3_000_000),
    Row("host-first", "connect to first result of a new process", "host-first", "ms", True, 1),
)
