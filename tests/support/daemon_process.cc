#include "tests/support/daemon_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kaas/client.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/eventually.h"

namespace kaas {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// In the child: becomes kaasd, or exits with 127.
[[noreturn]] void become_daemon(std::vector<std::string> words,
                                const DaemonProcess::Options& options, const std::string& log) {
  if (options.descriptor_limit) {
    const rlimit limit{*options.descriptor_limit, *options.descriptor_limit};
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
  ::dup2(file, STDOUT_FILENO);
  ::dup2(file, STDERR_FILENO);
  if (options.run_as) {
    if (::setgid(*options.run_as) != 0 || ::setuid(*options.run_as) != 0) ::_exit(126);
  }
  // A group of its own, as a shell gives it, and no longer life than the test's.
  if (::setpgid(0, 0) != 0 || ::prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) ::_exit(126);
  for (const std::string& variable : options.environment) {
    ::putenv(const_cast<char*>(variable.c_str()));
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

std::string test_environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) {
    std::fprintf(stderr, "%s is not set; run the test through ctest\n", name);
    std::abort();
  }
  return value;
}

std::unique_ptr<DaemonProcess> DaemonProcess::start(Options options) {
  std::unique_ptr<DaemonProcess> daemon(new DaemonProcess());
  char folder[] = "/tmp/kaas-test-XXXXXX";
  if (::mkdtemp(folder) == nullptr) return nullptr;
  daemon->folder_ = folder;
  if (options.run_as) {
    ::chmod(folder, 0777);  // The other user makes its socket there.
  }
  daemon->socket_ = options.socket.empty() ? daemon->folder_ + "/kaasd.sock" : options.socket;
  std::vector<std::string> words = {test_environment("KAAS_TEST_BINARY_DIR") + "/bin/kaasd",
                                    "--socket", daemon->socket_, "--log-level", "debug"};
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  const pid_t pid = ::fork();
  if (pid < 0) return nullptr;
  if (pid == 0) become_daemon(std::move(words), options, daemon->folder_ + "/log");
  daemon->pid_ = pid;
  if (!options.wait_until_ready) return daemon;
  const bool ready = eventually([&] {
    if (!process_exists(pid)) return true;
    ClientOptions client_options;
    client_options.socket = daemon->socket_;
    client_options.administration_only = true;
    auto client = Client::connect(client_options);
    if (!client.has_value()) return false;
    const auto status = client->status_json();
    return status.has_value() && status->find("\"health\":\"ok\"") != std::string::npos;
  });
  if (ready && process_exists(pid)) return daemon;
  std::fprintf(stderr, "kaasd did not come up; its log:\n%s\n", daemon->log().c_str());
  return nullptr;
}

DaemonProcess::~DaemonProcess() {
  if (pid_ > 0 && process_exists(pid_)) {
    ::kill(pid_, SIGKILL);
    wait();
  }
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

std::string DaemonProcess::log() const {
  return read_file(folder_ + "/log");
}

std::vector<pid_t> DaemonProcess::executors() const {
  return children_of(pid_);
}

std::size_t DaemonProcess::open_descriptors() const {
  std::size_t count = 0;
  std::error_code error;
  const std::filesystem::directory_iterator end;
  for (std::filesystem::directory_iterator entry("/proc/" + std::to_string(pid_) + "/fd", error);
       !error && entry != end; entry.increment(error)) {
    ++count;
  }
  return count;
}

void DaemonProcess::signal(int number) const {
  ::kill(pid_, number);
}

void DaemonProcess::signal_group(int number) const {
  ::kill(-pid_, number);
}

std::optional<int> DaemonProcess::stop() {
  signal(SIGTERM);
  return wait();
}

std::optional<int> DaemonProcess::wait() {
  int status = 0;
  pid_t ended = 0;
  const bool done = eventually([&] {
    ended = ::waitpid(pid_, &status, WNOHANG);
    return ended != 0;
  });
  if (!done || ended != pid_) return std::nullopt;
  pid_ = 0;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  std::error_code error;
  const std::filesystem::directory_iterator end;
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  for (std::filesystem::directory_iterator task(tasks, error); !error && task != end;
       task.increment(error)) {
    std::istringstream list(read_file(task->path().string() + "/children"));
    pid_t child = 0;
    while (list >> child) children.push_back(child);
  }
  return children;
}

bool process_exists(pid_t pid) {
  // A zombie has ended.
  const std::string stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const auto name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= stat.size()) return false;
  return stat[name_end + 2] != 'Z' && stat[name_end + 2] != 'X';
}

}  // namespace kaas
