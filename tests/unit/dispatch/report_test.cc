// Executors that lie: the worst that comes of it is their own end.
#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 64;

class LyingExecutorTest : public HeldDispatcherTest {
 protected:
  LyingExecutorTest() {
    liar = &start();
    step();
  }
  template <class Create>
  void forge(wire::Report type, Create create) {
    flatbuffers::FlatBufferBuilder b;
    b.Finish(wire::CreateReportItem(b, type, create(b).Union()));
    liar->forge_report(finished(b));
  }
  void forge_done(std::uint64_t run, StatusCode code = StatusCode::Ok) {
    forge(wire::Report::RunDone, [&](auto& b) { return wire::CreateRunDone(b, run, code); });
  }
  std::uint64_t run_of(std::uint64_t id) {
    std::uint64_t number = 0;
    dispatcher().runs().for_each([&](const auto& run) {
      if (run.id == id) number = run.number;
    });
    return number;
  }
  void expect_killed() {
    EXPECT_EQ(world.killed, std::vector<std::uint32_t>{1});
    EXPECT_TRUE(dispatcher().executors().empty());
  }

  SimExecutor* liar = nullptr;
};

TEST_F(LyingExecutorTest, ReportThatIsNoMessageEndsIt) {
  liar->forge_report(Bytes(40, std::byte{0xee}));
  step();
  expect_killed();
}

TEST_F(LyingExecutorTest, SlotThatCannotBeEndsIt) {
  const std::uint64_t next = liar->work().header->consumed.load();
  Slot& slot = liar->report().slots[next];
  slot.bytes = 1u << 30;
  slot.heap_offset = 64;
  slot.sequence.store(next + 1);
  step();
  expect_killed();
}

TEST_F(LyingExecutorTest, ReportTypeWithoutItsReportEndsIt) {
  flatbuffers::FlatBufferBuilder b;
  wire::ReportItemBuilder item(b);
  item.add_report_type(wire::Report::RunDone);
  b.Finish(item.Finish());
  liar->forge_report(finished(b));
  step();
  expect_killed();
}

TEST_F(LyingExecutorTest, UnknownStatusCodeEndsIt) {
  const auto id = submit(fill_request(store_buffer("x", kBytes), 1));
  step();
  forge_done(run_of(id), static_cast<StatusCode>(200));
  step();
  expect_killed();
  start();
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
}

TEST_F(LyingExecutorTest, RunsThatItDoesNotHaveEndIt) {
  forge_done(12345);
  step();
  expect_killed();
}

TEST_F(LyingExecutorTest, SecondReadyEndsIt) {
  forge(wire::Report::Ready, [](auto& b) { return wire::CreateReady(b, 0, 1); });
  step();
  expect_killed();
}

TEST_F(LyingExecutorTest, RunReportedBeforeTheOneItWaitsForHarmsNobody) {
  const auto first = submit(fill_request(store_buffer("x", kBytes), 1));
  const auto second = submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  const auto third = submit(copy_request(store_buffer("y", kBytes), store_buffer("z", kBytes)));
  step();
  forge_done(run_of(second));
  forge_done(run_of(third));
  forge_done(run_of(first));
  step();
  EXPECT_TRUE(answered(first) && answered(second) && answered(third));
  EXPECT_EQ(under_way(), 0u);
}

TEST_F(LyingExecutorTest, NothingOfItIsReadAfterAViolation) {
  const auto id = submit(fill_request(store_buffer("x", kBytes), 1));
  step();
  forge_done(12345);
  forge_done(run_of(id));
  world.step();
  world.step();
  read();
  EXPECT_FALSE(answered(id));
}

TEST_F(DispatcherTest, FloodOfReportsDoesNotHoldTheDaemon) {
  WorldOptions options;
  options.executor.geometry = {1024, 256u << 10};
  options.start_executors = false;
  World flooded(options);
  SimExecutor& liar = flooded.start_executor(client->uid());
  flatbuffers::FlatBufferBuilder b;
  b.Finish(wire::CreateReportItem(b, wire::Report::CountersReport,
                                  wire::CreateCountersReport(b).Union()));
  for (int i = 0; i < 1000; ++i) liar.forge_report(finished(b));
  EXPECT_LE(flooded.step(), 256u);
  EXPECT_LE(flooded.step(), 256u);
}

TEST_F(LyingExecutorTest, UnknownPlansAndLibrariesEndIt) {
  forge(wire::Report::PlanLoaded, [](auto& b) { return wire::CreatePlanLoaded(b, 77); });
  step();
  expect_killed();
}

TEST_F(LyingExecutorTest, PlanLoadedTwiceIsTakenOnce) {
  const auto request = encode_request(fill_request(store_buffer("x", kBytes), 1));
  const auto id = send([&](std::uint64_t n) { return prepare_message(n, request); });
  step();
  const auto report = [](auto& b) { return wire::CreatePlanLoaded(b, 1); };
  forge(wire::Report::PlanLoaded, report);
  forge(wire::Report::PlanLoaded, report);
  step();
  EXPECT_EQ(code(id), StatusCode::Ok);
}

// Anyone may ask for the status, as often as he likes.
TEST_F(LyingExecutorTest, CountersAreAskedForOnceUntilTheyCome) {
  const auto asked = [&] {
    dispatcher().ask_for_counters();
    step();
    return dispatcher().executors().begin()->second->link->items_sent();
  };
  const std::uint64_t first = asked();
  for (int n = 0; n < 100; ++n) EXPECT_EQ(asked(), first);
  forge(wire::Report::CountersReport, [](auto& b) { return wire::CreateCountersReport(b); });
  step();
  EXPECT_EQ(asked(), first + 1);
}

TEST_F(LyingExecutorTest, LibraryThatOneHasLoadedIsNotForgottenForAnother) {
  const auto request = encode_request(fill_request(store_buffer("x", kBytes), 1));
  send([&](std::uint64_t n) { return prepare_message(n, request); });
  step();
  const auto loaded = [&](StatusCode code) {
    forge(wire::Report::LibraryLoaded,
          [&](auto& b) { return wire::CreateLibraryLoaded(b, 1, code); });
    step();
  };
  loaded(StatusCode::Ok);
  ASSERT_EQ(dispatcher().instances().libraries().count(1), 1u);
  loaded(StatusCode::PermissionDenied);
  EXPECT_EQ(dispatcher().instances().libraries().count(1), 1u);
}

TEST_F(LyingExecutorTest, LibraryThatNobodyHasLoadedIsForgotten) {
  const auto request = encode_request(fill_request(store_buffer("x", kBytes), 1));
  send([&](std::uint64_t n) { return prepare_message(n, request); });
  step();
  ASSERT_EQ(dispatcher().instances().libraries().count(1), 1u);
  forge(wire::Report::LibraryLoaded,
        [](auto& b) { return wire::CreateLibraryLoaded(b, 1, StatusCode::PermissionDenied); });
  step();
  EXPECT_EQ(dispatcher().instances().libraries().count(1), 0u);
}

}  // namespace
}  // namespace kaas
