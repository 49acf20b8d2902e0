// The client's end of a lane, against a daemon and an executor that the test plays.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <kaas/client.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <random>
#include <thread>
#include <tuple>

#include "schema/ipc/clock.h"
#include "schema/ipc/lane.h"
#include "tests/support/eventually.h"
#include "tests/support/loopback_peer.h"

namespace kaas {
namespace {

Request small_request() {
  RequestBuilder builder;
  builder.buffer("x", 8);
  builder.kernel("std", "fill").out("x");
  return *builder.build();
}

// Both segments of a lane, its bell, and the executor's rings over them.
struct PlayedLane {
  Descriptor in;
  Descriptor out;
  Mapping in_mapping;
  Mapping out_mapping;
  RingReader reader;
  RingWriter writer;
  MessageBuffer buffer{kLaneGeometry.message_bytes_max()};
  Doorbell bell;
  Doorbell client_bell;

  PlayedLane() {
    const std::size_t bytes = kLaneGeometry.segment_bytes();
    in = *create_segment("in", bytes);
    out = *create_segment("out", bytes);
    in_mapping = *Mapping::create(in.get(), bytes, Mapping::Mode::ReadWrite, "in");
    out_mapping = *Mapping::create(out.get(), bytes, Mapping::Mode::ReadWrite, "out");
    const RingView in_view = RingView::at(in_mapping.data(), kLaneGeometry);
    const RingView out_view = RingView::at(out_mapping.data(), kLaneGeometry);
    reader = RingReader(in_view, out_view.header);
    writer = RingWriter(out_view, in_view.header);
    std::tie(bell, client_bell) = *Doorbell::create_pair();
  }
  // Whether it has rung since the last call.
  bool rung() const {
    pollfd waiting{bell.descriptor(), POLLIN, 0};
    const bool rang = ::poll(&waiting, 1, 0) == 1;
    bell.clear();
    return rang;
  }
  RingHeader& own() { return *RingView::at(out_mapping.data(), kLaneGeometry).header; }

  // The next invocation; nullopt: none is there.
  std::optional<LaneInvoke> take() {
    std::span<const std::byte> message;
    if (reader.read(buffer, message) != ReadOutcome::Message) return std::nullopt;
    reader.advance();
    reader.publish();
    LaneInvoke invoke{};
    EXPECT_EQ(message.size(), sizeof invoke);
    EXPECT_TRUE(read_lane_message(message, invoke));
    return invoke;
  }
  LaneInvoke wait_and_take() {
    std::optional<LaneInvoke> invoke;
    EXPECT_TRUE(eventually([&] {
      invoke = take();
      return invoke.has_value();
    }));
    return invoke.value_or(LaneInvoke{});
  }
  void answer(std::uint64_t id, StatusCode code = StatusCode::Ok, const std::string& text = "") {
    std::vector<std::byte> message(sizeof(LaneAnswer) + text.size());
    const LaneAnswer answer{id, static_cast<std::uint32_t>(code),
                            static_cast<std::uint32_t>(text.size())};
    std::memcpy(message.data(), &answer, sizeof answer);
    std::memcpy(message.data() + sizeof answer, text.data(), text.size());
    write(message);
  }
  void write(std::span<const std::byte> message) {
    EXPECT_TRUE(writer.try_write(message));
    if (!writer.wake_due()) return;
    own().wake_word.fetch_add(1, std::memory_order_release);
    futex_wake_all(own().wake_word);
  }
};

// What a grant says wrongly, if anything.
struct GrantLie {
  bool sends_descriptors = true;
  std::uint32_t slot_count = kLaneGeometry.slot_count;
  bool names_tokens = true;
  bool names_bell = true;
};

class ClientLanes : public testing::Test {
 protected:
  static constexpr std::uint32_t kLane = 5;
  static constexpr std::uint32_t kCall = 1;

  // Answers OpenLane with a grant of `lane`; counts what comes by the ring.
  void grant(const GrantLie& lie = {}) {
    peer_.run([this, lie](LoopbackPeer& peer) {
      peer.on_submission = [this, lie](PeerSession& session, PeerRing& ring,
                                       const wire::Submission& submission) {
        if (submission.operation_as_Invoke() != nullptr)
          invoked_by_ring_.push_back(submission.id());
        if (const auto* drop = submission.operation_as_DropLaneCall()) {
          dropped_ = drop->lane() == kLane && drop->call() == kCall;
        }
        if (submission.operation_as_OpenLane() == nullptr) return false;
        ++asked_;
        answer_grant(session, ring, submission.id(), lie);
        return true;
      };
    });
  }
  void answer_grant(PeerSession& session, PeerRing& ring, std::uint64_t id, const GrantLie& lie) {
    flatbuffers::FlatBufferBuilder builder;
    if (lie.sends_descriptors) {
      const std::pair<std::uint64_t, int> sent[] = {
          {101, lane_.in.get()}, {102, lane_.out.get()}, {103, lane_.client_bell.descriptor()}};
      for (const auto& [token, descriptor] : sent) {
        builder.Clear();
        wire::ControlReplyBuilder reply(builder);
        reply.add_token(token);
        builder.Finish(reply.Finish());
        ASSERT_EQ(send_message(session.socket.get(), finished(builder), {&descriptor, 1}),
                  SendOutcome::Sent);
      }
    }
    builder.Clear();
    const auto grant = wire::CreateLaneGrant(
        builder, kLane, kCall, lie.slot_count, kLaneGeometry.heap_bytes, lie.names_tokens ? 101 : 0,
        lie.names_tokens ? 102 : 0, replayable_, lie.names_tokens && lie.names_bell ? 103 : 0);
    wire::AnswerBuilder answer(builder);
    answer.add_id(id);
    answer.add_lane(grant);
    builder.Finish(answer.Finish());
    ring.write(finished(builder));
    --ring.unanswered;
  }
  // As kaasd does when a lane is over.
  void end_lane(StatusCode code, const std::string& why) {
    peer_.run([&](LoopbackPeer& peer) {
      flatbuffers::FlatBufferBuilder builder;
      const auto message = builder.CreateString(why);
      wire::ControlReplyBuilder reply(builder);
      reply.add_code(code);
      reply.add_message(message);
      reply.add_ended_lane(kLane);
      builder.Finish(reply.Finish());
      ASSERT_EQ(send_message(peer.sessions()[0]->socket.get(), finished(builder)),
                SendOutcome::Sent);
      peer.ring().completion.header->lanes_ended.store(kLane, std::memory_order_release);
      futex_wake_all(lane_.own().wake_word);
    });
  }
  Client connect() {
    ClientOptions options;
    options.socket = peer_.path();
    return *Client::connect(options);
  }
  // A bound plan that has a lane.
  BoundPlan on_lane(Client& client) {
    grant();
    BoundPlan bound = client.prepare(small_request())->bind();
    EXPECT_TRUE(eventually([&] {
      EXPECT_TRUE(bound.run().has_value());
      return bound.has_lane();
    }));
    peer_.run([this](LoopbackPeer&) { invoked_by_ring_.clear(); });
    return bound;
  }
  std::size_t invoked_by_ring() {
    std::size_t count = 0;
    peer_.run([&](LoopbackPeer&) { count = invoked_by_ring_.size(); });
    return count;
  }

  static bool is_readable(int descriptor) {
    pollfd waiting{descriptor, POLLIN, 0};
    return ::poll(&waiting, 1, 5'000) == 1;
  }
  // Whether an event loop that only watches `event` gets the answer.
  static bool shows_answer(Client& client, int event, Future<Reply> reply) {
    while (is_readable(event)) {
      client.poll();
      if (reply.ready()) return true;
    }
    return false;
  }

  PlayedLane lane_;
  bool replayable_ = false;
  std::vector<std::uint64_t> invoked_by_ring_;  // On the peer's thread.
  int asked_ = 0;
  bool dropped_ = false;
  LoopbackPeer peer_;
};

TEST_F(ClientLanes, RunsGoByItAndTheirAnswersComeBack) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  for (int i = 0; i < 200; ++i) {
    auto a = bound.submit();
    auto b = bound.submit();
    const LaneInvoke first = lane_.wait_and_take();
    const LaneInvoke second = lane_.wait_and_take();
    EXPECT_EQ(first.call, kCall);
    lane_.answer(second.id);  // Answers need not be in order.
    lane_.answer(first.id, StatusCode::KernelFault, "it broke");
    ASSERT_TRUE(b.get().has_value());
    const auto failed = a.get();
    ASSERT_FALSE(failed.has_value());
    EXPECT_EQ(failed.error().code, StatusCode::KernelFault);
    EXPECT_EQ(failed.error().message, "it broke");
  }
  EXPECT_EQ(invoked_by_ring(), 0u);
}

TEST_F(ClientLanes, SleeperIsWokenByTheExecutor) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  auto reply = bound.submit();
  const LaneInvoke invoke = lane_.wait_and_take();
  std::thread executor([&] {
    // When the client sleeps.
    while ((RingView::at(lane_.in_mapping.data(), kLaneGeometry).header->sleeping.load() & 1u) ==
           0) {
    }
    lane_.answer(invoke.id);
  });
  const std::uint64_t begin_ns = now_ns();
  EXPECT_TRUE(reply.get().has_value());
  EXPECT_LT(now_ns() - begin_ns, 5'000'000'000u);
  executor.join();
}

TEST_F(ClientLanes, SleepingExecutorIsRungOnceForEachSleepAndKaasdIsNot) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  std::vector<Future<Reply>> replies;
  const auto run = [&] { replies.push_back(bound.submit()); };
  lane_.rung();
  run();
  EXPECT_FALSE(lane_.rung()) << "it is awake";
  announce_sleep(lane_.own());
  run();
  EXPECT_TRUE(lane_.rung());
  run();
  EXPECT_FALSE(lane_.rung()) << "it was woken from this sleep";
  retract_sleep(lane_.own());
  while (const auto invoke = lane_.take()) lane_.answer(invoke->id);
  for (auto& reply : replies) EXPECT_TRUE(reply.get().has_value());
  announce_sleep(lane_.own());
  run();  // Nothing else is under way.
  EXPECT_TRUE(lane_.rung());
  lane_.answer(lane_.wait_and_take().id);
  EXPECT_TRUE(replies.back().get().has_value());
  EXPECT_EQ(invoked_by_ring(), 0u);
}

// Whatever the executor does to its end.
TEST_F(ClientLanes, BellThatIsFullOrClosedDoesNotHoldTheClientUp) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  for (int i = 0; i < 100'000; ++i) lane_.client_bell.ring();
  ::fcntl(lane_.bell.descriptor(), F_SETFL, 0);
  for (int i = 0; i < 3; ++i) {
    announce_sleep(lane_.own());
    auto reply = bound.submit();
    const LaneInvoke invoke = lane_.wait_and_take();
    retract_sleep(lane_.own());
    lane_.answer(invoke.id);
    EXPECT_TRUE(reply.get().has_value());
    if (i == 1) lane_.bell = Doorbell();
  }
  EXPECT_EQ(invoked_by_ring(), 0u);
}

TEST_F(ClientLanes, ForkedChildDoesNotRing) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  announce_sleep(lane_.own());
  lane_.rung();
  const pid_t child = ::fork();
  if (child == 0) ::_exit(bound.run().has_value() ? 1 : 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(lane_.rung());
  EXPECT_FALSE(lane_.take().has_value());
}

TEST_F(ClientLanes, OtherOperationsWaitUntilItIsEmpty) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  auto reply = bound.submit();
  const LaneInvoke invoke = lane_.wait_and_take();
  const auto refused = client.try_submit(small_request()).get();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, StatusCode::ResourceExhausted);
  std::atomic<bool> answered{false};
  std::thread executor([&] {
    ::poll(nullptr, 0, 20);
    answered.store(true);
    lane_.answer(invoke.id);
  });
  auto put = client.put_async("k", {});
  EXPECT_TRUE(answered.load());
  // And while it is under way, runs go the long way, behind it.
  auto behind = bound.submit();
  EXPECT_TRUE(put.get().has_value());
  EXPECT_TRUE(behind.get().has_value());
  EXPECT_TRUE(reply.get().has_value());
  executor.join();
}

TEST_F(ClientLanes, WhatAnEndedOneDidNotTakeGoesByTheRingInOrder) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  std::vector<Future<Reply>> replies;
  for (int i = 0; i < 40; ++i) replies.push_back(bound.submit());
  const LaneInvoke first = lane_.wait_and_take();
  lane_.answer(first.id);
  end_lane(StatusCode::Unavailable, "given up");
  replies.push_back(bound.submit());
  for (auto& reply : replies) EXPECT_TRUE(reply.get().has_value());
  std::vector<std::uint64_t> ids;
  peer_.run([&](LoopbackPeer&) { ids = invoked_by_ring_; });
  EXPECT_EQ(ids.size(), 40u);
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
  EXPECT_FALSE(bound.has_lane());
}

TEST_F(ClientLanes, WhatMayHaveRunIsNotSentAgain) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  auto taken = bound.submit();
  auto waiting = bound.submit();
  lane_.wait_and_take();
  end_lane(StatusCode::UnknownOutcome, "the executor was killed by signal 9");
  const auto outcome = taken.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::UnknownOutcome);
  EXPECT_NE(outcome.error().message.find("signal 9"), std::string::npos) << outcome.error().message;
  EXPECT_TRUE(waiting.get().has_value());
  EXPECT_EQ(invoked_by_ring(), 1u);
}

TEST_F(ClientLanes, WhatMayRunTwiceIsSentAgain) {
  replayable_ = true;
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  auto taken = bound.submit();
  lane_.wait_and_take();
  end_lane(StatusCode::UnknownOutcome, "the executor was killed by signal 9");
  EXPECT_TRUE(taken.get().has_value());
  EXPECT_EQ(invoked_by_ring(), 1u);
}

TEST_F(ClientLanes, WhatAnotherCallMayHaveOverwrittenTheInputOfIsNotSentAgain) {
  replayable_ = true;
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  const BoundPlan other = on_lane(client);
  auto first = bound.submit();
  auto second = other.submit();
  auto third = other.submit();
  auto not_taken = bound.submit();
  for (int i = 0; i < 3; ++i) lane_.wait_and_take();
  end_lane(StatusCode::UnknownOutcome, "the executor was killed by signal 9");
  const auto outcome = first.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::UnknownOutcome);
  EXPECT_TRUE(second.get().has_value());
  EXPECT_TRUE(third.get().has_value());
  EXPECT_TRUE(not_taken.get().has_value());
  EXPECT_EQ(invoked_by_ring(), 3u);
}

TEST_F(ClientLanes, WhatRanTooLongIsNotSentAgain) {
  replayable_ = true;
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  auto taken = bound.submit();
  lane_.wait_and_take();
  end_lane(StatusCode::DeadlineExceeded, "a request ran longer than the limit");
  const auto outcome = taken.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::DeadlineExceeded);
}

TEST_F(ClientLanes, GrantThatIsWrongIsNotUsed) {
  for (const GrantLie& lie :
       {GrantLie{false, kLaneGeometry.slot_count, true}, GrantLie{true, 8, true},
        GrantLie{false, kLaneGeometry.slot_count, false},
        GrantLie{true, kLaneGeometry.slot_count, true, false}}) {
    peer_.run([this](LoopbackPeer&) { asked_ = 0; });
    grant(lie);
    Client client = connect();
    const BoundPlan bound = client.prepare(small_request())->bind();
    for (int i = 0; i < 40; ++i) EXPECT_TRUE(bound.run().has_value());
    EXPECT_FALSE(bound.has_lane());
    peer_.run([this](LoopbackPeer&) { EXPECT_LT(asked_, 10) << "of 40 runs"; });
  }
}

TEST_F(ClientLanes, BytesThatAreNoAnswerEndTheSession) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  auto reply = bound.submit();
  lane_.wait_and_take();
  std::vector<std::byte> bytes(random() % kSlotPayloadBytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() | 0x80u);
  lane_.write(bytes);
  const auto outcome = reply.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(client.alive().error().code, StatusCode::ProtocolViolation);
}

TEST_F(ClientLanes, AnswerToSomethingElseEndsTheSession) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  auto reply = bound.submit();
  const LaneInvoke invoke = lane_.wait_and_take();
  lane_.answer(invoke.id + 1);
  EXPECT_FALSE(reply.get().has_value());
  EXPECT_EQ(client.alive().error().code, StatusCode::ProtocolViolation);
}

TEST_F(ClientLanes, DaemonThatDiesEndsWhatIsUnderWay) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  auto reply = bound.submit();
  lane_.wait_and_take();
  peer_.die();
  const std::uint64_t begin_ns = now_ns();
  const auto outcome = reply.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::UnknownOutcome);
  EXPECT_LT(now_ns() - begin_ns, 5'000'000'000u);
}

TEST_F(ClientLanes, DroppedPlanIsDroppedThere) {
  Client client = connect();
  { const BoundPlan bound = on_lane(client); }
  ASSERT_TRUE(client.put("k", {}).has_value());  // Behind it in the ring.
  bool dropped = false;
  peer_.run([&](LoopbackPeer&) { dropped = dropped_; });
  EXPECT_TRUE(dropped);
}

TEST_F(ClientLanes, OneThatIsThereIsNotUsedBesideAnEventLoop) {
  Client client = connect();
  const BoundPlan bound = on_lane(client);
  auto under_way = bound.submit();
  const LaneInvoke invoke = lane_.wait_and_take();
  std::thread executor([&] {
    ::poll(nullptr, 0, 20);
    lane_.answer(invoke.id);
  });
  const int event = client.event_fd();
  executor.join();
  ASSERT_GE(event, 0);
  EXPECT_TRUE(is_readable(event)) << "what was under way has been answered";
  client.poll();
  EXPECT_TRUE(under_way.ready());
  EXPECT_FALSE(bound.has_lane());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(shows_answer(client, event, bound.submit())) << i;
  EXPECT_EQ(invoked_by_ring(), 3u);
  EXPECT_FALSE(lane_.take().has_value());
}

TEST_F(ClientLanes, OneThatIsGrantedLaterIsNotUsedBesideAnEventLoop) {
  std::optional<std::uint64_t> question;  // On the peer's thread.
  peer_.run([&](LoopbackPeer& peer) {
    peer.on_submission = [&question](PeerSession&, PeerRing&, const wire::Submission& submission) {
      if (submission.operation_as_OpenLane() == nullptr) return false;
      question = submission.id();
      return true;
    };
  });
  Client client = connect();
  const BoundPlan bound = client.prepare(small_request())->bind();
  ASSERT_TRUE(eventually([&] {
    EXPECT_TRUE(bound.run().has_value());
    bool asks = false;
    peer_.run([&](LoopbackPeer&) { asks = question.has_value(); });
    return asks;
  }));
  const int event = client.event_fd();
  ASSERT_GE(event, 0);
  peer_.run([&](LoopbackPeer& peer) {
    answer_grant(*peer.sessions()[0], peer.ring(), *question, GrantLie());
  });
  EXPECT_FALSE(bound.has_lane());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(shows_answer(client, event, bound.submit())) << i;
  EXPECT_FALSE(lane_.take().has_value());
}

TEST_F(ClientLanes, NoneIsAskedForWhereNoneIsWanted) {
  grant();
  ClientOptions options;
  options.socket = peer_.path();
  options.lanes = false;
  Client client = *Client::connect(options);
  const BoundPlan bound = client.prepare(small_request())->bind();
  for (int i = 0; i < 40; ++i) EXPECT_TRUE(bound.run().has_value());
  peer_.run([&](LoopbackPeer&) { EXPECT_EQ(asked_, 0); });
}

}  // namespace
}  // namespace kaas
