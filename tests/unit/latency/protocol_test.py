"""Peers that are right, and peers that are not: each becomes a fault that says what was found."""

import json
import os
import sys
import time
import unittest

import harness
from kaas_latency.protocol import PeerFault, PeerProcess, parse_answer, parse_ready

EXAMPLE = os.path.join(harness.FOLDER, "peers", "example_peer.py")
READY = "print('{\"ready\": \"test\"}', flush=True)\n"


class ReadmeTest(unittest.TestCase):
    def test_the_peer_in_the_manual_is_the_example(self):
        with open(os.path.join(harness.FOLDER, "README.md"), encoding="utf-8") as file:
            snippet = file.read().split("```python\n")[1].split("```")[0]
        with open(EXAMPLE, encoding="utf-8") as file:
            self.assertIn(snippet, file.read())


class ParseTest(unittest.TestCase):
    def refused(self, line, *parts, requests=10):
        with self.assertRaises(PeerFault) as caught:
            parse_answer(line if isinstance(line, str) else json.dumps(line), requests)
        for part in parts:
            self.assertIn(part, str(caught.exception))

    def test_samples_and_histograms_are_the_same(self):
        samples = parse_answer('{"samples_ns": [10, 20, 10]}', 3)
        counted = parse_answer('{"histogram_ns": [[10, 2], [20, 1]], "seconds": 2.5}', 3)
        self.assertEqual(samples.histogram.counts, counted.histogram.counts)
        self.assertEqual(counted.seconds, 2.5)
        self.assertAlmostEqual(samples.seconds, 40e-9)  # Not told: their sum.

    def test_garbage_is_shown(self):
        self.refused("no json at all", "no json at all", "one JSON object")
        self.refused("[1, 2]", "one JSON object")
        self.refused("", "one JSON object")
        self.refused("[" * 100_000, "one JSON object")

    def test_a_long_line_is_shown_in_part(self):
        with self.assertRaises(PeerFault) as caught:
            parse_answer("x" * 100_000, 0)
        self.assertLess(len(str(caught.exception)), 300)

    def test_what_it_can_not_do_is_its_own_words(self):
        self.refused({"cannot": "no depth"}, "can not: no depth")
        self.refused({"error": "the card is gone"}, "failed: the card is gone")

    def test_too_many_numbers_are_refused(self):
        self.refused({"samples_ns": [1] * 11}, "11 samples", "10 requests")
        self.refused({"histogram_ns": [[5, 11]]}, "11 samples", "10 requests")

    def test_fewer_are_taken_and_none_are_not(self):
        self.assertEqual(parse_answer('{"samples_ns": [1]}', 10).histogram.total(), 1)
        self.refused({"samples_ns": []}, "no samples")
        self.refused({"histogram_ns": [[5, 0]]}, "no samples")

    def test_what_is_no_latency_is_refused(self):
        for wrong in (-1, "10", None, True, [1], 1e30):
            self.refused({"samples_ns": [1, wrong]}, "samples_ns[1]")
        self.refused('{"samples_ns": [NaN]}', "samples_ns[0]")
        self.refused('{"samples_ns": [Infinity]}', "samples_ns[0]")
        self.refused({"samples_ns": 7}, "allowed: a list")
        self.refused({"histogram_ns": [[1]]}, "[NANOSECONDS, COUNT]")
        self.refused({"histogram_ns": [[1, -2]]}, "histogram_ns[0]")

    def test_samples_come_in_one_form(self):
        self.refused({}, "neither")
        self.refused({"samples_ns": [1], "histogram_ns": [[1, 1]]}, "both")

    def test_seconds_are_checked(self):
        for wrong in (-1, "1", True):
            self.refused({"samples_ns": [1], "seconds": wrong}, "seconds")

    def test_ready_says_what_it_is_or_why_not(self):
        self.assertEqual(parse_ready('{"ready": "a card"}'), "a card")
        for line, part in (('{"error": "no GPU"}', "no GPU"), ('{"ready": 1}', "expected"),
                           ("hello", "hello")):
            with self.assertRaises(PeerFault) as caught:
                parse_ready(line)
            self.assertIn(part, str(caught.exception))


class ProcessTest(unittest.TestCase):
    def start(self, script, *words):
        process = PeerProcess([sys.executable, *(words or ("-c", script))])
        self.addCleanup(process.close)
        return process

    def fault_of(self, call, *arguments):
        with self.assertRaises(PeerFault) as caught:
            call(*arguments)
        return str(caught.exception)

    def test_the_example_is_a_peer(self):
        peer = self.start("", EXAMPLE)
        self.assertIn("example", peer.await_ready())
        self.assertEqual(peer.measure("kernels=0 requests=5").histogram.total(), 5)
        self.assertIn("null requests", self.fault_of(peer.measure, "kernels=8 requests=5"))
        self.assertEqual(peer.measure("kernels=0 requests=2").histogram.total(), 2)

    def test_banners_of_libraries_come_before_ready(self):
        peer = self.start("print('Library 1.0'); print()\n" + READY)
        self.assertEqual(peer.await_ready(), "test")

    def test_one_that_only_talks_is_not_listened_to_for_ever(self):
        peer = self.start("while True: print('still starting')")
        self.assertIn("still starting", self.fault_of(peer.await_ready))

    def test_one_that_ends_says_how(self):
        peer = self.start("import sys; print('no driver', file=sys.stderr); sys.exit(3)")
        fault = self.fault_of(peer.await_ready)
        self.assertIn("status 3", fault)
        self.assertIn("no driver", fault)

    def test_one_that_ends_while_it_measures_says_how(self):
        peer = self.start(READY + "input(); raise SystemExit(4)")
        peer.await_ready()
        self.assertIn("status 4", self.fault_of(peer.measure, "requests=1"))

    def test_silence_is_a_fault_that_shows_what_was_said_of_the_line(self):
        peer = self.start("import sys; sys.stdout.write('{\"re'); sys.stdout.flush(); input()")
        fault = self.fault_of(peer.await_ready, 0.5)
        self.assertIn("has not answered", fault)
        self.assertIn('{"re', fault)

    def test_a_line_without_end_is_a_fault(self):
        peer = self.start("import sys\nwhile True: sys.stdout.write('x' * 65536)")
        self.assertIn("longer than", self.fault_of(peer.await_ready))

    def test_what_is_not_there_is_a_fault(self):
        self.assertIn("can't be started", self.fault_of(PeerProcess, ["/nonexistent/peer"]))

    def test_one_that_does_not_end_is_killed(self):
        script = READY + "import time\nwhile True: time.sleep(1)"
        process = PeerProcess([sys.executable, "-c", script])
        process.await_ready()
        begin = time.monotonic()
        process.close()
        self.assertGreaterEqual(time.monotonic() - begin, 0)
        self.assertIsNotNone(process.process.poll())

    def test_much_on_standard_error_blocks_nobody(self):
        peer = self.start("import sys; sys.stderr.write('x' * 1000000)\n" + READY)
        self.assertEqual(peer.await_ready(), "test")


if __name__ == "__main__":
    unittest.main()
