// kaas-bench suite: the table of what must be fast on every machine. Each row is measured, and its
// peer in the same run, in turns; table.h says how.
// Threads: one.
#pragma once

#include <kaas/client.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tools/bench/daemon_process.h"
#include "tools/bench/table.h"

namespace kaas {

struct SuiteOptions {
  std::string socket;             // Of a running kaasd; empty: one is started.
  std::vector<std::string> rows;  // Empty: all.
  bool quick = false;             // Few rounds and smaller objects: shows that it works, no more.
};

// What the rows share.
struct SuiteContext {
  SuiteOptions options;
  ClientOptions client;  // With the socket.
  pid_t kaasd = 0;
  std::vector<pid_t> executors;
  std::uint64_t object_bytes = 0;    // Of the large objects.
  std::uint64_t daemon_spin_ns = 0;  // kaasd's budget: the relay's, too.
  Result<void> refresh();            // Pids anew: an executor starts with the first request.
};

// Starts a kaasd with these arguments, unless the options name one, and fills in what the context
// and the report say of it.
Result<std::optional<DaemonProcess>> open_context(SuiteContext& context,
                                                  const std::vector<std::string>& arguments,
                                                  TableReport& report);

// Names of all rows, in the table's order.
[[nodiscard]] std::vector<std::string> suite_row_names();

// Runs the rows; `progress` is told of each when it is done. Fails if there is no kaasd; what goes
// wrong in a row is in its `error`.
Result<TableReport> run_suite(const SuiteOptions& options,
                              const std::function<void(const TableRow&)>& progress);

}  // namespace kaas
