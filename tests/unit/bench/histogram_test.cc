#include "tools/bench/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace kaas {
namespace {

TEST(LatencyHistogram, SaysNothingWhenEmpty) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.min_ns(), 0u);
  EXPECT_EQ(histogram.max_ns(), 0u);
  EXPECT_EQ(histogram.percentile_ns(99), 0u);
  EXPECT_TRUE(histogram.cumulative().empty());
}

TEST(LatencyHistogram, IsExactBelow256Nanoseconds) {
  LatencyHistogram histogram;
  for (std::uint64_t value = 0; value < 256; ++value) histogram.add(value);
  EXPECT_EQ(histogram.percentile_ns(0), 0u);
  EXPECT_EQ(histogram.percentile_ns(50), 127u);
  EXPECT_EQ(histogram.percentile_ns(100), 255u);
  EXPECT_DOUBLE_EQ(histogram.mean_ns(), 127.5);
}

TEST(LatencyHistogram, PercentilesAreWithinTheDocumentedError) {
  LatencyHistogram histogram;
  std::vector<std::uint64_t> values;
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> latency(10.0, 3.0);
  for (int i = 0; i < 20'000; ++i) {
    values.push_back(static_cast<std::uint64_t>(latency(random)));
    histogram.add(values.back());
  }
  std::sort(values.begin(), values.end());
  // In whole hundredths: 99.9 / 100 is a hair more than it should be.
  for (const std::size_t hundredths : {100u, 2500u, 5000u, 9000u, 9900u, 9990u, 9999u}) {
    const double percent = static_cast<double>(hundredths) / 100;
    const std::size_t rank = (hundredths * values.size() + 9'999) / 10'000;
    const double truth = static_cast<double>(values[rank - 1]);
    const double found = static_cast<double>(histogram.percentile_ns(percent));
    EXPECT_LE(std::abs(found - truth), truth * 0.004 + 0.5) << percent;
  }
  EXPECT_EQ(histogram.min_ns(), values.front());
  EXPECT_EQ(histogram.max_ns(), values.back());
  EXPECT_EQ(histogram.percentile_ns(100), values.back());
}

TEST(LatencyHistogram, MergedPartsEqualTheWhole) {
  LatencyHistogram whole, one, two;
  for (std::uint64_t value = 1; value < 5'000'000; value = value * 5 / 4 + 1) {
    whole.add(value);
    (value % 2 == 0 ? one : two).add(value);
  }
  one.merge(two);
  EXPECT_EQ(one.count(), whole.count());
  EXPECT_EQ(one.min_ns(), whole.min_ns());
  EXPECT_EQ(one.max_ns(), whole.max_ns());
  EXPECT_EQ(one.cumulative(), whole.cumulative());
}

TEST(LatencyHistogram, ValuesBeyondTheTopKeepTheirMaximum) {
  LatencyHistogram histogram;
  histogram.add(5);
  histogram.add(UINT64_MAX);
  EXPECT_EQ(histogram.max_ns(), UINT64_MAX);
  EXPECT_EQ(histogram.percentile_ns(99), UINT64_MAX);
  EXPECT_EQ(histogram.percentile_ns(50), 5u);
}

TEST(LatencyHistogram, CumulativeRisesToOne) {
  LatencyHistogram histogram;
  for (std::uint64_t i = 0; i < 1000; ++i) histogram.add(i * i);
  const auto points = histogram.cumulative();
  ASSERT_FALSE(points.empty());
  for (std::size_t i = 1; i < points.size(); ++i) {
    EXPECT_GE(points[i].first, points[i - 1].first);
    EXPECT_GT(points[i].second, points[i - 1].second);
  }
  EXPECT_DOUBLE_EQ(points.back().second, 1.0);
}

TEST(LatencyHistogram, CountsAreThoseOfTheBuckets) {
  LatencyHistogram histogram;
  for (const std::uint64_t value : {7u, 7u, 9u}) histogram.add(value);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> expected{{7, 2}, {9, 1}};
  EXPECT_EQ(histogram.counts(), expected);
}

TEST(LatencyHistogram, AShareThatIsWholeIsNotRoundedUp) {
  LatencyHistogram histogram;
  for (int i = 0; i < 999; ++i) histogram.add(1);
  histogram.add(100);
  EXPECT_EQ(histogram.percentile_ns(99.9), 1u);
  EXPECT_EQ(histogram.percentile_ns(99.91), 100u);
}

TEST(LatencyHistogram, ClearForgets) {
  LatencyHistogram histogram;
  histogram.add(1'000'000);
  histogram.clear();
  histogram.add(3);
  EXPECT_EQ(histogram.count(), 1u);
  EXPECT_EQ(histogram.max_ns(), 3u);
  EXPECT_EQ(histogram.percentile_ns(50), 3u);
}

}  // namespace
}  // namespace kaas
