"""How kaasctl ends when a run is not left in peace, and what it leaves behind: nothing."""

import json
import os
import signal
import subprocess
import time
import unittest

from daemon_case import (FAILED, KAASCTL, NO_DAEMON, PATIENCE_SECONDS, USAGE, DaemonCase,
                         FullDaemonCase, floats)


# What a shell ignores in its background jobs, kaasctl would ignore as well.
for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(ending, signal.SIG_DFL)


class EndlessCase(DaemonCase):
    """A request that ends only when somebody ends it."""

    # What these tests leave behind runs no longer than this.
    DAEMON_FLAGS = ("--running-limit-ms", "10000")

    # A file, and a parameter: an object and a function while it runs.
    ENDLESS = json.dumps({
        "parameters": ["n"], "n_iter": 4294967296, "buffers": [{"name": "x", "size": "4 * n"}],
        "kernels": [{"library": "std", "kernel": "scale", "grid": 1, "block": 1,
                     "literals": [{"u64": 1}, {"f32": 1}], "arguments": [["x", "io"]]}]})
    WORDS = ("run", "endless.json", "n=1", "x=in:x.bin", "x=out:x.out")

    def setUp(self):
        self.write("endless.json", self.ENDLESS.encode())
        self.write("x.bin", floats(1))

    def start(self, *words: str, **options) -> subprocess.Popen:
        return subprocess.Popen([KAASCTL, *words], cwd=self.folder, stderr=subprocess.PIPE,
                                stdout=subprocess.DEVNULL, env=self.environment(), **options)

    def wait_for_session(self, process: subprocess.Popen, is_there) -> int:
        """The session of a process, as soon as what `ps` says of it is what is waited for."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.assertLess(time.monotonic(), end)
            self.assertIsNone(process.poll(), process.poll() and process.stderr.read())
            for client in self.done_json("ps")["clients"]:
                if client["pid"] == process.pid and is_there(client):
                    return client["session"]

    def wait_until_it_runs(self, process: subprocess.Popen) -> int:
        return self.wait_for_session(process, lambda client: any(
            run["state"] == "running" for run in client["under_way"]))

    def assert_nothing_is_left(self):
        self.assertEqual(self.keys(".kaasctl"), [])
        self.assertEqual(self.done_json("functions")["functions"], [])
        self.assertFalse(os.path.exists(self.path("x.out")))


class EndlessRequestTest(EndlessCase):

    def test_kicked_session_is_a_failure_that_leaves_nothing(self):
        with self.start(*self.WORDS, "--tag", "77") as running:
            session = self.wait_until_it_runs(running)
            self.assertEqual(len(self.keys(".kaasctl")), 1)
            self.assertEqual(len(self.done_json("functions")["functions"]), 1)
            self.assertIn(f"\n{session}.", self.done("ps"))
            self.assertIn(str(session), self.done("__complete", "kick", "").split())
            self.done("kick", str(session))
            self.assertEqual(running.wait(PATIENCE_SECONDS), FAILED)
            self.assertIn(b"the session was kicked", running.stderr.read())
        self.assert_nothing_is_left()

    def test_signals_drop_the_request_and_tidy_up(self):
        # Who ends a process group sends SIGTERM twice, a terminal that is closed SIGHUP.
        for signals in ((signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM),
                        (signal.SIGHUP, signal.SIGHUP)):
            with self.subTest(signals=signals), self.start(*self.WORDS) as running:
                self.wait_until_it_runs(running)
                for number in signals:
                    running.send_signal(number)
                self.assertEqual(running.wait(PATIENCE_SECONDS), 130)
                self.assertIn(b"interrupted", running.stderr.read())
                self.assert_nothing_is_left()

    def test_signal_ends_the_wait_for_standard_input(self):
        two = json.loads(self.ENDLESS)
        two["buffers"].append({"name": "a", "size": 4})
        two["kernels"].insert(0, {**two["kernels"][0], "arguments": [["a", "io"]]})
        self.write("two.json", json.dumps(two).encode())
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number=number), self.start(
                    "run", "two.json", "n=1", "a=in:x.bin", "x=in:-",
                    stdin=subprocess.PIPE) as waiting:
                self.wait_for_session(waiting, lambda client: client["puts"] == 1)
                waiting.send_signal(number)
                self.assertEqual(waiting.wait(PATIENCE_SECONDS), 130)
                self.assertEqual(waiting.stderr.read(), b"kaasctl: interrupted\n")
                self.assert_nothing_is_left()

    def test_ignored_signal_stays_ignored(self):
        def ignore():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

        with self.start(*self.WORDS, preexec_fn=ignore) as running:
            self.wait_until_it_runs(running)
            with open(f"/proc/{running.pid}/status", encoding="utf-8") as file:
                ignored = [int(line.split()[1], 16) for line in file if line.startswith("SigIgn")]
            self.assertTrue(ignored[0] & 1 << (signal.SIGHUP - 1))
            running.send_signal(signal.SIGTERM)
            self.assertEqual(running.wait(PATIENCE_SECONDS), 130)


class BusyExecutorTest(EndlessCase):
    """The executor's one thread is in a kernel that never ends: it answers nobody."""

    DAEMON_FLAGS = ()
    REQUEST = {"kernels": [{"library": "faulty", "kernel": "endless", "grid": 1, "block": 1,
                            "literals": [{"u32": 0}]}]}

    @classmethod
    def stop_daemon(cls):
        cls.daemon.kill()  # What runs would be waited for.
        cls.daemon.wait(PATIENCE_SECONDS)

    def setUp(self):
        super().setUp()
        self.write("kernel.json", json.dumps(self.REQUEST).encode())

    def end(self, running: subprocess.Popen, number: int):
        began = time.monotonic()
        running.send_signal(number)
        self.assertEqual(running.wait(PATIENCE_SECONDS), 130)
        self.assertLess(time.monotonic() - began, PATIENCE_SECONDS / 2)
        self.assertIn(b"interrupted", running.stderr.read())

    def test_command_can_be_left_while_its_request_or_another_one_runs(self):
        with self.start("run", "kernel.json") as running:
            session = self.wait_until_it_runs(running)
            # Its plan can't be prepared: what is behind waits with it.
            with self.start("run", "kernel.json", "--repeat", "2") as behind:
                self.wait_for_session(behind, lambda client: client["under_way"])
                self.end(behind, signal.SIGTERM)
            with self.start(*self.WORDS) as behind:
                self.wait_for_session(behind, lambda client: client["under_way"])
                self.end(behind, signal.SIGHUP)
            self.assert_nothing_is_left()
            request = self.done_json("ps")["clients"][0]["under_way"][0]
            message = self.refused(FAILED, "cancel", f"{session}.{request['ring']}.{request['id']}")
            self.assertIn("has not answered within 1000 ms", message)
            message = self.refused(FAILED, "suspend", "host", "--within", "0", "--force")
            self.assertIn("running_limit_ms", message)
            self.end(running, signal.SIGTERM)


class LostDaemonTest(EndlessCase):

    @classmethod
    def stop_daemon(cls):
        cls.daemon.kill()
        cls.daemon.wait(PATIENCE_SECONDS)

    def test_daemon_that_goes_is_no_daemon(self):
        with self.start(*self.WORDS) as running:
            self.wait_until_it_runs(running)
            self.stop_daemon()
            self.assertEqual(running.wait(PATIENCE_SECONDS), NO_DAEMON)


class SocketPathTest(DaemonCase):

    def test_path_that_no_socket_can_have_is_wrong_usage(self):
        for words in (("status",), ("kv", "stat", "key"), ("run", "example1.json"), ("doctor",)):
            result = self.ctl(*words, "--socket", "/" + "x" * 103)
            self.assertEqual(result.returncode, USAGE, result)
            self.assertIn(b"is 104, limit 103", result.stderr + result.stdout)
            self.assertEqual(self.ctl(*words, "--socket", "/" + "x" * 102).returncode, NO_DAEMON)


class FullDaemonTest(FullDaemonCase):

    def test_daemon_that_refuses_the_session_is_a_failure(self):
        self.write("request.json", json.dumps({
            "kernels": [{"library": "std", "kernel": "noop", "grid": 1, "block": 1}]}).encode())
        for words in (("kv", "put", "key", "request.json"), ("kv", "get", "key", "-"),
                      ("kv", "stat", "key"), ("kv", "rm", "key"), ("run", "request.json"),
                      ("call", "f"), ("deploy", "request.json", "--name", "f")):
            self.assertIn("16000000", self.refused(FAILED, *words))
        result = self.ctl("kv", "put", "key", "request.json", "--json")
        self.assertEqual(result.returncode, FAILED)
        self.assertEqual(json.loads(result.stderr)["error"]["code"], "ResourceExhausted")


if __name__ == "__main__":
    unittest.main()
