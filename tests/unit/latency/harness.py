"""Makes the harness's modules importable, and results of measures from plain lists."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(os.path.dirname(os.path.dirname(HERE)), "latency")
sys.path.insert(0, FOLDER)

# pylint: disable=wrong-import-position
from kaas_latency import protocol
from kaas_latency.rounds import MeasureResult, PartyResult

protocol.END_SECONDS = 0.5  # Until a peer that does not end is killed.


def result_of(**parties) -> MeasureResult:
    """Of `kaas=[1.0, 2.0]`: each round's p50 of each party; a text: why it is absent."""
    made = {}
    for name, rounds in parties.items():
        name = name.replace("_", "-")
        if isinstance(rounds, str):
            made[name] = PartyResult(absent=rounds)
        else:
            made[name] = PartyResult([{"p50_us": value, "p99_us": 3 * value, "rate": value,
                                       "ms": value} for value in rounds])
    return MeasureResult(made, 0, 30)
