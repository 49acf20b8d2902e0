#include "tools/bench/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace kaas {
namespace {

TEST(Estimate, OfNothingIsZero) {
  const Estimate nothing = estimate({});
  EXPECT_EQ(nothing.rounds, 0u);
  EXPECT_EQ(nothing.median, 0);
  EXPECT_EQ(nothing.spread(), 0);
}

TEST(Estimate, OfFewRoundsSpansTheExtremes) {
  const std::vector<double> rounds{5, 1, 3, 2};
  const Estimate few = estimate(rounds);
  EXPECT_DOUBLE_EQ(few.median, 2.5);
  EXPECT_DOUBLE_EQ(few.low, 1);
  EXPECT_DOUBLE_EQ(few.high, 5);
  EXPECT_DOUBLE_EQ(few.spread(), 4 / 2.5);
}

TEST(Estimate, OneWildRoundNeitherMovesTheMedianNorTheInterval) {
  std::vector<double> rounds(15, 10.0);
  rounds[4] = 1e9;
  const Estimate steady = estimate(rounds);
  EXPECT_DOUBLE_EQ(steady.median, 10);
  EXPECT_DOUBLE_EQ(steady.high, 10);
  EXPECT_EQ(steady.spread(), 0);
}

TEST(Estimate, IntervalHoldsTheTrueMedianInMostCases) {
  std::mt19937_64 random(11);
  std::exponential_distribution<double> value(1.0);
  int held = 0;
  for (int i = 0; i < 2000; ++i) {
    std::vector<double> rounds(25);
    for (double& round : rounds) round = value(random);
    const Estimate found = estimate(rounds);
    held += found.low <= std::log(2.0) && std::log(2.0) <= found.high ? 1 : 0;
  }
  EXPECT_GE(held, 1860);  // 95 % would be 1900.
}

TEST(Estimate, SpreadOfAZeroMedianIsInfinite) {
  const std::vector<double> rounds{0, 0, 1};
  EXPECT_TRUE(std::isinf(estimate(rounds).spread()));
}

TEST(Percentile, IsTheNearestRank) {
  std::vector<double> values{40, 10, 30, 20};
  EXPECT_DOUBLE_EQ(percentile(values, 50), 20);
  EXPECT_DOUBLE_EQ(percentile(values, 51), 30);
  EXPECT_DOUBLE_EQ(percentile(values, 100), 40);
  EXPECT_DOUBLE_EQ(percentile(values, 0), 10);
}

TEST(Percentile, AShareThatIsWholeIsNotRoundedUp) {
  std::vector<double> values(1000, 1.0);
  values.back() = 100;
  EXPECT_EQ(percentile(values, 99.9), 1.0);
}

TEST(Ratios, AreOfEachPair) {
  const std::vector<double> a{2, 9};
  const std::vector<double> b{1, 3};
  EXPECT_EQ(ratios(a, b), (std::vector<double>{2, 3}));
}

}  // namespace
}  // namespace kaas
