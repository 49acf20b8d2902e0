// Several devices: where runs go, and devices that are suspended, resumed, idle or dead.
#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 64;
constexpr std::uint64_t kLarge = kSlabObjectBytesMax + 4096;
const Words kOnes(16, 1);

class DevicesTest : public DispatcherTest {
 protected:
  static WorldOptions options(std::uint64_t idle_release_ns = 0) {
    WorldOptions two;
    two.devices = 2;
    two.start_executors = false;
    two.idle_release_ns = idle_release_ns;
    return two;
  }
  explicit DevicesTest(std::uint64_t idle_release_ns = 0)
      : DispatcherTest(options(idle_release_ns)) {}
  // Both devices have their executor.
  void start_both() {
    start(1);
    start(2);
    step();
  }
  SimExecutor& start(std::uint32_t place) {
    SimExecutor& executor = world.start_executor(client->uid(), place);
    executor.step();
    return executor;
  }
  // The executor's work is done, and kaasd has read its reports.
  void run(std::uint32_t place) {
    while (world.executor_at(place)->step() == StepOutcome::Progress) {
    }
    step();
  }
  // Numbers of the requests in flight there.
  std::vector<std::uint64_t> on(std::uint32_t place) {
    std::vector<std::uint64_t> ids;
    for (const auto& [number, state] : dispatcher().executors()) {
      if (state->link->identity().place != place) continue;
      for (const auto* run : state->in_flight) ids.push_back(run->id);
    }
    return ids;
  }
  // Kernels of the plain library are known to keep no state, on both devices.
  void warm_up() {
    start_both();
    submit(fill_request(store_buffer("warm", kBytes), 1));
    settle();
    submit(copy_request(store_buffer("warm", kBytes), store_buffer("cold", kBytes)));
    settle();
    submit(add_one_request(store_buffer("warm", kBytes)));
    submit(sum_request("warm", "cold", "sum"));
    settle();
  }
  static RequestSpec sum_request(const std::string& a, const std::string& b,
                                 const std::string& out) {
    RequestSpec sum;
    sum.buffers = {store_buffer(a, kBytes), store_buffer(b, kBytes), store_buffer(out, kBytes)};
    sum.kernels = {add_kernel(16, 0, 1, 2)};
    return sum;
  }
  std::uint64_t fill(const std::string& key, std::uint32_t value = 1) {
    return submit(fill_request(store_buffer(key, kBytes), value));
  }
  std::uint64_t copy(const std::string& from, const std::string& to) {
    return submit(copy_request(store_buffer(from, kBytes), store_buffer(to, kBytes)));
  }
  void suspend(const std::string& name, std::uint64_t within_ns = 1'000'000, bool force = false) {
    suspended.reset();
    dispatcher().suspend_devices(name, within_ns, force,
                                 [this](auto places) { suspended = std::move(places); });
    step();
  }
  [[nodiscard]] StatusCode outcome() const {
    EXPECT_TRUE(suspended.has_value()) << "it is not decided";
    if (!suspended) return StatusCode::Internal;
    return suspended->has_value() ? StatusCode::Ok : suspended->error().code;
  }
  using Ids = std::vector<std::uint64_t>;
  std::optional<Result<std::vector<std::uint32_t>>> suspended;
};

// --- Placement -----------------------------------------------------------------------------------

TEST_F(DevicesTest, DeviceMemoryIsUsedWhereItIs) {
  warm_up();
  DeviceMemoryTerms terms;
  terms.handle.assign(kIpcHandleBytes, std::byte{1});
  terms.bytes = 4096;
  terms.device = "fake-1";
  Session& session = *dispatcher().find_session(client->session());
  const SegmentRef memory = *session.device_memory.add_registered(
      device_segment(std::move(terms), {}, client->uid(), client->session()), world.segments());
  session.segments[memory->id] = memory;
  const auto id = submit(fill_request(segment_buffer("a", kBytes, memory->id), 1));
  step();
  EXPECT_EQ(on(2), std::vector{id});
  settle();
}

TEST_F(DevicesTest, EachDeviceIsWantedForADomainThatConnects) {
  std::vector<std::uint32_t> places;
  for (const WantedExecutor& one : world.wanted) places.push_back(one.place);
  EXPECT_EQ(places, (std::vector<std::uint32_t>{1, 2}));
}

TEST_F(DevicesTest, IndependentRequestsSpread) {
  warm_up();
  for (int i = 0; i < 20; ++i) fill("k" + std::to_string(i));
  step();
  EXPECT_EQ(on(1).size() + on(2).size(), 20u);
  EXPECT_NEAR(static_cast<double>(on(1).size()), 10, kAffinityLead);
  settle();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(read_key("k" + std::to_string(i)), kOnes);
}

TEST_F(DevicesTest, ChainStaysOnOneDeviceWhileItIsInFlight) {
  warm_up();
  const auto first = fill("x", 7);
  const auto second = copy("x", "y");
  const auto third = copy("y", "z");
  step();
  EXPECT_EQ(on(1), (Ids{first, second, third}));
  settle();
  EXPECT_EQ(read_key("z"), Words(16, 7));
}

// An addition of two values that are made on different devices.
TEST_F(DevicesTest, RequestThatNeedsTwoDevicesWaitsForOneOfThem) {
  warm_up();
  std::vector<std::uint64_t> writers;
  for (const char* key : {"a", "b", "c", "d", "e", "f", "g", "h"}) writers.push_back(fill(key, 3));
  step();
  ASSERT_FALSE(on(2).empty());
  const std::uint64_t there = on(2).front();
  const std::uint64_t here = on(1).front();
  const auto key_of = [&](std::uint64_t id) {
    return std::string(1, static_cast<char>('a' + (id - writers.front())));
  };
  const auto id = submit(sum_request(key_of(here), key_of(there), "sum"));
  step();
  dispatcher().runs().for_each([&](const auto& one) {
    if (one.id == id) {
      EXPECT_EQ(one.state, kaas::Run::State::Waiting);
    }
  });
  run(1);
  const Ids second = on(2);
  EXPECT_EQ(second.back(), id) << "the other value is still being made there";
  settle();
  EXPECT_EQ(read_key("sum"), Words(16, 6));
}

TEST_F(DevicesTest, RequestGoesWhereItsLargeInputWasUsed) {
  warm_up();
  put("big", Words(kLarge / 4, 5));
  // The first device is busy, so the first use is on the second.
  for (int i = 0; i < 3; ++i) fill("busy" + std::to_string(i));
  step();
  const auto first = submit(copy_request(store_buffer("big", kLarge), store_buffer("o", kLarge)));
  step();
  const bool on_second = !on(2).empty() && on(2).back() == first;
  settle();
  for (int i = 0; i < 3; ++i) {
    const auto id = submit(
        copy_request(store_buffer("big", kLarge), store_buffer("p" + std::to_string(i), kLarge)));
    step();
    EXPECT_EQ(on(on_second ? 2 : 1), Ids{id});
    settle();
  }
}

TEST_F(DevicesTest, PlansThatKeepStateStayTogether) {
  start_both();
  // Nobody knows yet that the library keeps state.
  for (int i = 0; i < 6; ++i) {
    submit(fill_request(store_buffer("s" + std::to_string(i), kBytes), 1, "stateful"));
  }
  step();
  EXPECT_EQ(on(1).size(), 6u);
  EXPECT_EQ(on(2).size(), 0u);
  settle();
  // Other plans of it, when it is known, go where its state is though the other device is idle.
  for (int i = 0; i < 6; ++i) {
    submit(add_one_request(store_buffer("s" + std::to_string(i), kBytes), "stateful"));
  }
  step();
  EXPECT_EQ(on(1).size(), 6u);
  settle();
  EXPECT_EQ(read_key("s5"), Words(16, 2));
}

TEST_F(DevicesTest, PlanThatKeepsNoStateSpreadsWhenThatIsKnown) {
  // All of them are queued before any executor has seen the plan.
  for (int i = 0; i < 20; ++i) fill("k" + std::to_string(i));
  start(1);
  start(2);
  step();
  settle();
  for (int i = 0; i < 20; ++i) fill("k" + std::to_string(i));
  step();
  EXPECT_GT(on(1).size(), 5u);
  EXPECT_GT(on(2).size(), 5u);
}

TEST_F(DevicesTest, StateIsWhereverItIsUsedAgainAfterItsExecutorDied) {
  start_both();
  submit(fill_request(store_buffer("x", kBytes), 1, "stateful"));
  settle();
  world.end_executor(world.executor_at(1)->number());
  step();
  const auto id = submit(fill_request(store_buffer("x", kBytes), 2, "stateful"));
  step();
  EXPECT_EQ(on(2), Ids{id});
  settle();
  EXPECT_EQ(read_key("x"), Words(16, 2));
}

// --- Deaths --------------------------------------------------------------------------------------

TEST_F(DevicesTest, ReplayableRequestsOfADeadExecutorRunOnTheOther) {
  warm_up();
  std::vector<std::uint64_t> ids;
  for (std::uint32_t i = 0; i < 8; ++i) ids.push_back(fill("k" + std::to_string(i), i));
  step();
  ASSERT_FALSE(on(1).empty());
  ASSERT_FALSE(on(2).empty());
  world.end_executor(world.executor_at(1)->number());
  settle();
  for (const auto id : ids) EXPECT_EQ(code(id), StatusCode::Ok);
  for (std::uint32_t i = 0; i < 8; ++i) {
    EXPECT_EQ(read_key("k" + std::to_string(i)), Words(16, i));
  }
}

TEST_F(DevicesTest, DeviceThatCannotBeHadLeavesTheWorkToTheOther) {
  const auto stateful = submit(fill_request(store_buffer("s", kBytes), 1, "stateful"));
  const auto plain = fill("x");
  step();
  dispatcher().executor_failed(client->uid(), 1, Status{StatusCode::Unavailable, "taken"});
  start(2);
  settle();
  EXPECT_EQ(code(stateful), StatusCode::Ok);
  EXPECT_EQ(code(plain), StatusCode::Ok);
}

TEST_F(DevicesTest, OnlyWhenNoDeviceCanBeHadRequestsFail) {
  const auto id = fill("x");
  step();
  dispatcher().executor_failed(client->uid(), 2, Status{StatusCode::Unavailable, "second"});
  step();
  EXPECT_FALSE(answered(id));
  dispatcher().executor_failed(client->uid(), 1, Status{StatusCode::Unavailable, "first"});
  step();
  EXPECT_EQ(code(id), StatusCode::Unavailable);
  world.wanted.clear();
  fill("y");
  step();
  EXPECT_EQ(world.wanted.size(), 2u) << "the next request tries all again";
}

// --- Suspension ----------------------------------------------------------------------------------

TEST_F(DevicesTest, SuspendedDeviceLosesItsExecutorAndTheOtherTakesTheWork) {
  warm_up();
  const std::uint32_t first = world.executor_at(1)->number();
  suspend("fake-0");
  EXPECT_EQ(outcome(), StatusCode::Ok);
  EXPECT_EQ(**suspended, std::vector<std::uint32_t>{1});
  EXPECT_EQ(world.released, std::vector<std::uint32_t>{first});
  for (int i = 0; i < 4; ++i) fill("k" + std::to_string(i));
  step();
  EXPECT_EQ(on(2).size(), 4u);
  settle();
  ASSERT_TRUE(dispatcher().resume_devices("fake-0").has_value());
  ASSERT_EQ(world.wanted.size(), 1u);
  EXPECT_EQ(world.wanted.front().place, 1u);
}

TEST_F(DevicesTest, SuspensionWaitsForWhatRuns) {
  warm_up();
  for (int i = 0; i < 8; ++i) fill("k" + std::to_string(i));
  step();
  suspend("fake-0");
  EXPECT_FALSE(suspended.has_value());
  EXPECT_TRUE(world.released.empty());
  const std::size_t before = on(1).size();
  const auto later = fill("later");
  step();
  EXPECT_EQ(on(1).size(), before);
  EXPECT_EQ(on(2).back(), later);
  run(1);
  EXPECT_EQ(outcome(), StatusCode::Ok);
  settle();
  for (int i = 0; i < 8; ++i) EXPECT_EQ(read_key("k" + std::to_string(i)), kOnes);
}

TEST_F(DevicesTest, SuspensionThatTakesTooLongIsRefusedWithWhatRunsAndTheDeviceGoesOn) {
  warm_up();
  const auto running = fill("x");
  step();
  ASSERT_EQ(on(1), Ids{running});
  suspend("fake-0", 5'000'000);
  std::uint64_t wake_at = 0;
  dispatcher().prepare_to_sleep(wake_at);
  dispatcher().finish_sleep();
  EXPECT_EQ(wake_at, world.now + 5'000'000);
  world.now += 5'000'000;
  step();
  EXPECT_EQ(outcome(), StatusCode::DeadlineExceeded);
  const std::string name = std::to_string(client->session()) + ".0." + std::to_string(running);
  EXPECT_NE(suspended->error().message.find(name), std::string::npos) << suspended->error().message;
  EXPECT_TRUE(world.released.empty());
  settle();
  EXPECT_EQ(code(running), StatusCode::Ok);
  const auto next = fill("y");
  step();
  EXPECT_EQ(on(1), Ids{next});
}

TEST_F(DevicesTest, RequestBehindOneThatRunsThereFollowsItElsewhere) {
  warm_up();
  const auto first = fill("x", 4);
  step();
  ASSERT_EQ(on(1), Ids{first});
  suspend("fake-0");
  const auto second = copy("x", "y");
  step();
  EXPECT_TRUE(on(2).empty()) << "its input is not on the host yet";
  run(1);
  EXPECT_EQ(on(2), Ids{second});
  settle();
  EXPECT_EQ(read_key("y"), Words(16, 4));
}

TEST_F(DevicesTest, RequestsWaitWhenNoDeviceIsLeft) {
  warm_up();
  suspend("all");
  EXPECT_EQ(outcome(), StatusCode::Ok);
  EXPECT_EQ(world.released.size(), 2u);
  world.do_chores();
  RunOptions options;
  options.deadline_ns = world.now + 1'000;
  const auto late = submit(fill_request(store_buffer("late", kBytes), 1), options);
  const auto patient = fill("patient");
  const auto stateful = submit(fill_request(store_buffer("s", kBytes), 1, "stateful"));
  settle();
  EXPECT_FALSE(answered(late));
  EXPECT_TRUE(world.wanted.empty());
  world.now += 1'000;
  settle();
  EXPECT_EQ(code(late), StatusCode::DeadlineExceeded);
  EXPECT_FALSE(answered(patient));
  ASSERT_TRUE(dispatcher().resume_devices("fake-1").has_value());
  start(2);
  settle();
  EXPECT_EQ(code(patient), StatusCode::Ok);
  EXPECT_EQ(code(stateful), StatusCode::Ok);
}

TEST_F(DevicesTest, StateOfLibrariesIsNotLostWithoutForce) {
  start_both();
  submit(fill_request(store_buffer("x", kBytes), 1, "stateful"));
  settle();
  suspend("fake-0");
  EXPECT_EQ(outcome(), StatusCode::InvalidArgument);
  EXPECT_NE(suspended->error().message.find("1 libraries"), std::string::npos)
      << suspended->error().message;
  suspend("fake-1");
  EXPECT_EQ(outcome(), StatusCode::Ok) << "it holds none";
  suspend("fake-0", 0, true);
  EXPECT_EQ(outcome(), StatusCode::Ok);
}

TEST_F(DevicesTest, ExecutorThatComesForASuspendedDeviceIsLetGo) {
  suspend("all");
  EXPECT_EQ(outcome(), StatusCode::Ok);
  EXPECT_TRUE(world.wanted.empty()) << "those that were not started are not wanted any more";
  world.start_executor(client->uid(), 1);  // It was started before kaasd's order came.
  step();
  EXPECT_EQ(world.released.size(), 1u);
  EXPECT_TRUE(dispatcher().executors().empty());
  ASSERT_TRUE(dispatcher().resume_devices("all").has_value());
  EXPECT_EQ(world.wanted.size(), 2u);
}

TEST_F(DevicesTest, SecondSuspensionIsRefusedAndResumingEndsTheFirst) {
  warm_up();
  fill("x");
  step();
  suspend("fake-0");
  const auto first = std::exchange(suspended, std::nullopt);
  EXPECT_FALSE(first.has_value());
  suspend("all");
  EXPECT_EQ(outcome(), StatusCode::AlreadyExists);
  suspended.reset();
  ASSERT_TRUE(dispatcher().resume_devices("fake-0").has_value());
  EXPECT_EQ(outcome(), StatusCode::Cancelled);
  settle();
  EXPECT_TRUE(world.released.empty());
}

TEST_F(DevicesTest, SuspendedDeviceMayBeSuspendedAndAnActiveOneResumedAgain) {
  warm_up();
  EXPECT_TRUE(dispatcher().resume_devices("all").has_value());
  suspend("fake-0");
  suspend("fake-0");
  EXPECT_EQ(outcome(), StatusCode::Ok);
  suspend("all");
  EXPECT_EQ(outcome(), StatusCode::Ok);
  EXPECT_EQ((*suspended)->size(), 2u);
  EXPECT_EQ(world.released.size(), 2u);
}

TEST_F(DevicesTest, DevicesAreNamedByIdOrItsBeginningIfThatIsUnique) {
  for (const char* wrong : {"", "fake", "fake-", "fake-2", "nothing", "fake-0x"}) {
    suspend(wrong);
    EXPECT_EQ(outcome(), StatusCode::NotFound) << wrong;
    EXPECT_NE(suspended->error().message.find("fake-0, fake-1"), std::string::npos);
    EXPECT_FALSE(dispatcher().resume_devices(wrong).has_value()) << wrong;
  }
}

// --- Executors without work ----------------------------------------------------------------------

class IdleDevicesTest : public DevicesTest {
 protected:
  static constexpr std::uint64_t kIdle = 1'000'000;
  IdleDevicesTest() : DevicesTest(kIdle) {}
};

TEST_F(IdleDevicesTest, ExecutorWithoutWorkIsLetGoAndComesAgainWithTheNextRequest) {
  warm_up();
  std::uint64_t wake_at = 0;
  dispatcher().prepare_to_sleep(wake_at);
  dispatcher().finish_sleep();
  EXPECT_EQ(wake_at, world.now + kIdle);
  world.now += kIdle;
  step();
  EXPECT_EQ(world.released.size(), 2u);
  EXPECT_TRUE(world.wanted.empty());
  dispatcher().prepare_to_sleep(wake_at);
  dispatcher().finish_sleep();
  EXPECT_EQ(wake_at, 0u);
  const auto id = fill("x");
  step();
  ASSERT_EQ(world.wanted.size(), 1u) << "one is enough for one request";
  start(world.wanted.front().place);
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
}

TEST_F(IdleDevicesTest, SecondDeviceComesAgainWhenTheFirstIsBusy) {
  warm_up();
  world.now += kIdle;
  step();
  fill("x");
  step();
  start(world.wanted.front().place);
  step();
  EXPECT_TRUE(world.wanted.empty());
  for (int i = 0; i < 8; ++i) fill("k" + std::to_string(i));
  step();
  EXPECT_EQ(world.wanted.size(), 1u);
}

TEST_F(IdleDevicesTest, WorkAndStateKeepAnExecutor) {
  warm_up();
  submit(fill_request(store_buffer("x", kBytes), 1, "stateful"));
  settle();
  world.now += kIdle;
  step();
  EXPECT_EQ(world.released.size(), 1u) << "the state of a library is in the other one";
  fill("y");
  step();
  world.now += 10 * kIdle;
  step();
  EXPECT_EQ(world.released.size(), 1u);
}

}  // namespace
}  // namespace kaas
