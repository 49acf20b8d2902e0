// Rows of the suite that are about requests: latency, rate, and a new client's first.
#include <time.h>

#include <cstdio>
#include <deque>

#include "schema/ipc/clock.h"
#include "tools/bench/child_process.h"
#include "tools/bench/fresh_client.h"
#include "tools/bench/relay.h"
#include "tools/bench/suite_rows.h"

namespace kaas {
namespace {

constexpr int kHotRequests = 2000;
constexpr int kHotWarmUp = 200;
constexpr int kAsleepRequests = 40;
constexpr long kPauseNs = 4'000'000;  // Far beyond every budget of spinning.
constexpr std::uint64_t kPipelinedRequests = 200'000;
constexpr int kFreshClients = 5;

void pause() {
  const timespec time{0, kPauseNs};
  ::nanosleep(&time, nullptr);
}

// The median time of `count` calls in microseconds; with a pause before each, if `asleep`.
template <class Call>
Result<double> median_call_us(int count, bool asleep, Call call) {
  std::vector<double> times_us;
  times_us.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    if (asleep) pause();
    const std::uint64_t begin_ns = now_ns();
    KAAS_RETURN_IF_ERROR(call());
    times_us.push_back(static_cast<double>(now_ns() - begin_ns) / 1000);
  }
  return percentile(times_us, 50);
}

struct NullPlan {
  Client client;
  Plan plan;

  static Result<NullPlan> create(const SuiteContext& context) {
    KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(context.client));
    KAAS_ASSIGN_OR_RETURN(const Request request, null_request());
    KAAS_ASSIGN_OR_RETURN(Plan plan, client.prepare(request));
    KAAS_RETURN_IF_ERROR(plan.run());
    return NullPlan{std::move(client), std::move(plan)};
  }

  // Bound, and with a lane. Unavailable: it was not granted one within a second.
  Result<BoundPlan> on_lane() const {
    BoundPlan bound = plan.bind();
    for (const std::uint64_t end_ns = now_ns() + 1'000'000'000; now_ns() < end_ns;) {
      KAAS_RETURN_IF_ERROR(bound.run());
      if (bound.has_lane()) return bound;
    }
    return Status{StatusCode::Unavailable, "no lane was granted"};
  }
};

// Requests and relay in turns; the two latency rows differ only in the pauses.
Result<void> measure_latency(SuiteContext& context, TableRow& row, int count, bool asleep) {
  // First the relay: it forks, and its processes shall hold nothing of the session.
  KAAS_ASSIGN_OR_RETURN(
      Relay relay,
      Relay::start({.client_spin_ns = static_cast<std::uint64_t>(context.client.spin.count()),
                    .daemon_spin_ns = context.daemon_spin_ns}));
  KAAS_ASSIGN_OR_RETURN(NullPlan null, NullPlan::create(context));
  const auto request = [&]() -> Result<void> {
    KAAS_RETURN_IF_ERROR(null.plan.run());
    return {};
  };
  const auto relayed = [&] { return relay.round_trip(); };
  const int warm_up = asleep ? 2 : kHotWarmUp;
  if (context.options.quick) count /= 10;
  RowRounds rounds;
  row.notes.push_back("each round: " + std::to_string(count) + " requests, then as many relayed " +
                      "slots; spin budgets " + std::to_string(context.client.spin.count() / 1000) +
                      " us (client), " + std::to_string(context.daemon_spin_ns / 1000) +
                      " us (kaasd, executor)");
  return measure(context, row, rounds, [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(double ignored, median_call_us(warm_up, asleep, request));
    KAAS_ASSIGN_OR_RETURN(const double ours_us, median_call_us(count, asleep, request));
    KAAS_ASSIGN_OR_RETURN(ignored, median_call_us(warm_up, asleep, relayed));
    KAAS_ASSIGN_OR_RETURN(const double peer_us, median_call_us(count, asleep, relayed));
    static_cast<void>(ignored);
    rounds.ours.push_back(ours_us);
    rounds.peers.push_back(peer_us);
    return {};
  });
}

}  // namespace

template <class Runnable>
Result<void> run_pipelined(const Runnable& plan, std::uint64_t count) {
  std::deque<Future<Reply>> under_way;
  for (std::uint64_t sent = 0; sent < count || !under_way.empty();) {
    while (sent < count && under_way.size() < kPipelineDepth) {
      under_way.push_back(plan.submit());
      ++sent;
    }
    KAAS_RETURN_IF_ERROR(under_way.front().get());
    under_way.pop_front();
  }
  return {};
}

template Result<void> run_pipelined(const Plan& plan, std::uint64_t count);
template Result<void> run_pipelined(const BoundPlan& plan, std::uint64_t count);

Result<Request> null_request() {
  RequestBuilder builder;
  builder.kernel("std", "noop");
  return builder.build();
}

Result<void> measure_null_hot(SuiteContext& context, TableRow& row) {
  return measure_latency(context, row, kHotRequests, false);
}

Result<void> measure_null_asleep(SuiteContext& context, TableRow& row) {
  row.notes.push_back("a pause of 4 ms before each request and each relayed slot");
  return measure_latency(context, row, kAsleepRequests, true);
}

Result<void> measure_null_lane(SuiteContext& context, TableRow& row) {
  KAAS_ASSIGN_OR_RETURN(NullPlan null, NullPlan::create(context));
  KAAS_ASSIGN_OR_RETURN(const BoundPlan bound, null.on_lane());
  const int count = context.options.quick ? kHotRequests / 10 : kHotRequests;
  const auto request = [&]() -> Result<void> {
    KAAS_RETURN_IF_ERROR(bound.run());
    return {};
  };
  RowRounds rounds;
  row.notes.push_back("each round: " + std::to_string(count) + " requests");
  return measure(context, row, rounds, [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(double ignored, median_call_us(kHotWarmUp, false, request));
    static_cast<void>(ignored);
    KAAS_ASSIGN_OR_RETURN(const double ours_us, median_call_us(count, false, request));
    rounds.ours.push_back(ours_us);
    return {};
  });
}

namespace {

template <class Runnable>
Result<void> measure_rate(SuiteContext& context, TableRow& row, const Runnable& plan) {
  const std::uint64_t count = context.options.quick ? kPipelinedRequests / 50 : kPipelinedRequests;
  KAAS_RETURN_IF_ERROR(run_pipelined(plan, count / 10));
  RowRounds rounds;
  row.notes.push_back("each round: " + std::to_string(count) + " requests");
  return measure(context, row, rounds, [&]() -> Result<void> {
    const std::uint64_t begin_ns = now_ns();
    KAAS_RETURN_IF_ERROR(run_pipelined(plan, count));
    const double seconds = static_cast<double>(now_ns() - begin_ns) / 1e9;
    rounds.ours.push_back(static_cast<double>(count) / seconds);
    return {};
  });
}

}  // namespace

Result<void> measure_pipelined(SuiteContext& context, TableRow& row) {
  KAAS_ASSIGN_OR_RETURN(NullPlan null, NullPlan::create(context));
  return measure_rate(context, row, null.plan);
}

Result<void> measure_pipelined_lane(SuiteContext& context, TableRow& row) {
  KAAS_ASSIGN_OR_RETURN(NullPlan null, NullPlan::create(context));
  KAAS_ASSIGN_OR_RETURN(const BoundPlan bound, null.on_lane());
  return measure_rate(context, row, bound);
}

Result<void> measure_first_result(SuiteContext& context, TableRow& row) {
  KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(context.client));
  KAAS_ASSIGN_OR_RETURN(const Request request, fresh_client_request());
  KAAS_RETURN_IF_ERROR(client.deploy(kFreshClientFunction, request));
  // The first one also starts the executor and loads the library.
  Result<FreshTimes> warm_up = run_fresh_client(context.client.socket);
  RowRounds rounds;
  std::vector<double> whole_ms;
  Result<void> measured;
  if (warm_up) {
    measured = measure(context, row, rounds, [&]() -> Result<void> {
      std::vector<double> times_ms;
      for (int i = 0; i < kFreshClients; ++i) {
        KAAS_ASSIGN_OR_RETURN(const FreshTimes times, run_fresh_client(context.client.socket));
        times_ms.push_back(static_cast<double>(times.main_to_result_ns) / 1e6);
        whole_ms.push_back(static_cast<double>(times.start_to_result_ns) / 1e6);
      }
      rounds.ours.push_back(percentile(times_ms, 50));
      return {};
    });
  }
  KAAS_RETURN_IF_ERROR(client.undeploy(kFreshClientFunction));
  if (!warm_up) return std::move(warm_up).error();
  if (!measured) return measured;
  char note[160];
  std::snprintf(note, sizeof note,
                "from before the process was started: p50 %.2f ms, p99 %.2f ms; each round: %d "
                "processes, their median",
                percentile(whole_ms, 50), percentile(whole_ms, 99), kFreshClients);
  row.notes.emplace_back(note);
  return {};
}

}  // namespace kaas
