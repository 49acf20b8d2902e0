// What clients are told when something fails: requests, deadlines, executors.
#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 64;
const Words kOnes(16, 1);

TEST_F(DispatcherTest, FailedRequestChangesNothing) {
  put("x", kOnes);
  RequestSpec request;
  request.buffers = {store_buffer("x", kBytes), store_buffer("y", kBytes)};
  request.kernels = {fill_kernel(16, 5, 0), fill_kernel(16, 5, 1), fake_kernel("fail", {}, {})};
  const auto failed = submit(request);
  settle();
  EXPECT_EQ(code(failed), StatusCode::KernelFault);
  EXPECT_EQ(read_key("x"), kOnes);
  const auto none = get("y");
  settle();
  EXPECT_EQ(code(none), StatusCode::NotFound);
}

TEST_F(DispatcherTest, WhoReadsAFailedRequestsOutputFailsWithIt) {
  put("x", kOnes);
  submit(failing_request(store_buffer("x", kBytes)));
  const auto reader = submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  const auto second = submit(copy_request(store_buffer("y", kBytes), store_buffer("z", kBytes)));
  const auto read = get("x");
  const auto writer = submit(fill_request(store_buffer("x", kBytes), 2));
  settle();
  EXPECT_EQ(code(reader), StatusCode::DependencyFailed);
  EXPECT_EQ(code(second), StatusCode::DependencyFailed);
  EXPECT_EQ(code(read), StatusCode::DependencyFailed);
  EXPECT_EQ(code(writer), StatusCode::Ok);
  EXPECT_EQ(read_key("x"), Words(16, 2));
}

TEST_F(DispatcherTest, LaunchThatTheDeviceRefusesFailsItsRequestAlone) {
  submit(fill_request(store_buffer("x", kBytes), 1));
  settle();
  world.executor().device().fail_launch(2);
  const auto good = submit(fill_request(store_buffer("a", kBytes), 1));
  const auto bad = submit(fill_request(store_buffer("b", kBytes), 1));
  const auto last = submit(fill_request(store_buffer("c", kBytes), 1));
  settle();
  EXPECT_EQ(code(good), StatusCode::Ok);
  EXPECT_EQ(code(bad), StatusCode::KernelFault);
  EXPECT_EQ(code(last), StatusCode::Ok);
}

TEST_F(DispatcherTest, WorkingSetBeyondTheDeviceIsRefusedWithBothNumbers) {
  const auto id = submit(fill_request(store_buffer("x", 4u << 20), 1));
  settle();
  EXPECT_EQ(code(id), StatusCode::OutOfMemory);
  EXPECT_NE(answer(id).message.find("4194304"), std::string::npos) << answer(id).message;
  EXPECT_NE(answer(id).message.find("1048576"), std::string::npos) << answer(id).message;
}

TEST_F(DispatcherTest, PrepareOfAMissingLibraryFailsAndItsPlanIsUnknown) {
  auto request = fill_request(store_buffer("x", kBytes), 1, "missing");
  const auto prepared =
      send([&](std::uint64_t id) { return prepare_message(id, encode_request(request)); });
  settle();
  EXPECT_EQ(code(prepared), StatusCode::NotFound);
  const auto invoked = send([&](std::uint64_t id) { return invoke_message(id, 1); });
  settle();
  EXPECT_EQ(code(invoked), StatusCode::NotFound);
}

TEST_F(DispatcherTest, PreparedPlanIsInvokedWithOtherKeys) {
  put("a", kOnes);
  const auto request = copy_request(store_buffer("in", kBytes), store_buffer("out", kBytes));
  const auto prepared =
      send([&](std::uint64_t id) { return prepare_message(id, encode_request(request)); });
  settle();
  ASSERT_EQ(code(prepared), StatusCode::Ok);
  const std::uint32_t plan = answer(prepared).plan;
  const auto invoked = send([&](std::uint64_t id) {
    return invoke_message(id, plan, {{"in", "a"}, {"out", "b"}});
  });
  const auto released = send([&](std::uint64_t id) { return release_message(id, plan); });
  const auto again = send([&](std::uint64_t id) { return invoke_message(id, plan); });
  settle();
  EXPECT_EQ(code(invoked), StatusCode::Ok);
  EXPECT_EQ(code(released), StatusCode::Ok);
  EXPECT_EQ(code(again), StatusCode::NotFound);
  EXPECT_EQ(read_key("b"), kOnes);
}

// --- Cancellation and deadlines ------------------------------------------------------------------

TEST_F(HeldDispatcherTest, RequestsThatWaitAreCancelledHereAndAtTheExecutor) {
  const auto queued = submit(fill_request(store_buffer("x", kBytes), 1));
  const auto first = cancel(queued);
  const auto unknown = cancel(999);
  step();
  EXPECT_EQ(code(queued), StatusCode::Cancelled);
  EXPECT_EQ(code(first), StatusCode::Ok);
  EXPECT_EQ(code(unknown), StatusCode::NotFound);
  start();
  step();
  const auto sent = submit(fill_request(store_buffer("x", kBytes), 1));
  const auto behind = submit(fill_request(store_buffer("x", kBytes), 2));
  step();
  const auto at_executor = cancel(behind);
  step();
  EXPECT_FALSE(answered(at_executor));  // Only the executor knows whether it was started.
  settle();
  EXPECT_EQ(code(sent), StatusCode::Ok);
  // Its one thread had run both by the time that it read of the cancellation.
  EXPECT_EQ(code(behind), StatusCode::Ok);
  EXPECT_EQ(code(at_executor), StatusCode::InvalidArgument);
}

TEST_F(HeldDispatcherTest, DeadlineDropsAQueuedRequest) {
  RunOptions options;
  options.deadline_ns = world.now + 1'000;
  const auto id = submit(fill_request(store_buffer("x", kBytes), 1), options);
  step();
  EXPECT_FALSE(answered(id));
  std::uint64_t wake_at = 0;
  EXPECT_TRUE(dispatcher().prepare_to_sleep(wake_at));
  EXPECT_EQ(wake_at, options.deadline_ns);
  dispatcher().finish_sleep();
  world.now += 1'000;
  step();
  EXPECT_EQ(code(id), StatusCode::DeadlineExceeded);
  EXPECT_EQ(under_way(), 0u);
}

TEST_F(HeldDispatcherTest, DeadlineOfARunningRequestDiscardsItsResult) {
  put("x", kOnes);
  SimExecutor& executor = start();
  step();
  RunOptions options;
  options.deadline_ns = world.now + 1'000;
  const auto id = submit(fill_request(store_buffer("x", kBytes), 5), options);
  const auto reader = submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  step();
  world.now += 1'000;
  step();
  EXPECT_EQ(code(id), StatusCode::DeadlineExceeded);
  EXPECT_FALSE(answered(reader));
  EXPECT_TRUE(world.killed.empty());
  executor.step();
  settle();
  EXPECT_EQ(code(reader), StatusCode::DependencyFailed);
  EXPECT_EQ(read_key("x"), kOnes);
  EXPECT_EQ(under_way(), 0u);
}

// --- The end of an executor ----------------------------------------------------------------------

// Fails with it in flight whenever it is tried, as a kernel that ends its process does.
class DyingExecutorTest : public HeldDispatcherTest {
 protected:
  // An executor takes what is queued, and dies before it reports anything.
  void die(const std::string& cause = "signal 11 (Segmentation fault)") {
    const std::uint32_t number = start().number();
    step();
    step();
    world.end_executor(number, cause);
    step();
  }
  [[nodiscard]] std::size_t in_flight() {
    return dispatcher().executors().begin()->second->in_flight.size();
  }
};

TEST_F(DyingExecutorTest, ReplayableRequestsAreTriedAgainOneByOne) {
  std::vector<std::uint64_t> ids;
  for (std::uint32_t i = 0; i < 3; ++i) {
    ids.push_back(submit(fill_request(store_buffer("k" + std::to_string(i), kBytes), i)));
  }
  die();
  for (const auto id : ids) EXPECT_FALSE(answered(id));
  SimExecutor& executor = start();
  step();
  EXPECT_EQ(in_flight(), 1u);
  while (executor.step() == StepOutcome::Progress) {
  }
  step();
  EXPECT_EQ(in_flight(), 1u);
  settle();
  for (const auto id : ids) EXPECT_EQ(code(id), StatusCode::Ok);
}

TEST_F(DyingExecutorTest, RequestThatKillsTwiceGetsKernelFaultWithTheCause) {
  const auto bad = submit(fill_request(store_buffer("x", kBytes), 1));
  const auto reader = submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  const auto other = submit(fill_request(store_buffer("z", kBytes), 1));
  die();
  die("signal 6 (Aborted)");
  EXPECT_EQ(code(bad), StatusCode::KernelFault);
  EXPECT_NE(answer(bad).message.find("signal 6"), std::string::npos);
  start();
  settle();
  EXPECT_EQ(code(reader), StatusCode::DependencyFailed);
  EXPECT_EQ(code(other), StatusCode::Ok);
}

TEST_F(DyingExecutorTest, RequestThatOverwritesItsInputIsNotTriedAgain) {
  const auto arena = client->arena();
  const auto in_place = submit(add_one_request(segment_buffer("a", kBytes, arena)));
  const auto separate = submit(fill_request(segment_buffer("b", kBytes, arena, 4096), 2));
  die();
  EXPECT_EQ(code(in_place), StatusCode::UnknownOutcome);
  EXPECT_FALSE(answered(separate));
  start();
  settle();
  EXPECT_EQ(code(separate), StatusCode::Ok);
  EXPECT_EQ(to_words(client->arena_bytes().subspan(4096, kBytes)), Words(16, 2));
}

TEST_F(DyingExecutorTest, RequestWhoseInputALaterOneOverwritesIsNotTriedAgain) {
  const auto arena = client->arena();
  const auto reader = submit(
      copy_request(segment_buffer("a", kBytes, arena), segment_buffer("b", kBytes, arena, 4096)));
  const auto writer = submit(fill_request(segment_buffer("a", kBytes, arena), 2));
  const auto bystander = submit(copy_request(segment_buffer("c", kBytes, arena, 8192),
                                             segment_buffer("d", kBytes, arena, 12'288)));
  die();
  EXPECT_EQ(code(reader), StatusCode::UnknownOutcome);
  EXPECT_NE(answer(reader).message.find("a later request may have overwritten its input"),
            std::string::npos)
      << answer(reader).message;
  start();
  settle();
  EXPECT_EQ(code(writer), StatusCode::Ok);
  EXPECT_EQ(code(bystander), StatusCode::Ok);
}

TEST_F(DyingExecutorTest, WhatWaitedForARequestThatIsNotTriedAgainEndsOnceToo) {
  const auto first = submit(add_one_request(segment_buffer("a", kBytes, client->arena())));
  const auto second = submit(add_one_request(segment_buffer("a", kBytes, client->arena())));
  die();
  EXPECT_EQ(code(first), StatusCode::UnknownOutcome);
  EXPECT_EQ(code(second), StatusCode::UnknownOutcome);
  EXPECT_EQ(under_way(), 0u);
  EXPECT_EQ(dispatcher().policy().waiting(), 0u);
}

TEST_F(DyingExecutorTest, StatefulLibraryIsNotTriedAgainOnceItsStateIsKnown) {
  const auto warm = submit(fill_request(store_buffer("x", kBytes), 1, "stateful"));
  SimExecutor& first = start();
  settle();
  ASSERT_EQ(code(warm), StatusCode::Ok);
  const auto id = submit(fill_request(store_buffer("x", kBytes), 1, "stateful"));
  step();
  world.end_executor(first.number());
  step();
  EXPECT_EQ(code(id), StatusCode::UnknownOutcome);
  EXPECT_NE(answer(id).message.find("state"), std::string::npos);
}

TEST_F(DyingExecutorTest, QueuedRequestsDoNotNoticeTheEndOfAnExecutor) {
  const std::uint32_t number = start().number();
  step();
  const auto id = submit(fill_request(store_buffer("x", kBytes), 1));
  world.end_executor(number);
  step();
  EXPECT_FALSE(answered(id));
  EXPECT_FALSE(world.wanted.empty());
  start();
  step();
  dispatcher().runs().for_each([](const auto& run) { EXPECT_EQ(run.strikes, 0u); });
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
}

TEST_F(DyingExecutorTest, WhatItReportedBeforeItsEndHasHappened) {
  const auto arena = client->arena();
  const auto in_place = submit(add_one_request(segment_buffer("a", kBytes, arena)));
  SimExecutor& executor = start();
  step();
  while (executor.step() == StepOutcome::Progress) {
  }
  world.end_executor(executor.number());
  step();
  EXPECT_EQ(code(in_place), StatusCode::Ok);
  EXPECT_EQ(to_words(client->arena_bytes().first(kBytes)), kOnes);
}

TEST_F(DyingExecutorTest, PrepareIsTriedAgain) {
  const auto request = encode_request(fill_request(store_buffer("x", kBytes), 1));
  const auto id = send([&](std::uint64_t n) { return prepare_message(n, request); });
  die();
  EXPECT_FALSE(answered(id));
  start();
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
}

TEST_F(HeldDispatcherTest, ExecutorThatCannotBeStartedFailsWhatWaitsForIt) {
  const auto a = submit(fill_request(store_buffer("x", kBytes), 1));
  const auto b = submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  const auto unaffected = put("z", kOnes);
  step();
  ASSERT_FALSE(world.wanted.empty());
  dispatcher().executor_failed(client->uid(), 1, Status{StatusCode::Unavailable, "no executor"});
  step();
  EXPECT_EQ(code(a), StatusCode::Unavailable);
  EXPECT_NE(code(b), StatusCode::Ok);
  EXPECT_EQ(code(unaffected), StatusCode::Ok);
  EXPECT_EQ(under_way(), 0u);
}

// --- The limit on running time -------------------------------------------------------------------

class LimitedDispatcherTest : public DispatcherTest {
 protected:
  static constexpr std::uint64_t kLimit = 1'000'000;
  static WorldOptions options() {
    WorldOptions limited;
    limited.start_executors = false;
    limited.running_limit_ns = kLimit;
    return limited;
  }
  LimitedDispatcherTest() : DispatcherTest(options()) {
    executor = &world.start_executor(client->uid());
    executor->step();
    step();
  }
  SimExecutor* executor = nullptr;
};

TEST_F(LimitedDispatcherTest, RequestThatRunsTooLongEndsItsExecutorAndIsToldSo) {
  const auto id = submit(fill_request(store_buffer("x", kBytes), 1));
  step();
  std::uint64_t wake_at = 0;
  dispatcher().prepare_to_sleep(wake_at);
  dispatcher().finish_sleep();
  EXPECT_EQ(wake_at, world.now + kLimit);
  world.now += kLimit;
  step();
  EXPECT_EQ(world.killed.size(), 1u);
  EXPECT_EQ(code(id), StatusCode::DeadlineExceeded);
}

TEST_F(LimitedDispatcherTest, OthersInFlightAreTriedAgainAlone) {
  const auto id = submit(fill_request(store_buffer("x", kBytes), 1));
  const auto other = submit(fill_request(store_buffer("y", kBytes), 1));
  step();
  world.now += kLimit;
  step();
  EXPECT_FALSE(answered(id));
  EXPECT_FALSE(answered(other));
  world.start_executor(client->uid());
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_EQ(code(other), StatusCode::Ok);
}

TEST_F(LimitedDispatcherTest, PreparingIsTimedFromWhenItIsSent) {
  world.now += 100 * kLimit;
  const auto request = encode_request(fill_request(store_buffer("x", kBytes), 1));
  const auto id = send([&](std::uint64_t n) { return prepare_message(n, request); });
  step();
  world.now += 1;
  step();
  EXPECT_TRUE(world.killed.empty());
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
}

// Waiting behind others at the executor is not running.
TEST_F(LimitedDispatcherTest, TimeBehindOthersDoesNotCount) {
  const auto first = submit(fill_request(store_buffer("x", kBytes), 1));
  const auto second = submit(fill_request(store_buffer("y", kBytes), 1));
  step();
  world.now += kLimit - 1;
  const auto number = executor->number();
  const auto forge = [&](std::uint64_t run) {
    flatbuffers::FlatBufferBuilder b;
    b.Finish(wire::CreateReportItem(b, wire::Report::RunDone, wire::CreateRunDone(b, run).Union()));
    world.executors().at(number)->forge_report(finished(b));
  };
  std::map<std::uint64_t, std::uint64_t> runs;
  dispatcher().runs().for_each([&](const auto& run) { runs[run.id] = run.number; });
  forge(runs[first]);
  step();
  EXPECT_TRUE(answered(first));
  world.now += kLimit - 1;
  step();
  EXPECT_TRUE(world.killed.empty());
  forge(runs[second]);
  step();
  EXPECT_TRUE(answered(second));
}

}  // namespace
}  // namespace kaas
