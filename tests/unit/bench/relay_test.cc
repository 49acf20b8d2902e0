#include "tools/bench/relay.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

TEST(Relay, BringsEverySlotBack) {
  auto relay = Relay::start({});
  ASSERT_TRUE(relay.has_value()) << to_string(relay.error());
  // More than a lap of every ring.
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(relay->round_trip().has_value()) << i;
}

TEST(Relay, WakesProcessesThatSleepAtOnce) {
  auto relay = Relay::start({.client_spin_ns = 0, .daemon_spin_ns = 0});
  ASSERT_TRUE(relay.has_value()) << to_string(relay.error());
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(relay->round_trip().has_value()) << i;
}

TEST(Relay, SeveralRunBesideEachOther) {
  auto one = Relay::start({});
  auto two = Relay::start({});
  ASSERT_TRUE(one.has_value() && two.has_value());
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(one->round_trip().has_value());
    ASSERT_TRUE(two->round_trip().has_value());
  }
}

}  // namespace
}  // namespace kaas
