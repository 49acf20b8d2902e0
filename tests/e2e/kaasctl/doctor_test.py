"""kaasctl doctor: what it finds, and what it says to do."""

import json
import os
import socket
import stat
import subprocess
import unittest

from daemon_case import FAILED, KAASCTL, NO_DAEMON, DaemonCase, FullDaemonCase

NOBODY = 65534


class DoctorCase(DaemonCase):

    def examined(self, code: int, *words: str, **options) -> dict[str, dict]:
        """The last finding of each name."""
        result = self.ctl("doctor", "--json", *words, **options)
        self.assertEqual(result.returncode, code, result)
        return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


class DoctorTest(DoctorCase):

    def test_doctor_runs_a_request_and_finds_nothing_to_fail(self):
        checks = self.done_json("doctor")["checks"]
        by_name = {check["name"]: check for check in checks}
        for name in ("versions", "shared memory", "descriptors", "locked memory", "memory",
                     "socket", "daemon", "health", "store", "devices", "libraries",
                     "null request"):
            self.assertIn(name, by_name)
        self.assertEqual(by_name["null request"]["level"], "ok")
        self.assertIn("std:noop", by_name["null request"]["text"])
        for check in checks:
            self.assertNotEqual(check["level"], "fail", check)
            self.assertEqual("advice" in check, check["level"] != "ok", check)
        self.assertRegex(self.done("doctor"), r"(?m)^ok    null request +std:noop")

    def test_doctor_names_what_is_wrong(self):
        folder = self.path("open")
        os.mkdir(folder)
        os.chmod(folder, 0o777)
        path = os.path.join(folder, "kaasd.sock")
        result = self.ctl("doctor", "--socket", path, "--json")
        self.assertEqual(result.returncode, NO_DAEMON)
        failed = [check for check in json.loads(result.stdout)["checks"]
                  if check["level"] == "fail"]
        self.assertEqual([check["name"] for check in failed], ["daemon"])
        self.assertIn(path, failed[0]["text"])
        self.assertIn("--socket", failed[0]["advice"])
        self.write("open/kaasd.sock", b"")
        text = self.ctl("doctor", "--socket", path).stdout.decode()
        self.assertIn("is no socket", text)
        self.assertIn("-> remove it", text)

    def test_socket_that_is_not_there_is_not_well(self):
        found = self.examined(NO_DAEMON, "--socket", self.path("nothing/kaasd.sock"))
        self.assertEqual(found["socket"]["level"], "warn")
        self.assertIn("No such file or directory", found["socket"]["text"])
        self.assertIn("start kaasd", found["socket"]["advice"])

    def test_findings_are_told_as_they_are_found(self):
        # A listener that never answers: the command waits for its session.
        silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(silent.close)
        silent.bind(self.path("silent.sock"))
        silent.listen()
        with subprocess.Popen([KAASCTL, "doctor", "--socket", self.path("silent.sock")],
                              stdout=subprocess.PIPE, env=self.environment()) as doctor:
            self.assertIn(b"versions", doctor.stdout.readline())
            self.assertIsNone(doctor.poll())
            doctor.kill()

    def test_suspended_devices_are_to_be_resumed(self):
        self.done("suspend", "all")
        try:
            found = self.examined(FAILED)
        finally:
            self.done("resume", "all")
        for name in ("health", "device", "null request"):
            self.assertIn("kaasctl resume", found[name]["advice"], name)
        self.assertIn("not tried", found["null request"]["text"])
        self.assertIn("every device is suspended", found["executor"]["text"])

    def test_socket_of_others_is_a_matter_of_its_mode_and_group(self):
        os.chmod(self.folder, 0o755)
        is_root = os.getuid() == 0
        mode = stat.S_IMODE(os.stat(self.socket).st_mode)
        try:
            if not is_root:
                os.chmod(self.socket, 0)
            found = self.examined(FAILED, **({"user": NOBODY} if is_root else {}))
        finally:
            os.chmod(self.socket, mode)
            os.chmod(self.folder, 0o700)
        for name in ("socket", "daemon"):
            self.assertEqual(found[name]["level"], "fail")
            self.assertIn("Permission denied", found[name]["text"])
            self.assertIn("socket_group", found[name]["advice"])

    def test_closed_folder_of_the_socket_is_named(self):
        if os.getuid() != 0:
            self.skipTest("a folder that this user can't enter takes another user")
        found = self.examined(FAILED, user=NOBODY, cwd="/")
        self.assertIn("Permission denied", found["socket"]["text"])
        self.assertIn("folder", found["socket"]["advice"])


class FreshDaemonTest(DoctorCase):

    def test_memory_of_an_executor_that_has_told_nothing_is_not_zero(self):
        self.assertNotRegex(self.done("status"), r"0 B +0 B")
        self.done("run", "-", stdin=json.dumps({"kernels": [
            {"library": "std", "kernel": "noop", "grid": 1, "block": 1}]}).encode())
        self.assertNotRegex(self.done("status"), r"0 B +0 B")
        self.assertNotIn("0 B of 0 B", self.done("doctor"))


class FullDaemonDoctorTest(FullDaemonCase, DoctorCase):

    def test_refused_session_has_the_reason_of_the_daemon(self):
        found = self.examined(FAILED)
        self.assertEqual(found["daemon"]["level"], "ok")
        self.assertIn("executor", found)
        self.assertEqual(found["null request"]["level"], "fail")
        self.assertIn("16000000", found["null request"]["text"])
        self.assertIn("raise its limits", found["null request"]["advice"])


if __name__ == "__main__":
    unittest.main()
