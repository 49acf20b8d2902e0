// Rows of kaas-bench gpu about clients: a new one, what one more costs, and many at once.
#include <optional>

#include "tools/bench/fresh_client.h"
#include "tools/bench/gpu_rows.h"
#include "tools/bench/mps.h"

namespace kaas {
namespace {

constexpr double kMiB = 1u << 20;
constexpr int kFreshClients = 5;
constexpr std::uint64_t kBusyNs = 100'000;
constexpr std::uint64_t kLoadMs = 100;
constexpr std::uint64_t kQuickLoadMs = 10;
constexpr std::size_t kClientsARound = 4;
constexpr std::uint64_t kClientBytes = 4096;  // In, and as many out.

// The function that kaas-bench-client calls, as long as this lives.
class FreshFunction {
 public:
  static Result<FreshFunction> deploy(const ClientOptions& options) {
    constexpr std::uint64_t kBytes = kFreshClientCount * sizeof(float);
    RequestBuilder builder;
    builder.buffer("x", kBytes).in_message();
    builder.buffer("y", kBytes).in_message();
    builder.kernel(kBenchLibrary, "multiply")
        .grid(payload_grid(kFreshClientCount))
        .block(kPayloadBlock)
        .literal(static_cast<std::uint64_t>(kFreshClientCount))
        .literal(kFactor)
        .in("x")
        .out("y");
    KAAS_ASSIGN_OR_RETURN(const Request request, builder.build());
    KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(options));
    KAAS_RETURN_IF_ERROR(client.deploy(kFreshClientFunction, request));
    FreshFunction function(std::move(client));
    // A first call starts the executor and loads the library.
    KAAS_RETURN_IF_ERROR(run_fresh_client(options.socket));
    return function;
  }
  FreshFunction(FreshFunction&& other) noexcept = default;
  FreshFunction& operator=(FreshFunction&&) = delete;
  ~FreshFunction() {
    if (client_) static_cast<void>(client_->undeploy(kFreshClientFunction).has_value());
  }

 private:
  explicit FreshFunction(Client client) : client_(std::make_unique<Client>(std::move(client))) {}
  std::unique_ptr<Client> client_;
};

Result<double> new_client_ms(const GpuContext& context) {
  std::vector<double> times_ms;
  for (int i = 0; i < kFreshClients; ++i) {
    KAAS_ASSIGN_OR_RETURN(const FreshTimes times, run_fresh_client(context.client.socket));
    times_ms.push_back(static_cast<double>(times.main_to_result_ns) / 1e6);
  }
  return percentile(times_ms, 50);
}

// Bytes in use: of the device's memory, by everyone; without one, of the executors' own.
Result<double> used_memory_mib(GpuContext& context) {
  if (context.direct) {
    KAAS_ASSIGN_OR_RETURN(const std::vector<double> bytes, context.direct->call("memory"));
    return bytes.front() / kMiB;
  }
  KAAS_RETURN_IF_ERROR(context.refresh());
  double total = 0;
  for (const pid_t executor : context.executors) {
    KAAS_ASSIGN_OR_RETURN(const std::uint64_t bytes, memory_bytes_of(executor, "RssAnon"));
    total += static_cast<double>(bytes) / kMiB;
  }
  return total;
}

const std::string& client_load() {
  static const std::string command =
      "measure " + to_word({Workload::Kind::Payload, kClientBytes, 1}) + " count 3";
  return command;
}

// What a process with a context of its own takes, while it runs.
Result<double> own_context_mib(GpuContext& context) {
  KAAS_ASSIGN_OR_RETURN(const double before, used_memory_mib(context));
  KAAS_ASSIGN_OR_RETURN(WorkerProcess own, WorkerProcess::start(GpuContext::direct_words()));
  KAAS_RETURN_IF_ERROR(own.call(client_load()));
  KAAS_ASSIGN_OR_RETURN(const double after, used_memory_mib(context));
  return after - before;
}

// p50 of all rounds of all workers, which work at the same time.
Result<double> crowd_median_us(std::vector<WorkerProcess>& workers, const std::string& command) {
  for (WorkerProcess& worker : workers) KAAS_RETURN_IF_ERROR(worker.ask(command));
  std::vector<double> times_ns;
  for (WorkerProcess& worker : workers) {
    KAAS_ASSIGN_OR_RETURN(const std::vector<double> times, worker.answer());
    times_ns.insert(times_ns.end(), times.begin(), times.end());
  }
  return percentile(times_ns, 50) / 1000;
}

// Processes with contexts of their own, measured beside; what fails makes the column absent.
class BesideCrowd {
 public:
  BesideCrowd(std::string name, std::size_t count, const std::vector<std::string>& environment) {
    column_.name = std::to_string(count) + std::move(name);
    auto started = WorkerProcess::start_many(count, GpuContext::direct_words(), environment);
    if (started) {
      workers_ = std::move(*started);
    } else {
      absent(started.error());
    }
  }
  BesideCrowd(std::string name, std::size_t count, const Status& why) {
    column_.name = std::to_string(count) + std::move(name);
    absent(why);
  }

  void measure(const std::string& command) {
    if (workers_.empty()) return;
    const Result<double> median_us = crowd_median_us(workers_, command);
    if (median_us) {
      column_.rounds.push_back(*median_us);
    } else {
      absent(median_us.error());
    }
  }
  void absent(const Status& why) {
    workers_.clear();
    column_.rounds.clear();
    column_.absent = why.message;
  }
  [[nodiscard]] bool has_workers() const noexcept { return !workers_.empty(); }
  [[nodiscard]] const BesideColumn& column() const noexcept { return column_; }

 private:
  BesideColumn column_;
  std::vector<WorkerProcess> workers_;
};

constexpr const char* kUnderMps = " processes with own contexts, under MPS";

BesideCrowd mps_crowd(const Result<Mps>& mps, std::size_t count) {
  if (!mps) return {kUnderMps, count, mps.error()};
  BesideCrowd crowd(kUnderMps, count, mps->environment());
  const Result<void> served = mps->check_server();
  if (crowd.has_workers() && !served) crowd.absent(served.error());
  return crowd;
}

}  // namespace

Result<void> measure_new_client(GpuContext& context, TableRow& row) {
  KAAS_ASSIGN_OR_RETURN(const auto function, FreshFunction::deploy(context.client));
  RowRounds rounds;
  row.notes.push_back("each round: " + std::to_string(kFreshClients) + " processes, their p50");
  return measure(context, row, rounds, [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(const double time_ms, new_client_ms(context));
    rounds.ours.push_back(time_ms);
    return {};
  });
}

Result<void> measure_new_context(GpuContext& context, TableRow& row) {
  KAAS_ASSIGN_OR_RETURN(const auto function, FreshFunction::deploy(context.client));
  RowRounds rounds;
  std::vector<std::string> words = GpuContext::direct_words();
  words.push_back("first");
  row.notes.push_back("each round: " + std::to_string(kFreshClients) +
                      " clients, their p50, then one process with a context of its own");
  return measure(context, row, rounds, [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(const double time_ms, new_client_ms(context));
    rounds.ours.push_back(time_ms);
    if (!context.direct) return {};
    KAAS_ASSIGN_OR_RETURN(const FreshTimes own, run_fresh_process(words));
    rounds.peers.push_back(static_cast<double>(own.main_to_result_ns) / 1e6);
    return {};
  });
}

Result<void> measure_client_memory(GpuContext& context, TableRow& row) {
  // Clients stay until the row is done: memory that an earlier one gave back would hide what the
  // next one takes.
  std::vector<WorkerProcess> clients;
  const auto add_client = [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(WorkerProcess client, WorkerProcess::start(context.client_words()));
    KAAS_RETURN_IF_ERROR(client.call(client_load()));
    clients.push_back(std::move(client));
    return {};
  };
  KAAS_RETURN_IF_ERROR(add_client());
  RowRounds rounds;
  row.notes.push_back("each round adds " + std::to_string(kClientsARound) +
                      " clients; each has run a request with 4 KiB in and 4 KiB out");
  row.notes.push_back(context.direct ? "device memory by cudaMemGetInfo in another process"
                                     : "on the host device: RssAnon of the executors");
  return measure(context, row, rounds, [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(const double before, used_memory_mib(context));
    for (std::size_t i = 0; i < kClientsARound; ++i) KAAS_RETURN_IF_ERROR(add_client());
    KAAS_ASSIGN_OR_RETURN(const double after, used_memory_mib(context));
    rounds.ours.push_back((after - before) / kClientsARound);
    if (!context.direct) return {};
    KAAS_ASSIGN_OR_RETURN(const double own, own_context_mib(context));
    rounds.peers.push_back(own);
    return {};
  });
}

Result<void> measure_clients(GpuContext& context, TableRow& row, std::size_t clients) {
  const std::uint64_t load_ms = context.options.quick ? kQuickLoadMs : kLoadMs;
  const std::string command =
      "measure " + to_word({Workload::Kind::Busy, kBusyNs, 1}) + " time " + std::to_string(load_ms);
  KAAS_ASSIGN_OR_RETURN(auto one, WorkerProcess::start_many(1, context.client_words()));
  KAAS_ASSIGN_OR_RETURN(auto many, WorkerProcess::start_many(clients, context.client_words()));
  // The processes that it serves end before it does.
  std::optional<Result<Mps>> mps;
  std::vector<BesideCrowd> beside;
  if (context.direct) {
    mps.emplace(Mps::start());
    beside.emplace_back(" processes with own contexts", clients, std::vector<std::string>{});
    beside.push_back(mps_crowd(*mps, clients));
  }
  RowRounds rounds;
  row.notes.push_back("each round: " + std::to_string(load_ms) +
                      " ms of requests, one after another, of each; p50 of all");
  const Result<void> measured = measure(context, row, rounds, [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(const double many_us, crowd_median_us(many, command));
    KAAS_ASSIGN_OR_RETURN(const double one_us, crowd_median_us(one, command));
    rounds.ours.push_back(many_us);
    rounds.peers.push_back(one_us);
    for (BesideCrowd& crowd : beside) crowd.measure(command);
    return {};
  });
  for (const BesideCrowd& crowd : beside) row.beside.push_back(crowd.column());
  return measured;
}

}  // namespace kaas
