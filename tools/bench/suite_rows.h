// The measurements behind suite.h. Each leaves no object, function or session behind.
#pragma once

#include <functional>

#include "tools/bench/suite.h"

namespace kaas {

inline Result<void> measure(const SuiteContext& context, TableRow& row, RowRounds& rounds,
                            const std::function<Result<void>()>& round) {
  return measure_rounds(context.options.quick, row, rounds, round);
}

// suite_requests.cc
Result<void> measure_null_hot(SuiteContext& context, TableRow& row);
Result<void> measure_null_asleep(SuiteContext& context, TableRow& row);
Result<void> measure_pipelined(SuiteContext& context, TableRow& row);
Result<void> measure_null_lane(SuiteContext& context, TableRow& row);
Result<void> measure_pipelined_lane(SuiteContext& context, TableRow& row);
Result<void> measure_first_result(SuiteContext& context, TableRow& row);
// suite_objects.cc
Result<void> measure_get(SuiteContext& context, TableRow& row);
Result<void> measure_put(SuiteContext& context, TableRow& row);
Result<void> measure_donate(SuiteContext& context, TableRow& row);
// suite_idle.cc
Result<void> measure_idle_kaasd(SuiteContext& context, TableRow& row);
Result<void> measure_idle_executor(SuiteContext& context, TableRow& row);
Result<void> measure_idle_memory(SuiteContext& context, TableRow& row);

inline constexpr std::size_t kPipelineDepth = 64;
// Keeps kPipelineDepth runs of the plan, bound or not, under way until `count` are answered.
template <class Runnable>
Result<void> run_pipelined(const Runnable& plan, std::uint64_t count);

// The request that does nothing: kernel `noop` of the library `std`, no buffers.
Result<Request> null_request();

}  // namespace kaas
