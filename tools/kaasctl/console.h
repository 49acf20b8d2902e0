// Where a command's words go: results to standard output, everything else to standard error.
// Threads: one.
#pragma once

#include <kaas/client.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tools/kaasctl/command_line.h"

namespace kaas {

class Console {
 public:
  explicit Console(const CommandLine& line);

  [[nodiscard]] bool json() const { return json_; }
  [[nodiscard]] bool quiet() const { return quiet_; }
  [[nodiscard]] bool colour() const { return colour_; }  // Of standard output.
  [[nodiscard]] bool shows_progress() const { return progress_; }

  // Standard output. False: nobody reads it any more (or it is full), so there is no use in going
  // on; finish() tells how to end then.
  bool print(std::string_view text);
  bool flush();
  // Standard error, unless --quiet.
  void note(std::string_view text) const;
  // A failure, on standard error: "kaasctl: text", or with --json
  // {"error":{"code":...,"message":...}}.
  void error(const Status& status) const;

  // The exit status of a command that ended with `code`: a write that failed makes it a failure.
  int finish(int code);

 private:
  bool json_;
  bool quiet_;
  bool colour_;
  bool progress_;
  bool failed_ = false;
};

// How far a transfer is. Shown on standard error, once it has taken a while.
class Progress {
 public:
  Progress(const Console& console, std::string label, std::uint64_t total_bytes);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(std::uint64_t done_bytes);

 private:
  void show(std::uint64_t done_bytes);

  const Console& console_;
  std::string label_;
  std::uint64_t total_bytes_;  // 0: not known.
  std::uint64_t done_bytes_ = 0;
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point shown_;
  bool visible_ = false;
};

// A session with the daemon that `line` names.
// Fails: as Client::connect; no_session() reports it.
enum class SessionKind : std::uint8_t { Administration, Full };
Result<Client> connect(const CommandLine& line, SessionKind kind);

// How a command ends that got no session, or whose session has ended, for this reason.
ExitCode exit_without_session(const Status& reason);

// Reports why there is no session, and returns the exit status.
int no_session(const Console& console, const Status& reason);

// Reports the failure of a call and returns the exit status: whether the daemon has gone, or said
// no, be it to the call or to the whole session.
int fail(const Console& console, Client& client, const Status& status);

}  // namespace kaas
