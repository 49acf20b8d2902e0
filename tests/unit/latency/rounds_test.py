import unittest

import harness  # noqa: F401  pylint: disable=unused-import
from kaas_latency.figures import Histogram
from kaas_latency.protocol import PeerFault
from kaas_latency.quiet import SLOW_LOOP, Seen
from kaas_latency.rounds import Budget, Turn, all_disturbances, figures_of, take_turns


class Sequence:
    """A crowd that does what it is told, and writes down when."""

    def __init__(self, name, log, fails_at=None):
        self.name, self.log, self.fails_at, self.turns = name, log, fails_at, 0

    def turn(self):
        self.turns += 1
        self.log.append(self.name)
        if self.turns == self.fails_at:
            raise PeerFault("has ended with status 1")
        return Turn({"p50_us": float(self.turns)}, Histogram([(self.turns, 1)]))


class Weather:
    """A watch for whom time is stolen in the rounds of these numbers, from 1, and behind those of
    the others the calibration loop is slow."""

    def __init__(self, stolen=(), slow=()):
        self.stolen, self.slow, self.round = set(stolen), set(slow), 0

    def begin(self):
        self.round += 1
        return self.round

    def end(self, begin):
        return Seen(("time was stolen",) if begin in self.stolen else (),
                    0.9e-3 if begin in self.slow else 0.6e-3)


def never():
    return False


class TurnsTest(unittest.TestCase):
    def test_parties_take_turns(self):
        log = []
        take_turns([Sequence("kaas", log), Sequence("own", log)], 3, Weather(), never)
        self.assertEqual(log, ["kaas", "own"] * 3)

    def test_a_disturbed_round_is_discarded_as_a_whole_and_repeated(self):
        log = []
        result = take_turns([Sequence("kaas", log), Sequence("own", log)], 3, Weather([2]), never)
        self.assertEqual(len(log), 8)
        self.assertEqual(result.discarded, 1)
        for party in result.parties.values():
            self.assertEqual([figures["p50_us"] for figures in party.rounds], [1.0, 3.0, 4.0])
            self.assertEqual(party.histogram.counts, {1: 1, 3: 1, 4: 1})

    def test_a_while_in_which_everything_is_slow_is_discarded_and_repeated(self):
        for slow in (range(1, 10), range(5, 14), range(20, 29)):
            result = take_turns([Sequence("kaas", [])], 20, Weather(slow=slow), never)
            self.assertEqual((result.ended, result.discarded), ("", 9), slow)
            kept = [int(figures["p50_us"]) for figures in result.parties["kaas"].rounds]
            self.assertEqual(kept, [number for number in range(1, 30) if number not in slow])
            self.assertEqual(result.disturbances, {SLOW_LOOP: 9})
            self.assertAlmostEqual(result.calibration_ms, 0.6)

    def test_a_load_that_is_always_there_discards_nothing(self):
        result = take_turns([Sequence("kaas", [])], 20, Weather(slow=range(1, 100)), never)
        self.assertEqual((result.ended, result.discarded), ("", 0))
        self.assertAlmostEqual(result.calibration_ms, 0.9)

    def test_a_machine_that_is_never_quiet_ends_the_measure(self):
        result = take_turns([Sequence("kaas", [])], 5, Weather(range(1, 1000)), never)
        self.assertEqual(result.ended, "the machine was not quiet")
        self.assertEqual(result.discarded, 11)
        self.assertEqual(result.parties["kaas"].rounds, [])

    def test_the_time_budget_ends_it_after_at_least_one_round(self):
        result = take_turns([Sequence("kaas", [])], 5, Weather(), lambda: True)
        self.assertEqual(result.ended, "the time budget")
        self.assertEqual(len(result.parties["kaas"].rounds), 1)

    def test_a_peer_that_fails_is_left_out_with_its_reason_and_its_rounds(self):
        log = []
        result = take_turns([Sequence("kaas", log), Sequence("own", log, fails_at=2)], 3, Weather(),
                            never)
        self.assertEqual(log, ["kaas", "own", "kaas", "own", "kaas"])
        self.assertEqual(len(result.parties["kaas"].rounds), 3)
        self.assertEqual(result.parties["own"].rounds, [])
        self.assertIn("status 1", result.parties["own"].absent)

    def test_without_kaas_there_is_nothing_to_compare(self):
        log = []
        result = take_turns([Sequence("kaas", log, fails_at=1), Sequence("own", log)], 3, Weather(),
                            never)
        self.assertEqual(log, ["kaas", "own"])
        self.assertIn("status 1", result.parties["kaas"].absent)

    def test_who_could_not_be_started_is_told(self):
        result = take_turns([Sequence("kaas", [])], 1, Weather(), never, {"own": "no GPU"})
        self.assertEqual(result.parties["own"].absent, "no GPU")


    def test_disturbances_of_all_measures_are_counted_together(self):
        results = {str(stolen): take_turns([Sequence("kaas", [])], 9, Weather([stolen]), never)
                   for stolen in (2, 3)}
        self.assertEqual(all_disturbances(results), {"time was stolen": 2})


class FiguresTest(unittest.TestCase):
    def test_tails_are_told_over_the_median(self):
        figures = figures_of(Histogram([(1000, 980), (3000, 19), (9000, 1)]), 5.0)
        self.assertEqual(figures["p50_us"], 1.0)
        self.assertEqual(figures["p99/p50"], 3.0)
        self.assertEqual(figures["p99.9/p50"], 3.0)
        self.assertEqual(figures["rate"], 5.0)


class BudgetTest(unittest.TestCase):
    def test_time_is_dealt_out_by_weight_and_what_is_left_goes_on(self):
        now = [0.0]
        budget = Budget(100, [1, 1, 2], clock=lambda: now[0])
        self.assertEqual(budget.next_share(), 25)
        now[0] = 10  # It took less.
        self.assertEqual(budget.next_share(), 30)
        now[0] = 90  # It took more.
        self.assertEqual(budget.next_share(), 10)

    def test_time_that_is_used_up_is_none(self):
        budget = Budget(1, [1], clock=iter([0.0, 5.0]).__next__)
        self.assertEqual(budget.next_share(), 0)


if __name__ == "__main__":
    unittest.main()
