// The daemon itself: signals, restarts, a second one.
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "schema/ipc/clock.h"
#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

class Daemon : public E2eTest {
 protected:
  static Request busy(std::uint64_t ms) {
    RequestBuilder builder;
    builder.buffer("x", 4);
    builder.kernel("faulty", "busy").grid(1).block(1).literal(ms).literal(1.0f).out("x");
    return built(builder);
  }
  // A request of 300 ms that runs.
  static Future<Reply> running(Client& client) {
    Future<Reply> run = client.submit(busy(300));
    EXPECT_TRUE(eventually([&] {
      const auto clients = client.clients_json();
      return clients.has_value() && clients->find("\"running\"") != std::string::npos;
    }));
    return run;
  }
};

TEST_F(Daemon, TermFinishesWhatIsUnderWay) {
  Client client = connect();
  Future<Reply> run = running(client);
  daemon_->signal(SIGTERM);
  EXPECT_OK(run.get());
  EXPECT_EQ(daemon_->wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(daemon_->socket()));
  EXPECT_FALSE(std::filesystem::exists(daemon_->socket() + ".lock"));
  daemon_ = nullptr;
}

// Ctrl-C goes to the whole group of processes that the terminal knows.
TEST_F(Daemon, InterruptOfItsGroupFinishesWhatIsUnderWay) {
  Client client = connect();
  Future<Reply> run = running(client);
  daemon_->signal_group(SIGINT);
  EXPECT_OK(run.get());
  EXPECT_EQ(daemon_->wait(), 0);
  // By the executor that it began on: one that is killed is replaced, and the request replayed.
  EXPECT_EQ(daemon_->log().find("executor 2 "), std::string::npos) << daemon_->log();
  daemon_ = nullptr;
}

TEST_F(Daemon, KilledDaemonIsNoticedAtOnceByAWaitingClient) {
  Client client = connect();
  auto run = client.submit(busy(20'000));
  ASSERT_TRUE(eventually([&] { return !run.ready(); }));
  const auto executors = daemon_->executors();
  daemon_->signal(SIGKILL);
  const auto outcome = run.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::UnknownOutcome) << outcome.error().message;
  const auto later = client.put("x", bytes_of(std::vector<float>{1.0f}));
  ASSERT_FALSE(later.has_value());
  EXPECT_EQ(later.error().code, StatusCode::Unavailable) << later.error().message;
  EXPECT_EQ(daemon_->wait(), 128 + SIGKILL);
  for (const pid_t executor : executors) {
    EXPECT_TRUE(eventually([executor] { return !process_exists(executor); }));
  }
  daemon_ = nullptr;
}

TEST(DaemonRestart, LoopOfKillsAlwaysComesBackOnTheSameSocket) {
  char folder[] = "/tmp/kaas-test-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  for (int round = 0; round < 10; ++round) {
    DaemonProcess::Options options;
    options.socket = std::string(folder) + "/kaasd.sock";
    const auto daemon = DaemonProcess::start(std::move(options));
    ASSERT_NE(daemon, nullptr) << "round " << round;
    ClientOptions client_options;
    client_options.socket = daemon->socket();
    auto client = Client::connect(client_options);
    ASSERT_OK(client);
    EXPECT_OK(client->put("x", bytes_of(std::vector<float>{1.0f})));
    daemon->signal(SIGKILL);
    EXPECT_EQ(daemon->wait(), 128 + SIGKILL);
  }
  std::filesystem::remove_all(folder);
}

TEST_F(Daemon, SecondOneOnTheSocketSaysWhoHoldsIt) {
  DaemonProcess::Options options;
  options.socket = daemon_->socket();
  options.wait_until_ready = false;
  const auto second = DaemonProcess::start(std::move(options));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->wait(), 1);
  EXPECT_NE(second->log().find(std::to_string(daemon_->pid())), std::string::npos) << second->log();
  EXPECT_OK(connect().alive());
}

TEST(DaemonConfig, MistakesNameFieldLineAndWhatIsAllowed) {
  struct Mistake {
    const char* text;
    std::vector<std::string> said;
  };
  const std::vector<Mistake> mistakes = {
      {"socket_mode = \"9999\"\n", {":1:", "socket_mode", "9999", "octal"}},
      {"[store]\nbytes = -1\n", {":2:", "store.bytes", "-1", "integer from 0"}},
      {"[store]\nbyte = 1\n", {":2:", "store.byte", "unknown field", "store.bytes"}},
      {"socket = \n", {":1:"}},
      {"policy = \"fastest\"\n", {":1:", "'policy'", "fastest", "fifo"}},
      {"[log]\nlevel = \"loud\"\n", {":2:", "'log.level' is 'loud'", "allowed: trace, debug"}},
      {"[domain]\njoined = [[1, 2], [2]]\n", {":2:", "domain.joined", "each uid once"}},
      {"socket = \"\"\n", {":1:", "'socket' is ''", "a path"}},
      {"[executor]\nprogram = \"\"\n", {":2:", "'executor.program' is ''", "a path"}},
      {"[bogus]\n", {":1:", "unknown field 'bogus'"}},
      {"[device]\n", {":1:", "'device'", "a string"}},
      {"[library]\npath = [\"relative\"]\n", {":2:", "library.path", "absolute"}},
  };
  for (const Mistake& mistake : mistakes) {
    char path[] = "/tmp/kaas-test-XXXXXX";
    const int file = ::mkstemp(path);
    ASSERT_GE(file, 0);
    ::close(file);
    std::ofstream(path) << mistake.text;
    DaemonProcess::Options options;
    options.arguments = {"--config", path};
    options.wait_until_ready = false;
    const auto daemon = DaemonProcess::start(std::move(options));
    ASSERT_NE(daemon, nullptr);
    EXPECT_EQ(daemon->wait(), 2) << mistake.text;
    for (const std::string& said : mistake.said) {
      EXPECT_NE(daemon->log().find(said), std::string::npos) << mistake.text << daemon->log();
    }
    std::filesystem::remove(path);
  }
}

TEST(DaemonConfig, WrongFlagsAreToldWithWhatIsAllowed) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> mistakes = {
      {{"--arena-bytes", "0"}, "arena.bytes is 0, allowed: an integer from 4096 to "},
      {{"--arena-bytes", "-1"}, "--arena-bytes: is '-1', allowed: an integer from 0 on"},
      {{"--arena-bytes", "1GiB"}, "--arena-bytes: is '1GiB', allowed: an integer from 0 on"},
      {{"--store-bytes", ""}, "--store-bytes: is '', allowed: an integer from 0 on"},
      {{"--store-bytes", "1"}, "store.bytes is 1, allowed: 0"},
      {{"--arenas-ready", "100000"}, "arena.ready is 100000, allowed: an integer from 0 to 1024"},
      {{"--spin-us", "99999999999999999999"}, "--spin-us: is '99999999999999999999'"},
      {{"--executor-confine", "maybe"}, "is 'maybe', allowed: true, false"},
      {{"--socket", ""}, "--socket: is '', allowed: a path"},
      {{"--executor", ""}, "--executor: is '', allowed: a path"},
      {{"--log-file", ""}, "--log-file: is '', allowed: a path"},
      {{"--config", ""}, "--config: "},
      {{"--library-path", ""}, "library path has ''"},
      {{"--config", "/"}, "--config: "},
      {{"--bogus"}, "kaasd: The following argument was not expected: --bogus"},
  };
  for (const auto& [words, said] : mistakes) {
    DaemonProcess::Options options;
    options.arguments = words;
    options.wait_until_ready = false;
    const auto daemon = DaemonProcess::start(std::move(options));
    ASSERT_NE(daemon, nullptr);
    EXPECT_EQ(daemon->wait(), 2) << said;
    EXPECT_NE(daemon->log().find(said), std::string::npos) << daemon->log();
  }
}

TEST(DaemonConfig, FlagsWinOverTheFileThatIsReReadToo) {
  char path[] = "/tmp/kaas-test-XXXXXX";
  const int file = ::mkstemp(path);
  ASSERT_GE(file, 0);
  ::close(file);
  std::ofstream(path) << "[executor]\nrunning_limit_ms = 500\n[log]\nlevel = \"error\"\n";
  const auto daemon = DaemonProcess::start(
      {"--config", path, "--running-limit-ms", "70000", "--library-path", "/nowhere"});
  ASSERT_NE(daemon, nullptr);
  ClientOptions options;
  options.socket = daemon->socket();
  options.administration_only = true;
  auto client = Client::connect(options);
  ASSERT_OK(client);
  ASSERT_OK(client->reload());
  const auto status = client->status_json();
  ASSERT_OK(status);
  for (const char* said : {"\"running_limit_ms\":70000", "\"library_path\":[\"/nowhere\"]",
                           "\"log_level\":\"debug\""}) {
    EXPECT_NE(status->find(said), std::string::npos) << said << " is not in " << *status;
  }
  EXPECT_EQ(daemon->stop(), 0);
  std::filesystem::remove(path);
}

TEST(DaemonLog, FileThatIsMadeIsNotForEverybody) {
  char folder[] = "/tmp/kaas-test-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/kaasd.log";
  const mode_t before = ::umask(0022);
  const auto daemon = DaemonProcess::start({"--log-file", path});
  ::umask(before);
  ASSERT_NE(daemon, nullptr);
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
  EXPECT_EQ(daemon->stop(), 0);
  std::filesystem::remove_all(folder);
}

TEST(DaemonConfig, UnreadableFileHasAReason) {
  char path[] = "/tmp/kaas-test-XXXXXX";
  const int file = ::mkstemp(path);
  ASSERT_GE(file, 0);
  ::fchmod(file, 0);
  ::close(file);
  DaemonProcess::Options options;
  options.arguments = {"--config", path};
  options.wait_until_ready = false;
  if (::geteuid() == 0) options.run_as = 65534;  // Root reads everything.
  const auto daemon = DaemonProcess::start(std::move(options));
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(daemon->wait(), 2);
  EXPECT_NE(daemon->log().find("can't be read: Permission denied"), std::string::npos);
  std::filesystem::remove(path);
}

TEST(DaemonConfig, HangUpReReadsWhatCanBeReRead) {
  char path[] = "/tmp/kaas-test-XXXXXX";
  const int file = ::mkstemp(path);
  ASSERT_GE(file, 0);
  ::close(file);
  const auto daemon = DaemonProcess::start({"--config", path});
  ASSERT_NE(daemon, nullptr);
  std::ofstream(path) << "[executor]\nrunning_limit_ms = 200\n";
  daemon->signal(SIGHUP);
  ASSERT_TRUE(
      eventually([&] { return daemon->log().find("configuration re-read") != std::string::npos; }));
  ClientOptions options;
  options.socket = daemon->socket();
  auto client = Client::connect(options);
  ASSERT_OK(client);
  RequestBuilder builder;
  builder.kernel("faulty", "endless").grid(1).block(1).literal(std::uint32_t{0});
  const auto outcome = client->run(*builder.build());
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::DeadlineExceeded);
  EXPECT_EQ(daemon->stop(), 0);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace kaas
