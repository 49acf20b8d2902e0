"""Which process runs on which core. Each party has the same places, so that none is favoured.

The thread of a process that does the work is pinned to a core: that with which it begins, of kaasd
and executors the busiest. What other threads it has (of the driver, of a library) share the cores
that are left. A process is pinned when it has worked already: then it is known which thread is the
busiest, and KaaS has looked, as it does once, how many cores it may use, to decide how it spins.
"""

import os
from typing import NamedTuple, Sequence

# client, kaasd, executor (or server): a core each, and one left for everything else.
CORES_MIN = 4


class Placement(NamedTuple):
    kaasd: int | None       # None: not pinned.
    server: int | None      # The executor; of peers, their server.
    clients: tuple[int, ...]
    rest: frozenset[int]
    note: str = ""          # Not pinned: why. Pinned: what else to know.

    def text(self) -> str:
        if self.kaasd is None:
            return f"not pinned: {self.note}"
        clients = f"{self.clients[0]} to {self.clients[-1]}" if len(self.clients) > 1 else str(
            self.clients[0])
        return (f"kaasd on core {self.kaasd}, executor or server on {self.server}, clients on "
                f"{clients} in turn, other threads on cores {text_of(self.rest)}{self.note}")

    def client(self, number: int) -> int | None:
        """Where the client of this number belongs, in turn where they are more than cores; None:
        anywhere."""
        return None if self.kaasd is None else self.clients[number % len(self.clients)]


def text_of(cores: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cores)))


def siblings_of(core: int) -> frozenset[int]:
    """The logical cores of the same physical one."""
    path = f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
    try:
        with open(path, encoding="ascii") as file:
            return parse_list(file.read())
    except (OSError, ValueError):
        return frozenset([core])


def parse_list(text: str) -> frozenset[int]:
    """Of `0-3,8`."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return frozenset(cores)


def choose(cores: Sequence[int], pinned: bool = True, siblings=siblings_of) -> Placement:
    """Distinct physical cores first, one logical core of each; the last is left to the rest."""
    if not pinned or len(cores) == 1:
        note = "as asked" if not pinned else "there is one core"
        return Placement(None, None, (), frozenset(cores), note)
    if len(cores) < CORES_MIN:
        # The two ends of a lane, and peers and their servers, have a core each; kaasd shares the
        # clients', as it sleeps while a lane is used.
        server, client = sorted(cores)[:2]
        return Placement(client, server, (client,), frozenset(cores),
                         f"; {len(cores)} cores are fewer than {CORES_MIN}: processes share cores")
    first, second, seen = [], [], set()
    for core in sorted(cores):
        (second if core in seen else first).append(core)
        seen |= siblings(core)
    ordered = first + second
    rest = max(1, len(ordered) // 4)
    # Clients take what is neither kaasd's, nor the server's, nor left to the others.
    return Placement(ordered[0], ordered[1], tuple(ordered[2:len(ordered) - rest]),
                     frozenset(ordered[len(ordered) - rest:]))


def busiest_thread(pid: int) -> int:
    """The thread of a process that has had most processor time."""
    times = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                times.append((int(file.read().split()[0]), int(thread)))
        except (OSError, ValueError, IndexError):
            pass
    return max(times, default=(0, pid))[1]


def pin(pid: int, core: int | None, rest: frozenset[int], busiest: bool = False) -> None:
    """One thread to `core`, the first or the busiest so far; the others to `rest`. A process that
    has ended is left alone."""
    if core is None:
        return
    try:
        chosen = busiest_thread(pid) if busiest else pid
        for thread in map(int, os.listdir(f"/proc/{pid}/task")):
            try:
                os.sched_setaffinity(thread, {core} if thread == chosen else rest)
            except ProcessLookupError:
                pass
    except FileNotFoundError:
        pass
