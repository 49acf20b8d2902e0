"""A daemon for the tests of kaasctl, and ways to call kaasctl.

Runs in the environment that ctest gives it. Everything it makes lies in a temporary folder.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
import time
import unittest

SOURCE = os.environ["KAAS_TEST_SOURCE_DIR"]
BUILD = os.environ["KAAS_TEST_BINARY_DIR"]
KAASD = os.path.join(BUILD, "bin/kaasd")
KAASCTL = os.path.join(BUILD, "bin/kaasctl")
PATIENCE_SECONDS = 60

DONE, FAILED, USAGE, NO_DAEMON = 0, 1, 2, 3


def documented_examples() -> list[str]:
    with open(os.path.join(SOURCE, "docs/request-format.md"), encoding="utf-8") as file:
        return re.findall(r"^```json\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


class DaemonCase(unittest.TestCase):
    """A folder and a daemon for the tests of one class."""

    DAEMON_FLAGS: tuple[str, ...] = ()

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="kaasctl-test-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.socket = os.path.join(cls.folder, "kaasd.sock")
        log = open(os.path.join(cls.folder, "kaasd.log"), "wb")
        cls.addClassCleanup(log.close)
        cls.daemon = subprocess.Popen([KAASD, "--socket", cls.socket, *cls.DAEMON_FLAGS],
                                      stderr=log)
        cls.addClassCleanup(cls.stop_daemon)
        for number, text in enumerate(documented_examples()):
            cls.write(f"example{number}.json", text.encode())
        end = time.monotonic() + PATIENCE_SECONDS
        while cls.ctl("status").returncode != DONE:
            if cls.daemon.poll() is not None or time.monotonic() > end:
                raise AssertionError("kaasd does not start: " + cls.log_text())

    @classmethod
    def stop_daemon(cls):
        cls.daemon.terminate()
        if cls.daemon.wait(PATIENCE_SECONDS) != 0:
            raise AssertionError(f"kaasd ended with {cls.daemon.returncode}: {cls.log_text()}")

    @classmethod
    def log_text(cls) -> str:
        with open(os.path.join(cls.folder, "kaasd.log"), encoding="utf-8") as file:
            return file.read()

    @classmethod
    def path(cls, name: str) -> str:
        return os.path.join(cls.folder, name)

    @classmethod
    def write(cls, name: str, data: bytes) -> str:
        with open(cls.path(name), "wb") as file:
            file.write(data)
        return cls.path(name)

    @classmethod
    def read(cls, name: str) -> bytes:
        with open(cls.path(name), "rb") as file:
            return file.read()

    @classmethod
    def environment(cls) -> dict[str, str]:
        return {**os.environ, "KAAS_SOCKET": cls.socket, "TZ": "UTC"}

    @classmethod
    def ctl(cls, *words: str, stdin: bytes = b"", **options) -> subprocess.CompletedProcess:
        options = {"cwd": cls.folder, **options}
        return subprocess.run([KAASCTL, *words], input=stdin, capture_output=True, check=False,
                              env=cls.environment(), timeout=PATIENCE_SECONDS, **options)

    def done(self, *words: str, stdin: bytes = b"") -> str:
        result = self.ctl(*words, stdin=stdin)
        self.assertEqual(result.returncode, DONE, (words, result.stderr))
        return result.stdout.decode()

    def done_json(self, *words: str, stdin: bytes = b""):
        return json.loads(self.done(*words, "--json", stdin=stdin))

    def refused(self, code: int, *words: str, stdin: bytes = b"") -> str:
        result = self.ctl(*words, stdin=stdin)
        self.assertEqual(result.returncode, code, (words, result.stdout, result.stderr))
        self.assertEqual(result.stdout, b"", words)
        message = result.stderr.decode()
        self.assertTrue(message.startswith("kaasctl: "), message)
        return message

    def keys(self, prefix: str = "") -> list[str]:
        return self.done("kv", "ls", prefix, "-q").split()


class FullDaemonCase(DaemonCase):
    """A daemon with room for one session with rings and an arena, which somebody has."""

    DAEMON_FLAGS = ("--store-bytes", "16000000")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.holder = subprocess.Popen([KAASCTL, "kv", "put", "held", "-", "-q"],
                                      stdin=subprocess.PIPE, env=cls.environment())
        cls.addClassCleanup(cls.stop_holder)
        end = time.monotonic() + PATIENCE_SECONDS
        while not any(client["pid"] == cls.holder.pid and client["rings"] > 0
                      for client in json.loads(cls.ctl("ps", "--json").stdout)["clients"]):
            if cls.holder.poll() is not None or time.monotonic() > end:
                raise AssertionError("kv put does not wait: " + cls.log_text())

    @classmethod
    def stop_holder(cls):
        cls.holder.stdin.close()
        cls.holder.wait(PATIENCE_SECONDS)
