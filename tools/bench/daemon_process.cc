#include "tools/bench/daemon_process.h"

#include <fcntl.h>
#include <kaas/client.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "schema/ipc/clock.h"
#include "schema/ipc/handle.h"

namespace kaas {
namespace {

constexpr std::uint64_t kStartNs = 20'000'000'000;
constexpr int kStopMs = 10'000;
constexpr int kLookMs = 5;
constexpr std::size_t kLogTailBytes = 2000;

// The last lines of a log, for an error message.
std::string tail_of(const std::string& path) {
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (text.size() > kLogTailBytes) text = "..." + text.substr(text.size() - kLogTailBytes);
  return text.empty() ? "its log is empty" : "its log:\n" + text;
}

// Runs in the child, where nothing but system calls is allowed.
[[noreturn]] void run_program(char* const* words, int log, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::close_range(STDERR_FILENO + 1, ~0u, 0);
  ::execv(words[0], words);
  const char text[] = "cannot run kaasd: no such program, or not executable\n";
  static_cast<void>(::write(STDERR_FILENO, text, sizeof text - 1) > 0);
  ::_exit(127);
}

}  // namespace

struct DaemonProcess::Impl {
  std::string folder, socket, log;
  pid_t pid = -1;
  Descriptor process;  // A pidfd.

  ~Impl() {
    static_cast<void>(stop().has_value());
    std::error_code error;
    if (!folder.empty()) std::filesystem::remove_all(folder, error);
  }

  // Whether it has ended; waits for that at most `timeout_ms`.
  [[nodiscard]] bool ended(int timeout_ms) const {
    pollfd entry{process.get(), POLLIN, 0};
    return ::poll(&entry, 1, timeout_ms) > 0;
  }

  Result<void> stop() {
    if (pid <= 0) return {};
    ::kill(pid, SIGTERM);
    const bool by_itself = ended(kStopMs);
    if (!by_itself) ::kill(pid, SIGKILL);
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    pid = -1;
    if (!by_itself) return Status{StatusCode::Internal, "kaasd did not end on SIGTERM"};
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    return Status{StatusCode::Internal,
                  "kaasd ended with wait status " + std::to_string(status) + "; " + tail_of(log)};
  }

  Result<void> wait_until_ready() {
    ClientOptions options;
    options.socket = socket;
    options.administration_only = true;
    const std::uint64_t give_up_ns = now_ns() + kStartNs;
    for (;;) {
      auto client = Client::connect(options);
      if (client) return {};
      const bool gone = ended(kLookMs);
      if (!gone && now_ns() < give_up_ns) continue;
      return Status{StatusCode::Unavailable,
                    std::string(gone ? "kaasd has ended at once; " : "kaasd does not answer: ") +
                        (gone ? "" : client.error().message + "; ") + tail_of(log)};
    }
  }
};

DaemonProcess::DaemonProcess(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DaemonProcess::DaemonProcess(DaemonProcess&& other) noexcept = default;
DaemonProcess& DaemonProcess::operator=(DaemonProcess&& other) noexcept = default;
DaemonProcess::~DaemonProcess() = default;

pid_t DaemonProcess::pid() const noexcept {
  return impl_->pid;
}
const std::string& DaemonProcess::socket() const noexcept {
  return impl_->socket;
}
Result<void> DaemonProcess::stop() {
  return impl_->stop();
}

Result<DaemonProcess> DaemonProcess::start(const std::string& program,
                                           std::vector<std::string> arguments) {
  auto impl = std::make_unique<Impl>();
  std::string pattern = (std::filesystem::temp_directory_path() / "kaas-bench-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    return Status{StatusCode::ResourceExhausted, pattern + ": " + std::strerror(errno)};
  }
  impl->folder = pattern;
  impl->socket = pattern + "/kaasd.sock";
  impl->log = pattern + "/kaasd.log";
  const Descriptor log(::open(impl->log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log) return Status{StatusCode::ResourceExhausted, impl->log + ": " + std::strerror(errno)};
  arguments.insert(arguments.begin(), {program, "--socket", impl->socket});
  std::vector<char*> words;
  for (std::string& argument : arguments) words.push_back(argument.data());
  words.push_back(nullptr);
  const pid_t parent = ::getpid();
  impl->pid = ::fork();
  if (impl->pid < 0) {
    return Status{StatusCode::ResourceExhausted, std::string("fork: ") + std::strerror(errno)};
  }
  if (impl->pid == 0) run_program(words.data(), log.get(), parent);
  impl->process = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, impl->pid, 0)));
  KAAS_RETURN_IF_ERROR(impl->wait_until_ready());
  return DaemonProcess(std::move(impl));
}

}  // namespace kaas
