"""Peers: programs that measure when they are told to. README.md says what is spoken.

A peer may be anybody's: whatever it writes, or does not write, becomes a PeerFault that says what
was found, and nothing else.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from typing import NamedTuple, Sequence

from kaas_latency.figures import Histogram

READY_SECONDS = 60.0
ANSWER_SECONDS = 60.0  # Beyond what was asked for.
END_SECONDS = 5.0
LINE_BYTES_MAX = 16 << 20
BANNER_LINES_MAX = 100
LATENCY_NS_MAX = 1 << 62
SHOWN = 120
PR_SET_PDEATHSIG = 1


class PeerFault(Exception):
    """What a peer did wrong, or why it can't do what was asked."""


class Measured(NamedTuple):
    histogram: Histogram
    seconds: float
    late_max_ns: int


def shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def whole_number(value, name: str, limit: int = LATENCY_NS_MAX) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise PeerFault(f"{name} is {shown(repr(value))}, allowed: a number")
    if not 0 <= value <= limit:
        raise PeerFault(f"{name} is {value}, allowed: 0 to {limit}")
    return round(value)


def parse_ready(line: str) -> str:
    """The description of a peer that is ready."""
    answer = parse_object(line)
    if "error" in answer:
        raise PeerFault(str(answer["error"]))
    if not isinstance(answer.get("ready"), str):
        raise PeerFault(f"says {shown(line)}, expected {{\"ready\": \"...\"}}")
    return answer["ready"]


def parse_object(line: str) -> dict:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise PeerFault(f"says {shown(line)}, expected one JSON object on a line")
    return answer


def samples_of(answer: dict) -> list[tuple[int, int]]:
    if ("samples_ns" in answer) == ("histogram_ns" in answer):
        raise PeerFault("its answer has both or neither of samples_ns and histogram_ns, "
                        "allowed: one of them")
    name = "samples_ns" if "samples_ns" in answer else "histogram_ns"
    values = answer[name]
    if not isinstance(values, list):
        raise PeerFault(f"{name} is {shown(repr(values))}, allowed: a list")
    if name == "samples_ns":
        return [(whole_number(value, f"{name}[{i}]"), 1) for i, value in enumerate(values)]
    counts = []
    for i, pair in enumerate(values):
        if not isinstance(pair, list) or len(pair) != 2:
            raise PeerFault(f"{name}[{i}] is {shown(repr(pair))}, allowed: [NANOSECONDS, COUNT]")
        latency_ns, count = (whole_number(value, f"{name}[{i}]") for value in pair)
        counts.append((latency_ns, count))
    return counts


def parse_answer(line: str, requests: int) -> Measured:
    """The answer to a `measure` line; `requests`: as many as were asked for, 0: no limit."""
    answer = parse_object(line)
    for name in ("cannot", "error"):
        if name in answer:
            raise PeerFault(f"{'can not' if name == 'cannot' else 'failed'}: {answer[name]}")
    histogram = Histogram(samples_of(answer))
    total = histogram.total()
    if total == 0:
        raise PeerFault("its answer has no samples")
    if requests and total > requests:
        raise PeerFault(f"its answer has {total} samples, {requests} requests were asked for")
    seconds = answer.get("seconds", 0.0)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
        raise PeerFault(f"seconds is {shown(repr(seconds))}, allowed: a number from 0 on")
    if seconds == 0.0:
        seconds = sum(ns * count for ns, count in histogram.counts.items()) / 1e9
    return Measured(histogram, float(seconds),
                    whole_number(answer.get("late_max_ns", 0), "late_max_ns"))


def numbers_of(command: str) -> dict[str, float]:
    """The keys of a `measure` line."""
    return {key: float(value) for key, value in (word.split("=") for word in command.split())}


def end_with_parent() -> None:
    """In a child before it executes its program: it ends when the harness dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class PeerProcess:
    """One running peer; await_ready() before anything else. Ends with its input, or is killed."""

    def __init__(self, words: Sequence[str], environment: dict[str, str] | None = None):
        self.words = list(words)
        self.unread = b""
        self.asked: dict[str, float] = {}
        self.errors = tempfile.TemporaryFile()  # A pipe that nobody reads would block it.
        try:
            self.process = subprocess.Popen(
                self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                env={**os.environ, **(environment or {})}, preexec_fn=end_with_parent)
        except OSError as error:
            self.errors.close()
            raise PeerFault(f"can't be started: {error}") from None

    def await_ready(self, seconds: float = READY_SECONDS) -> str:
        """What it says of itself."""
        return parse_ready(self.first_object(seconds))

    @property
    def pid(self) -> int:
        return self.process.pid

    def first_object(self, seconds: float) -> str:
        """Its first line that is JSON: libraries print banners before."""
        deadline, line = time.monotonic() + seconds, ""
        for _ in range(BANNER_LINES_MAX):
            line = self.receive(deadline - time.monotonic())
            if line.startswith("{"):
                break
        return line

    def ask(self, command: str) -> None:
        """Sends a `measure` line; answer() takes what comes of it."""
        try:
            self.process.stdin.write(f"measure {command}\n".encode())
            self.process.stdin.flush()
        except OSError:
            raise PeerFault("does not read any more" + self.ending()) from None
        self.asked = numbers_of(command)

    def answer(self) -> Measured:
        line = self.receive(self.asked.get("seconds", 0) + ANSWER_SECONDS)
        return parse_answer(line, int(self.asked.get("requests", 0)))

    def measure(self, command: str) -> Measured:
        self.ask(command)
        return self.answer()

    def receive(self, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        stdout = self.process.stdout.fileno()
        while b"\n" not in self.unread:
            if len(self.unread) > LINE_BYTES_MAX:
                raise PeerFault(f"its line is longer than {LINE_BYTES_MAX} bytes")
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                said = self.unread.decode(errors="replace")
                raise PeerFault(f"has not answered within {seconds:.0f} s"
                                + (f", only {shown(said)}" if said else ""))
            piece = os.read(stdout, 1 << 16)
            if not piece:
                raise PeerFault("has ended" + self.ending())
            self.unread += piece
        line, self.unread = self.unread.split(b"\n", 1)
        return line.decode(errors="replace")

    def ending(self) -> str:
        """How it ended, and the end of what it said on standard error."""
        try:
            status = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return ""
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - SHOWN))
        said = self.errors.read().decode(errors="replace")
        return f" with status {status}" + (f": {shown(said)}" if said.strip() else "")

    def close(self) -> None:
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()
