// Users who share a trust domain, and executors with a user of their own.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

namespace fs = std::filesystem;

constexpr uid_t kFirst = 65531;
constexpr uid_t kSecond = 65532;
constexpr uid_t kAlone = 65533;

// What `act` returns in a child as another user; "died" if it did not return.
std::string said_by(uid_t uid, const std::function<std::string()>& act) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::setgid(uid) != 0 || ::setuid(uid) != 0) ::_exit(2);
    const std::string text = act();
    ::_exit(::write(ends[1], text.data(), text.size()) < 0 ? 1 : 0);
  }
  ::close(ends[1]);
  std::string text(1 << 16, '\0');
  ssize_t bytes = 0;
  std::size_t read = 0;
  while ((bytes = ::read(ends[0], text.data() + read, text.size() - read)) > 0) {
    read += static_cast<std::size_t>(bytes);
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  text.resize(read);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? text : "died";
}

class JoinedDomain : public E2eTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "other uids need root";
    char folder[] = "/tmp/kaas-domains-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
    ASSERT_EQ(::chmod(folder, 0755), 0);
    start("[domain]\njoined = [[65531, 65532]]\n[executor]\nuser = \"65530\"\n");
  }
  void TearDown() override {
    E2eTest::TearDown();
    std::error_code ignored;
    if (!folder_.empty()) fs::remove_all(folder_, ignored);
  }
  void start(const std::string& config) {
    const std::string path = folder_ + "/kaasd.toml";
    std::ofstream(path) << config;
    daemon_ = DaemonProcess::start({"--config", path, "--socket-mode", "0666"});
    ASSERT_NE(daemon_, nullptr);
    ASSERT_EQ(::chmod(daemon_->folder().c_str(), 0755), 0);
  }
  // A copy of the library answer1 in a folder of its own, both of these owners.
  std::string library_of(uid_t folder_owner, uid_t file_owner, const std::string& file) {
    const std::string folder = folder_ + "/" + std::to_string(++folders_);
    fs::create_directory(folder);
    const std::string path = folder + "/" + file;
    fs::copy_file(test_environment("KAAS_TEST_BINARY_DIR") + "/lib/kaas/kernels/answer1.so", path);
    EXPECT_EQ(::chmod(path.c_str(), 0644), 0);
    EXPECT_EQ(::chown(path.c_str(), file_owner, file_owner), 0);
    EXPECT_EQ(::chmod(folder.c_str(), 0755), 0);
    EXPECT_EQ(::chown(folder.c_str(), folder_owner, folder_owner), 0);
    return path;
  }
  // "ok", or what a request for the library's kernel meets.
  std::string answer_of(const std::string& library) {
    Client client = connect();
    RequestBuilder builder;
    builder.buffer("out", 4).in_message();
    builder.kernel(library, "answer").grid(1).block(1).out("out");
    return outcome_of(client.run(built(builder)));
  }
  nlohmann::json executors_of(const std::vector<std::uint32_t>& domains) {
    Client client = connect();
    const auto text = client.status_json();
    EXPECT_OK(text);
    nlohmann::json found = nlohmann::json::array();
    const auto status = nlohmann::json::parse(*text);
    for (const auto& executor : status["executors"]) {
      for (const std::uint32_t domain : domains) {
        if (executor["domain"] == domain) found.push_back(executor);
      }
    }
    return found;
  }

  std::string folder_;
  int folders_ = 0;
};

TEST_F(JoinedDomain, LoadsLibrariesOfTheOperatorOnly) {
  const std::string operators = library_of(0, 0, "lib.so");
  EXPECT_EQ(said_by(kFirst, [&] { return answer_of(operators); }), "ok");
  EXPECT_EQ(said_by(kSecond, [&] { return answer_of("answer1"); }), "ok");
  const std::string allowed = "users of a joined trust domain load libraries of its operator only";
  // Whatever kind of code it is, and whoever of them owns it.
  for (const char* file : {"lib.so", "code.cubin", "code.ptx", "code.fatbin", "code.cu"}) {
    const std::string own = library_of(kFirst, kFirst, file);
    for (const uid_t uid : {kFirst, kSecond}) {
      const std::string refused = said_by(uid, [&] { return answer_of(own); });
      EXPECT_NE(refused.find("belongs to uid 65531"), std::string::npos) << refused;
      EXPECT_NE(refused.find(allowed), std::string::npos) << refused;
    }
  }
  // A folder of one of them is theirs to fill.
  const std::string in_folder = library_of(kFirst, 0, "lib.so");
  const std::string refused = said_by(kFirst, [&] { return answer_of(in_folder); });
  EXPECT_NE(refused.find("which belongs to uid 65531"), std::string::npos) << refused;
  const std::string group = library_of(0, 0, "lib.so");
  ASSERT_EQ(::chmod(group.c_str(), 0664), 0);
  const std::string writable = said_by(kFirst, [&] { return answer_of(group); });
  EXPECT_NE(writable.find("can be written by its group"), std::string::npos) << writable;
}

TEST_F(JoinedDomain, WhoIsAloneLoadsTheirOwn) {
  const std::string own = library_of(kAlone, kAlone, "lib.so");
  EXPECT_EQ(said_by(kAlone, [&] { return answer_of(own); }), "ok");
  const std::string refused = said_by(kFirst, [&] { return answer_of(own); });
  EXPECT_NE(refused.find("belongs to uid 65533"), std::string::npos) << refused;
}

TEST_F(JoinedDomain, SharesOneExecutorWithAUserOfItsOwn) {
  EXPECT_EQ(said_by(kFirst, [&] { return answer_of("answer1"); }), "ok");
  EXPECT_EQ(said_by(kSecond, [&] { return answer_of("answer1"); }), "ok");
  const auto executors = executors_of({kFirst, kSecond});
  ASSERT_EQ(executors.size(), 1u) << executors;
  std::ifstream file("/proc/" + std::to_string(executors[0]["pid"].get<int>()) + "/status");
  std::string line;
  while (std::getline(file, line) && !line.starts_with("Uid:")) {
  }
  EXPECT_EQ(line, "Uid:\t65530\t65530\t65530\t65530");
}

// Device memory that another one of the domain used last.
TEST_F(JoinedDomain, NobodyReadsWhatAnotherOneLeft) {
  constexpr std::uint64_t kBytes = 1u << 20;
  const auto fill = [&] {
    Client client = connect();
    RequestBuilder builder;
    builder.buffer("left", kBytes);
    builder.kernel("std", "fill_f32")
        .grid(1)
        .block(64)
        .literal(kBytes / 4)
        .literal(7.0f)
        .temporary("left");
    return outcome_of(client.run(built(builder)));
  };
  const auto look = [&] {
    Client client = connect();
    RequestBuilder builder;
    builder.buffer("found", kBytes);
    builder.buffer("out", kBytes);
    builder.kernel("std", "copy").grid(1).block(64).literal(kBytes).temporary("found").out("out");
    const auto outcome = client.run(built(builder));
    if (!outcome.has_value()) return outcome_of(outcome);
    for (const float value : floats(client, "out")) {
      if (value != 0.0f) return std::to_string(value);
    }
    return std::string("zeros");
  };
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(said_by(kFirst, fill), "ok");
    EXPECT_EQ(said_by(kSecond, look), "zeros");
  }
}

TEST_F(JoinedDomain, BothSeeTheirExecutorInTheStatus) {
  for (const uid_t uid : {kFirst, kSecond}) {
    EXPECT_EQ(said_by(uid,
                      [&] {
                        const std::string outcome = answer_of("answer1");
                        return outcome == "ok" ? std::to_string(executors_of({kFirst}).size())
                                               : outcome;
                      }),
              "1");
  }
  EXPECT_EQ(said_by(kAlone, [&] { return std::to_string(executors_of({kFirst}).size()); }), "0");
}

TEST_F(JoinedDomain, WithoutAUserOfItsOwnTheLogWarns) {
  ASSERT_EQ(daemon_->stop(), 0);
  start("[domain]\njoined = [[65531, 65532]]\n");
  EXPECT_NE(daemon_->log().find("executor.user gives them a user of their own"), std::string::npos);
}

}  // namespace
}  // namespace kaas
