// Sessions: their end, their limits, what a client that does not read can do.
#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 64;
const Words kOnes(16, 1);

class EndingSessionTest : public HeldDispatcherTest {
 protected:
  EndingSessionTest() : before_(world.budget().used_bytes()) {}

  // Nothing is left of the sessions: what they stored is theirs to keep.
  void expect_nothing_leased() {
    settle();
    EXPECT_EQ(under_way(), 0u);
    EXPECT_EQ(world.store().usage().versions, world.store().usage().objects);
    for (auto& [number, state] : dispatcher().executors()) {
      EXPECT_EQ(state->link->outbox().leased_bytes(), 0u);
      EXPECT_TRUE(state->in_flight.empty());
      EXPECT_EQ(state->held_back, nullptr);
    }
    EXPECT_EQ(dispatcher().policy().waiting(), 0u);
  }
  std::uint64_t before_;
};

TEST_F(EndingSessionTest, QueuedWorkIsDroppedAndItsMemoryReturned) {
  submit(fill_request(store_buffer("x", kSlabObjectBytesMax + 1), 1));
  submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  step();
  EXPECT_EQ(under_way(), 2u);
  world.hang_up(*client);
  step();
  ASSERT_EQ(world.closed.size(), 1u);
  EXPECT_EQ(world.store().usage().versions, 0u);
  EXPECT_EQ(world.segments().alive(), 0u);
  EXPECT_EQ(world.budget().used_bytes(), 0u);
  EXPECT_EQ(world.watched(), 0u);
  expect_nothing_leased();
}

TEST_F(EndingSessionTest, RunningWorkFinishesIntoNothing) {
  put("x", kOnes);
  submit(fill_request(store_buffer("x", kBytes), 5));
  submit(fill_request(store_buffer("large", 100'000), 5));
  submit(add_one_request(segment_buffer("a", kBytes, client->arena())));
  const auto read = get("x");
  start();
  step();
  world.hang_up(*client);
  step();
  EXPECT_EQ(under_way(), 3u);
  settle();
  EXPECT_FALSE(answered(read));
  expect_nothing_leased();
  client = &world.connect();
  EXPECT_EQ(read_key("x"), kOnes);
  const auto none = get("large");
  settle();
  EXPECT_EQ(code(none), StatusCode::NotFound);
}

TEST_F(EndingSessionTest, WorkOfAClosedSessionIsNotTriedAgainWhenItsExecutorDies) {
  submit(fill_request(store_buffer("x", kBytes), 5));
  const auto number = start().number();
  step();
  world.hang_up(*client);
  world.end_executor(number);
  step();
  EXPECT_EQ(under_way(), 0u);
  EXPECT_EQ(world.budget().used_bytes(), 0u);
}

TEST_F(EndingSessionTest, StalledRingIsClosedWithoutItsMessage) {
  submit(fill_request(store_buffer("x", kBytes), 5));
  put("x", kOnes);
  step();
  world.hang_up(*client);
  start();
  expect_nothing_leased();
}

TEST_F(DispatcherTest, MalformedMessageEndsItsSessionOnly) {
  SimClient& other = world.connect(1001);
  Bytes garbage(100, std::byte{0xab});
  ASSERT_TRUE(client->send(0, garbage));
  ASSERT_TRUE(other.send(0, put_message(50, "y", to_bytes(kOnes))));
  settle();
  ASSERT_EQ(world.closed.size(), 1u);
  EXPECT_EQ(world.closed[0].second.code, StatusCode::ProtocolViolation);
  EXPECT_EQ(client->closed(0), static_cast<std::uint32_t>(StatusCode::ProtocolViolation));
  EXPECT_EQ(other.closed(0), 0u);
  EXPECT_EQ(code(50), StatusCode::Ok);
}

TEST_F(DispatcherTest, SlotThatCannotBeEndsItsSession) {
  Slot& slot = client->ring(0).submit.view().slots[0];
  slot.bytes = 10'000;
  slot.heap_offset = kInSlot;
  slot.sequence.store(1);
  step();
  ASSERT_EQ(world.closed.size(), 1u);
}

TEST_F(DispatcherTest, SessionIsOfferedNoMoreThanARingOfUnreadAnswers) {
  const auto message = stat_message(7, "none");
  std::size_t sent = 0;
  for (int round = 0; round < 10; ++round) {
    while (client->send(0, message)) ++sent;
    world.settle();
  }
  const std::size_t slots = client->ring(0).submit.view().geometry.slot_count;
  EXPECT_EQ(sent, 2 * slots);
  EXPECT_EQ(client->read(0).size(), slots);
  world.settle();
  EXPECT_EQ(client->read(0).size(), slots);
}

TEST_F(DispatcherTest, AnswersWaitForTheHeapOfAClientThatDoesNotRead) {
  put("x", Words(15'000, 3));  // Three of them fill a heap.
  settle();
  std::vector<std::uint64_t> ids;
  for (int i = 0; i < 12; ++i) ids.push_back(get("x"));
  world.settle();
  std::uint64_t wake_at = 0;
  dispatcher().prepare_to_sleep(wake_at);
  dispatcher().finish_sleep();
  EXPECT_NE(wake_at, 0u);
  for (int i = 0; i < 12; ++i) settle();
  for (const auto id : ids) EXPECT_EQ(words(id), Words(15'000, 3));
}

TEST_F(DispatcherTest, ConsumedCounterThatCannotBeEndsTheSession) {
  client->ring(0).submit.view().header->consumed.store(1'000'000);
  const auto message = stat_message(7, "none");
  for (int round = 0; round < 3 && world.closed.empty(); ++round) {
    while (client->send(0, message)) {
    }
    world.settle();
  }
  ASSERT_EQ(world.closed.size(), 1u);
  EXPECT_EQ(world.closed[0].second.code, StatusCode::ProtocolViolation);
}

TEST_F(DispatcherTest, DrainingRefusesNewWorkAndTellsWhenTheOldIsDone) {
  const auto old = submit(fill_request(store_buffer("x", kBytes), 1));
  world.step();
  int drained = 0;
  dispatcher().drain([&] { ++drained; });
  const auto late = put("y", kOnes);
  EXPECT_EQ(drained, 0);
  settle();
  EXPECT_EQ(drained, 1);
  EXPECT_EQ(code(old), StatusCode::Ok);
  EXPECT_EQ(code(late), StatusCode::Unavailable);
}

// --- What does not fit, ever ---------------------------------------------------------------------

TEST_F(DispatcherTest, OutputsThatDoNotFitTheOutboxAreRefusedAndBlockNobody) {
  RequestSpec request;
  for (std::uint16_t i = 0; i < 24; ++i) {
    request.buffers.push_back(store_buffer("k" + std::to_string(i), kSlabObjectBytesMax));
    request.kernels.push_back(fill_kernel(1, 1, i));
  }
  for (KernelSpec& kernel : request.kernels) kernel.literals[0] = literal_u64(1);
  WorldOptions options;
  options.executor.device.memory_bytes = 16u << 20;
  World roomy(options);
  SimClient& one = roomy.connect();
  ASSERT_TRUE(one.send(0, submit_message(1, encode_request(request))));
  const auto small = encode_request(fill_request(store_buffer("x", kBytes), 1));
  ASSERT_TRUE(one.send(0, submit_message(2, small)));
  for (int i = 0; i < 50; ++i) {
    roomy.step();
    roomy.do_chores();
    for (auto& [number, executor] : roomy.executors()) executor->step();
  }
  std::map<std::uint64_t, SeenAnswer> seen;
  for (SeenAnswer& answer : one.read(0)) seen[answer.id] = answer;
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[1].code, StatusCode::ResourceExhausted) << seen[1].message;
  EXPECT_NE(seen[1].message.find("1048576"), std::string::npos) << seen[1].message;
  EXPECT_EQ(seen[2].code, StatusCode::Ok);
}

TEST_F(DispatcherTest, PlanThatDoesNotFitAWorkMessageIsRefusedAndBlocksNobody) {
  RequestSpec request;
  for (std::uint16_t i = 0; i < 64; ++i) {
    request.buffers.push_back(store_buffer("k" + std::to_string(i), 4));
    request.buffers.back().ephemeral = true;
  }
  KernelSpec kernel = fake_kernel("noop", {}, {});
  for (std::uint16_t i = 0; i < 64; ++i) {
    kernel.arguments.push_back({i, wire::Access::Temporary});
  }
  request.kernels.assign(100, kernel);  // 24 bytes an argument; half a heap has 131072.
  const auto huge = submit(request);
  const auto small = submit(fill_request(store_buffer("x", kBytes), 1));
  for (int i = 0; i < 50; ++i) {
    world.step();
    world.do_chores();
    for (auto& [number, executor] : world.executors()) executor->step();
  }
  read();
  EXPECT_EQ(code(huge), StatusCode::ResourceExhausted) << answers[huge].message;
  EXPECT_NE(answers[huge].message.find("131072"), std::string::npos) << answers[huge].message;
  EXPECT_EQ(code(small), StatusCode::Ok);
}

TEST_F(DispatcherTest, AnswerThatDoesNotFitAMessageComesWithoutItsNames) {
  RequestSpec request;
  for (std::uint16_t i = 0; i < 304; ++i) {
    const std::string name = std::string(200, 'n') + std::to_string(i);
    request.buffers.push_back(i < 300 ? store_buffer(name, 4, "k" + std::to_string(i))
                                      : inline_buffer(name, 60'000));
    request.kernels.push_back(fill_kernel(1, i, i));
  }
  WorldOptions options;
  options.client_rings = {64, 512u << 10};  // Messages of 256 KiB at most.
  World roomy(options);
  SimClient& one = roomy.connect();
  ASSERT_TRUE(one.send(0, submit_message(1, encode_request(request))));
  roomy.settle();
  const auto seen = one.read(0);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].code, StatusCode::Ok) << seen[0].message;
  ASSERT_EQ(seen[0].outputs.size(), 304u);
  EXPECT_TRUE(seen[0].outputs[300].name.empty());
  EXPECT_EQ(to_words(seen[0].outputs[303].data).front(), 303u);
}

}  // namespace
}  // namespace kaas
