#include "daemon/executor/run/work_rhythm.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

class WorkRhythmTest : public testing::Test {
 protected:
  void come_after(std::uint64_t gap_ns) { rhythm_.came(now_ns_ += gap_ns); }
  [[nodiscard]] bool awaits() const { return rhythm_.is_awaited(now_ns_); }

  std::uint64_t now_ns_ = 5 * kMs;
  WorkRhythm rhythm_;
};

TEST_F(WorkRhythmTest, NothingIsAwaitedBeforeSomethingHasComeRegularly) {
  EXPECT_FALSE(awaits());
  come_after(0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(awaits()) << i;
    come_after(100 * kMs);
  }
  come_after(100 * kMs);
  EXPECT_TRUE(awaits());
  EXPECT_EQ(rhythm_.due_ns(), now_ns_ + 100 * kMs);
}

TEST_F(WorkRhythmTest, SmallShiftsAreFollowed) {
  for (int i = 0; i < 50; ++i) come_after(100 * kMs + (i % 2 == 0 ? 100'000 : 0) + i * 2'000);
  EXPECT_TRUE(awaits());
  EXPECT_GT(rhythm_.due_ns(), now_ns_ + 100 * kMs + 50'000);
}

TEST_F(WorkRhythmTest, IrregularWorkIsNotAwaited) {
  for (const std::uint64_t ms : {30, 170, 45, 90, 300, 22, 61, 140}) {
    come_after(ms * kMs);
    EXPECT_FALSE(awaits());
  }
}

TEST_F(WorkRhythmTest, TooFastAndTooSlowWorkIsNotAwaited) {
  for (const std::uint64_t gap_ns : {1 * kMs, 29 * kMs, 2'500 * kMs}) {
    for (int i = 0; i < 20; ++i) come_after(gap_ns);
    EXPECT_FALSE(awaits()) << gap_ns;
  }
}

TEST_F(WorkRhythmTest, WhatDidNotComeIsNotAwaitedUntilItComesAgain) {
  for (int i = 0; i < 10; ++i) come_after(100 * kMs);
  rhythm_.missed();
  EXPECT_FALSE(awaits());
  come_after(3'000 * kMs);
  EXPECT_TRUE(awaits()) << "it has come, and may go on";
}

TEST_F(WorkRhythmTest, RhythmThatHasEndedIsForgotten) {
  for (int i = 0; i < 10; ++i) come_after(100 * kMs);
  for (int i = 0; i < 8; ++i) {
    rhythm_.missed();
    come_after((400 + 37 * static_cast<std::uint64_t>(i)) * kMs);
  }
  EXPECT_FALSE(awaits());
  for (int i = 0; i < 5; ++i) come_after(50 * kMs);
  EXPECT_TRUE(awaits());
  EXPECT_EQ(rhythm_.due_ns(), now_ns_ + 50 * kMs);
}

TEST_F(WorkRhythmTest, WindowIsAFewPercentOfTheInterval) {
  for (const std::uint64_t gap_ns : {30 * kMs, 100 * kMs, 2'000 * kMs}) {
    WorkRhythm rhythm;
    rhythm.came(1);
    for (std::uint64_t i = 1; i < 10; ++i) rhythm.came(1 + i * gap_ns);
    ASSERT_TRUE(rhythm.is_awaited(1 + 9 * gap_ns));
    EXPECT_LE(2 * rhythm.window_ns() * 100, gap_ns * 3);
  }
}

TEST_F(WorkRhythmTest, AwaitedWorkIsLateAtTheEndOfItsWindow) {
  for (int i = 0; i < 10; ++i) come_after(100 * kMs);
  EXPECT_TRUE(rhythm_.is_awaited(rhythm_.due_ns()));
  EXPECT_FALSE(rhythm_.is_awaited(rhythm_.due_ns() + rhythm_.window_ns()));
}

}  // namespace
}  // namespace kaas
