"""kaas-sim that is asked to end early leaves nothing behind."""

import os
import signal
import subprocess
import tempfile
import time
import unittest

SIM = os.path.join(os.environ["KAAS_TEST_BINARY_DIR"], "bin", "kaas-sim")
PATIENCE_SECONDS = 60


class EndingTest(unittest.TestCase):

    def test_signal_ends_it_and_its_folder_is_removed(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with tempfile.TemporaryDirectory() as folder:
                with subprocess.Popen([SIM, "--steps", "1000000000"], stdout=subprocess.DEVNULL,
                                      env={**os.environ, "TMPDIR": folder}) as running:
                    end = time.monotonic() + PATIENCE_SECONDS
                    while not os.listdir(folder):
                        self.assertIsNone(running.poll())
                        self.assertLess(time.monotonic(), end)
                    running.send_signal(number)
                    self.assertEqual(running.wait(PATIENCE_SECONDS), -number)
                self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    unittest.main()
