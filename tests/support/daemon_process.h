// A real kaasd for end-to-end tests: its own folder, socket and log; ended by pid.
// Threads: one.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kaas {

// A value of the environment that the test runner sets; aborts with its name if it is missing.
std::string test_environment(const char* name);

class DaemonProcess {
 public:
  struct Options {
    std::vector<std::string> arguments;        // Besides the socket and the log.
    std::string socket;                        // Empty: in a new folder.
    std::vector<std::string> environment;      // Besides the test's: "NAME=value".
    std::optional<unsigned> descriptor_limit;  // RLIMIT_NOFILE of it and its children.
    std::optional<uid_t> run_as;               // As another user; needs root.
    bool wait_until_ready = true;              // For its socket, and an executor that is ready.
  };
  // Null, with the log on stderr, if it did not come up.
  static std::unique_ptr<DaemonProcess> start(Options options);
  static std::unique_ptr<DaemonProcess> start(std::vector<std::string> arguments = {}) {
    Options options;
    options.arguments = std::move(arguments);
    return start(std::move(options));
  }
  // Kills it if it still runs, and removes its folder.
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  [[nodiscard]] const std::string& socket() const noexcept { return socket_; }
  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] std::string log() const;
  // Process ids of its executors.
  [[nodiscard]] std::vector<pid_t> executors() const;
  [[nodiscard]] std::size_t open_descriptors() const;

  // Sends a signal.
  void signal(int number) const;
  // Sends a signal to its process group, as a terminal does.
  void signal_group(int number) const;
  // SIGTERM, then waits. The exit status, or 128 + signal; nullopt if it did not end.
  std::optional<int> stop();
  // Waits for its end, whatever caused it.
  std::optional<int> wait();

 private:
  DaemonProcess() = default;
  std::string folder_;
  bool owns_folder_ = false;
  std::string socket_;
  pid_t pid_ = 0;
};

// Children of a process, by /proc.
std::vector<pid_t> children_of(pid_t pid);
[[nodiscard]] bool process_exists(pid_t pid);

}  // namespace kaas
