#include "tools/bench/suite.h"

#include <nlohmann/json.hpp>

#include "tools/bench/suite_rows.h"

namespace kaas {
namespace {

constexpr std::uint64_t kObjectBytes = 256u << 20;
constexpr std::uint64_t kQuickObjectBytes = 16u << 20;

using Measure = Result<void> (*)(SuiteContext&, TableRow&);

struct RowPlan {
  RowSpec spec;
  Measure measure;
};

const std::vector<RowPlan>& suite_rows() {
  static const std::vector<RowPlan> rows{
      {{"null-hot", "null request, hot, closed loop, p50", "us", "bare relay", 2.0, true, true},
       measure_null_hot},
      {{"null-asleep", "null request, everyone asleep, p50", "us", "bare relay, asleep", 1.5, true,
        true},
       measure_null_asleep},
      {{"pipelined", "null requests, one client, depth 64", "requests/s", "", 500'000, false,
        false},
       measure_pipelined},
      {{"null-lane", "null request on a granted lane, hot, p50", "us", "", 1.0, true, false},
       measure_null_lane},
      {{"pipelined-lane", "null requests on a lane, one client, depth 64", "requests/s", "",
        3'000'000, false, false},
       measure_pipelined_lane},
      {{"first-result", "new client process: main() to first result", "ms", "", 1.0, true, false},
       measure_first_result},
      {{"get", "get of a 256 MiB object, no copy", "us", "", 200, true, false}, measure_get},
      {{"put", "put of 256 MiB, rate", "GiB/s", "memcpy into a fresh memfd", 0.8, false, true},
       measure_put},
      {{"donate", "put of a sealed, donated 256 MiB memfd", "us", "", 200, true, false},
       measure_donate},
      {{"idle-kaasd", "kaasd with 64 idle clients", "% of a core", "", 1.0, true, false},
       measure_idle_kaasd},
      {{"idle-executor", "executors with 64 idle clients", "% of a core", "", 1.0, true, false},
       measure_idle_executor},
      {{"idle-memory", "kaasd's anonymous memory, 64 clients", "MiB", "", 60, true, false},
       measure_idle_memory},
  };
  return rows;
}

}  // namespace

std::vector<std::string> suite_row_names() {
  std::vector<std::string> names;
  for (const RowPlan& plan : suite_rows()) names.push_back(plan.spec.name);
  return names;
}

Result<void> SuiteContext::refresh() {
  ClientOptions administration = client;
  administration.administration_only = true;
  KAAS_ASSIGN_OR_RETURN(Client connected, Client::connect(administration));
  KAAS_ASSIGN_OR_RETURN(const std::string text, connected.status_json());
  const auto status = nlohmann::json::parse(text, nullptr, false);
  if (!status.is_object() || !status.value("pid", nlohmann::json()).is_number_integer()) {
    return Status{StatusCode::Internal, "status of kaasd has no pid: " + text};
  }
  kaasd = status["pid"].get<pid_t>();
  executors.clear();
  for (const auto& executor : status.value("executors", nlohmann::json::array())) {
    executors.push_back(executor.value("pid", 0));
  }
  const auto config = status.value("config", nlohmann::json::object());
  if (!config.value("spin_us", nlohmann::json()).is_number_unsigned()) {
    return Status{StatusCode::Internal, "status of kaasd has no config.spin_us: " + text};
  }
  daemon_spin_ns = config["spin_us"].get<std::uint64_t>() * 1000;
  return {};
}

Result<std::optional<DaemonProcess>> open_context(SuiteContext& context,
                                                  const std::vector<std::string>& arguments,
                                                  TableReport& report) {
  std::optional<DaemonProcess> daemon;
  context.client.socket = context.options.socket;
  context.client.name = "kaas-bench";
  if (context.options.socket.empty()) {
    KAAS_ASSIGN_OR_RETURN(daemon, DaemonProcess::start(program_folder() + "/kaasd", arguments));
    context.client.socket = daemon->socket();
  }
  KAAS_RETURN_IF_ERROR(context.refresh());
  ClientOptions administration = context.client;
  administration.administration_only = true;
  KAAS_ASSIGN_OR_RETURN(const Client client, Client::connect(administration));
  report.daemon_version = client.daemon_version();
  return daemon;
}

Result<TableReport> run_suite(const SuiteOptions& options,
                              const std::function<void(const TableRow&)>& progress) {
  KAAS_ASSIGN_OR_RETURN(const auto chosen, chosen_rows(suite_row_names(), options.rows));
  TableReport report = new_report("suite", options.quick);
  SuiteContext context;
  context.options = options;
  context.object_bytes = options.quick ? kQuickObjectBytes : kObjectBytes;
  KAAS_ASSIGN_OR_RETURN(auto daemon, open_context(context, {}, report));
  for (const std::size_t index : chosen) {
    const RowPlan& plan = suite_rows()[index];
    report.rows.push_back(run_row(
        plan.spec, [&plan, &context](TableRow& row) { return plan.measure(context, row); }));
    progress(report.rows.back());
  }
  if (daemon) KAAS_RETURN_IF_ERROR(daemon->stop());
  return report;
}

}  // namespace kaas
