"""tools/demo with the programs of this build: it succeeds, its pictures are there, and it fails
aloud when something is missing."""

import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ["KAAS_TEST_SOURCE_DIR"]
BINARY = os.environ["KAAS_TEST_BINARY_DIR"]


def demo(*arguments):
    return subprocess.run([os.path.join(SOURCE, "tools", "demo"), *arguments],
                          capture_output=True, text=True, timeout=100, check=False)


def png_size(path):
    with open(path, "rb") as file:
        head = file.read(26)
    assert head[:8] == b"\x89PNG\r\n\x1a\n", path
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    return width, height, depth, colour


class Demo(unittest.TestCase):
    def test_it_runs_from_end_to_end(self):
        with tempfile.TemporaryDirectory() as output:
            done = demo("--built", BINARY, "--output", output, "--seconds", "0.2")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            grey = 0
            self.assertEqual(png_size(os.path.join(output, "edges.png")), (512, 512, 8, grey))
            self.assertEqual(png_size(os.path.join(output, "edges-crop.png")), (261, 203, 8, grey))
        for name in ("whole", "crop"):
            self.assertRegex(done.stdout, rf"\[{name}\] .*connect to first result: [\d.]+ ms")
            self.assertRegex(done.stdout, rf"\[{name}\] warm: p50 [\d.]+ ms, p99 [\d.]+ ms")
            compared = re.findall(rf"\[{name}\] (?:first|last) result .* by (\d) grey level",
                                  done.stdout)
            self.assertEqual(len(compared), 2)
            self.assertLessEqual(max(map(int, compared)), 1)
        self.assertIn("left: no process", done.stdout)

    def test_missing_programs_are_named(self):
        with tempfile.TemporaryDirectory() as empty:
            done = demo("--built", empty, "--output", empty)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("kaasd is missing", done.stderr)

    def test_a_daemon_that_ends_is_reported_and_nothing_is_left(self):
        with tempfile.TemporaryDirectory() as built, tempfile.TemporaryDirectory() as temporary:
            os.mkdir(os.path.join(built, "bin"))
            # Once kaasd has ended, kaasctl finds it well, but deploying fails.
            said = os.path.join(built, "said")
            scripts = {"kaasd": f'echo "broken on purpose"; touch {said}',
                       "kaasctl": f'[ "$1" = status ] && [ -e {said} ]',
                       "kaas-executor": "true", "kaas-demo-client": "true"}
            for program, script in scripts.items():
                path = os.path.join(built, "bin", program)
                with open(path, "w", encoding="ascii") as file:
                    file.write(f"#!/bin/sh\n{script}\n")
                os.chmod(path, 0o755)
            environment = dict(os.environ, TMPDIR=temporary)
            done = subprocess.run(
                [os.path.join(SOURCE, "tools", "demo"), "--built", built, "--output", temporary],
                capture_output=True, text=True, timeout=60, env=environment, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("broken on purpose", done.stderr)
            self.assertEqual(os.listdir(temporary), [])

    def test_wrong_usage_is_status_2(self):
        self.assertEqual(demo("--frobnicate").returncode, 2)
        self.assertEqual(demo("--built").returncode, 2)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
