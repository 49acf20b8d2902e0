#include "tools/bench/suite.h"

#include <time.h>

#include <algorithm>
#include <cstdio>

#include "schema/ipc/clock.h"
#include "tools/bench/daemon_process.h"
#include "tools/bench/relay.h"
#include "tools/bench/suite_rows.h"

namespace kaas {
namespace {

constexpr std::uint64_t kObjectBytes = 256u << 20;
constexpr std::uint64_t kQuickObjectBytes = 16u << 20;
constexpr std::size_t kRoundsMin = 9;
constexpr std::size_t kRoundsMax = 200;
constexpr std::uint64_t kRowNs = 20'000'000'000;
constexpr std::size_t kQuickRounds = 2;
constexpr double kSpreadMax = 0.10;

using Measure = Result<void> (*)(SuiteContext&, SuiteRow&);

struct RowPlan {
  const char* name;
  const char* what;
  const char* unit;
  const char* peer;
  double bound;
  bool at_most;
  bool bound_on_ratio;
  Measure measure;
};

constexpr RowPlan kRows[] = {
    {"null-hot", "null request, hot, closed loop, p50", "us", "bare relay", 2.0, true, true,
     measure_null_hot},
    {"null-asleep", "null request, everyone asleep, p50", "us", "bare relay, asleep", 1.5, true,
     true, measure_null_asleep},
    {"pipelined", "null requests, one client, depth 64", "requests/s", "", 500'000, false, false,
     measure_pipelined},
    {"first-result", "new client process: main() to first result", "ms", "", 3.0, true, false,
     measure_first_result},
    {"get", "get of a 256 MiB object, no copy", "us", "", 200, true, false, measure_get},
    {"put", "put of 256 MiB, rate", "GiB/s", "memcpy into a fresh memfd", 0.8, false, true,
     measure_put},
    {"donate", "put of a sealed, donated 256 MiB memfd", "us", "", 200, true, false,
     measure_donate},
    {"idle-kaasd", "kaasd with 64 idle clients", "% of a core", "", 1.0, true, false,
     measure_idle_kaasd},
    {"idle-executor", "executors with 64 idle clients", "% of a core", "", 1.0, true, false,
     measure_idle_executor},
    {"idle-memory", "kaasd's anonymous memory, 64 clients", "MiB", "", 60, true, false,
     measure_idle_memory},
};

std::string utc_now() {
  const time_t now = ::time(nullptr);
  tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string number(const char* format, double value) {
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// Three significant digits, without an exponent.
std::string figure_text(double value) {
  if (value >= 100) return number("%.0f", value);
  if (value >= 10) return number("%.1f", value);
  return number("%.2f", value);
}

std::string estimate_text(const Estimate& found, const std::string& unit) {
  if (found.rounds == 0) return "-";
  return figure_text(found.median) + " [" + figure_text(found.low) + ", " +
         figure_text(found.high) + "] " + unit;
}

// Whether the interval leaves no doubt on which side of the bound the value is.
bool clear_of_bound(const Estimate& found, double bound) {
  return found.high < bound || found.low > bound;
}

bool is_stable(const SuiteRow& row) {
  const Estimate& judged = row.bound_on_ratio ? row.ratio : row.figure;
  return judged.spread() <= kSpreadMax || clear_of_bound(judged, row.bound);
}

void summarise(SuiteRow& row, const SuiteRounds& rounds) {
  row.figure = estimate(rounds.ours);
  row.peer = estimate(rounds.peers);
  row.ratio = estimate(ratios(rounds.ours, rounds.peers));
  row.stable = is_stable(row);
}

// Empty text says that there is none.
nlohmann::json text_json(const std::string& text) {
  return text.empty() ? nlohmann::json() : nlohmann::json(text);
}

nlohmann::json estimate_json(const Estimate& found) {
  if (found.rounds == 0) return nullptr;
  return {
      {"median", found.median}, {"low", found.low}, {"high", found.high}, {"rounds", found.rounds}};
}

SuiteRow run_row(const RowPlan& plan, SuiteContext& context) {
  SuiteRow row;
  row.name = plan.name;
  row.what = plan.what;
  row.unit = plan.unit;
  row.peer_name = plan.peer;
  row.bound = plan.bound;
  row.at_most = plan.at_most;
  row.bound_on_ratio = plan.bound_on_ratio;
  const Result<void> measured = plan.measure(context, row);
  if (!measured) row.error = to_string(measured.error());
  if (row.error.empty() && !row.stable) row.notes.push_back("unstable: the interval is wide");
  return row;
}

Result<std::vector<const RowPlan*>> chosen_rows(const std::vector<std::string>& names) {
  std::vector<const RowPlan*> rows;
  for (const RowPlan& plan : kRows) {
    if (names.empty() || std::find(names.begin(), names.end(), plan.name) != names.end()) {
      rows.push_back(&plan);
    }
  }
  for (const std::string& name : names) {
    const auto known = suite_row_names();
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string all;
    for (const std::string& row : known) all += (all.empty() ? "" : ", ") + row;
    return Status{StatusCode::InvalidArgument, "row is '" + name + "', allowed: " + all};
  }
  return rows;
}

}  // namespace

bool SuiteRow::met() const noexcept {
  if (!error.empty() || figure.rounds == 0) return false;
  const double judged = bound_on_ratio ? ratio.median : figure.median;
  return at_most ? judged <= bound : judged >= bound;
}

bool SuiteReport::all_met() const noexcept {
  return std::all_of(rows.begin(), rows.end(), [](const SuiteRow& row) { return row.met(); });
}

std::vector<std::string> suite_row_names() {
  std::vector<std::string> names;
  for (const RowPlan& plan : kRows) names.emplace_back(plan.name);
  return names;
}

Result<void> measure(const SuiteContext& context, SuiteRow& row, SuiteRounds& rounds,
                     const std::function<Result<void>()>& round) {
  const std::uint64_t end_ns = now_ns() + kRowNs;
  const std::size_t rounds_min = context.options.quick ? kQuickRounds : kRoundsMin;
  for (std::size_t done = 0; done < kRoundsMax; ++done) {
    KAAS_RETURN_IF_ERROR(round());
    summarise(row, rounds);
    if (done + 1 < rounds_min) continue;
    if (context.options.quick || row.stable || now_ns() >= end_ns) break;
  }
  return {};
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

Result<SuiteReport> run_suite(const SuiteOptions& options,
                              const std::function<void(const SuiteRow&)>& progress) {
  KAAS_ASSIGN_OR_RETURN(const auto rows, chosen_rows(options.rows));
  SuiteReport report;
  report.machine = machine_facts();
  report.when = utc_now();
  report.quick = options.quick;
  SuiteContext context;
  context.options = options;
  context.object_bytes = options.quick ? kQuickObjectBytes : kObjectBytes;
  std::optional<DaemonProcess> daemon;
  context.client.socket = options.socket;
  context.client.name = "kaas-bench";
  if (options.socket.empty()) {
    KAAS_ASSIGN_OR_RETURN(daemon, DaemonProcess::start(program_folder() + "/kaasd"));
    context.client.socket = daemon->socket();
  }
  KAAS_RETURN_IF_ERROR(context.refresh());
  {
    ClientOptions administration = context.client;
    administration.administration_only = true;
    KAAS_ASSIGN_OR_RETURN(const Client client, Client::connect(administration));
    report.daemon_version = client.daemon_version();
  }
  for (const RowPlan* plan : rows) {
    report.rows.push_back(run_row(*plan, context));
    progress(report.rows.back());
  }
  if (daemon) KAAS_RETURN_IF_ERROR(daemon->stop());
  return report;
}

std::string suite_heading() {
  char line[256];
  std::snprintf(line, sizeof line, "%-13s %-38s %-36s %8s  %-9s %s", "row",
                "figure [95 % interval]", "peer", "ratio", "bound", "");
  return line;
}

std::string suite_line(const SuiteRow& row) {
  const std::string peer = row.peer_name.empty() ? "-" : estimate_text(row.peer, row.unit);
  const std::string bound =
      std::string(row.at_most ? "<= " : ">= ") +
      (row.bound >= 1000 ? number("%.0f", row.bound) : number("%g", row.bound));
  char line[512];
  std::snprintf(line, sizeof line, "%-13s %-38s %-36s %8s  %-9s %s", row.name.c_str(),
                estimate_text(row.figure, row.unit).c_str(), peer.c_str(),
                row.ratio.rounds == 0 ? "-" : number("%.2f", row.ratio.median).c_str(),
                bound.c_str(), row.met() ? "met" : "MISSED");
  std::string text = line;
  text += "\n              " + row.what;
  if (!row.peer_name.empty()) text += "; peer: " + row.peer_name;
  text += "; " + std::to_string(row.figure.rounds) + " rounds";
  if (!row.error.empty()) text += "\n              error: " + row.error;
  for (const std::string& note : row.notes) text += "\n              " + note;
  return text;
}

nlohmann::json suite_json(const SuiteReport& report) {
  nlohmann::json rows = nlohmann::json::array();
  for (const SuiteRow& row : report.rows) {
    rows.push_back({{"row", row.name},
                    {"what", row.what},
                    {"unit", row.unit},
                    {"figure", estimate_json(row.figure)},
                    {"peer_name", text_json(row.peer_name)},
                    {"peer", estimate_json(row.peer)},
                    {"ratio", estimate_json(row.ratio)},
                    {"bound", row.bound},
                    {"bound_is", row.at_most ? "at most" : "at least"},
                    {"bound_on", row.bound_on_ratio ? "ratio" : "figure"},
                    {"met", row.met()},
                    {"stable", row.stable},
                    {"error", text_json(row.error)},
                    {"notes", row.notes}});
  }
  const MachineFacts& machine = report.machine;
  return {{"format", 1},
          {"kind", "suite"},
          {"when", report.when},
          {"kaasd", report.daemon_version},
          {"quick", report.quick},
          {"machine",
           {{"processor", machine.processor},
            {"cores", machine.cores},
            {"virtualised", machine.virtualised},
            {"kernel", machine.kernel},
            {"governor", machine.governor},
            {"memory_bytes", machine.memory_bytes},
            {"load", machine.load},
            {"build", machine.build}}},
          {"pinning", report.pinning},
          {"rows", rows},
          {"all_met", report.all_met()}};
}

}  // namespace kaas
