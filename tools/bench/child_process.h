// Programs that kaas-bench starts and speaks to by lines, and workers among them: programs that
// measure when they are told to (worker.h says what is spoken).
//
// Owns:    the process. Its end: its input is closed, and SIGKILL if it does not end in time.
// Threads: one.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"

namespace kaas {

class ChildProcess {
 public:
  // Starts words[0] (looked for on PATH if it has no slash) with these additions ("NAME=value") to
  // the environment. NotFound: there is no such program.
  static Result<ChildProcess> start(std::vector<std::string> words,
                                    const std::vector<std::string>& environment = {});
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  // Unavailable: it does not read any more.
  Result<void> send(const std::string& line);
  // Its next line, without the line end. Unavailable: it has ended, DeadlineExceeded: not in time;
  // both with what it wrote.
  Result<std::string> receive(std::uint64_t timeout_ns);

  struct Ending {
    int status = 0;      // Of waitpid.
    std::string output;  // What was not received before.
  };
  // Closes its input and waits for its end; DeadlineExceeded: it did not end, and was killed.
  Result<Ending> finish(std::uint64_t timeout_ns);

 private:
  ChildProcess() = default;
  enum class Waited { Data, Ended, Timeout };
  Waited wait(std::uint64_t until_ns);
  void read_available();
  void end() noexcept;

  std::string name_;
  pid_t pid_ = -1;
  Descriptor process_;  // A pidfd.
  Descriptor socket_;   // Its standard input and output.
  std::string unread_;
};

class WorkerProcess {
 public:
  // Starts it and waits until it says that it is ready. Unavailable, with its own words: it can't.
  static Result<WorkerProcess> start(const std::vector<std::string>& words,
                                     const std::vector<std::string>& environment = {});
  // Several at the same time.
  static Result<std::vector<WorkerProcess>> start_many(
      std::size_t count, const std::vector<std::string>& words,
      const std::vector<std::string>& environment = {});

  // What it said of itself: its device.
  [[nodiscard]] const std::string& description() const noexcept { return description_; }

  // Sends a command; its answer is to be taken before the next one. So several workers work at the
  // same time.
  Result<void> ask(const std::string& command) { return child_.send(command); }
  // The numbers of its answer. Internal, with its own words: it failed.
  Result<std::vector<double>> answer();
  Result<std::vector<double>> call(const std::string& command);

 private:
  WorkerProcess(ChildProcess child, std::string name)
      : child_(std::move(child)), name_(std::move(name)) {}
  Result<void> await_ready();
  ChildProcess child_;
  std::string name_;
  std::string description_;
};

// A new process that connects, gets its first result, and ends.
struct FreshTimes {
  std::uint64_t main_to_result_ns = 0;   // By its own clock.
  std::uint64_t start_to_result_ns = 0;  // From before it was started.
};
// Runs a program that prints both its time from main() to its first result, and the time of that on
// CLOCK_MONOTONIC. Internal, with what it printed: it failed.
Result<FreshTimes> run_fresh_process(const std::vector<std::string>& words);
// kaas-bench-client, of the kaasd at `socket`.
Result<FreshTimes> run_fresh_client(const std::string& socket);

}  // namespace kaas
