"""A tree that tools/stage made runs away from the build: nothing in it is found there.

Runs in the environment that ctest gives it. Everything it makes lies in a temporary folder.
"""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

SOURCE = os.environ["KAAS_TEST_SOURCE_DIR"]
BUILD = os.environ["KAAS_TEST_BINARY_DIR"]
SANITIZE = os.environ["KAAS_TEST_SANITIZE"]
STAGE = os.path.join(SOURCE, "tools/stage")
# A test that links the shared client library and starts a program beside it.
TEST = "client_c_api_test"
START_SECONDS = 60
BYTES_MAX = 64 << 20
# Of the C and C++ runtime: all that a tree takes from its machine, but for a driver.
RUNTIME = re.compile(r"(linux-vdso|ld-linux.*|libc|libm|libdl|librt|libpthread|libresolv|"
                     r"libstdc\+\+|libgcc_s)\.so")
# Nothing of the caller's may help: no LD_LIBRARY_PATH, no KAAS_SOCKET.
BARE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LD_LIBRARY_PATH": ""}


def stage(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([STAGE, *arguments, "--built", BUILD], capture_output=True, text=True,
                          check=False)


def output_of(*command: str, **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=BARE, cwd="/",
                          **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def elf_files(folder: str) -> list[str]:
    found = []
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                if file.read(4) == b"\x7fELF":
                    found.append(os.path.join(path, name))
    return found


class StageTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="kaas-stage-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        made = os.path.join(cls.folder, "made")
        cls.done = stage(made, "--strip", "--tests", f"^{TEST}$")
        if cls.done.returncode != 0:
            raise AssertionError(cls.done.stdout + cls.done.stderr)
        # Moved, so that nothing can depend on where it was made.
        cls.tree = os.path.join(cls.folder, "moved")
        os.rename(made, cls.tree)

    def path(self, *parts: str) -> str:
        return os.path.join(self.tree, *parts)

    def run_tests(self, *arguments: str, tree: str | None = None) -> subprocess.CompletedProcess:
        return subprocess.run([os.path.join(tree or self.tree, "run-tests"), *arguments],
                              capture_output=True, text=True, check=False, env=BARE, cwd="/")

    def test_what_is_needed_is_there_and_small(self):
        for parts in (("bin/kaasd",), ("bin/kaas-executor",), ("bin/kaasctl",), ("bin/kaas-bench",),
                      ("lib/kaas/kernels/std.so",), ("tests/bin", TEST), ("run-tests",)):
            self.assertTrue(os.path.isfile(self.path(*parts)), os.path.join(*parts))
        total = sum(os.path.getsize(os.path.join(folder, name))
                    for folder, _, names in os.walk(self.tree) for name in names)
        self.assertIn(f"{total / 2**20:.1f} MiB in total", self.done.stdout)
        if not SANITIZE:
            self.assertLess(total, BYTES_MAX)

    def test_libraries_are_found_in_the_tree_only(self):
        files = elf_files(self.tree)
        self.assertGreater(len(files), 5)
        for path in files:
            dynamic = output_of("readelf", "-d", path)
            for run_path in re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", dynamic):
                self.assertRegex(run_path, r"^\$ORIGIN(/[^:]*)?$", path)
            needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
            for name in needed:
                self.assertTrue(RUNTIME.match(name) or name.startswith("libcuda.so")
                                # The one test library that calls cuBLAS finds it there.
                                or (os.path.basename(path).startswith("blas.")
                                    and name.startswith("libcublas"))
                                or os.path.isfile(self.path("lib", name)),
                                f"{path} needs {name}, which is not in the tree")

    def test_the_loader_finds_them_for_every_program(self):
        for name in os.listdir(self.path("bin")):
            for line in output_of("ldd", self.path("bin", name)).splitlines():
                match = re.match(r"\s*(\S+) => (\S+)", line)
                if match and not RUNTIME.match(match[1]):
                    self.assertTrue(os.path.realpath(match[2]).startswith(self.tree + "/"),
                                    f"{name}: {line}")

    def test_daemon_executor_and_kernels_run_from_the_tree(self):
        socket = os.path.join(self.folder, "kaasd.sock")
        log_path = os.path.join(self.folder, "kaasd.log")
        with open(log_path, "wb") as log:
            daemon = subprocess.Popen([self.path("bin/kaasd"), "--socket", socket], stdout=log,
                                      stderr=log, env=BARE, cwd="/")
        try:
            end = time.monotonic() + START_SECONDS
            while not os.path.exists(socket):
                if daemon.poll() is not None or time.monotonic() > end:
                    with open(log_path, encoding="utf-8") as log:
                        self.fail(f"kaasd does not listen: {log.read()}")
                time.sleep(0.01)
            self.run_a_request(socket)
        finally:
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(START_SECONDS), 0)

    def run_a_request(self, socket: str):
        request = os.path.join(self.folder, "request.json")
        with open(request, "w", encoding="utf-8") as file:
            json.dump({"buffers": [{"name": "x", "size": 12}, {"name": "y", "size": 12}],
                       "kernels": [{"library": "std", "kernel": "add", "grid": 1, "block": 32,
                                    "literals": [{"u64": 3}],
                                    "arguments": [["x", "i"], ["x", "i"], ["y", "o"]]}]}, file)
        x, y = os.path.join(self.folder, "x"), os.path.join(self.folder, "y")
        with open(x, "wb") as file:
            file.write(struct.pack("<3f", 1, 2, 3))
        ctl = (self.path("bin/kaasctl"), "--socket", socket)
        output_of(*ctl, "run", request, f"x=@{x}", f"y=@{y}")
        with open(y, "rb") as file:
            self.assertEqual(struct.unpack("<3f", file.read()), (2, 4, 6))
        # The executor runs from the tree too, and has mapped nothing of the build.
        status = json.loads(output_of(*ctl, "--json", "status"))
        executors = [executor["pid"] for executor in status["executors"]]
        self.assertGreaterEqual(len(executors), 1)
        for pid in executors:
            self.assertEqual(os.readlink(f"/proc/{pid}/exe"), self.path("bin/kaas-executor"))
            with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
                text = maps.read()
            self.assertIn(self.path("lib/libtbb.so.12"), text)
            self.assertNotIn(BUILD + "/", text)

    def test_the_latency_harness_measures_from_the_tree(self):
        out = os.path.join(self.folder, "latency")
        output_of("python3", self.path("tests/latency/run"), "--quick", "--budget", "5", "--rows",
                  "host-first", "--out", out, "--name", "staged")
        with open(os.path.join(out, "staged.json"), encoding="utf-8") as file:
            (measure,) = json.load(file)["measures"]
        self.assertGreaterEqual(len(measure["parties"]["kaas"]["rounds"]), 1)

    def test_staged_tests_run_in_the_tree(self):
        listed = self.run_tests("--list")
        self.assertEqual(listed.stdout.split(), [TEST, "unit"], listed.stderr)
        logs = os.path.join(self.folder, "logs")
        done = self.run_tests("--logs", logs, "c_api", "--", "--gtest_brief=0")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, rf"passed +{TEST} .*\n1 passed, 0 failed")
        with open(os.path.join(logs, TEST + ".log"), encoding="utf-8") as log:
            self.assertIn("[  PASSED  ]", log.read())
        self.assertEqual(self.run_tests("no_such_test").returncode, 1)
        self.assertEqual(self.run_tests("--nonsense").returncode, 2)

    def test_a_failing_test_is_told(self):
        broken = os.path.join(self.folder, "broken")
        shutil.copytree(self.tree, broken)
        with open(os.path.join(broken, "tests/bin", TEST), "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\necho what went wrong\nexit 7\n")
        done = self.run_tests(tree=broken)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, rf"FAILED +{TEST} .*status 7")
        self.assertIn("what went wrong", done.stdout)
        self.assertIn(f"0 passed, 1 failed: {TEST}", done.stdout)

    def test_an_earlier_tree_is_replaced_and_nothing_else(self):
        folder = os.path.join(self.folder, "again")
        self.assertEqual(stage(folder, "--no-tests").returncode, 0)
        stale = os.path.join(folder, "bin/stale")
        with open(stale, "w", encoding="utf-8"):
            pass
        self.assertEqual(stage(folder, "--no-tests").returncode, 0)
        self.assertFalse(os.path.exists(stale))
        self.assertFalse(os.path.exists(os.path.join(folder, "run-tests")))
        foreign = os.path.join(self.folder, "foreign")
        os.makedirs(os.path.join(foreign, "mine"))
        refused = stage(foreign, "--no-tests")
        self.assertEqual(refused.returncode, 1)
        self.assertIn(foreign, refused.stderr)
        self.assertEqual(os.listdir(foreign), ["mine"])

    def test_wrong_use_is_named(self):
        folder = os.path.join(self.folder, "wrong")
        for arguments, hint in ((("--tests", "no_such_test"), "no_such_test"),
                                (("--tests", "("), "not a regular expression")):
            refused = stage(folder, *arguments)
            self.assertEqual(refused.returncode, 1)
            self.assertIn(hint, refused.stderr)
            self.assertFalse(os.path.exists(folder))
        refused = subprocess.run([STAGE, folder, "--built", self.folder], capture_output=True,
                                 text=True, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("is not a build", refused.stderr)


if __name__ == "__main__":
    unittest.main()
