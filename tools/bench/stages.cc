#include "tools/bench/stages.h"

#include <kaas/client.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <optional>
#include <thread>

#include "schema/ipc/clock.h"
#include "tools/bench/statistics.h"
#include "tools/bench/worker.h"

namespace kaas {
namespace {

constexpr std::array kStageNames = {"encode",   "ring",          "verify",  "plan",
                                    "schedule", "executor ring", "prepare", "execute",
                                    "device",   "report ring",   "settle",  "reply"};
constexpr std::size_t kStages = kStageNames.size();
constexpr std::uint64_t kWarmUp = 200;

struct StagesPlan {
  Client client;
  std::optional<Buffer> in;
  std::optional<Buffer> out;
  Plan plan;

  static Result<StagesPlan> create(const StagesOptions& options) {
    ClientOptions how;
    how.socket = options.socket;
    how.name = "kaas-bench stages";
    if (options.spin_us || options.every_us == 0) {
      how.spin = std::chrono::microseconds(options.spin_us.value_or(kStagesSpinUs));
    }
    KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(how));
    constexpr std::uint64_t kBytes = kSmallFloats * sizeof(float);
    std::optional<Buffer> in;
    std::optional<Buffer> out;
    RequestBuilder builder;
    if (options.kernels == 0) {
      builder.kernel(kBenchLibrary, "nothing");
    } else {
      KAAS_ASSIGN_OR_RETURN(in, client.allocate(kBytes));
      KAAS_ASSIGN_OR_RETURN(out, client.allocate(kBytes));
      builder.buffer("in", kBytes).in(*in);
      builder.buffer("out", kBytes).in(*out);
    }
    for (std::uint64_t i = 0; i < options.kernels; ++i) {
      builder.kernel(kBenchLibrary, "increment")
          .grid(1)
          .block(kSmallBlock)
          .literal(std::uint64_t{kSmallFloats})
          .in(i == 0 ? "in" : "out")
          .out("out");
    }
    KAAS_ASSIGN_OR_RETURN(const Request request, builder.build());
    KAAS_ASSIGN_OR_RETURN(Plan plan, client.prepare(request));
    return StagesPlan{std::move(client), std::move(in), std::move(out), std::move(plan)};
  }
};

using Points = std::array<std::uint64_t, kStages + 1>;

// One stamped request: when it passed each point.
Result<Points> stamped_request(const StagesPlan& stages, const RunOptions& profiled) {
  Points points{};
  points[0] = now_ns();
  Future<Reply> future = stages.plan.submit({}, profiled);
  points[1] = now_ns();
  KAAS_ASSIGN_OR_RETURN(const Reply reply, future.get());
  points[kStages] = now_ns();
  if (!reply.profile) return Status{StatusCode::Internal, "the answer has no profile"};
  const Moments& at = reply.profile->moments;
  const std::uint64_t between[] = {
      at.taken_ns,          at.decoded_ns,          at.planned_ns,           at.sent_ns,
      at.executor_taken_ns, at.executor_started_ns, at.executor_launched_ns, at.executor_ended_ns,
      at.reported_ns,       at.settled_ns};
  for (std::size_t i = 0; i < std::size(between); ++i) points[i + 2] = between[i];
  // kaasd may take a message before the call that sent it has returned.
  points[1] = std::min(points[1], points[2]);
  for (std::size_t i = 0; i < kStages; ++i) {
    if (points[i + 1] >= points[i]) continue;
    return Status{StatusCode::Internal, std::string("the stage '") + kStageNames[i] +
                                            "' ends before it begins; is the executor of this "
                                            "version?"};
  }
  return points;
}

using StageTimes = std::array<std::vector<double>, kStages>;

StagesReport report_of(StageTimes& times_ns, std::vector<double>& whole_ns,
                       std::vector<double>& unstamped_ns) {
  StagesReport report;
  report.requests = whole_ns.size();
  report.whole_p50_ns = percentile(whole_ns, 50);
  report.unstamped_p50_ns = percentile(unstamped_ns, 50);
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    double sum_ns = 0;
    for (const double time_ns : times_ns[stage]) sum_ns += time_ns;
    const double mean_ns = sum_ns / static_cast<double>(whole_ns.size());
    report.stages.push_back({kStageNames[stage], percentile(times_ns[stage], 50), mean_ns});
    report.whole_mean_ns += mean_ns;
  }
  return report;
}

}  // namespace

Result<StagesReport> run_stages(const StagesOptions& options) {
  KAAS_ASSIGN_OR_RETURN(const StagesPlan stages, StagesPlan::create(options));
  RunOptions profiled;
  profiled.profile = true;
  const auto pause = [&options] {
    if (options.every_us == 0) return;
    std::this_thread::sleep_for(std::chrono::microseconds(options.every_us));
  };
  for (std::uint64_t i = 0; i < kWarmUp; ++i) {  // Without pauses.
    KAAS_RETURN_IF_ERROR(stamped_request(stages, profiled));
    KAAS_RETURN_IF_ERROR(stages.plan.run());
  }
  StageTimes times_ns;
  std::vector<double> whole_ns;
  std::vector<double> unstamped_ns;
  for (std::uint64_t i = 0; i < options.requests; ++i) {
    pause();
    KAAS_ASSIGN_OR_RETURN(const Points points, stamped_request(stages, profiled));
    for (std::size_t stage = 0; stage < kStages; ++stage) {
      times_ns[stage].push_back(static_cast<double>(points[stage + 1] - points[stage]));
    }
    whole_ns.push_back(static_cast<double>(points[kStages] - points[0]));
    pause();
    const std::uint64_t begin_ns = now_ns();
    KAAS_RETURN_IF_ERROR(stages.plan.run());
    unstamped_ns.push_back(static_cast<double>(now_ns() - begin_ns));
  }
  StagesReport report = report_of(times_ns, whole_ns, unstamped_ns);
  report.every_us = options.every_us;
  return report;
}

std::string to_string(const StagesReport& report) {
  char line[128];
  std::string text;
  std::snprintf(line, sizeof line, "%-14s %10s %10s %7s\n", "stage", "p50 us", "mean us", "share");
  text += line;
  for (const StageTime& stage : report.stages) {
    std::snprintf(line, sizeof line, "%-14s %10.2f %10.2f %6.1f%%\n", stage.name.c_str(),
                  stage.p50_ns / 1000, stage.mean_ns / 1000,
                  100 * stage.mean_ns / report.whole_mean_ns);
    text += line;
  }
  std::snprintf(line, sizeof line, "%-14s %10.2f %10.2f\n%-14s %10.2f\n", "all, stamped",
                report.whole_p50_ns / 1000, report.whole_mean_ns / 1000, "all, unstamped",
                report.unstamped_p50_ns / 1000);
  return text + line;
}

nlohmann::json stages_json(const StagesReport& report) {
  nlohmann::json stages = nlohmann::json::array();
  for (const StageTime& stage : report.stages) {
    stages.push_back({{"stage", stage.name},
                      {"p50_ns", stage.p50_ns},
                      {"mean_ns", stage.mean_ns},
                      {"share", stage.mean_ns / report.whole_mean_ns}});
  }
  return {{"format", 1},
          {"kind", "stages"},
          {"requests", report.requests},
          {"every_us", report.every_us},
          {"whole_p50_ns", report.whole_p50_ns},
          {"whole_mean_ns", report.whole_mean_ns},
          {"unstamped_p50_ns", report.unstamped_p50_ns},
          {"stages", stages}};
}

}  // namespace kaas
