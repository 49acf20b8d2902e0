"""What the harness stands on: the built programs, kaasd, MPS, the machine's description."""

import json
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time

from kaas_latency import placement
from kaas_latency.protocol import end_with_parent

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(os.path.dirname(HERE))
FUNCTION = "kaas-bench-double"  # What kaas-bench-client calls as a new client.
START_SECONDS = 60.0
STOP_SECONDS = 15.0


class Unusable(Exception):
    """Why nothing can be measured."""


def is_staged() -> bool:
    """In a tree that tools/stage made, where programs lie ready and nothing can be built."""
    return os.path.exists(os.path.join(ROOT, "bin", "kaas-bench"))


def programs(built: str | None, build: bool) -> str:
    """The folder of programs; builds them, in the source tree."""
    if built:
        folder = os.path.join(os.path.abspath(built), "bin")
    elif is_staged():
        folder = os.path.join(ROOT, "bin")
    else:
        folder = os.path.join(ROOT, "build/release/bin")
        if build:
            for words in (["cmake", "--preset", "release", "-DKAAS_LATENCY_PEERS=ON"],
                          ["cmake", "--build", "--preset", "release", "--target", "kaas-bench",
                           "kaasctl", "kaas_latency_peers"]):
                print("latency:", " ".join(words), flush=True)
                done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    raise Unusable(f"{' '.join(words)} failed:\n{done.stdout[-4000:]}{done.stderr}")
    for name in ("kaas-bench", "kaas-bench-client", "kaasd", "kaasctl"):
        if not os.path.exists(os.path.join(folder, name)):
            raise Unusable(f"{folder}/{name} is not there")
    return folder


class Daemon:
    """A kaasd of the harness's own, in a folder of its own."""

    def __init__(self, folder: str, device: str):
        self.folder, self.device = folder, device
        self.scratch = tempfile.mkdtemp(prefix="kaas-latency-")
        self.socket = os.path.join(self.scratch, "kaasd.sock")
        self.log = os.path.join(self.scratch, "kaasd.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [os.path.join(folder, "kaasd"), "--socket", self.socket, "--device", device],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent)
        try:
            self.wait_until_ready()
        except Unusable:
            self.close()
            raise

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if os.path.exists(self.socket) and self.control("status", check=False) is not None:
                return
            time.sleep(0.05)
        with open(self.log, encoding="utf-8", errors="replace") as log:
            raise Unusable(f"kaasd --device {self.device} does not run; its log:\n"
                           f"{log.read()[-2000:]}")

    def control(self, *words: str, check: bool = True) -> dict | None:
        done = subprocess.run(
            [os.path.join(self.folder, "kaasctl"), "--socket", self.socket, *words, "--json"],
            capture_output=True, text=True, timeout=START_SECONDS, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
        if check:
            raise Unusable(f"kaasctl {' '.join(words)}: {done.stdout}{done.stderr}")
        return None

    def deploy_first(self) -> None:
        self.control("deploy", os.path.join(HERE, "first_result.json"), "--name", FUNCTION)

    def executor_pids(self) -> list[int]:
        return [executor["pid"] for executor in self.control("status")["executors"]
                if executor.get("pid")]

    def pin(self, where: placement.Placement) -> None:
        placement.pin(self.process.pid, where.kaasd, where.rest, busiest=True)
        for pid in self.executor_pids():
            placement.pin(pid, where.server, where.rest, busiest=True)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)


class Mps:
    """CUDA MPS, run by kaas-bench until close()."""

    def __init__(self, folder: str):
        self.process = subprocess.Popen(
            [os.path.join(folder, "kaas-bench"), "mps"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=end_with_parent)
        self.environment: dict[str, str] = {}
        for line in self.process.stdout:
            if not line.strip():
                return
            name, _, value = line.strip().partition("=")
            self.environment[name] = value
        why = self.process.stderr.read().strip()
        self.close()
        raise Unusable(f"MPS: {why}")

    def close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def machine(cores: list[int]) -> dict:
    """What figures have to be read with."""
    processor, virtual = "", False
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == "model name" and not processor:
                processor = value.strip()
            if name.strip() == "flags":
                virtual = "hypervisor" in value.split()
                break
    return {"processor": processor, "cores": len(cores), "virtualised": virtual,
            "kernel": f"{platform.system()} {platform.release()}",
            "load": os.getloadavg()[0]}


def draw(folder: str, description: dict, svg: str, scratch: str) -> str:
    """Draws one picture; returns its path, or why there is none."""
    path = os.path.join(scratch, "charts.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(description, file)
    done = subprocess.run([os.path.join(folder, "kaas-bench"), "plot", path, svg],
                          capture_output=True, text=True, timeout=START_SECONDS, check=False)
    return svg if done.returncode == 0 else f"no {svg}: {done.stderr.strip()}"
