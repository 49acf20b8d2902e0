// Runs: bytes in and out, the cache, order, failures, memory.
#include <gtest/gtest.h>
#include <map>

#include <algorithm>
#include <bit>
#include <numeric>

#include "daemon/executor/device/host_device.h"
#include "tests/unit/executor/loop_harness.h"

namespace kaas {
namespace {

using wire::Access;
using Words = std::vector<std::uint32_t>;

// Adds one to n words in place.
TestPlan add_one_plan(std::uint32_t id, std::uint64_t words) {
  TestPlan plan;
  plan.plan = id;
  plan.kernels[0].kernel = "add_one";
  plan.kernels[0].literals = {u64(words)};
  plan.kernels[0].arguments = {argument(0, words * 4, Access::InOut)};
  plan.allocations = {words * 4};
  plan.loads = {wire::PlanRange(0, words * 4, 0, false)};
  plan.stores = {wire::PlanRange(0, words * 4, 0, false)};
  return plan;
}

// The kernel that always fails; its output would be allocation 0.
TestPlan failing_plan(std::uint32_t id) {
  TestPlan plan;
  plan.plan = id;
  plan.kernels[0].kernel = "fail";
  plan.allocations = {16};
  plan.stores = {wire::PlanRange(0, 16, 0, false)};
  return plan;
}

class RunnerTest : public testing::TestWithParam<bool> {
 protected:
  RunnerTest() : harness_({.asynchronous = GetParam()}) {
    harness_.load_library();
    EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  }
  ~RunnerTest() override {
    // Nothing stays pinned, whatever happened.
    EXPECT_EQ(harness_.loop->unfinished_runs(), 0u);
  }
  void load(const TestPlan& plan) {
    harness_.load_plan(plan);
    const SeenReport report = harness_.only_report();
    ASSERT_EQ(report.code, StatusCode::Ok) << report.message;
  }
  SeenReport run(const TestRun& run) {
    harness_.run(run);
    return harness_.only_report();
  }

  LoopHarness harness_;
};
INSTANTIATE_TEST_SUITE_P(Devices, RunnerTest, testing::Bool(), [](const auto& kind) {
  return kind.param ? "Asynchronous" : "Synchronous";
});

TEST_P(RunnerTest, BytesGoInAndOut) {
  load(copy_plan(1, 4));
  harness_.segment(20, {1, 2, 3, 4, 5, 6});
  Words& out = harness_.segment(21, Words(6));
  const SeenReport done = run({.loads = {at(20, 4)}, .stores = {at(21, 8)}});
  EXPECT_EQ(done.code, StatusCode::Ok) << done.message;
  EXPECT_EQ(out, (Words{0, 0, 2, 3, 4, 5}));
  EXPECT_EQ(done.counters->host_to_device_bytes(), 16u);
  EXPECT_EQ(done.counters->device_to_host_bytes(), 16u);
}

TEST_P(RunnerTest, ReportOfAProfiledRunSaysWhichWayItTook) {
  load(copy_plan(1, 4));
  harness_.segment(20, {1, 2, 3, 4});
  harness_.segment(21, Words(4));
  const TestRun profiled{.loads = {at(20, 0)}, .stores = {at(21, 0)}};
  EXPECT_EQ(run(profiled).way, wire::RunWay::Host);
  TestRun plain = profiled;
  plain.profile = false;
  EXPECT_EQ(run(plain).way, wire::RunWay::Unknown);
}

// The first run by stream, since a program may never come again; the next ones until what the
// device makes of it in the background is ready.
TEST(RunnerWays, FirstRunsGoByStreamUntilTheGraphIsReady) {
  for (const bool asynchronous : {false, true}) {
    LoopHarness harness({.asynchronous = asynchronous, .prepares = true});
    harness.load_library();
    harness.load_plan(copy_plan(1, 4));
    EXPECT_EQ(harness.settle().size(), 2u);
    harness.segment(20, {1, 2, 3, 4});
    harness.segment(21, Words(4));
    const auto run = [&] {
      harness.run({.loads = {at(20, 0)}, .stores = {at(21, 0)}});
      return harness.only_report();
    };
    const auto expect = [](const SeenReport& report, wire::RunWay way, wire::WhyStream why) {
      EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
      EXPECT_EQ(report.way, way);
      EXPECT_EQ(report.why_stream, why);
    };
    expect(run(), wire::RunWay::Stream, wire::WhyStream::FirstUse);
    expect(run(), wire::RunWay::Stream, wire::WhyStream::Building);
    expect(run(), wire::RunWay::Stream, wire::WhyStream::Building);
    harness.fake->finish_preparing();
    expect(run(), wire::RunWay::Graph, wire::WhyStream::None);
  }
}

TEST_P(RunnerTest, VersionIsLoadedOnceAndThenFoundOnTheDevice) {
  load(copy_plan(1, 4));
  Words& in = harness_.segment(20, {1, 2, 3, 4});
  Words& out = harness_.segment(21, Words(4));
  EXPECT_EQ(run({.loads = {at(20, 0, 100)}, .stores = {at(21, 0)}}).counters->device_misses(), 1u);
  in = {9, 9, 9, 9};  // The version's bytes never change; these are not it.
  const SeenReport again = run({.loads = {at(20, 0, 100)}, .stores = {at(21, 0)}});
  EXPECT_EQ(again.counters->device_hits(), 1u);
  EXPECT_EQ(again.counters->host_to_device_bytes(), 0u);
  EXPECT_EQ(out, (Words{1, 2, 3, 4}));
  // Another version, or no version, is read.
  EXPECT_EQ(run({.loads = {at(20, 0, 101)}, .stores = {at(21, 0)}}).counters->device_misses(), 1u);
  EXPECT_EQ(out, (Words{9, 9, 9, 9}));
  in = {7, 7, 7, 7};
  run({.loads = {at(20, 0)}, .stores = {at(21, 0)}});
  EXPECT_EQ(out, (Words{7, 7, 7, 7}));
}

TEST_P(RunnerTest, WritingAnInputLeavesItsCachedCopyAlone) {
  load(copy_plan(1, 4));
  load(add_one_plan(2, 4));
  harness_.segment(20, {1, 2, 3, 4});
  Words& out = harness_.segment(21, Words(4));
  run({.loads = {at(20, 0, 100)}, .stores = {at(21, 0)}});
  const SeenReport changed = run({.plan = 2, .loads = {at(20, 0, 100)}, .stores = {at(21, 0)}});
  EXPECT_EQ(changed.counters->device_hits(), 1u);
  EXPECT_EQ(out, (Words{2, 3, 4, 5}));
  run({.loads = {at(20, 0, 100)}, .stores = {at(21, 0)}});
  EXPECT_EQ(out, (Words{1, 2, 3, 4}));
}

TEST_P(RunnerTest, StoredVersionIsReadFromTheDevice) {
  load(copy_plan(1, 4));
  load(add_one_plan(2, 4));
  harness_.segment(20, {1, 2, 3, 4});
  Words& host = harness_.segment(21, Words(4));
  Words& out = harness_.segment(22, Words(4));
  run({.plan = 2, .loads = {at(20, 0)}, .stores = {at(21, 0, 50)}});
  EXPECT_EQ(host, (Words{2, 3, 4, 5}));
  const SeenReport read = run({.loads = {at(21, 0, 50)}, .stores = {at(22, 0)}});
  EXPECT_EQ(read.counters->device_hits(), 1u);
  EXPECT_EQ(out, (Words{2, 3, 4, 5}));
}

TEST_P(RunnerTest, PendingVersionIsReadByARunSentBehindItsProducer) {
  load(copy_plan(1, 4));
  load(add_one_plan(2, 4));
  harness_.segment(20, {1, 2, 3, 4});
  Words& out = harness_.segment(22, Words(4));
  harness_.run({.run = 1, .plan = 2, .loads = {at(20, 0)}, .stores = {at(0, 0, 50)}});
  harness_.run({.run = 2, .plan = 2, .loads = {at(0, 0, 50)}, .stores = {at(0, 0, 51)}});
  harness_.run({.run = 3, .plan = 1, .loads = {at(0, 0, 51)}, .stores = {at(22, 0)}});
  const auto reports = harness_.settle();
  ASSERT_EQ(reports.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(reports[i].id, i + 1);
    EXPECT_EQ(reports[i].code, StatusCode::Ok) << reports[i].message;
  }
  EXPECT_EQ(out, (Words{3, 4, 5, 6}));
}

TEST_P(RunnerTest, SlicesOfAPendingVersionAreGathered) {
  load(add_one_plan(2, 2));
  load(copy_plan(1, 3));
  harness_.segment(20, {1, 2, 3, 4});
  Words& out = harness_.segment(22, Words(3));
  harness_.run({.run = 1, .plan = 2, .loads = {at(20, 0)}, .stores = {at(0, 0, 50, 0)}});
  harness_.run({.run = 2, .plan = 2, .loads = {at(20, 8)}, .stores = {at(0, 0, 50, 8)}});
  harness_.run({.run = 3, .plan = 1, .loads = {at(0, 0, 50, 4)}, .stores = {at(22, 0)}});
  for (const auto& report : harness_.settle()) EXPECT_EQ(report.code, StatusCode::Ok);
  EXPECT_EQ(out, (Words{3, 4, 5}));
}

TEST_P(RunnerTest, ReaderOfAFailedVersionGetsDependencyFailed) {
  load(copy_plan(1, 4));
  load(failing_plan(3));
  harness_.segment(22, Words(4));
  harness_.run({.run = 1, .plan = 3, .stores = {at(0, 0, 50)}});
  harness_.run({.run = 2, .plan = 1, .loads = {at(0, 0, 50)}, .stores = {at(0, 0, 51)}});
  harness_.run({.run = 3, .plan = 1, .loads = {at(0, 0, 51)}, .stores = {at(22, 0)}});
  const auto reports = harness_.settle();
  ASSERT_EQ(reports.size(), 3u);
  EXPECT_EQ(reports[0].code, StatusCode::KernelFault);
  EXPECT_EQ(reports[0].message, "kernel 'fail' failed (7): it always does");
  EXPECT_EQ(reports[1].code, StatusCode::DependencyFailed);
  EXPECT_EQ(reports[2].code, StatusCode::DependencyFailed);
  harness_.drop_versions({50, 51});
  EXPECT_TRUE(harness_.settle().empty());
  EXPECT_EQ(harness_.loop->cache().pool().used_bytes(), 0u);
}

TEST_P(RunnerTest, ReaderOfAVersionWhoseRunWasRefusedGetsDependencyFailed) {
  load(copy_plan(1, 4));
  harness_.run({.run = 1, .plan = 99, .stores = {at(0, 0, 50)}});
  harness_.run({.run = 2, .plan = 1, .loads = {at(0, 0, 50)}, .stores = {at(0, 0, 0)}});
  const auto reports = harness_.settle();
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].code, StatusCode::NotFound);
  EXPECT_EQ(reports[1].code, StatusCode::DependencyFailed);
}

TEST_P(RunnerTest, VersionThatWasEvictedIsUnavailable) {
  load(copy_plan(1, 4));
  const SeenReport done = run({.loads = {at(0, 0, 77)}, .stores = {at(0, 0)}});
  EXPECT_EQ(done.code, StatusCode::Unavailable);
  EXPECT_EQ(done.message, "version 77 is not on this device any more");
}

TEST_P(RunnerTest, RunsWaitForThoseTheyName) {
  load(add_one_plan(2, 1));
  Words& word = harness_.segment(20, {0});
  for (std::uint64_t i = 1; i <= 5; ++i) {
    TestRun next{.run = i, .plan = 2, .loads = {at(20, 0)}, .stores = {at(20, 0)}};
    if (i > 1) next.after = {i - 1, 900};  // What is not there has ended.
    harness_.run(next);
  }
  const auto reports = harness_.settle();
  ASSERT_EQ(reports.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(reports[i].id, i + 1);
  EXPECT_EQ(word, (Words{5}));
}

TEST_P(RunnerTest, FailureOfARunThatWasWaitedForDoesNotMatter) {
  load(failing_plan(3));
  load(add_one_plan(2, 1));
  Words& word = harness_.segment(20, {4});
  harness_.run({.run = 1, .plan = 3, .stores = {at(0, 0)}});
  harness_.run({.run = 2, .plan = 2, .loads = {at(20, 0)}, .stores = {at(20, 0)}, .after = {1}});
  EXPECT_EQ(harness_.settle().back().code, StatusCode::Ok);
  EXPECT_EQ(word, (Words{5}));
}

TEST_P(RunnerTest, IteratesUntilTheWordIsSet) {
  TestPlan plan;
  plan.kernels[0].kernel = "count_to";
  plan.kernels[0].literals = {u32(5)};
  plan.kernels[0].arguments = {argument(0, 4, Access::InOut), argument(0, 4, Access::Out, 4)};
  plan.allocations = {8};
  plan.loads = {wire::PlanRange(0, 8, 0, false)};
  plan.stores = {wire::PlanRange(0, 8, 0, false)};
  plan.buffers = {wire::PlanBufferAddress(4, 0)};
  plan.n_iter = 1000;
  plan.until = 0;
  load(plan);
  Words& words = harness_.segment(20, {0, 0});
  const SeenReport done = run({.loads = {at(20, 0)}, .stores = {at(20, 0)}});
  EXPECT_EQ(words, (Words{5, 1}));
  EXPECT_EQ(done.counters->iterations(), 5u);
  // An override lasts for one run.
  words = {0, 0};
  run({.loads = {at(20, 0)}, .stores = {at(20, 0)}, .literals = {{0, 0, 3, {}}}});
  EXPECT_EQ(words[0], 3u);
  words = {0, 0};
  run({.loads = {at(20, 0)},
       .stores = {at(20, 0)},
       .literals = {{0, 0, 4, {}, wire::LiteralType::U32}}});
  EXPECT_EQ(words[0], 4u);
  words = {0, 0};
  run({.loads = {at(20, 0)}, .stores = {at(20, 0)}});
  EXPECT_EQ(words[0], 5u);
}

TEST_P(RunnerTest, RawLiteralsGetAddressesAndCanBeOverridden) {
  TestPlan plan;
  plan.kernels[0].kernel = "store_raw";
  std::vector<std::uint8_t> raw(16);
  raw[8] = 42;
  plan.kernels[0].literals = {{wire::LiteralType::Raw, 0, raw, {wire::AddressSlot(0, 1)}}};
  plan.allocations = {16};
  plan.loads = {wire::PlanRange(0, 16, 0, false)};
  plan.stores = {wire::PlanRange(0, 16, 0, false)};
  plan.buffers = {wire::PlanBufferAddress(0, 0), wire::PlanBufferAddress(4, 0)};
  load(plan);
  Words& words = harness_.segment(20, {1, 2, 3, 4});
  run({.loads = {at(20, 0, 60)}, .stores = {at(20, 0)}});
  EXPECT_EQ(words, (Words{1, 42, 3, 4}));
  raw[8] = 43;
  std::fill(raw.begin(), raw.begin() + 8, std::uint8_t{0xee});  // No address of a client is used.
  run({.loads = {at(20, 0)}, .stores = {at(20, 0)}, .literals = {{0, 0, 0, raw}}});
  EXPECT_EQ(words, (Words{1, 43, 3, 4}));
}

TEST_P(RunnerTest, OverridesAreChecked) {
  TestPlan plan = add_one_plan(1, 1);
  load(plan);
  harness_.segment(20, {0});
  TestRun faulty{.loads = {at(20, 0)}, .stores = {at(20, 0)}, .literals = {{1, 0, 1, {}}}};
  EXPECT_EQ(run(faulty).message,
            "literal override 0 names literal 0 of kernel 1, which does not exist");
  faulty.literals = {{0, 3, 1, {}}};
  EXPECT_EQ(run(faulty).message,
            "literal override 0 names literal 3 of kernel 0, which does not exist");
  faulty.literals = {{0, 0, 1, {1, 2}}};
  EXPECT_EQ(run(faulty).message, "literal override 0 has 2 raw bytes, literal of u64 takes 0");
  faulty.literals = {{0, 0, 1, {}, wire::LiteralType::F64}};
  EXPECT_EQ(run(faulty).message,
            "literal override 0: literal 0 of kernel 0 is f64, the plan wants u64");
  faulty.literals = {{0, 0, 1, {}, static_cast<wire::LiteralType>(9)}};
  EXPECT_EQ(run(faulty).message,
            "literal override 0: literal 0 of kernel 0 is unknown, the plan wants u64");
  faulty.literals.clear();
  EXPECT_EQ(run(faulty).code, StatusCode::Ok);
}

TEST_P(RunnerTest, ExplicitOrderPutsParametersWhereTheyBelong) {
  TestPlan plan;
  plan.kernels[0].kernel = "fill";
  plan.kernels[0].literals = {u32(8), u64(2)};  // Value before count: the order mends it.
  plan.kernels[0].arguments = {argument(0, 8, Access::Out)};
  plan.kernels[0].order = {1, 0, 2};
  plan.allocations = {8};
  plan.stores = {wire::PlanRange(0, 8, 0, false)};
  load(plan);
  Words& out = harness_.segment(20, Words(2));
  run({.stores = {at(20, 0)}});
  EXPECT_EQ(out, (Words{8, 8}));
}

TEST_P(RunnerTest, KernelsOfAPlanSeeWhatEarlierOnesWrote) {
  TestPlan plan;
  plan.kernels.assign(2, TestKernel{});
  plan.kernels[0].kernel = "fill";
  plan.kernels[0].literals = {u64(2), u32(20)};
  plan.kernels[0].arguments = {argument(1, 8, Access::Temporary)};
  plan.kernels[1].kernel = "add";
  plan.kernels[1].literals = {u64(2)};
  plan.kernels[1].arguments = {argument(0, 8, Access::In), argument(1, 8, Access::Temporary),
                               argument(2, 8, Access::Out)};
  plan.kernels[1].after = {0};
  plan.allocations = {8, 8, 8};
  plan.loads = {wire::PlanRange(0, 8, 0, false)};
  plan.stores = {wire::PlanRange(0, 8, 2, false)};
  load(plan);
  harness_.segment(20, {1, 2});
  Words& out = harness_.segment(21, Words(2));
  run({.loads = {at(20, 0)}, .stores = {at(21, 0)}});
  EXPECT_EQ(out, (Words{21, 22}));
}

TEST_P(RunnerTest, ShortObjectIsFilledWithZeros) {
  TestPlan plan = copy_plan(1, 4);
  plan.loads = {wire::PlanRange(0, 16, 0, true)};
  load(plan);
  harness_.segment(20, {1, 2});
  Words& out = harness_.segment(21, Words(4, 9));
  run({.loads = {at(20, 0, 100, 0, 8)}, .stores = {at(21, 0)}});
  EXPECT_EQ(out, (Words{1, 2, 0, 0}));
  out.assign(4, 9);
  run({.loads = {at(20, 0, 100, 0, 8)}, .stores = {at(21, 0)}});
  EXPECT_EQ(out, (Words{1, 2, 0, 0}));
  out.assign(4, 9);
  run({.loads = {at(20, 0, 101, 0, 0)}, .stores = {at(21, 0)}});
  EXPECT_EQ(out, (Words{0, 0, 0, 0}));
}

TEST_P(RunnerTest, MemoryOfAnotherTenantIsZeroed) {
  TestPlan filling;  // Writes allocation 0 and stores nothing.
  filling.plan = 1;
  filling.kernels[0].kernel = "fill";
  filling.kernels[0].literals = {u64(4), u32(0xdead)};
  filling.kernels[0].arguments = {argument(0, 16, Access::Temporary)};
  filling.allocations = {16};
  load(filling);
  TestPlan reading;  // Stores a temporary that nothing wrote.
  reading.plan = 2;
  reading.kernels[0].kernel = "noop";
  reading.allocations = {16};
  reading.stores = {wire::PlanRange(0, 16, 0, false)};
  load(reading);
  Words& out = harness_.segment(21, Words(4));
  run({.plan = 2, .tenant = 1, .stores = {at(21, 0)}});
  EXPECT_EQ(out, Words(4, 0)) << "fresh memory";
  run({.plan = 1, .tenant = 1});
  run({.plan = 2, .tenant = 1, .stores = {at(21, 0)}});
  EXPECT_EQ(out, Words(4, 0xdead)) << "a tenant's own memory may be as it left it";
  run({.plan = 2, .tenant = 2, .stores = {at(21, 0)}});
  EXPECT_EQ(out, Words(4, 0));
}

// A refused run has taken memory that nobody has zeroed yet: it must not count as its tenant's own.
TEST_P(RunnerTest, MemoryThatARefusedRunHadTakenIsStillForeign) {
  TestPlan filling;
  filling.plan = 1;
  filling.kernels[0].kernel = "fill";
  filling.kernels[0].literals = {u64(4), u32(0xdead)};
  filling.kernels[0].arguments = {argument(0, 16, Access::Temporary)};
  filling.allocations = {16};
  load(filling);
  TestPlan reading;
  reading.plan = 2;
  reading.kernels[0].kernel = "noop";
  reading.allocations = {16};
  reading.stores = {wire::PlanRange(0, 16, 0, false)};
  load(reading);
  Words& out = harness_.segment(21, Words(4));
  run({.plan = 1, .tenant = 1});
  EXPECT_EQ(run({.plan = 2, .tenant = 2, .stores = {at(77, 0)}}).code, StatusCode::InvalidArgument);
  EXPECT_EQ(run({.plan = 2, .tenant = 2, .stores = {at(21, 0)}}).code, StatusCode::Ok);
  EXPECT_EQ(out, Words(4, 0));
}

TEST_P(RunnerTest, PlacesOutsideASegmentAreRefused) {
  load(copy_plan(1, 4));
  harness_.segment(20, {1, 2, 3, 4});
  harness_.segment(21, Words(4), false);
  EXPECT_EQ(run({.loads = {at(20, 4)}, .stores = {at(20, 0)}}).message,
            "load 0: segment 20 range [4, 4 + 16) is outside 16 bytes");
  EXPECT_EQ(run({.loads = {at(20, ~std::uint64_t{0})}, .stores = {at(20, 0)}}).code,
            StatusCode::InvalidArgument);
  EXPECT_EQ(run({.loads = {at(20, 0)}, .stores = {at(21, 0)}}).message,
            "store 0: segment 21 is read-only");
  EXPECT_EQ(run({.loads = {at(30, 0)}, .stores = {at(20, 0)}}).message,
            "segment 30 is not attached");
  EXPECT_EQ(run({.loads = {at(0, 0)}, .stores = {at(20, 0)}}).message,
            "load 0 names neither a segment nor a version");
  EXPECT_EQ(run({.loads = {at(20, 0, 5, ~std::uint64_t{0})}, .stores = {at(20, 0)}}).message,
            "load 0 object_offset is 18446744073709551615, too large for its size");
  EXPECT_EQ(run({.loads = {at(20, 0)}}).message, "run has 0 stores, its plan 1");
  EXPECT_EQ(run({.stores = {at(20, 0)}}).message, "run has 0 loads, its plan 1");
  EXPECT_EQ(run({.loads = {at(20, 0)}, .stores = {at(20, 0)}}).code, StatusCode::Ok);
}

TEST_P(RunnerTest, OnceSegmentIsForgottenBeforeTheReport) {
  load(copy_plan(1, 1));
  load(failing_plan(3));
  harness_.segment(20, {5});
  harness_.segment(21, {0}, true, true);
  EXPECT_EQ(run({.loads = {at(20, 0)}, .stores = {at(21, 0)}}).code, StatusCode::Ok);
  EXPECT_EQ(harness_.loop->attached_segments(), 1u);
  harness_.segment(21, {0, 0, 0, 0}, true, true);
  EXPECT_EQ(run({.plan = 3, .stores = {at(21, 0)}}).code, StatusCode::KernelFault);
  EXPECT_EQ(harness_.loop->attached_segments(), 1u);
  harness_.segment(21, {0}, true, true);
  EXPECT_EQ(run({.plan = 77, .stores = {at(21, 0)}}).code, StatusCode::NotFound);
  EXPECT_EQ(harness_.loop->attached_segments(), 1u);
}

TEST_P(RunnerTest, FailedAllocationFailsOneRunAndPinsNothing) {
  load(copy_plan(1, 4));
  harness_.segment(20, {1, 2, 3, 4});
  Words& out = harness_.segment(21, Words(4));
  const TestRun good{.loads = {at(20, 0, 100)}, .stores = {at(21, 0)}};
  for (std::uint64_t n = 1; n <= 2; ++n) {
    harness_.fake->fail_allocation(n);
    const SeenReport done = run(good);
    EXPECT_EQ(done.code, StatusCode::OutOfMemory);
    EXPECT_EQ(done.message.rfind("working set is 512 bytes, device limit 1048576", 0), 0u)
        << done.message;
    EXPECT_EQ(harness_.loop->cache().pool().used_bytes(), 0u);
    harness_.fake->fail_allocation(0);
  }
  EXPECT_EQ(run(good).code, StatusCode::Ok);
  EXPECT_EQ(out, (Words{1, 2, 3, 4}));
}

TEST_P(RunnerTest, FailedLaunchFailsOneRun) {
  load(add_one_plan(1, 1));
  Words& word = harness_.segment(20, {0});
  harness_.fake->fail_launch(1);
  EXPECT_EQ(run({.loads = {at(20, 0)}, .stores = {at(20, 0, 9)}}).code, StatusCode::KernelFault);
  EXPECT_EQ(word, (Words{0}));
  EXPECT_EQ(run({.loads = {at(20, 0)}, .stores = {at(20, 0, 9)}}).code, StatusCode::Ok);
  EXPECT_EQ(word, (Words{1}));
}

TEST_P(RunnerTest, SameRunTwiceIsRefusedWhileItIsUnderWay) {
  if (!GetParam()) return;  // A synchronous device has ended the first one by then.
  load(add_one_plan(1, 1));
  harness_.segment(20, {0});
  const TestRun twice{.run = 5, .loads = {at(20, 0)}, .stores = {at(20, 0)}};
  harness_.run(twice);
  harness_.run(twice);
  const auto reports = harness_.settle();
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].message, "run 5 has not ended yet");
  EXPECT_EQ(reports[1].code, StatusCode::Ok);
}

TEST_P(RunnerTest, NothingLeaksOverManyMixedRuns) {
  load(copy_plan(1, 64));
  load(add_one_plan(2, 64));
  load(failing_plan(3));
  harness_.segment(20, Words(64, 1));
  harness_.segment(21, Words(64));
  std::uint64_t run = 0;
  std::vector<std::uint64_t> versions;
  for (int round = 0; round < 50; ++round) {
    const std::uint64_t version = 1'000 + 2 * static_cast<std::uint64_t>(round);
    versions.push_back(version);
    versions.push_back(version + 1);
    harness_.run({.run = ++run, .plan = 2, .loads = {at(20, 0, 1)}, .stores = {at(0, 0, version)}});
    harness_.run({.run = ++run, .plan = 1, .loads = {at(0, 0, version)}, .stores = {at(21, 0)}});
    harness_.run({.run = ++run, .plan = 3, .stores = {at(0, 0, version + 1)}});
    harness_.run(
        {.run = ++run, .plan = 1, .loads = {at(0, 0, version + 1)}, .stores = {at(21, 0)}});
    EXPECT_EQ(harness_.settle().size(), 4u);
  }
  harness_.drop_versions(versions);
  harness_.drop_versions({1});
  harness_.settle();
  EXPECT_EQ(harness_.loop->cache().pool().used_bytes(), 0u);
  EXPECT_EQ(harness_.loop->cache().figures().entries, 0u);
}

// --- Memory under pressure, on a device of 4096 bytes --------------------------------------------

TEST(RunnerMemory, EvictsBeforeItFails) {
  LoopHarness harness({.memory_bytes = 4096});
  harness.load_library();
  harness.load_plan(copy_plan(1, 256));  // Two allocations of 1024 bytes.
  harness.settle();
  harness.segment(20, Words(256, 3));
  harness.segment(21, Words(256));
  for (std::uint64_t version = 1; version <= 10; ++version) {
    harness.run({.run = version, .loads = {at(20, 0, version)}, .stores = {at(21, 0)}});
    const SeenReport done = harness.only_report();
    EXPECT_EQ(done.code, StatusCode::Ok) << done.message;
    if (version == 10) {
      EXPECT_EQ(done.counters->evictions(), 1u);
    }
  }
}

TEST(RunnerMemory, RunWaitsForMemoryThatOthersHold) {
  LoopHarness harness({.memory_bytes = 2048, .asynchronous = true});
  harness.load_library();
  harness.load_plan(copy_plan(1, 256));
  harness.settle();
  harness.segment(20, Words(256, 3));
  harness.segment(21, Words(256));
  for (std::uint64_t run = 1; run <= 5; ++run) {
    harness.run({.run = run, .loads = {at(20, 0)}, .stores = {at(21, 0)}});
  }
  const auto reports = harness.settle();
  ASSERT_EQ(reports.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(reports[i].id, i + 1);
    EXPECT_EQ(reports[i].code, StatusCode::Ok) << reports[i].message;
  }
}

// The device holds one run at a time; the fourth waits for the third.
TEST(RunnerMemory, RunsThatWaitAreCancelledAndOneThatWasStartedIsNot) {
  LoopHarness harness({.memory_bytes = 2048, .asynchronous = true});
  harness.load_library();
  harness.load_plan(copy_plan(1, 256));
  harness.settle();
  harness.segment(20, Words(256, 3));
  harness.segment(21, Words(256));
  for (std::uint64_t run = 1; run <= 4; ++run) {
    TestRun next{.run = run, .loads = {at(20, 0)}, .stores = {at(21, 0)}};
    if (run == 4) next.after = {3};
    harness.run(next);
  }
  for (const std::uint64_t run : {1, 2, 4, 99}) harness.cancel(run);
  std::map<std::uint64_t, StatusCode> ended;
  std::map<std::uint64_t, bool> cancelled;
  for (const SeenReport& report : harness.settle()) {
    if (report.type == wire::Report::CancelDone) {
      cancelled[report.id] = report.cancelled;
    } else {
      EXPECT_TRUE(ended.emplace(report.id, report.code).second) << report.id;
    }
  }
  EXPECT_EQ(cancelled,
            (std::map<std::uint64_t, bool>{{1, false}, {2, true}, {4, true}, {99, false}}));
  EXPECT_EQ(ended, (std::map<std::uint64_t, StatusCode>{{1, StatusCode::Ok},
                                                        {2, StatusCode::Cancelled},
                                                        {3, StatusCode::Ok},
                                                        {4, StatusCode::Cancelled}}));
  EXPECT_EQ(harness.loop->unfinished_runs(), 0u);
}

TEST(RunnerMemory, ResidentVersionsThatCannotBeWrittenBackAreCountedInTheError) {
  LoopHarness harness({.memory_bytes = 2048});
  harness.load_library();
  TestPlan filling;
  filling.plan = 2;
  filling.allocations = {1024};
  filling.stores = {wire::PlanRange(0, 1024, 0, false)};
  harness.load_plan(filling);
  harness.load_plan(copy_plan(1, 256));
  harness.settle();
  harness.segment(20, Words(256, 3));
  harness.run({.plan = 2, .stores = {at(0, 0, 5)}});
  EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
  harness.run({.loads = {at(20, 0)}, .stores = {at(20, 0)}});
  // It waits for the version to be written back, which can't be done.
  for (int i = 0; i < 10; ++i) harness.loop->step();
  EXPECT_EQ(harness.read_reports().at(0).versions, std::vector<std::uint64_t>{5});
  harness.fetch(5, 1024, 99);
  const auto reports = harness.settle();
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].type, wire::Report::Fetched);
  const SeenReport& refused = reports[1];
  EXPECT_EQ(refused.code, StatusCode::OutOfMemory);
  EXPECT_EQ(refused.message,
            "working set is 2048 bytes, device limit 2048, of which 2048 cannot be freed");
  harness.drop_versions({5});
  harness.run({.loads = {at(20, 0)}, .stores = {at(20, 0)}});
  EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
}

TEST(RunnerMemory, StoredVersionStaysUntilKaasdHasReadOfIt) {
  LoopHarness harness({.memory_bytes = 2048});
  harness.load_library();
  TestPlan filling;
  filling.plan = 2;
  filling.kernels[0].kernel = "fill";
  filling.kernels[0].literals = {u64(256), u32(6)};
  filling.kernels[0].arguments = {argument(0, 1024, Access::Out)};
  filling.allocations = {1024};
  filling.stores = {wire::PlanRange(0, 1024, 0, false)};
  harness.load_plan(filling);
  harness.load_plan(copy_plan(1, 256));
  harness.settle();
  harness.segment(20, Words(256, 3));
  Words& out = harness.segment(21, Words(256));
  harness.run({.run = 1, .plan = 2, .stores = {at(20, 0, 5)}});
  while (harness.loop->step() == StepOutcome::Progress) {
  }
  // kaasd has not read the report: this run must wait for memory, not evict the version ...
  harness.run({.run = 2, .plan = 1, .loads = {at(20, 0)}, .stores = {at(21, 0)}});
  while (harness.loop->step() == StepOutcome::Progress) {
  }
  EXPECT_EQ(harness.loop->unfinished_runs(), 1u);
  EXPECT_TRUE(harness.loop->has_backlog());
  // ... so a reader that kaasd sends now still finds it.
  harness.run({.run = 3, .plan = 1, .loads = {at(0, 0, 5)}, .stores = {at(21, 0)}});
  const auto reports = harness.settle();
  ASSERT_EQ(reports.size(), 3u);
  for (const SeenReport& report : reports) EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
  EXPECT_EQ(reports[1].id, 3u) << "it holds what run 2 waits for";
  EXPECT_EQ(out, Words(256, 6));
  EXPECT_FALSE(harness.loop->has_backlog());
}

// --- Workers -------------------------------------------------------------------------------------

TEST(RunnerWorkers, LargeRunsAreExecutedByWorkersAndAnsweredOnce) {
  HostDevice device(64u << 20, 2);
  FakeLibraries libraries(device);
  std::atomic<int> wakes{0};
  ExecutorWorkers workers(2, [&wakes] { ++wakes; });
  HarnessOptions options;
  options.memory_bytes = 64u << 20;
  options.workers = &workers;
  LoopHarness harness(options, device, libraries);
  harness.load_library();
  constexpr std::uint64_t kWords = 1u << 18;
  harness.load_plan(add_one_plan(1, kWords));
  harness.settle();
  Words& data = harness.segment(20, Words(kWords));
  std::map<std::uint64_t, int> answers;
  std::uint64_t run = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 4; ++i) {
      TestRun next{.run = ++run, .loads = {at(20, 0)}, .stores = {at(20, 0)}};
      if (run > 1) next.after = {run - 1};
      harness.run(next);
    }
    for (const SeenReport& report : harness.settle()) {
      EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
      ++answers[report.id];
    }
  }
  while (answers.size() < run) {
    for (const SeenReport& report : harness.settle()) ++answers[report.id];
  }
  for (const auto& [id, count] : answers) EXPECT_EQ(count, 1) << id;
  EXPECT_EQ(data, Words(kWords, static_cast<std::uint32_t>(run)));
}

// What the device has been given before a failure uses the run's memory; nobody else waits for it.
TEST(RunnerFailures, RunThatCanNotBeEnqueuedHoldsNobodyUp) {
  LoopHarness harness({.asynchronous = true});
  harness.load_library();
  harness.load_plan(add_one_plan(1, 4));
  harness.settle();
  Words& data = harness.segment(20, Words(4));
  harness.pin(20);
  harness.fake->fail_enqueue(2);  // The launch, behind a copy.
  harness.run({.run = 1, .loads = {at(20, 0)}, .stores = {at(20, 0)}});
  harness.loop->step();
  EXPECT_TRUE(harness.read_reports().empty()) << "the device has not been asked yet";
  EXPECT_EQ(harness.only_report().code, StatusCode::Internal);
  harness.run({.run = 2, .loads = {at(20, 0)}, .stores = {at(20, 0)}});
  EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
  EXPECT_EQ(harness.fake->left_behind(), 0u);
  EXPECT_EQ(data, Words(4, 1));
}

// What the device has been given before a failure uses the run's memory.
TEST(RunnerWorkers, RunThatCanNotBeEnqueuedIsReportedWhenTheDeviceIsDoneWithIt) {
  ExecutorWorkers workers(1, [] {});
  HarnessOptions options;
  options.asynchronous = true;
  options.workers = &workers;
  LoopHarness harness(options);
  harness.load_library();
  harness.load_plan(add_one_plan(1, 4));
  harness.settle();
  Words& data = harness.segment(20, Words(4));  // Not pinned: it is copied by a worker.
  const auto report_of = [&](std::uint64_t run) {
    harness.run({.run = run, .loads = {at(20, 0)}, .stores = {at(20, 0)}});
    std::vector<SeenReport> reports;
    while (reports.empty()) reports = harness.settle();
    return reports.front();
  };
  harness.fake->fail_enqueue(2);  // The launch, behind a copy.
  EXPECT_EQ(report_of(1).code, StatusCode::Internal);
  EXPECT_EQ(report_of(2).code, StatusCode::Ok);
  EXPECT_EQ(harness.fake->left_behind(), 0u);
  EXPECT_EQ(data, Words(4, 1));
}

TEST(RunnerWorkers, WorkerWakesASleepingLoop) {
  HostDevice device(64u << 20, 2);
  FakeLibraries libraries(device);
  std::atomic<int> wakes{0};
  ExecutorWorkers workers(2, [&wakes] {
    ++wakes;
    wakes.notify_all();
  });
  HarnessOptions options;
  options.memory_bytes = 64u << 20;
  options.workers = &workers;
  LoopHarness harness(options, device, libraries);
  harness.load_library();
  harness.load_plan(add_one_plan(1, 1u << 18));
  harness.settle();
  harness.segment(20, Words(1u << 18));
  for (std::uint64_t run = 1; run <= 50; ++run) {
    const int before = wakes.load();
    harness.run({.run = run, .loads = {at(20, 0)}, .stores = {at(20, 0)}});
    harness.loop->step();
    if (harness.loop->announce_sleep() && harness.loop->executing()) {
      wakes.wait(before);  // Hangs if the wake is lost.
    }
    harness.loop->retract_sleep();
    std::size_t reports = harness.read_reports().size();
    while (reports == 0) reports = harness.settle().size();
    EXPECT_EQ(reports, 1u);
  }
}

}  // namespace
}  // namespace kaas
