"""The processes of a party, and what they do in a turn."""

import os
import signal
import subprocess
import time
from typing import Callable

from kaas_latency import placement
from kaas_latency.figures import Histogram, estimate
from kaas_latency.parties import PARTIES, Party, Tools, command
from kaas_latency.protocol import PeerFault, PeerProcess, end_with_parent, numbers_of
from kaas_latency.rounds import Turn, figures_of
from kaas_latency.rows import Measure

# A neighbour begins so long before, and ends so long after.
NEIGHBOUR_SECONDS = 0.1
FIRST_SECONDS = 120.0
FIRST_PROCESSES = 5  # Of KaaS in a turn; of others, which take long, one.
WARM_UP = "requests=200"


class Server:
    """The server of a party. One that spins is stopped while others have their turn."""

    def __init__(self, party: Party, tools: Tools, environment: dict[str, str]):
        self.spins = party.waits == "spins"
        self.process = PeerProcess(command(party.server, tools), environment)
        try:
            self.process.await_ready()
        except PeerFault:
            self.process.close()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def pause(self) -> None:
        if self.spins:
            os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self.spins:
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        self.resume()
        self.process.close()


class RequestCrowd:
    """Clients of one party that send requests, and what they need beside."""

    def __init__(self, party: Party, measure: Measure, tools: Tools, where: placement.Placement,
                 environment: dict[str, str], pin_service: Callable[[], None]):
        self.name, self.measure, self.where = party.name, measure, where
        self.pin_service = pin_service
        self.server: Server | None = None
        self.clients: list[PeerProcess] = []
        self.neighbour: PeerProcess | None = None
        self.warm = False
        self.requests = measure.requests
        # The first request of a turn comes after a longer pause: while others had theirs.
        self.warm_up = 1 if "every_us" in measure.command else 0
        try:
            if party.server:
                self.server = Server(party, tools, environment)
            # All at the same time: a context takes long to make.
            for _ in range(measure.clients):
                self.clients.append(PeerProcess(command(party.client, tools), environment))
            if measure.neighbour:
                beside = PARTIES[party.neighbour or party.name]
                self.neighbour = PeerProcess(command(beside.client, tools), environment)
                self.neighbour.await_ready()
            for client in self.clients:
                client.await_ready()
            if self.server:
                self.server.pause()
        except PeerFault:
            self.close()
            raise

    def pin(self) -> None:
        self.pin_service()
        if self.server:
            placement.pin(self.server.pid, self.where.server, self.where.rest)
        for number, client in enumerate(self.clients):
            placement.pin(client.pid, self.where.client(number), self.where.rest)
        if self.neighbour:
            placement.pin(self.neighbour.pid, self.where.client(len(self.clients)), self.where.rest)

    def turn(self) -> Turn:
        if self.server:
            self.server.resume()
        try:
            if not self.warm:
                self.make_warm()
            return self.measured()
        finally:
            if self.server:
                self.server.pause()

    def make_warm(self) -> None:
        """Before pinning; see placement.py."""
        # One after another, without the loop that is measured.
        work = " ".join(word for word in self.measure.command.split()
                        if word.split("=")[0] not in ("seconds", "rate", "depth", "every_us"))
        for client in self.clients:
            client.measure(f"{work} {WARM_UP}")
        self.pin()
        self.warm = True

    def command(self) -> str:
        words = [self.measure.command]
        if self.requests:
            words.append(f"requests={self.requests}")
        if self.warm_up:
            words.append(f"warmup={self.warm_up}")
        return " ".join(words)

    def measured(self) -> Turn:
        if self.neighbour:
            seconds = numbers_of(self.measure.command)["seconds"]
            self.neighbour.ask(f"{self.measure.neighbour} "
                               f"seconds={seconds + 2 * NEIGHBOUR_SECONDS:g}")
            time.sleep(NEIGHBOUR_SECONDS)
        for client in self.clients:
            client.ask(self.command())
        histogram, rate, late_max_ns = Histogram(), 0.0, 0
        for client in self.clients:
            answer = client.answer()
            histogram.merge(answer.histogram)
            rate += answer.histogram.total() / answer.seconds if answer.seconds else 0.0
            late_max_ns = max(late_max_ns, answer.late_max_ns)
        if self.neighbour:
            self.neighbour.answer()
        return Turn(figures_of(histogram, rate), histogram, late_max_ns)

    def close(self) -> None:
        for process in self.clients:
            process.close()
        if self.neighbour:
            self.neighbour.close()
        if self.server:
            self.server.close()


class TailCrowd(RequestCrowd):
    """One client, a stretch of time in each turn."""
    seconds = 1.0

    def command(self) -> str:
        return f"{self.measure.command} seconds={self.seconds:g}"


class FirstCrowd:
    """New processes to their first result, by their own clock from main() on."""

    def __init__(self, party: Party, measure: Measure, tools: Tools,
                 environment: dict[str, str]):
        self.name, self.measure = party.name, measure
        self.environment = {**os.environ, **environment}
        if not party.first:
            raise PeerFault("a new process to its first result is not offered")
        self.words = command(party.first, tools)
        self.processes = FIRST_PROCESSES if party.name.startswith("kaas") else 1
        self.one()  # Files are read from disk, and kaasd loads what the function needs.

    def turn(self) -> Turn:
        times_ns = [self.one() for _ in range(self.processes)]
        middle = estimate([float(time_ns) for time_ns in times_ns])
        return Turn({"ms": middle.median / 1e6}, Histogram((time_ns, 1) for time_ns in times_ns))

    def one(self) -> int:
        try:
            done = subprocess.run(self.words, capture_output=True, text=True, timeout=FIRST_SECONDS,
                                  env=self.environment, preexec_fn=end_with_parent, check=False)
            words = done.stdout.split()
            if done.returncode == 0 and len(words) == 2:
                return int(words[0])
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise PeerFault(f"first result: {error}") from None
        raise PeerFault(f"first result: ended with {done.returncode}, said {done.stdout[:120]!r}, "
                        "expected two numbers")

    def close(self) -> None:
        pass
