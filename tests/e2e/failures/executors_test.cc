// Executors that die, hang or are changed under way.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

// How a process ends that touches what is not there. AddressSanitizer catches the signal.
#if defined(__SANITIZE_ADDRESS__)
constexpr const char* kBadAccess = "exit status 1";
#else
constexpr const char* kBadAccess = "signal 11";
#endif

class Executors : public E2eTest {
 protected:
  static Request kernel_with_literal(const std::string& name, std::uint32_t literal) {
    RequestBuilder builder;
    builder.kernel("faulty", name).grid(1).block(1).literal(literal);
    return built(builder);
  }
  // Runs for `ms`, then stores `value` under `key`.
  static Request busy(const std::string& key, std::uint64_t ms, float value) {
    RequestBuilder builder;
    builder.buffer(key, 4);
    builder.kernel("faulty", "busy").grid(1).block(1).literal(ms).literal(value).out(key);
    return built(builder);
  }
  pid_t executor() const {
    const auto pids = daemon_->executors();
    return pids.empty() ? 0 : pids.front();
  }
  // Another executor than `old` is there.
  bool replaced(pid_t old) const {
    return eventually([&] { return executor() != 0 && executor() != old; });
  }
};

TEST_F(Executors, SegmentationFaultIsTheFaultOfItsRequestAlone) {
  Client client = connect();
  Client neighbour = connect();
  ASSERT_OK(neighbour.put("x", bytes_of(std::vector<float>{1.0f})));
  auto bad = client.submit(kernel_with_literal("crash", 1));
  std::vector<Future<Reply>> good;
  for (int i = 0; i < 20; ++i) good.push_back(neighbour.submit(scale("x", 1)));
  const auto outcome = bad.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::KernelFault) << outcome.error().message;
  EXPECT_NE(outcome.error().message.find(kBadAccess), std::string::npos) << outcome.error().message;
  for (auto& run : good) EXPECT_OK(run.get());
  EXPECT_EQ(floats(neighbour, "x").at(0), 1048576.0f);
  ASSERT_OK(client.run(kernel_with_literal("crash", 0)));
}

TEST_F(Executors, ExitOfAKernelIsReportedWithItsStatus) {
  Client client = connect();
  const auto outcome = client.run(kernel_with_literal("leave", 3));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::KernelFault);
  EXPECT_NE(outcome.error().message.find("exit status 3"), std::string::npos)
      << outcome.error().message;
}

TEST_F(Executors, KilledExecutorIsReplacedAndTheRequestRunsAgain) {
  Client client = connect();
  ASSERT_OK(client.run(busy("warm", 0, 0.0f)));
  const pid_t old = executor();
  auto run = client.submit(busy("x", 300, 5.0f));
  ASSERT_TRUE(eventually([&] {
    const auto clients = client.clients_json();
    return clients.has_value() && clients->find("\"running\"") != std::string::npos;
  }));
  ::kill(old, SIGKILL);
  ASSERT_OK(run.get());
  EXPECT_EQ(floats(client, "x").at(0), 5.0f);
  EXPECT_TRUE(replaced(old));
}

TEST_F(Executors, RequestThatOverwritesItsInputInPlaceIsNotRunTwice) {
  Client client = connect();
  auto memory = client.allocate(64);
  ASSERT_OK(memory);
  RequestBuilder builder;
  builder.buffer("x", 4).in(*memory);
  builder.kernel("faulty", "busy")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{20'000})
      .literal(1.0f)
      .inout("x");
  ASSERT_OK(client.run(busy("warm", 0, 0.0f)));
  auto run = client.submit(built(builder));
  ASSERT_TRUE(eventually([&] {
    const auto clients = client.clients_json();
    return clients.has_value() && clients->find("\"running\"") != std::string::npos;
  }));
  ::kill(executor(), SIGKILL);
  const auto outcome = run.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::UnknownOutcome) << outcome.error().message;
  EXPECT_NE(outcome.error().message.find("signal 9"), std::string::npos);
}

TEST_F(Executors, PreparedPlanOutlivesItsExecutor) {
  Client client = connect();
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1.0f})));
  auto plan = client.prepare(scale("x", 1));
  ASSERT_OK(plan);
  ASSERT_OK(plan->run());
  const pid_t old = executor();
  ::kill(old, SIGKILL);
  ASSERT_TRUE(replaced(old));
  ASSERT_OK(plan->run());
  EXPECT_EQ(floats(client, "x").at(0), 4.0f);
}

TEST_F(Executors, RestartLoopAlwaysWorks) {
  Client client = connect();
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1.0f})));
  for (int round = 0; round < 10; ++round) {
    const pid_t old = executor();
    ::kill(old, SIGKILL);
    ASSERT_TRUE(replaced(old)) << daemon_->log();
    ASSERT_OK(client.run(scale("x", 1)));
  }
  EXPECT_EQ(floats(client, "x").at(0), 1024.0f);
}

TEST_F(Executors, WhatAKernelPrintsIsLoggedWithItsRequest) {
  Client client = connect();
  RequestBuilder builder;
  builder.kernel("faulty", "say").grid(1).block(1).literal(std::int32_t{42});
  auto run = client.submit(built(builder));
  const std::uint64_t id = run.id();
  ASSERT_OK(run.get());
  EXPECT_TRUE(eventually([&] {
    const auto logs = client.logs_json();
    if (!logs.has_value()) return false;
    const auto json = nlohmann::json::parse(*logs);
    for (const auto& line : json["lines"]) {
      if (line["text"] == "kernel says 42") {
        EXPECT_EQ(line["session"].get<std::uint64_t>(), client.session());
        EXPECT_EQ(line["request"].get<std::uint64_t>(), id);
        return true;
      }
    }
    return false;
  }));
}

TEST_F(Executors, ReplacedLibraryServesLaterRequestsAndAPlanKeepsItsOwn) {
  Client client = connect();
  const std::string built_libraries =
      test_environment("KAAS_TEST_BINARY_DIR") + "/lib/kaas/kernels/";
  const std::string path = daemon_->folder() + "/answer.so";
  std::filesystem::copy_file(built_libraries + "answer1.so", path);
  RequestBuilder builder;
  builder.buffer("out", 12).in_message();
  builder.kernel(path, "answer").grid(1).block(1).out("out");
  const Request request = built(builder);
  auto plan = client.prepare(request);
  ASSERT_OK(plan);
  const auto values = [](const Result<Reply>& reply) {
    return reply.has_value() ? values_of<std::uint32_t>(reply->data("out"))
                             : std::vector<std::uint32_t>{};
  };
  EXPECT_EQ(values(client.run(request)), (std::vector<std::uint32_t>{100, 1, 1}));
  EXPECT_EQ(values(plan->run()), (std::vector<std::uint32_t>{100, 2, 2}));
  std::filesystem::copy_file(built_libraries + "answer2.so", path + ".new");
  std::filesystem::rename(path + ".new", path);
  EXPECT_EQ(values(client.run(request)), (std::vector<std::uint32_t>{200, 1, 1}));
  EXPECT_EQ(values(plan->run()), (std::vector<std::uint32_t>{100, 3, 3}));
}

TEST_F(Executors, DeadlineOfARunningRequestIsAnsweredAndItsResultDiscarded) {
  Client client = connect();
  RunOptions options;
  options.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  const auto outcome = client.run(busy("late", 500, 1.0f), options);
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::DeadlineExceeded) << outcome.error().message;
  ASSERT_OK(client.run(busy("after", 0, 2.0f)));
  EXPECT_TRUE(eventually([&] {
    const auto status = client.status_json();
    return status.has_value() && nlohmann::json::parse(*status)["requests_under_way"] == 0;
  }));
  EXPECT_FALSE(client.stat("late").has_value());
}

class RunningLimit : public Executors {
 protected:
  std::vector<std::string> arguments() override { return {"--running-limit-ms", "400"}; }
};

TEST_F(RunningLimit, EndlessKernelIsEndedAndOthersAreNot) {
  Client client = connect();
  Client neighbour = connect();
  ASSERT_OK(neighbour.put("x", bytes_of(std::vector<float>{1.0f})));
  auto endless = client.submit(kernel_with_literal("endless", 0));
  auto short_one = neighbour.submit(scale("x", 1));
  EXPECT_OK(short_one.get());
  const auto outcome = endless.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::DeadlineExceeded) << outcome.error().message;
  EXPECT_NE(outcome.error().message.find("400 ms"), std::string::npos);
  ASSERT_OK(neighbour.run(scale("x", 1)));
  EXPECT_EQ(floats(neighbour, "x").at(0), 4.0f);
}

TEST(ExecutorStart, DaemonWithoutAnExecutorDoesNotStart) {
  char path[] = "/tmp/kaas-test-XXXXXX";
  const int file = ::mkstemp(path);
  ASSERT_GE(file, 0);
  ::close(file);
  const std::vector<std::pair<std::string, std::string>> mistakes = {
      {"/nonexistent/kaas-executor", "No such file or directory"},
      {"/tmp", "Is a directory"},
      {path, "Permission denied"}};
  for (const auto& [program, reason] : mistakes) {
    DaemonProcess::Options options;
    options.arguments = {"--executor", program};
    options.wait_until_ready = false;
    const auto daemon = DaemonProcess::start(std::move(options));
    ASSERT_NE(daemon, nullptr);
    EXPECT_EQ(daemon->wait(), 2) << program;
    const std::string said = "executor.program '" + program + "': " + reason;
    EXPECT_NE(daemon->log().find(said), std::string::npos) << daemon->log();
  }
  std::filesystem::remove(path);
}

TEST(ExecutorStart, DaemonWhoseExecutorDoesNotStartSaysSo) {
  char path[] = "/tmp/kaas-test-XXXXXX";
  const int file = ::mkstemp(path);
  ASSERT_GE(file, 0);
  ::close(file);
  std::ofstream(path) << "#!/bin/sh\nexit 3\n";
  ASSERT_EQ(::chmod(path, 0755), 0);
  DaemonProcess::Options options;
  options.arguments = {"--executor", path};
  options.wait_until_ready = false;
  const auto daemon = DaemonProcess::start(std::move(options));
  ASSERT_NE(daemon, nullptr);
  ClientOptions client_options;
  client_options.socket = daemon->socket();
  std::optional<Client> client;
  ASSERT_TRUE(eventually([&] {
    auto connected = Client::connect(client_options);
    if (!connected.has_value()) return false;
    client.emplace(std::move(*connected));
    return true;
  }));
  RequestBuilder builder;
  builder.kernel("std", "noop").grid(1).block(1);
  const auto outcome = client->run(*builder.build());
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::Unavailable);
  EXPECT_NE(outcome.error().message.find("exit status 3"), std::string::npos)
      << outcome.error().message;
  const auto status = client->status_json();
  ASSERT_OK(status);
  EXPECT_EQ(nlohmann::json::parse(*status)["health"], "degraded");
  client.reset();
  EXPECT_EQ(daemon->stop(), 0);
  std::filesystem::remove(path);
}

TEST(ExecutorStart, PrefixIsACommandThatExecutorsRunUnder) {
  const auto daemon = DaemonProcess::start({"--executor-prefix", "/usr/bin/env KAAS_PREFIX=1"});
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(daemon->stop(), 0);
}

}  // namespace
}  // namespace kaas
