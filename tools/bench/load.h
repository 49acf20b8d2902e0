// Load on a kaasd: clients that send one request again and again, closed or open loop.
//
// Closed loop: each client keeps `depth` requests under way and sends the next when one is
// answered. Its latency is from sending to answer; a slow system is asked less often, so waiting
// before sending does not show.
// Open loop: requests have start times that do not depend on answers. The latency is from the
// *intended* start, also where the request could only be sent later (coordinated omission).
//
// Answers are taken in the order of the requests.
#pragma once

#include <kaas/client.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "schema/ipc/result.h"
#include "tools/bench/histogram.h"

namespace kaas {

// Sends one request. Made per client, by the thread that uses it.
using SendRequest = std::function<Future<Reply>()>;
// Connects client number n (from 0) and says how it sends.
struct LoadClient {
  std::shared_ptr<Client> client;
  SendRequest send;
};
using MakeLoadClient = std::function<Result<LoadClient>(unsigned number)>;

struct LoadPlan {
  unsigned clients = 1;    // Threads with a session each.
  unsigned depth = 1;      // Closed loop.
  double rate = 0;         // Requests a second, of all clients together; 0: closed loop.
  bool poisson = false;    // Open loop: exponential distances of starts instead of equal ones.
  std::uint64_t seed = 1;  // Of those.
  double round_seconds = 0.5;
  double warm_up_seconds = 0.2;
  double seconds_max = 8;  // Of all rounds.
  unsigned rounds_min = 5;
  double spread_max = 0.05;  // Stops when the interval of the rounds' rates is narrower.
};

struct LoadResult {
  LoadPlan plan;
  LatencyHistogram latency;   // Of all rounds after the warm-up.
  std::vector<double> rates;  // Requests answered a second, of each round.
  bool stable = false;
  // Open loop: how far behind its schedule a client was at most when it sent.
  std::uint64_t late_max_ns = 0;
};

// Runs the plan. Fails with the first request that fails.
// Threads: makes plan.clients, which end before it returns.
Result<LoadResult> run_load(const LoadPlan& plan, const MakeLoadClient& make);

}  // namespace kaas
