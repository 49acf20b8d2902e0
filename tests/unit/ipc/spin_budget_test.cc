#include "schema/ipc/spin_budget.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

constexpr std::uint64_t kWakeNs = 20'000;
constexpr std::uint64_t kShortNs = 30'000;
constexpr std::uint64_t kLongNs = 4'000'000;

TEST(SpinBudget, StartsAtAWakeAndStaysThereForSleepsThatAreWorthIt) {
  SpinBudget spin(kWakeNs);
  for (int i = 0; i < 100; ++i) {
    spin.slept(kShortNs);  // In the middle of a request that found everybody asleep.
    spin.slept(kShortNs);
    spin.slept(kLongNs);
    EXPECT_EQ(spin.ns(), kWakeNs);
  }
}

TEST(SpinBudget, GrowsWhileEverySleepIsShortUpToALimitAndIsResetByALongOne) {
  SpinBudget spin(kWakeNs);
  for (int i = 0; i < 8; ++i) spin.slept(kShortNs);
  EXPECT_EQ(spin.ns(), 2 * kWakeNs);
  for (int i = 0; i < 1000; ++i) spin.slept(kShortNs);
  EXPECT_GT(spin.ns(), 4 * kWakeNs);
  EXPECT_LE(spin.ns(), kWakeNs + 100'000);
  spin.slept(kLongNs);
  EXPECT_EQ(spin.ns(), kWakeNs);
}

}  // namespace
}  // namespace kaas
