// Who is woken, and who is left asleep.
#include <poll.h>

#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

bool rings(const Doorbell& doorbell) {
  pollfd waiting{doorbell.descriptor(), POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

TEST_F(HeldDispatcherTest, SleepingClientIsWokenByAnAnswerAndByNothingElse) {
  SimClient::Ring& ring = client->ring(0);
  const auto word = [&] { return ring.completion.view().header->wake_word.load(); };
  submit(fill_request(store_buffer("x", 64), 1));
  step();
  announce_sleep(*ring.submit.view().header);
  const std::uint32_t asleep = word();
  // Another client keeps kaasd busy.
  SimClient& other = world.connect();
  for (std::uint64_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(other.send(0, stat_message(100 + i, "none")));
    world.step();
  }
  EXPECT_EQ(word(), asleep);
  start();
  settle();
  EXPECT_EQ(word(), asleep + 1);
}

TEST_F(DispatcherTest, DeadlineOfAFinishedRequestIsForgotten) {
  RunOptions options;
  options.deadline_ns = world.now + 1'000'000'000'000;
  const auto id = submit(fill_request(store_buffer("x", 64), 1), options);
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  std::uint64_t wake_at = 0;
  dispatcher().prepare_to_sleep(wake_at);
  dispatcher().finish_sleep();
  EXPECT_NE(wake_at, options.deadline_ns);
}

TEST_F(HeldDispatcherTest, RequestThatIsBeingCancelledIsNotTriedAgain) {
  SimExecutor& executor = start();
  const auto id = submit(fill_request(store_buffer("x", 64), 1));
  step();
  const auto cancelled = cancel(id);
  step();
  world.end_executor(executor.number());
  step();
  EXPECT_EQ(code(id), StatusCode::Cancelled);
  EXPECT_EQ(code(cancelled), StatusCode::Ok);
}

TEST_F(DispatcherTest, ClientOnItsDoorbellIsRungByAnAnswer) {
  SimClient::Ring& ring = client->ring(0);
  RingHeader& own = *ring.submit.view().header;
  own.sleeps_on_doorbell.store(1);
  announce_sleep(own);
  step();
  EXPECT_FALSE(rings(ring.doorbell));
  stat("none");
  step();
  EXPECT_TRUE(rings(ring.doorbell));
}

TEST_F(DispatcherTest, SleepingExecutorIsRungByWorkAndByNothingElse) {
  SimExecutor& executor = world.start_executor(client->uid());
  settle();
  ASSERT_TRUE(executor.doorbell().clear());
  ASSERT_TRUE(executor.loop().announce_sleep());
  stat("none");
  step();
  EXPECT_FALSE(rings(executor.doorbell()));
  submit(fill_request(store_buffer("x", 64), 1));
  step();
  EXPECT_TRUE(rings(executor.doorbell()));
  executor.loop().retract_sleep();
}

TEST_F(DispatcherTest, SleepingDaemonIsRungByReportsAndByNothingElse) {
  SimExecutor& executor = world.start_executor(client->uid());
  settle();
  submit(fill_request(store_buffer("x", 64), 1));
  step();
  std::uint64_t wake_at = 0;
  ASSERT_TRUE(dispatcher().prepare_to_sleep(wake_at));
  const int kaasd = dispatcher().executors().begin()->second->link->doorbell_descriptor();
  const auto rung = [&] {
    pollfd waiting{kaasd, POLLIN, 0};
    return ::poll(&waiting, 1, 0) > 0;
  };
  EXPECT_FALSE(rung());
  while (executor.step() == StepOutcome::Progress) {
  }
  EXPECT_TRUE(rung());
  dispatcher().finish_sleep();
  settle();
  dispatcher().doorbell(0, executor.number());
  ASSERT_TRUE(dispatcher().prepare_to_sleep(wake_at));
  for (int i = 0; i < 10; ++i) executor.step();
  EXPECT_FALSE(rung());
  dispatcher().finish_sleep();
}

TEST_F(DispatcherTest, DaemonDoesNotSleepOverAMessageOrACommand) {
  settle();
  std::uint64_t wake_at = 0;
  ASSERT_TRUE(dispatcher().prepare_to_sleep(wake_at));
  EXPECT_EQ(wake_at, 0u);
  dispatcher().finish_sleep();
  stat("none");
  EXPECT_FALSE(dispatcher().prepare_to_sleep(wake_at));
  dispatcher().finish_sleep();
  settle();
  int woken = 0;
  int ran = 0;
  dispatcher().set_waker([&] { ++woken; });
  dispatcher().post([&](Dispatcher&) { ++ran; });
  EXPECT_EQ(woken, 1);
  EXPECT_FALSE(dispatcher().prepare_to_sleep(wake_at));
  dispatcher().finish_sleep();
  world.step();
  EXPECT_EQ(ran, 1);
}

TEST_F(DispatcherTest, FlagsAreRaisedBeforeTheLastLookAndTakenBack) {
  const RingHeader& header = *client->ring(0).completion.view().header;
  std::uint64_t wake_at = 0;
  dispatcher().prepare_to_sleep(wake_at);
  EXPECT_EQ(header.sleeping.load() & 1u, 1u);
  dispatcher().finish_sleep();
  EXPECT_EQ(header.sleeping.load() & 1u, 0u);
}

}  // namespace
}  // namespace kaas
