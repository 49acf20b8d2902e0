// Bound plans, with and without a lane: the same meaning, whatever happens to the lane.
#include <poll.h>
#include <signal.h>

#include <array>
#include <cmath>

#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

class Lanes : public E2eTest {
 protected:
  // x = x * factor, in place: run twice it gives something else.
  static Request scale_in(const Buffer& memory, float factor = 2.0f) {
    RequestBuilder builder;
    builder.buffer("x", 4).in(memory);
    builder.kernel("std", "scale")
        .grid(1)
        .block(1)
        .literal(std::uint64_t{1})
        .literal(factor)
        .inout("x");
    return built(builder);
  }
  // out = x + y; `x` is a key or memory.
  static Request sum_of(const std::string& key, const Buffer& y, const Buffer& out) {
    RequestBuilder builder;
    builder.buffer("x", 4).at(key);
    builder.buffer("y", 4).in(y);
    builder.buffer("out", 4).in(out);
    builder.kernel("std", "add")
        .grid(1)
        .block(1)
        .literal(std::uint64_t{1})
        .in("x")
        .in("y")
        .out("out");
    return built(builder);
  }
  static Buffer memory(Client& client, float value) {
    auto buffer = client.allocate(64);
    EXPECT_OK(buffer);
    set(*buffer, value);
    return std::move(*buffer);
  }
  static void set(const Buffer& buffer, float value) {
    std::memcpy(buffer.data(), &value, sizeof value);
  }
  static float get(const Buffer& buffer) {
    float value = 0;
    std::memcpy(&value, buffer.data(), sizeof value);
    return value;
  }
  static Plan prepared(Client& client, const Request& request) {
    auto plan = client.prepare(request);
    EXPECT_OK(plan);
    return std::move(*plan);
  }
  // Runs it until it has a lane.
  [[nodiscard]] static bool has_lane_soon(const BoundPlan& plan) {
    return eventually([&] {
      EXPECT_OK(plan.run());
      return plan.has_lane();
    });
  }
  // How many runs of "busy_aloud" have begun.
  [[nodiscard]] std::size_t begun_kernels() const {
    const std::string log = daemon_->log();
    std::size_t count = 0;
    for (std::size_t at = log.find("kernel begins"); at != std::string::npos;
         at = log.find("kernel begins", at + 1)) {
      ++count;
    }
    return count;
  }
  [[nodiscard]] pid_t executor() const {
    const auto pids = daemon_->executors();
    return pids.empty() ? 0 : pids.front();
  }
};

TEST_F(Lanes, RunsGiveTheSameWithAndWithoutOne) {
  Client client = connect();
  const Buffer x = memory(client, 1);
  const Buffer out = memory(client, 0);
  ASSERT_OK(client.put("one", bytes_of(std::vector<float>{1.0f})));
  const Plan plan = prepared(client, sum_of("one", x, out));
  const BoundPlan bound = plan.bind();
  const auto first = bound.run();
  ASSERT_OK(first);
  EXPECT_FALSE(bound.has_lane()) << "after one run";
  ASSERT_TRUE(has_lane_soon(bound)) << daemon_->log();
  for (int i = 0; i < 1000; ++i) {
    set(x, static_cast<float>(i));
    const auto reply = bound.run();
    ASSERT_OK(reply);
    ASSERT_EQ(get(out), static_cast<float>(i) + 1);
    ASSERT_EQ(reply->outputs.size(), first->outputs.size());
    EXPECT_EQ(reply->outputs[0].name, "out");
    EXPECT_EQ(reply->outputs[0].bytes, 4u);
  }
  EXPECT_TRUE(bound.has_lane());
}

TEST_F(Lanes, PlanOfScratchMemoryAloneHasOne) {
  Client client = connect();
  RequestBuilder builder;
  builder.buffer("x", 4).ephemeral();
  builder.buffer("y", 4).ephemeral();
  builder.kernel("std", "scale")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{1})
      .literal(2.0f)
      .inout("x");
  const Request reads_x = built(builder);
  EXPECT_FALSE(prepared(client, reads_x).bind().run().has_value()) << "there is no object x";

  RequestBuilder scratch;
  scratch.buffer("x", 4).ephemeral();
  scratch.buffer("y", 4).ephemeral();
  scratch.kernel("std", "add")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{1})
      .temporary("x")
      .temporary("x")
      .out("y");
  const Plan plan = prepared(client, built(scratch));
  const BoundPlan bound = plan.bind();
  ASSERT_TRUE(has_lane_soon(bound)) << daemon_->log();
  const auto reply = bound.run();
  ASSERT_OK(reply);
  EXPECT_TRUE(reply->outputs.empty());
  RunOptions profiled;
  profiled.profile = true;
  const auto told = plan.run({}, profiled);
  ASSERT_OK(told);
  EXPECT_EQ(told->profile->counters.launches, 1u);
  EXPECT_EQ(told->profile->counters.host_to_device_bytes, 0u);
  EXPECT_EQ(told->profile->counters.device_to_host_bytes, 0u);
}

TEST_F(Lanes, RunsOfOneThreadKeepTheirOrder) {
  Client client = connect();
  const Buffer x = memory(client, 1);
  const Plan twice = prepared(client, scale_in(x, 2.0f));
  const Plan half = prepared(client, scale_in(x, 0.5f));
  const BoundPlan doubled = twice.bind();
  const BoundPlan halved = half.bind();
  ASSERT_TRUE(has_lane_soon(doubled));
  ASSERT_TRUE(has_lane_soon(halved));
  EXPECT_TRUE(doubled.has_lane()) << "one lane has several calls";
  set(x, 1);
  std::vector<Future<Reply>> replies;
  // Any other order would lose bits: to infinity, or below the smallest number.
  for (int i = 0; i < 3000; ++i) {
    replies.push_back(doubled.submit());
    replies.push_back(halved.submit());
  }
  for (auto& reply : replies) ASSERT_OK(reply.get());
  EXPECT_EQ(get(x), 1.0f);
}

TEST_F(Lanes, OtherOperationsOfTheThreadKeepTheirPlaceInTheOrder) {
  Client client = connect();
  const Buffer x = memory(client, 1);
  const BoundPlan bound = prepared(client, scale_in(x)).bind();
  ASSERT_TRUE(has_lane_soon(bound));
  for (int i = 0; i < 300; ++i) {
    set(x, 1);
    auto a = bound.submit();
    auto b = bound.submit();
    auto put = client.put_async("copy", x, 0, 4);
    auto c = bound.submit();
    auto got = client.get_async("copy");
    ASSERT_OK(a.get());
    ASSERT_OK(b.get());
    ASSERT_OK(put.get());
    ASSERT_OK(c.get());
    const auto object = got.get();
    ASSERT_OK(object);
    ASSERT_EQ(values_of<float>(object->bytes()).at(0), 4.0f);
    ASSERT_EQ(get(x), 8.0f);
  }
}

TEST_F(Lanes, NewVersionOfAKeyIsSeenByTheNextRun) {
  Client client = connect();
  Client other = connect("other");
  const Buffer zero = memory(client, 0);
  const Buffer out = memory(client, 0);
  ASSERT_OK(other.put("k", bytes_of(std::vector<float>{0.0f})));
  const BoundPlan bound = prepared(client, sum_of("k", zero, out)).bind();
  int with_lane = 0;
  for (int round = 1; round <= 30; ++round) {
    if (has_lane_soon(bound)) ++with_lane;
    const float value = static_cast<float>(round);
    ASSERT_OK(other.put("k", bytes_of(std::vector<float>{value})));
    ASSERT_OK(bound.run());
    ASSERT_EQ(get(out), value);
  }
  EXPECT_EQ(with_lane, 30);
  ASSERT_OK(other.remove("k"));
  const auto gone = bound.run();
  ASSERT_FALSE(gone.has_value());
  EXPECT_EQ(gone.error().code, StatusCode::NotFound);
}

TEST_F(Lanes, WhatCanNotGoByOneGoesTheLongWay) {
  Client client = connect();
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1.0f})));
  const BoundPlan bound = prepared(client, scale("x", 1, 1.5f)).bind();
  for (int i = 0; i < 40; ++i) {
    const auto reply = bound.run();
    ASSERT_OK(reply);
    ASSERT_NE(reply->outputs.at(0).version, 0u);
  }
  EXPECT_FALSE(bound.has_lane());
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1.0f})));
  ASSERT_OK(bound.run());
  EXPECT_EQ(floats(client, "x").at(0), 1.5f);
}

TEST_F(Lanes, NoneBesideAnEventLoop) {
  Client client = connect();
  const Buffer x = memory(client, 1);
  const BoundPlan bound = prepared(client, scale_in(x, 1.0f)).bind();
  ASSERT_TRUE(has_lane_soon(bound));
  auto under_way = bound.submit();
  ASSERT_GE(client.event_fd(), 0);
  ASSERT_OK(under_way.get());
  EXPECT_FALSE(bound.has_lane());
  for (int i = 0; i < 20; ++i) {
    auto reply = bound.submit();
    pollfd waiting{client.event_fd(), POLLIN, 0};
    while (!reply.ready()) {
      ASSERT_EQ(::poll(&waiting, 1, 5'000), 1) << "run " << i << " is not shown";
      client.poll();
    }
    ASSERT_OK(reply.get());
  }
  const BoundPlan another = prepared(client, scale_in(x, 1.0f)).bind();
  for (int i = 0; i < 40; ++i) ASSERT_OK(another.run());
  EXPECT_FALSE(another.has_lane());
}

TEST_F(Lanes, SurviveTheirExecutor) {
  Client client = connect();
  const Buffer y = memory(client, 1);
  const Buffer out = memory(client, 0);
  ASSERT_OK(client.put("one", bytes_of(std::vector<float>{1.0f})));
  const BoundPlan bound = prepared(client, sum_of("one", y, out)).bind();
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(has_lane_soon(bound));
    std::vector<Future<Reply>> replies;
    for (int i = 0; i < 20; ++i) replies.push_back(bound.submit());
    ::kill(executor(), SIGKILL);
    for (int i = 0; i < 20; ++i) replies.push_back(bound.submit());
    for (auto& reply : replies) ASSERT_OK(reply.get());
    EXPECT_EQ(get(out), 2.0f);
  }
}

TEST_F(Lanes, WhatMayHaveRunInPlaceIsNotRunTwice) {
  if (wants_gpu()) GTEST_SKIP() << "the kernel is for the host";
  Client client = connect();
  const Buffer x = memory(client, 1);
  RequestBuilder builder;
  builder.buffer("x", 4).in(x);
  builder.kernel("faulty", "busy_aloud")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{300})
      .literal(1.0f)
      .inout("x");
  const BoundPlan bound = prepared(client, built(builder)).bind();
  ASSERT_TRUE(has_lane_soon(bound)) << daemon_->log();
  const pid_t old = executor();
  const std::size_t begun = begun_kernels();
  auto reply = bound.submit();
  ASSERT_TRUE(eventually([&] { return begun_kernels() > begun; }));
  ::kill(old, SIGKILL);
  const auto outcome = reply.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::UnknownOutcome) << outcome.error().message;
  EXPECT_NE(outcome.error().message.find("signal 9"), std::string::npos) << outcome.error().message;
  ASSERT_OK(bound.run());
}

TEST_F(Lanes, EndWithADeviceThatIsSuspended) {
  Client client = connect();
  const Buffer x = memory(client, 1);
  const BoundPlan bound = prepared(client, scale_in(x, 1.0f)).bind();
  ASSERT_TRUE(has_lane_soon(bound));
  ASSERT_OK(client.suspend_device("all", std::chrono::seconds(5)));
  EXPECT_FALSE(bound.has_lane());
  auto waiting = bound.submit();
  EXPECT_FALSE(waiting.wait(std::chrono::milliseconds(50)));
  ASSERT_OK(client.resume_device("all"));
  ASSERT_OK(waiting.get());
  EXPECT_TRUE(has_lane_soon(bound));
}

TEST_F(Lanes, EndWithASegmentThatIsDropped) {
  Client client = connect();
  const Buffer out = memory(client, 0);
  ASSERT_OK(client.put("one", bytes_of(std::vector<float>{1.0f})));
  auto large = client.allocate(64u << 20);
  ASSERT_OK(large);
  set(*large, 1);
  const BoundPlan bound = prepared(client, sum_of("one", *large, out)).bind();
  ASSERT_TRUE(has_lane_soon(bound));
  *large = Buffer();
  EXPECT_TRUE(eventually([&] { return !bound.has_lane(); }));
  const auto gone = bound.run();
  ASSERT_FALSE(gone.has_value());
  EXPECT_EQ(gone.error().code, StatusCode::NotFound) << gone.error().message;
}

TEST_F(Lanes, AreCountedAndEndWithTheirClient) {
  Client witness = connect("witness");
  const auto requests_of = [&](const std::string& name) {
    std::uint64_t requests = 0;
    const auto clients = witness.clients_json();
    EXPECT_OK(clients);
    const auto all = nlohmann::json::parse(*clients);
    for (const auto& one : all["clients"]) {
      if (one["name"] == name) requests += one["requests"].get<std::uint64_t>();
    }
    return requests;
  };
  {
    Client client = connect("counted");
    const Buffer x = memory(client, 1);
    const BoundPlan bound = prepared(client, scale_in(x, 1.0f)).bind();
    ASSERT_TRUE(has_lane_soon(bound));
    const std::uint64_t before = requests_of("counted");
    for (int i = 0; i < 500; ++i) ASSERT_OK(bound.run());
    EXPECT_TRUE(eventually([&] { return requests_of("counted") >= before + 500; }))
        << before << " " << requests_of("counted");
  }
  ASSERT_OK(witness.put("x", bytes_of(std::vector<float>{1.0f})));
  ASSERT_OK(witness.run(scale("x", 1)));
}

TEST_F(Lanes, ThreadsHaveEachTheirOwn) {
  Client client = connect();
  std::vector<std::thread> threads;
  std::array<float, 3> results{};
  for (std::size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&, t] {
      const Buffer x = memory(client, 1);
      const BoundPlan bound = prepared(client, scale_in(x, t % 2 == 0 ? 2.0f : 0.5f)).bind();
      ASSERT_TRUE(has_lane_soon(bound));
      set(x, 1);
      std::vector<Future<Reply>> replies;
      for (int i = 0; i < 100; ++i) replies.push_back(bound.submit());
      for (auto& reply : replies) ASSERT_OK(reply.get());
      results[t] = get(x);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(results[0], std::pow(2.0f, 100));
  EXPECT_EQ(results[1], std::pow(0.5f, 100));
  EXPECT_EQ(results[2], std::pow(2.0f, 100));
}

}  // namespace
}  // namespace kaas
