#include "tools/bench/child_process.h"

#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string_view>
#include <utility>

#include "schema/ipc/clock.h"
#include "tools/bench/machine.h"

extern char** environ;

namespace kaas {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kReadyNs = 60 * kSecondNs;
constexpr std::uint64_t kAnswerNs = 120 * kSecondNs;
constexpr std::uint64_t kFreshNs = 60 * kSecondNs;
constexpr int kEndMs = 5'000;

Status system_error(const std::string& what) {
  return {StatusCode::ResourceExhausted, what + ": " + std::strerror(errno)};
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  return pointers;
}

// This process's, but for the names that `additions` give a value.
std::vector<std::string> joined_environment(const std::vector<std::string>& additions) {
  std::vector<std::string> variables = additions;
  for (char** inherited = environ; *inherited != nullptr; ++inherited) {
    const std::string_view variable = *inherited;
    const std::string_view name = variable.substr(0, variable.find('='));
    const bool replaced =
        std::any_of(additions.begin(), additions.end(), [name](const std::string& addition) {
          return addition.compare(0, addition.find('='), name) == 0;
        });
    if (!replaced) variables.emplace_back(variable);
  }
  return variables;
}

std::string ending_text(int status) {
  return WIFSIGNALED(status) ? "was ended by signal " + std::to_string(WTERMSIG(status))
                             : "ended with status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : name_(std::move(other.name_)),
      pid_(std::exchange(other.pid_, -1)),
      process_(std::move(other.process_)),
      socket_(std::move(other.socket_)),
      unread_(std::move(other.unread_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this == &other) return *this;
  end();
  name_ = std::move(other.name_);
  pid_ = std::exchange(other.pid_, -1);
  process_ = std::move(other.process_);
  socket_ = std::move(other.socket_);
  unread_ = std::move(other.unread_);
  return *this;
}

ChildProcess::~ChildProcess() {
  end();
}

Result<ChildProcess> ChildProcess::start(std::vector<std::string> words,
                                         const std::vector<std::string>& environment) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return system_error("socketpair");
  }
  ChildProcess child;
  child.socket_ = Descriptor(ends[0]);
  const Descriptor theirs(ends[1]);
  child.name_ = words[0].substr(words[0].rfind('/') + 1);
  std::vector<std::string> variables = joined_environment(environment);
  std::vector<char*> variable_pointers = pointers_to(variables);
  std::vector<char*> word_pointers = pointers_to(words);
  variable_pointers.push_back(nullptr);
  word_pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDOUT_FILENO);
  const int failed = ::posix_spawnp(&child.pid_, word_pointers[0], &actions, nullptr,
                                    word_pointers.data(), variable_pointers.data());
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    child.pid_ = -1;
    return Status{failed == ENOENT ? StatusCode::NotFound : StatusCode::ResourceExhausted,
                  words[0] + ": " + std::strerror(failed)};
  }
  child.process_ = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, child.pid_, 0)));
  if (!child.process_) return system_error("pidfd_open");
  return child;
}

Result<void> ChildProcess::send(const std::string& line) {
  const std::string text = line + "\n";
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t count =
        ::send(socket_.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return Status{StatusCode::Unavailable,
                    name_ + " does not read any more: " + std::strerror(errno)};
    }
    sent += static_cast<std::size_t>(count);
  }
  return {};
}

void ChildProcess::read_available() {
  char bytes[16384];
  for (;;) {
    const ssize_t count = ::recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    unread_.append(bytes, static_cast<std::size_t>(count));
  }
}

// What it wrote before its end is read before Ended is said.
ChildProcess::Waited ChildProcess::wait(std::uint64_t until_ns) {
  const std::size_t before = unread_.size();
  for (;;) {
    pollfd entries[] = {{process_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
    const std::uint64_t now = now_ns();
    const std::uint64_t left_ms = until_ns > now ? (until_ns - now) / 1'000'000 + 1 : 0;
    const int ready =
        ::poll(entries, 2, static_cast<int>(std::min<std::uint64_t>(left_ms, 3'600'000)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Waited::Timeout;
    read_available();
    if (unread_.size() != before) return Waited::Data;
    if (entries[0].revents != 0) return Waited::Ended;
    // It has closed its output: only its end is left to wait for.
    if (::poll(entries, 1, static_cast<int>(std::min<std::uint64_t>(left_ms, kEndMs))) <= 0) {
      return Waited::Timeout;
    }
    return Waited::Ended;
  }
}

Result<std::string> ChildProcess::receive(std::uint64_t timeout_ns) {
  const std::uint64_t until_ns = now_ns() + timeout_ns;
  for (;;) {
    const std::size_t length = unread_.find('\n');
    if (length != std::string::npos) {
      std::string line = unread_.substr(0, length);
      unread_.erase(0, length + 1);
      return line;
    }
    const Waited waited = wait(until_ns);
    if (waited == Waited::Data) continue;
    const bool ended = waited == Waited::Ended;
    std::string why = " has not answered in time";
    if (ended) {
      int status = 0;
      while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
      }
      pid_ = -1;
      why = " " + ending_text(status);
    }
    return Status{ended ? StatusCode::Unavailable : StatusCode::DeadlineExceeded,
                  name_ + why + (unread_.empty() ? "" : ": " + unread_)};
  }
}

Result<ChildProcess::Ending> ChildProcess::finish(std::uint64_t timeout_ns) {
  const std::uint64_t until_ns = now_ns() + timeout_ns;
  ::shutdown(socket_.get(), SHUT_WR);
  Waited waited = Waited::Data;
  while (waited == Waited::Data) waited = wait(until_ns);
  if (waited == Waited::Timeout) {
    ::kill(pid_, SIGKILL);
    end();
    return Status{StatusCode::DeadlineExceeded, name_ + " did not end and was killed"};
  }
  Ending ending;
  while (::waitpid(pid_, &ending.status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  ending.output = std::exchange(unread_, {});
  return ending;
}

void ChildProcess::end() noexcept {
  if (pid_ <= 0) return;
  ::shutdown(socket_.get(), SHUT_WR);
  pollfd entry{process_.get(), POLLIN, 0};
  if (::poll(&entry, 1, kEndMs) <= 0) ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

Result<void> WorkerProcess::await_ready() {
  KAAS_ASSIGN_OR_RETURN(const std::string line, child_.receive(kReadyNs));
  if (line.rfind("ready ", 0) != 0) {
    const std::size_t text_at = line.rfind("error ", 0) == 0 ? 6 : 0;
    return Status{StatusCode::Unavailable, name_ + ": " + line.substr(text_at)};
  }
  description_ = line.substr(6);
  return {};
}

Result<std::vector<WorkerProcess>> WorkerProcess::start_many(
    std::size_t count, const std::vector<std::string>& words,
    const std::vector<std::string>& environment) {
  std::vector<WorkerProcess> workers;
  const std::string name = words[0].substr(words[0].rfind('/') + 1);
  for (std::size_t i = 0; i < count; ++i) {
    KAAS_ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::start(words, environment));
    workers.push_back(WorkerProcess(std::move(child), name));
  }
  for (WorkerProcess& worker : workers) KAAS_RETURN_IF_ERROR(worker.await_ready());
  return workers;
}

Result<WorkerProcess> WorkerProcess::start(const std::vector<std::string>& words,
                                           const std::vector<std::string>& environment) {
  KAAS_ASSIGN_OR_RETURN(auto workers, start_many(1, words, environment));
  return std::move(workers.front());
}

Result<std::vector<double>> WorkerProcess::answer() {
  KAAS_ASSIGN_OR_RETURN(const std::string line, child_.receive(kAnswerNs));
  std::istringstream text(line);
  std::string word;
  std::vector<double> numbers;
  if (text >> word && word == "ok") {
    for (double number = 0; text >> number;) numbers.push_back(number);
    if (text.eof() && !numbers.empty()) return numbers;
  }
  const std::size_t text_at = line.rfind("error ", 0) == 0 ? 6 : 0;
  return Status{StatusCode::Internal, name_ + ": " + line.substr(text_at)};
}

Result<std::vector<double>> WorkerProcess::call(const std::string& command) {
  KAAS_RETURN_IF_ERROR(ask(command));
  return answer();
}

Result<FreshTimes> run_fresh_process(const std::vector<std::string>& words) {
  const std::uint64_t begin_ns = now_ns();
  KAAS_ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::start(words));
  KAAS_ASSIGN_OR_RETURN(const ChildProcess::Ending ending, child.finish(kFreshNs));
  FreshTimes times;
  std::uint64_t result_at_ns = 0;
  if (ending.status != 0 || std::sscanf(ending.output.c_str(), "%" SCNu64 " %" SCNu64,
                                        &times.main_to_result_ns, &result_at_ns) != 2) {
    return Status{StatusCode::Internal,
                  words[0] + " " + ending_text(ending.status) + ": " + ending.output};
  }
  times.start_to_result_ns = result_at_ns - begin_ns;
  return times;
}

Result<FreshTimes> run_fresh_client(const std::string& socket) {
  return run_fresh_process({program_folder() + "/kaas-bench-client", socket});
}

}  // namespace kaas
