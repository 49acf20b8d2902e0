// kaas-executor: runs kernels for kaasd, which starts it and ends it. Not meant to be run by hand.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "daemon/executor/device/host_device.h"
#include "daemon/executor/library/opened_library.h"
#include "daemon/executor/run/executor_loop.h"
#include "daemon/executor/run/kernel_log.h"
#include "daemon/executor/run/process.h"
#include "daemon/executor/run/workers.h"

namespace {

constexpr int kExitWrongUsage = 2;
constexpr int kExitFailed = 1;
// When memory runs out, the kernel should end an executor rather than kaasd or its clients.
constexpr const char* kOomScoreAdjust = "500";
// Workers even on few cores: a long run must not keep all others waiting.
constexpr std::uint32_t kWorkersMin = 4;

struct Flags {
  std::string device = "host";
  int socket = -1;
  std::uint64_t memory_limit_bytes = 0;
};

// Never outlives kaasd, gains no rights, and is the first to go when memory runs out.
void confine_process() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  std::signal(SIGPIPE, SIG_IGN);
  const kaas::Descriptor file(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  const std::string text = kOomScoreAdjust;
  if (!file || ::write(file.get(), text.data(), text.size()) < 0) {
    std::perror("kaas-executor: oom_score_adj");
  }
}

// What the host device may allocate when nobody says: half of the memory that the machine has.
std::uint64_t default_memory_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_bytes = ::sysconf(_SC_PAGESIZE);
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes) / 2;
}

std::uint64_t memory_limit(const Flags& flags, const kaas::ExecutorChannel& channel) {
  std::uint64_t limit = channel.device_limit_bytes;
  if (limit == 0) limit = default_memory_bytes();
  return flags.memory_limit_bytes == 0 ? limit : std::min(limit, flags.memory_limit_bytes);
}

int fail(const std::string& why) {
  std::fprintf(stderr, "kaas-executor: %s\n", why.c_str());
  return kExitFailed;
}

int run(const Flags& flags) {
  kaas::Descriptor socket(flags.socket);
  ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
  auto channel = kaas::ExecutorChannel::receive(std::move(socket));
  if (!channel) return fail(kaas::to_string(channel.error()));
  auto sleep = kaas::ExecutorSleep::create(channel->doorbell.descriptor(), channel->socket.get());
  if (!sleep) return fail(kaas::to_string(sleep.error()));

  const std::uint32_t threads = std::max(1u, std::thread::hardware_concurrency());
  const std::uint64_t limit_bytes = memory_limit(flags, *channel);
  kaas::HostDevice device(limit_bytes, threads);
  kaas::FileLibraryOpener libraries(device, ::geteuid());
  kaas::SocketSegmentSource segments(channel->socket.get());
  kaas::ExecutorWorkers workers(std::max(threads, kWorkersMin), [&] { sleep->wake(); });

  kaas::ExecutorParts parts{
      .work = kaas::RingView::at(channel->work.data(), channel->geometry),
      .report = kaas::RingView::at(channel->report.data(), channel->geometry),
      .device = device,
      .libraries = libraries,
      .segments = segments,
      .workers = &workers,
      .memory_limit_bytes = limit_bytes,
      .wake_kaasd = [&] { channel->doorbell.ring(); },
      .tag_end = &kaas::end_kernel_log_lines,
  };
  kaas::ExecutorLoop loop(parts);
  loop.add_segment(kaas::kOutboxSegment, std::move(channel->outbox));
  loop.report_ready();
  const kaas::ExecutorEnding ending = kaas::run_executor(loop, *channel, segments, *sleep);
  const bool gone = ending.end == kaas::ExecutorEnd::KaasdGone;
  if (!gone) std::fprintf(stderr, "kaas-executor: %s\n", ending.reason.c_str());
  const int status = gone ? EXIT_SUCCESS : kExitFailed;
  // A kernel that still runs may do so for ever, and nobody waits for it any more.
  if (ending.executing) std::_Exit(status);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Runs kernels for kaasd, which starts it.", "kaas-executor");
  app.add_option("--device", flags.device, "Device that runs the kernels")
      ->check(CLI::IsMember({"host"}));
  app.add_option("--socket-fd", flags.socket, "Inherited descriptor of the socket to kaasd")
      ->required()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--memory-limit", flags.memory_limit_bytes,
                 "Bytes of device memory at most; 0: what kaasd says");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int outcome = app.exit(error);
    return outcome == 0 ? EXIT_SUCCESS : kExitWrongUsage;
  }
  confine_process();
  kaas::install_kernel_log();
  return run(flags);
}
