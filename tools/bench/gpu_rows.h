// The measurements behind gpu.h. Each leaves no object, function, session or process behind.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/bench/child_process.h"
#include "tools/bench/gpu.h"
#include "tools/bench/suite_rows.h"
#include "tools/bench/worker.h"

namespace kaas {

// What the rows share.
struct GpuContext : SuiteContext {
  unsigned spin_us = 0;
  std::optional<WorkerProcess> served;  // A client of kaasd. Always there.
  std::optional<WorkerProcess> direct;  // With a context of its own; absent on the host device.

  [[nodiscard]] ClientOptions spinning_client() const;
  [[nodiscard]] std::vector<std::string> client_words() const;
  [[nodiscard]] static std::vector<std::string> direct_words();
};

// gpu_latency.cc
// p50 of a round in microseconds, ours and direct; `count` rounds at a time.
Result<void> measure_workload(GpuContext& context, TableRow& row, const Workload& workload,
                              std::uint64_t count);
// The same as a rate: 10^9 bytes a second.
Result<void> measure_bandwidth(GpuContext& context, TableRow& row, std::uint64_t bytes,
                               std::uint64_t count);
Result<void> measure_gpu_pipelined(GpuContext& context, TableRow& row);

// gpu_clients.cc
Result<void> measure_new_client(GpuContext& context, TableRow& row);
// Ours beside a new process with a context of its own.
Result<void> measure_new_context(GpuContext& context, TableRow& row);
Result<void> measure_client_memory(GpuContext& context, TableRow& row);
// p50 of `clients` clients at once, beside one; in columns, as many processes with contexts of
// their own, with MPS and without.
Result<void> measure_clients(GpuContext& context, TableRow& row, std::size_t clients);

}  // namespace kaas
