#include "tools/bench/gpu.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tools/bench/gpu_rows.h"

namespace kaas {
namespace {

using Kind = Workload::Kind;
using Measure = std::function<Result<void>(GpuContext&, TableRow&)>;

constexpr std::uint64_t kManyBuffers = 10;
constexpr std::uint64_t kKiB = 1024;
constexpr const char* kDirect = "direct: launches, then synchronise";
constexpr const char* kDirectCopies = "direct: async copies of pinned memory, synchronise";

struct RowPlan {
  RowSpec spec;
  Measure measure;
};

RowPlan latency_row(RowSpec spec, const Workload& workload, std::uint64_t count) {
  spec.unit = "us";
  spec.bound_on_ratio = true;
  return {std::move(spec), [workload, count](GpuContext& context, TableRow& row) {
            return measure_workload(context, row, workload, count);
          }};
}

RowPlan chain_row(std::uint64_t kernels, double bound, std::uint64_t buffers, std::uint64_t count) {
  RowSpec spec;
  spec.name = "chain-" + std::to_string(kernels);
  spec.what = std::to_string(kernels) + " small kernels, p50";
  if (buffers > 1) {
    spec.name += "-ten";
    spec.what += "; ten inputs and outputs take turns";
  }
  spec.peer_name = kDirect;
  spec.bound = bound;
  return latency_row(std::move(spec), {Kind::Chain, kernels, buffers}, count);
}

RowPlan clients_row(std::size_t clients, double bound) {
  RowSpec spec;
  spec.name = "clients-" + std::to_string(clients);
  spec.what = std::to_string(clients) + " clients of a domain, kernels of 100 us, p50";
  spec.unit = "us";
  spec.peer_name = "one client";
  spec.bound = bound;
  spec.bound_on_ratio = true;
  return {std::move(spec), [clients](GpuContext& context, TableRow& row) {
            return measure_clients(context, row, clients);
          }};
}

std::vector<RowPlan> make_rows() {
  std::vector<RowPlan> rows;
  rows.push_back(latency_row({"kernel", "one small kernel, p50", "", kDirect, 0.95},
                             {Kind::Chain, 1, 1}, 2000));
  for (const std::uint64_t buffers : {std::uint64_t{1}, kManyBuffers}) {
    rows.push_back(chain_row(8, 0.48, buffers, 1000));
    rows.push_back(chain_row(32, 0.36, buffers, 500));
    rows.push_back(chain_row(128, 0.31, buffers, 200));
  }
  rows.push_back(
      latency_row({"payload-4k", "4 KiB in, a kernel, 4 KiB out, p50", "", kDirectCopies, 0.75},
                  {Kind::Payload, 4 * kKiB, 1}, 1000));
  rows.push_back(
      latency_row({"payload-1m", "1 MiB in, a kernel, 1 MiB out, p50", "", kDirectCopies, 0.9},
                  {Kind::Payload, kKiB * kKiB, 1}, 300));
  rows.push_back({{"input-16m", "16 MiB in, and a kernel that reads them", "GB/s",
                   "direct: cudaMemcpyAsync of pinned memory", 0.9, false, true},
                  [](GpuContext& context, TableRow& row) {
                    return measure_bandwidth(context, row, 16 * kKiB * kKiB, 50);
                  }});
  rows.push_back({{"first-result", "new client process: main() to first result, known function",
                   "ms", "", 3.0, true, false},
                  measure_new_client});
  rows.push_back({{"first-vs-own", "the same, at least 80 times faster than with an own context",
                   "ms", "new process with a context of its own", 1.0 / 80, true, true},
                  measure_new_context});
  rows.push_back({{"client-memory", "device memory of one more client of a domain", "MiB",
                   "one more process with a context of its own", 1.0, true, false},
                  measure_client_memory});
  rows.push_back(clients_row(4, 1.15));
  rows.push_back(clients_row(16, 1.25));
  rows.push_back({{"pipelined", "single-kernel requests, one client, depth 64", "requests/s", "",
                   300'000, false, false},
                  measure_gpu_pipelined});
  return rows;
}

const std::vector<RowPlan>& gpu_rows() {
  static const std::vector<RowPlan> rows = make_rows();
  return rows;
}

// What the peer runs on; and so whether there is a GPU.
Result<WorkerProcess> start_direct() {
  auto direct = WorkerProcess::start(GpuContext::direct_words());
  if (direct) return direct;
  Status why = std::move(direct).error();
  why.message = why.code == StatusCode::NotFound
                    ? "kaas-bench-direct is not beside kaas-bench; it is built where CMake finds "
                      "nvcc (" +
                          why.message + ")"
                    : "no GPU that CUDA can use: " + why.message;
  return why;
}

Result<void> open_gpu_context(GpuContext& context, const GpuOptions& options,
                              std::optional<DaemonProcess>& daemon, TableReport& report) {
  context.options.quick = options.quick;
  context.spin_us = options.spin_us;
  report.device = "host";
  if (options.device != "host") {
    KAAS_ASSIGN_OR_RETURN(context.direct, start_direct());
    report.device = context.direct->description();
  }
  KAAS_ASSIGN_OR_RETURN(daemon, open_context(context, {"--device", options.device}, report));
  KAAS_ASSIGN_OR_RETURN(context.served, WorkerProcess::start(context.client_words()));
  return {};
}

Result<TableReport> read_report(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Status{StatusCode::NotFound, path + ": can't be read"};
  const auto json = nlohmann::json::parse(file, nullptr, false);
  auto report = json.is_discarded()
                    ? Result<TableReport>(Status{StatusCode::InvalidArgument, "not JSON"})
                    : report_from_json(json);
  if (report && report->kind != "gpu") {
    report = Status{StatusCode::InvalidArgument, "kind is '" + report->kind + "', allowed: gpu"};
  }
  if (report) {
    std::vector<std::string> names;
    for (const TableRow& row : report->rows) names.push_back(row.name);
    const auto known = chosen_rows(gpu_row_names(), names);
    if (known) return report;
    report = known.error();
  }
  Status why = std::move(report).error();
  why.message = path + ": " + why.message;
  return why;
}

}  // namespace

std::vector<std::string> GpuContext::client_words() const {
  return {program_folder() + "/kaas-bench-client", "--worker", client.socket,
          std::to_string(spin_us)};
}

std::vector<std::string> GpuContext::direct_words() {
  return {program_folder() + "/kaas-bench-direct"};
}

ClientOptions GpuContext::spinning_client() const {
  ClientOptions spinning = client;
  spinning.spin = std::chrono::microseconds(spin_us);
  return spinning;
}

std::vector<std::string> gpu_row_names() {
  std::vector<std::string> names;
  for (const RowPlan& plan : gpu_rows()) names.push_back(plan.spec.name);
  return names;
}

Result<TableReport> run_gpu(const GpuOptions& options,
                            const std::function<void(const TableRow&)>& progress) {
  KAAS_ASSIGN_OR_RETURN(const auto chosen, chosen_rows(gpu_row_names(), options.rows));
  TableReport report = new_report("gpu", options.quick);
  std::optional<DaemonProcess> daemon;
  {
    GpuContext context;  // Its workers end before kaasd does.
    KAAS_RETURN_IF_ERROR(open_gpu_context(context, options, daemon, report));
    for (const std::size_t index : chosen) {
      const RowPlan& plan = gpu_rows()[index];
      report.rows.push_back(run_row(
          plan.spec, [&plan, &context](TableRow& row) { return plan.measure(context, row); }));
      progress(report.rows.back());
    }
  }
  KAAS_RETURN_IF_ERROR(daemon->stop());
  return report;
}

Result<TableReport> merge_gpu_reports(const std::vector<std::string>& paths,
                                      const std::vector<std::string>& rows) {
  const std::vector<std::string> known = gpu_row_names();
  KAAS_ASSIGN_OR_RETURN(const auto chosen, chosen_rows(known, rows));
  std::vector<TableReport> reports;
  for (const std::string& path : paths) {
    KAAS_ASSIGN_OR_RETURN(TableReport report, read_report(path));
    reports.push_back(std::move(report));
  }
  KAAS_ASSIGN_OR_RETURN(TableReport joined, join_reports(reports));
  std::vector<TableRow> ordered;
  for (const std::size_t index : chosen) {
    const auto found = std::find_if(joined.rows.begin(), joined.rows.end(),
                                    [&](const TableRow& row) { return row.name == known[index]; });
    if (found != joined.rows.end()) ordered.push_back(std::move(*found));
  }
  joined.rows = std::move(ordered);
  return joined;
}

}  // namespace kaas
