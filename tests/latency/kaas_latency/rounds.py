"""Turns: the parties of a measure one after another, A B A B, until there are enough quiet rounds.

A round is one turn of each party. A round in which the machine was disturbed is discarded as a
whole, since ratios are of neighbouring turns, and repeated; which rounds those are is judged over
all rounds of the measure, anew with each (quiet.py). A peer that fails is left out from then on,
and the report says why; if KaaS fails, the measure does.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Callable, Mapping, Protocol, Sequence

from kaas_latency.figures import Histogram
from kaas_latency.protocol import PeerFault
from kaas_latency.quiet import Seen, disturbances, usual_calibration

REPEATS_MAX = 2  # Discarded rounds at most, for each that is wanted.
FIGURE_PERCENTS = {"p50_us": 50, "p99_us": 99, "p99.9_us": 99.9}


@dataclass
class Turn:
    """What one party did in its turn."""
    figures: dict[str, float]
    histogram: Histogram = field(default_factory=Histogram)
    late_max_ns: int = 0


class Crowd(Protocol):
    """The processes of one party."""
    name: str

    def turn(self) -> Turn: ...


@dataclass
class PartyResult:
    rounds: list[dict[str, float]] = field(default_factory=list)
    histogram: Histogram = field(default_factory=Histogram)
    late_max_ns: int = 0
    absent: str = ""  # Why it was not measured, or not to the end.

    def add(self, turn: Turn) -> None:
        self.rounds.append(turn.figures)
        self.histogram.merge(turn.histogram)
        self.late_max_ns = max(self.late_max_ns, turn.late_max_ns)


@dataclass
class MeasureResult:
    parties: dict[str, PartyResult] = field(default_factory=dict)
    discarded: int = 0
    wanted: int = 0
    ended: str = ""  # Why there are fewer rounds than wanted; empty: there are not.
    disturbances: dict[str, int] = field(default_factory=dict)  # In how many rounds, of each kind.
    calibration_ms: float = 0.0  # What the calibration loop usually took behind its rounds.


def all_disturbances(results: Mapping[str, MeasureResult]) -> dict[str, int]:
    """In how many rounds of these measures each kind was seen."""
    total: Counter[str] = Counter()
    for result in results.values():
        total.update(result.disturbances)
    return dict(total)


def figures_of(histogram: Histogram, rate: float) -> dict[str, float]:
    figures = {name: histogram.percentile_ns(percent) / 1000
               for name, percent in FIGURE_PERCENTS.items()}
    figures["rate"] = rate
    p50 = figures["p50_us"]
    figures["p99/p50"] = figures["p99_us"] / p50 if p50 else float("inf")
    figures["p99.9/p50"] = figures["p99.9_us"] / p50 if p50 else float("inf")
    return figures


class Rounds:
    """The rounds of a measure so far, and which of them were disturbed."""

    def __init__(self):
        self.turns: list[dict[str, Turn]] = []
        self.seen: list[Seen] = []
        self.disturbed: list[list[str]] = []

    def add(self, turns: dict[str, Turn], seen: Seen) -> None:
        self.turns.append(turns)
        self.seen.append(seen)
        self.disturbed = disturbances(self.seen)

    @property
    def kept(self) -> int:
        return sum(not reasons for reasons in self.disturbed)

    @property
    def discarded(self) -> int:
        return len(self.turns) - self.kept

    def settle(self, result: MeasureResult) -> None:
        """Quiet rounds become those of the parties that were there to the end."""
        result.discarded = self.discarded
        result.calibration_ms = 1000 * usual_calibration(self.seen) if self.seen else 0.0
        for turns, reasons in zip(self.turns, self.disturbed):
            for reason in reasons:
                result.disturbances[reason] = result.disturbances.get(reason, 0) + 1
            for name, turn in turns.items():
                if not reasons and not result.parties[name].absent:
                    result.parties[name].add(turn)


def why_enough(rounds: Rounds, wanted: int, over: bool) -> str | None:
    """Why no further round is to be made; empty: there are as many as wanted. None: one is."""
    if rounds.kept >= wanted:
        return ""
    if rounds.discarded > REPEATS_MAX * wanted:
        return "the machine was not quiet"
    if over and rounds.kept > 0:
        return "the time budget"
    # A last resort has to end, too: a machine that is never quiet.
    if over and rounds.discarded > REPEATS_MAX:
        return "the machine was not quiet"
    return None


def take_turns(crowds: Sequence[Crowd], rounds: int, watch, over: Callable[[], bool],
               absent: dict[str, str] | None = None) -> MeasureResult:
    """`watch` as quiet.Watch. `over`: the time for this measure is used up. `absent`: parties that
    could not be started, and why. Of `crowds`, the first is KaaS."""
    result = MeasureResult(wanted=rounds)
    result.parties = {crowd.name: PartyResult() for crowd in crowds}
    for name, why in (absent or {}).items():
        result.parties[name] = PartyResult(absent=why)
    working = list(crowds)
    first = crowds[0].name if crowds else ""
    made = Rounds()
    while working and working[0].name == first:
        why = why_enough(made, rounds, over())
        if why is not None:
            result.ended = why
            break
        begin = watch.begin()
        turns: dict[str, Turn] = {}
        for crowd in list(working):
            try:
                turns[crowd.name] = crowd.turn()
            except PeerFault as fault:
                result.parties[crowd.name] = PartyResult(absent=str(fault))
                working.remove(crowd)
        made.add(turns, watch.end(begin))
    made.settle(result)
    return result


class Budget:
    """Seconds that are dealt out to measures by weight; what one leaves, the others get."""

    def __init__(self, seconds: float, weights: Sequence[float],
                 clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.end = clock() + seconds
        self.weights = list(weights)

    def next_share(self) -> float:
        """Seconds of the next measure."""
        total = sum(self.weights)
        weight = self.weights.pop(0)
        left = max(0.0, self.end - self.clock())
        return left * weight / total if total else left

    def seconds_left(self) -> float:
        return self.end - self.clock()
