// What the runner does differently on a device that reaches host memory: frames as instances with
// staging memory, the choice of a place, runs that are enqueued behind one another. And the heap
// that such a device cuts its memory with.
#include <gtest/gtest.h>

#include "daemon/executor/device/block_heap.h"
#include "tests/unit/executor/loop_harness.h"

namespace kaas {
namespace {

using wire::Access;
using Words = std::vector<std::uint32_t>;

// ++data, `times` kernels one after another.
TestPlan add_plan(std::uint32_t id, std::uint64_t words, std::size_t times) {
  TestPlan plan;
  plan.plan = id;
  plan.kernels.assign(times, TestKernel{});
  for (std::size_t i = 0; i < times; ++i) {
    plan.kernels[i].kernel = "add_one";
    plan.kernels[i].literals = {u64(words)};
    plan.kernels[i].arguments = {argument(0, words * 4, Access::InOut)};
    if (i > 0) plan.kernels[i].after = {static_cast<std::uint16_t>(i - 1)};
  }
  plan.allocations = {words * 4};
  plan.loads = {wire::PlanRange(0, words * 4, 0, false)};
  plan.stores = {wire::PlanRange(0, words * 4, 0, false)};
  return plan;
}

class StagingTest : public testing::Test {
 protected:
  StagingTest() {
    harness_.load_library();
    EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  }
  ~StagingTest() override { EXPECT_EQ(harness_.loop->unfinished_runs(), 0u); }
  void load(const TestPlan& plan) {
    harness_.load_plan(plan);
    const SeenReport report = harness_.only_report();
    ASSERT_EQ(report.code, StatusCode::Ok) << report.message;
  }
  SeenReport run(const TestRun& run) {
    harness_.run(run);
    return harness_.only_report();
  }
  // One step at a time: what is enqueued is done by the polls in later ones.
  std::size_t unfinished() { return harness_.loop->unfinished_runs(); }

  LoopHarness harness_{{.memory_bytes = 1u << 20, .asynchronous = true, .reaches_host = true}};
};

// --- Background runs -----------------------------------------------------------------------------

struct Confined {
  bool confines = true;
  bool background = true;
  bool cooperative = false;
  std::uint64_t confined_runs = 0;  // What is expected.
};

class BackgroundTest : public testing::TestWithParam<Confined> {};
INSTANTIATE_TEST_SUITE_P(Runs, BackgroundTest,
                         testing::Values(Confined{.confined_runs = 3}, Confined{.confines = false},
                                         Confined{.background = false},
                                         Confined{.cooperative = true}));

TEST_P(BackgroundTest, LeavePartOfADeviceThatConfinesThem) {
  LoopHarness harness({.asynchronous = true,
                       .reaches_host = true,
                       .prepares = true,
                       .confines_background = GetParam().confines});
  harness.load_library();
  TestPlan plan = add_plan(1, 4, 2);
  plan.kernels[1].cooperative = GetParam().cooperative;
  harness.load_plan(plan);
  EXPECT_EQ(harness.settle().size(), 2u);
  Words& data = harness.segment(20, Words(4));
  for (std::uint64_t run = 1; run <= 3; ++run) {
    harness.run({.run = run,
                 .loads = {at(20, 0)},
                 .stores = {at(20, 0)},
                 .background = GetParam().background});
    EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
    harness.fake->finish_preparing();
  }
  EXPECT_EQ(data, Words(4, 6));
  EXPECT_EQ(harness.fake->background_runs(), GetParam().confined_runs);
}

TEST_F(StagingTest, BytesAreRightWhereverKernelsWork) {
  load(copy_plan(1, 5));  // 20 bytes: no multiple of 16.
  load(add_plan(2, 64, 1));
  load(add_plan(3, 64, 5));
  // Enough runs for the choice to be tried both ways and made.
  Words& in = harness_.segment(20, Words(64));
  Words& out = harness_.segment(21, Words(64));
  for (std::uint32_t round = 0; round < 60; ++round) {
    std::fill(in.begin(), in.end(), round);
    std::fill(out.begin(), out.end(), 7u);
    EXPECT_EQ(run({.plan = 1, .loads = {at(20, 0)}, .stores = {at(21, 4)}}).code, StatusCode::Ok);
    Words wanted(64, 7);
    std::fill_n(wanted.begin() + 1, 5, round);
    EXPECT_EQ(out, wanted);
    EXPECT_EQ(run({.plan = 2, .loads = {at(20, 0)}, .stores = {at(21, 0)}}).code, StatusCode::Ok);
    EXPECT_EQ(out, Words(64, round + 1));
    EXPECT_EQ(run({.plan = 3, .loads = {at(20, 0)}, .stores = {at(20, 0)}}).code, StatusCode::Ok);
    EXPECT_EQ(in, Words(64, round + 5));
  }
}

// Where kernels work decides what is moved, which the device has to know ahead.
TEST(StagingMemory, EachWayIsPreparedAndTheOneThatIsNotChosenForgotten) {
  LoopHarness harness({.asynchronous = true, .reaches_host = true, .prepares = true});
  harness.load_library();
  harness.load_plan(add_plan(1, 64, 1));
  EXPECT_EQ(harness.settle().size(), 2u);
  harness.segment(20, Words(64));
  std::uint64_t graphs_with_moves = 0;
  std::uint64_t most_prepared = 0;
  for (std::uint64_t run = 1; run <= 60; ++run) {
    const std::uint64_t moves = harness.fake->moves();
    harness.run({.run = run, .loads = {at(20, 0)}, .stores = {at(20, 0)}});
    const SeenReport report = harness.only_report();
    EXPECT_EQ(report.code, StatusCode::Ok);
    EXPECT_NE(report.why_stream, wire::WhyStream::Moves) << "run " << run;
    const bool moved = harness.fake->moves() != moves;
    if (moved && report.way == wire::RunWay::Graph) ++graphs_with_moves;
    most_prepared = std::max(most_prepared, harness.fake->prepared());
    harness.fake->finish_preparing();
  }
  EXPECT_GT(graphs_with_moves, 4u);
  EXPECT_EQ(most_prepared, 2u);
  EXPECT_EQ(harness.fake->prepared(), 1u);
}

TEST_F(StagingTest, VersionThatIsAskedForAgainIsKeptOnTheDevice) {
  load(copy_plan(1, 4));
  Words& in = harness_.segment(20, {1, 2, 3, 4});
  Words& out = harness_.segment(21, Words(4));
  const TestRun again{.loads = {at(20, 0, 100)}, .stores = {at(21, 0)}};
  for (int i = 0; i < 4; ++i) run(again);
  in = {9, 9, 9, 9};  // The version's bytes never change; these are not it.
  EXPECT_EQ(run(again).counters->device_hits(), 1u);
  EXPECT_EQ(out, (Words{1, 2, 3, 4}));
  harness_.drop_versions({100});
  harness_.settle();
  run(again);
  EXPECT_EQ(out, (Words{9, 9, 9, 9}));
}

TEST_F(StagingTest, SmallOutputIsThereForARunThatCountsOnIt) {
  load(copy_plan(1, 4));
  harness_.segment(20, {1, 2, 3, 4});
  harness_.segment(21, Words(4));
  Words& out = harness_.segment(22, Words(4));
  // The reader comes behind its producer, or after that has ended but before kaasd knows.
  for (const bool together : {true, false}) {
    const std::uint64_t version = together ? 50 : 60;
    harness_.run({.run = 1, .loads = {at(20, 0)}, .stores = {at(21, 0, version)}});
    std::vector<SeenReport> reports;
    if (!together) {
      while (harness_.loop->step() == StepOutcome::Progress) {
      }
    }
    harness_.run({.run = 2, .loads = {at(0, 0, version)}, .stores = {at(22, 0)}, .after = {1}});
    reports = harness_.settle();
    ASSERT_EQ(reports.size(), 2u);
    EXPECT_EQ(reports[1].code, StatusCode::Ok) << reports[1].message;
    EXPECT_EQ(out, (Words{1, 2, 3, 4}));
    std::fill(out.begin(), out.end(), 0u);
    harness_.drop_versions({version});
    harness_.settle();
  }
}

TEST_F(StagingTest, NobodySeesWhatAnotherTenantLeft) {
  TestPlan keeping;  // Stores what it was given, and what nobody wrote.
  keeping.plan = 1;
  keeping.kernels[0].kernel = "noop";
  keeping.allocations = {32};
  keeping.loads = {wire::PlanRange(0, 16, 0, false)};
  keeping.stores = {wire::PlanRange(0, 32, 0, false)};
  load(keeping);
  Words& in = harness_.segment(20, Words(4));
  Words& out = harness_.segment(21, Words(8));
  for (std::uint32_t i = 0; i < 40; ++i) {
    const std::uint32_t tenant = i / 5;
    std::fill(in.begin(), in.end(), 0xdead + tenant);
    EXPECT_EQ(run({.tenant = tenant, .loads = {at(20, 0)}, .stores = {at(21, 0)}}).code,
              StatusCode::Ok);
    for (std::size_t w = 0; w < 4; ++w) EXPECT_EQ(out[w], 0xdead + tenant);
    for (std::size_t w = 4; w < 8; ++w) {
      EXPECT_TRUE(out[w] == 0 || out[w] == 0xdead + tenant) << "run " << i << ": " << out[w];
    }
  }
}

// Staging memory is another tenant's until it is cleared, also after a run of the new one that was
// refused, or that worked elsewhere.
TEST_F(StagingTest, StagingOfAnotherTenantIsClearedWhateverItsFirstRunDoes) {
  TestPlan keeping;  // Loads the first half of what it stores.
  keeping.plan = 1;
  keeping.kernels[0].kernel = "noop";
  keeping.allocations = {32};
  keeping.loads = {wire::PlanRange(0, 16, 0, false)};
  keeping.stores = {wire::PlanRange(0, 32, 0, false)};
  load(keeping);
  Words& in = harness_.segment(20, Words(4, 1));
  Words& secret = harness_.segment(22, Words(8, 0xdead));
  Words& out = harness_.segment(21, Words(8));
  TestPlan whole = keeping;  // Leaves all of it full, in memory that is given back.
  whole.plan = 3;
  whole.loads = {wire::PlanRange(0, 32, 0, false)};
  load(whole);
  ASSERT_EQ(secret.size(), 8u);
  for (std::uint32_t tenant = 1; tenant < 12; ++tenant) {
    std::fill(in.begin(), in.end(), 0xd000 + tenant);
    EXPECT_EQ(run({.tenant = tenant, .loads = {at(20, 0)}, .stores = {at(77, 0)}}).code,
              StatusCode::InvalidArgument);
    EXPECT_EQ(run({.tenant = tenant, .loads = {at(20, 0)}, .stores = {at(21, 0)}}).code,
              StatusCode::Ok);
    for (std::size_t w = 4; w < 8; ++w) EXPECT_EQ(out[w], 0u) << "tenant " << tenant;
    EXPECT_EQ(run({.plan = 3, .tenant = tenant, .loads = {at(22, 0)}, .stores = {at(21, 0)}}).code,
              StatusCode::Ok);
    EXPECT_EQ(out, secret);
  }
}

TEST_F(StagingTest, RunsThatWriteTheSameBytesAreUnderWayTogetherAndEndInOrder) {
  load(copy_plan(1, 4));
  for (std::uint32_t i = 0; i < 8; ++i) harness_.segment(30 + i, Words(4, i));
  Words& out = harness_.segment(21, Words(4, 99));
  for (std::uint32_t i = 0; i < 8; ++i) {
    TestRun writer{.run = 100 + i, .loads = {at(30 + i, 0)}, .stores = {at(21, 0)}};
    if (i > 0) writer.after = {100 + i - 1};
    harness_.run(writer);
  }
  EXPECT_EQ(harness_.loop->step(), StepOutcome::Progress);
  EXPECT_GE(harness_.fake->launches() + unfinished(), 8u);
  EXPECT_TRUE(harness_.loop->executing());
  const auto reports = harness_.settle();
  ASSERT_EQ(reports.size(), 8u);
  for (std::uint32_t i = 0; i < 8; ++i) EXPECT_EQ(reports[i].id, 100 + i);
  EXPECT_EQ(out, Words(4, 7));
}

TEST_F(StagingTest, RunThatReadsWhatAnotherWritesOnTheHostWaitsForItsEnd) {
  load(add_plan(1, 4, 1));
  Words& data = harness_.segment(20, Words(4, 0));
  for (std::uint32_t i = 0; i < 10; ++i) {
    TestRun step{.run = 100 + i, .loads = {at(20, 0)}, .stores = {at(20, 0)}};
    if (i > 0) step.after = {100 + i - 1};
    harness_.run(step);
  }
  EXPECT_EQ(harness_.settle().size(), 10u);
  EXPECT_EQ(data, Words(4, 10));
}

// The processor takes the first one's bytes from staging memory to their place when it has ended;
// by then the second one's must not be there.
TEST_F(StagingTest, RunThatWritesDirectlyWaitsForTheEndOfOneThatWritesByWayOfStaging) {
  constexpr std::uint64_t kLargeWords = 32u << 10;
  load(copy_plan(1, 4));
  load(copy_plan(2, kLargeWords));
  harness_.segment(20, Words(kLargeWords, 1));
  harness_.segment(21, Words(kLargeWords, 2));
  harness_.segment(22, Words(kLargeWords, 0));
  for (const std::uint32_t segment : {20, 21, 22}) harness_.pin(segment);
  harness_.run({.run = 100, .plan = 1, .loads = {at(20, 0)}, .stores = {at(22, 0)}});
  harness_.run(
      {.run = 101, .plan = 2, .loads = {at(21, 0)}, .stores = {at(22, 0)}, .after = {100}});
  harness_.cancel(101);
  const auto reports = harness_.settle();
  const auto done = std::find_if(reports.begin(), reports.end(), [](const SeenReport& report) {
    return report.type == wire::Report::CancelDone;
  });
  ASSERT_NE(done, reports.end());
  EXPECT_TRUE(done->cancelled) << "it was started";
}

TEST_F(StagingTest, FailedRunInTheMiddleHoldsNobodyUp) {
  load(copy_plan(1, 4));
  TestPlan failing;
  failing.plan = 2;
  failing.kernels[0].kernel = "fail";
  failing.allocations = {16};
  failing.stores = {wire::PlanRange(0, 16, 0, false)};
  load(failing);
  harness_.segment(20, Words(4, 5));
  Words& out = harness_.segment(21, Words(4));
  harness_.run({.run = 1, .loads = {at(20, 0)}, .stores = {at(21, 0)}});
  harness_.run({.run = 2, .plan = 2, .stores = {at(21, 0)}, .after = {1}});
  harness_.run({.run = 3, .loads = {at(20, 0)}, .stores = {at(21, 0)}, .after = {1, 2}});
  harness_.run({.run = 4, .loads = {at(77, 0)}, .stores = {at(21, 0)}, .after = {3}});
  harness_.run({.run = 5, .loads = {at(20, 0)}, .stores = {at(21, 0)}, .after = {3, 4}});
  const auto reports = harness_.settle();
  ASSERT_EQ(reports.size(), 5u);
  std::map<std::uint64_t, StatusCode> codes;
  for (const SeenReport& report : reports) codes[report.id] = report.code;
  EXPECT_EQ(codes[1], StatusCode::Ok);
  EXPECT_EQ(codes[2], StatusCode::KernelFault);
  EXPECT_EQ(codes[3], StatusCode::Ok);
  EXPECT_EQ(codes[4], StatusCode::InvalidArgument);
  EXPECT_EQ(codes[5], StatusCode::Ok);
  EXPECT_EQ(out, Words(4, 5));
}

// Runs 1 and 3 write the same bytes, run 2 between them ends at once. Run 3 knows of run 2 only,
// and comes before or after that has ended.
TEST_F(StagingTest, OrderOutlivesARunThatEndedEarly) {
  load(copy_plan(1, 4));
  harness_.segment(20, Words(4, 5));
  harness_.segment(22, Words(4, 6));
  Words& out = harness_.segment(21, Words(4));
  for (const bool step_between : {false, true}) {
    std::fill(out.begin(), out.end(), 0u);
    harness_.run({.run = 1, .loads = {at(20, 0)}, .stores = {at(21, 0)}});
    harness_.run({.run = 2, .loads = {at(77, 0)}, .stores = {at(21, 0)}, .after = {1}});
    if (step_between) {
      EXPECT_EQ(harness_.loop->step(), StepOutcome::Progress);
    }
    harness_.run({.run = 3, .loads = {at(22, 0)}, .stores = {at(21, 0)}, .after = {2}});
    const auto reports = harness_.settle();
    ASSERT_EQ(reports.size(), 3u);
    EXPECT_EQ(reports[0].id, 2u);
    EXPECT_EQ(reports[1].id, 1u);
    EXPECT_EQ(reports[2].id, 3u);
    EXPECT_EQ(out, Words(4, 6));
  }
}

TEST(StagingMemory, BlocksThatIdleInstancesKeepAreGivenBackWhenOthersNeedThem) {
  LoopHarness harness({.memory_bytes = 512u << 10, .asynchronous = true, .reaches_host = true});
  harness.load_library();
  constexpr std::uint64_t kWords = 80'000;  // 320000 bytes: one fits, two don't.
  harness.load_plan(add_plan(1, kWords, 1));
  harness.load_plan(add_plan(2, kWords, 1));
  EXPECT_EQ(harness.settle().size(), 3u);
  Words& data = harness.segment(20, Words(kWords, 0));
  for (std::uint32_t i = 0; i < 6; ++i) {
    harness.run({.plan = 1 + i % 2, .loads = {at(20, 0)}, .stores = {at(20, 0)}});
    const SeenReport done = harness.only_report();
    EXPECT_EQ(done.code, StatusCode::Ok) << done.message;
  }
  EXPECT_EQ(data, Words(kWords, 6));
}

TEST(PlacementTest, TriesBothWaysAndKeepsTheFaster) {
  for (const auto faster : {Placement::Way::InPlace, Placement::Way::Copied}) {
    Placement placement;
    std::array<int, 2> tried{};
    for (int i = 0; i < 100; ++i) {
      const Placement::Way way = placement.next();
      if (!placement.decided().has_value()) ++tried[static_cast<std::size_t>(way)];
      // The slow outlier of the faster way must not count.
      placement.measured(way, way == faster ? (i % 7 == 0 ? 50'000 : 8'000) : 9'000);
    }
    EXPECT_EQ(placement.decided(), faster);
    EXPECT_EQ(placement.next(), faster);
    EXPECT_GE(tried[0], 8);
    EXPECT_GE(tried[1], 8);
  }
}

TEST(BlockHeap, CutsTheSmallestPieceThatFitsAndJoinsNeighbours) {
  BlockHeap heap(256);
  EXPECT_FALSE(heap.take(1).has_value());
  heap.add({4096, 4096});
  heap.add({8192, 1024});  // Right behind it, but another chunk.
  EXPECT_EQ(heap.take(1000), 8192u);
  const auto first = heap.take(256);
  const auto second = heap.take(300);
  const auto third = heap.take(256);
  EXPECT_EQ(first, 4096u);
  EXPECT_EQ(second, 4352u);
  EXPECT_EQ(third, 4864u);
  EXPECT_EQ(heap.free_bytes(), 4096u - 1024);
  heap.give_back(*first, 256);
  heap.give_back(*third, 256);
  EXPECT_FALSE(heap.remove_idle().has_value());
  heap.give_back(*second, 300);
  EXPECT_EQ(heap.take(4096), 4096u);
  heap.give_back(4096, 4096);
  EXPECT_FALSE(heap.take(5000).has_value()) << "pieces of two chunks must not be joined";
  const auto idle = heap.remove_idle();
  ASSERT_TRUE(idle.has_value());
  EXPECT_EQ(idle->address, 4096u);
  EXPECT_EQ(idle->bytes, 4096u);
  heap.give_back(8192, 1000);
  EXPECT_TRUE(heap.remove_idle().has_value());
  EXPECT_EQ(heap.chunk_bytes(), 0u);
  EXPECT_EQ(heap.free_bytes(), 0u);
}

TEST(BlockHeap, SizesNearTheEndOfTheRangeDoNotWrap) {
  BlockHeap heap(256);
  heap.add({4096, 4096});
  EXPECT_FALSE(heap.take(~std::uint64_t{0}).has_value());
  EXPECT_FALSE(heap.take(~std::uint64_t{0} - 200).has_value());
}

}  // namespace
}  // namespace kaas
