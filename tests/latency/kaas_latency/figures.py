"""Numbers: latencies as histograms, percentiles, medians with their interval, ratios. Pure."""

import math
from typing import Iterable, NamedTuple, Sequence

# 2 * 0.5^6 is the first below 5 %: fewer rounds have no 95 % interval.
INTERVAL_ROUNDS_MIN = 6
NORMAL_95 = 1.96


class Histogram:
    """How often each latency was seen, in nanoseconds."""

    def __init__(self, counts: Iterable[tuple[int, int]] = ()):
        self.counts: dict[int, int] = {}
        for latency_ns, count in counts:
            self.counts[latency_ns] = self.counts.get(latency_ns, 0) + count

    def merge(self, other: "Histogram") -> None:
        for latency_ns, count in other.counts.items():
            self.counts[latency_ns] = self.counts.get(latency_ns, 0) + count

    def total(self) -> int:
        return sum(self.counts.values())

    def percentile_ns(self, percent: float) -> float:
        """The smallest latency that at least `percent` of 0 to 100 do not exceed."""
        total = self.total()
        if total == 0:
            return math.nan
        # A hair less: 99.9 % of 1000 is 999, whatever floating point makes of it.
        rank = min(max(math.ceil(percent * total / 100 * (1 - 1e-12)), 1), total)
        seen = 0
        for latency_ns in sorted(self.counts):
            seen += self.counts[latency_ns]
            if seen >= rank:
                return float(latency_ns)
        return float(max(self.counts))

    def cumulative(self, points_max: int = 200) -> list[tuple[float, float]]:
        """(latency in ns, share of values up to it), ascending; first, last, and at most
        `points_max` between."""
        total, seen, points = self.total(), 0, []
        for latency_ns in sorted(self.counts):
            seen += self.counts[latency_ns]
            points.append((float(latency_ns), seen / total))
        if len(points) <= points_max:
            return points
        step = (len(points) - 1) / (points_max - 1)
        return [points[round(i * step)] for i in range(points_max)]


class Estimate(NamedTuple):
    """The median of rounds. low and high hold the true one in 95 of 100 cases, by order statistics;
    with few rounds they are the extremes."""
    median: float
    low: float
    high: float
    rounds: int

    def spread(self) -> float:
        if self.high == self.low:
            return 0.0
        return math.inf if self.median == 0 else (self.high - self.low) / abs(self.median)


def estimate(rounds: Sequence[float]) -> Estimate | None:
    if not rounds:
        return None
    ordered = sorted(rounds)
    count = len(ordered)
    middle = count // 2
    median = ordered[middle] if count % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    below = 0
    if count >= INTERVAL_ROUNDS_MIN:
        below = max(0, math.floor((count - NORMAL_95 * math.sqrt(count)) / 2))
    return Estimate(median, ordered[below], ordered[count - 1 - below], count)


def ratios(ours: Sequence[float], peers: Sequence[float]) -> list[float]:
    """Of neighbouring rounds, so that a drift of the machine touches both sides of each."""
    return [a / b if b else math.inf for a, b in zip(ours, peers)]
