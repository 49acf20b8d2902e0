// kaas-bench gpu: what KaaS promises on a GPU, beside what a program that has a CUDA context of its
// own gets in the same minutes. docs/kaas-bench.md has the table.
//
// Ours is measured by kaas-bench-client, the peer by kaas-bench-direct: workers (worker.h) that run
// the same kernels and take turns, round by round. On the host device there is no peer.
// Threads: one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "schema/ipc/result.h"
#include "tools/bench/table.h"

namespace kaas {

struct GpuOptions {
  std::string device = "cuda";    // Or "host".
  std::vector<std::string> rows;  // Empty: all.
  bool quick = false;             // Few rounds: shows that it works, no more.
  unsigned spin_us = 1000;        // How long clients poll before they sleep.
};

// Names of all rows, in the table's order.
[[nodiscard]] std::vector<std::string> gpu_row_names();

// Runs the rows on a kaasd of its own; `progress` is told of each when it is done. Fails, saying
// what is missing, where there is no GPU or no kaasd that can use it; what goes wrong in a row is
// in its `error`.
Result<TableReport> run_gpu(const GpuOptions& options,
                            const std::function<void(const TableRow&)>& progress);

// Joins the reports of several runs, from files. Rows come in the table's order; `rows`: only
// those, empty: all.
Result<TableReport> merge_gpu_reports(const std::vector<std::string>& paths,
                                      const std::vector<std::string>& rows);

}  // namespace kaas
