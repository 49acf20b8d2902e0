// What a session's memory takes from the byte budget.
#include "daemon/control/session_memory.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

ByteBudget::Options limited_to(std::uint64_t bytes) {
  ByteBudget::Options options;
  options.limit_bytes = bytes;
  return options;
}

TEST(SessionMemory, RingTakesItsBytesAndGivesThemBack) {
  ByteBudget budget(limited_to(1u << 30));
  {
    const auto ring = make_ring(budget, 0, 1);
    ASSERT_TRUE(ring.has_value());
    EXPECT_GE(budget.used_bytes(), 2 * ring->endpoints.submit.geometry.segment_bytes());
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
}

TEST(SessionMemory, RingThatDoesNotFitIsRefused) {
  ByteBudget budget(limited_to(4096));
  const auto ring = make_ring(budget, 0, 1);
  ASSERT_FALSE(ring.has_value());
  EXPECT_EQ(ring.error().code, StatusCode::ResourceExhausted);
  EXPECT_NE(ring.error().message.find("ring of"), std::string::npos) << ring.error().message;
}

}  // namespace
}  // namespace kaas
