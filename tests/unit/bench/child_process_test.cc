#include "tools/bench/child_process.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tools/bench/mps.h"

namespace kaas {
namespace {

constexpr std::uint64_t kPatienceNs = 60'000'000'000;

std::vector<std::string> shell(const std::string& script) {
  return {"/bin/sh", "-c", script};
}

TEST(ChildProcess, SpeaksByLines) {
  auto child = ChildProcess::start(shell("while read line; do echo \"<$line>\"; done"));
  ASSERT_TRUE(child.has_value()) << to_string(child.error());
  for (const char* word : {"one", "two"}) {
    ASSERT_TRUE(child->send(word).has_value());
    const auto line = child->receive(kPatienceNs);
    ASSERT_TRUE(line.has_value()) << to_string(line.error());
    EXPECT_EQ(*line, "<" + std::string(word) + ">");
  }
  const auto ending = child->finish(kPatienceNs);
  ASSERT_TRUE(ending.has_value());
  EXPECT_EQ(ending->status, 0);
}

TEST(ChildProcess, ItsEnvironmentIsAddedTo) {
  auto child = ChildProcess::start(shell("echo $HOME $PATH"), {"HOME=/elsewhere"});
  ASSERT_TRUE(child.has_value());
  const auto ending = child->finish(kPatienceNs);
  ASSERT_TRUE(ending.has_value());
  EXPECT_EQ(ending->output.rfind("/elsewhere /", 0), 0U) << ending->output;
}

TEST(ChildProcess, AnAbsentProgramIsNotFound) {
  const auto child = ChildProcess::start({"/nonexistent/program"});
  ASSERT_FALSE(child.has_value());
  EXPECT_EQ(child.error().code, StatusCode::NotFound);
  EXPECT_NE(child.error().message.find("/nonexistent/program"), std::string::npos);
}

TEST(ChildProcess, ItsDeathIsToldWithItsLastWords) {
  auto child = ChildProcess::start(shell("printf 'unfinished words'; exit 3"));
  ASSERT_TRUE(child.has_value());
  const auto line = child->receive(kPatienceNs);
  ASSERT_FALSE(line.has_value());
  EXPECT_EQ(line.error().code, StatusCode::Unavailable);
  EXPECT_EQ(line.error().message, "sh ended with status 3: unfinished words");
}

TEST(ChildProcess, SilenceIsNotWaitedForForEver) {
  auto child = ChildProcess::start(shell("read line"));
  ASSERT_TRUE(child.has_value());
  const auto line = child->receive(1'000'000);
  ASSERT_FALSE(line.has_value());
  EXPECT_EQ(line.error().code, StatusCode::DeadlineExceeded);
}

TEST(ChildProcess, WhatDoesNotEndIsKilled) {
  auto child = ChildProcess::start(shell("trap '' TERM; echo up; while :; do read x; done"));
  ASSERT_TRUE(child.has_value());
  ASSERT_TRUE(child->receive(kPatienceNs).has_value());
  const auto ending = child->finish(1'000'000);
  ASSERT_FALSE(ending.has_value());
  EXPECT_EQ(ending.error().code, StatusCode::DeadlineExceeded);
}

TEST(ChildProcess, WritingToADeadOneIsAnError) {
  auto child = ChildProcess::start(shell("exit 0"));
  ASSERT_TRUE(child.has_value());
  ASSERT_FALSE(child->receive(kPatienceNs).has_value());
  EXPECT_FALSE(child->send("hello").has_value());
}

TEST(WorkerProcess, GivesNumbers) {
  auto worker = WorkerProcess::start(shell("echo ready a device; read line; echo ok 1 2.5 3"));
  ASSERT_TRUE(worker.has_value()) << to_string(worker.error());
  EXPECT_EQ(worker->description(), "a device");
  const auto numbers = worker->call("measure");
  ASSERT_TRUE(numbers.has_value()) << to_string(numbers.error());
  EXPECT_EQ(*numbers, (std::vector<double>{1, 2.5, 3}));
}

TEST(WorkerProcess, WhatItCannotIsToldInItsWords) {
  const auto refused = WorkerProcess::start(shell("echo error no device; exit 1"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "sh: no device");
  for (const char* answer : {"error no memory", "ok", "ok x", "nonsense"}) {
    auto worker = WorkerProcess::start(shell("echo ready; read line; echo " + std::string(answer)));
    // "ready" alone says nothing of a device.
    EXPECT_FALSE(worker.has_value());
    worker = WorkerProcess::start(shell("echo ready x; read line; echo " + std::string(answer)));
    ASSERT_TRUE(worker.has_value());
    EXPECT_FALSE(worker->call("measure").has_value()) << answer;
  }
}

TEST(FreshProcess, TellsItsTimes) {
  const auto times = run_fresh_process(shell("echo 1000 99999999999999999"));
  ASSERT_TRUE(times.has_value()) << to_string(times.error());
  EXPECT_EQ(times->main_to_result_ns, 1000U);
  for (const char* script : {"echo 1000 2000; exit 1", "echo no numbers", "true"}) {
    EXPECT_FALSE(run_fresh_process(shell(script)).has_value()) << script;
  }
}

// A stand-in for the control program on PATH: it notes what it is asked in its log folder's parent.
class MpsControl : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/kaas-mps-test-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    folder_ = pattern;
    const char* path = std::getenv("PATH");
    path_ = path == nullptr ? "" : path;
  }
  void TearDown() override {
    ::setenv("PATH", path_.c_str(), 1);
    std::filesystem::remove_all(folder_);
  }
  void install(const std::string& servers, int start_status) {
    const std::string program = folder_ + "/nvidia-cuda-mps-control";
    std::ofstream(program) << "#!/bin/sh\n"
                           << "echo \"$CUDA_MPS_PIPE_DIRECTORY $CUDA_MPS_LOG_DIRECTORY $*\" >> "
                           << folder_ << "/asked\n"
                           << "[ \"$1\" = -d ] && { echo started badly; exit " << start_status
                           << "; }\n"
                           << "read line; echo \"$line\" >> " << folder_ << "/asked\n"
                           << "[ \"$line\" = get_server_list ] && echo '" << servers << "'\n"
                           << "exit 0\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    ::setenv("PATH", (folder_ + ":" + path_).c_str(), 1);
  }
  [[nodiscard]] std::string asked() const {
    std::ifstream file(folder_ + "/asked");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string folder_;
  std::string path_;
};

TEST_F(MpsControl, IsStartedOnItsOwnPipesAndEnded) {
  install("4711", 0);
  std::string pipe;
  {
    const auto mps = Mps::start();
    ASSERT_TRUE(mps.has_value()) << to_string(mps.error());
    const auto environment = mps->environment();
    ASSERT_EQ(environment.size(), 2U);
    ASSERT_EQ(environment[0].rfind("CUDA_MPS_PIPE_DIRECTORY=", 0), 0U);
    pipe = environment[0].substr(24);
    EXPECT_TRUE(std::filesystem::is_directory(pipe));
    EXPECT_NE(asked().find(pipe + " "), std::string::npos) << asked();
    EXPECT_TRUE(mps->check_server().has_value());
    EXPECT_EQ(asked().find("quit"), std::string::npos);
  }
  EXPECT_NE(asked().find("\nquit\n"), std::string::npos) << asked();
  EXPECT_FALSE(std::filesystem::exists(pipe));
}

TEST_F(MpsControl, WithoutAServerItIsNotInUse) {
  install("", 0);
  const auto mps = Mps::start();
  ASSERT_TRUE(mps.has_value());
  EXPECT_FALSE(mps->check_server().has_value());
}

TEST_F(MpsControl, AFailedStartIsToldInItsWords) {
  install("", 5);
  const auto mps = Mps::start();
  ASSERT_FALSE(mps.has_value());
  EXPECT_NE(mps.error().message.find("started badly"), std::string::npos);
}

TEST_F(MpsControl, AnAbsentOneIsSaidToBeNotInstalled) {
  ::setenv("PATH", folder_.c_str(), 1);
  const auto mps = Mps::start();
  ASSERT_FALSE(mps.has_value());
  EXPECT_EQ(mps.error().message, "nvidia-cuda-mps-control is not installed");
}

}  // namespace
}  // namespace kaas
