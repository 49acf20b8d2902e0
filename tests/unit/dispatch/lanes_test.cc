// Lanes: what is granted, what is refused and why, and what the accounts say.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/dispatch/lane_fixture.h"

namespace kaas {
namespace {

const Words kOnes(16, 1);

// --- The grant -----------------------------------------------------------------------------------

TEST_F(LaneTest, GrantBringsBothSegmentsOnceAndInvocationsPassKaasd) {
  const SeenGrant grant = granted(in_place());
  EXPECT_NE(grant.in_token, 0u);
  EXPECT_NE(grant.out_token, 0u);
  EXPECT_FALSE(grant.replayable) << "run twice it gives something else";
  const auto lane = client->map_lane(grant);
  ASSERT_TRUE(lane->invoke(77, grant.call));
  world.executor().step();
  EXPECT_EQ(lane->read().at(0).id, 77u);
  EXPECT_EQ(word(0), 1u);
  EXPECT_FALSE(client->take_descriptor(grant.in_token).has_value());
}

TEST_F(LaneTest, WhatGivesTheSameTwiceMayBeSentAgain) {
  put("k", kOnes);
  EXPECT_TRUE(granted(reading("k")).replayable);
}

TEST_F(LaneTest, OnlyTheExecutorCanWriteItsSegmentAndNobodyChangesTheirSize) {
  const auto lane = lane_for(in_place());
  const Seals out = seals_of(lane->out_descriptor());
  EXPECT_TRUE(has_seals(out, Seals::Size | Seals::FutureWrite | Seals::Seal));
  EXPECT_EQ(::fcntl(lane->out_descriptor(), F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_TRUE(has_seals(seals_of(lane->in_descriptor()), Seals::Size | Seals::Seal));
  // Not by way of a new descriptor either.
  const std::string path = "/proc/self/fd/" + std::to_string(lane->out_descriptor());
  const Descriptor writable(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (writable) {
    EXPECT_EQ(::mmap(nullptr, 4096, PROT_WRITE, MAP_SHARED, writable.get(), 0), MAP_FAILED);
    EXPECT_EQ(::pwrite(writable.get(), "x", 1, 0), -1);
  }
}

TEST_F(LaneTest, AnswerNamesTheOutputsThatEachInvocationHas) {
  put("k", kOnes);
  const auto id = open(prepare(reading("k")));
  settle();
  ASSERT_EQ(answer(id).outputs.size(), 1u);
  EXPECT_EQ(answer(id).outputs[0].name, "out");
  EXPECT_EQ(answer(id).outputs[0].bytes, kLaneBytes);
}

TEST_F(LaneTest, SecondCallOfTheRingJoinsItsLane) {
  const SeenGrant first = granted(in_place());
  const SeenGrant second = granted(in_place(32));
  EXPECT_EQ(second.lane, first.lane);
  EXPECT_NE(second.call, first.call);
  EXPECT_EQ(second.in_token, 0u);
  EXPECT_EQ(second.out_token, 0u);
  EXPECT_EQ(lanes(), 1u);
  const auto lane = client->map_lane(first);
  ASSERT_TRUE(lane->invoke(1, first.call) && lane->invoke(2, second.call));
  settle();
  EXPECT_EQ(lane->read().size(), 2u);
  EXPECT_EQ(word(0), 1u);
  EXPECT_EQ(word(32), 1u);
}

TEST_F(LaneTest, CallsThatAreAskedForTogetherShareALane) {
  const std::uint32_t first_plan = prepare(in_place());
  const std::uint32_t second_plan = prepare(in_place(32));
  const auto first = open(first_plan);
  const auto second = open(second_plan);
  settle();
  ASSERT_TRUE(answer(first).lane && answer(second).lane);
  EXPECT_EQ(answer(first).lane->lane, answer(second).lane->lane);
  EXPECT_NE(answer(first).lane->in_token, 0u);
  EXPECT_EQ(answer(second).lane->in_token, 0u);
}

TEST_F(DispatcherTest, RingsHaveEachTheirOwnLane) {
  SimClient& two = world.connect(client->uid(), 2);
  client = &two;
  const auto buffer = segment_buffer("x", 64, two.arena());
  for (std::size_t ring = 0; ring < 2; ++ring) {
    const auto prepared =
        send([&](auto id) { return prepare_message(id, encode_request(add_one_request(buffer))); },
             ring);
    settle();
    send([&](auto id) { return open_lane_message(id, answer(prepared).plan); }, ring);
    settle();
  }
  EXPECT_EQ(dispatcher().lanes_of(two.session()), 2u);
}

TEST_F(LaneTest, BindingsOfTheQuestionAreThoseOfTheCall) {
  put("k", kOnes);
  put("other", Words(16, 5));
  const auto id = open(prepare(reading("k")), 0, {{"k", "other"}});
  settle();
  ASSERT_EQ(code(id), StatusCode::Ok);
  const auto lane = client->map_lane(*answer(id).lane);
  ASSERT_TRUE(lane->invoke(1, answer(id).lane->call));
  settle();
  EXPECT_EQ(word(64), 5u);
  put("k", kOnes);
  settle();
  EXPECT_EQ(lanes(), 1u) << "it is not the one that is read";
}

TEST_F(LaneTest, DroppedCallIsNotServedAnyMore) {
  const SeenGrant first = granted(in_place());
  const SeenGrant second = granted(in_place(32));
  const auto lane = client->map_lane(first);
  const auto dropped = drop(first.lane, first.call);
  const auto again = drop(first.lane, first.call);
  settle();
  EXPECT_EQ(code(dropped), StatusCode::Ok);
  EXPECT_EQ(code(again), StatusCode::Ok);
  ASSERT_TRUE(lane->invoke(1, second.call));
  settle();
  EXPECT_EQ(lane->read().size(), 1u);
  ASSERT_TRUE(lane->invoke(2, first.call));
  settle();
  EXPECT_EQ(end_of(*lane), StatusCode::ProtocolViolation);
  EXPECT_TRUE(world.closed.empty()) << "the session goes on";
}

TEST_F(LaneTest, DroppedCallsMakeRoomForOthers) {
  const std::uint32_t plan = prepare(in_place());
  SeenGrant last;
  for (std::uint32_t n = 0; n < 2 * kLaneCallsMax; ++n) {
    const auto id = open(plan);
    settle();
    ASSERT_EQ(code(id), StatusCode::Ok) << n << answer(id).message;
    last = *answer(id).lane;
    drop(last.lane, last.call);
    settle();
  }
}

// --- Refusals ------------------------------------------------------------------------------------

TEST_F(LaneTest, UnknownPlanIsRefused) {
  const auto id = open(12345);
  settle();
  EXPECT_EQ(code(id), StatusCode::NotFound);
  EXPECT_NE(answer(id).message.find("12345"), std::string::npos);
}

TEST_F(LaneTest, WhatCanNotGoByALaneIsRefusedWithTheBuffersName) {
  const auto refusal = [&](const RequestSpec& request) {
    const auto id = open(prepare(request));
    settle();
    EXPECT_EQ(lanes(), 0u);
    return answer(id);
  };
  put("k", kOnes);
  SimClient& stranger = world.connect(1001);
  ASSERT_TRUE(stranger.send(0, put_message(kOthers + 1, "theirs", to_bytes(kOnes))));
  settle();
  Grant everyone;
  everyone.everyone = true;
  ASSERT_TRUE(world.store().share(1001, "theirs", everyone).has_value());

  SeenAnswer refused = refusal(add_one_request(store_buffer("k", kLaneBytes)));
  EXPECT_EQ(refused.code, StatusCode::InvalidArgument);
  EXPECT_NE(refused.message.find("'k'"), std::string::npos) << refused.message;
  refused = refusal(fill_request(inline_buffer("small", kLaneBytes), 3));
  EXPECT_EQ(refused.code, StatusCode::InvalidArgument);
  EXPECT_NE(refused.message.find("'small'"), std::string::npos) << refused.message;
  refused = refusal(copy_request(store_buffer("in", kLaneBytes, "@1001/theirs"), arena("out")));
  EXPECT_EQ(refused.code, StatusCode::InvalidArgument);
  EXPECT_NE(refused.message.find("'in'"), std::string::npos) << refused.message;
  refused = refusal(reading("none"));
  EXPECT_EQ(refused.code, StatusCode::NotFound);
  EXPECT_EQ(under_way(), 0u);
}

TEST_F(LaneTest, InputThatIsStillBeingMadeIsRefusedForNow) {
  const std::uint32_t plan = prepare(reading("k"));
  submit(fill_request(store_buffer("k", kLaneBytes), 4));
  const auto early = open(plan);
  settle();
  EXPECT_EQ(code(early), StatusCode::Unavailable);
  EXPECT_NE(answer(early).message.find("'k'"), std::string::npos) << answer(early).message;
  const auto later = open(plan);
  settle();
  EXPECT_EQ(code(later), StatusCode::Ok);
}

TEST_F(LaneTest, OneCallTooManyIsRefusedWithBothNumbers) {
  const std::uint32_t plan = prepare(in_place());
  for (std::uint32_t n = 0; n < kLaneCallsMax; ++n) {
    open(plan);
    settle();
  }
  const auto id = open(plan);
  settle();
  EXPECT_EQ(code(id), StatusCode::ResourceExhausted);
  EXPECT_NE(answer(id).message.find("65"), std::string::npos) << answer(id).message;
  EXPECT_NE(answer(id).message.find("64"), std::string::npos) << answer(id).message;
  EXPECT_EQ(lanes(), 1u);
}

TEST_F(LaneTest, KeyThatChangesBeforeTheGrantIsRefused) {
  put("k", kOnes);
  const std::uint32_t plan = prepare(reading("k"));
  const auto id = open(plan);
  step();
  put("k", Words(16, 2));
  step();
  settle();
  EXPECT_EQ(code(id), StatusCode::Unavailable);
  EXPECT_EQ(lanes(), 0u);
  EXPECT_EQ(world.executor().loop().open_lanes(), 0u);
}

TEST_F(LaneTest, SegmentThatIsDroppedBeforeTheGrantIsRefused) {
  Session& session = *dispatcher().find_session(client->session());
  const SegmentRef more = world.add_arena(session, 4096);
  const std::uint32_t plan = prepare(add_one_request(segment_buffer("x", 64, more->id)));
  const auto id = open(plan);
  step();
  dispatcher().end_lanes_using(more->id);
  session.segments.erase(more->id);
  settle();
  EXPECT_EQ(code(id), StatusCode::Unavailable);
  EXPECT_EQ(lanes(), 0u);
}

TEST_F(LaneTest, DeviceMemoryByHandleIsNoReasonToRefuse) {
  std::vector<std::byte> memory(4096);
  BufferSpec buffer;
  buffer.name = "x";
  buffer.bytes.value = kLaneBytes;
  buffer.place.where = wire::Where::Ipc;
  buffer.place.ipc_handle.assign(kIpcHandleBytes, std::byte{9});
  buffer.place.ipc_base_bytes = memory.size();
  world.executor().device().offer(std::byte{9}, memory);
  const SeenGrant grant = granted(add_one_request(buffer));
  EXPECT_FALSE(grant.replayable);
  const auto lane = client->map_lane(grant);
  ASSERT_NE(lane, nullptr);
  ASSERT_TRUE(lane->invoke(1, grant.call));
  settle();
  const auto done = lane->read();
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].code, StatusCode::Ok) << done[0].text;
  EXPECT_EQ(memory[0], std::byte{1});
}

TEST_F(LaneTest, FullBudgetRefusesTheLaneAlone) {
  const std::uint32_t plan = prepare(in_place());
  auto all = world.budget().reserve(WorldOptions().store_bytes - world.budget().used_bytes() - 1000,
                                    "test");
  ASSERT_TRUE(all.has_value());
  const auto id = open(plan);
  settle();
  EXPECT_EQ(code(id), StatusCode::ResourceExhausted);
  *all = Reservation();
  const auto again = open(plan);
  settle();
  EXPECT_EQ(code(again), StatusCode::Ok);
}

// Its messages to executors are shorter than those of its clients.
class NarrowLaneTest : public LaneTest {
 protected:
  static WorldOptions options() {
    WorldOptions narrow;
    narrow.executor.geometry = {64, 16u << 10};
    return narrow;
  }
  NarrowLaneTest() : LaneTest(options()) {}
};

TEST_F(NarrowLaneTest, CallThatDoesNotFitTheWorkRingIsRefusedAndLeavesNothing) {
  const std::uint32_t plan = prepare(in_place());
  const std::uint64_t id = next_id++;
  flatbuffers::FlatBufferBuilder b;
  std::vector<flatbuffers::Offset<wire::LiteralOverride>> overrides;
  for (int n = 0; n < 500; ++n) overrides.push_back(wire::CreateLiteralOverride(b, 0, 0, 16));
  const auto list = b.CreateVector(overrides);
  const auto operation = wire::CreateOpenLane(b, plan, 0, list);
  b.Finish(wire::CreateSubmission(b, id, wire::Operation::OpenLane, operation.Union()));
  const auto bytes = finished(b);
  ASSERT_TRUE(client->send(0, Bytes(bytes.begin(), bytes.end())));
  settle();
  EXPECT_EQ(code(id), StatusCode::ResourceExhausted) << answer(id).message;
  EXPECT_EQ(lanes(), 0u);
  EXPECT_EQ(world.executor().loop().open_lanes(), 0u);
  granted(in_place());
}

TEST_F(LaneTest, OtherSessionsCallsAreNotDropped) {
  const SeenGrant grant = granted(in_place());
  SimClient& other = world.connect();
  ASSERT_TRUE(other.send(0, drop_lane_call_message(kOthers + 1, grant.lane, grant.call)));
  settle();
  const auto lane = client->map_lane(grant);
  ASSERT_TRUE(lane->invoke(1, grant.call));
  settle();
  EXPECT_EQ(lane->read().size(), 1u);
}

TEST_F(LaneTest, QuestionThatIsNoMessageEndsItsSession) {
  flatbuffers::FlatBufferBuilder b;
  wire::SubmissionBuilder submission(b);
  submission.add_id(1);
  submission.add_operation_type(wire::Operation::OpenLane);
  b.Finish(submission.Finish());
  const auto bytes = finished(b);
  ASSERT_TRUE(client->send(0, Bytes(bytes.begin(), bytes.end())));
  settle();
  EXPECT_EQ(world.closed.size(), 1u);
}

TEST_F(LaneTest, QuestionUnderWayCanNotBeCancelledAndIsAnsweredOnce) {
  const std::uint32_t plan = prepare(in_place());
  const auto id = open(plan);
  step();
  const auto cancelled = cancel(id);
  settle();
  EXPECT_EQ(code(cancelled), StatusCode::InvalidArgument);
  EXPECT_EQ(code(id), StatusCode::Ok);
}

// --- Accounts and wakes --------------------------------------------------------------------------

TEST_F(LaneTest, InvocationsAreCounted) {
  const SeenGrant grant = granted(in_place());
  const auto lane = client->map_lane(grant);
  const Session& session = *dispatcher().find_session(client->session());
  const std::uint64_t requests = session.counters.requests;
  const std::uint64_t finished = dispatcher().executors().begin()->second->finished;
  for (std::uint64_t id = 1; id <= 50; ++id) ASSERT_TRUE(lane->invoke(id, grant.call));
  settle();
  dispatcher().count_lanes();
  dispatcher().count_lanes();
  EXPECT_EQ(session.counters.requests, requests + 50);
  EXPECT_EQ(dispatcher().executors().begin()->second->finished, finished + 50);
  lane->read();
  for (std::uint64_t id = 1; id <= 7; ++id) ASSERT_TRUE(lane->invoke(id, grant.call));
  settle();
  world.hang_up(*client);
  settle();
  EXPECT_EQ(dispatcher().executors().begin()->second->finished, finished + 57);
}

TEST_F(LaneTest, SleepingExecutorIsWokenByTheClientAlone) {
  const SeenGrant grant = granted(in_place());
  const auto lane = client->map_lane(grant);
  SimExecutor& executor = world.executor();
  settle();
  ASSERT_TRUE(executor.doorbell().clear());
  ASSERT_TRUE(executor.loop().announce_sleep());
  std::uint64_t wake_at = 0;
  ASSERT_TRUE(dispatcher().prepare_to_sleep(wake_at));
  ASSERT_TRUE(lane->invoke(1, grant.call));
  ASSERT_TRUE(lane->writer.wake_due());
  EXPECT_TRUE(executor.bells().ringing().empty());
  lane->bell.ring();
  EXPECT_EQ(executor.bells().ringing(), (std::vector<std::uint32_t>{grant.lane}));
  executor.loop().retract_sleep();
  executor.loop().bell_rang(grant.lane);
  EXPECT_TRUE(executor.bells().ringing().empty());
  while (executor.step() == StepOutcome::Progress) {
  }
  EXPECT_EQ(lane->read().size(), 1u) << "and kaasd sleeps";
  dispatcher().finish_sleep();
}

TEST_F(LaneTest, BellThatIsRungOnAndOnEndsTheLaneAndNothingElse) {
  const SeenGrant grant = granted(in_place());
  const auto lane = client->map_lane(grant);
  SimExecutor& executor = world.executor();
  for (std::uint32_t n = 0; n <= kLaneRingsInVainMax; ++n) {
    lane->bell.ring();
    executor.loop().bell_rang(grant.lane);
  }
  settle();
  EXPECT_EQ(end_of(*lane), StatusCode::ProtocolViolation);
  EXPECT_EQ(end_message,
            "the bell of lane " + std::to_string(grant.lane) +
                " was rung more than 128 times in a row without an invocation to take");
  EXPECT_TRUE(world.closed.empty() && world.killed.empty());
  EXPECT_EQ(executor.bells().size(), 0u);
  const SeenGrant another = granted(in_place(16));
  EXPECT_NE(another.lane, grant.lane);
  EXPECT_EQ(executor.bells().size(), 1u);
}

}  // namespace
}  // namespace kaas
