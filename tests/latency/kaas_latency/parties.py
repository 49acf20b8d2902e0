"""Who is measured: KaaS itself in its ways, and its peers. A party is a name, what it is in words,
and how its processes are started. README.md says how to add one.
"""

import os
import sys
from typing import NamedTuple

SPIN_US = 1000  # How long clients of KaaS poll before they sleep, in measures that spin.


class Tools(NamedTuple):
    """What commands are made of."""
    programs: str  # The folder of the built programs.
    scripts: str   # The folder of peers that are scripts.
    socket: str    # Of kaasd.
    device: str    # "host" or "cuda".
    scratch: str   # A folder for sockets of servers.


class Party(NamedTuple):
    name: str
    what: str
    client: tuple[str, ...]        # The command; {socket} and so on are filled in from Tools.
    server: tuple[str, ...] = ()   # Empty: it has none.
    first: tuple[str, ...] = ()    # A new process to its first result; empty: not offered.
    mps: bool = False              # Its processes are clients of one CUDA MPS server.
    waits: str = "spins"
    devices: tuple[str, ...] = ("host", "cuda")
    neighbour: str = ""            # Which party its saturating neighbour is; empty: as itself.


def served(name: str, what: str, program: str, waits: str) -> Party:
    word = "spin" if waits == "spins" else "sleep"
    address = "{scratch}/" + name
    path = "{programs}/kaas-latency-" + program
    return Party(name, what, (path, "client", address, word),
                 server=(path, "serve", address, "{device}", word), waits=waits)


CLIENT = "{programs}/kaas-bench-client"
OURS = (CLIENT, "--peer", "{socket}", str(SPIN_US))
DIRECT = "{programs}/kaas-bench-direct"
PYTHON_PEER = (sys.executable, "{scripts}/python_peer.py")
CUDA = ("cuda",)
HOST = ("host",)

PARTIES = {party.name: party for party in (
    Party("kaas", "a client: bound plans, on a lane where kaasd grants one", (*OURS, "any"),
          first=(CLIENT, "{socket}")),
    Party("kaas-memory", "the same; small kernels read and write the client's memory",
          (*OURS, "any", "0", "client")),
    Party("kaas-lane", "a client on a granted lane, or not at all", (*OURS, "lane")),
    Party("kaas-kaasd", "a client that asks for no lane: all through kaasd", (*OURS, "kaasd")),
    Party("kaas-default", "a client as one that asks for nothing: waits poll for about a wake",
          (CLIENT, "--peer", "{socket}", "default"), waits="both"),
    Party("kaas-asleep", "a client whose waits sleep at once",
          (CLIENT, "--peer", "{socket}", "0"), waits="sleeps"),
    Party("kaas-urgent", "a client, priority 50", (*OURS, "any", "50"),
          neighbour="kaas-neighbour"),
    Party("kaas-neighbour", "a client, priority -50", (*OURS, "any", "-50")),
    Party("own-stream", "own context, a launch for each kernel, cudaStreamSynchronize",
          (DIRECT, "--peer", "stream"), first=(DIRECT, "first"), devices=CUDA),
    Party("own-stream-blocking", "the same, the context's waits sleep",
          (DIRECT, "--peer", "stream", "blocking"), waits="sleeps", devices=CUDA),
    Party("own-graph", "own context, one graph launch, cudaStreamQuery until done",
          (DIRECT, "--peer", "graph"), devices=CUDA),
    Party("own-stream-mps", "own context under MPS, launches and cudaStreamSynchronize",
          (DIRECT, "--peer", "stream"), mps=True, devices=CUDA),
    Party("own-graph-mps", "own context under MPS, one graph launch, polled",
          (DIRECT, "--peer", "graph"), mps=True, devices=CUDA),
    Party("cupy", "CuPy in the client", (*PYTHON_PEER, "cupy"), devices=CUDA),
    Party("torch", "PyTorch in the client", (*PYTHON_PEER, "torch"), devices=CUDA),
    served("grpc", "a hand-written server over gRPC, UNIX socket", "grpc", "sleeps"),
    served("zeromq", "a hand-written server over ZeroMQ, ipc", "zeromq", "sleeps"),
    served("zeromq-spin", "the same, both sides polling", "zeromq", "spins"),
    served("socket", "a hand-written server on a UNIX socket, both sides polling", "socket",
           "spins"),
    served("socket-sleep", "the same, both sides blocking", "socket", "sleeps"),
    served("boost", "a hand-written server over Boost message_queue, both sides polling", "boost",
           "spins"),
    served("boost-sleep", "the same, both sides blocking", "boost", "sleeps"),
    served("iceoryx", "a hand-written server over iceoryx request and response, polled", "iceoryx",
           "spins"),
    Party("inprocess", "the kernels called in the measuring process",
          ("{programs}/kaas-latency-inprocess",), devices=HOST),
)}


def command(words: tuple[str, ...], tools: Tools) -> list[str]:
    return [word.format(**tools._asdict()) for word in words]


def why_absent(party: Party, tools: Tools) -> str:
    """Empty: it can be started, as far as one sees."""
    if tools.device not in party.devices:
        return f"not on the device {tools.device}"
    program = command(party.client, tools)[0]
    if os.path.isabs(program) and not os.path.exists(program):
        return f"{os.path.basename(program)} is not built (its package is absent, or --no-build)"
    return ""
