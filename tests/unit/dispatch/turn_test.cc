// How much of one client's work the others wait for. Work is counted (dispatch/work.h), not timed.
#include "daemon/dispatch/work.h"
#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 64;
constexpr std::size_t kOutputs = 2000;
static_assert(kOutputs > kWorkPerTurn, "one such request is a turn's work");

// `client` has prepared a plan of many outputs; `other` does little.
class TurnTest : public HeldDispatcherTest {
 protected:
  static WorldOptions options() {
    WorldOptions wide = HeldDispatcherTest::options();
    wide.client_rings = {256, 8u << 20};
    wide.executor.geometry = {1024, 8u << 20};
    wide.executor.outbox_bytes = 16u << 20;
    return wide;
  }
  TurnTest() : HeldDispatcherTest(options()) {
    client = &world.connect(1000, 2);
    other = &world.connect(1001);
    RequestSpec request;
    for (std::size_t b = 0; b < kOutputs; ++b) {
      request.buffers.push_back(store_buffer("b" + std::to_string(b), kBytes));
      request.kernels.push_back(fill_kernel(kBytes / 4, 1, static_cast<std::uint16_t>(b)));
    }
    send([&](std::uint64_t id) { return prepare_message(id, encode_request(request)); });
    step();
  }
  void invoke(std::size_t times, std::size_t ring = 0) {
    for (std::size_t n = 0; n < times; ++n) {
      send([](std::uint64_t id) { return invoke_message(id, 1); }, ring);
    }
  }
  [[nodiscard]] std::size_t taken_of(std::size_t ring) {
    return dispatcher().find_session(client->session())->rings[ring]->runs.size();
  }

  SimClient* other = nullptr;
};

TEST_F(TurnTest, CheapMessageIsAnsweredBehindOneExpensiveRequest) {
  invoke(64);
  ASSERT_TRUE(other->send(0, put_message(1'000'000, "x", to_bytes(Words(4, 1)))));
  world.step();
  EXPECT_EQ(taken_of(0), 1u + 1u);  // And the one that prepares.
  EXPECT_EQ(other->read(0).size(), 1u);
  step();
  EXPECT_EQ(taken_of(0), 1u + 64u);
}

TEST_F(TurnTest, SmallMessagesOfAllRingsAreTakenTogether) {
  for (std::size_t n = 0; n < 64; ++n) {
    for (const std::size_t ring : {0, 1})
      submit(fill_request(store_buffer("x", kBytes), 1), {}, ring);
  }
  world.step();
  EXPECT_EQ(taken_of(0), 1u + 64u);
  EXPECT_EQ(taken_of(1), 64u);
}

TEST_F(TurnTest, RingsOfASessionTakeTurns) {
  invoke(10, 0);
  invoke(10, 1);
  for (std::size_t turn = 1; turn <= 4; ++turn) {
    world.step();
    EXPECT_EQ(taken_of(0) - 1 + taken_of(1), turn);
  }
  EXPECT_EQ(taken_of(0) - 1, 2u);
  EXPECT_EQ(taken_of(1), 2u);
}

TEST_F(TurnTest, RequestsAreSentToAnExecutorATurnAtATime) {
  invoke(20);
  step();
  SimExecutor& executor = start();
  world.step();  // It is ready, and takes the one that prepares first.
  const auto& in_flight = dispatcher().executors().at(executor.number())->in_flight;
  EXPECT_LE(in_flight.size(), 2u);
  step();
  EXPECT_EQ(in_flight.size(), 21u);
}

TEST_F(TurnTest, ResultsArePublishedATurnAtATime) {
  invoke(20);
  step();
  SimExecutor& executor = start();
  step();
  for (int n = 0; n < 100; ++n) executor.step();
  world.step();
  read();
  EXPECT_LE(answers.size(), 2u);  // Of which one is that the plan is prepared.
  settle();
  EXPECT_EQ(answers.size(), 21u);
  EXPECT_EQ(under_way(), 0u);
}

TEST_F(TurnTest, DeadlinesOfManyRequestsPassATurnAtATime) {
  RunOptions soon;
  soon.deadline_ns = world.now + 1000;
  for (int n = 0; n < 20; ++n) {
    send([&](std::uint64_t id) { return invoke_message(id, 1, {}, soon); });
  }
  step();
  world.now += 2000;
  world.step();
  EXPECT_EQ(taken_of(0), 20u);
  step();
  EXPECT_EQ(taken_of(0), 1u);
}

}  // namespace
}  // namespace kaas
