// kaas-executor as a process: its hello, a run through shared memory, what kernels print, its end.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "daemon/executor/run/process.h"
#include "schema/ipc/clock.h"
#include "schema/ipc/doorbell.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/ring.h"
#include "schema/ipc/segment.h"
#include "schema/ipc/socket.h"

namespace kaas {
namespace {

namespace fs = std::filesystem;
using flatbuffers::FlatBufferBuilder;

constexpr std::uint64_t kPatienceNs = 30'000'000'000;

fs::path build_folder() {
  const char* build = std::getenv("KAAS_TEST_BINARY_DIR");
  return build == nullptr ? "." : build;
}

class ExecutorProcessTest : public testing::Test {
 protected:
  ~ExecutorProcessTest() override {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  // Starts the program with what it inherits at descriptor 3, its output into log_.
  void start(std::vector<std::string> arguments = {"--device", "host", "--socket-fd", "3"}) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    socket_ = Descriptor(ends[0]);
    const Descriptor theirs(ends[1]);
    int pipe[2];
    ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
    log_ = Descriptor(pipe[0]);
    const Descriptor log_end(pipe[1]);
    arguments.insert(arguments.begin(), (build_folder() / "bin/kaas-executor").string());
    std::vector<char*> words;
    for (std::string& argument : arguments) words.push_back(argument.data());
    words.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(log_end.get(), 1);
      ::dup2(log_end.get(), 2);
      ::dup2(theirs.get(), 3);
      ::execv(words[0], words.data());
      ::_exit(127);
    }
  }
  void say_hello(std::uint32_t protocol_version = kProtocolVersion) {
    Descriptor work = *create_segment("work", geometry_.segment_bytes());
    Descriptor report = *create_segment("report", geometry_.segment_bytes());
    const Descriptor outbox = *create_segment("outbox", 65'536);
    work_ = *Mapping::create(work.get(), geometry_.segment_bytes(), Mapping::Mode::ReadWrite, "w");
    report_ =
        *Mapping::create(report.get(), geometry_.segment_bytes(), Mapping::Mode::ReadOnly, "r");
    outbox_ = *Mapping::create(outbox.get(), 65'536, Mapping::Mode::ReadOnly, "o");
    const RingView own = RingView::at(work_.data(), geometry_);
    const RingView peer = RingView::at(report_.data(), geometry_);
    own.initialise(1);
    writer_ = RingWriter(own, peer.header);
    reader_ = RingReader(peer, own.header);
    const Descriptor work_read_only = *reopen_read_only(work.get());
    auto bells = Doorbell::create_pair();
    ASSERT_TRUE(bells.has_value());
    doorbell_ = std::move(bells->first);
    FlatBufferBuilder builder;
    builder.Finish(wire::CreateExecutorHello(builder, protocol_version, geometry_.slot_count,
                                             geometry_.heap_bytes, 65'536, 1u << 20, 1));
    const int descriptors[] = {work_read_only.get(), report.get(), outbox.get(),
                               bells->second.descriptor()};
    ASSERT_EQ(send_message(socket_.get(), finished(builder), descriptors), SendOutcome::Sent);
  }
  template <class Create>
  void send(wire::Work type, Create create) {
    FlatBufferBuilder builder;
    const auto item = create(builder);
    builder.Finish(wire::CreateWorkItem(builder, type, item.Union()));
    ASSERT_TRUE(writer_.try_write(finished(builder)));
    if (writer_.wake_due()) doorbell_.ring();
  }
  // The next report, or null when none comes.
  const wire::ReportItem* next_report() {
    const std::uint64_t until = now_ns() + kPatienceNs;
    while (now_ns() < until) {
      std::span<const std::byte> message;
      switch (reader_.read(buffer_, message)) {
        case ReadOutcome::Message:
          reader_.advance();
          reader_.publish();
          return verified_root<wire::ReportItem>(message);
        case ReadOutcome::Violation:
          return nullptr;
        case ReadOutcome::Empty:
          ::sched_yield();
      }
    }
    return nullptr;
  }
  void expect_ready() {
    const wire::ReportItem* report = next_report();
    ASSERT_NE(report, nullptr);
    ASSERT_NE(report->report_as_Ready(), nullptr);
    EXPECT_EQ(view(report->report_as_Ready()->device()), "host");
    EXPECT_EQ(report->report_as_Ready()->device_bytes(), 1u << 20);
  }
  void load_library(const fs::path& path) {
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0) << path;
    send(wire::Work::LoadLibrary, [&](FlatBufferBuilder& b) {
      const std::int64_t mtime_ns =
          status.st_mtim.tv_sec * 1'000'000'000ll + status.st_mtim.tv_nsec;
      return wire::CreateLoadLibrary(b, 1, b.CreateString(path.string()),
                                     static_cast<std::uint64_t>(status.st_size), mtime_ns,
                                     status.st_ino);
    });
    const auto* report = next_report();
    ASSERT_NE(report, nullptr);
    const auto* loaded = report->report_as_LibraryLoaded();
    ASSERT_NE(loaded, nullptr);
    EXPECT_EQ(loaded->code(), StatusCode::Ok) << view(loaded->message());
  }
  // A plan of one kernel with at most one output of 8 bytes.
  void load_plan(const char* kernel, bool output) {
    send(wire::Work::LoadPlan, [&](FlatBufferBuilder& b) {
      const wire::Dim3 one(1, 1, 1);
      const wire::PlanArgument argument(0, 8, 0, wire::Access::Out);
      const wire::PlanRange store(0, 8, 0, false);
      const std::uint64_t bytes = 8;
      const std::size_t count = output ? 1 : 0;
      const auto name = b.CreateString(kernel);
      const auto arguments = b.CreateVectorOfStructs(&argument, count);
      const auto planned =
          wire::CreatePlanKernel(b, 1, name, &one, &one, 0, nullptr, false, 0, arguments);
      const auto kernels = b.CreateVector(&planned, 1);
      const auto allocations = b.CreateVector(&bytes, count);
      const auto stores = b.CreateVectorOfStructs(&store, count);
      return wire::CreateLoadPlan(b, 1, kernels, allocations, 0, stores, 0, 1);
    });
    const auto* report = next_report();
    ASSERT_NE(report, nullptr);
    const auto* loaded = report->report_as_PlanLoaded();
    ASSERT_NE(loaded, nullptr);
    EXPECT_EQ(loaded->code(), StatusCode::Ok) << view(loaded->message());
  }
  void run(const std::vector<wire::Location>& stores) {
    send(wire::Work::Run, [&](FlatBufferBuilder& b) {
      return wire::CreateRun(b, 1, 1, 1, 0, b.CreateVectorOfStructs(stores), 0, 0, false, 34, 12);
    });
    const auto* report = next_report();
    ASSERT_NE(report, nullptr);
    const auto* done = report->report_as_RunDone();
    ASSERT_NE(done, nullptr);
    EXPECT_EQ(done->code(), StatusCode::Ok) << view(done->message());
  }
  // What the process writes until `wanted` is in it, or until it ends.
  std::string read_log(const std::string& wanted) {
    std::string text;
    char bytes[4096];
    pollfd readable{log_.get(), POLLIN, 0};
    while (text.find(wanted) == std::string::npos && ::poll(&readable, 1, 30'000) == 1) {
      const ssize_t count = ::read(log_.get(), bytes, sizeof bytes);
      if (count <= 0) break;
      text.append(bytes, static_cast<std::size_t>(count));
    }
    return text;
  }
  int exit_status() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  RingGeometry geometry_{64, 1u << 20};
  pid_t pid_ = 0;
  Descriptor socket_;
  Descriptor log_;
  Doorbell doorbell_;
  Mapping work_;
  Mapping report_;
  Mapping outbox_;
  RingWriter writer_;
  RingReader reader_;
  MessageBuffer buffer_;
};

TEST_F(ExecutorProcessTest, RunsAKernelAndWritesItsOutput) {
  start();
  say_hello();
  expect_ready();
  load_library(build_folder() / "tests/lib/executor/fixture_good.so");
  load_plan("value", true);
  run({wire::Location(0, 128, 0, 0, kOutboxSegment)});
  std::uint32_t value = 0;
  std::memcpy(&value, outbox_.data() + 128, sizeof value);
  EXPECT_EQ(value, 1u);
  // A segment that comes over the socket, and is unmapped before the report.
  const Descriptor object = *create_segment("object", 4096);
  FlatBufferBuilder builder;
  builder.Finish(wire::CreateAttachSegment(builder, 40, 4096, true, false, true));
  const int descriptor = object.get();
  ASSERT_EQ(send_message(socket_.get(), finished(builder), {&descriptor, 1}), SendOutcome::Sent);
  run({wire::Location(9, 8, 0, 0, 40)});
  EXPECT_TRUE(add_seals(object.get(), Seals::Write | Seals::Seal).has_value());
  ASSERT_EQ(::pread(object.get(), &value, sizeof value, 8), static_cast<ssize_t>(sizeof value));
  EXPECT_EQ(value, 1u);
}

TEST_F(ExecutorProcessTest, WhatAKernelPrintsNamesItsRequest) {
  start();
  say_hello();
  expect_ready();
  load_library(build_folder() / "tests/lib/executor/fixture_good.so");
  load_plan("print", false);
  run({});
  const std::string wanted =
      "\x1e"
      "12 34 context 17, grid 1\n";
  EXPECT_EQ(read_log(wanted), wanted);
}

TEST_F(ExecutorProcessTest, EndsWhenKaasdHangsUp) {
  start();
  say_hello();
  expect_ready();
  socket_ = Descriptor();
  EXPECT_EQ(exit_status(), 0);
}

TEST_F(ExecutorProcessTest, EndsWhenTheDoorbellHangsUp) {
  start();
  say_hello();
  expect_ready();
  doorbell_ = Doorbell();
  EXPECT_EQ(exit_status(), 0);
}

TEST_F(ExecutorProcessTest, EndsWithAReasonWhenKaasdBreaksTheProtocol) {
  start();
  say_hello();
  expect_ready();
  const std::vector<std::byte> junk(32, std::byte{0xff});
  ASSERT_TRUE(writer_.try_write(junk));
  if (writer_.wake_due()) doorbell_.ring();
  EXPECT_EQ(exit_status(), 1);
  EXPECT_EQ(read_log("malformed\n"), "kaas-executor: work item 0 is malformed\n");
}

TEST_F(ExecutorProcessTest, EndsWithAReasonWhenAMessageOnTheSocketIsNone) {
  start();
  say_hello();
  expect_ready();
  const std::vector<std::byte> junk(32, std::byte{0xff});
  ASSERT_EQ(send_message(socket_.get(), junk), SendOutcome::Sent);
  doorbell_.ring();
  EXPECT_EQ(exit_status(), 1);
}

TEST_F(ExecutorProcessTest, OtherProtocolVersionIsNamed) {
  start();
  say_hello(kProtocolVersion + 1);
  EXPECT_EQ(exit_status(), 1);
  EXPECT_EQ(read_log("\n"),
            "kaas-executor: VersionMismatch: kaasd speaks protocol version 2, this executor 1\n");
}

TEST_F(ExecutorProcessTest, WrongFlagsExitWithTwo) {
  start({"--device", "toaster", "--socket-fd", "3"});
  EXPECT_EQ(exit_status(), 2);
  start({});
  EXPECT_EQ(exit_status(), 2);
}

TEST_F(ExecutorProcessTest, GainsNoRightsAndIsTheFirstToGo) {
  start();
  say_hello();
  expect_ready();
  const std::string proc = "/proc/" + std::to_string(pid_);
  const auto content = [&](const char* name) {
    std::string text(8192, '\0');
    const Descriptor file(::open((proc + name).c_str(), O_RDONLY | O_CLOEXEC));
    const ssize_t count = ::read(file.get(), text.data(), text.size());
    text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
    return text;
  };
  EXPECT_NE(content("/status").find("NoNewPrivs:\t1"), std::string::npos);
  EXPECT_EQ(content("/oom_score_adj"), "500\n");
}

TEST(MeasureWake, IsWithinReason) {
  const std::uint64_t wake_ns = measure_wake_ns();
  EXPECT_GE(wake_ns, 5'000u);
  EXPECT_LE(wake_ns, 100'000u);
}

}  // namespace
}  // namespace kaas
