// The measurements behind suite.h. Each leaves no object, function or session behind.
#pragma once

#include <functional>

#include "tools/bench/suite.h"

namespace kaas {

// Repeats `round`, which measures once, until `row` is stable or its time is up. `ours` and `peers`
// are what the rounds append to; they become figure, peer and ratio.
struct SuiteRounds {
  std::vector<double> ours;
  std::vector<double> peers;  // Stays empty where there is no peer.
};
Result<void> measure(const SuiteContext& context, SuiteRow& row, SuiteRounds& rounds,
                     const std::function<Result<void>()>& round);

// suite_requests.cc
Result<void> measure_null_hot(SuiteContext& context, SuiteRow& row);
Result<void> measure_null_asleep(SuiteContext& context, SuiteRow& row);
Result<void> measure_pipelined(SuiteContext& context, SuiteRow& row);
Result<void> measure_first_result(SuiteContext& context, SuiteRow& row);
// suite_objects.cc
Result<void> measure_get(SuiteContext& context, SuiteRow& row);
Result<void> measure_put(SuiteContext& context, SuiteRow& row);
Result<void> measure_donate(SuiteContext& context, SuiteRow& row);
// suite_idle.cc
Result<void> measure_idle_kaasd(SuiteContext& context, SuiteRow& row);
Result<void> measure_idle_executor(SuiteContext& context, SuiteRow& row);
Result<void> measure_idle_memory(SuiteContext& context, SuiteRow& row);

// The request that does nothing: kernel `noop` of the library `std`, no buffers.
Result<Request> null_request();

}  // namespace kaas
