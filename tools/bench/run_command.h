// kaas-bench run: how fast one request or function is, under more and more load.
// Threads: one; makes those of load.h.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "schema/ipc/result.h"
#include "tools/bench/load.h"
#include "tools/bench/svg.h"

namespace kaas {

struct RunCommand {
  std::string target;                   // A file with a request as JSON, or a function's name.
  std::string socket;                   // Empty: where clients look.
  bool own_daemon = false;              // Start a kaasd for this run.
  std::vector<std::string> parameters;  // NAME=INTEGER
  std::vector<std::string> bindings;    // BUFFER=KEY; "{client}" in KEY is the client's number.
  std::vector<std::string> fills;       // KEY=BYTES: an object to put before.
  std::vector<unsigned> clients{1, 2, 4, 8};
  std::vector<double> rates;  // Empty: shares of the highest closed-loop rate.
  bool closed_only = false;
  unsigned depth = 1;
  bool poisson = false;
  std::uint64_t seed = 1;
  double round_seconds = 0.5;
  double seconds_max = 8;  // Of each point.
};

struct RunReport {
  std::string target;
  std::vector<LoadResult> closed;
  std::vector<LoadResult> open;
};

// Whether parameters, bindings and fills have their form. Asks nobody. Fails: InvalidArgument.
Result<void> check_form(const RunCommand& command);

// Measures, and prints each point when it is done. What it puts, deploys and starts is gone after.
Result<RunReport> run_command(const RunCommand& command);

[[nodiscard]] nlohmann::json run_json(const RunReport& report);
// Latency distributions, rate over clients, and latency over rate.
[[nodiscard]] std::vector<Chart> run_charts(const RunReport& report);

}  // namespace kaas
