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
#include <optional>
#include <string>
#include <thread>

#include "daemon/executor/confinement.h"
#include "daemon/executor/device/open_device.h"
#include "daemon/executor/library/opened_library.h"
#include "daemon/executor/run/executor_loop.h"
#include "daemon/executor/run/kernel_log.h"
#include "daemon/executor/run/process.h"
#include "daemon/executor/run/workers.h"

namespace {

constexpr int kExitWrongUsage = 2;
constexpr int kExitFailed = 1;
constexpr int kExitNoDevice = 3;
// When memory runs out, the kernel should end an executor rather than kaasd or its clients.
constexpr const char* kOomScoreAdjust = "500";
// Workers even on few cores: a long run must not keep all others waiting.
constexpr std::uint32_t kWorkersMin = 4;

struct Flags {
  std::string device = "host";
  int socket = -1;
  std::uint64_t memory_limit_bytes = 0;
  uid_t library_owner = ::geteuid();
  std::uint32_t reserved_sms = 0;
  bool is_joined = false;
  bool is_unconfined = false;
  bool lists_devices = false;
};

// Never outlives kaasd, and is the first to go when memory runs out.
void prepare_process() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::signal(SIGPIPE, SIG_IGN);
  const kaas::Descriptor file(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  const std::string text = kOomScoreAdjust;
  if (!file || ::write(file.get(), text.data(), text.size()) < 0) {
    std::perror("kaas-executor: oom_score_adj");
  }
}

// What lies in a cache of this user would be code that a client may have put there.
void forget_compile_caches() {
  ::setenv("CUDA_CACHE_DISABLE", "1", 1);
  ::unsetenv("XDG_CACHE_HOME");
  ::unsetenv("HOME");
}

// What a device may allocate when nobody says: half of the machine's memory on the host, most of
// what is free on a GPU.
std::uint64_t default_memory_bytes(const kaas::Device* gpu) {
  if (gpu != nullptr) return gpu->limits().memory_bytes / 10 * 9;
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_bytes = ::sysconf(_SC_PAGESIZE);
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes) / 2;
}

std::uint64_t memory_limit(const Flags& flags, const kaas::ExecutorChannel& channel,
                           const kaas::Device* gpu) {
  std::uint64_t limit = channel.device_limit_bytes;
  if (limit == 0) limit = default_memory_bytes(gpu);
  return flags.memory_limit_bytes == 0 ? limit : std::min(limit, flags.memory_limit_bytes);
}

int fail(const std::string& why, int status = kExitFailed) {
  std::fprintf(stderr, "kaas-executor: %s\n", why.c_str());
  return status;
}

int run(const Flags& flags, const std::string& confinement) {
  kaas::Descriptor socket(flags.socket);
  ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
  auto channel = kaas::ExecutorChannel::receive(std::move(socket));
  if (!channel) return fail(kaas::to_string(channel.error()));
  auto sleep = kaas::ExecutorSleep::create(channel->doorbell.descriptor(), channel->socket.get());
  if (!sleep) return fail(kaas::to_string(sleep.error()));

  const std::uint32_t threads = std::max(1u, std::thread::hardware_concurrency());
  kaas::DeviceChoice choice;
  choice.device = flags.device;
  choice.threads = threads;
  choice.reserved_sms = flags.reserved_sms;
  choice.memory_bytes = memory_limit(flags, *channel, nullptr);
  auto opened = kaas::open_device(choice);
  if (!opened) return fail(kaas::to_string(opened.error()), kExitNoDevice);
  kaas::Device& device = **opened;
  const bool is_host = device.limits().kind == KAAS_DEVICE_HOST;
  const std::uint64_t limit_bytes = memory_limit(flags, *channel, is_host ? nullptr : &device);
  kaas::FileLibraryOpener libraries(device, {flags.library_owner, flags.is_joined});
  kaas::SocketSegmentSource segments(channel->socket.get());
  kaas::SocketExportSink exports(channel->socket.get());
  kaas::ExecutorWorkers workers(std::max(threads, kWorkersMin), [&] { sleep->wake(); });
  kaas::CodeLoader loader(libraries, device, [&] { sleep->wake(); });
  std::optional<kaas::SegmentPinner> pinner;
  if (device.limits().reaches_host) pinner.emplace(device);

  kaas::ExecutorParts parts{
      .work = kaas::RingView::at(channel->work.data(), channel->geometry),
      .report = kaas::RingView::at(channel->report.data(), channel->geometry),
      .device = device,
      .libraries = libraries,
      .segments = segments,
      .exports = exports,
      .bells = *sleep,
      .workers = &workers,
      .loader = &loader,
      .pinner = pinner ? &*pinner : nullptr,
      .memory_limit_bytes = limit_bytes,
      .wake_kaasd = [&] { channel->doorbell.ring(); },
      .wake = [&] { sleep->wake(); },
      .tag_end = &kaas::end_kernel_log_lines,
  };
  kaas::ExecutorLoop loop(parts);
  loop.add_segment(kaas::kOutboxSegment, std::move(channel->outbox));
  loop.report_ready(confinement);
  const kaas::ExecutorEnding ending = kaas::run_executor(loop, *channel, segments, *sleep);
  const bool gone = ending.end == kaas::ExecutorEnd::KaasdGone;
  if (!gone) std::fprintf(stderr, "kaas-executor: %s\n", ending.reason.c_str());
  const int status = gone ? EXIT_SUCCESS : kExitFailed;
  // A kernel that runs, or a library that is being loaded, may go on for ever, and nobody waits for
  // it any more.
  if (ending.executing || device.lost()) std::_Exit(status);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Runs kernels for kaasd, which starts it.", "kaas-executor");
  app.add_option("--device", flags.device,
                 "Device that runs the kernels: host, or cuda: and a GPU's id")
      ->check([](const std::string& name) {
        return name == "host" || name.starts_with("cuda:") ? "" : "allowed: host, cuda:ID";
      });
  auto* list = app.add_flag("--list-devices", flags.lists_devices,
                            "Print this machine's GPUs as JSON and exit");
  auto* socket =
      app.add_option("--socket-fd", flags.socket, "Inherited descriptor of the socket to kaasd");
  socket->check(CLI::NonNegativeNumber)->excludes(list);
  app.add_option("--memory-limit", flags.memory_limit_bytes,
                 "Bytes of device memory at most; 0: what kaasd says");
  app.add_option("--library-owner", flags.library_owner,
                 "Uid whose libraries are loaded, besides root's; default: its own");
  app.add_option("--reserved-sms", flags.reserved_sms,
                 "Multiprocessors of a GPU that background runs leave free; 0: none");
  app.add_flag("--joined", flags.is_joined,
               "Users share this executor: libraries are loaded of nobody else");
  app.add_flag("--unconfined", flags.is_unconfined,
               "May be traced, and reach other processes of its user");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int outcome = app.exit(error);
    return outcome == 0 ? EXIT_SUCCESS : kExitWrongUsage;
  }
  if (flags.lists_devices) {
    std::puts(kaas::list_devices_json().c_str());
    return EXIT_SUCCESS;
  }
  if (flags.socket < 0) {
    std::fputs("kaas-executor: --socket-fd is needed; kaasd gives it\n", stderr);
    return kExitWrongUsage;
  }
  prepare_process();
  if (flags.is_joined) forget_compile_caches();
  kaas::install_kernel_log();
  return run(flags, kaas::confine_executor(!flags.is_unconfined));
}
