"""kaasctl with a real daemon: every command, its two outputs and its exit status."""

import json
import os
import select
import shutil
import struct
import subprocess
import time
import unittest

from daemon_case import (BUILD, DONE, FAILED, KAASCTL, NO_DAEMON, PATIENCE_SECONDS, USAGE,
                         DaemonCase, floats)


class KaasctlTest(DaemonCase):

    DAEMON_FLAGS = ("--store-bytes", "268435456")

    # --- The daemon ------------------------------------------------------------------------------

    def test_status_and_lists_have_both_outputs(self):
        status = self.done_json("status")
        self.assertEqual(status["pid"], self.daemon.pid)
        self.assertEqual(status["socket"], self.socket)
        text = self.done("status")
        self.assertIn(f"process {self.daemon.pid}", text)
        self.assertIn("EXECUTOR  DEVICE", text)
        self.assertIn("clients", self.done_json("ps"))
        self.assertIn("SESSION", self.done("ps"))
        self.done("run", "example1.json", "y=in:" + self.write("one.bin", floats(1, 1, 1, 1)),
                  "y=out:ignored.bin")
        libraries = self.done_json("libraries")["libraries"]
        std = [library for library in libraries if library["name"] == "std"]
        self.assertIn("saxpy", std[0]["kernels"])
        self.assertIn("std: ", self.done("libraries"))
        self.assertRegex(self.done("libraries"), r"/std.so +ok\n")

    def test_library_that_was_named_only_is_not_loaded(self):
        copy = self.path("copy.so")
        shutil.copy(os.path.join(BUILD, "lib/kaas/kernels/std.so"), copy)
        request = {"buffers": [{"name": "x", "size": 4, "key": "absent"}],
                   "kernels": [{"library": copy, "kernel": "noop", "grid": 1, "block": 1,
                                "arguments": [["x", "i"]]}]}
        self.refused(FAILED, "run", "-", stdin=json.dumps(request).encode())
        self.assertRegex(self.done("libraries"), r"/copy.so +not loaded\n")

    def test_logs_are_shown_and_followed(self):
        self.assertIn("listens at", self.done("logs"))
        lines = self.done("logs", "-n", "1").splitlines()
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \w+ ")
        entry = json.loads(self.done("logs", "-n", "1", "--json"))
        self.assertIn("text", entry)
        with subprocess.Popen([KAASCTL, "logs", "-f", "-n", "0"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=self.environment()) as follower:
            end = time.monotonic() + PATIENCE_SECONDS
            while not select.select([follower.stdout], [], [], 0)[0]:
                self.assertLess(time.monotonic(), end)
                self.done("reload")  # Writes a line to the log.
            self.assertIn(b"re-read", follower.stdout.readline())
            follower.stdout.close()  # The reader goes away: not the end of the world.
            while follower.poll() is None:
                self.assertLess(time.monotonic(), end)
                self.done("reload")
            self.assertEqual(follower.stderr.read(), b"")
            self.assertEqual(follower.returncode, FAILED)

    def test_orders_to_the_daemon(self):
        self.assertEqual(self.done_json("reload"), {"reloaded": True})
        self.assertIn("999999", self.refused(FAILED, "kick", "999999"))
        self.assertIn("allowed a number", self.refused(USAGE, "kick", "me"))
        self.refused(FAILED, "cancel", "999999.0.1")
        self.assertIn("SESSION.RING.ID", self.refused(USAGE, "cancel", "12"))

    def test_devices_are_suspended_and_resumed(self):
        devices = self.done_json("status")["devices"]
        self.assertEqual([(device["id"], device["state"]) for device in devices],
                         [("host", "ready")])
        self.assertEqual(set(devices[0]), {"id", "name", "state", "cause", "used_bytes",
                                           "limit_bytes", "exported_bytes", "in_flight",
                                           "executors"})
        self.assertEqual(self.done_json("suspend", "ho"), {"suspended": ["host"]})
        self.assertIn("suspended", self.done("status"))
        self.assertEqual(self.done("suspend", "all"), "suspended host\n")
        self.assertEqual(self.done("resume", "host"), "resumed host\n")
        self.assertEqual(self.done_json("resume", "all"), {"resumed": ["host"]})
        self.assertEqual(self.done("resume", "all", "-q"), "")
        message = self.refused(FAILED, "suspend", "GPU-1", "--within", "1")
        self.assertIn("there are host", message)
        self.refused(FAILED, "resume", "GPU-1")
        self.done("run", "example1.json", "y=in:" + self.write("one.bin", floats(1, 1, 1, 1)),
                  "y=out:ignored.bin")

    # --- The store -------------------------------------------------------------------------------

    def test_objects_of_every_size_come_back_as_they_went(self):
        for size in (0, 1, 65536, 65537, 3_000_001):
            data = os.urandom(size)
            self.write("data.bin", data)
            put = self.done_json("kv", "put", "sized", "data.bin")
            self.assertEqual((put["key"], put["bytes"]), ("sized", size))
            self.assertEqual(self.ctl("kv", "get", "sized").stdout, data)
            got = self.done_json("kv", "get", "sized", "copy.bin")
            self.assertEqual((got["bytes"], got["version"]), (size, put["version"]))
            self.assertEqual(self.read("copy.bin"), data)
            self.assertEqual(self.ctl("kv", "put", "piped", "-", stdin=data).returncode, DONE)
            self.assertEqual(self.ctl("kv", "get", "piped", "-").stdout, data)
            self.assertEqual(self.done_json("kv", "stat", "piped")["bytes"], size)
        self.assertEqual(self.done_json("kv", "rm", "sized", "piped"),
                         {"removed": ["sized", "piped"]})

    def test_list_has_all_pages(self):
        data = self.write("small.bin", b"x")
        names = [f"page/{number:04}" for number in range(300)]
        for name in names:
            self.done("kv", "put", name, data, "-q")
        self.assertEqual(self.keys("page/"), names)
        listed = self.done_json("kv", "ls", "page/")["objects"]
        self.assertEqual([entry["key"] for entry in listed], names)
        uid = os.getuid()
        self.assertEqual(len(self.keys(f"@{uid}/page/")), 300)
        self.assertIn("KEY", self.done("kv", "ls", "page/").splitlines()[0])
        self.done("kv", "rm", *names)
        self.assertEqual(self.keys("page/"), [])

    def test_absent_keys_and_files_are_failures(self):
        for words in (("get", "absent"), ("stat", "absent"), ("rm", "absent"),
                      ("share", "absent", "--everyone")):
            self.assertIn("absent", self.refused(FAILED, "kv", *words))
        self.assertIn("No such file", self.refused(FAILED, "kv", "put", "key", "absent.bin"))
        self.assertIn("directory", self.refused(FAILED, "kv", "put", "key", "."))
        self.done("kv", "put", "there", self.write("there.bin", b"x"))
        self.assertIn("No such file", self.refused(FAILED, "kv", "get", "there", "no/folder"))
        self.assertIn("prefix is '@x/'", self.refused(USAGE, "kv", "ls", "@x/"))
        self.done("kv", "rm", "there")

    def test_failure_is_json_where_json_is_wanted(self):
        result = self.ctl("kv", "stat", "absent", "--json")
        self.assertEqual(result.returncode, FAILED)
        self.assertEqual(result.stdout, b"")
        self.assertEqual(json.loads(result.stderr)["error"]["code"], "NotFound")

    def test_sharing_is_given_and_taken(self):
        self.done("kv", "put", "shared", self.write("shared.bin", b"x"))
        self.assertIn("everyone may read it", self.done("kv", "share", "shared", "--everyone"))
        self.assertTrue(self.done_json("kv", "ls", "shared")["objects"][0]["shared"])
        revoked = self.done_json("kv", "share", "shared", "--everyone", "--revoke")
        self.assertEqual(revoked, {"key": "shared", "everyone": True, "write": False,
                                   "revoked": True})
        self.assertFalse(self.done_json("kv", "ls", "shared")["objects"][0]["shared"])
        self.assertIn("uid 12345 may read and write it",
                      self.done("kv", "share", "shared", "--uid", "12345", "--write"))
        self.done("kv", "rm", "shared")

    def test_progress_of_a_long_transfer_goes_to_standard_error(self):
        with subprocess.Popen([KAASCTL, "kv", "put", "slow", "-", "--progress"],
                              stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdout=subprocess.PIPE, env=self.environment()) as put:
            end = time.monotonic() + PATIENCE_SECONDS
            while not select.select([put.stderr], [], [], 0)[0]:
                self.assertLess(time.monotonic(), end)
                put.stdin.write(b"x" * 4096)
                put.stdin.flush()
                select.select([], [], [], 0.05)
            put.stdin.close()
            self.assertEqual(put.wait(PATIENCE_SECONDS), DONE)
            self.assertIn(b"put slow", put.stderr.read())
        self.done("kv", "rm", "slow")
        quiet = self.ctl("kv", "put", "fast", self.write("fast.bin", b"x"))
        self.assertEqual(quiet.stderr, b"")
        self.done("kv", "rm", "fast")

    def test_file_beyond_the_budget_is_refused_before_it_is_copied(self):
        path = self.path("huge.bin")
        with open(path, "wb") as file:
            file.truncate(1 << 42)  # Sparse.
        message = self.refused(FAILED, "kv", "put", "huge", path)
        self.assertIn(str(1 << 42), message)
        self.assertIn("has room for", message)

    def test_stream_beyond_the_budget_is_refused_when_it_has_given_more(self):
        for words, stdin in ((("/dev/zero",), subprocess.DEVNULL), (("-",), None)):
            with open("/dev/zero", "rb") as zeros:
                result = subprocess.run(
                    [KAASCTL, "kv", "put", "endless", *words], capture_output=True, check=False,
                    stdin=zeros if stdin is None else stdin, env=self.environment(),
                    timeout=PATIENCE_SECONDS)
            self.assertEqual(result.returncode, FAILED)
            self.assertRegex(result.stderr, rb"has at least \d+ bytes, the daemon has room for")

    # --- Requests --------------------------------------------------------------------------------

    def test_buffer_that_no_kernel_uses_is_left_out(self):
        unused = {"name": "unused", "size": 4}
        noop = {"library": "std", "kernel": "noop", "grid": 1, "block": 1}
        request = {"buffers": [unused], "kernels": [noop]}
        self.done("run", "-", stdin=json.dumps(request).encode())
        request["buffers"] = [unused, {"name": "end", "size": 4, "data": "hex:01000000"}]
        request["until"] = "end"
        self.done("run", "-", stdin=json.dumps(request).encode())

    def test_kernel_without_its_arguments_is_told_what_it_wants(self):
        saxpy = {"library": "std", "kernel": "saxpy", "grid": 1, "block": 4}
        noop = {"library": "std", "kernel": "noop", "grid": 1, "block": 1}
        request = {"buffers": [{"name": "x", "size": 16}], "kernels": [noop, saxpy]}
        message = self.refused(FAILED, "run", "-", stdin=json.dumps(request).encode())
        self.assertIn("kernel 1 ('saxpy') gets 0 parameters", message)

    def test_inline_and_stored_buffers_of_a_request(self):
        self.done("kv", "put", "result", self.write("one.bin", floats(1, 1, 1, 1)))
        result = self.done_json("run", "example1.json")
        self.assertEqual(result["outputs"][0]["name"], "y")
        self.assertEqual(result["runs"]["count"], 1)
        expected = floats(8.5, 16, 23.5, 31)
        self.assertEqual(self.ctl("kv", "get", "result").stdout, expected)
        self.assertIn("OUTPUT", self.done("run", "example1.json"))
        self.done("run", "example1.json", "-q", "y=in:one.bin", "y=out:y.bin")
        self.assertEqual(self.read("y.bin"), expected)
        with open(self.path("example1.json"), "rb") as file:
            self.done("run", "-", "y=in:one.bin", "y=out:z.bin", stdin=file.read())
        self.assertEqual(self.read("z.bin"), expected)
        self.done("kv", "rm", "result")
        self.assertEqual(self.keys(".kaasctl"), [])

    def test_formats_of_the_original_run(self):
        self.done("kv", "put", "vectors",
                  self.write("vectors.bin", floats(*[1.0] * 64, *[2.0] * 64)))
        self.done("run", "example2.json")
        self.assertEqual(self.ctl("kv", "get", "dot").stdout, floats(128))
        # Written back although it is ephemeral, as that format has it.
        self.assertEqual(self.ctl("kv", "get", "products").stdout, floats(*[2.0] * 64))
        self.done("kv", "rm", "products")
        self.done("run", "example3.json",
                  "count=in:" + self.write("count.bin", struct.pack("<Q", 64)),
                  "a=@" + self.write("a.bin", floats(*[3.0] * 64)),
                  "b=@" + self.write("b.bin", floats(*[2.0] * 64)), "dot=@dot.bin")
        self.assertEqual(self.read("dot.bin"), floats(384))
        self.assertEqual(self.keys("products"), [])
        self.done("kv", "rm", "dot", "vectors")

    def test_inline_output_comes_with_the_answer(self):
        request = json.dumps({
            "buffers": [{"name": "out", "size": 8, "where": "inline"}],
            "kernels": [{"library": "std", "kernel": "fill_u32", "grid": 1, "block": 32,
                         "literals": [{"u64": 2}, {"u32": 7}], "arguments": [["out", "o"]]}]})
        result = self.done_json("run", "-", stdin=request.encode())
        self.assertEqual(result["outputs"], [{"name": "out", "bytes": 8,
                                              "data": "hex:0700000007000000"}])
        self.assertIn("0700000007000000", self.done("run", "-", stdin=request.encode()))

    def test_data_on_standard_output_comes_alone(self):
        one = self.write("one.bin", floats(1, 1, 1, 1))
        words = ("run", "example1.json", "y=in:" + one, "y=out:-")
        expected = floats(8.5, 16, 23.5, 31)
        loud = self.ctl(*words)
        self.assertEqual((loud.returncode, loud.stdout), (DONE, expected))
        self.assertIn(b"OUTPUT", loud.stderr)
        quiet = self.ctl(*words, "-q")
        self.assertEqual((quiet.stdout, quiet.stderr), (expected, b""))
        refused = self.ctl(*words, "--json")
        self.assertEqual((refused.returncode, refused.stdout), (USAGE, b""))
        self.assertIn("standard output (-)", json.loads(refused.stderr)["error"]["message"])
        self.assertIn("standard input (-) is for the request and for 'y'",
                      self.refused(USAGE, "run", "-", "y=in:-", stdin=self.read("example1.json")))
        self.done("deploy", "example1.json", "--name", "saxpy")
        self.assertEqual(self.ctl("call", "saxpy", *words[2:]).stdout, expected)
        self.assertEqual(self.ctl("call", "saxpy", *words[2:], "--json").returncode, USAGE)
        self.done("undeploy", "saxpy")
        self.assertEqual(self.keys(".kaasctl"), [])

    def test_failures_name_the_users_files(self):
        self.write("one.bin", floats(1))
        for words in (("example0.json", "width=1", "in=@one.bin"),
                      ("example0.json", "width=1", "height=1", "heigth=1", "in=@one.bin"),
                      ("example0.json", "width=100", "height=1", "in=@one.bin"),
                      ("example0.json", "width=0", "height=1", "in=@one.bin")):
            message = self.refused(FAILED, "run", *words)
            self.assertNotIn(".kaasctl", message)
            self.assertRegex(message, r"example0\.json|'one\.bin'")

    def test_repeat_profile_and_options(self):
        words = ("run", "example1.json", "y=in:" + self.write("one.bin", floats(1, 1, 1, 1)),
                 "y=out:y.bin", "--repeat", "20", "--profile", "--tag", "9", "--deadline", "60s",
                 "--priority", "5", "--tenant", "somebody")
        result = self.done_json(*words)
        self.assertEqual(result["runs"]["count"], 20)
        self.assertLessEqual(result["runs"]["min_ns"], result["runs"]["p50_ns"])
        self.assertLessEqual(result["runs"]["p50_ns"], result["runs"]["max_ns"])
        self.assertEqual(result["tag"], 9)
        self.assertEqual(result["profile"]["counters"]["iterations"], 3)
        self.assertGreater(result["profile"]["stages"]["run_ns"], 0)
        self.assertEqual(result["profile"]["way"], "host")
        self.assertNotIn("why_stream", result["profile"])
        text = self.done(*words)
        self.assertIn("by host", text)
        self.assertIn("20 runs in", text)
        self.assertIn("STAGE", text)
        self.assertIn("duration is '5'", self.refused(USAGE, "run", "example1.json", "--deadline",
                                                      "5"))

    def test_request_that_is_wrong_is_a_failure_with_its_place(self):
        self.write("bad.json", b'{"kernels": [\n  {"grid": }]}')
        self.assertIn("bad.json: malformed JSON at line 2, column 12",
                      self.refused(FAILED, "run", "bad.json"))
        self.assertIn("standard input: malformed JSON", self.refused(FAILED, "run", "-"))
        self.write("bad.json", b'{"kernels": [{"library": "std", "kernel": "nop", "grid": 0}]}')
        self.assertIn("bad.json: kernels[0].grid is 0", self.refused(FAILED, "deploy", "bad.json"))
        self.assertIn("No such file", self.refused(FAILED, "run", "absent.json"))
        unknown = {"kernels": [{"library": "std", "kernel": "noopp", "grid": 1, "block": 1}]}
        self.assertIn("noop", self.refused(FAILED, "run", "-", stdin=json.dumps(unknown).encode()))
        self.assertIn("neither input nor output",
                      self.refused(USAGE, "run", "example1.json", "z=@f"))
        self.assertIn("has no parameters", self.refused(USAGE, "run", "example1.json", "n=1"))
        self.assertIn("changed in place", self.refused(USAGE, "run", "example1.json", "y=@f"))

    # --- Functions -------------------------------------------------------------------------------

    def test_function_has_versions_and_is_called(self):
        first = self.done_json("deploy", "example0.json")
        self.assertEqual(first["function"], "edges")
        second = self.done_json("deploy", "example0.json", "--name", "edges")
        self.assertEqual(second["version"], first["version"] + 1)
        listed = self.done_json("functions", "edges")
        self.assertEqual(listed["current_version"], second["version"])
        self.assertEqual(listed["versions"][0]["inputs"], ["in"])
        self.assertEqual(listed["versions"][0]["outputs"], ["out"])
        self.assertIn("width height", self.done("functions"))
        self.done("functions", "edges", "--use", str(first["version"]))
        self.assertEqual(self.done_json("functions", "edges")["current_version"], first["version"])

        # A white square on black has edges where it begins, and none inside.
        width, height = 40, 30
        pixels = bytearray(width * height * 3)
        for y in range(10, 20):
            for x in range(10, 30):
                pixels[3 * (y * width + x):3 * (y * width + x) + 3] = b"\xff\xff\xff"
        self.write("square.rgb", bytes(pixels))
        size = (f"width={width}", f"height={height}")
        self.done("call", "edges", *size, "in=@square.rgb", "out=@edges.grey")
        edges = self.read("edges.grey")
        self.assertEqual(len(edges), width * height)
        self.assertEqual(edges[0], 0)
        self.assertEqual(max(edges), 255)
        self.assertGreater(edges[15 * width + 10], 100)
        self.done("call", "edges", *size, "in=@square.rgb", "out=@again.grey", "--version",
                  str(second["version"]), "--repeat", "3")
        self.assertEqual(self.read("again.grey"), edges)
        # The same request without deploying it, and with keys instead of files.
        self.done("run", "example0.json", *size, "in=@square.rgb", "out=@run.grey")
        self.assertEqual(self.read("run.grey"), edges)
        self.done("kv", "put", "photo", "square.rgb")
        self.done("call", "edges", *size, "in=key:photo", "out=key:contours")
        self.assertEqual(self.ctl("kv", "get", "contours").stdout, edges)

        self.assertIn("height", self.refused(FAILED, "call", "edges", "width=1", "in=key:photo"))
        self.assertIn("'heigth'", self.refused(FAILED, "call", "edges", "width=1", "heigth=1"))
        self.assertIn("no version 99",
                      self.refused(FAILED, "call", "edges", *size, "--version", "99"))
        self.assertIn("square.raw", self.refused(FAILED, "call", "edges", *size, "in=@square.raw"))
        self.assertEqual(self.done_json("undeploy", "edges", "--version", str(second["version"])),
                         {"undeployed": "edges", "version": second["version"]})
        self.done("undeploy", "edges")
        self.assertIn("no function 'edges'", self.refused(FAILED, "call", "edges"))
        self.assertIn("no function 'edges'", self.refused(FAILED, "functions", "edges"))
        self.done("kv", "rm", "photo", "contours")
        self.assertEqual(self.keys(".kaasctl"), [])
        self.assertNotIn(".kaasctl", self.done("functions"))

    def test_function_needs_a_name(self):
        self.assertIn("give --name", self.refused(USAGE, "deploy", "example1.json"))
        self.refused(FAILED, "undeploy", "absent")
        self.assertIn("absent", self.refused(FAILED, "functions", "absent", "--use", "1"))

    # --- The outside ------------------------------------------------------------------------------

    def test_without_a_daemon_every_command_ends_with_three_and_says_where_it_looked(self):
        nobody = self.path("nobody.sock")
        for words in (("status",), ("ps",), ("run", "example1.json"), ("deploy", "example0.json"),
                      ("undeploy", "f"), ("functions",), ("call", "f"), ("cancel", "1.2.3"),
                      ("kick", "1"), ("kv", "put", "k", "example0.json"), ("kv", "get", "k", "-"),
                      ("kv", "ls"), ("kv", "stat", "k"), ("kv", "rm", "k"),
                      ("kv", "share", "k", "--everyone"), ("libraries",), ("logs",), ("reload",),
                      ("suspend", "all"), ("resume", "all")):
            self.assertIn(nobody, self.refused(NO_DAEMON, *words, "--socket", nobody))
        environment = {key: value for key, value in os.environ.items() if key != "KAAS_SOCKET"}
        environment["XDG_RUNTIME_DIR"] = self.path("runtime")
        result = subprocess.run([KAASCTL, "status"], capture_output=True, check=False,
                                env=environment)
        if result.returncode == NO_DAEMON:  # Unless this machine has a daemon of its own.
            self.assertIn(self.path("runtime/kaas/kaasd.sock").encode(), result.stderr)
            self.assertIn(b"/run/kaas/kaasd.sock", result.stderr)

    def test_readers_that_go_away_and_full_disks(self):
        self.done("kv", "put", "long", self.write("long.bin", bytes(8_000_000)))
        with subprocess.Popen([KAASCTL, "kv", "get", "long", "-"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=self.environment()) as get:
            get.stdout.read(10)
            get.stdout.close()
            self.assertEqual(get.wait(PATIENCE_SECONDS), FAILED)
            self.assertEqual(get.stderr.read(), b"")
        with open("/dev/full", "wb") as full:
            result = subprocess.run([KAASCTL, "status"], stdout=full, stderr=subprocess.PIPE,
                                    check=False, env=self.environment())
        self.assertEqual(result.returncode, FAILED)
        self.assertIn(b"No space left", result.stderr)
        self.done("kv", "rm", "long")


if __name__ == "__main__":
    unittest.main()
