// Lanes of executors that die, never answer, or lie.
#include <fcntl.h>

#include <filesystem>

#include "tests/support/descriptor_limit.h"
#include "tests/unit/dispatch/lane_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kLimitNs = 1'000'000'000;

class FaultyLaneTest : public LaneTest {
 protected:
  // Runs and invocations stay under way until the executor is stepped often enough.
  static WorldOptions options() {
    WorldOptions slow;
    slow.running_limit_ns = kLimitNs;
    slow.executor.device.asynchronous = true;
    return slow;
  }
  FaultyLaneTest() : LaneTest(options()) {}
  void begin(SimLane& lane, const SeenGrant& grant) {
    ASSERT_TRUE(lane.invoke(++invocations_, grant.call));
    world.executor().step();
    ASSERT_EQ(lane.taken(), invocations_);
    ASSERT_TRUE(lane.read().empty());
  }
  // kaasd looks at what lanes do, so long.
  void pass(std::uint64_t ns) {
    world.now += ns;
    world.step();
  }

 private:
  std::uint64_t invocations_ = 0;
};

// --- Beside requests ---------------------------------------------------------------------------

// What is sent behind the question for a lane of the same bytes, which the executor is only
// told of.
TEST_F(FaultyLaneTest, QuestionForItHidesNoEarlierRequest) {
  const std::uint32_t lane_plan = prepare(in_place());
  const std::uint32_t write = prepare(fill_request(arena("x"), 7));
  const std::uint32_t read = prepare(copy_request(arena("x"), arena("out", 64)));
  send([&](std::uint64_t id) { return invoke_message(id, write); });
  open(lane_plan);
  const auto reader = send([&](std::uint64_t id) { return invoke_message(id, read); });
  for (int i = 0; i < 4; ++i) world.step();  // All are sent, and the executor has done nothing.
  std::vector<const kaas::Run*> runs;
  for (const kaas::Run* run : dispatcher().executors().begin()->second->in_flight) {
    if (run->kind == kaas::Run::Kind::Execute) runs.push_back(run);
  }
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[1]->bound.after, std::vector{runs[0]->number});
  settle();
  EXPECT_EQ(code(reader), StatusCode::Ok);
  EXPECT_EQ(word(64), 7u);
}

// It has overwritten nothing, so what comes before it can be run again.
TEST_F(FaultyLaneTest, QuestionForItTakesNobodysInput) {
  const std::uint32_t lane_plan = prepare(in_place());
  const std::uint32_t read = prepare(copy_request(arena("x"), arena("out", 64)));
  const auto reader = send([&](std::uint64_t id) { return invoke_message(id, read); });
  open(lane_plan);
  for (int i = 0; i < 4; ++i) world.step();
  world.end_executor(world.executor().number());
  settle();
  EXPECT_EQ(code(reader), StatusCode::Ok) << answer(reader).message;
}

// --- Descriptors ---------------------------------------------------------------------------------

TEST_F(LaneTest, WithoutDescriptorsItIsRefusedAloneAndLeavesNothing) {
  const std::uint32_t plan = prepare(in_place());
  const std::size_t segments = world.segments().alive();
  const std::uint64_t bytes = world.budget().used_bytes();
  bool lacked_bell = false;
  bool is_granted = false;
  for (int spare = 0; spare < 16 && !is_granted; ++spare) {
    const auto id = open(plan);
    {
      // Numbers below the limit may be free in between.
      std::vector<Descriptor> taken;
      for (int n = 0; n < spare; ++n) taken.emplace_back(::open("/dev/null", O_RDONLY));
      const Descriptor next(::open("/dev/null", O_RDONLY));
      const auto limit = static_cast<rlim_t>(next.get());
      taken.clear();
      const DescriptorLimit lowered(limit);
      step();
    }
    settle();
    is_granted = code(id) == StatusCode::Ok;
    if (is_granted) break;
    EXPECT_EQ(code(id), StatusCode::ResourceExhausted) << answer(id).message;
    lacked_bell = lacked_bell || answer(id).message.find("the bell of a lane") == 0;
    EXPECT_EQ(lanes(), 0u);
    EXPECT_EQ(world.segments().alive(), segments);
    EXPECT_EQ(world.budget().used_bytes(), bytes);
  }
  EXPECT_TRUE(lacked_bell);
  EXPECT_TRUE(is_granted);
}

// --- Death ---------------------------------------------------------------------------------------

TEST_F(FaultyLaneTest, DeathEndsItWithTheCauseAndGivesAllBack) {
  put("k", Words(16, 1));
  settle();
  const std::uint64_t versions = world.store().usage().versions;
  const std::uint64_t bytes = world.budget().used_bytes();
  const std::size_t segments = world.segments().alive();
  const auto lane = lane_for(reading("k"));
  put("k", Words(16, 2));
  step();
  world.end_executor(world.executor().number(), "signal 11 (Segmentation fault)");
  EXPECT_EQ(end_of(*lane), StatusCode::UnknownOutcome);
  EXPECT_NE(end_message.find("signal 11"), std::string::npos) << end_message;
  step();
  EXPECT_EQ(world.store().usage().versions, versions);
  EXPECT_EQ(world.segments().alive(), segments);
  EXPECT_EQ(world.budget().used_bytes(), bytes);
  settle();
  granted(in_place());
}

TEST_F(FaultyLaneTest, DeathBeforeTheGrantRefusesIt) {
  const std::uint32_t plan = prepare(in_place());
  const auto id = open(plan);
  step();
  world.end_executor(world.executor().number());
  step();
  EXPECT_EQ(code(id), StatusCode::Unavailable);
  EXPECT_NE(answer(id).message.find("signal 9"), std::string::npos) << answer(id).message;
  EXPECT_EQ(lanes(), 0u);
}

TEST_F(FaultyLaneTest, GrantThatIsReportedBeforeTheDeathIsGivenAndEnded) {
  const auto id = open(prepare(in_place()));
  step();
  while (world.executor().step() == StepOutcome::Progress) {
  }
  world.end_executor(world.executor().number());
  step();
  ASSERT_EQ(code(id), StatusCode::Ok);
  const auto lane = client->map_lane(*answer(id).lane);
  EXPECT_EQ(end_of(*lane), StatusCode::UnknownOutcome);
}

TEST_F(FaultyLaneTest, DeathBesideALaneThatIsBusyBlamesNobody) {
  // A run that its executor died with twice, alone, is the cause. Here it may have been the lane.
  const SeenGrant grant = granted(in_place());
  auto lane = client->map_lane(grant);
  const auto id = submit(fill_request(store_buffer("x", kLaneBytes), 5));
  step();
  begin(*lane, grant);
  world.end_executor(world.executor().number());
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_EQ(read_key("x"), Words(16, 5));
}

TEST_F(FaultyLaneTest, RunWithStrikesWaitsForTheEndOfAllLanes) {
  const std::uint32_t plan = prepare(in_place());
  const auto id = submit(fill_request(store_buffer("x", kLaneBytes), 5));
  const auto asked = open(plan);
  step();
  world.end_executor(world.executor().number());
  read();
  EXPECT_FALSE(answered(id));
  step();
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_TRUE(answered(asked));
}

TEST_F(LaneTest, RunWithStrikesRunsAlone) {
  granted(in_place());
  const auto first = submit(fill_request(store_buffer("x", kLaneBytes), 5));
  step();
  world.end_executor(world.executor().number());
  // A lane on the new executor, before the run goes there: in the same step as its Ready.
  open(prepare(in_place()));
  for (int i = 0; i < 50 && !answered(first); ++i) {
    world.step();
    world.do_chores();
    const auto& executors = dispatcher().executors();
    const bool alone = !executors.empty() && executors.begin()->second->alone;
    EXPECT_TRUE(!alone || lanes() == 0);
    for (auto& [number, executor] : world.executors()) executor->step();
    read();
  }
  EXPECT_EQ(code(first), StatusCode::Ok);
}

// --- Running limit -------------------------------------------------------------------------------

TEST_F(FaultyLaneTest, InvocationThatNeverEndsEndsItsExecutor) {
  const SeenGrant grant = granted(in_place());
  auto lane = client->map_lane(grant);
  begin(*lane, grant);
  std::uint64_t wake_at = 0;
  ASSERT_TRUE(dispatcher().prepare_to_sleep(wake_at));
  EXPECT_NE(wake_at, 0u) << "nobody rings when a client uses its lane";
  dispatcher().finish_sleep();
  pass(2'000'000);
  pass(kLimitNs - 2'000'000);
  EXPECT_TRUE(world.killed.empty());
  pass(2'000'000);
  ASSERT_EQ(world.killed.size(), 1u);
  world.do_chores();
  EXPECT_EQ(end_of(*lane), StatusCode::DeadlineExceeded);
  EXPECT_NE(end_message.find("1000 ms"), std::string::npos) << end_message;
}

TEST_F(FaultyLaneTest, InvocationMayRunAsLongAsTheLimitSays) {
  const SeenGrant grant = granted(in_place());
  auto lane = client->map_lane(grant);
  pass(2'000'000);  // Nothing is under way.
  pass(kLimitNs / 2 - 1);
  begin(*lane, grant);
  pass(kLimitNs / 2 + 1);
  EXPECT_TRUE(world.killed.empty()) << "it has begun just now";
  pass(kLimitNs / 2);
  EXPECT_TRUE(world.killed.empty());
}

TEST_F(FaultyLaneTest, LaneThatGoesOnIsNotEnded) {
  const SeenGrant grant = granted(in_place());
  auto lane = client->map_lane(grant);
  for (std::uint64_t id = 1; id <= 10; ++id) {
    begin(*lane, grant);
    pass(kLimitNs / 2);
    while (lane->read().empty()) world.executor().step();
    pass(kLimitNs / 2);
  }
  EXPECT_TRUE(world.killed.empty());
}

TEST_F(FaultyLaneTest, RunBesideAnInvocationThatNeverEndsIsTriedAgain) {
  const SeenGrant grant = granted(in_place());
  auto lane = client->map_lane(grant);
  begin(*lane, grant);
  pass(2'000'000);
  pass(kLimitNs - 2'000'000);
  const auto id = submit(fill_request(store_buffer("x", kLaneBytes), 5));
  world.step();
  pass(2'000'000);
  ASSERT_EQ(world.killed.size(), 1u);
  world.do_chores();
  EXPECT_EQ(end_of(*lane), StatusCode::UnknownOutcome) << "it may have been the run";
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok) << answer(id).message;
}

// --- Executors that lie --------------------------------------------------------------------------

class LyingLaneTest : public LaneTest {
 protected:
  explicit LyingLaneTest(const WorldOptions& options = {}) : LaneTest(options) {}
  template <class Create>
  void forge(wire::Report type, Create create) {
    flatbuffers::FlatBufferBuilder b;
    b.Finish(wire::CreateReportItem(b, type, create(b).Union()));
    world.executor().forge_report(finished(b));
  }
  void forge_added(std::uint32_t lane, std::uint32_t call, StatusCode code = StatusCode::Ok) {
    forge(wire::Report::LaneCallAdded,
          [&](auto& b) { return wire::CreateLaneCallAdded(b, lane, call, code); });
  }
  void forge_ended(std::uint32_t lane, StatusCode code = StatusCode::Unavailable) {
    forge(wire::Report::LaneEnded, [&](auto& b) { return wire::CreateLaneEnded(b, lane, code); });
  }
  void expect_killed() {
    step();
    EXPECT_EQ(world.killed.size(), 1u);
    settle();
    granted(in_place(48));  // There is another one.
  }
};

TEST_F(LyingLaneTest, CallThatWasNotAskedForEndsIt) {
  forge_added(1, 1);
  expect_killed();
}

TEST_F(LyingLaneTest, CallThatIsAddedTwiceEndsIt) {
  const SeenGrant grant = granted(in_place());
  forge_added(grant.lane, grant.call);
  expect_killed();
}

TEST_F(LyingLaneTest, UnknownCodesEndIt) {
  const std::uint32_t plan = prepare(in_place());
  const auto id = open(plan);
  step();
  forge_added(1, 1, static_cast<StatusCode>(200));
  expect_killed();
  EXPECT_EQ(code(id), StatusCode::Unavailable);
}

TEST_F(LyingLaneTest, LanesThatAreNotItsOwnOrHaveEndedEndIt) {
  forge_ended(1);
  expect_killed();
}

TEST_F(LyingLaneTest, LaneThatEndsTwiceEndsIt) {
  const auto lane = lane_for(in_place());
  forge_ended(lane->number());
  forge_ended(lane->number());
  step();
  EXPECT_EQ(world.killed.size(), 1u);
  EXPECT_EQ(end_of(*lane), StatusCode::Unavailable);
  EXPECT_NE(end_message, "") << "no end without a cause";
}

TEST_F(LyingLaneTest, LaneThatEndsWellEndsIt) {
  const auto lane = lane_for(in_place());
  forge_ended(lane->number(), StatusCode::Ok);
  expect_killed();
  EXPECT_EQ(end_of(*lane), StatusCode::UnknownOutcome);
}

TEST_F(LyingLaneTest, CallOfALaneThatItHasEndedIsAnswered) {
  const SeenGrant grant = granted(in_place());
  const std::uint32_t plan = prepare(in_place(32));
  const auto id = open(plan);
  step();
  forge_ended(grant.lane, StatusCode::ProtocolViolation);
  step();
  EXPECT_FALSE(answered(id));
  forge_added(grant.lane, grant.call + 1, StatusCode::Unavailable);
  step();
  EXPECT_TRUE(world.killed.empty());
  EXPECT_EQ(code(id), StatusCode::Unavailable);
  EXPECT_EQ(under_way(), 0u);
}

TEST_F(LaneTest, QuestionBehindAViolationIsAnswered) {
  const SeenGrant grant = granted(in_place());
  const auto lane = client->map_lane(grant);
  const std::uint32_t plan = prepare(in_place(32));
  ASSERT_TRUE(lane->invoke(1, 999));
  const auto id = open(plan);
  world.executor().step();  // It ends the lane before it reads of the new call.
  step();
  settle();
  EXPECT_TRUE(answered(id));
  EXPECT_EQ(under_way(), 0u);
  EXPECT_EQ(end_of(*lane), StatusCode::ProtocolViolation);
}

// Two executors: of two users.
TEST_F(LaneTest, ExecutorDoesNotEndAnothersLane) {
  const SeenGrant grant = granted(in_place());
  world.connect(1001);
  settle();
  ASSERT_EQ(world.executors().size(), 2u);
  SimExecutor& liar = *world.executors().rbegin()->second;
  ASSERT_EQ(liar.domain(), 1001u);
  flatbuffers::FlatBufferBuilder b;
  const auto report = wire::CreateLaneEnded(b, grant.lane, StatusCode::Unavailable);
  b.Finish(wire::CreateReportItem(b, wire::Report::LaneEnded, report.Union()));
  const std::uint32_t number = liar.number();
  liar.forge_report(finished(b));
  step();
  EXPECT_EQ(world.killed, std::vector{number});
  EXPECT_EQ(lanes(), 1u);
}

// What the executor says of its work is believed within bounds.
class LyingWordsTest : public LyingLaneTest {
 protected:
  explicit LyingWordsTest(const WorldOptions& options = {}) : LyingLaneTest(options) {
    const auto id = open(prepare(in_place()));
    step();
    mapping = map_out();  // Nobody can any more once it is granted.
    header = RingView::at(mapping.data(), kLaneGeometry).header;
    settle();
    lane = client->map_lane(*answer(id).lane);
    for (std::uint64_t n = 1; n <= 5; ++n) EXPECT_TRUE(lane->invoke(n, answer(id).lane->call));
    settle();
    world.now += 2'000'000;
    step();
    before = counted();
  }
  // The segment that the lane's executor writes: there is one lane.
  static Mapping map_out() {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const auto target = std::filesystem::read_symlink(entry.path(), gone).string();
      if (gone || target.rfind("/memfd:kaas-lane-out", 0) != 0) continue;
      const Descriptor writable(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
      auto mapping = Mapping::create(writable.get(), kLaneGeometry.segment_bytes(),
                                     Mapping::Mode::ReadWrite, "a lane");
      KAAS_CHECK(mapping.has_value());
      return *std::move(mapping);
    }
    return {};
  }
  std::uint64_t counted() {
    return dispatcher().find_session(client->session())->counters.requests;
  }
  void look() {
    world.now += 2'000'000;
    world.step();
  }

  Mapping mapping;
  RingHeader* header = nullptr;
  std::unique_ptr<SimLane> lane;
  std::uint64_t before = 0;
};

TEST_F(LyingWordsTest, CountThatGoesBackwardsEndsIt) {
  header->answered.store(3);
  look();
  EXPECT_EQ(world.killed.size(), 1u);
  EXPECT_EQ(counted(), before);
}

TEST_F(LyingWordsTest, MoreAnsweredThanTakenEndsIt) {
  header->answered.store(6);
  look();
  EXPECT_EQ(world.killed.size(), 1u);
  EXPECT_EQ(counted(), before);
}

TEST_F(LyingWordsTest, OldestThatGoesBackwardsEndsIt) {
  header->oldest.store(4);
  look();
  EXPECT_EQ(world.killed.size(), 1u);
}

TEST_F(LyingWordsTest, OldestThatWasNeverTakenEndsIt) {
  header->oldest.store(6);
  look();
  EXPECT_EQ(world.killed.size(), 1u);
}

// A lane in which one hangs, and others come and go.
class LimitedWordsTest : public LyingWordsTest {
 protected:
  static WorldOptions options() {
    WorldOptions limited;
    limited.running_limit_ns = kLimitNs;
    return limited;
  }
  LimitedWordsTest() : LyingWordsTest(options()) {}
};

TEST_F(LimitedWordsTest, OneThatHangsIsFoundThoughOthersAreAnswered) {
  const std::uint64_t taken = header->consumed.load();
  header->oldest.store(taken);
  std::uint64_t passed_ns = 0;
  for (std::uint64_t others = 0; world.killed.empty() && passed_ns < 3 * kLimitNs; ++others) {
    header->consumed.store(taken + 1 + others);
    header->answered.store(taken + others);
    look();
    passed_ns += 2'000'000;
  }
  EXPECT_EQ(world.killed.size(), 1u);
  EXPECT_LE(passed_ns, kLimitNs + 10'000'000);
}

TEST_F(LimitedWordsTest, ManyThatEndInTimeAreLeftAlone) {
  const std::uint64_t taken = header->consumed.load();
  for (std::uint64_t others = 0; others < 1'200; ++others) {
    header->consumed.store(taken + 1 + others);
    header->answered.store(taken + others);
    header->oldest.store(taken + others);
    look();
  }
  EXPECT_TRUE(world.killed.empty());
}

TEST_F(LyingWordsTest, HugeCountsDoNotOverflowTheAccounts) {
  for (const std::uint64_t huge : {std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    header->consumed.store(huge);
    header->answered.store(huge);
    look();
  }
  EXPECT_GT(counted(), before);
  EXPECT_LE(counted(), before + 5'000'000) << "one in a nanosecond, at most";
  header->busy_ns.store(~std::uint64_t{0});
  look();
  world.hang_up(*client);
  settle();
}

TEST_F(LyingWordsTest, EndedLanesWordsAreNotBelievedEither) {
  header->answered.store(1);
  world.hang_up(*client);
  settle();
  EXPECT_EQ(dispatcher().executors().begin()->second->finished >> 32, 0u);
}

}  // namespace
}  // namespace kaas
