"""The latency harness on the host device, with tiny rounds: that it works, no verdict on times."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ["KAAS_TEST_SOURCE_DIR"]
BUILD = os.environ["KAAS_TEST_BINARY_DIR"]
RUN = os.path.join(SOURCE, "tests/latency/run")
EXAMPLE = os.path.join(SOURCE, "tests/latency/peers/example_peer.py")
OURS = {"host-null": "kaas-kaasd", "host-pipelined": "kaas-kaasd", "host-null-lane": "kaas-lane",
        "host-paced": "kaas-default"}
STAGES = ["encode", "ring", "verify", "plan", "schedule", "executor ring", "prepare", "execute",
          "device", "report ring", "settle", "reply"]


def run(*arguments):
    return subprocess.run([sys.executable, RUN, *arguments], capture_output=True, text=True,
                          timeout=150, check=False)


class SmokeTest(unittest.TestCase):
    """One run, and what can be seen of it."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="kaas-latency-test-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.done = run(
            "--built", BUILD, "--quick", "--budget", "8", "--out", cls.folder, "--name", "one",
            "--parties", "socket", "--peer", f"example={sys.executable} {EXAMPLE}",
            "--peer", "broken=/bin/echo", "--rows", "host-first,host-pipelined,host-null-lane",
            "--measures", "host-null,host-open,host-tail,host-stages,host-crowd-2,host-payload-4k,"
            "host-paced,host-kernels-8,host-stages-paced")
        cls.report = None
        path = os.path.join(cls.folder, "one.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                cls.report = json.load(file)

    def setUp(self):
        self.assertEqual(self.done.returncode, 0, self.done.stdout + self.done.stderr)

    def parties(self, name):
        return next(measure["parties"] for measure in self.report["measures"]
                    if measure["measure"] == name)

    def test_every_measure_that_was_asked_for_has_rounds_of_kaas(self):
        names = {measure["measure"] for measure in self.report["measures"]}
        self.assertEqual(names, {"host-null", "host-open", "host-tail", "host-crowd-2",
                                 "host-payload-4k", "host-first", "host-pipelined",
                                 "host-null-lane", "host-paced", "host-kernels-8"})
        for name in names:
            kaas = self.parties(name)[OURS.get(name, "kaas")]
            self.assertGreaterEqual(len(kaas["rounds"]), 1, (name, kaas["absent"]))
            self.assertGreaterEqual(sum(count for _, count in kaas["histogram_ns"]), 1)

    def test_ways_of_kaas_are_measured_beside_each_other(self):
        for name, other in (("host-paced", "kaas-asleep"), ("host-kernels-8", "kaas-memory")):
            party = self.parties(name)[other]
            self.assertGreaterEqual(len(party["rounds"]), 1, (name, party["absent"]))

    def test_a_program_of_somebody_takes_part_where_it_can(self):
        self.assertGreaterEqual(len(self.parties("host-null")["example"]["rounds"]), 1)
        self.assertIn("it does null requests", self.parties("host-payload-4k")["example"]["absent"])

    def test_a_program_that_is_no_peer_is_left_out_and_it_says_why(self):
        self.assertIn("has ended", self.parties("host-null")["broken"]["absent"])

    def test_the_stages_are_measured_and_add_up(self):
        for name, every_us in (("host-stages", 0), ("host-stages-paced", 4000)):
            stages = self.report["stages"][name]
            self.assertEqual(stages["every_us"], every_us)
            self.assertEqual([stage["stage"] for stage in stages["stages"]], STAGES)
            self.assertAlmostEqual(sum(stage["share"] for stage in stages["stages"]), 1.0, places=6)
            for stage in stages["stages"]:
                self.assertGreaterEqual(stage["p50_ns"], 0)
            self.assertIn(f"\n{name}: where the time of", self.done.stdout)

    def test_rows_are_judged_and_the_verdict_is_printed(self):
        rows = {row["row"]: row for row in self.report["rows"]}
        self.assertEqual(set(rows), {"host-first", "host-pipelined", "host-null-lane"})
        for row in rows.values():
            self.assertIn(row["verdict"], ("met", "MISSED"))
            self.assertRegex(self.done.stdout, rf"(?m)^{row['row']} .*{row['verdict']}")

    def test_pictures_are_drawn(self):
        pictures = [name for name in os.listdir(self.folder) if name.startswith("one-")]
        self.assertIn("one-cdf-host.svg", pictures)
        with open(os.path.join(self.folder, "one-cdf-host.svg"), encoding="utf-8") as file:
            self.assertRegex(file.read(), re.compile("<svg.*polyline.*</svg>", re.DOTALL))

    def test_runs_are_merged(self):
        path = os.path.join(self.folder, "one.json")
        done = run("--merge", path, path, "--built", BUILD, "--out", self.folder, "--name", "two")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with open(os.path.join(self.folder, "two.json"), encoding="utf-8") as file:
            merged = json.load(file)
        self.assertEqual(merged["runs"], 2)
        first = next(m for m in merged["measures"] if m["measure"] == "host-first")
        self.assertEqual(len(first["parties"]["kaas"]["rounds"]),
                         2 * len(self.parties("host-first")["kaas"]["rounds"]))
        # Not every row was measured; --check says so by its status.
        checked = run("--merge", path, "--check", "--built", BUILD, "--out", self.folder)
        self.assertEqual(checked.returncode, 1, checked.stdout)
        self.assertIn("not measurable", checked.stdout)


class UsageTest(unittest.TestCase):
    def test_wrong_words_are_named_with_what_is_allowed(self):
        for arguments, part in ((["--rows", "no-such"], "host-first"),
                                (["--device", "gpu"], "allowed: host, cuda, cuda:N"),
                                (["--peer", "kaas=x"], "new name"),
                                (["--rounds", "0"], "--rounds")):
            done = run(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(part, done.stderr)

    def test_what_is_no_report_is_not_merged(self):
        done = run("--merge", RUN)
        self.assertEqual(done.returncode, 1)
        self.assertIn("latency: ", done.stderr)

    def test_the_table_is_listed(self):
        done = run("--list")
        self.assertEqual(done.returncode, 0)
        self.assertIn("neighbour-p99", done.stdout)


if __name__ == "__main__":
    unittest.main()
