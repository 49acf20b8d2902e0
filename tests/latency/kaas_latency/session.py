"""One run: kaasd, then each measure with its parties, within the time budget."""

import json
import os
import subprocess
import time
from typing import NamedTuple, Sequence

from kaas_latency import placement
from kaas_latency.crowds import FirstCrowd, RequestCrowd, TailCrowd
from kaas_latency.parties import PARTIES, Tools, why_absent
from kaas_latency.protocol import PeerFault, numbers_of
from kaas_latency.quiet import GpuClocks, Watch
from kaas_latency.report import FORMAT, KIND, measures_json
from kaas_latency.rounds import (Budget, MeasureResult, PartyResult, all_disturbances,
                                 take_turns)
from kaas_latency.rows import MEASURES, Measure
from kaas_latency.system import HERE, Daemon, Mps, Unusable, machine

QUICK_ROUNDS = 2
QUICK_PART = 50        # Of the requests of a round.
REQUESTS_MIN = 3
PEER_PART_OF_TAIL = 0.2


class Options(NamedTuple):
    device: str                 # "host" or "cuda:N".
    folder: str                 # Of programs.
    rounds: int
    budget_seconds: float
    tail_seconds: float
    quick: bool
    pinned: bool
    measures: Sequence[str]
    parties: Sequence[str] | None  # Only these, beside KaaS; None: all.
    extra: Sequence[str]           # Added to every measure of requests.


class Session:
    """What the measures share."""

    def __init__(self, options: Options, daemon: Daemon):
        self.options, self.daemon = options, daemon
        self.cores = sorted(os.sched_getaffinity(0))
        self.where = placement.choose(self.cores, options.pinned)
        self.kind = "host" if options.device == "host" else "cuda"
        index = options.device.partition(":")[2] or "0"
        self.gpu = GpuClocks(int(index)) if self.kind == "cuda" and index.isdigit() else None
        self.visible = {"CUDA_VISIBLE_DEVICES": index} if self.kind == "cuda" else {}
        self.tools = Tools(options.folder, os.path.join(HERE, "peers"), daemon.socket, self.kind,
                           daemon.scratch)
        self.mps: Mps | None = None
        if self.where.kaasd is not None:  # The harness itself keeps out of the way.
            os.sched_setaffinity(0, self.where.rest)
        self.watch = Watch(set(self.cores), self.gpu)
        self.stages: dict[str, dict] = {}

    def close(self) -> None:
        if self.mps:
            self.mps.close()
        os.sched_setaffinity(0, self.cores)

    def environment(self, name: str) -> dict[str, str]:
        if not PARTIES[name].mps:
            return self.visible
        if self.mps is None:
            try:
                self.mps = Mps(self.options.folder)
            except Unusable as error:
                raise PeerFault(str(error)) from None
        return {**self.visible, **self.mps.environment}

    def party_names(self, measure: Measure) -> list[str]:
        chosen = [name for name in measure.parties[1:]
                  if self.options.parties is None or name in self.options.parties
                  or name.startswith("kaas")]
        extra = list(self.options.extra) if measure.kind == "requests" else []
        return [measure.parties[0], *chosen, *extra]

    def crowd(self, name: str, measure: Measure, tail_seconds: float):
        party = PARTIES[name]
        why = why_absent(party, self.tools)
        if why:
            raise PeerFault(why)
        if measure.kind == "first":
            return FirstCrowd(party, measure, self.tools, self.environment(name))
        kind = TailCrowd if measure.kind == "tail" else RequestCrowd
        crowd = kind(party, measure, self.tools, self.where, self.environment(name),
                     lambda: self.daemon.pin(self.where))
        if measure.kind == "tail":
            crowd.seconds = tail_seconds
        return crowd

    def measure(self, measure: Measure, seconds: float) -> MeasureResult:
        deadline = time.monotonic() + seconds
        rounds = QUICK_ROUNDS if self.options.quick else self.options.rounds
        tail = min(self.options.tail_seconds, seconds / 2) / rounds
        crowds, absent = [], {}
        try:
            for name in self.party_names(measure):
                part = 1.0 if name == measure.parties[0] else PEER_PART_OF_TAIL
                try:
                    crowds.append(self.crowd(name, measure, max(tail * part, 0.01)))
                except PeerFault as fault:
                    absent[name] = str(fault)
                    if name == measure.parties[0]:
                        return MeasureResult({name: PartyResult(absent=str(fault))}, 0, rounds)
            if measure.kind == "requests":
                self.fit(crowds, rounds, deadline)
            return take_turns(crowds, rounds, self.watch, lambda: time.monotonic() > deadline,
                              absent)
        finally:
            for crowd in crowds:
                crowd.close()

    def fit(self, crowds: list, rounds: int, deadline: float) -> None:
        """Cuts requests so that the rounds fit; the turns for it warm everybody up."""
        for crowd in crowds:
            if crowd.requests and self.options.quick:
                crowd.requests = max(REQUESTS_MIN, crowd.requests // QUICK_PART)
        begin = time.monotonic()
        for crowd in crowds:
            try:
                crowd.turn()
            except PeerFault:
                pass  # Said again, and told, in the first round.
        took = time.monotonic() - begin
        left = deadline - time.monotonic()
        if took * rounds <= left or self.options.quick:
            return
        for crowd in crowds:
            if crowd.requests:
                crowd.requests = max(REQUESTS_MIN, int(crowd.requests * left / (took * rounds)))

    def measure_stages(self, measure: Measure) -> None:
        path = os.path.join(self.daemon.scratch, "stages.json")
        requests = measure.requests // (QUICK_PART if self.options.quick else 1)
        keys = {key: str(int(value)) for key, value in numbers_of(measure.command).items()}
        self.daemon.pin(self.where)
        core = self.where.client(0)
        done = subprocess.run(
            [os.path.join(self.options.folder, "kaas-bench"), "stages", "--socket",
             self.daemon.socket, "--kernels", keys["kernels"], "--every-us",
             keys.get("every_us", "0"), "--requests", str(max(1, requests)), "--json", path],
            capture_output=True, text=True, timeout=120, check=False,
            preexec_fn=(lambda: os.sched_setaffinity(0, {core})) if core is not None else None)
        if done.returncode != 0:
            print(f"latency: {measure.name}: {done.stderr.strip()}")
            return
        with open(path, encoding="utf-8") as file:
            self.stages[measure.name] = json.load(file)


def describe_device(daemon: Daemon, device: str) -> str:
    if device == "host":
        return "host device"
    devices = daemon.control("status")["devices"]
    return ", ".join(entry.get("name", entry["id"]) for entry in devices)


def run_measures(options: Options) -> dict:
    """The report, without rows."""
    results: dict[str, MeasureResult] = {}
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    daemon = Daemon(options.folder, options.device)
    session = None
    try:
        daemon.deploy_first()
        session = Session(options, daemon)
        facts = machine(session.cores)
        print(f"{facts['processor']}, {facts['cores']} cores; {session.where.text()}", flush=True)
        measures = [MEASURES[name] for name in options.measures]
        budget = Budget(options.budget_seconds, [measure.weight for measure in measures])
        for measure in measures:
            share = budget.next_share()
            if measure.kind == "stages":
                session.measure_stages(measure)
                continue
            print(f"{measure.name} ({share:.0f} s at most)", flush=True)
            results[measure.name] = session.measure(measure, share)
        return {"format": FORMAT, "kind": KIND, "when": when, "runs": 1, "quick": options.quick,
                "machine": facts,
                "devices": {session.kind: describe_device(daemon, options.device)},
                "placement": session.where.text(), "pinned": session.where.kaasd is not None,
                "disturbances": all_disturbances(results),
                "sm_clocks_mhz": sorted(session.watch.sm_clocks_mhz),
                "calibration_ms": session.watch.best_ms(), "stages": session.stages,
                "measures": measures_json(results)}
    finally:
        if session:
            session.close()
        daemon.close()
