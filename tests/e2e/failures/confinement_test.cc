// Kernels that reach for kaasd and the other processes of its user.
#include "tests/support/kernels/hostile.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

// AddressSanitizer's leak checker needs ptrace, and processes that can be traced.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kCanBeTraced = true;
#else
constexpr bool kCanBeTraced = false;
#endif

constexpr Attack kAttacks[] = {Attack::Kill,        Attack::KillGroup,      Attack::ThreadKill,
                               Attack::PidfdSignal, Attack::Owner,          Attack::Trace,
                               Attack::ReadMemory,  Attack::TakeDescriptor, Attack::Limit};

// A daemon of a user who is not root: root may do all this anyway.
class Confinement : public E2eTest {
 protected:
  void SetUp() override { start({}); }
  void start(std::vector<std::string> arguments) {
    daemon_ = nullptr;
    DaemonProcess::Options options;
    options.arguments = std::move(arguments);
    if (::geteuid() == 0) options.run_as = kNobody;
    daemon_ = DaemonProcess::start(options);
    ASSERT_NE(daemon_, nullptr);
  }
  // errno of the attempt, 0 if it succeeded; -1 with a failure if the request failed.
  int attempt(Client& client, Attack attack) {
    RequestBuilder builder;
    builder.buffer("result", 4).in_message();
    builder.kernel("hostile", "attack")
        .grid(1)
        .block(1)
        .literal(static_cast<std::uint32_t>(attack))
        .out("result");
    const auto reply = client.run(built(builder));
    EXPECT_OK(reply);
    return reply.has_value() ? values_of<std::int32_t>(reply->data("result")).at(0) : -1;
  }
  std::string confinement(Client& client) {
    const auto text = client.status_json();
    EXPECT_OK(text);
    if (!text.has_value()) return "";
    return nlohmann::json::parse(*text)["executors"].at(0)["confinement"].get<std::string>();
  }
  // A field of /proc/PID/status of an executor.
  std::string process_status(const std::string& field) {
    std::ifstream file("/proc/" + std::to_string(daemon_->executors().at(0)) + "/status");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(field + ":\t")) return line.substr(field.size() + 2);
    }
    return "";
  }
  static constexpr uid_t kNobody = 65534;
};

TEST_F(Confinement, NothingReachesOtherProcessesAndTheDaemonLivesOn) {
  Client client = connect();
  if (confinement(client).find("libseccomp") != std::string::npos) {
    GTEST_SKIP() << "built without libseccomp";
  }
  for (const Attack attack : kAttacks) {
    if (kCanBeTraced && attack == Attack::Trace) continue;
    EXPECT_EQ(attempt(client, attack), EPERM) << static_cast<int>(attack);
  }
  if (!kCanBeTraced) {
    EXPECT_EQ(attempt(client, Attack::OpenMemory), EACCES);
  }
  EXPECT_EQ(attempt(client, Attack::None), 0) << "signals to itself";
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1.0f})));
  EXPECT_OK(client.run(scale("x", 1)));
}

TEST_F(Confinement, StatusSaysWhatIsInPlace) {
  Client client = connect();
  EXPECT_EQ(confinement(client).substr(0, 7), kCanBeTraced ? "partial" : "full");
  EXPECT_EQ(process_status("NoNewPrivs"), "1");
  EXPECT_EQ(process_status("Seccomp"), "2");
  // The files of a process that is not dumpable belong to root.
  struct stat files {};
  const std::string memory = "/proc/" + std::to_string(daemon_->executors().at(0)) + "/mem";
  ASSERT_EQ(::stat(memory.c_str(), &files), 0);
  if (!kCanBeTraced) {
    EXPECT_EQ(files.st_uid, 0u);
  }
}

// Without it the kernels succeed, so the tests above are about the filter.
TEST_F(Confinement, CanBeTurnedOff) {
  ASSERT_NO_FATAL_FAILURE(start({"--executor-confine", "false"}));
  Client client = connect();
  EXPECT_EQ(confinement(client), "off");
  for (const Attack attack :
       {Attack::Kill, Attack::KillGroup, Attack::ThreadKill, Attack::PidfdSignal, Attack::Owner,
        Attack::ReadMemory, Attack::TakeDescriptor}) {
    EXPECT_EQ(attempt(client, attack), 0) << static_cast<int>(attack);
  }
  EXPECT_EQ(attempt(client, Attack::Trace), ESRCH);
  EXPECT_EQ(process_status("NoNewPrivs"), "1");
  EXPECT_NE(daemon_->log().find("executors are not confined: executor.confine is false"),
            std::string::npos);
}

TEST_F(Confinement, IsOffUnderAPrefixAndTheLogSaysSo) {
  ASSERT_NO_FATAL_FAILURE(start({"--executor-prefix", "nice -n 1"}));
  Client client = connect();
  EXPECT_EQ(confinement(client), "off");
  EXPECT_EQ(attempt(client, Attack::Kill), 0);
  EXPECT_NE(daemon_->log().find("executors are not confined: executor.prefix is 'nice -n 1'"),
            std::string::npos);
}

}  // namespace
}  // namespace kaas
