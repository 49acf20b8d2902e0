// kaas-bench stages: where the time of a request goes, from time stamps of everyone who has it in
// hand (Profile::moments). All processes read one clock, so the stages have no gap between them.
//
//   client     encode                 plan.submit() is called .. it has returned
//   kaasd      ring                   .. the message is out of the ring
//              verify, plan, schedule .. decoded .. planned .. about to be sent to the executor
//   executor   executor ring          .. read there
//              prepare                .. memory is found, about to be given to the device
//              execute                .. given to the device (on the host: run)
//              device                 .. found done
//   kaasd      report ring            .. the report is read
//              settle                 .. published, about to be answered
//   client     reply                  .. the answer is there
//
// Threads: one.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

struct StagesOptions {
  std::string socket;
  std::uint64_t kernels = 0;  // Of each request, small ones; 0: a null request.
  std::uint64_t requests = 2000;
  std::uint64_t every_us = 0;  // Asleep for so long before each request, stamped or not.
  // How long the client polls before it sleeps; none: kStagesSpinUs, or with pauses as long as a
  // client does that asks for nothing.
  std::optional<unsigned> spin_us;
};
constexpr unsigned kStagesSpinUs = 1000;
constexpr std::uint64_t kStagesEveryUsMax = 10'000'000;

struct StageTime {
  std::string name;
  double p50_ns = 0;
  double mean_ns = 0;
};

struct StagesReport {
  std::uint64_t requests = 0;
  std::uint64_t every_us = 0;     // As asked for.
  double whole_p50_ns = 0;        // Stamped requests, call to answer.
  double whole_mean_ns = 0;       // The sum of the stages' means.
  double unstamped_p50_ns = 0;    // As many requests without time stamps, in turns: what they cost.
  std::vector<StageTime> stages;  // In order.
};

// Unavailable: no kaasd. Internal: a moment is absent or before the one that it follows.
Result<StagesReport> run_stages(const StagesOptions& options);

[[nodiscard]] std::string to_string(const StagesReport& report);
[[nodiscard]] nlohmann::json stages_json(const StagesReport& report);

}  // namespace kaas
