// Lanes while everyone sleeps: the client wakes its executor, and nobody else; bells that are
// abused; descriptors that come back.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

namespace fs = std::filesystem;

std::string content_of(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Whether all threads of a process sleep.
bool is_asleep(pid_t pid) {
  std::error_code gone;
  for (const auto& thread :
       fs::directory_iterator("/proc/" + std::to_string(pid) + "/task", gone)) {
    const std::string stat = content_of(thread.path() / "stat");
    const std::size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos || stat.substr(name_end, 3) != ") S") return false;
  }
  return !gone;
}

// How often threads of a process have fallen asleep.
std::uint64_t sleeps_of(pid_t pid) {
  std::uint64_t sleeps = 0;
  for (const auto& thread : fs::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    const std::string status = content_of(thread.path() / "status");
    const std::string name = "\nvoluntary_ctxt_switches:";
    const std::size_t at = status.find(name);
    if (at != std::string::npos) sleeps += std::stoull(status.substr(at + name.size()));
  }
  return sleeps;
}

std::set<int> descriptors_of(const std::string& process) {
  std::set<int> descriptors;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/" + process + "/fd", error)) {
    descriptors.insert(std::stoi(entry.path().filename()));
  }
  EXPECT_FALSE(error) << error.message();
  return descriptors;
}

// A client of which a lane serves x = x * 1.
class LaneClient {
 public:
  explicit LaneClient(Client client) : client_(std::move(client)) {
    auto memory = client_.allocate(64);
    EXPECT_OK(memory);
    memory_.emplace(*std::move(memory));
    RequestBuilder builder;
    builder.buffer("x", 4).in(*memory_);
    builder.kernel("std", "scale")
        .grid(1)
        .block(1)
        .literal(std::uint64_t{1})
        .literal(1.0f)
        .inout("x");
    auto plan = client_.prepare(*builder.build());
    EXPECT_OK(plan);
    bound_.emplace(plan->bind());
  }
  // Runs it until it has a lane.
  [[nodiscard]] bool has_lane_soon() const {
    return eventually([&] {
      EXPECT_OK(bound_->run());
      return bound_->has_lane();
    });
  }
  [[nodiscard]] const BoundPlan& bound() const { return *bound_; }

 private:
  Client client_;
  std::optional<Buffer> memory_;
  std::optional<BoundPlan> bound_;
};

class LaneBellsTest : public E2eTest {
 protected:
  [[nodiscard]] pid_t executor() const {
    const auto pids = daemon_->executors();
    return pids.empty() ? 0 : pids.front();
  }
};

TEST_F(LaneBellsTest, RunFindsEveryoneAsleepAndWakesTheExecutorAlone) {
  constexpr int kRuns = 40;
  const LaneClient one(connect("sleeper"));
  Client witness = connect("witness");
  const auto requests = [&] {
    int count = 0;
    const auto clients = witness.clients_json();
    EXPECT_OK(clients);
    const auto all = nlohmann::json::parse(*clients);
    for (const auto& client : all["clients"]) {
      if (client["name"] == "sleeper") count += client["requests"].get<int>();
    }
    return count;
  };
  for (int life = 0; life < 2; ++life) {
    ASSERT_TRUE(one.has_lane_soon()) << daemon_->log();
    const int before = requests();
    const auto all_sleep = [&] { return is_asleep(daemon_->pid()) && is_asleep(executor()); };
    ASSERT_TRUE(eventually(all_sleep));
    const std::uint64_t kaasd = sleeps_of(daemon_->pid());
    const std::uint64_t executors = sleeps_of(executor());
    for (int i = 0; i < kRuns; ++i) {
      ASSERT_TRUE(eventually(all_sleep)) << i;
      ASSERT_OK(one.bound().run());
      ASSERT_TRUE(one.bound().has_lane());
    }
    ASSERT_TRUE(eventually(all_sleep));
    // It may do something of its own now and then.
    EXPECT_LT(sleeps_of(daemon_->pid()) - kaasd, std::uint64_t{kRuns / 4});
    EXPECT_GE(sleeps_of(executor()) - executors, std::uint64_t{kRuns});
    EXPECT_EQ(requests(), before + kRuns);
    const pid_t old = executor();
    ASSERT_EQ(::kill(old, SIGKILL), 0);  // The next one has a new bell.
    ASSERT_TRUE(eventually([&] { return executor() != 0 && executor() != old; }));
  }
}

TEST_F(LaneBellsTest, FloodOfRingsEndsTheLaneAndHoldsUpNobody) {
  const LaneClient other(connect("other"));
  ASSERT_TRUE(other.has_lane_soon());
  const LaneClient hostile(connect("hostile"));
  const std::set<int> before = descriptors_of("self");
  ASSERT_TRUE(hostile.has_lane_soon());
  // The bell is the one descriptor that its client keeps of a lane.
  std::set<int> bells = descriptors_of("self");
  for (const int old : before) bells.erase(old);
  std::erase_if(bells, [](int descriptor) { return ::fcntl(descriptor, F_GETFD) < 0; });
  ASSERT_EQ(bells.size(), 1u);
  const int bell = ::dup(*bells.begin());
  std::atomic<bool> ends{false};
  std::thread flood([&] {
    const std::vector<char> bytes(4096, 1);
    while (!ends.load()) ::send(bell, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  });
  for (int i = 0; i < 200; ++i) {
    auto reply = other.bound().submit();
    ASSERT_TRUE(reply.wait(std::chrono::seconds(10))) << i;
    EXPECT_OK(reply.get());
    ASSERT_TRUE(eventually([&] { return is_asleep(executor()) || !hostile.bound().has_lane(); }));
  }
  EXPECT_TRUE(other.bound().has_lane());
  EXPECT_TRUE(eventually([&] { return !hostile.bound().has_lane(); }));
  ASSERT_TRUE(eventually([&] { return is_asleep(executor()); })) << "the bell is ignored";
  ends.store(true);
  flood.join();
  ::close(bell);
  EXPECT_OK(hostile.bound().run());
  EXPECT_TRUE(hostile.has_lane_soon()) << "another one";
}

// Others may look at what executors of these tests have open.
class OpenExecutorTest : public LaneBellsTest {
 protected:
  std::vector<std::string> arguments() override { return {"--executor-confine", "false"}; }
  void SetUp() override {
    LaneBellsTest::SetUp();
    if (IsSkipped()) return;
    // What is made once is there.
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(LaneClient(connect()).has_lane_soon());
  }
  [[nodiscard]] std::size_t executor_descriptors() const {
    return descriptors_of(std::to_string(executor())).size();
  }
  // Once it has stopped changing: kaasd makes memory for the next clients after each one.
  template <class Count>
  static std::size_t settled(Count count) {
    std::size_t last = count();
    int quiet = 0;
    EXPECT_TRUE(eventually([&] {
      quiet = count() == last ? quiet + 1 : 0;
      last = count();
      return quiet == 500;
    }));
    return last;
  }
};

TEST_F(OpenExecutorTest, LanesThatComeAndGoLeaveNoDescriptors) {
  ASSERT_TRUE(eventually([&] { return is_asleep(executor()); }));
  const std::size_t own = descriptors_of("self").size();
  const std::size_t kaasd = settled([&] { return daemon_->open_descriptors(); });
  const std::size_t executors = settled([&] { return executor_descriptors(); });
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(LaneClient(connect()).has_lane_soon()) << i;
  EXPECT_EQ(descriptors_of("self").size(), own);
  EXPECT_TRUE(eventually([&] { return daemon_->open_descriptors() <= kaasd; }));
  EXPECT_TRUE(eventually([&] { return executor_descriptors() <= executors; }));
}

TEST_F(OpenExecutorTest, KilledClientsLeaveNoDescriptors) {
  const std::size_t kaasd = settled([&] { return daemon_->open_descriptors(); });
  const std::size_t executors = settled([&] { return executor_descriptors(); });
  for (int i = 0; i < 10; ++i) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const LaneClient client(connect("killed"));
      const char has_lane = client.has_lane_soon() ? 1 : 0;
      if (::write(ends[1], &has_lane, 1) == 1) ::pause();
      ::_exit(1);
    }
    ::close(ends[1]);
    char has_lane = 0;
    EXPECT_EQ(::read(ends[0], &has_lane, 1), 1);
    EXPECT_EQ(has_lane, 1);
    ::close(ends[0]);
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  }
  EXPECT_TRUE(eventually([&] { return daemon_->open_descriptors() <= kaasd; }));
  EXPECT_TRUE(eventually([&] { return executor_descriptors() <= executors; }));
  EXPECT_TRUE(eventually([&] { return is_asleep(executor()); })) << "closed bells are ignored";
}

}  // namespace
}  // namespace kaas
