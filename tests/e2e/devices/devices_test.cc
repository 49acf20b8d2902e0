// A daemon with several devices: work spreads, deaths and suspensions are survived, and devices are
// found and chosen.
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

using nlohmann::json;

Result<json> status_of(Client& client) {
  const auto text = client.status_json();
  if (!text.has_value()) return text.error();
  return json::parse(*text);
}

class Devices : public E2eTest {
 protected:
  std::vector<std::string> arguments() override { return {"--device", "host,host"}; }
  // Runs for `ms`, then stores `value` under `key`.
  static Request busy(const std::string& key, std::uint64_t ms, float value) {
    RequestBuilder builder;
    builder.buffer(key, 4);
    builder.kernel("faulty", "busy").grid(1).block(1).literal(ms).literal(value).out(key);
    return built(builder);
  }
  // After it, executors know that the kernel keeps no state, so it may run anywhere.
  static void warm_up(Client& client) {
    ASSERT_OK(client.run(busy("warm", 0, 0.0f)));
    ASSERT_OK(client.put("one", bytes_of(std::vector<float>{1.0f})));
    ASSERT_OK(client.run(scale("one", 1)));
  }
  static json status(Client& client) {
    auto status = status_of(client);
    if (!status.has_value()) ADD_FAILURE() << to_string(status.error());
    return status.has_value() ? *status : json::object();
  }
  static std::string state(Client& client, std::size_t device) {
    return status(client)["devices"][device]["state"];
  }
  static json executor(Client& client, const std::string& device) {
    const json all = status(client);
    for (const json& one : all["executors"]) {
      if (one["device"] == device) return one;
    }
    return json();
  }
  static std::uint64_t number(Client& client, const std::string& device, const char* field) {
    const json one = executor(client, device);
    return one.is_null() ? 0 : one[field].get<std::uint64_t>();
  }
};

TEST_F(Devices, EachHasAnExecutorAndItsShareOfTheMemory) {
  Client client = connect();
  const json all = status(client);
  ASSERT_EQ(all["devices"].size(), 2u);
  EXPECT_EQ(all["devices"][0]["id"], "host-0");
  EXPECT_EQ(all["devices"][1]["id"], "host-1");
  EXPECT_EQ(all["devices"][1]["state"], "ready");
  EXPECT_EQ(daemon_->executors().size(), 2u);
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
  const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  EXPECT_LE(all["devices"][0]["limit_bytes"].get<std::uint64_t>(), pages * page_bytes / 4);
}

TEST_F(Devices, RequestsOfSeveralClientsSpreadOverBoth) {
  constexpr int kClients = 4;
  constexpr int kRequests = 25;
  Client observer = connect();
  warm_up(observer);
  std::vector<std::thread> threads;
  for (int n = 0; n < kClients; ++n) {
    threads.emplace_back([this, n] {
      Client client = connect();
      std::vector<Future<Reply>> runs;
      for (int i = 0; i < kRequests; ++i) {
        const std::string key = std::to_string(n) + "." + std::to_string(i);
        runs.push_back(client.submit(busy(key, 2, static_cast<float>(i))));
      }
      for (auto& run : runs) EXPECT_OK(run.get());
      for (int i = 0; i < kRequests; ++i) {
        const auto values = floats(client, std::to_string(n) + "." + std::to_string(i));
        EXPECT_EQ(values, std::vector<float>{static_cast<float>(i)});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(number(observer, "host-0", "finished"), kClients * kRequests / 5u);
  EXPECT_GT(number(observer, "host-1", "finished"), kClients * kRequests / 5u);
}

// Each request needs what the one before it makes, and all are sent at once.
TEST_F(Devices, PipelinedChainsOfSeveralClientsGiveTheRightResults) {
  constexpr int kClients = 4;
  constexpr int kRounds = 20;
  Client observer = connect();
  warm_up(observer);
  std::vector<std::thread> threads;
  for (int n = 0; n < kClients; ++n) {
    threads.emplace_back([this, n] {
      Client client = connect();
      const std::string key = "chain" + std::to_string(n);
      ASSERT_OK(client.put(key, bytes_of(std::vector<float>(1000, 1.0f))));
      std::vector<Future<Reply>> runs;
      for (int i = 0; i < kRounds; ++i) {
        runs.push_back(client.submit(scale(key, 1000)));
        runs.push_back(client.submit(busy(key + "-other", 1, 1.0f)));
      }
      for (auto& run : runs) EXPECT_OK(run.get());
      EXPECT_EQ(floats(client, key), std::vector<float>(1000, 1048576.0f));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(number(observer, "host-1", "finished"), 0u);
}

TEST_F(Devices, NothingReplayableIsLostWhenOneExecutorIsKilled) {
  Client client = connect();
  warm_up(client);
  constexpr int kRequests = 40;
  std::vector<Future<Reply>> runs;
  for (int i = 0; i < kRequests; ++i) {
    runs.push_back(client.submit(busy("k" + std::to_string(i), 5, static_cast<float>(i))));
  }
  ASSERT_TRUE(eventually([&] { return number(client, "host-1", "in_flight") > 0; }));
  const auto pid = static_cast<pid_t>(number(client, "host-1", "pid"));
  ASSERT_GT(pid, 0);
  ::kill(pid, SIGKILL);
  for (auto& run : runs) EXPECT_OK(run.get());
  for (int i = 0; i < kRequests; ++i) {
    EXPECT_EQ(floats(client, "k" + std::to_string(i)).at(0), static_cast<float>(i));
  }
  EXPECT_TRUE(eventually([&] { return state(client, 1) == "ready"; }));
  EXPECT_EQ(number(client, "host-1", "restarts"), 1u);
  EXPECT_EQ(number(client, "host-0", "restarts"), 0u);
}

// A kernel that says of itself that it keeps state sees all of its calls.
TEST_F(Devices, CallsOfALibraryThatKeepsStateGoToOneExecutor) {
  Client client = connect();
  const std::string path =
      test_environment("KAAS_TEST_BINARY_DIR") + "/lib/kaas/kernels/answer1.so";
  RequestBuilder builder;
  builder.buffer("out", 12).in_message();
  builder.kernel(path, "answer").grid(1).block(1).out("out");
  const Request request = built(builder);
  std::vector<Future<Reply>> runs;
  for (int i = 0; i < 30; ++i) runs.push_back(client.submit(request));
  std::vector<std::uint32_t> calls;
  for (auto& run : runs) {
    const auto reply = run.get();
    ASSERT_OK(reply);
    calls.push_back(values_of<std::uint32_t>(reply->data("out")).at(1));
  }
  std::sort(calls.begin(), calls.end());
  std::vector<std::uint32_t> expected(30);
  std::iota(expected.begin(), expected.end(), 1u);
  EXPECT_EQ(calls, expected);
  const auto refused = client.suspend_device("all");
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("1 libraries"), std::string::npos);
  EXPECT_OK(client.suspend_device("all", std::chrono::seconds(30), true));
}

// --- Suspension ----------------------------------------------------------------------------------

TEST_F(Devices, SuspendedDeviceHasNoProcessAndTheOtherTakesTheWork) {
  Client client = connect();
  warm_up(client);
  const auto pid = static_cast<pid_t>(number(client, "host-0", "pid"));
  ASSERT_GT(pid, 0);
  const auto suspended = client.suspend_device("host-0");
  ASSERT_OK(suspended);
  EXPECT_EQ(json::parse(*suspended)["suspended"], json::array({"host-0"}));
  EXPECT_FALSE(process_exists(pid)) << "its memory is to be free when the call returns";
  EXPECT_EQ(state(client, 0), "suspended");
  ASSERT_OK(client.run(busy("x", 0, 3.0f)));
  EXPECT_EQ(floats(client, "x").at(0), 3.0f);
  EXPECT_EQ(daemon_->executors().size(), 1u);
  ASSERT_OK(client.resume_device("host-0"));
  EXPECT_TRUE(eventually([&] { return state(client, 0) == "ready"; }));
  EXPECT_EQ(daemon_->executors().size(), 2u);
  EXPECT_EQ(number(client, "host-0", "restarts"), 0u);
}

TEST_F(Devices, SuspensionWaitsForWhatRunsOrIsRefusedWithIt) {
  Client client = connect();
  Client admin = connect();
  warm_up(client);
  auto run = client.submit(busy("x", 1500, 3.0f));
  ASSERT_TRUE(eventually([&] {
    return number(admin, "host-0", "in_flight") + number(admin, "host-1", "in_flight") == 1;
  }));
  const auto refused = admin.suspend_device("all", std::chrono::milliseconds(50));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, StatusCode::DeadlineExceeded);
  const std::string name = std::to_string(client.session()) + ".0." + std::to_string(run.id());
  EXPECT_NE(refused.error().message.find(name), std::string::npos) << refused.error().message;
  ASSERT_OK(admin.suspend_device("all"));
  ASSERT_OK(run.get());
  EXPECT_EQ(daemon_->executors().size(), 0u) << daemon_->log();
}

TEST_F(Devices, RequestsWaitForADeviceThatIsResumed) {
  Client client = connect();
  Client admin = connect();
  warm_up(client);
  ASSERT_OK(admin.suspend_device("all"));
  EXPECT_EQ(status(admin)["health"], "degraded");
  RunOptions options;
  options.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  const auto late = client.run(busy("late", 0, 1.0f), options);
  ASSERT_FALSE(late.has_value());
  EXPECT_EQ(late.error().code, StatusCode::DeadlineExceeded);
  auto patient = client.submit(busy("x", 0, 3.0f));
  EXPECT_TRUE(eventually([&] { return status(admin)["queued"] == 1; }));
  ASSERT_OK(admin.resume_device("host-1"));
  ASSERT_OK(patient.get());
  EXPECT_EQ(floats(client, "x").at(0), 3.0f);
}

// A process that ends at once is not taken for one that died.
TEST_F(Devices, SuspendedAgainAndAgainNoExecutorIsLeft) {
  Client client = connect();
  for (int round = 0; round < 30; ++round) {
    ASSERT_OK(client.suspend_device("all"));
    ASSERT_EQ(daemon_->executors().size(), 0u) << daemon_->log();
    ASSERT_OK(client.resume_device("all"));
    ASSERT_OK(client.run(busy("x", 0, 1.0f)));
  }
  EXPECT_EQ(number(client, "host-0", "restarts"), 0u);
}

TEST_F(Devices, ExecutorThatDoesNotEndWhenItIsLetGoIsKilled) {
  Client client = connect();
  warm_up(client);
  const auto pid = static_cast<pid_t>(number(client, "host-1", "pid"));
  ASSERT_GT(pid, 0);
  ::kill(pid, SIGSTOP);
  ASSERT_OK(client.suspend_device("host-1"));
  EXPECT_FALSE(process_exists(pid));
  EXPECT_NE(daemon_->log().find("did not end when it was let go"), std::string::npos);
}

TEST_F(Devices, UnknownDevicesAreRefusedWithThoseThatThereAre) {
  Client client = connect();
  for (const char* wrong : {"", "host", "host-2", "GPU-1"}) {
    const auto refused = client.suspend_device(wrong);
    ASSERT_FALSE(refused.has_value()) << wrong;
    EXPECT_EQ(refused.error().code, StatusCode::NotFound);
    EXPECT_NE(refused.error().message.find("host-0, host-1"), std::string::npos);
    EXPECT_EQ(client.resume_device(wrong).error().code, StatusCode::NotFound);
  }
  EXPECT_EQ(client.suspend_device("all", std::chrono::hours(2)).error().code,
            StatusCode::InvalidArgument);
}

class IdleDevices : public Devices {
 protected:
  std::vector<std::string> arguments() override {
    return {"--device", "host,host", "--idle-release", "1"};
  }
};

TEST_F(IdleDevices, ExecutorsWithoutWorkAreEndedAndTheNextRequestStartsOne) {
  Client client = connect();
  warm_up(client);
  ASSERT_TRUE(eventually([&] { return daemon_->executors().empty(); }));
  EXPECT_EQ(status(client)["health"], "ok");
  EXPECT_EQ(state(client, 0), "idle");
  ASSERT_OK(client.run(busy("x", 0, 3.0f)));
  EXPECT_EQ(floats(client, "x").at(0), 3.0f);
}

// --- Which devices there are ---------------------------------------------------------------------

// In the place of the executor: lists GPUs, and is an executor on the host for each of them.
class ListedDevices : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
    ::unsetenv("KAAS_DEVICES");
  }
  void TearDown() override {
    ::setenv("KAAS_DEVICES", "host", 1);
    std::filesystem::remove_all(folder_);
  }
  // `list` is what --list-devices does; `taken` is a GPU that can't be had.
  std::string program(const std::string& list, const std::string& taken = "none") {
    const std::string path = folder_ + "/executor";
    std::ofstream(path) << "#!/bin/bash\n"
                        << "if [ \"$1\" = --list-devices ]; then " << list << "; exit; fi\n"
                        << "if [ \"$2\" = cuda:" << taken
                        << " ]; then echo 'kaas-executor: it is taken' >&2; exit 3; fi\n"
                        << "[[ $2 == cuda:GPU-* || $2 == host ]] || exit 9\n"
                        << "shift 2\nexec " << test_environment("KAAS_TEST_BINARY_DIR")
                        << "/bin/kaas-executor --device host \"$@\"\n";
    ::chmod(path.c_str(), 0755);
    return path;
  }
  std::unique_ptr<DaemonProcess> start(const std::string& executor,
                                       std::vector<std::string> arguments = {},
                                       bool wait_until_ready = true) {
    DaemonProcess::Options options;
    options.arguments = {"--executor", executor};
    options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
    options.wait_until_ready = wait_until_ready;
    return DaemonProcess::start(std::move(options));
  }
  static std::vector<std::string> ids(const DaemonProcess& daemon) {
    std::vector<std::string> ids;
    const json status = status_of(daemon);
    for (const json& device : status["devices"]) ids.push_back(device["id"]);
    return ids;
  }
  static json status_of(const DaemonProcess& daemon) {
    ClientOptions options;
    options.socket = daemon.socket();
    options.administration_only = true;
    auto client = Client::connect(options);
    if (!client.has_value()) return json::object();
    auto status = kaas::status_of(*client);
    return status.has_value() ? *status : json::object();
  }
  using Ids = std::vector<std::string>;

  const std::string two_gpus =
      R"(echo '{"devices":[{"id":"GPU-a1","name":"First","memory_bytes":1,"problem":""},)"
      R"({"id":"GPU-b2","name":"Second","memory_bytes":1,"problem":""}],"problem":""}')";
  std::string folder_ = "/tmp/kaas-devices-XXXXXX";
};

TEST_F(ListedDevices, AllAreTakenByDefault) {
  const auto daemon = start(program(two_gpus));
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(ids(*daemon), (Ids{"GPU-a1", "GPU-b2"}));
  EXPECT_EQ(daemon->executors().size(), 2u);
  EXPECT_EQ(daemon->stop(), 0);
}

TEST_F(ListedDevices, FlagWinsOverEnvironmentAndThatOverTheConfiguration) {
  const std::string config = folder_ + "/kaasd.toml";
  std::ofstream(config) << "device = \"cuda:0\"\n";
  {
    const auto daemon = start(program(two_gpus), {"--config", config});
    ASSERT_NE(daemon, nullptr);
    EXPECT_EQ(ids(*daemon), Ids{"GPU-a1"});
  }
  ::setenv("KAAS_DEVICES", "GPU-b", 1);
  {
    const auto daemon = start(program(two_gpus), {"--config", config});
    ASSERT_NE(daemon, nullptr);
    EXPECT_EQ(ids(*daemon), Ids{"GPU-b2"});
  }
  const auto daemon = start(program(two_gpus), {"--config", config, "--device", "host"});
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(ids(*daemon), Ids{"host"});
}

TEST_F(ListedDevices, HostIsTakenWithTheReasonIfThereIsNoGpu) {
  const auto daemon = start(program(R"(echo '{"devices":[],"problem":"no driver"}')"));
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(ids(*daemon), Ids{"host"});
  EXPECT_NE(daemon->log().find("no driver"), std::string::npos) << daemon->log();
  EXPECT_EQ(daemon->stop(), 0);
}

TEST_F(ListedDevices, DaemonThatMustHaveAGpuDoesNotStartWithoutOne) {
  const auto daemon =
      start(program(R"(echo '{"devices":[],"problem":"no driver"}')"), {"--device", "cuda"}, false);
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(daemon->wait(), 1);
  EXPECT_NE(daemon->log().find("no driver"), std::string::npos) << daemon->log();
}

TEST_F(ListedDevices, WrongListsAreWrongUsage) {
  const auto daemon = start(program(two_gpus), {"--device", "host,cuda:0"}, false);
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(daemon->wait(), 2);
  EXPECT_NE(daemon->log().find("mixes the host with GPUs"), std::string::npos) << daemon->log();
}

TEST_F(ListedDevices, DeviceThatCannotBeHadIsFailedWithItsCauseAndTheOtherServes) {
  const auto daemon = start(program(two_gpus, "GPU-b2"), {}, false);
  ASSERT_NE(daemon, nullptr);
  json status;
  ASSERT_TRUE(eventually([&] {
    status = status_of(*daemon);
    return !status.empty() && status["devices"][0]["state"] == "ready" &&
           status["devices"][1]["state"] == "failed";
  })) << daemon->log();
  EXPECT_EQ(status["devices"][1]["cause"], "it is taken");
  EXPECT_EQ(status["health"], "degraded");
  EXPECT_NE(status["health_reason"].get<std::string>().find("GPU-b2"), std::string::npos);
  EXPECT_EQ(daemon->stop(), 0);
}

}  // namespace
}  // namespace kaas
