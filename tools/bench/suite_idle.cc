// Rows of the suite about what kaasd and executors cost while nobody asks for anything.
#include <time.h>

#include "schema/ipc/clock.h"
#include "tools/bench/suite_rows.h"

namespace kaas {
namespace {

constexpr std::size_t kClients = 64;
constexpr double kMiB = 1u << 20;

void wait_for(double seconds) {
  const auto whole = static_cast<time_t>(seconds);
  const timespec time{whole, static_cast<long>((seconds - static_cast<double>(whole)) * 1e9)};
  ::nanosleep(&time, nullptr);
}

// Sessions that have each had a request, so that they have a ring and an arena, and then nothing.
Result<std::vector<Client>> idle_clients(SuiteContext& context) {
  std::vector<Client> clients;
  KAAS_ASSIGN_OR_RETURN(const Request request, null_request());
  for (std::size_t i = 0; i < kClients; ++i) {
    KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(context.client));
    KAAS_RETURN_IF_ERROR(client.run(request));
    clients.push_back(std::move(client));
  }
  KAAS_RETURN_IF_ERROR(context.refresh());
  wait_for(context.options.quick ? 0.1 : 1.0);  // What connecting and ending left to do.
  return clients;
}

Result<std::uint64_t> total_cpu_ns(const std::vector<pid_t>& pids) {
  std::uint64_t total_ns = 0;
  for (const pid_t pid : pids) {
    KAAS_ASSIGN_OR_RETURN(const std::uint64_t time_ns, cpu_time_ns(pid));
    total_ns += time_ns;
  }
  return total_ns;
}

Result<void> measure_cpu(SuiteContext& context, TableRow& row, const std::vector<pid_t>& pids) {
  const double seconds = context.options.quick ? 0.2 : 1.0;
  RowRounds rounds;
  row.notes.push_back("processor time of " + std::to_string(pids.size()) +
                      " process(es), all threads, by /proc/PID/task/*/schedstat");
  return measure(context, row, rounds, [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(const std::uint64_t before_ns, total_cpu_ns(pids));
    const std::uint64_t begin_ns = now_ns();
    wait_for(seconds);
    const std::uint64_t elapsed_ns = now_ns() - begin_ns;
    KAAS_ASSIGN_OR_RETURN(const std::uint64_t after_ns, total_cpu_ns(pids));
    rounds.ours.push_back(100.0 * static_cast<double>(after_ns - before_ns) /
                          static_cast<double>(elapsed_ns));
    return {};
  });
}

}  // namespace

Result<void> measure_idle_kaasd(SuiteContext& context, TableRow& row) {
  KAAS_ASSIGN_OR_RETURN(const std::vector<Client> clients, idle_clients(context));
  return measure_cpu(context, row, {context.kaasd});
}

Result<void> measure_idle_executor(SuiteContext& context, TableRow& row) {
  KAAS_ASSIGN_OR_RETURN(const std::vector<Client> clients, idle_clients(context));
  if (context.executors.empty()) {
    return Status{StatusCode::NotFound, "kaasd's status names no executor"};
  }
  return measure_cpu(context, row, context.executors);
}

Result<void> measure_idle_memory(SuiteContext& context, TableRow& row) {
  KAAS_ASSIGN_OR_RETURN(const std::vector<Client> clients, idle_clients(context));
  RowRounds rounds;
  KAAS_RETURN_IF_ERROR(measure(context, row, rounds, [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(const std::uint64_t bytes, memory_bytes_of(context.kaasd, "RssAnon"));
    rounds.ours.push_back(static_cast<double>(bytes) / kMiB);
    return {};
  }));
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t shared, memory_bytes_of(context.kaasd, "RssShmem"));
  row.notes.push_back("RssAnon of kaasd; its RssShmem is " + std::to_string(shared >> 20) + " MiB");
  return {};
}

}  // namespace kaas
