// Libraries that take their time: whoever needs one waits, nobody else does.
#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "schema/ipc/lane.h"
#include "tests/unit/executor/lanes_fixture.h"

namespace kaas {
namespace {

using flatbuffers::FlatBufferBuilder;

std::mutex closers_mutex;
std::set<std::thread::id> closers;  // Under closers_mutex: who has closed libraries.

void note_close(void*) {
  const std::lock_guard lock(closers_mutex);
  closers.insert(std::this_thread::get_id());
}

// FakeLibraries whose paths that begin with "/slow" open when they are let, and fail if that is
// what was asked for. "/hooked" notes who closes it.
class SlowLibraries final : public LibraryOpener {
 public:
  explicit SlowLibraries(const Device& device) : device_(device), fast_(device) {}

  Result<std::shared_ptr<OpenedLibrary>> open(const SeenFile& file) override {
    {
      std::unique_lock lock(mutex_);
      ++opens_[file.path];
      openers_.insert(std::this_thread::get_id());
      changed_.notify_all();
      if (file.path.starts_with("/slow")) {
        changed_.wait(lock, [&] { return let_.contains(file.path); });
        if (!let_[file.path].message.empty()) return let_[file.path];
      }
    }
    return file.path.starts_with("/hooked") ? hooked(file) : fast_.open(file);
  }

  void let(const std::string& path, Status failure = {}) {
    const std::lock_guard lock(mutex_);
    let_[path] = std::move(failure);
    changed_.notify_all();
  }
  void await_opening(const std::string& path) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return opens_.contains(path); });
  }
  int opens(const std::string& path) {
    const std::lock_guard lock(mutex_);
    return opens_[path];
  }
  bool opened_by(std::thread::id thread) {
    const std::lock_guard lock(mutex_);
    return openers_.contains(thread);
  }

 private:
  Result<std::shared_ptr<OpenedLibrary>> hooked(const SeenFile& file) {
    kaas_library table{};
    table.magic = KAAS_LIBRARY_MAGIC;
    table.abi_version = KAAS_LIBRARY_ABI_VERSION;
    table.struct_size = sizeof table;
    table.name = "hooked";
    table.close = &note_close;
    return OpenedLibrary::from_table(&table, LoadedModule(), device_.limits(), file.path);
  }

  const Device& device_;
  FakeLibraries fast_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Status> let_;
  std::map<std::string, int> opens_;
  std::set<std::thread::id> openers_;
};

class LoadingTest : public testing::Test {
 protected:
  LoadingTest() : LoadingTest(FakeDevice::Options{}) {}
  explicit LoadingTest(const FakeDevice::Options& options)
      : device_(options), libraries_(device_), loader_(libraries_, device_, nullptr) {
    harness_.emplace(HarnessOptions{.memory_bytes = options.memory_bytes, .loader = &loader_},
                     device_, libraries_);
  }

  // Steps until so many reports have come.
  std::vector<SeenReport> await_reports(std::size_t count) {
    std::vector<SeenReport> reports;
    while (reports.size() < count) {
      harness_->loop->step();
      for (SeenReport& report : harness_->read_reports()) reports.push_back(std::move(report));
      std::this_thread::yield();
    }
    EXPECT_EQ(reports.size(), count);
    return reports;
  }
  void load_fast_plan() {
    harness_->load_library(1, "/fast");
    harness_->load_plan(plan_of(1, 1));
    for (const SeenReport& report : await_reports(2)) ASSERT_EQ(report.code, StatusCode::Ok);
  }
  static TestPlan plan_of(std::uint32_t id, std::uint32_t library) {
    TestPlan plan = copy_plan(id, 1);
    plan.kernels[0].library = library;
    return plan;
  }
  // word 0 of segment 20 to word `to` of it.
  static TestRun run_of(std::uint64_t run, std::uint32_t plan, std::uint64_t to) {
    TestRun message;
    message.run = run;
    message.plan = plan;
    message.loads = {at(20, 0)};
    message.stores = {at(20, to * 4)};
    return message;
  }

  FakeDevice device_;
  SlowLibraries libraries_;
  CodeLoader loader_;
  std::optional<LoopHarness> harness_;
};

TEST_F(LoadingTest, SlowLibraryDoesNotHoldUpRunsOfOtherPlans) {
  load_fast_plan();
  auto& memory = harness_->segment(20, {7, 0, 0});
  harness_->load_library(2, "/slow");
  harness_->load_plan(plan_of(2, 2));
  harness_->run(run_of(1, 2, 1));
  harness_->run(run_of(2, 1, 2));
  const auto first = await_reports(1);
  EXPECT_EQ(first[0].type, wire::Report::RunDone);
  EXPECT_EQ(first[0].id, 2u);
  EXPECT_EQ(memory[1], 0u);
  EXPECT_EQ(memory[2], 7u);

  libraries_.let("/slow");
  const auto later = await_reports(3);
  EXPECT_EQ(later[0].type, wire::Report::LibraryLoaded);
  EXPECT_EQ(later[1].type, wire::Report::PlanLoaded);
  EXPECT_EQ(later[2].type, wire::Report::RunDone);
  for (const SeenReport& report : later) EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
  EXPECT_EQ(memory[1], 7u);
  EXPECT_FALSE(libraries_.opened_by(std::this_thread::get_id()));
}

TEST_F(LoadingTest, NorNewLibrariesAndPlans) {
  harness_->load_library(2, "/slow");
  harness_->loop->step();
  libraries_.await_opening("/slow");
  load_fast_plan();
  // Kernels that are known are not loaded anew, those that are not are loaded beside the slow one.
  harness_->load_plan(plan_of(2, 1));
  TestPlan other = plan_of(3, 1);
  other.kernels[0].kernel = "noop";
  other.kernels[0].literals.clear();
  other.kernels[0].arguments.clear();
  harness_->load_plan(other);
  for (const SeenReport& report : await_reports(2)) {
    EXPECT_EQ(report.type, wire::Report::PlanLoaded);
    EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
  }
  libraries_.let("/slow");
}

TEST_F(LoadingTest, LibraryThatCannotBeOpenedFailsAllThatWaitsForIt) {
  harness_->segment(20, {7, 0});
  harness_->load_library(2, "/slow");
  harness_->load_plan(plan_of(2, 2));
  harness_->load_plan(plan_of(3, 2));
  harness_->run(run_of(1, 2, 1));
  harness_->run(run_of(2, 3, 1));
  while (harness_->loop->step() == StepOutcome::Progress) {
  }
  libraries_.let("/slow", {StatusCode::InvalidArgument, "it does not compile"});
  std::map<wire::Report, int> seen;
  for (const SeenReport& report : await_reports(5)) {
    ++seen[report.type];
    EXPECT_EQ(report.code, StatusCode::InvalidArgument);
    EXPECT_EQ(report.message, "it does not compile");
  }
  EXPECT_EQ(seen[wire::Report::LibraryLoaded], 1);
  EXPECT_EQ(seen[wire::Report::PlanLoaded], 2);
  EXPECT_EQ(seen[wire::Report::RunDone], 2);
  EXPECT_EQ(libraries_.opens("/slow"), 1);
  // Later runs hear it as well.
  harness_->run(run_of(3, 2, 1));
  EXPECT_EQ(await_reports(1)[0].message, "it does not compile");
}

TEST_F(LoadingTest, KernelThatIsNotThereFailsTheRunsThatWaited) {
  load_fast_plan();
  harness_->segment(20, {7, 0});
  harness_->load_library(2, "/slow");
  TestPlan plan = plan_of(2, 2);
  plan.kernels[0].kernel = "cpy";
  harness_->load_plan(plan);
  harness_->run(run_of(1, 2, 1));
  libraries_.let("/slow");
  const auto reports = await_reports(3);
  const std::string expected = "library 'fake' has no kernel 'cpy'; nearest: 'copy'";
  EXPECT_EQ(reports[0].code, StatusCode::Ok);
  EXPECT_EQ(reports[1].code, StatusCode::NotFound);
  EXPECT_EQ(reports[1].message.substr(0, expected.size()), expected);
  EXPECT_EQ(reports[2].message, reports[1].message);
}

TEST_F(LoadingTest, TwoPlansOfOneLibraryOpenItOnce) {
  harness_->load_library(2, "/slow");
  harness_->load_plan(plan_of(2, 2));
  harness_->load_plan(plan_of(3, 2));
  libraries_.let("/slow");
  for (const SeenReport& report : await_reports(3)) EXPECT_EQ(report.code, StatusCode::Ok);
  EXPECT_EQ(libraries_.opens("/slow"), 1);
}

// The order of runs is that of their arrival, whatever their plans wait for.
TEST_F(LoadingTest, RunReadsWhatOneWritesWhosePlanIsStillLoading) {
  load_fast_plan();
  auto& memory = harness_->segment(20, {7, 0, 0});
  harness_->load_library(2, "/slow");
  harness_->load_plan(plan_of(2, 2));
  TestRun writes = run_of(1, 2, 1);
  writes.stores = {at(20, 4, 90)};
  harness_->run(writes);
  TestRun reads = run_of(2, 1, 2);
  reads.loads = {at(0, 0, 90)};
  reads.after = {1};
  harness_->run(reads);
  while (harness_->loop->step() == StepOutcome::Progress) {
  }
  EXPECT_TRUE(harness_->read_reports().empty());
  libraries_.let("/slow");
  for (const SeenReport& report : await_reports(4)) {
    EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
  }
  EXPECT_EQ(memory[2], 7u);
}

TEST_F(LoadingTest, WhatIsDroppedMeanwhileIsReportedAllTheSame) {
  harness_->segment(20, {7, 0});
  harness_->load_library(2, "/slow");
  harness_->load_plan(plan_of(2, 2));
  harness_->run(run_of(1, 2, 1));
  harness_->send(wire::Work::DropPlan,
                 [](FlatBufferBuilder& b) { return wire::CreateDropPlan(b, 2); });
  harness_->send(wire::Work::DropLibrary,
                 [](FlatBufferBuilder& b) { return wire::CreateDropLibrary(b, 2); });
  while (harness_->loop->step() == StepOutcome::Progress) {
  }
  libraries_.let("/slow");
  for (const SeenReport& report : await_reports(3)) EXPECT_EQ(report.code, StatusCode::Ok);
  harness_->run(run_of(2, 2, 1));
  EXPECT_EQ(await_reports(1)[0].code, StatusCode::NotFound);
}

TEST_F(LoadingTest, CancelledRunEndsWhenItsPlanIsThere) {
  harness_->segment(20, {7, 0});
  harness_->load_library(2, "/slow");
  harness_->load_plan(plan_of(2, 2));
  harness_->run(run_of(1, 2, 1));
  harness_->cancel(1);
  EXPECT_TRUE(await_reports(1)[0].cancelled);
  libraries_.let("/slow");
  const auto reports = await_reports(3);
  EXPECT_EQ(reports[1].code, StatusCode::Ok);
  EXPECT_EQ(reports[2].type, wire::Report::RunDone);
  EXPECT_EQ(reports[2].code, StatusCode::Cancelled);
}

// A lane keeps plans that kaasd has dropped.
TEST_F(LoadingTest, LaneHearsOfAPlanThatNeverLoads) {
  RingMemory in(kLaneGeometry);
  RingMemory out(kLaneGeometry);
  const auto attach = [&](std::uint32_t id, const RingMemory& memory) {
    SegmentTerms terms;
    terms.segment = id;
    terms.writable = true;
    Result<std::shared_ptr<ExecutorSegment>> segment(ExecutorSegment::around(
        terms,
        {reinterpret_cast<std::byte*>(memory.view().header), kLaneGeometry.segment_bytes()}));
    harness_->source.queue.push_back({id, std::move(segment)});
  };
  attach(30, in);
  attach(31, out);
  auto bell = Doorbell::create_pair();
  ASSERT_TRUE(bell.has_value());
  SegmentTerms bell_terms;
  bell_terms.segment = 32;
  harness_->source.queue.push_back(
      {32, ExecutorSegment::of_bell(bell_terms, bell->second.release())});
  harness_->segment(20, {7, 0});
  harness_->load_library(2, "/slow");
  harness_->load_plan(plan_of(2, 2));
  harness_->send(wire::Work::StartLane, [](FlatBufferBuilder& b) {
    return wire::CreateStartLane(b, 1, kLaneGeometry.slot_count, kLaneGeometry.heap_bytes, 30, 31,
                                 32);
  });
  harness_->send(wire::Work::AddLaneCall, [](FlatBufferBuilder& b) {
    const std::vector<wire::Location> from = {at(20, 0)};
    const std::vector<wire::Location> to = {at(20, 4)};
    const auto loads = b.CreateVectorOfStructs(from);
    const auto stores = b.CreateVectorOfStructs(to);
    return wire::CreateAddLaneCall(b, 1, 1, wire::CreateRun(b, 0, 2, 7, loads, stores));
  });
  EXPECT_EQ(await_reports(1)[0].type, wire::Report::LaneCallAdded);
  RingWriter client(in.view(), out.view().header);
  RingReader answers(out.view(), in.view().header);
  const auto invoke = [&](std::uint64_t id) {
    LaneInvoke message{};
    message.id = id;
    message.call = 1;
    ASSERT_TRUE(client.try_write(std::as_bytes(std::span(&message, 1))));
  };
  invoke(11);
  while (harness_->loop->step() == StepOutcome::Progress) {
  }
  EXPECT_FALSE(answers.waiting());
  libraries_.let("/slow", {StatusCode::InvalidArgument, "it does not compile"});
  await_reports(2);
  invoke(12);
  while (harness_->loop->step() == StepOutcome::Progress) {
  }
  MessageBuffer buffer(kLaneGeometry.message_bytes_max());
  for (const std::uint64_t id : {11u, 12u}) {
    std::span<const std::byte> message;
    ASSERT_EQ(answers.read(buffer, message), ReadOutcome::Message);
    LaneAnswer answer{};
    ASSERT_TRUE(read_lane_message(message, answer));
    EXPECT_EQ(answer.id, id);
    EXPECT_EQ(static_cast<StatusCode>(answer.code), StatusCode::InvalidArgument);
    answers.advance();
  }
}

TEST_F(LoadingTest, ExecutorEndsWhileSomethingIsLoading) {
  harness_->segment(20, {7, 0});
  harness_->load_library(2, "/slow");
  harness_->load_plan(plan_of(2, 2));
  harness_->run(run_of(1, 2, 1));
  while (harness_->loop->step() == StepOutcome::Progress) {
  }
  libraries_.await_opening("/slow");
  EXPECT_TRUE(harness_->loop->executing());
  harness_.reset();
  libraries_.let("/slow");  // The loader's destructor waits for it.
}

TEST_F(LoadingTest, LibrariesAreClosedByTheLoader) {
  {
    const std::lock_guard lock(closers_mutex);
    closers.clear();
  }
  harness_->load_library(2, "/hooked");
  EXPECT_EQ(await_reports(1)[0].code, StatusCode::Ok);
  harness_->send(wire::Work::DropLibrary,
                 [](FlatBufferBuilder& b) { return wire::CreateDropLibrary(b, 2); });
  harness_->loop->step();
  for (;;) {
    const std::lock_guard lock(closers_mutex);
    if (!closers.empty()) break;
    std::this_thread::yield();
  }
  const std::lock_guard lock(closers_mutex);
  EXPECT_FALSE(closers.contains(std::this_thread::get_id()));
}

TEST_F(LoadingTest, FinishedLoadingKeepsTheLoopAwake) {
  harness_->load_library(2, "/slow");
  libraries_.let("/slow");
  harness_->loop->step();
  while (!loader_.has_finished()) std::this_thread::yield();
  EXPECT_FALSE(harness_->loop->announce_sleep());
  EXPECT_EQ(await_reports(1)[0].type, wire::Report::LibraryLoaded);
}

// --- On a device that works beside the loop ------------------------------------------------------

class AsynchronousLoadingTest : public LoadingTest {
 protected:
  AsynchronousLoadingTest()
      : LoadingTest({.memory_bytes = 8u << 20, .asynchronous = true, .reaches_host = true}) {}
};

// A call that was added while its plan was being loaded, which then failed.
TEST_F(AsynchronousLoadingTest, RefusedInvocationEndsBehindThoseItWaitsFor) {
  harness_->segment(kMemory, Words(64));
  harness_->load_library(1, "/fast");
  harness_->load_plan(fill_plan(1, 9, 40));
  harness_->load_plan(copy_plan(5, 1));
  for (const SeenReport& report : await_reports(3)) ASSERT_EQ(report.code, StatusCode::Ok);
  LaneEnd lane(*harness_, 1);
  lane.start();
  lane.add(1, {.plan = 1, .stores = {at(kMemory, 0)}});
  harness_->load_library(2, "/slow");
  harness_->load_plan(plan_of(2, 2));
  lane.add(2, {.plan = 2, .loads = {at(kMemory, 0)}, .stores = {at(kMemory, 8)}});
  for (const SeenReport& report : await_reports(2)) ASSERT_EQ(report.code, StatusCode::Ok);
  libraries_.let("/slow", {StatusCode::InvalidArgument, "it does not compile"});
  await_reports(2);
  lane.invoke(1, 1);
  lane.invoke(2, 2);
  harness_->loop->step();
  // Others, whose runs would get what the refused one has let go of.
  for (std::uint64_t run = 1; run <= 2; ++run) {
    harness_->run({.run = run,
                   .plan = 5,
                   .tenant = 8,
                   .loads = {at(kMemory, 32)},
                   .stores = {at(kMemory, 64 + 8 * run)}});
  }
  for (const SeenReport& report : await_reports(2)) EXPECT_EQ(report.code, StatusCode::Ok);
  std::vector<Answered> answers;
  while (answers.size() < 2) {
    harness_->loop->step();
    for (const Answered& answer : lane.read()) answers.push_back(answer);
  }
  EXPECT_EQ(answers[0], (Answered{1}));
  EXPECT_EQ(answers[1].id, 2u);
  EXPECT_EQ(answers[1].code, StatusCode::InvalidArgument);
  EXPECT_EQ(harness_->loop->unfinished_runs(), 0u);
}

// Where a run's bytes will be is known when its plan is loaded: a small output is taken to its
// place at its end, when another one may have written there.
TEST_F(AsynchronousLoadingTest, WriterOfTheSameBytesAwaitsTheEndOfOneThatIsBeingLoaded) {
  constexpr std::uint64_t kWords = 32'768;
  harness_->segment(kMemory, Words(kWords));
  ASSERT_TRUE((*harness_->source.queue.back().outcome)->pin(device_).has_value());
  harness_->load_library(1, "/fast");
  TestPlan large = fill_plan(5, 7);
  large.kernels[0].literals[0] = u64(kWords);
  large.kernels[0].arguments = {argument(0, kWords * 4, Access::Out)};
  large.allocations = {kWords * 4};
  large.stores = {wire::PlanRange(0, kWords * 4, 0, false)};
  harness_->load_plan(large);
  for (const SeenReport& report : await_reports(2)) ASSERT_EQ(report.code, StatusCode::Ok);
  harness_->load_library(2, "/slow");
  TestPlan small = fill_plan(2, 1);
  small.kernels[0].library = 2;
  harness_->load_plan(small);
  harness_->run({.run = 1, .plan = 2, .stores = {at(kMemory, 0)}});
  harness_->run({.run = 2, .plan = 5, .stores = {at(kMemory, 0)}, .after = {1}});
  harness_->loop->step();
  libraries_.let("/slow");
  await_reports(4);
  EXPECT_EQ(device_.follows(), 0u);
}

}  // namespace
}  // namespace kaas
