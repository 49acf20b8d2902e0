"""The pictures of a report: descriptions for `kaas-bench plot`. Pure."""

from typing import Callable

from kaas_latency.figures import estimate
from kaas_latency.report import series
from kaas_latency.rounds import MeasureResult
from kaas_latency.rows import MEASURES

Results = dict[str, MeasureResult]


def axis(label: str, logarithmic: bool = False, from_zero: bool = False, ticks=()) -> dict:
    return {"label": label, "logarithmic": logarithmic, "from_zero": from_zero,
            "ticks": list(ticks)}


def distribution(results: Results, name: str) -> dict | None:
    """Latencies of one measure, as shares of requests."""
    if name not in results:
        return None
    lines = [{"name": party, "points": [[ns / 1000, share] for ns, share
                                        in measured.histogram.cumulative()]}
             for party, measured in results[name].parties.items() if measured.histogram.counts]
    return {"title": MEASURES[name].what, "x": axis("latency, us", logarithmic=True),
            "y": axis("share of requests", from_zero=True), "series": lines}


def sweep(results: Results, prefix: str, figure: str, title: str, x: dict, y: dict) -> dict | None:
    """One figure of the measures PREFIX-N over N, a line for each party."""
    lines: dict[str, list] = {}
    for name, result in results.items():
        number = name[len(prefix) + 1:].replace("4k", "4096")
        if not name.startswith(prefix + "-") or not number.isdigit():
            continue
        for party, measured in result.parties.items():
            middle = estimate(series(measured, figure))
            if middle is not None:
                lines.setdefault(party, []).append([float(number), middle.median])
    if not lines:
        return None
    ticks = sorted({point[0] for points in lines.values() for point in points})
    return {"title": title, "x": {**x, "ticks": ticks}, "y": y,
            "series": [{"name": party, "points": sorted(points), "marks": True}
                       for party, points in lines.items()]}


def pictures(results: Results) -> dict[str, dict]:
    """Name of a picture, and its charts; those that have nothing to show are left out."""
    us = axis("p50, us", logarithmic=True)
    made: dict[str, Callable[[str], list]] = {
        "cdf": lambda at: [distribution(results, at + name) for name in
                           (("null", "open", "paced") if at else ("kernels-1", "open-1", "tail"))],
        "clients": lambda at: [sweep(results, f"{at}crowd", "rate", "Rate over clients",
                                     axis("clients", logarithmic=True),
                                     axis("requests/s", from_zero=True))],
        "payload": lambda at: [sweep(results, f"{at}payload", "p50_us", "Latency over payload",
                                     axis("bytes in, and as many out", logarithmic=True), us)],
        "kernels": lambda at: [sweep(results, f"{at}kernels", "p50_us", "Latency over kernels",
                                     axis("kernels a request", logarithmic=True), us)],
    }
    found = {}
    for name, charts_of in made.items():
        for at, device in (("", ""), ("host-", "-host")):
            charts = [chart for chart in charts_of(at) if chart is not None]
            if charts:
                found[name + device] = {"charts": charts}
    return found
