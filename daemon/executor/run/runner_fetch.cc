// Resident versions: brought to the host when kaasd asks, and when runs find no memory for them.
#include <new>
#include <utility>

#include "daemon/executor/run/runner.h"

namespace kaas {

void ExecutorRunner::fetch(const wire::Fetch& message) {
  RunTask& task = new_task(kFirstFetch + message.version());
  task.fetches = message.version();
  try {
    task.plan = fetch_plan(message.bytes());
    task.loads.emplace_back(message.version(), 0, 0, message.bytes(), 0);
    task.stores.emplace_back(0, 0, 0, message.bytes(), message.segment());
    if (active_.count(task.run) == 0) {
      pin_pending(task);
    } else {
      task.failure = Status{StatusCode::InvalidArgument,
                            "version " + std::to_string(task.fetches) + " is being fetched"};
    }
  } catch (const std::bad_alloc&) {
    task.failure = Status{StatusCode::ResourceExhausted, "no memory to take in a fetch"};
  }
  go_on(task);
}

// Has kaasd fetch what holds memory and is nowhere else. False: there is nothing to be had.
bool ExecutorRunner::ask_for_room(const RunTask& task) {
  if (parts_.cache.residents_taken() != 0) return true;
  const std::vector<std::uint64_t> versions =
      parts_.cache.take_residents(task.plan->working_set_bytes);
  if (versions.empty()) return false;
  parts_.reports.memory_short(versions);
  return true;
}

// The version may be evicted once kaasd knows that the host has it.
void ExecutorRunner::report_fetched(RunTask& task) {
  if (task.failure) {
    parts_.cache.not_written_back(task.fetches);
  } else {
    parts_.cache.written_back(task.fetches);
  }
  parts_.reports.fetched(task.fetches, task.fetched, task.failure ? &*task.failure : nullptr);
  if (task.failure || task.parts.empty()) return;
  const std::uint64_t reports = parts_.reports.written() + parts_.reports.waiting();
  for (CachePin& part : task.parts.front()) unacknowledged_.push_back({reports, std::move(part)});
}

}  // namespace kaas
