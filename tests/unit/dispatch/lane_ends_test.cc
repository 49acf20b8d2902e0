// The end of lanes: before what they must not overlook, and with what they belong to.
#include "tests/unit/dispatch/lane_fixture.h"

namespace kaas {
namespace {

const Words kOnes(16, 1);

// A lane that reads "k". The executor stands still: what is asked of it is seen before it acts.
class ReadingLaneTest : public LaneTest {
 protected:
  ReadingLaneTest() {
    put("k", kOnes);
    grant = granted(reading("k"));
    lane = client->map_lane(grant);
  }
  // kaasd alone is stepped until the operation is answered; by then the executor may take nothing.
  void expect_ended_by(std::uint64_t id) {
    for (int i = 0; i < 10 && !answered(id); ++i) {
      world.step();
      read();
      EXPECT_TRUE(!answered(id) || ends_asked() == 1);
    }
    EXPECT_TRUE(answered(id));
    ASSERT_TRUE(lane->invoke(1, grant.call));
    settle();
    EXPECT_EQ(lane->taken(), 0u) << "it was sent after the answer";
    EXPECT_EQ(end_of(*lane), StatusCode::Unavailable);
    EXPECT_EQ(lanes(), 0u);
  }

  SeenGrant grant;
  std::unique_ptr<SimLane> lane;
};

// --- Keys ----------------------------------------------------------------------------------------

TEST_F(ReadingLaneTest, PutEndsItFirst) {
  expect_ended_by(put("k", Words(16, 2)));
  EXPECT_NE(end_message.find("key"), std::string::npos);
}

TEST_F(ReadingLaneTest, RemoveEndsItFirst) {
  expect_ended_by(remove("k"));
}

TEST_F(ReadingLaneTest, PutOfAnotherSessionEndsItFirst) {
  SimClient& other = world.connect(client->uid());
  ASSERT_TRUE(other.send(0, put_message(kOthers + 1, "k", to_bytes(Words(16, 2)))));
  world.step();
  ASSERT_EQ(other.read(0).size(), 1u);
  EXPECT_EQ(ends_asked(), 1u);
  ASSERT_TRUE(lane->invoke(1, grant.call));
  settle();
  EXPECT_EQ(lane->taken(), 0u);
  EXPECT_EQ(end_of(*lane), StatusCode::Unavailable);
}

TEST_F(ReadingLaneTest, PutOfAnotherUserByNameEndsItFirst) {
  Grant writers;
  writers.everyone = writers.write = true;
  ASSERT_TRUE(world.store().share(client->uid(), "k", writers).has_value());
  SimClient& other = world.connect(1001);
  ASSERT_TRUE(other.send(0, put_message(kOthers + 1, "@" + std::to_string(client->uid()) + "/k",
                                        to_bytes(Words(16, 2)))));
  world.step();
  ASSERT_EQ(other.read(0).at(0).code, StatusCode::Ok);
  EXPECT_EQ(ends_asked(), 1u);
}

TEST_F(ReadingLaneTest, SameKeyOfAnotherUserIsAnotherKey) {
  SimClient& other = world.connect(1001);
  ASSERT_TRUE(other.send(0, put_message(kOthers + 1, "k", to_bytes(Words(16, 2)))));
  settle();
  EXPECT_EQ(lanes(), 1u);
}

TEST_F(ReadingLaneTest, DonatedPutEndsItFirst) {
  const Bytes bytes = to_bytes(Words(16, 9));
  auto memory = create_segment("donated", bytes.size());
  ASSERT_TRUE(memory.has_value());
  {
    auto mapping = Mapping::create(memory->get(), bytes.size(), Mapping::Mode::ReadWrite, "test");
    ASSERT_TRUE(mapping.has_value());
    std::memcpy(mapping->data(), bytes.data(), bytes.size());
  }
  ASSERT_TRUE(add_seals(memory->get(), Seals::Write).has_value());
  Session& session = *dispatcher().find_session(client->session());
  ASSERT_TRUE(
      dispatcher().add_donation(session, 1, {*std::move(memory), bytes.size()}).has_value());
  const auto id =
      send([&](std::uint64_t number) { return put_donated_message(number, "k", 1, bytes.size()); });
  expect_ended_by(id);
  EXPECT_EQ(code(id), StatusCode::Ok) << answer(id).message;
}

TEST_F(ReadingLaneTest, RunThatPublishesEndsItFirst) {
  SimClient& other = world.connect(client->uid());
  const auto request = encode_request(fill_request(store_buffer("k", kLaneBytes), 7));
  ASSERT_TRUE(other.send(0, submit_message(kOthers + 1, request)));
  world.step();
  EXPECT_EQ(ends_asked(), 0u) << "nothing is published yet";
  // In one step the executor runs it, and takes what was sent before.
  ASSERT_TRUE(lane->invoke(1, grant.call));
  while (world.executor().step() == StepOutcome::Progress) {
  }
  EXPECT_EQ(word(64), 1u);
  world.step();
  ASSERT_EQ(other.read(0).size(), 1u);
  EXPECT_EQ(ends_asked(), 1u);
  ASSERT_TRUE(lane->invoke(2, grant.call));
  settle();
  EXPECT_EQ(lane->taken(), 1u);
  EXPECT_EQ(lane->read().size(), 1u);
  EXPECT_EQ(end_of(*lane), StatusCode::Unavailable);
}

TEST_F(ReadingLaneTest, OtherKeysLeaveItAlone) {
  put("other", Words(16, 2));
  submit(fill_request(store_buffer("third", kLaneBytes), 7));
  remove("fourth");
  settle();
  EXPECT_EQ(ends_asked(), 0u);
  ASSERT_TRUE(lane->invoke(1, grant.call));
  settle();
  EXPECT_EQ(lane->read().size(), 1u);
}

// Runs are pooled: nothing of a call that was refused may be found in the next one.
TEST_F(LaneTest, CallThatIsRefusedLeavesNothingToOthers) {
  put("k", kOnes);
  const std::uint32_t plan = prepare(reading("k"));
  const auto refused = open(plan);
  step();
  put("k", Words(16, 2));
  settle();
  EXPECT_EQ(code(refused), StatusCode::Unavailable);
  SimClient& other = world.connect();
  ASSERT_TRUE(other.send(0, prepare_message(kOthers, encode_request(add_one_request(segment_buffer(
                                                         "x", kLaneBytes, other.arena()))))));
  settle();
  ASSERT_TRUE(other.send(0, open_lane_message(kOthers + 1, answer(kOthers).plan, {})));
  settle();
  EXPECT_EQ(code(kOthers + 1), StatusCode::Ok) << answer(kOthers + 1).message;
}

TEST_F(LaneTest, RefusedCallsTakeNoPlacesOfTheLane) {
  put("k", kOnes);
  granted(in_place());
  const std::uint32_t plan = prepare(reading("k"));
  for (std::uint32_t n = 0; n < 2 * kLaneCallsMax; ++n) {
    const auto refused = open(plan);
    step();
    put("k", Words(16, n));
    settle();
    ASSERT_EQ(code(refused), StatusCode::Unavailable) << answer(refused).message;
  }
  granted(in_place(32));
}

TEST_F(ReadingLaneTest, AllLanesThatReadTheKeyEnd) {
  SimClient& other = world.connect(client->uid());
  const auto request =
      copy_request(store_buffer("k", kLaneBytes), segment_buffer("out", kLaneBytes, other.arena()));
  ASSERT_TRUE(other.send(0, prepare_message(kOthers + 1, encode_request(request))));
  settle();
  ASSERT_TRUE(other.send(0, open_lane_message(kOthers + 2, 1)));
  settle();
  ASSERT_EQ(dispatcher().lanes_of(other.session()), 1u);
  const auto id = put("k", Words(16, 2));
  step();
  EXPECT_TRUE(answered(id));
  EXPECT_EQ(ends_asked(), 2u);
  settle();
  EXPECT_EQ(dispatcher().lanes_of(other.session()), 0u);
  EXPECT_EQ(lanes(), 0u);
}

TEST_F(ReadingLaneTest, OldVersionGoesWithTheLane) {
  const std::uint64_t before = world.store().usage().versions;
  put("k", Words(16, 2));
  step();
  EXPECT_EQ(world.store().usage().versions, before + 1) << "the lane may still read the old one";
  settle();
  EXPECT_EQ(world.store().usage().versions, before);
  EXPECT_EQ(granted(reading("k")).lane, grant.lane + 1) << "numbers are not used again";
}

// --- Segments, sessions --------------------------------------------------------------------------

TEST_F(LaneTest, DroppedSegmentEndsWhatUsesItAndIsHeldUntilThen) {
  Session& session = *dispatcher().find_session(client->session());
  const std::size_t before = world.segments().alive();
  SegmentRef more = world.add_arena(session, 4096);
  const std::uint32_t number = more->id;
  const auto lane = lane_for(add_one_request(segment_buffer("x", 64, number)));
  dispatcher().end_lanes_using(client->arena());
  EXPECT_EQ(ends_asked(), 0u);
  dispatcher().end_lanes_using(number);
  EXPECT_EQ(ends_asked(), 1u);
  session.segments.erase(number);
  more.reset();
  EXPECT_EQ(world.segments().alive(), before + 4);
  settle();
  EXPECT_EQ(end_of(*lane), StatusCode::Unavailable);
  EXPECT_EQ(world.segments().alive(), before);
}

TEST_F(LaneTest, HangUpEndsItAndGivesAllBack) {
  put("k", kOnes);
  settle();
  const std::uint64_t versions = world.store().usage().versions;
  const std::uint64_t bytes = world.budget().used_bytes();
  const std::size_t segments = world.segments().alive();
  SimClient& other = world.connect(client->uid());
  const auto request =
      copy_request(store_buffer("k", kLaneBytes), segment_buffer("out", kLaneBytes, other.arena()));
  ASSERT_TRUE(other.send(0, prepare_message(kOthers + 1, encode_request(request))));
  settle();
  ASSERT_TRUE(other.send(0, open_lane_message(kOthers + 2, 1)));
  settle();
  ASSERT_EQ(dispatcher().lanes_of(other.session()), 1u);
  world.hang_up(other);
  world.step();
  EXPECT_EQ(ends_asked(), 1u);
  EXPECT_EQ(dispatcher().lanes_of(other.session()), 1u) << "until its executor has let go";
  settle();
  EXPECT_EQ(dispatcher().lanes_of(other.session()), 0u);
  EXPECT_EQ(world.executor().loop().open_lanes(), 0u);
  EXPECT_EQ(world.store().usage().versions, versions);
  EXPECT_EQ(world.segments().alive(), segments);
  EXPECT_EQ(world.budget().used_bytes(), bytes);
}

TEST_F(LaneTest, HangUpWhileItIsAskedForLeavesNothing) {
  const std::size_t segments = world.segments().alive();
  const std::uint32_t plan = prepare(in_place());
  open(plan);
  step();
  world.hang_up(*client);
  settle();
  EXPECT_EQ(under_way(), 0u);
  EXPECT_EQ(lanes(), 0u);
  EXPECT_EQ(world.executor().loop().open_lanes(), 0u);
  EXPECT_LE(world.segments().alive(), segments);
}

TEST_F(LaneTest, KickedSessionEndsIt) {
  const auto lane = lane_for(in_place());
  dispatcher().close_session(client->session(), {StatusCode::Cancelled, "kicked"});
  settle();
  EXPECT_EQ(world.executor().loop().open_lanes(), 0u);
  EXPECT_EQ(lanes(), 0u);
}

TEST_F(LaneTest, SleepersOfBothWordsAreWokenByTheEnd) {
  const auto lane = lane_for(in_place());
  SimClient::Ring& ring = client->ring(0);
  const std::uint32_t word = ring.completion.view().header->wake_word.load();
  ASSERT_TRUE(lane->invoke(1, 999));
  settle();
  EXPECT_EQ(end_of(*lane), StatusCode::ProtocolViolation);
  EXPECT_NE(ring.completion.view().header->wake_word.load(), word);
}

// --- Devices, daemon -----------------------------------------------------------------------------

TEST_F(LaneTest, SuspensionWaitsForItAndThenGoesThrough) {
  const SeenGrant grant = granted(in_place());
  const auto lane = client->map_lane(grant);
  std::optional<Result<std::vector<std::uint32_t>>> suspended;
  dispatcher().suspend_devices("all", 1'000'000, false,
                               [&](auto places) { suspended = std::move(places); });
  step();
  EXPECT_FALSE(suspended.has_value());
  EXPECT_EQ(ends_asked(), 1u);
  settle();
  ASSERT_TRUE(suspended.has_value());
  EXPECT_TRUE(suspended->has_value());
  EXPECT_EQ(end_of(*lane), StatusCode::Unavailable);
  EXPECT_TRUE(world.executors().empty());
  const auto later = open(1);
  settle();
  EXPECT_FALSE(answered(later)) << "it waits for a device";
  ASSERT_TRUE(dispatcher().resume_devices("all").has_value());
  settle();
  EXPECT_EQ(code(later), StatusCode::Ok);
}

TEST_F(LaneTest, SuspensionThatIsTooLateNamesTheLane) {
  const auto lane = lane_for(in_place());
  std::optional<Result<std::vector<std::uint32_t>>> suspended;
  dispatcher().suspend_devices("all", 1'000'000, false,
                               [&](auto places) { suspended = std::move(places); });
  world.now += 2'000'000;
  step();
  ASSERT_TRUE(suspended.has_value());
  ASSERT_FALSE(suspended->has_value());
  EXPECT_NE(suspended->error().message.find("1 lane"), std::string::npos)
      << suspended->error().message;
}

TEST_F(LaneTest, DrainEndsItAndRefusesNewOnes) {
  const auto lane = lane_for(in_place());
  const std::uint32_t plan = prepare(in_place(32));
  bool drained = false;
  dispatcher().drain([&] { drained = true; });
  step();
  EXPECT_FALSE(drained);
  settle();
  EXPECT_TRUE(drained);
  EXPECT_EQ(end_of(*lane), StatusCode::Unavailable);
  const auto late = open(plan);
  settle();
  EXPECT_EQ(code(late), StatusCode::Unavailable);
}

TEST_F(HeldDispatcherTest, LaneThatIsAskedForDuringADrainDoesNotHoldIt) {
  const auto buffer = segment_buffer("x", 64, client->arena());
  start();
  const auto prepared =
      send([&](auto id) { return prepare_message(id, encode_request(add_one_request(buffer))); });
  settle();
  world.end_executor(world.executor().number());
  const auto id =
      send([&](auto number) { return open_lane_message(number, answer(prepared).plan); });
  step();
  bool drained = false;
  dispatcher().drain([&] { drained = true; });
  start();
  settle();
  EXPECT_EQ(code(id), StatusCode::Unavailable);
  EXPECT_TRUE(drained);
}

class IdleLaneTest : public LaneTest {
 protected:
  static constexpr std::uint64_t kIdleNs = 1'000'000'000;
  static WorldOptions options() {
    WorldOptions idle;
    idle.idle_release_ns = kIdleNs;
    idle.executor.device.asynchronous = true;
    return idle;
  }
  IdleLaneTest() : LaneTest(options()) {}
};

TEST_F(IdleLaneTest, UnusedLaneDoesNotKeepItsDevice) {
  const auto lane = lane_for(in_place());
  std::uint64_t wake_at = 0;
  ASSERT_TRUE(dispatcher().prepare_to_sleep(wake_at));
  EXPECT_NE(wake_at, 0u);
  dispatcher().finish_sleep();
  world.now += kIdleNs;
  settle();
  EXPECT_EQ(end_of(*lane), StatusCode::Unavailable);
  EXPECT_EQ(world.released.size(), 1u);
}

TEST_F(IdleLaneTest, LaneThatIsUsedKeepsItsDevice) {
  const SeenGrant grant = granted(in_place());
  const auto lane = client->map_lane(grant);
  for (std::uint64_t id = 1; id <= 5; ++id) {
    world.now += kIdleNs / 2;
    ASSERT_TRUE(lane->invoke(id, grant.call));
    settle();
    EXPECT_EQ(lane->read().size(), 1u);
  }
  // Under way for longer than that.
  ASSERT_TRUE(lane->invoke(9, grant.call));
  world.executor().step();
  ASSERT_EQ(lane->taken(), 6u);
  for (int i = 0; i < 5; ++i) {
    world.now += kIdleNs / 2;
    step();
  }
  EXPECT_EQ(ends_asked(), 0u);
  EXPECT_TRUE(world.released.empty());
}

class BusyLaneTest : public LaneTest {
 protected:
  static WorldOptions options() {
    WorldOptions busy;
    busy.runs_per_executor = 2;
    return busy;
  }
  BusyLaneTest() : LaneTest(options()) {}
};

TEST_F(BusyLaneTest, LanesGiveWayToRunsThatWaitForRoom) {
  const auto lane = lane_for(in_place());
  const std::uint32_t plan = prepare(in_place(32));
  for (int n = 0; n < 8; ++n) submit(fill_request(store_buffer("x" + std::to_string(n), 64), 1));
  step();
  EXPECT_EQ(ends_asked(), 0u);
  world.now += 2'000'000;
  submit(fill_request(store_buffer("y", 64), 1));
  step();
  EXPECT_EQ(ends_asked(), 1u);
  settle();
  EXPECT_EQ(end_of(*lane), StatusCode::Unavailable);
  const auto soon = open(plan);
  settle();
  EXPECT_EQ(code(soon), StatusCode::Unavailable) << "they would come again at once";
  world.now += 200'000'000;
  const auto later = open(plan);
  settle();
  EXPECT_EQ(code(later), StatusCode::Ok);
}

TEST_F(LaneTest, ThatOnAnotherDeviceIsNotJoined) {
  WorldOptions options;
  options.devices = 2;
  World two(options);
  SimClient& one = two.connect();
  two.settle();
  DeviceMemoryTerms terms;
  terms.handle.assign(kIpcHandleBytes, std::byte{1});
  terms.bytes = 4096;
  terms.device = "fake-1";
  Session& session = *two.dispatcher().find_session(one.session());
  const SegmentRef memory = *session.device_memory.add_registered(
      device_segment(std::move(terms), {}, one.uid(), one.session()), two.segments());
  session.segments[memory->id] = memory;
  const auto here = add_one_request(segment_buffer("x", 64, one.arena()));
  const auto there = add_one_request(segment_buffer("x", 64, memory->id));
  ASSERT_TRUE(one.send(0, prepare_message(1, encode_request(here))));
  ASSERT_TRUE(one.send(0, prepare_message(2, encode_request(there))));
  two.settle();
  ASSERT_TRUE(one.send(0, open_lane_message(3, 1)));
  two.settle();
  ASSERT_TRUE(one.send(0, open_lane_message(4, 2)));
  two.settle();
  std::map<std::uint64_t, SeenAnswer> seen;
  for (SeenAnswer& answer : one.read(0)) seen[answer.id] = std::move(answer);
  ASSERT_EQ(seen[3].code, StatusCode::Ok) << seen[3].message;
  EXPECT_EQ(seen[4].code, StatusCode::Unavailable);
  EXPECT_NE(seen[4].message.find("another device"), std::string::npos) << seen[4].message;
}

}  // namespace
}  // namespace kaas
