// The daemon's configuration: defaults that need no file, a TOML file, flags over it.
// Threads: values.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "schema/ipc/result.h"
#include "schema/limits.h"

namespace kaas {

// Of each field: its place in the TOML file. "*": re-read on SIGHUP.
struct Config {
  std::string socket;                              // socket
  mode_t socket_mode = 0600;                       // socket_mode = "0660"
  std::string socket_group;                        // socket_group
  std::string device = "auto";                     // device, see device_choice.h
  std::uint64_t store_bytes = 0;                   // store.bytes; 0: from the machine's memory.
  std::uint64_t arena_bytes = kArenaBytesDefault;  // arena.bytes
  std::uint32_t arenas_ready = 2;                  // arena.ready
  std::uint64_t device_bytes = 0;      // executor.device_bytes; 0: the executor's default.
  std::string executor_program;        // executor.program; default: beside kaasd.
  std::string executor_prefix;         // executor.prefix
  std::string executor_user;           // executor.user; empty: each domain's.
  bool executor_confine = true;        // executor.confine
  std::uint64_t reserved_sms = 8;      // executor.reserved_sms
  std::uint64_t running_limit_ms = 0;  // executor.running_limit_ms *; 0: none.
  std::uint64_t idle_release_s = 0;    // idle_release; 0: never.
  std::uint64_t export_bytes = kExportBytesDefault;  // export.bytes
  std::vector<std::string> library_path;  // library.path *; default: ../lib/kaas/kernels.
  std::string policy = "fifo";            // policy
  std::string log_file;                   // log.file; empty: stderr.
  std::string log_level = "info";         // log.level *
  std::optional<std::uint64_t> spin_us;   // spin_us; absent: measured at start.
  std::vector<std::vector<std::uint32_t>> joined_domains;  // domain.joined = [[1000, 1001]]
};

// Reads `path` over `config`. Errors name the file, line and column, the field, what was found and
// what is allowed; unknown fields are errors.
Result<void> read_config_file(const std::string& path, Config& config);

// What the environment says, over `config`: $KAAS_DEVICES is `device`, unless it is empty.
void apply_environment(Config& config);

// "0660" to Config::socket_mode.
Result<void> parse_socket_mode(const std::string& text, Config& config);

// Fills in what depends on where kaasd is installed, and checks the whole: executor.user exists and
// is given by root only; no uid is joined twice. It listens where clients look first: $KAAS_SOCKET,
// else $XDG_RUNTIME_DIR/kaas/kaasd.sock, else /run/kaas/kaasd.sock.
Result<void> complete_config(Config& config);

// executor.program is a file that can be executed. Fails with InvalidArgument.
Result<void> check_executor_program(const Config& config);

// As shown by `kaasctl status`.
std::string config_json(const Config& config);

// The trust domain of a uid: the first uid of the list it is joined in, else itself.
std::uint32_t domain_of(const Config& config, std::uint32_t uid);
// All uids that share a domain with another one.
std::vector<std::uint32_t> joined_uids(const Config& config);
// A user's uid by name or number; InvalidArgument if there is no such user.
Result<uid_t> uid_of(const std::string& user);

// Words of a command line as a shell splits them: spaces, quotes, backslashes.
Result<std::vector<std::string>> split_words(const std::string& text);

}  // namespace kaas
