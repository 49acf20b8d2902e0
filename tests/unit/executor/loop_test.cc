// The loop and its protocol: malformed work, reports, sleeping.
#include <gtest/gtest.h>

#include "tests/unit/executor/loop_harness.h"

namespace kaas {
namespace {

void prepare_null_plan(LoopHarness& harness) {
  harness.load_library();
  harness.load_plan(TestPlan{});
  for (const SeenReport& report : harness.settle()) ASSERT_EQ(report.code, StatusCode::Ok);
}

TEST(ExecutorLoop, ReportsReadyOnce) {
  LoopHarness harness;
  harness.loop->report_ready();
  EXPECT_EQ(harness.only_report().type, wire::Report::Ready);
}

TEST(ExecutorLoop, LibraryReportListsItsKernels) {
  LoopHarness harness;
  harness.load_library(5);
  const SeenReport report = harness.only_report();
  EXPECT_EQ(report.id, 5u);
  EXPECT_EQ(report.kernels.size(), 10u);
  EXPECT_EQ(report.kernels.front(), "add");
}

TEST(ExecutorLoop, MalformedWorkItemClosesTheLoopWithAReason) {
  LoopHarness harness;
  const std::vector<std::byte> junk(64, std::byte{0xff});
  harness.send_raw(junk);
  EXPECT_EQ(harness.loop->step(), StepOutcome::Closed);
  EXPECT_EQ(harness.loop->closed_reason(), "work item 0 is malformed");
  EXPECT_EQ(harness.loop->step(), StepOutcome::Closed);
}

TEST(ExecutorLoop, WorkItemOfNoTypeClosesTheLoop) {
  LoopHarness harness;
  harness.builder.Finish(wire::CreateWorkItem(harness.builder));
  harness.send_raw(finished(harness.builder));
  EXPECT_EQ(harness.loop->step(), StepOutcome::Closed);
}

TEST(ExecutorLoop, TornSequenceClosesTheLoop) {
  LoopHarness harness;
  harness.work.view().slots[0].sequence.store(77);
  EXPECT_EQ(harness.loop->step(), StepOutcome::Closed);
}

TEST(ExecutorLoop, ImpossibleCountOfReadReportsClosesTheLoop) {
  LoopHarness harness({.geometry = {8, 1u << 12}});
  prepare_null_plan(harness);
  harness.work.view().header->consumed.store(1'000);
  for (std::uint64_t run = 1; run <= 8; ++run) harness.run({.run = run});
  EXPECT_EQ(harness.loop->step(), StepOutcome::Closed);
}

TEST(ExecutorLoop, RandomBytesNeverDoMoreThanCloseIt) {
  std::uint64_t state = 1;
  const auto random = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  };
  for (int round = 0; round < 300; ++round) {
    LoopHarness harness;
    prepare_null_plan(harness);
    // A valid message with some bytes changed, so that it gets past the first checks at times.
    TestRun run;
    run.literals = {{0, 0, 5, {1, 2, 3}}};
    run.loads = {at(16, 0)};
    harness.builder.Clear();
    const auto loads = harness.builder.CreateVectorOfStructs(run.loads);
    const auto item = wire::CreateRun(harness.builder, 1, 1, 1, loads);
    harness.builder.Finish(wire::CreateWorkItem(harness.builder, wire::Work::Run, item.Union()));
    const auto bytes = finished(harness.builder);
    std::vector<std::byte> changed(bytes.begin(), bytes.end());
    for (int i = 0; i < 3; ++i) changed[random() % changed.size()] = std::byte(random() & 0xff);
    harness.send_raw(changed);
    while (harness.loop->step() == StepOutcome::Progress) {
    }
    EXPECT_LE(harness.read_reports().size(), 1u);
  }
}

TEST(ExecutorLoop, FullReportRingKeepsReportsInOrder) {
  LoopHarness harness({.geometry = {8, 1u << 12}});
  prepare_null_plan(harness);
  for (std::uint64_t run = 1; run <= 20; ++run) {
    harness.run({.run = run});
    while (harness.loop->step() == StepOutcome::Progress) {
    }
  }
  EXPECT_TRUE(harness.loop->has_backlog());
  std::uint64_t next = 1;
  while (next <= 20) {
    const auto reports = harness.settle();
    ASSERT_FALSE(reports.empty());
    for (const SeenReport& report : reports) EXPECT_EQ(report.id, next++);
  }
  EXPECT_FALSE(harness.loop->has_backlog());
}

TEST(ExecutorLoop, SleepsOnlyWhenThereIsNothingToDo) {
  LoopHarness harness;
  prepare_null_plan(harness);
  EXPECT_TRUE(harness.loop->announce_sleep());
  harness.run({});
  EXPECT_TRUE(harness.writer.wake_due());
  EXPECT_FALSE(harness.writer.wake_due());
  harness.loop->retract_sleep();
  harness.settle();

  harness.run({});
  EXPECT_FALSE(harness.loop->announce_sleep());
  EXPECT_FALSE(harness.writer.wake_due());
}

TEST(ExecutorLoop, WakesKaasdOnceASleep) {
  LoopHarness harness;
  prepare_null_plan(harness);
  announce_sleep(*harness.work.view().header);
  for (std::uint64_t run = 1; run <= 3; ++run) {
    harness.run({.run = run});
    harness.loop->step();
  }
  EXPECT_EQ(harness.wakes, 1);
  retract_sleep(*harness.work.view().header);
  harness.run({.run = 4});
  harness.loop->step();
  EXPECT_EQ(harness.wakes, 1);
}

TEST(ExecutorLoop, CountersAddUp) {
  LoopHarness harness;
  prepare_null_plan(harness);
  for (std::uint64_t run = 1; run <= 3; ++run) harness.run({.run = run});
  harness.settle();
  harness.send(wire::Work::ReportCounters,
               [](flatbuffers::FlatBufferBuilder& b) { return wire::CreateReportCounters(b); });
  const SeenReport report = harness.only_report();
  ASSERT_TRUE(report.counters.has_value());
  EXPECT_EQ(report.counters->launches(), 3u);
  EXPECT_EQ(report.counters->kernel_misses(), 1u);
  EXPECT_EQ(report.counters->kernel_hits(), 2u);
}

TEST(ExecutorLoop, DroppedPlanAndSegmentAreForgotten) {
  LoopHarness harness;
  prepare_null_plan(harness);
  harness.segment(20, {1, 2, 3});
  harness.send(wire::Work::DetachSegment,
               [](flatbuffers::FlatBufferBuilder& b) { return wire::CreateDetachSegment(b, 20); });
  harness.send(wire::Work::DropPlan,
               [](flatbuffers::FlatBufferBuilder& b) { return wire::CreateDropPlan(b, 1); });
  harness.run({});
  const SeenReport report = harness.only_report();
  EXPECT_EQ(report.code, StatusCode::NotFound);
  EXPECT_EQ(harness.loop->attached_segments(), 0u);
}

TEST(ExecutorLoop, LongErrorTextsAreCut) {
  LoopHarness harness;
  harness.load_library(1, "/missing/" + std::string(4080, 'x') + "/" + std::string(4000, 'y'));
  EXPECT_EQ(harness.only_report().message.size(), 4096u);
}

}  // namespace
}  // namespace kaas
