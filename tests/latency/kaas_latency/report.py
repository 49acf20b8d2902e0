"""From measures to verdicts: rows, the printed table, the JSON file, several runs as one. Pure."""

from collections import Counter
from typing import NamedTuple, Sequence

from kaas_latency.figures import Estimate, Histogram, estimate, ratios
from kaas_latency.rounds import MeasureResult, PartyResult, figures_of
from kaas_latency.rows import MEASURES, ROWS, Row

FORMAT = 1
KIND = "latency"
ROUNDS_MIN = 30        # Fewer quiet ones are no verdict.
ABOVE_MIN = 5          # Requests above a percentile, for it to be shown.
UNITS = {"p50_us": "us", "p99_us": "us", "p99.9_us": "us", "rate": "/s", "ms": "ms",
         "p99/p50": "", "p99.9/p50": ""}

MET, MISSED = "met", "MISSED"
NOT_JUDGED = "not judged"          # It should have been, and was not: counts as missed.
NOT_MEASURABLE = "not measurable"  # Not on this machine.


class WrongReport(Exception):
    """What is no report, or can't be joined."""


class Judged(NamedTuple):
    row: Row
    verdict: str
    why: str                 # Of a verdict that is neither met nor missed.
    figure: Estimate | None
    peer: str                # The best of those that the row is against.
    peer_figure: Estimate | None
    value: Estimate | None   # What the bound is held against.


def series(party: PartyResult, figure: str) -> list[float]:
    return [figures[figure] for figures in party.rounds if figure in figures]


def best_peer(result: MeasureResult, row: Row) -> str:
    """The peer of the row with the best median; empty: none was measured."""
    medians = {}
    for name in row.against:
        party = result.parties.get(name)
        if party and series(party, row.figure):
            medians[name] = estimate(series(party, row.figure)).median
    if not medians:
        return ""
    return (min if row.at_most else max)(medians, key=medians.get)


def overall(party: PartyResult, row: Row) -> Estimate | None:
    """Of a ratio of percentiles the value over all rounds, with the rounds' interval."""
    rounds = estimate(series(party, row.figure))
    if rounds is None or row.figure not in ("p99/p50", "p99.9/p50") or not party.histogram.counts:
        return rounds
    whole = figures_of(party.histogram, 0)[row.figure]
    return Estimate(whole, min(rounds.low, whole), max(rounds.high, whole), rounds.rounds)


def judge(row: Row, results: dict[str, MeasureResult], devices: Sequence[str],
          rounds_min: int = ROUNDS_MIN) -> Judged:
    def undecided(verdict: str, why: str) -> Judged:
        return Judged(row, verdict, why, None, "", None, None)

    measure = MEASURES[row.measure]
    result = results.get(row.measure)
    if result is None and measure.device not in devices:
        return undecided(NOT_MEASURABLE, f"on the device {measure.device} only")
    if result is None:
        return undecided(NOT_JUDGED, "its measure was not run")
    ours = result.parties[measure.parties[0]]
    figure = overall(ours, row)
    if figure is None:
        return undecided(NOT_JUDGED, f"{measure.parties[0]}: "
                                     f"{ours.absent or result.ended or 'no rounds'}")
    peer, peer_figure, value = "", None, figure
    if row.against:
        peer = best_peer(result, row)
        if not peer:
            why = "; ".join(f"{name}: {result.parties[name].absent or 'no rounds'}"
                            for name in row.against if name in result.parties)
            return Judged(row, NOT_JUDGED, why, figure, "", None, None)
        theirs = series(result.parties[peer], row.figure)
        peer_figure = estimate(theirs)
        value = estimate(ratios(series(ours, row.figure), theirs))
    verdict, why = MET, ""
    if not (value.median <= row.bound if row.at_most else value.median >= row.bound):
        verdict = MISSED
    if value.rounds < rounds_min and measure.kind != "tail":
        verdict, why = NOT_JUDGED, (f"{value.rounds} quiet rounds of {rounds_min}"
                                    + (f": {result.ended}" if result.ended else ""))
    return Judged(row, verdict, why, figure, peer, peer_figure, value)


def is_right(judged: Sequence[Judged]) -> bool:
    """What --check asks: at least one row was judged, and none was missed or left unjudged."""
    verdicts = [row.verdict for row in judged]
    return MET in verdicts and MISSED not in verdicts and NOT_JUDGED not in verdicts


# --- Text -----------------------------------------------------------------------------------------

def number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 100 else 2 if value >= 10 else 3}f}"


def table_heading() -> str:
    return (f"{'row':<20} {'KaaS':>14} {'peer':>14}  {'value':>8} {'low .. high':>19} "
            f"{'bound':>10}  verdict")


def row_line(judged: Judged) -> str:
    row, unit = judged.row, UNITS[judged.row.figure]
    bound = f"{'<=' if row.at_most else '>='} {number(row.bound)}"
    if judged.figure is None:
        return f"{row.name:<20} {'-':>14} {'-':>14}  {'':>8} {'':>19} {bound:>10}  " + (
            f"{judged.verdict}: {judged.why}")
    peer = f"{number(judged.peer_figure.median)} {unit}" if judged.peer_figure else "-"
    value, interval = "", ""
    if judged.value is not None:
        value = number(judged.value.median)
        interval = f"{number(judged.value.low)} .. {number(judged.value.high)}"
    verdict = judged.verdict + (f": {judged.why}" if judged.why else "") + (
        f"  ({judged.peer})" if judged.peer else "")
    return (f"{row.name:<20} {number(judged.figure.median) + ' ' + unit:>14} {peer:>14}  "
            f"{value:>8} {interval:>19} {bound:>10}  {verdict}")


def percentile_text(histogram: Histogram, name: str, percent: float) -> str:
    """Of all rounds together; without enough requests it would only be the longest."""
    if histogram.total() * (100 - percent) < 100 * ABOVE_MIN:
        return f"{name} -"
    return f"{name} {number(histogram.percentile_ns(percent) / 1000)} us"


def measure_lines(name: str, result: MeasureResult, waits: dict[str, str],
                  pinned: bool) -> list[str]:
    """All parties of a measure, one a line; `waits`: how each waits."""
    measure = MEASURES[name]
    lines = [f"{name}: {measure.what} [{measure.command or measure.kind}; "
             f"{'pinned' if pinned else 'unpinned'}]"
             + (f", {result.discarded} rounds discarded" if result.discarded else "")
             + (f", ended early: {result.ended}" if result.ended else "")]
    for party, measured in result.parties.items():
        if not measured.rounds:
            lines.append(f"  {party:<20} {waits.get(party, ''):<7} absent: {measured.absent}")
            continue
        texts = []
        for figure in ("ms", "p50_us", "rate"):
            middle = estimate(series(measured, figure))
            if middle is not None:
                texts.append(f"{figure.replace('_us', '')} {number(middle.median)}"
                             f" ({number(middle.low)} .. {number(middle.high)}) {UNITS[figure]}")
            if figure == "p50_us" and middle is not None:
                texts += [percentile_text(measured.histogram, "p99", 99),
                          percentile_text(measured.histogram, "p99.9", 99.9)]
        texts.append(f"{len(measured.rounds)} rounds, {measured.histogram.total():,} requests")
        lines.append(f"  {party:<20} {waits.get(party, ''):<7} " + ", ".join(texts))
    return lines


# --- JSON -----------------------------------------------------------------------------------------

def estimate_json(value: Estimate | None) -> dict | None:
    return None if value is None else {**value._asdict()}


def judged_json(judged: Judged) -> dict:
    row = judged.row
    return {"row": row.name, "what": row.what, "measure": row.measure, "figure_name": row.figure,
            "unit": UNITS[row.figure], "bound": row.bound,
            "bound_is": "at most" if row.at_most else "at least",
            "bound_on": "ratio" if row.against else "figure", "against": list(row.against),
            "verdict": judged.verdict, "why": judged.why, "peer": judged.peer,
            "figure": estimate_json(judged.figure),
            "peer_figure": estimate_json(judged.peer_figure), "value": estimate_json(judged.value)}


def party_json(party: PartyResult) -> dict:
    return {"absent": party.absent, "late_max_ns": party.late_max_ns, "rounds": party.rounds,
            "histogram_ns": sorted(party.histogram.counts.items())}


def measures_json(results: dict[str, MeasureResult]) -> list[dict]:
    return [{"measure": name, "what": MEASURES[name].what, "command": MEASURES[name].command,
             "clients": MEASURES[name].clients, "discarded": result.discarded,
             "wanted": result.wanted, "ended": result.ended,
            "disturbances": result.disturbances, "calibration_ms": result.calibration_ms,
             "parties": {party: party_json(measured)
                         for party, measured in result.parties.items()}}
            for name, result in results.items()]


def results_of(report: dict) -> dict[str, MeasureResult]:
    """The measures of a report, as they were."""
    if report.get("kind") != KIND:
        raise WrongReport(f"kind is {report.get('kind')!r}, allowed: {KIND!r}")
    if not isinstance(report.get("format"), int) or not 1 <= report["format"] <= FORMAT:
        raise WrongReport(f"format is {report.get('format')!r}, allowed: 1 to {FORMAT}")
    results = {}
    try:
        for entry in report["measures"]:
            if entry["measure"] not in MEASURES:
                raise WrongReport(f"measure {entry['measure']!r} is not one of the table")
            parties = {name: PartyResult(
                list(party["rounds"]),
                Histogram((int(ns), int(count)) for ns, count in party["histogram_ns"]),
                int(party["late_max_ns"]), str(party["absent"]))
                for name, party in entry["parties"].items()}
            results[entry["measure"]] = MeasureResult(
                parties, int(entry["discarded"]), int(entry["wanted"]), str(entry["ended"]),
                {str(kind): int(count) for kind, count in entry.get("disturbances", {}).items()},
                float(entry.get("calibration_ms", 0.0)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WrongReport(f"a measure is not as it is written: {error!r}") from None
    return results


def join_measure(into: MeasureResult, other: MeasureResult) -> None:
    for name, party in other.parties.items():
        known = into.parties.get(name)
        if known is None or not known.rounds:
            into.parties[name] = party
            continue
        if not party.rounds:
            continue
        known.rounds += party.rounds
        known.histogram.merge(party.histogram)
        known.late_max_ns = max(known.late_max_ns, party.late_max_ns)
    into.discarded += other.discarded
    into.wanted += other.wanted
    into.ended = into.ended or other.ended
    for kind, count in other.disturbances.items():
        into.disturbances[kind] = into.disturbances.get(kind, 0) + count
    into.calibration_ms = max(into.calibration_ms, other.calibration_ms)


def join_reports(reports: Sequence[dict]) -> dict:
    """Several runs as one: the rounds of a measure are those of all runs in which it was made. Runs
    differ in device at most: those of one device are of one card."""
    joined: dict[str, MeasureResult] = {}
    cards: dict[str, str] = {}
    first = reports[0]
    stages: dict[str, dict] = {}
    for report in reports:
        results = results_of(report)
        for device, card in report.get("devices", {}).items():
            if cards.setdefault(device, card) != card:
                raise WrongReport(f"one run is of {cards[device]!r}, another of {card!r}")
        if report.get("pinned") != first.get("pinned"):
            raise WrongReport("one run is pinned, another is not")
        if report.get("quick") != first.get("quick"):
            raise WrongReport("one run is quick, another is not")
        if report.get("machine", {}).get("processor") != first.get("machine", {}).get("processor"):
            raise WrongReport("runs are of different processors")
        stages.update(report.get("stages", {}))
        for name, result in results.items():
            if name in joined:
                join_measure(joined[name], result)
            else:
                joined[name] = result
    return {**first, **join_machines(reports), "devices": cards, "stages": stages,
            "runs": sum(r["runs"] for r in reports), "measures": measures_json(joined), "rows": []}


def join_machines(reports: Sequence[dict]) -> dict:
    """What was seen of the machine in all of several runs."""
    disturbances: Counter[str] = Counter()
    for report in reports:
        disturbances.update(report.get("disturbances", {}))
    clocks = {clock for report in reports for clock in report.get("sm_clocks_mhz", [])}
    best = min((report["calibration_ms"] for report in reports if "calibration_ms" in report),
               default=0.0)
    return {"disturbances": dict(disturbances), "sm_clocks_mhz": sorted(clocks),
            "calibration_ms": best}


def judge_report(report: dict, rows: Sequence[Row] = ROWS) -> list[Judged]:
    results = results_of(report)
    rounds_min = ROUNDS_MIN if not report.get("quick") else 1
    return [judge(row, results, list(report["devices"]), rounds_min) for row in rows]
