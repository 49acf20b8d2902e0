import os
import unittest

import harness  # noqa: F401  pylint: disable=unused-import
from kaas_latency import placement, quiet

STAT = """cpu  10 0 10 100 0 0 0 30 0 0
cpu0 5 0 5 50 0 0 0 10 0 0
cpu1 5 0 5 50 0 0 0 20 0 0
cpu10 5 0 5 50 0 0 0 400 0 0
intr 12345
"""


class QuietTest(unittest.TestCase):
    def test_stolen_time_is_that_of_the_cores_in_use(self):
        self.assertEqual(quiet.steal_ticks(STAT, {0, 1}), 30)
        self.assertEqual(quiet.steal_ticks(STAT, {1}), 20)

    def test_a_share_of_the_round_counts_and_a_single_tick_does_not(self):
        self.assertFalse(quiet.was_stolen(1, 0.01, 1, 100))
        self.assertTrue(quiet.was_stolen(2, 0.1, 2, 100))
        self.assertFalse(quiet.was_stolen(2, 1.0, 2, 100))
        self.assertTrue(quiet.was_stolen(5, 1.0, 2, 100))

    def test_idle_clocks_are_not_throttled_ones(self):
        self.assertEqual(quiet.throttle_text(0x1), "")
        self.assertEqual(quiet.throttle_text(0x2 | 0x10), "")
        self.assertEqual(quiet.throttle_text(0x4 | 0x20), "power cap, too hot")


def calibrations(*times_ms, reasons=()):
    """Rounds behind which the calibration loop took so long."""
    return [quiet.Seen(reasons, time_ms / 1000) for time_ms in times_ms]


def discarded(rounds):
    """The numbers of the disturbed rounds, from 0."""
    return [i for i, reasons in enumerate(quiet.disturbances(rounds)) if reasons]


class CalibrationTest(unittest.TestCase):
    def test_what_is_slow_behind_all_rounds_is_the_measures_own_load(self):
        # The loop takes 0.39 ms on the idle machine; here busy neighbours share its core.
        self.assertEqual(discarded(calibrations(*[0.62, 0.58, 0.66, 0.60] * 8)), [])

    def test_a_round_that_is_slower_than_the_others_is_disturbed(self):
        self.assertEqual(discarded(calibrations(0.60, 0.61, 0.90, 0.59, 0.62)), [2])
        self.assertEqual(discarded(calibrations(0.39, 0.40, 0.62, 0.39)), [2])

    def test_rounds_while_everything_is_slow_are_disturbed_wherever_they_are(self):
        usual, slow = [0.60, 0.62, 0.59, 0.61, 0.60] * 4, [0.95] * 9
        self.assertEqual(discarded(calibrations(*usual, *slow)), list(range(20, 29)))
        self.assertEqual(discarded(calibrations(*slow, *usual)), list(range(9)))

    def test_of_two_rounds_the_slower_one_is_disturbed(self):
        self.assertEqual(discarded(calibrations(0.9, 0.6)), [0])
        self.assertEqual(discarded(calibrations(0.6)), [])
        self.assertEqual(discarded([]), [])

    def test_a_little_slower_is_not_disturbed(self):
        self.assertEqual(discarded(calibrations(0.40, 0.49, 0.40)), [])

    def test_what_is_seen_of_a_round_itself_counts_whatever_others_were_like(self):
        rounds = calibrations(0.4, 0.4, reasons=("time was stolen",)) + calibrations(0.4, 0.4)
        self.assertEqual(quiet.disturbances(rounds),
                         [["time was stolen"], ["time was stolen"], [], []])
        rounds = calibrations(0.9, reasons=("time was stolen",)) + calibrations(0.4, 0.4)
        self.assertEqual(quiet.disturbances(rounds)[0], ["time was stolen", quiet.SLOW_LOOP])

    def test_a_watch_tells_what_the_loop_took(self):
        watch = quiet.Watch({0}, None)
        seen = watch.end(watch.begin())
        self.assertGreater(seen.calibration_seconds, 0)
        self.assertLessEqual(watch.best_ms(), 1000 * seen.calibration_seconds)


class PlacementTest(unittest.TestCase):
    def test_each_has_a_physical_core_of_its_own_first(self):
        pairs = {core: frozenset({core, core ^ 1}) for core in range(16)}
        where = placement.choose(range(16), siblings=pairs.get)
        chosen = [where.kaasd, where.server, *where.clients[:4]]
        self.assertEqual([core % 2 for core in chosen], [0] * 6)
        self.assertEqual(len({where.kaasd, where.server, *where.clients, *where.rest}), 16)
        self.assertEqual(len(where.rest), 4)

    def test_clients_beyond_the_cores_share_them_in_turn(self):
        where = placement.choose(range(8), siblings=lambda core: frozenset({core}))
        self.assertEqual(where.client(len(where.clients)), where.clients[0])

    def test_few_cores_are_shared_and_it_says_so(self):
        where = placement.choose([0, 1])
        self.assertNotEqual(where.client(0), where.server)
        self.assertEqual(where.kaasd, where.client(5))
        self.assertIn("2 cores", where.text())
        self.assertIn("share", where.text())

    def test_one_core_is_not_dealt_out(self):
        where = placement.choose([3])
        self.assertIsNone(where.client(0))
        self.assertIn("one core", where.text())

    def test_unpinned_is_said_to_be_asked_for(self):
        self.assertIn("as asked", placement.choose(range(16), pinned=False).text())

    def test_lists_of_cores_are_read(self):
        self.assertEqual(placement.parse_list("0-2,8\n"), {0, 1, 2, 8})

    def test_a_process_that_has_ended_is_left_alone(self):
        placement.pin(2 ** 22 + 1, 0, frozenset([0]))

    def test_the_busiest_thread_of_this_process_is_its_only_one(self):
        self.assertEqual(placement.busiest_thread(os.getpid()), os.getpid())


if __name__ == "__main__":
    unittest.main()
