"""kaas-bench gpu without a GPU: its rows on the host device, and with a stand-in for the program
that has a CUDA context of its own. No verdict on times: that is what kaas-bench itself is for."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = os.environ["KAAS_TEST_BINARY_DIR"]
BENCH = os.path.join(BUILD, "bin", "kaas-bench")
CLIENT = os.path.join(BUILD, "bin", "kaas-bench-client")
CHAINS = [f"chain-{kernels}{turns}" for turns in ("", "-ten") for kernels in (8, 32, 128)]
WITH_DIRECT = ["kernel", *CHAINS, "payload-4k", "payload-1m", "input-16m"]
ROWS = [*WITH_DIRECT, "first-result", "first-vs-own", "client-memory", "clients-4", "clients-16",
        "pipelined"]

# Says what kaas-bench-direct would, with made-up numbers: 20 us a round, 30 us under MPS, 529 MiB
# more in use each time it is asked, 250 ms to a first result.
DIRECT = """#!{python}
import os, sys, time
if sys.argv[1:] == ["first"]:
    print(250000000, time.monotonic_ns())
    sys.exit(0)
under_mps = "CUDA_MPS_PIPE_DIRECTORY" in os.environ
print("ready Test Card, CUDA driver 99.0", flush=True)
used = 0
for line in sys.stdin:
    words = line.split()
    if words == ["memory"]:
        used += 529 << 20
        print("ok", used, flush=True)
    elif words[0] == "measure" and len(words) == 4:
        print("ok" + " 30000" * 5 if under_mps else "ok" + " 20000" * 5, flush=True)
    else:
        print("error", line, flush=True)
"""
# kaasd, with the host device where cuda is asked for.
KAASD = """#!/bin/sh
for word in "$@"; do
  [ "$word" = cuda ] && word=host
  set -- "$@" "$word"
  shift
done
exec '{kaasd}' "$@"
"""
MPS = """#!/bin/sh
echo "start $*" >> '{folder}/mps'
[ "$1" = -d ] && exit 0
read line
echo "$line" >> '{folder}/mps'
[ "$line" = get_server_list ] && echo 4711
exit 0
"""


def bench(*arguments, program=BENCH, **variables):
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("KAAS_SOCKET", "XDG_RUNTIME_DIR")}
    return subprocess.run([program, "gpu", *arguments], capture_output=True, text=True,
                          timeout=150, env={**environment, **variables}, check=False)


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


class GpuCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="kaas-gpu-test-")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), stat.S_IRWXU)
        return self.path(name)

    def measure(self, *arguments, **options):
        """Runs the bench, which must succeed, and returns its report."""
        report = self.path("report.json")
        done = bench(*arguments, "--json", report, **options)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.printed = done.stdout
        return read_json(report)


class Host(GpuCase):
    def test_every_row_runs_on_the_host_device(self):
        report = self.measure("--device", "host", "--quick")
        self.assertEqual((report["kind"], report["device"], report["quick"]), ("gpu", "host", True))
        rows = {row["row"]: row for row in report["rows"]}
        self.assertEqual(list(rows), ROWS)
        for name, row in rows.items():
            with self.subTest(row=name):
                self.assertIsNone(row["error"])
                self.assertEqual(len(row["figure_rounds"]), 2)
                if name != "client-memory":
                    self.assertGreater(row["figure"]["median"], 0)
                self.assertEqual(row["beside"], [])
                self.assertIn(f"\n{name} ", self.printed)
        for name in (*WITH_DIRECT, "first-vs-own"):
            self.assertIsNone(rows[name]["peer"])
            self.assertFalse(rows[name]["judged"])
            self.assertFalse(rows[name]["met"])
        for name in ("clients-4", "clients-16"):
            # The kernel takes 100 us by the clock, whoever else is there.
            self.assertGreaterEqual(rows[name]["peer"]["median"], 100)
            self.assertGreaterEqual(rows[name]["figure"]["median"], 100)

    def test_only_the_chosen_rows_run(self):
        report = self.measure("--device", "host", "--quick", "--rows", "payload-4k,kernel")
        self.assertEqual([row["row"] for row in report["rows"]], ["kernel", "payload-4k"])

    def test_a_row_without_its_peer_is_not_met(self):
        done = bench("--device", "host", "--quick", "--rows", "kernel", "--check")
        self.assertEqual(done.returncode, 1)
        self.assertIn("not judged", done.stdout)

    def test_wrong_usage_is_status_2(self):
        for arguments, hint in ((("--rows", "speed-of-light"), "speed-of-light"),
                                (("--device", "tpu"), "tpu"),
                                (("--merge", "x.json", "--quick"), "--quick")):
            done = bench(*arguments)
            self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
            self.assertIn(hint, done.stdout + done.stderr)

    def test_without_a_gpu_it_says_what_is_missing(self):
        done = bench("--quick", CUDA_VISIBLE_DEVICES="")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "no GPU that CUDA can use|kaas-bench-direct is not beside")


class Peers(GpuCase):
    """A folder of programs in which everything with a GPU is stood in for."""

    def setUp(self):
        super().setUp()
        self.write("bin/kaas-bench-direct", DIRECT.format(python=sys.executable))
        self.write("bin/kaasd", KAASD.format(kaasd=os.path.join(BUILD, "bin/kaasd")))
        self.bench = self.path("bin/kaas-bench")
        shutil.copy(BENCH, self.bench)
        os.symlink(CLIENT, self.path("bin/kaas-bench-client"))

    def measure_here(self, *arguments, **variables):
        return self.measure(*arguments, program=self.bench, TMPDIR=self.folder, **variables)

    def test_peers_take_turns_with_the_figures(self):
        report = self.measure_here("--quick")
        self.assertEqual(report["device"], "Test Card, CUDA driver 99.0")
        rows = {row["row"]: row for row in report["rows"]}
        self.assertEqual(list(rows), ROWS)
        for name in WITH_DIRECT:
            row = rows[name]
            with self.subTest(row=name):
                self.assertIsNone(row["error"])
                peer = 20 if row["unit"] == "us" else (16 << 20) / 20000
                self.assertEqual(row["peer_rounds"], [peer, peer])
                self.assertTrue(row["judged"])
                self.assertAlmostEqual(row["ratio"]["median"], row["figure"]["median"] / peer)
        self.assertEqual(rows["first-vs-own"]["peer"]["median"], 250)
        self.assertEqual(rows["client-memory"]["peer"]["median"], 529)
        self.assertEqual(rows["client-memory"]["figure"]["median"], 529 / 4)
        self.assertFalse(rows["client-memory"]["met"])
        for clients in (4, 16):
            columns = rows[f"clients-{clients}"]["beside"]
            self.assertEqual([column["name"] for column in columns],
                             [f"{clients} processes with own contexts",
                              f"{clients} processes with own contexts, under MPS"])
            self.assertEqual(columns[0]["rounds"], [20, 20])

    def test_mps_is_started_used_and_ended(self):
        self.write("path/nvidia-cuda-mps-control", MPS.format(folder=self.folder))
        path = self.path("path") + ":" + os.environ["PATH"]
        report = self.measure_here("--quick", "--rows", "clients-4", PATH=path)
        mps = report["rows"][0]["beside"][1]
        self.assertEqual((mps["rounds"], mps["absent"]), ([30, 30], None))
        with open(self.path("mps"), encoding="utf-8") as file:
            asked = file.read().split("\n")
        self.assertEqual(asked, ["start -d", "start ", "get_server_list", "start ", "quit", ""])
        left = [name for name in os.listdir(self.folder) if name.startswith("kaas-mps-")]
        self.assertEqual(left, [])

    def test_without_mps_the_column_says_why(self):
        report = self.measure_here("--quick", "--rows", "clients-4", PATH="/nonexistent")
        mps = report["rows"][0]["beside"][1]
        self.assertEqual(mps["rounds"], [])
        self.assertEqual(mps["absent"], "nvidia-cuda-mps-control is not installed")
        self.assertIn("nvidia-cuda-mps-control is not installed", self.printed)

    def test_a_peer_that_fails_is_the_rows_error_and_the_rest_is_measured(self):
        self.write("bin/kaas-bench-direct", DIRECT.format(python=sys.executable).replace(
            'words[0] == "measure"', 'words[0] == "measure" and "input" not in line'))
        report = self.path("report.json")
        done = bench("--quick", "--rows", "input-16m,payload-4k", "--json", report,
                     program=self.bench)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        rows = {row["row"]: row for row in read_json(report)["rows"]}
        self.assertIn("kaas-bench-direct", rows["input-16m"]["error"])
        self.assertIsNone(rows["payload-4k"]["error"])

    def test_reports_are_merged(self):
        first = self.measure_here("--quick", "--rows", "kernel,pipelined")
        os.rename(self.path("report.json"), self.path("a.json"))
        self.measure_here("--quick", "--rows", "payload-4k,kernel")
        os.rename(self.path("report.json"), self.path("b.json"))
        merged = self.measure("--merge", self.path("a.json"), self.path("b.json"))
        self.assertEqual([row["row"] for row in merged["rows"]],
                         ["kernel", "payload-4k", "pipelined"])
        self.assertEqual(merged["runs"], 2)
        self.assertEqual(merged["device"], first["device"])
        self.assertEqual(len(merged["rows"][0]["figure_rounds"]), 4)
        self.assertEqual(merged["rows"][0]["figure"]["rounds"], 4)
        self.assertIn("\nkernel ", self.printed)
        only = self.measure("--merge", self.path("a.json"), "--rows", "pipelined")
        self.assertEqual([row["row"] for row in only["rows"]], ["pipelined"])

    def test_what_does_not_belong_together_is_not_merged(self):
        self.measure_here("--quick", "--rows", "kernel")
        report = read_json(self.path("report.json"))
        self.write("other.json", json.dumps({**report, "device": "another card"}))
        self.write("suite.json", json.dumps({**report, "kind": "suite"}))
        report["rows"][0]["row"] = "new-row"
        self.write("newer.json", json.dumps(report))
        self.write("broken.json", "{")
        for name, hint in (("other.json", "differ in device"), ("suite.json", "kind is 'suite'"),
                           ("broken.json", "not JSON"), ("absent.json", "absent.json"),
                           ("newer.json", "new-row")):
            done = bench("--merge", self.path("report.json"), self.path(name))
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn(hint, done.stderr)


class ClientCase(GpuCase):
    """kaas-bench-client beside a kaasd on the host device."""

    def tell(self, words, commands, flags=()):
        """What it says to these lines; `words` are its arguments, {socket} in them is kaasd's."""
        socket = self.path("kaasd.sock")
        with open(self.path("log"), "wb") as log:
            daemon = subprocess.Popen([os.path.join(BUILD, "bin/kaasd"), "--socket", socket,
                                       *flags], stdout=log, stderr=log)
        try:
            end = time.monotonic() + 60
            while not os.path.exists(socket) and time.monotonic() < end:
                time.sleep(0.01)
            return subprocess.run([CLIENT, *(word.format(socket=socket) for word in words)],
                                  capture_output=True, text=True,
                                  input="".join(line + "\n" for line in commands),
                                  timeout=100, check=False)
        finally:
            daemon.terminate()
            daemon.wait(60)


class Worker(ClientCase):
    """What kaas-bench-client answers as a worker."""

    def ask(self, *commands, flags=()):
        done = self.tell(["--worker", "{socket}", "100"], commands, flags)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout.splitlines()

    def test_it_measures_what_it_is_told(self):
        lines = self.ask("measure chain:3:2 count 7", "measure busy:200000 time 5",
                         "measure payload:4096 count 1", "measure chain:3:2 count 4")
        self.assertTrue(lines[0].startswith("ready "))
        self.assertEqual([line.split()[0] for line in lines[1:]], ["ok"] * 4)
        self.assertEqual([len(lines[index].split()) - 1 for index in (1, 3, 4)], [7, 1, 4])
        busy = [int(word) for word in lines[2].split()[1:]]
        self.assertGreaterEqual(len(busy), 1)
        self.assertGreaterEqual(min(busy), 200000)

    def test_what_it_cannot_do_is_told_and_it_goes_on(self):
        lines = self.ask("measure chain:0:1 count 7", "measure busy:1000 rounds 7",
                         "measure busy:1000 count 0", "measure busy:1000 count 1 more", "memory",
                         "sing", "measure busy:1000 count 1")
        hints = ["workload is 'chain:0:1'", "unit is 'rounds'", "count is '0'", "count is '1 more'",
                 "no device", "command is 'sing'"]
        for line, hint in zip(lines[1:7], hints):
            self.assertTrue(line.startswith("error ") and hint in line, line)
        self.assertTrue(lines[7].startswith("ok "), lines[7])

    def test_a_wrong_result_is_noticed(self):
        lines = self.ask("measure chain:3:2 count 7", "measure payload:4096 count 4",
                         "measure busy:1000 count 4",
                         flags=("--library-path", os.path.join(BUILD, "tests/wrong_kernels")))
        hints = ["element 63 of the output of chain:3:2", "element 1023 of the output",
                 "the kernel took 999 ns"]
        for line, hint in zip(lines[1:], hints):
            self.assertTrue(line.startswith("error ") and hint in line, line)

    def test_without_a_kaasd_it_refuses(self):
        done = subprocess.run([CLIENT, "--worker", "/nonexistent/kaasd.sock", "100"],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stdout.startswith("error "), done.stdout)
        self.assertIn("/nonexistent/kaasd.sock", done.stdout)


class Peer(ClientCase):
    """What kaas-bench-client answers as a peer of tests/latency."""

    def ask(self, words, *commands, flags=()):
        done = self.tell(["--peer", "{socket}", *words], commands, flags)
        self.assertEqual(done.returncode, 0, done.stdout)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_small_kernels_have_a_lane_wherever_their_data_is(self):
        for chains in ("device", "client"):
            answers = self.ask(["100", "lane", "0", chains], "kernels=1",
                               "measure kernels=1 requests=7", "measure kernels=128 requests=3",
                               "measure kernels=2 depth=16 requests=40")
            self.assertIn("ready", answers[0])
            self.assertIn("command is 'kernels=1'", answers[1]["error"])
            self.assertEqual([answer["count"] for answer in answers[2:]], [7, 3, 40], chains)

    def test_small_kernels_go_every_way(self):
        for words in (["100"], ["default", "any"], ["0", "kaasd"], ["100", "any", "-50"]):
            answers = self.ask(words, "measure kernels=8 requests=5")
            self.assertEqual(answers[1].get("count"), 5, answers)

    def test_a_wrong_result_is_noticed_before_anything_is_measured(self):
        wrong = ("--library-path", os.path.join(BUILD, "tests/wrong_kernels"))
        answers = self.ask(["100"], "measure kernels=3 requests=7", flags=wrong)
        self.assertIn("element 63 of a chain of 3 on scratch memory", answers[1]["cannot"])
        answers = self.ask(["100", "any", "0", "client"], "measure kernels=3 requests=7",
                           flags=wrong)
        self.assertIn("element 63 of the output of chain:3:1", answers[1]["error"])

    def test_wrong_words_are_named_with_what_is_allowed(self):
        for words, hint in ((["soon"], "SPIN_US is 'soon', allowed: an integer from 0 on, default"),
                            (["0", "bus"], "WAY is 'bus', allowed: any, lane, kaasd"),
                            (["0", "any", "x"], "PRIORITY is 'x'"),
                            (["0", "any", "0", "disk"], "CHAINS is 'disk', allowed: device, cl")):
            done = subprocess.run([CLIENT, "--peer", "/nonexistent", *words], capture_output=True,
                                  text=True, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(hint, json.loads(done.stdout)["error"])


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
