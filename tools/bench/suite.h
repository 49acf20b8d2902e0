// The table of what must be fast: each row is measured, and its peer in the same run, in turns.
//
// A row repeats rounds until the interval of its median (statistics.h) is narrow or its time is up,
// and leaves out none of them. Where there is a peer, the ratio is the median of the ratios of
// neighbouring rounds, so that a drift of the machine touches both.
// Threads: one.
#pragma once

#include <kaas/client.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tools/bench/machine.h"
#include "tools/bench/statistics.h"

namespace kaas {

struct SuiteOptions {
  std::string socket;             // Of a running kaasd; empty: one is started.
  std::vector<std::string> rows;  // Empty: all.
  bool quick = false;             // Few rounds and smaller objects: shows that it works, no more.
};

// One row of the table. `unit` is of figure and peer; `bound` is of the ratio where bound_on_ratio,
// else of the figure.
struct SuiteRow {
  std::string name;
  std::string what;
  std::string unit;
  Estimate figure;
  std::string peer_name;  // Empty: no peer.
  Estimate peer;
  Estimate ratio;
  double bound = 0;
  bool at_most = true;  // Else at least.
  bool bound_on_ratio = false;
  bool stable = false;  // The medians' intervals are narrow, or far from the bound.
  std::string error;    // Not empty: it could not be measured, and is not met.
  std::vector<std::string> notes;

  [[nodiscard]] bool met() const noexcept;
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

// Names of all rows, in the table's order.
[[nodiscard]] std::vector<std::string> suite_row_names();

struct SuiteReport {
  MachineFacts machine;
  std::string when;  // UTC.
  std::string daemon_version;
  std::string pinning = "none: the kernel places all processes";
  bool quick = false;
  std::vector<SuiteRow> rows;

  [[nodiscard]] bool all_met() const noexcept;
};

// Runs the rows; `progress` is told of each when it is done. Fails if there is no kaasd; what goes
// wrong in a row is in its `error`.
Result<SuiteReport> run_suite(const SuiteOptions& options,
                              const std::function<void(const SuiteRow&)>& progress);

// One line of the table, and the line above all.
[[nodiscard]] std::string suite_heading();
[[nodiscard]] std::string suite_line(const SuiteRow& row);
[[nodiscard]] nlohmann::json suite_json(const SuiteReport& report);

}  // namespace kaas
