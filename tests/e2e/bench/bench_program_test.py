"""kaas-bench as a user runs it: the suite measures and reports, `run` sweeps, errors have their
exit status. No verdict on times: that is what kaas-bench itself is for."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import xml.dom.minidom

BENCH = os.path.join(os.environ["KAAS_TEST_BINARY_DIR"], "bin", "kaas-bench")
HERE = os.path.dirname(os.path.abspath(__file__))
REQUEST = os.path.join(HERE, "request.json")


def bench(*arguments, socket=None):
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("KAAS_SOCKET", "XDG_RUNTIME_DIR")}
    if socket is not None:
        environment["KAAS_SOCKET"] = socket
    return subprocess.run([BENCH, *arguments], capture_output=True, text=True, timeout=150,
                          env=environment, check=False)


class Suite(unittest.TestCase):
    def test_every_row_is_measured_and_reported(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "suite.json")
            done = bench("suite", "--quick", "--json", path)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            with open(path, encoding="utf-8") as file:
                report = json.load(file)
        self.assertEqual((report["format"], report["kind"], report["quick"]), (1, "suite", True))
        self.assertGreaterEqual(report["machine"]["cores"], 1)
        rows = {row["row"]: row for row in report["rows"]}
        self.assertEqual(list(rows), ["null-hot", "null-asleep", "pipelined", "null-lane",
                                      "pipelined-lane", "first-result", "get",
                                      "put", "donate", "idle-kaasd", "idle-executor",
                                      "idle-memory"])
        for name, row in rows.items():
            with self.subTest(row=name):
                self.assertIsNone(row["error"])
                self.assertGreaterEqual(row["figure"]["rounds"], 2)
                self.assertGreaterEqual(row["figure"]["median"], row["figure"]["low"])
                self.assertIn(name, done.stdout)
                judged = row[row["bound_on"]]["median"]
                met = judged <= row["bound"] if row["bound_is"] == "at most" else \
                    judged >= row["bound"]
                self.assertEqual(row["met"], met)
        for name in ("null-hot", "null-asleep", "put"):
            self.assertGreater(rows[name]["peer"]["median"], 0)
            self.assertEqual(rows[name]["peer"]["rounds"], rows[name]["figure"]["rounds"])
        self.assertEqual(report["all_met"], all(row["met"] for row in report["rows"]))

    def test_only_the_chosen_rows_run(self):
        done = bench("suite", "--quick", "--rows", "get,donate")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("\nget ", done.stdout)
        self.assertIn("\ndonate ", done.stdout)
        self.assertNotIn("\nput ", done.stdout)

    def test_check_follows_the_verdict(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "suite.json")
            done = bench("suite", "--quick", "--rows", "idle-memory", "--check", "--json", path)
            with open(path, encoding="utf-8") as file:
                met = json.load(file)["all_met"]
        self.assertEqual(done.returncode, 0 if met else 1, done.stdout + done.stderr)

    def test_an_unknown_row_is_wrong_usage(self):
        done = bench("suite", "--rows", "speed-of-light")
        self.assertEqual(done.returncode, 2)
        self.assertIn("speed-of-light", done.stdout + done.stderr)


class Run(unittest.TestCase):
    def run_request(self, *arguments):
        return bench("run", REQUEST, "count=1000", "--start", "--fill", "bench-test/x=4000",
                     "--round", "0.05", "--time", "0.3", *arguments)

    def test_a_request_is_swept_and_plotted(self):
        with tempfile.TemporaryDirectory() as folder:
            report_path = os.path.join(folder, "run.json")
            plot_path = os.path.join(folder, "run.svg")
            done = self.run_request("--clients", "1,2", "--rates", "200", "--at",
                                    "y=bench-test/y-{client}", "--json", report_path, "--plot",
                                    plot_path)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            with open(report_path, encoding="utf-8") as file:
                report = json.load(file)
            plot = xml.dom.minidom.parse(plot_path)
        self.assertEqual((report["format"], report["kind"]), (1, "run"))
        self.assertEqual([(point["loop"], point["clients"]) for point in report["points"][:2]],
                         [("closed", 1), ("closed", 2)])
        self.assertEqual([point["loop"] for point in report["points"][2:]], ["open"])
        for point in report["points"]:
            latency = point["latency_ns"]
            self.assertGreater(latency["count"], 0)
            self.assertGreater(point["rate"]["median"], 0)
            ordered = [latency[name] for name in ("min", "p50", "p90", "p99", "p99.9", "max")]
            self.assertEqual(ordered, sorted(ordered))
            self.assertEqual(latency["cumulative"][-1][1], 1.0)
        self.assertEqual(report["points"][2]["rate_asked"], 200)
        self.assertGreaterEqual(len(plot.getElementsByTagName("polyline")), 4)

    def test_poisson_starts_work_too(self):
        done = self.run_request("--clients", "1", "--poisson", "--seed", "7", "--rates", "300")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("seed 7", done.stdout)

    def test_a_request_that_fails_is_status_1_with_its_reason(self):
        done = bench("run", REQUEST, "count=1000", "--start", "--clients", "1")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("bench-test/x", done.stderr)

    def test_an_unknown_function_is_status_1(self):
        done = bench("run", "no-such-function", "--start", "--clients", "1")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("no-such-function", done.stderr)
        self.assertIn("nor is there a file of this name", done.stderr)

    def test_no_daemon_is_status_3(self):
        done = bench("run", REQUEST, "count=1000", socket="/nonexistent/kaasd.sock")
        self.assertEqual(done.returncode, 3)
        self.assertIn("/nonexistent/kaasd.sock", done.stderr)


class Usage(unittest.TestCase):
    """Wrong usage is status 2, at once, with the word that is wrong and what is allowed."""

    def refused(self, *arguments):
        # Were there a try to connect, it would be status 3.
        done = bench(*arguments, socket="/nonexistent/kaasd.sock")
        self.assertEqual(done.returncode, 2, (arguments, done.stdout, done.stderr))
        return done.stdout + done.stderr

    def test_unknown_words_and_missing_ones(self):
        for arguments, hint in (((), "subcommand"), (("sing",), "'sing', allowed: suite, gpu"),
                                (("suite", "more"), "more"), (("run",), "target"),
                                (("plot", "x.json"), "svg"), (("mps", "more"), "more"),
                                (("gpu", "--device", "hots"), "hots"),
                                (("gpu", "--speed", "1"), "--speed")):
            self.assertIn(hint, self.refused(*arguments))

    def test_values_of_a_wrong_form(self):
        for arguments, hint in ((("gpu", "--spin-us", "x"), "--spin-us"),
                                (("gpu", "--spin-us", "-1"), "--spin-us"),
                                (("gpu", "--merge"), "--merge"),
                                (("stages", "--kernels", "1025"), "--kernels"),
                                (("stages", "--requests", "0"), "--requests"),
                                (("stages", "--every-us", "1.5"), "--every-us"),
                                (("stages", "--every-us", "-1"), "--every-us"),
                                (("stages", "--spin-us", "soon"), "--spin-us"),
                                (("run", "f", "--clients", "0"), "--clients"),
                                (("run", "f", "--depth", "x"), "--depth"),
                                (("run", "f", "--rates", "10,nan"), "'nan', allowed: 0.1 to"),
                                (("run", "f", "--rates", "fast"), "'fast', allowed: 0.1 to"),
                                (("run", "f", "--round", "nan"), "'nan', allowed: 0.01 to 600"),
                                (("run", "f", "--time", "inf"), "'inf', allowed: 0.01 to 3600"),
                                (("run", "f", "--seed", "-1"), "'-1', allowed: 0 to")):
            self.assertIn(hint, self.refused(*arguments))

    def test_parameters_bindings_and_fills_of_a_wrong_form(self):
        for arguments, hint in ((("count",), "parameter is 'count', allowed: NAME=VALUE"),
                                (("=5",), "parameter is '=5'"),
                                (("count=x",), "parameter 'count' is 'x', allowed: an integer"),
                                (("count=1.5",), "parameter 'count' is '1.5'"),
                                (("--at", "x"), "--at is 'x', allowed: NAME=VALUE"),
                                (("--fill", "x"), "--fill is 'x', allowed: NAME=VALUE"),
                                (("--fill", "x=-1"),
                                 "--fill x is '-1', allowed: an integer from 1 to 17179869184"),
                                (("--fill", "x=abc"), "--fill x is 'abc', allowed: an integer"),
                                (("--fill", "x=0"), "--fill x is '0', allowed: an integer from 1"),
                                (("--fill", "x=99999999999999"), "--fill x is '99999999999999'")):
            self.assertIn(hint, self.refused("run", "f", *arguments))

    def test_description_that_cannot_be_read_has_a_reason(self):
        with tempfile.TemporaryDirectory() as folder:
            for path, reason in ((folder + "/no.json", "No such file or directory"),
                                 (folder, "Is a directory")):
                done = bench("plot", path, folder + "/x.svg")
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                self.assertIn(f"{path}: can't be read: {reason}", done.stderr)

    def test_help_of_the_client_program_is_no_socket(self):
        program = os.path.join(os.path.dirname(BENCH), "kaas-bench-client")
        for word, code in (("--help", 0), ("--halp", 2)):
            done = subprocess.run([program, word], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, code)
            self.assertIn("usage: kaas-bench-client", done.stdout)

    def test_files_that_cannot_be_written_are_refused_before_anything_is_measured(self):
        path = "/no/such/folder/x"
        reason = f"{path}: No such file or directory"
        for arguments in (("suite", "--json"), ("gpu", "--json"), ("stages", "--json"),
                          ("run", "f", "--json"), ("run", "f", "--plot"), ("plot", "x.json")):
            said = self.refused(*arguments, path)
            self.assertIn(reason, said)
            self.assertNotIn("pinning", said)  # The table's heading.
        self.assertIn("Is a directory", self.refused("suite", "--json", HERE))

    def test_a_file_for_a_report_that_is_not_made_is_not_made_either(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.json")
            done = bench("stages", "--json", path, socket="/nonexistent/kaasd.sock")
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertEqual(os.listdir(folder), [])


class Stages(unittest.TestCase):
    """`stages` beside a kaasd on the host device."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="kaas-stages-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.socket = os.path.join(self.folder, "kaasd.sock")
        with open(os.path.join(self.folder, "log"), "wb") as log:
            daemon = subprocess.Popen([os.path.join(os.path.dirname(BENCH), "kaasd"), "--socket",
                                       self.socket], stdout=log, stderr=log)
        self.addCleanup(daemon.wait, 60)
        self.addCleanup(daemon.terminate)
        end = time.monotonic() + 60
        while not os.path.exists(self.socket) and time.monotonic() < end:
            time.sleep(0.01)

    def stages(self, *arguments):
        path = os.path.join(self.folder, "stages.json")
        begin = time.monotonic()
        done = bench("stages", "--socket", self.socket, "--json", path, *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with open(path, encoding="utf-8") as file:
            return json.load(file), time.monotonic() - begin

    def test_requests_follow_each_other_or_come_after_a_pause(self):
        report, _ = self.stages("--kernels", "2", "--requests", "20")
        self.assertEqual((report["requests"], report["every_us"]), (20, 0))
        report, took = self.stages("--every-us", "20000", "--requests", "5")
        self.assertEqual((report["requests"], report["every_us"]), (5, 20000))
        self.assertGreaterEqual(took, 10 * 0.02)  # Five stamped ones, five that are not.
        self.assertGreater(report["unstamped_p50_ns"], 0)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
