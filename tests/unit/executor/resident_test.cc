// Outputs that stay on the device: kept, fetched, written back when memory is short, dropped.
#include <gtest/gtest.h>

#include "tests/unit/executor/loop_harness.h"

namespace kaas {
namespace {

using Words = std::vector<std::uint32_t>;

constexpr std::uint64_t kWords = 256;
constexpr std::uint64_t kBytes = kWords * 4;

// Fills n words with 7; allocation 0 is stored.
TestPlan fill_plan(std::uint32_t id, std::uint64_t words) {
  TestPlan plan;
  plan.plan = id;
  plan.kernels[0].kernel = "fill";
  plan.kernels[0].literals = {u64(words), u32(7)};
  plan.kernels[0].arguments = {argument(0, words * 4, wire::Access::Out)};
  plan.allocations = {words * 4};
  plan.stores = {wire::PlanRange(0, words * 4, 0, false)};
  return plan;
}

// Room for four allocations of kBytes.
class ResidentTest : public testing::TestWithParam<bool> {
 protected:
  ResidentTest()
      : harness_(
            {.memory_bytes = 4 * kBytes, .asynchronous = GetParam(), .geometry = {64, 1u << 18}}) {
    harness_.load_library();
    harness_.load_plan(fill_plan(1, kWords));
    harness_.load_plan(copy_plan(2, kWords));
    EXPECT_EQ(harness_.settle().size(), 3u);
  }
  ~ResidentTest() override { EXPECT_EQ(harness_.loop->unfinished_runs(), 0u); }

  SeenReport make(std::uint64_t version) {
    harness_.run({.run = version, .plan = 1, .stores = {at(0, 0, version)}});
    return harness_.only_report();
  }
  // Steps without waiting for all runs to end.
  std::vector<SeenReport> step() {
    for (int i = 0; i < 100; ++i) harness_.loop->step();
    return harness_.read_reports();
  }
  [[nodiscard]] const CacheFigures& figures() const { return harness_.loop->cache().figures(); }

  LoopHarness harness_;
};
INSTANTIATE_TEST_SUITE_P(Devices, ResidentTest, testing::Bool(), [](const auto& kind) {
  return kind.param ? "Asynchronous" : "Synchronous";
});

TEST_P(ResidentTest, OutputIsReadWhereItIsAndNothingIsCopiedToTheHost) {
  const SeenReport made = make(100);
  ASSERT_EQ(made.code, StatusCode::Ok) << made.message;
  EXPECT_EQ(made.counters->device_to_host_bytes(), 0u);
  EXPECT_EQ(figures().residents, 1u);
  Words& out = harness_.segment(21, Words(kWords));
  harness_.run({.run = 1, .plan = 2, .loads = {at(0, 0, 100)}, .stores = {at(21, 0)}});
  const SeenReport read = harness_.only_report();
  ASSERT_EQ(read.code, StatusCode::Ok) << read.message;
  EXPECT_EQ(read.counters->device_hits(), 1u);
  EXPECT_EQ(read.counters->host_to_device_bytes(), 0u);
  EXPECT_EQ(out, Words(kWords, 7));
  EXPECT_EQ(figures().residents, 1u);
}

TEST_P(ResidentTest, FetchBringsItIntoTheReportOrIntoASegmentThatIsForgotten) {
  make(100);
  make(101);
  harness_.fetch(100, kBytes);
  const SeenReport small = harness_.only_report();
  EXPECT_EQ(small.type, wire::Report::Fetched);
  EXPECT_EQ(small.id, 100u);
  EXPECT_EQ(small.words, Words(kWords, 7));
  const std::size_t attached = harness_.loop->attached_segments();
  const Words& memory = harness_.segment(30, Words(kWords), true, true);
  harness_.fetch(101, kBytes, 30);
  const SeenReport large = harness_.only_report();
  ASSERT_EQ(large.code, StatusCode::Ok) << large.message;
  EXPECT_TRUE(large.words.empty());
  EXPECT_EQ(memory, Words(kWords, 7));
  EXPECT_EQ(harness_.loop->attached_segments(), attached);
  EXPECT_EQ(figures().residents, 0u);
  EXPECT_EQ(figures().entries, 2u) << "both are ordinary copies now";
}

TEST_P(ResidentTest, FetchOfWhatIsNotThereOrOfAnotherSizeFails) {
  harness_.fetch(100, kBytes);
  EXPECT_EQ(harness_.only_report().code, StatusCode::Unavailable);
  make(100);
  harness_.fetch(100, 2 * kBytes);
  EXPECT_EQ(harness_.only_report().code, StatusCode::Unavailable);
  harness_.fetch(100, kBytes, 99);
  EXPECT_EQ(harness_.only_report().code, StatusCode::InvalidArgument);
  EXPECT_EQ(figures().residents, 1u);
  harness_.fetch(100, kBytes);
  EXPECT_EQ(harness_.only_report().words, Words(kWords, 7));
}

// Four of them fill the device; a fifth run must not fail, and none may be lost.
TEST_P(ResidentTest, RunThatFindsNoMemoryHasTheOldestWrittenBackFirst) {
  for (std::uint64_t version = 100; version < 104; ++version) make(version);
  step();
  EXPECT_EQ(figures().residents, 4u);
  harness_.run({.run = 1, .plan = 1, .stores = {at(0, 0, 104)}});
  const auto asked = step();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].type, wire::Report::MemoryShort);
  EXPECT_EQ(asked[0].versions, std::vector<std::uint64_t>{100});
  EXPECT_TRUE(step().empty()) << "each is named once";
  harness_.fetch(100, kBytes);
  const auto reports = step();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].type, wire::Report::Fetched);
  EXPECT_EQ(reports[0].words, Words(kWords, 7));
  const SeenReport done = harness_.only_report();
  EXPECT_EQ(done.id, 1u);
  EXPECT_EQ(done.code, StatusCode::Ok) << done.message;
  EXPECT_EQ(done.counters->evictions(), 1u);
  EXPECT_EQ(figures().residents, 4u);
}

TEST_P(ResidentTest, ResidentThatIsDroppedInsteadOfFetchedMakesRoomToo) {
  for (std::uint64_t version = 100; version < 104; ++version) make(version);
  step();
  harness_.run({.run = 1, .plan = 1, .stores = {at(0, 0, 104)}});
  ASSERT_EQ(step().size(), 1u);
  harness_.drop_versions({100});
  const SeenReport done = harness_.only_report();
  EXPECT_EQ(done.code, StatusCode::Ok) << done.message;
  EXPECT_EQ(figures().residents, 4u);
}

TEST_P(ResidentTest, RunFailsWhenWhatHoldsItsMemoryCannotBeWrittenBack) {
  for (std::uint64_t version = 100; version < 104; ++version) make(version);
  step();
  harness_.run({.run = 1, .plan = 1, .stores = {at(0, 0, 104)}});
  std::size_t failed = 0;
  for (int round = 0; round < 10; ++round) {
    for (const SeenReport& report : step()) {
      for (const std::uint64_t version : report.versions) harness_.fetch(version, kBytes, 99);
      if (report.type == wire::Report::Fetched) ++failed;
      if (report.type == wire::Report::RunDone) {
        EXPECT_EQ(report.code, StatusCode::OutOfMemory);
      }
    }
  }
  EXPECT_EQ(failed, 4u);
  EXPECT_EQ(harness_.loop->unfinished_runs(), 0u);
  EXPECT_EQ(figures().residents, 4u) << "and they are still there";
}

TEST_P(ResidentTest, DropGivesTheMemoryBack) {
  make(100);
  step();
  const std::uint64_t used = harness_.loop->cache().pool().used_bytes();
  harness_.drop_versions({100});
  step();
  EXPECT_EQ(harness_.loop->cache().pool().used_bytes(), used - kBytes);
  EXPECT_EQ(figures().residents, 0u);
  EXPECT_EQ(figures().entries, 0u);
}

// A run that reads version 100 is sent before kaasd has read that it was fetched.
TEST_P(ResidentTest, FetchedVersionStaysUntilKaasdKnowsThatTheHostHasIt) {
  for (std::uint64_t version = 100; version < 104; ++version) make(version);
  step();
  harness_.run({.run = 1, .plan = 1, .stores = {at(0, 0, 104)}});
  ASSERT_EQ(step().size(), 1u);
  harness_.fetch(100, kBytes);
  for (int i = 0; i < 100; ++i) harness_.loop->step();
  Words& out = harness_.segment(21, Words(kWords));
  harness_.run({.run = 2, .plan = 2, .loads = {at(0, 0, 100)}, .stores = {at(21, 0)}});
  bool both = false;
  for (int round = 0; round < 20 && !both; ++round) {
    for (const SeenReport& report : step()) {
      for (const std::uint64_t version : report.versions) harness_.fetch(version, kBytes);
      if (report.type == wire::Report::RunDone) {
        EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
      }
    }
    both = harness_.loop->unfinished_runs() == 0;
  }
  EXPECT_TRUE(both);
  EXPECT_EQ(out, Words(kWords, 7));
}

// Its cached input and its own copy of that do not fit side by side; the host has the input, too.
TEST_P(ResidentTest, RunThatDoesNotFitBesideACopyOfItsInputReadsTheHost) {
  constexpr std::uint64_t kLarge = 3 * kWords;
  TestPlan in_place;
  in_place.plan = 3;
  in_place.kernels[0].kernel = "add_one";
  in_place.kernels[0].literals = {u64(kLarge)};
  in_place.kernels[0].arguments = {argument(0, kLarge * 4, wire::Access::InOut)};
  in_place.allocations = {kLarge * 4};
  in_place.loads = {wire::PlanRange(0, kLarge * 4, 0, false)};
  in_place.stores = {wire::PlanRange(0, kLarge * 4, 0, false)};
  harness_.load_plan(in_place);
  TestPlan reader = in_place;  // Reads it only, and keeps a copy.
  reader.plan = 4;
  reader.kernels[0].kernel = "copy";
  reader.kernels[0].literals = {u64(4)};
  reader.kernels[0].arguments = {argument(0, kLarge * 4, wire::Access::In),
                                 argument(1, 4, wire::Access::Temporary)};
  reader.allocations = {kLarge * 4, 4};
  reader.stores = {};
  harness_.load_plan(reader);
  EXPECT_EQ(harness_.settle().size(), 2u);
  harness_.segment(20, Words(kLarge, 1));
  Words& out = harness_.segment(21, Words(kLarge));
  harness_.run({.run = 1, .plan = 4, .loads = {at(20, 0, 100)}});
  EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  EXPECT_EQ(figures().entries, 1u);
  harness_.run({.run = 2, .plan = 3, .loads = {at(20, 0, 100)}, .stores = {at(21, 0)}});
  const SeenReport done = harness_.only_report();
  EXPECT_EQ(done.code, StatusCode::Ok) << done.message;
  EXPECT_EQ(out, Words(kLarge, 2));
}

}  // namespace
}  // namespace kaas
