// Kernels that fault, hang or print on a GPU: what their requests and everybody else's see.
#include <nlohmann/json.hpp>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

class GpuFailures : public E2eTest {
 protected:
  std::vector<std::string> arguments() override { return {"--running-limit-ms", "1000"}; }

  static Request fault(std::uint32_t number) {
    RequestBuilder builder;
    builder.buffer("out", 4).in_message();
    builder.kernel("faults", "fault").grid(1).block(32).literal(number).out("out");
    return built(builder);
  }
  static Request busy(std::uint64_t ns) {
    RequestBuilder builder;
    builder.buffer("taken", 8).in_message();
    builder.kernel("bench", "busy").grid(1).block(32).literal(ns).out("taken");
    return built(builder);
  }
};

TEST_F(GpuFailures, IllegalAccessIsTheFaultOfItsRequestAloneAndSaysWhatItWas) {
  Client client = connect();
  Client neighbour = connect();
  ASSERT_OK(client.run(fault(0)));
  for (int round = 0; round < 3; ++round) {
    ASSERT_OK(neighbour.put("x", bytes_of(std::vector<float>{1.0f})));
    auto bad = client.submit(fault(1));
    std::vector<Future<Reply>> good;
    for (int i = 0; i < 20; ++i) good.push_back(neighbour.submit(scale("x", 1)));
    const auto outcome = bad.get();
    ASSERT_FALSE(outcome.has_value());
    EXPECT_EQ(outcome.error().code, StatusCode::KernelFault) << outcome.error().message;
    EXPECT_NE(outcome.error().message.find("illegal memory access"), std::string::npos)
        << outcome.error().message;
    for (auto& run : good) EXPECT_OK(run.get());
    EXPECT_EQ(floats(neighbour, "x").at(0), 1048576.0f);
  }
}

// A plan that is ready and runs as a graph, whose kernel says itself that it has ended.
TEST_F(GpuFailures, LateIllegalAccessIsNotTakenForTheEnd) {
  Client client = connect();
  for (const std::uint32_t blocks : {1u, 16u}) {
    const std::uint64_t count = std::uint64_t{blocks} * 1024;
    RequestBuilder builder;
    builder.buffer("out", count * 4).in_message();
    builder.kernel("faults", "fault_late").grid(blocks).block(1024).literal(0u).out("out");
    const auto plan = client.prepare(built(builder));
    ASSERT_OK(plan);
    RunOptions profile;
    profile.profile = true;
    ASSERT_TRUE(eventually([&] {
      const auto reply = plan->run({}, profile);
      return reply.has_value() && reply->profile->way == RunWay::Graph;
    }));
    for (int i = 0; i < 50; ++i) ASSERT_OK(plan->run());
    const auto outcome = plan->run(Bindings().literal(0, 0, 1u));
    ASSERT_FALSE(outcome.has_value()) << blocks << " blocks";
    EXPECT_EQ(outcome.error().code, StatusCode::KernelFault) << outcome.error().message;
    ASSERT_OK(plan->run());
  }
}

TEST_F(GpuFailures, EndlessKernelIsEndedAndOthersGoOn) {
  Client client = connect();
  Client neighbour = connect();
  ASSERT_OK(neighbour.put("x", bytes_of(std::vector<float>{1.0f})));
  ASSERT_OK(client.run(busy(1000)));
  auto endless = client.submit(busy(3'600'000'000'000));
  EXPECT_OK(neighbour.run(scale("x", 1)));
  const auto outcome = endless.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::DeadlineExceeded) << outcome.error().message;
  EXPECT_OK(neighbour.run(scale("x", 1)));
  EXPECT_EQ(floats(neighbour, "x").at(0), 4.0f);
}

TEST_F(GpuFailures, WhatAKernelPrintsIsLoggedWithItsRequest) {
  Client client = connect();
  for (const std::uint32_t number : {41u, 42u, 43u}) {
    RequestBuilder builder;
    builder.kernel("faults", "say").grid(1).block(1).literal(number);
    auto run = client.submit(built(builder));
    const std::uint64_t id = run.id();
    ASSERT_OK(run.get());
    EXPECT_TRUE(eventually([&] {
      const auto logs = client.logs_json();
      if (!logs.has_value()) return false;
      const auto json = nlohmann::json::parse(*logs);
      for (const auto& line : json["lines"]) {
        if (line["text"] != "kernel says " + std::to_string(number)) continue;
        EXPECT_EQ(line["session"].get<std::uint64_t>(), client.session());
        EXPECT_EQ(line["request"].get<std::uint64_t>(), id);
        return true;
      }
      return false;
    })) << daemon_->log();
  }
}

TEST_F(GpuFailures, BlockBeyondWhatAKernelTakesIsRefusedWithBothNumbers) {
  Client client = connect();
  RequestBuilder builder;
  builder.buffer("taken", 8).in_message();
  builder.kernel("bench", "busy")
      .grid(1)
      .block(32)
      .shared_bytes(300'000)
      .literal(std::uint64_t{1})
      .out("taken");
  const auto outcome = client.run(built(builder));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(outcome.error().message.find("300000"), std::string::npos) << outcome.error().message;
  EXPECT_NE(outcome.error().message.find("232448"), std::string::npos) << outcome.error().message;
  ASSERT_OK(client.run(busy(1000)));
}

}  // namespace
}  // namespace kaas
