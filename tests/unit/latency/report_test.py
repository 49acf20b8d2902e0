import json
import unittest

from harness import result_of
from kaas_latency import report as reports
from kaas_latency.figures import Histogram
from kaas_latency.plots import pictures
from kaas_latency.protocol import numbers_of
from kaas_latency.rows import MEASURES, ROWS, Row

STREAM_8 = next(row for row in ROWS if row.name == "stream-8")  # At most 0.42.
SERVED = next(row for row in ROWS if row.name == "served-kernel")
RATE = next(row for row in ROWS if row.name == "rate-8")
TAIL = next(row for row in ROWS if row.name == "tail-p99")
ROUNDS = 30


def judged(row, result, devices=("cuda",)):
    return reports.judge(row, {row.measure: result} if result else {}, devices)


def report_of(results, **changes):
    return {"format": 1, "kind": "latency", "runs": 1, "quick": False, "pinned": True,
            "machine": {"processor": "P"}, "devices": {"cuda": "H100"}, "stages": {},
            "measures": reports.measures_json(results), **changes}


class TableTest(unittest.TestCase):
    def test_rows_and_measures_fit_together(self):
        self.assertEqual(len({row.name for row in ROWS}), len(ROWS))
        for row in ROWS:
            self.assertIn(row.measure, MEASURES)
            self.assertLessEqual(set(row.against), set(MEASURES[row.measure].parties))
            self.assertIn(row.figure, reports.UNITS)

    def test_paced_measures_have_their_rounds_within_a_minute(self):
        for name in ("paced", "host-paced"):
            measure = MEASURES[name]
            pause = numbers_of(measure.command)["every_us"] / 1e6
            seconds = len(measure.parties) * measure.requests * pause * reports.ROUNDS_MIN
            self.assertLess(seconds, 45, name)  # And some to begin, and for repeated rounds.

    def test_every_party_of_a_measure_is_known(self):
        from kaas_latency.parties import PARTIES
        for measure in MEASURES.values():
            self.assertLessEqual(set(measure.parties), set(PARTIES))
            self.assertTrue(measure.parties[0].startswith("kaas"))
            self.assertEqual(bool(measure.requests), "seconds=" not in measure.command
                             and measure.kind != "tail")


class JudgeTest(unittest.TestCase):
    def test_a_row_is_met_or_missed_by_the_median_of_ratios(self):
        self.assertEqual(judged(STREAM_8, result_of(kaas=[4.0] * ROUNDS,
                                                    own_stream=[10.0] * ROUNDS)).verdict, "met")
        self.assertEqual(judged(STREAM_8, result_of(kaas=[4.3] * ROUNDS,
                                                    own_stream=[10.0] * ROUNDS)).verdict, "MISSED")

    def test_at_the_bound_is_met(self):
        self.assertEqual(judged(STREAM_8, result_of(kaas=[42.0] * ROUNDS,
                                                    own_stream=[100.0] * ROUNDS)).verdict, "met")

    def test_the_best_of_several_peers_counts(self):
        row = judged(SERVED, result_of(kaas=[10.0] * ROUNDS, grpc=[90.0] * ROUNDS,
                                       zeromq=[40.0] * ROUNDS))
        self.assertEqual((row.peer, row.verdict), ("zeromq", "MISSED"))
        row = judged(SERVED, result_of(kaas=[10.0] * ROUNDS, grpc=[90.0] * ROUNDS, zeromq="absent"))
        self.assertEqual((row.peer, row.verdict), ("grpc", "met"))

    def test_a_rate_is_at_least(self):
        self.assertEqual(judged(RATE, result_of(kaas=[400_000.0] * ROUNDS)).verdict, "met")
        self.assertEqual(judged(RATE, result_of(kaas=[399_999.0] * ROUNDS)).verdict, "MISSED")

    def test_without_its_peers_a_row_is_not_judged_and_says_why(self):
        row = judged(STREAM_8, result_of(kaas=[1.0] * ROUNDS, own_stream="no driver"))
        self.assertEqual(row.verdict, reports.NOT_JUDGED)
        self.assertIn("no driver", row.why)
        self.assertEqual(row.figure.median, 1.0)

    def test_without_kaas_a_row_is_not_judged_and_says_why(self):
        row = judged(RATE, result_of(kaas="kaasd is gone"))
        self.assertEqual(row.verdict, reports.NOT_JUDGED)
        self.assertIn("kaasd is gone", row.why)

    def test_too_few_quiet_rounds_are_no_verdict(self):
        result = result_of(kaas=[500_000.0] * (ROUNDS - 1))
        result.ended = "the machine was not quiet"
        row = judged(RATE, result)
        self.assertEqual(row.verdict, reports.NOT_JUDGED)
        self.assertIn("29 quiet rounds of 30: the machine was not quiet", row.why)

    def test_what_another_device_is_needed_for_is_not_measurable(self):
        self.assertEqual(judged(RATE, None, ("host",)).verdict, reports.NOT_MEASURABLE)
        self.assertEqual(judged(RATE, None, ("cuda",)).verdict, reports.NOT_JUDGED)

    def test_a_tail_is_that_of_all_rounds_together(self):
        result = result_of(kaas=[1.0])
        party = result.parties["kaas"]
        party.rounds = [{"p99/p50": 1.5}] * 10
        party.histogram = Histogram([(1000, 900), (2500, 100)])
        row = judged(TAIL, result)
        self.assertEqual((row.value.median, row.value.low, row.verdict), (2.5, 1.5, "MISSED"))


class CheckTest(unittest.TestCase):
    def rows(self, *verdicts):
        return [reports.Judged(RATE, verdict, "", None, "", None, None) for verdict in verdicts]

    def test_all_that_can_be_measured_must_be_met(self):
        self.assertTrue(reports.is_right(self.rows("met", "met")))
        self.assertTrue(reports.is_right(self.rows("met", reports.NOT_MEASURABLE)))
        self.assertFalse(reports.is_right(self.rows("met", "MISSED")))
        self.assertFalse(reports.is_right(self.rows("met", reports.NOT_JUDGED)))

    def test_nothing_measured_is_not_right(self):
        self.assertFalse(reports.is_right(self.rows(reports.NOT_MEASURABLE)))
        self.assertFalse(reports.is_right([]))


class MergeTest(unittest.TestCase):
    def test_what_was_seen_of_the_machine_is_that_of_all_runs(self):
        one, other = result_of(kaas=[1.0]), result_of(kaas=[1.0])
        one.disturbances, one.calibration_ms = {"time was stolen": 2}, 0.5
        other.disturbances, other.calibration_ms = {"time was stolen": 1, "too hot": 1}, 0.6
        joined = reports.join_reports([
            report_of({"rate-8": one}, disturbances=one.disturbances, sm_clocks_mhz=[1980],
                      calibration_ms=0.4),
            report_of({"rate-8": other}, disturbances=other.disturbances, sm_clocks_mhz=[1400],
                      calibration_ms=0.39)])
        self.assertEqual(joined["disturbances"], {"time was stolen": 3, "too hot": 1})
        self.assertEqual(joined["sm_clocks_mhz"], [1400, 1980])
        self.assertEqual(joined["calibration_ms"], 0.39)
        measure = reports.results_of(joined)["rate-8"]
        self.assertEqual(measure.disturbances, {"time was stolen": 3, "too hot": 1})
        self.assertEqual(measure.calibration_ms, 0.6)

    def test_a_report_is_read_as_it_was_written(self):
        results = {"rate-8": result_of(kaas=[1.0, 2.0], own_stream="gone")}
        results["rate-8"].parties["kaas"].histogram = Histogram([(10, 2), (20, 1)])
        report = json.loads(json.dumps(report_of(results)))
        read = reports.results_of(report)["rate-8"]
        self.assertEqual(read.parties["kaas"].rounds, results["rate-8"].parties["kaas"].rounds)
        self.assertEqual(read.parties["kaas"].histogram.counts, {10: 2, 20: 1})
        self.assertEqual(read.parties["own-stream"].absent, "gone")

    def test_rounds_of_all_runs_count(self):
        one = report_of({"rate-8": result_of(kaas=[1.0] * 20)})
        other = report_of({"rate-8": result_of(kaas=[3.0] * 10), "tail": result_of(kaas=[1.0])})
        joined = reports.join_reports([one, other])
        results = reports.results_of(joined)
        self.assertEqual(joined["runs"], 2)
        self.assertEqual(len(results["rate-8"].parties["kaas"].rounds), 30)
        self.assertIn("tail", results)

    def test_a_peer_that_was_absent_in_one_run_is_taken_from_the_other(self):
        one = report_of({"rate-8": result_of(kaas=[1.0], own_stream="gone")})
        other = report_of({"rate-8": result_of(kaas=[1.0], own_stream=[5.0])})
        for order in ([one, other], [other, one]):
            party = reports.results_of(reports.join_reports(order))["rate-8"].parties["own-stream"]
            self.assertEqual(len(party.rounds), 1)

    def test_runs_of_two_devices_are_one_report(self):
        host = report_of({"host-first": result_of(kaas=[1.0])}, devices={"host": "host device"})
        joined = reports.join_reports([report_of({}), host])
        self.assertEqual(set(joined["devices"]), {"cuda", "host"})

    def test_what_does_not_belong_together_is_refused(self):
        for changes, part in (({"devices": {"cuda": "H200"}}, "H200"),
                              ({"machine": {"processor": "Q"}}, "processors"),
                              ({"pinned": False}, "pinned"), ({"quick": True}, "quick"),
                              ({"kind": "suite"}, "suite"), ({"format": 2}, "2"),
                              ({"measures": [{"measure": "no-such"}]}, "no-such"),
                              ({"measures": [{"measure": "tail"}]}, "not as it is written")):
            with self.assertRaises(reports.WrongReport) as caught:
                reports.join_reports([report_of({}), report_of({}, **changes)])
            self.assertIn(part, str(caught.exception))


class TextTest(unittest.TestCase):
    def test_a_line_shows_both_sides_the_interval_and_the_verdict(self):
        line = reports.row_line(judged(STREAM_8, result_of(kaas=[4.0] * ROUNDS,
                                                           own_stream=[10.0] * ROUNDS)))
        for part in ("stream-8", "4.000 us", "10.00 us", "0.400", "<= 0.420", "met", "own-stream"):
            self.assertIn(part, line)

    def test_a_percentile_that_few_requests_are_above_is_not_shown(self):
        self.assertEqual(reports.percentile_text(Histogram([(10, 499)]), "p99", 99), "p99 -")
        self.assertEqual(reports.percentile_text(Histogram([(10, 500)]), "p99", 99),
                         "p99 0.010 us")


class PicturesTest(unittest.TestCase):
    def test_a_sweep_is_a_line_for_each_party_in_order(self):
        results = {name: result_of(kaas=[float(x)], own_stream=[2.0 * x])
                   for name, x in (("kernels-8", 8), ("kernels-1", 1), ("kernels-128", 128))}
        chart = pictures(results)["kernels"]["charts"][0]
        self.assertEqual({line["name"]: line["points"] for line in chart["series"]},
                         {"kaas": [[1.0, 1.0], [8.0, 8.0], [128.0, 128.0]],
                          "own-stream": [[1.0, 2.0], [8.0, 16.0], [128.0, 256.0]]})
        self.assertEqual(chart["x"]["ticks"], [1.0, 8.0, 128.0])

    def test_nothing_measured_is_no_picture(self):
        self.assertEqual(pictures({}), {})

    def test_host_and_device_do_not_mix(self):
        results = {"kernels-8": result_of(kaas=[1.0]), "host-kernels-8": result_of(kaas=[2.0])}
        drawn = pictures(results)
        self.assertEqual(set(drawn), {"kernels", "kernels-host"})


if __name__ == "__main__":
    unittest.main()
