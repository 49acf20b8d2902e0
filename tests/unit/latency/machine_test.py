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
