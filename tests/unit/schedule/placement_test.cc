// Where runs go: what ties them, and what is best for those that are free.
#include "daemon/schedule/placement.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace kaas {
namespace {

std::optional<std::uint32_t> tied(const std::vector<std::uint32_t>& in_flight,
                                  std::uint32_t home = kAnyPlace) {
  return tied_place({in_flight, home});
}

TEST(TiedPlace, RunThatNeedsNothingMayGoAnywhere) {
  EXPECT_EQ(tied({}), kAnyPlace);
}

TEST(TiedPlace, RunFollowsWhatItWaitsFor) {
  EXPECT_EQ(tied({2}), 2u);
  EXPECT_EQ(tied({3, 3, 3}), 3u);
}

TEST(TiedPlace, RunWaitsWhileWhatItNeedsIsInDifferentPlaces) {
  EXPECT_EQ(tied({1, 2}), std::nullopt);
  EXPECT_EQ(tied({2, 2, 1}), std::nullopt);
}

TEST(TiedPlace, StateOfLibrariesTiesLikeARunInFlight) {
  EXPECT_EQ(tied({}, 2), 2u);
  EXPECT_EQ(tied({2}, 2), 2u);
  EXPECT_EQ(tied({1}, 2), std::nullopt);
}

std::size_t chosen(const std::vector<PlaceView>& places) {
  return choose_place(places);
}

TEST(ChoosePlace, FewestRunsWin) {
  EXPECT_EQ(chosen({{0, false, 0}}), 0u);
  EXPECT_EQ(chosen({{3, false, 0}, {1, false, 0}, {2, false, 0}}), 1u);
}

TEST(ChoosePlace, FirstOfEqualsWins) {
  EXPECT_EQ(chosen({{1, true, 5}, {1, true, 5}}), 0u);
}

TEST(ChoosePlace, PlanIsPreferredOverAShorterQueue) {
  EXPECT_EQ(chosen({{0, false, 0}, {kAffinityLead, true, 0}}), 1u);
}

TEST(ChoosePlace, InputsArePreferredOverThePlan) {
  EXPECT_EQ(chosen({{0, true, 100}, {1, false, 101}}), 1u);
  EXPECT_EQ(chosen({{0, true, 100}, {0, false, 100}}), 0u);
}

TEST(ChoosePlace, QueueThatIsTooLongIsNotPreferredForAnything) {
  EXPECT_EQ(chosen({{0, false, 0}, {kAffinityLead + 1, true, 1u << 30}}), 0u);
  EXPECT_EQ(chosen({{500, false, 0}, {500 + kAffinityLead + 1, true, 1u << 30}}), 0u);
}

// Whatever has been used where, no place gets ahead of another one by more than the lead.
TEST(ChoosePlace, RunsOfOnePlanSpread) {
  std::vector<PlaceView> places(4);
  for (int run = 0; run < 100; ++run) {
    PlaceView& place = places[choose_place(places)];
    ++place.runs_in_flight;
    place.has_plan = true;
    place.input_bytes = 1u << 20;
    std::uint32_t fewest = UINT32_MAX;
    std::uint32_t most = 0;
    for (const PlaceView& one : places) {
      fewest = std::min(fewest, one.runs_in_flight);
      most = std::max(most, one.runs_in_flight);
    }
    ASSERT_LE(most, fewest + kAffinityLead + 1) << run;
  }
}

TEST(ChoosePlace, NeverGivesMoreToTheFullerOfTwoThatOfferTheSame) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::vector<PlaceView> places(1 + random() % 5);
    for (PlaceView& place : places) {
      place = {static_cast<std::uint32_t>(random() % 8), random() % 2 == 0, random() % 3};
    }
    const PlaceView& best = places[choose_place(places)];
    for (const PlaceView& other : places) {
      if (other.has_plan == best.has_plan && other.input_bytes == best.input_bytes) {
        EXPECT_LE(best.runs_in_flight, other.runs_in_flight) << seed;
      }
      EXPECT_LE(best.runs_in_flight, other.runs_in_flight + kAffinityLead) << seed;
    }
  }
}

}  // namespace
}  // namespace kaas
