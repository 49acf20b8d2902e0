"""Whether a round was measured on a quiet machine: time that the hypervisor took, a GPU that
throttled, a calibration loop that ran slower than behind the other rounds. What was seen is told in
words, for the report.

How fast the loop is depends on what the measured processes do: they share caches, physical cores
and the clock with it. So it is held against the rounds of the same measure, never against what it
can on an idle machine.
"""

import ctypes
import hashlib
import os
import statistics
import subprocess
import time
from typing import NamedTuple, Sequence

# Of a round's processor time. A tick is 10 ms, so one alone says nothing about a short round.
STEAL_SHARE_MAX = 0.02
STEAL_TICKS_MIN = 2
CALIBRATION_SLOWER_MAX = 1.25
CALIBRATION_ITERATIONS = 1500  # About a millisecond.
SLOW_LOOP = "the calibration loop was slow"
# Of nvml.h: what makes clocks lower than they would be, but for being idle and settings.
THROTTLED = {0x4: "power cap", 0x8: "hardware slowdown", 0x20: "too hot",
             0x40: "too hot (hardware)", 0x80: "power brake"}
NVML_CLOCK_SM = 1
NVML_CALLS = ("nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetClockInfo")


def steal_ticks(stat: str, cores: set[int]) -> int:
    """Ticks that /proc/stat says were stolen from these cores."""
    total = 0
    for line in stat.splitlines():
        words = line.split()
        if len(words) > 8 and words[0].startswith("cpu") and words[0] != "cpu":
            if int(words[0][3:]) in cores:
                total += int(words[8])
    return total


def was_stolen(ticks: int, seconds: float, cores: int, ticks_a_second: float) -> bool:
    return ticks >= STEAL_TICKS_MIN and ticks > STEAL_SHARE_MAX * seconds * cores * ticks_a_second


def throttle_text(reasons: int) -> str:
    """Empty: the clocks are not held down."""
    return ", ".join(text for bit, text in THROTTLED.items() if reasons & bit)


def calibration_seconds() -> float:
    """A loop that does the same each time, in C: best of three."""
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        hashlib.pbkdf2_hmac("sha256", b"kaas", b"latency", CALIBRATION_ITERATIONS)
        best = min(best, time.perf_counter() - begin)
    return best


class GpuClocks:
    """The clocks of one GPU, by NVML from the driver, or nvidia-smi."""

    def __init__(self, index: int):
        self.index = index
        self.nvml, self.handle = None, ctypes.c_void_p()
        try:
            nvml = ctypes.CDLL("libnvidia-ml.so.1")
            for name in NVML_CALLS:  # A driver that lacks one is not half used.
                getattr(nvml, name)
            if (nvml.nvmlInit_v2() == 0 and
                    nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(self.handle)) == 0):
                self.nvml = nvml
        except (OSError, AttributeError):
            pass

    def read(self) -> tuple[int, int] | None:
        """(reasons to throttle, SM clock in MHz); None: nobody tells."""
        if self.nvml is None:
            return self.read_smi()
        reasons, clock = ctypes.c_ulonglong(), ctypes.c_uint()
        if self.nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle,
                                                               ctypes.byref(reasons)) != 0:
            return None
        self.nvml.nvmlDeviceGetClockInfo(self.handle, NVML_CLOCK_SM, ctypes.byref(clock))
        return reasons.value, clock.value

    def read_smi(self) -> tuple[int, int] | None:
        try:
            done = subprocess.run(
                ["nvidia-smi", f"--id={self.index}", "--format=csv,noheader,nounits",
                 "--query-gpu=clocks_throttle_reasons.active,clocks.sm"],
                capture_output=True, text=True, timeout=10, check=True)
            reasons, clock = done.stdout.split(",")
            return int(reasons, 16), int(clock)
        except (OSError, ValueError, subprocess.SubprocessError):
            return None


class Seen(NamedTuple):
    """What was seen of one round."""
    reasons: tuple[str, ...]  # What disturbed it, whatever other rounds were like.
    calibration_seconds: float


def usual_calibration(rounds: Sequence[Seen]) -> float:
    """Of the rounds of one measure: the median, which a minority of slow ones can't move; of an
    even number the lower one, so that of two rounds the slow one is the slow one."""
    return statistics.median_low(seen.calibration_seconds for seen in rounds)


def disturbances(rounds: Sequence[Seen]) -> list[list[str]]:
    """What disturbed each of the rounds of one measure; empty: nothing that can be seen. Each round
    more tells better what is usual, so earlier rounds are to be judged again with it."""
    if not rounds:
        return []
    slow = CALIBRATION_SLOWER_MAX * usual_calibration(rounds)
    return [[*seen.reasons, *([SLOW_LOOP] if seen.calibration_seconds > slow else [])]
            for seen in rounds]


class Mark(NamedTuple):
    at: float
    steal: int


class Watch:
    """Looks before and after each round."""

    def __init__(self, cores: set[int], gpu: GpuClocks | None):
        self.cores, self.gpu = cores, gpu
        self.ticks_a_second = os.sysconf("SC_CLK_TCK")
        self.best = calibration_seconds()
        self.sm_clocks_mhz: set[int] = set()

    def best_ms(self) -> float:
        """The calibration loop at its best, of the whole run."""
        return 1000 * self.best

    def begin(self) -> Mark:
        with open("/proc/stat", encoding="ascii") as file:
            return Mark(time.monotonic(), steal_ticks(file.read(), self.cores))

    def end(self, begin: Mark) -> Seen:
        """Of the round since `begin`."""
        now = self.begin()
        reasons = []
        if was_stolen(now.steal - begin.steal, now.at - begin.at, len(self.cores),
                      self.ticks_a_second):
            reasons.append("time was stolen")
        took = calibration_seconds()
        self.best = min(self.best, took)
        clocks = self.gpu.read() if self.gpu else None
        if clocks is not None:
            self.sm_clocks_mhz.add(clocks[1])
            if throttle_text(clocks[0]):
                reasons.append(f"the GPU throttled ({throttle_text(clocks[0])})")
        return Seen(tuple(reasons), took)
