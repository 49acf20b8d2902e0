// What the words of a command line mean. Nothing is connected and no file is read here.
// Threads: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kaas {

// How kaasctl ends; docs/kaasctl.md promises these.
enum ExitCode : int { kExitDone = 0, kExitFailed = 1, kExitUsage = 2, kExitNoDaemon = 3 };

enum class Command : std::uint8_t {
  Status,
  Ps,
  Run,
  Deploy,
  Undeploy,
  Functions,
  Call,
  Cancel,
  Kick,
  KvPut,
  KvGet,
  KvLs,
  KvStat,
  KvRm,
  KvShare,
  Libraries,
  Logs,
  Doctor,
  Reload,
  Suspend,
  Resume,
  Completion
};

struct CommandLine {
  Command command = Command::Status;

  // For every command.
  std::string socket;
  bool json = false;
  bool quiet = false;
  bool progress = false;

  std::string file;                      // run, deploy, kv put, kv get; "-": standard streams.
  std::string name;                      // A function.
  std::vector<std::string> assignments;  // run, call: NAME=VALUE.
  std::optional<std::uint32_t> version;  // undeploy, functions --use, call.
  // run, call
  std::uint64_t repeat = 1;
  std::string deadline;
  std::uint64_t tag = 0;
  int priority = 0;
  std::string tenant;
  bool profile = false;

  std::string target;             // cancel: a request. kick: a session. suspend, resume: a device.
  std::string key;                // kv
  std::vector<std::string> keys;  // kv rm
  std::string prefix;
  std::optional<std::uint32_t> uid;
  bool everyone = false;
  bool write = false;
  bool revoke = false;
  std::uint32_t within_s = 30;  // suspend
  bool force = false;           // suspend
  bool follow = false;
  std::uint32_t lines = 100;
  std::string shell;
};

struct ParsedCommandLine {
  std::optional<int> exit;  // Set: nothing is left to do but to end so.
  CommandLine line;
};

// Whether --json is among the words, which may be wrong otherwise.
bool asks_for_json(int argc, const char* const* argv);

// Prints help, version and usage errors itself.
ParsedCommandLine parse_command_line(int argc, const char* const* argv);

// For completion: the subcommands and options that may follow `words`, which are complete.
struct Expected {
  std::vector<std::string> path;    // The subcommands in `words`: {"kv", "get"}.
  std::vector<std::string> values;  // The words that are neither subcommands nor options.
  std::vector<std::string> words;   // Subcommands and options that may come next.
  bool option_value = false;        // The last of `words` is an option that wants a value.
};
Expected expected_after(const std::vector<std::string>& words);

}  // namespace kaas
