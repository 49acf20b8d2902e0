// Outputs that stay on a device: published, read, moved, lost; nothing leaks.
#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 1024;
constexpr std::uint64_t kLarge = kSlabObjectBytesMax + 4096;

class ResidentObjectTest : public DispatcherTest {
 protected:
  static WorldOptions options(std::uint32_t devices = 1, std::uint64_t memory_bytes = 1u << 20,
                              std::uint64_t idle_release_ns = 0) {
    WorldOptions options;
    options.devices = devices;
    options.idle_release_ns = idle_release_ns;
    options.executor.device.keeps_outputs = true;
    options.executor.device.memory_bytes = memory_bytes;
    return options;
  }
  explicit ResidentObjectTest(const WorldOptions& own = options()) : DispatcherTest(own) {}
  ~ResidentObjectTest() override {
    settle();
    for (const auto& [number, state] : dispatcher().executors()) {
      EXPECT_TRUE(state->fetches.empty());
    }
  }

  std::uint64_t fill(const std::string& key, std::uint32_t value, std::uint64_t bytes = kBytes) {
    BufferSpec out = store_buffer(key, bytes);
    out.resident = true;
    return submit(fill_request(out, value));
  }
  std::uint64_t copy(const std::string& from, const std::string& to, std::uint64_t bytes = kBytes) {
    return submit(copy_request(store_buffer(from, bytes), store_buffer(to, bytes)));
  }
  SeenAnswer stat_of(const std::string& key) {
    const auto id = stat(key);
    settle();
    return answer(id);
  }
  std::size_t residents() {
    std::size_t count = 0;
    for (auto& [number, executor] : world.executors()) {
      count += executor->loop().cache().figures().residents;
    }
    return count;
  }
  void suspend(const std::string& name, std::uint64_t within_ns = 1'000'000'000) {
    dispatcher().suspend_devices(name, within_ns, false,
                                 [this](auto places) { suspended = std::move(places); });
    settle();
  }
  std::optional<Result<std::vector<std::uint32_t>>> suspended;
};

TEST_F(ResidentObjectTest, IsPublishedWithoutACopyAndFetchedByTheFirstWhoReadsIt) {
  for (const std::uint64_t bytes : {kBytes, kLarge}) {
    const auto id = fill("x", 5, bytes);
    settle();
    EXPECT_EQ(code(id), StatusCode::Ok);
    const SeenAnswer there = stat_of("x");
    EXPECT_EQ(there.place, wire::ObjectPlace::Device);
    EXPECT_EQ(there.device, "fake-0");
    EXPECT_EQ(there.bytes, bytes);
    EXPECT_EQ(residents(), 1u);
    EXPECT_EQ(read_key("x"), Words(bytes / 4, 5));
    const SeenAnswer here = stat_of("x");
    EXPECT_EQ(here.place, wire::ObjectPlace::Host);
    EXPECT_EQ(here.version, there.version);
    EXPECT_EQ(residents(), 0u);
    EXPECT_EQ(read_key("x"), Words(bytes / 4, 5));
  }
}

TEST_F(ResidentObjectTest, LaterRequestsReadItThereWithoutALoad) {
  fill("x", 5, kLarge);
  settle();
  RunOptions profiled;
  profiled.profile = true;
  const auto id =
      submit(copy_request(store_buffer("x", kLarge), store_buffer("y", kLarge)), profiled);
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_EQ(residents(), 1u) << "it is still there only";
  EXPECT_EQ(read_key("y"), Words(kLarge / 4, 5));
  // In place: a version's bytes never change.
  submit(add_one_request(store_buffer("x", kLarge)));
  const auto old = stat("x");
  settle();
  EXPECT_EQ(code(old), StatusCode::Ok);
  EXPECT_EQ(read_key("x"), Words(kLarge / 4, 6));
}

TEST_F(ResidentObjectTest, PipelinedRequestsFollowIt) {
  fill("x", 5);
  copy("x", "y");
  BufferSpec out = store_buffer("z", kBytes);
  out.resident = true;
  submit(copy_request(store_buffer("y", kBytes), out));
  const auto got = get("z");
  settle();
  EXPECT_EQ(words(got), Words(kBytes / 4, 5));
}

TEST_F(ResidentObjectTest, GetThatWaitsReadsTheVersionThatWasCurrentWhenItWasSent) {
  fill("x", 5);
  settle();
  const auto got = get("x");
  const auto put_id = put("x", {1, 2});
  step();
  EXPECT_EQ(code(put_id), StatusCode::Ok);
  settle();
  EXPECT_EQ(words(got), Words(kBytes / 4, 5));
  EXPECT_EQ(read_key("x"), (Words{1, 2}));
}

TEST_F(ResidentObjectTest, OneFetchAnswersAllWhoWaitForIt) {
  fill("x", 5);
  settle();
  const auto first = get("x");
  const auto second = get("x");
  step();
  EXPECT_EQ(dispatcher().executors().begin()->second->fetches.size(), 1u);
  settle();
  EXPECT_EQ(words(first), Words(kBytes / 4, 5));
  EXPECT_EQ(words(second), Words(kBytes / 4, 5));
}

TEST_F(ResidentObjectTest, RemovedOrReplacedItsDeviceMemoryIsFreed) {
  fill("x", 5, kLarge);
  fill("y", 6, kLarge);
  settle();
  const std::uint64_t used = world.executor().loop().cache().pool().used_bytes();
  remove("x");
  put("y", {1});
  settle();
  EXPECT_EQ(residents(), 0u);
  EXPECT_EQ(world.executor().loop().cache().figures().entries, 0u);
  EXPECT_LT(world.executor().loop().cache().pool().used_bytes(), used);
  EXPECT_TRUE(dispatcher().executors().begin()->second->residents.empty());
}

TEST_F(ResidentObjectTest, SliceOverItIsJoinedOnTheHost) {
  fill("x", 5);
  settle();
  const auto id = submit(fill_request(store_buffer("part", 16, "x", 16), 9));
  settle();
  ASSERT_EQ(code(id), StatusCode::Ok) << answer(id).message;
  Words wanted(kBytes / 4, 5);
  std::fill(wanted.begin() + 4, wanted.begin() + 8, 9u);
  EXPECT_EQ(read_key("x"), wanted);
}

TEST_F(ResidentObjectTest, IsLostWithItsExecutorAndReadersAreToldTheCause) {
  fill("x", 5);
  settle();
  const auto waiting = get("x");
  step();
  world.end_executor(world.executor().number(), "signal 11");
  settle();
  EXPECT_EQ(code(waiting), StatusCode::DataLost);
  EXPECT_NE(answer(waiting).message.find("signal 11"), std::string::npos);
  EXPECT_EQ(stat_of("x").place, wire::ObjectPlace::Lost);
  const auto got = get("x");
  const auto needs = copy("x", "y");
  const auto over = submit(fill_request(store_buffer("part", 16, "x", 16), 9));
  settle();
  EXPECT_EQ(code(got), StatusCode::DataLost);
  EXPECT_EQ(code(needs), StatusCode::DataLost);
  EXPECT_EQ(code(over), StatusCode::DataLost);
  EXPECT_NE(answer(needs).message.find("signal 11"), std::string::npos);
  // What is made anew is there again.
  fill("x", 6);
  settle();
  EXPECT_EQ(read_key("x"), Words(kBytes / 4, 6));
}

// One output of the first request is there when another turns out to be a slice of what is lost.
TEST_F(ResidentObjectTest, RequestBehindOneWhoseSliceHasNoBaseAnyMoreFailsWithIt) {
  fill("x", 5);
  settle();
  world.end_executor(world.executor().number());
  settle();
  for (const bool resident : {false, true}) {
    RequestSpec both = fill_request(store_buffer("y", kBytes), 9);
    both.buffers[0].resident = resident;
    both.buffers.push_back(store_buffer("part", 16, "x", 16));
    both.kernels.push_back(fill_kernel(4, 9, 1));
    const auto first = submit(both);
    const auto second = copy("y", "z");
    settle();
    EXPECT_EQ(code(first), StatusCode::DataLost);
    EXPECT_EQ(code(second), StatusCode::DependencyFailed);
    EXPECT_EQ(residents(), 0u);
    const auto got = get("y");
    settle();
    EXPECT_EQ(code(got), StatusCode::NotFound);
  }
}

TEST_F(ResidentObjectTest, RequestThatReadsItWhenItsExecutorDiesIsToldToo) {
  fill("x", 5);
  settle();
  const auto needs = copy("x", "y");
  step();
  world.end_executor(world.executor().number(), "signal 9");
  settle();
  EXPECT_EQ(code(needs), StatusCode::DataLost);
}

TEST_F(ResidentObjectTest, ReaderThatLeavesMeanwhileLeavesNothingBehind) {
  SimClient& other = world.connect();
  fill("x", 5);
  settle();
  EXPECT_TRUE(other.send(0, get_message(900, "x")));
  step();
  world.hang_up(other);
  settle();
  EXPECT_EQ(stat_of("x").place, wire::ObjectPlace::Host);
}

TEST_F(ResidentObjectTest, DeviceIsSuspendedWhenAllIsOnTheHost) {
  fill("x", 5);
  fill("y", 6, kLarge);
  settle();
  suspend("fake-0");
  ASSERT_TRUE(suspended.has_value());
  EXPECT_TRUE(suspended->has_value());
  EXPECT_TRUE(world.executors().empty());
  EXPECT_EQ(read_key("x"), Words(kBytes / 4, 5));
  EXPECT_EQ(read_key("y"), Words(kLarge / 4, 6));
}

// A report of a fetch that was never asked for, or whose bytes are not all there.
TEST_F(ResidentObjectTest, ForgedFetchEndsTheExecutor) {
  fill("x", 5);
  settle();
  const std::uint64_t version = stat_of("x").version;
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(wire::CreateReportItem(builder, wire::Report::Fetched,
                                        wire::CreateFetched(builder, version).Union()));
  world.executor().forge_report(finished(builder));
  step();
  EXPECT_EQ(world.killed.size(), 1u);
  settle();
  EXPECT_EQ(stat_of("x").place, wire::ObjectPlace::Lost);
}

class SmallDeviceTest : public ResidentObjectTest {
 protected:
  SmallDeviceTest() : ResidentObjectTest(options(1, 4 * kBytes)) {}
};

TEST_F(SmallDeviceTest, WhatDoesNotFitAnyMoreIsWrittenBackAndNothingIsLost) {
  for (std::uint32_t i = 0; i < 12; ++i) fill("k" + std::to_string(i), i);
  settle();
  EXPECT_LE(residents(), 4u);
  EXPECT_GE(residents(), 1u);
  for (std::uint32_t i = 0; i < 12; ++i) {
    EXPECT_EQ(read_key("k" + std::to_string(i)), Words(kBytes / 4, i));
  }
}

// A resident input of three quarters of the device, changed in place: both do not fit.
TEST_F(SmallDeviceTest, InputThatDoesNotFitBesideTheRequestIsWrittenBackFirst) {
  fill("x", 5, 3 * kBytes);
  settle();
  const auto id = submit(add_one_request(store_buffer("x", 3 * kBytes)));
  settle();
  ASSERT_EQ(code(id), StatusCode::Ok) << answer(id).message;
  EXPECT_EQ(read_key("x"), Words(3 * kBytes / 4, 6));
}

class TwoDevicesTest : public ResidentObjectTest {
 protected:
  TwoDevicesTest() : ResidentObjectTest(options(2)) {}
  [[nodiscard]] std::string place_of(const std::string& key) { return stat_of(key).device; }
  // Kernels of the plain library are known to keep no state.
  void warm_up() {
    settle();
    submit(fill_request(store_buffer("warm", kBytes), 1));
    settle();
    copy("warm", "cold");
    submit(add_one_request(store_buffer("warm", kBytes)));
    submit(sum_request("warm", "cold", "sum"));
    settle();
  }
  static RequestSpec sum_request(const std::string& a, const std::string& b,
                                 const std::string& out) {
    RequestSpec sum;
    sum.buffers = {store_buffer(a, kBytes), store_buffer(b, kBytes), store_buffer(out, kBytes)};
    sum.kernels = {add_kernel(kBytes / 4, 0, 1, 2)};
    return sum;
  }
};

TEST_F(TwoDevicesTest, RequestGoesWhereItsInputIsOrHasItFetched) {
  warm_up();
  for (std::uint32_t i = 0; i < 8; ++i) fill("k" + std::to_string(i), i);
  settle();
  std::string there;
  std::string here;
  for (int i = 0; i < 8; ++i) {
    const std::string key = "k" + std::to_string(i);
    (place_of(key) == "fake-0" ? here : there) = key;
  }
  ASSERT_FALSE(here.empty() || there.empty());
  const auto stays = copy(there, "copied");
  settle();
  EXPECT_EQ(code(stays), StatusCode::Ok);
  EXPECT_EQ(place_of(there), "fake-1");
  // Of inputs on two devices, one moves.
  const auto both = submit(sum_request(here, there, "both"));
  settle();
  ASSERT_EQ(code(both), StatusCode::Ok) << answer(both).message;
  EXPECT_NE(place_of(here).empty(), place_of(there).empty());
  EXPECT_EQ(read_key("both"),
            Words(kBytes / 4, static_cast<std::uint32_t>(here[1] - '0' + there[1] - '0')));
}

TEST_F(TwoDevicesTest, RequestForASuspendedDevicesInputRunsElsewhere) {
  warm_up();
  fill("x", 5);
  settle();
  const std::string device = place_of("x");
  suspend(device);
  const auto id = copy("x", "y");
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_TRUE(suspended->has_value());
  EXPECT_EQ(read_key("y"), Words(kBytes / 4, 5));
}

class IdleTest : public ResidentObjectTest {
 protected:
  IdleTest() : ResidentObjectTest(options(1, 1u << 20, 1'000'000)) {}
};

TEST_F(IdleTest, ExecutorIsReleasedWhenAllIsOnTheHost) {
  fill("x", 5);
  settle();
  std::uint64_t wake_at = 0;
  dispatcher().prepare_to_sleep(wake_at);
  dispatcher().finish_sleep();
  EXPECT_EQ(wake_at, world.now + 1'000'000);
  world.now += 1'000'000;
  settle();
  EXPECT_TRUE(world.executors().empty());
  EXPECT_EQ(stat_of("x").place, wire::ObjectPlace::Host);
  EXPECT_EQ(read_key("x"), Words(kBytes / 4, 5));
}

// Another user's executor can't reach the device memory of this one's.
TEST_F(ResidentObjectTest, RequestOfAnotherDomainHasItFetched) {
  fill("x", 5);
  settle();
  ASSERT_TRUE(world.store().share(client->uid(), "x", {.everyone = true}).has_value());
  SimClient& other = world.connect(1001);
  const RequestSpec request =
      copy_request(store_buffer("in", kBytes, "@1000/x"), store_buffer("y", kBytes));
  EXPECT_TRUE(other.send(0, submit_message(900, encode_request(request))));
  settle();
  EXPECT_EQ(code(900), StatusCode::Ok) << answer(900).message;
  EXPECT_EQ(stat_of("x").place, wire::ObjectPlace::Host);
}

// On a device without memory of its own it is an ordinary object.
class HostLikeTest : public DispatcherTest {};

TEST_F(HostLikeTest, ResidentMeansNothingThere) {
  BufferSpec out = store_buffer("x", kBytes);
  out.resident = true;
  submit(fill_request(out, 5));
  const auto id = stat("x");
  settle();
  EXPECT_EQ(answer(id).place, wire::ObjectPlace::Host);
  EXPECT_EQ(read_key("x"), Words(kBytes / 4, 5));
}

}  // namespace
}  // namespace kaas
