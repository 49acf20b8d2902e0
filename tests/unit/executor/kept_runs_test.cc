// Runs that stay prepared for the next one in the same terms.
#include "tests/unit/executor/lanes_fixture.h"

namespace kaas {
namespace {

class KeptRunsTest : public LanesTest {
 protected:
  // By then a plan has tried what it can choose from.
  static constexpr std::uint64_t kRunsToSettle = 40;

  KeptRunsTest()
      : LanesTest(HarnessOptions{
            .asynchronous = GetParam(), .reaches_host = GetParam(), .prepares = true}) {}
  // The lane's call 1 has a task that is prepared to run it again.
  LaneEnd& warm_lane() {
    LaneEnd& one = lane(1);
    while (harness_.loop->kept_runs() == 0 && id_ < kRunsToSettle) {
      call(one);
      harness_.fake->finish_preparing();
    }
    EXPECT_EQ(harness_.loop->kept_runs(), 1u);
    return one;
  }
  // Adds 1 to the word.
  void call(LaneEnd& one) {
    const std::uint32_t before = (*memory_)[0];
    one.invoke(++id_, 1);
    harness_.settle();
    EXPECT_EQ(one.read(), (std::vector<Answered>{{id_}}));
    EXPECT_EQ((*memory_)[0], before + 1);
  }

  std::uint64_t id_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Devices, KeptRunsTest, testing::Bool(), [](const auto& kind) {
  return kind.param ? "Asynchronous" : "Synchronous";
});

TEST_P(KeptRunsTest, ReadAndWriteWhatIsThereThen) {
  LaneEnd& one = warm_lane();
  (*memory_)[0] = 1000;
  for (int i = 0; i < 20; ++i) call(one);
  EXPECT_EQ((*memory_)[0], 1020u);
  EXPECT_EQ(harness_.loop->kept_runs(), 1u);
}

// On the fake device both ways take the same time, and that in the host's memory is preferred.
TEST_P(KeptRunsTest, WorkWhereThePlanHasChosenTo) {
  if (!GetParam()) GTEST_SKIP() << "there is no choice";
  LaneEnd& one = warm_lane();
  const std::uint64_t moves = harness_.fake->moves();
  EXPECT_GT(moves, 0u) << "it has tried both";
  call(one);
  EXPECT_EQ(harness_.fake->moves(), moves);
}

TEST_P(KeptRunsTest, OneCallHasAsManyAsRunAtATime) {
  LaneEnd& one = warm_lane();
  const std::uint32_t before = (*memory_)[0];
  for (std::uint32_t n = 0; n < 12; ++n) one.invoke(++id_, 1);
  harness_.settle();
  EXPECT_EQ(one.read().size(), 12u);
  EXPECT_EQ((*memory_)[0], before + 12);
  EXPECT_LE(harness_.loop->kept_runs(), ExecutorRunner::kFramesMax);
}

TEST_P(KeptRunsTest, GiveTheirMemoryToWhoNeedsIt) {
  LaneEnd& one = lane(1);
  TestPlan large = add_one_plan(2, 1);  // And a temporary of 600,000 of 1,048,576 bytes.
  large.allocations.push_back(600'000);
  large.kernels.push_back(fill_plan(2, 7).kernels[0]);
  large.kernels[1].arguments = {argument(1, 600'000, Access::Out)};
  load(large);
  add(one, 2, {.plan = 2, .loads = {at(kMemory, 4)}, .stores = {at(kMemory, 4)}});
  for (std::uint64_t id = 1; id <= kRunsToSettle; ++id) {
    one.invoke(id, 2);
    harness_.settle();
    harness_.fake->finish_preparing();
  }
  EXPECT_EQ(one.read().size(), kRunsToSettle);
  EXPECT_EQ(harness_.loop->kept_runs(), 1u);
  large.plan = 3;
  load(large);
  harness_.run({.run = 1, .plan = 3, .loads = {at(kMemory, 8)}, .stores = {at(kMemory, 8)}});
  const SeenReport report = harness_.only_report();
  EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
  EXPECT_EQ(harness_.loop->kept_runs(), 0u);
  one.invoke(99, 2);
  harness_.settle();
  EXPECT_EQ(one.read(), (std::vector<Answered>{{99}}));
  EXPECT_EQ((*memory_)[1], kRunsToSettle + 1);
}

TEST_P(KeptRunsTest, StayWhenAStrangersSegmentIsDetached) {
  warm_lane();
  harness_.segment(40, Words(4));
  harness_.send(wire::Work::DetachSegment,
                [](auto& b) { return wire::CreateDetachSegment(b, 40, true); });
  EXPECT_EQ(harness_.only_report().type, wire::Report::SegmentDetached);
  EXPECT_EQ(harness_.loop->kept_runs(), 1u);
}

// The one that has not run for longest makes room.
TEST_P(KeptRunsTest, AreLimitedInNumber) {
  LaneEnd& one = warm_lane();
  constexpr std::uint32_t kCallsALane = 60;
  std::vector<LaneEnd*> ends{&one};
  for (std::uint32_t number = 2; number <= 6; ++number) ends.push_back(&lane(number, 1));
  for (LaneEnd* end : ends) {
    for (std::uint32_t call = 2; call <= kCallsALane; ++call) {
      add(*end, call, {.plan = 1, .loads = {at(kMemory, 8)}, .stores = {at(kMemory, 8)}});
      for (int n = 0; n < 3; ++n) {  // Until its frame is prepared.
        end->invoke(++id_, call);
        harness_.settle();
        harness_.fake->finish_preparing();
      }
      end->read();
    }
  }
  EXPECT_EQ(harness_.loop->kept_runs(), ExecutorRunner::kKeptMax);
  call(one);  // Long gone, and as good as ever.
  EXPECT_EQ(harness_.loop->kept_runs(), ExecutorRunner::kKeptMax);
}

TEST_P(KeptRunsTest, HoldNoSegmentThatIsDetached) {
  warm_lane();
  harness_.send(wire::Work::DetachSegment,
                [](auto& b) { return wire::CreateDetachSegment(b, kMemory, true); });
  EXPECT_EQ(harness_.only_report().type, wire::Report::SegmentDetached);
  EXPECT_EQ(harness_.loop->kept_runs(), 0u);
}

TEST_P(KeptRunsTest, GoWithTheirCallAndWithTheirLane) {
  LaneEnd& one = warm_lane();
  one.remove(1);
  harness_.settle();
  EXPECT_EQ(harness_.loop->kept_runs(), 0u);
  add(one, 2, {.plan = 1, .loads = {at(kMemory, 0)}, .stores = {at(kMemory, 0)}});
  for (std::uint64_t id = 1; id <= kRunsToSettle; ++id) {
    one.invoke(id, 2);
    harness_.settle();
    harness_.fake->finish_preparing();
  }
  EXPECT_EQ(harness_.loop->kept_runs(), 1u);
  one.end();
  EXPECT_EQ(ended().code, StatusCode::Unavailable);
  EXPECT_EQ(harness_.loop->kept_runs(), 0u);
}

TEST_P(KeptRunsTest, FailureIsNotKept) {
  LaneEnd& one = warm_lane();
  harness_.fake->fail_launch(1);
  one.invoke(++id_, 1);
  harness_.settle();
  const auto answers = one.read();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_NE(answers[0].code, StatusCode::Ok);
  EXPECT_EQ(harness_.loop->kept_runs(), 0u);
  call(one);
}

}  // namespace
}  // namespace kaas
