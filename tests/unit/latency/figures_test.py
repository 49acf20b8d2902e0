import math
import unittest

import harness  # noqa: F401  pylint: disable=unused-import
from kaas_latency.figures import Histogram, estimate, ratios


class HistogramTest(unittest.TestCase):
    def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(self):
        histogram = Histogram((value, 1) for value in range(1, 101))
        self.assertEqual(histogram.percentile_ns(50), 50)
        self.assertEqual(histogram.percentile_ns(99), 99)
        self.assertEqual(histogram.percentile_ns(99.9), 100)
        self.assertEqual(histogram.percentile_ns(0), 1)
        self.assertEqual(histogram.percentile_ns(100), 100)

    def test_a_share_that_is_whole_is_not_rounded_up(self):
        for total in (1000, 2000, 10_000):
            histogram = Histogram([(1, total * 999 // 1000), (2, total // 1000)])
            self.assertEqual(histogram.percentile_ns(99.9), 1, total)

    def test_counts_weigh(self):
        histogram = Histogram([(10, 98), (1000, 2)])
        self.assertEqual(histogram.percentile_ns(98), 10)
        self.assertEqual(histogram.percentile_ns(99), 1000)

    def test_merging_adds_counts(self):
        histogram = Histogram([(10, 1), (20, 1)])
        histogram.merge(Histogram([(20, 2), (30, 1)]))
        self.assertEqual(histogram.counts, {10: 1, 20: 3, 30: 1})

    def test_an_empty_one_has_no_percentile(self):
        self.assertTrue(math.isnan(Histogram().percentile_ns(50)))

    def test_a_long_distribution_is_thinned_and_keeps_its_ends(self):
        points = Histogram((value, 1) for value in range(1, 1001)).cumulative(50)
        self.assertEqual(len(points), 50)
        self.assertEqual(points[0], (1.0, 0.001))
        self.assertEqual(points[-1], (1000.0, 1.0))
        self.assertEqual(points, sorted(points))


class EstimateTest(unittest.TestCase):
    def test_the_median_is_the_middle_or_between_the_two(self):
        self.assertEqual(estimate([3, 1, 2]).median, 2)
        self.assertEqual(estimate([4, 1, 2, 3]).median, 2.5)

    def test_few_rounds_show_their_extremes(self):
        self.assertEqual(estimate([5, 1, 3, 2, 4])[1:], (1, 5, 5))

    def test_many_rounds_show_the_interval_of_the_median(self):
        # For 30 values: (30 - 1.96 * sqrt(30)) / 2 is 9.6, so that 9 on each side lie outside.
        middle = estimate(list(range(1, 31)))
        self.assertEqual((middle.low, middle.high), (10, 21))

    def test_spread_is_relative_to_the_median(self):
        self.assertAlmostEqual(estimate([9, 10, 11]).spread(), 0.2)
        self.assertEqual(estimate([7, 7]).spread(), 0)
        self.assertEqual(estimate([-1, 0, 1]).spread(), math.inf)

    def test_no_rounds_are_no_estimate(self):
        self.assertIsNone(estimate([]))


class RatiosTest(unittest.TestCase):
    def test_ratios_are_of_neighbouring_rounds(self):
        # Both drift to the double; the ratio does not.
        self.assertEqual(ratios([1, 2], [2, 4]), [0.5, 0.5])

    def test_a_peer_that_takes_no_time_is_not_divided_by(self):
        self.assertEqual(ratios([1], [0]), [math.inf])


if __name__ == "__main__":
    unittest.main()
