// Rows of kaas-bench gpu with one client: latencies, a bandwidth, a rate.
#include <algorithm>

#include "schema/ipc/clock.h"
#include "tools/bench/gpu_rows.h"

namespace kaas {
namespace {

constexpr std::uint64_t kQuickPart = 50;
constexpr std::uint64_t kQuickCountMin = 12;  // More than there are buffers that take turns.
constexpr std::uint64_t kPipelinedRequests = 100'000;

std::uint64_t count_of(const GpuContext& context, std::uint64_t count) {
  return context.options.quick ? std::max(count / kQuickPart, kQuickCountMin) : count;
}

Result<double> median_ns(WorkerProcess& worker, const std::string& command) {
  KAAS_ASSIGN_OR_RETURN(std::vector<double> times_ns, worker.call(command));
  return percentile(times_ns, 50);
}

// Rounds of both in turns. `figure_of` makes the row's figure of a round's median.
template <class Figure>
Result<void> measure_in_turns(GpuContext& context, TableRow& row, const Workload& workload,
                              std::uint64_t count, Figure figure_of) {
  count = count_of(context, count);
  const std::string command = "measure " + to_word(workload) + " count " + std::to_string(count);
  RowRounds rounds;
  row.notes.push_back("each round: p50 of " + std::to_string(count) +
                      (context.direct ? " requests, then of as many times direct" : " requests"));
  return measure(context, row, rounds, [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(const double ours_ns, median_ns(*context.served, command));
    rounds.ours.push_back(figure_of(ours_ns));
    if (!context.direct) return {};
    KAAS_ASSIGN_OR_RETURN(const double peer_ns, median_ns(*context.direct, command));
    rounds.peers.push_back(figure_of(peer_ns));
    return {};
  });
}

struct PipelinedPlan {
  Client client;
  Buffer in;
  Buffer out;
  BoundPlan plan;

  static Result<PipelinedPlan> create(const ClientOptions& options) {
    constexpr std::uint64_t kBytes = kSmallFloats * sizeof(float);
    KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(options));
    KAAS_ASSIGN_OR_RETURN(Buffer in, client.allocate(kBytes));
    KAAS_ASSIGN_OR_RETURN(Buffer out, client.allocate(kBytes));
    RequestBuilder builder;
    builder.buffer("in", kBytes).in(in);
    builder.buffer("out", kBytes).in(out);
    builder.kernel(kBenchLibrary, "increment")
        .grid(1)
        .block(kSmallBlock)
        .literal(std::uint64_t{kSmallFloats})
        .in("in")
        .out("out");
    KAAS_ASSIGN_OR_RETURN(const Request request, builder.build());
    KAAS_ASSIGN_OR_RETURN(const Plan plan, client.prepare(request));
    return PipelinedPlan{std::move(client), std::move(in), std::move(out), plan.bind()};
  }
};

}  // namespace

Result<void> measure_workload(GpuContext& context, TableRow& row, const Workload& workload,
                              std::uint64_t count) {
  return measure_in_turns(context, row, workload, count,
                          [](double median) { return median / 1000; });
}

Result<void> measure_bandwidth(GpuContext& context, TableRow& row, std::uint64_t bytes,
                               std::uint64_t count) {
  return measure_in_turns(
      context, row, {Workload::Kind::Input, bytes, 1}, count,
      [bytes](double median_ns) { return static_cast<double>(bytes) / median_ns; });
}

Result<void> measure_gpu_pipelined(GpuContext& context, TableRow& row) {
  KAAS_ASSIGN_OR_RETURN(const PipelinedPlan pipelined,
                        PipelinedPlan::create(context.spinning_client()));
  const std::uint64_t count = count_of(context, kPipelinedRequests);
  KAAS_RETURN_IF_ERROR(run_pipelined(pipelined.plan, count / 10));
  RowRounds rounds;
  row.notes.push_back("each round: " + std::to_string(count) +
                      " requests of the small kernel, all on one input and one output");
  return measure(context, row, rounds, [&]() -> Result<void> {
    const std::uint64_t begin_ns = now_ns();
    KAAS_RETURN_IF_ERROR(run_pipelined(pipelined.plan, count));
    const double seconds = static_cast<double>(now_ns() - begin_ns) / 1e9;
    rounds.ours.push_back(static_cast<double>(count) / seconds);
    return {};
  });
}

}  // namespace kaas
