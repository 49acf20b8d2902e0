// Tasks that stay prepared for the next run in the same terms.
#include <algorithm>
#include <new>

#include "daemon/executor/run/run_preparation.h"
#include "daemon/executor/run/runner.h"

namespace kaas {

std::uint64_t ExecutorRunner::submit(RepeatedRun& repeated, std::span<const std::uint64_t> after,
                                     RunSink& sink, std::uint64_t ticket) {
  const std::uint64_t run = next_own_run_++;
  RunTask* idle = nullptr;
  if (!repeated.idle.empty()) {
    idle = repeated.idle.back();
    repeated.idle.pop_back();
    idle->run = run;
    idle->started = false;
  }
  RunTask& task = idle != nullptr ? *idle : new_task(run);
  ++repeated.under_way;
  task.sink = &sink;
  task.ticket = ticket;
  task.repeated = &repeated;
  try {
    if (idle == nullptr) {
      task.plan = repeated.plan;
      static_cast<RunTerms&>(task) = repeated.terms;
    }
    for (const std::uint64_t earlier : after) wait_for(task, earlier, false);
  } catch (const std::bad_alloc&) {
    task.failure = Status{StatusCode::ResourceExhausted, "no memory to take in a run"};
  }
  go_on(task);
  return run;
}

void ExecutorRunner::forget(RepeatedRun& repeated) {
  while (!repeated.idle.empty()) unkeep(*repeated.idle.back());
  if (repeated.under_way == 0) return;
  for (const auto& task : tasks_) {
    if (task->repeated == &repeated) task->repeated = nullptr;
  }
}

// All that it needs is that of its last run.
ExecutorRunner::Start ExecutorRunner::start_kept(RunTask& task) {
  uncount(task);
  task.counters = task.prepared_counters;
  if (const auto followed = follow_earlier(task); !followed) {
    if (parts_.device.lost()) {
      ++running_;
      return Start::Running;
    }
    task.failure = followed.error();
    finish(task);
    return Start::Done;
  }
  return begin(task);
}

// Whether preparing it again would come to the same: everything that its plan tries out is decided,
// nothing will be cached for the next time, and no step is of this time only.
bool ExecutorRunner::may_keep(const RunTask& task) const {
  const ExecutorPlan& plan = *task.plan;
  if (task.repeated == nullptr || task.device_memory) return false;
  if (plan.staging_bytes > kKeptStagingBytesMax) return false;
  if (plan.has_choice && plan.placement.decided() != task.way) return false;
  if (!task.wait_events.empty() || !task.record_events.empty()) return false;
  const bool is_graph = task.way_taken == wire::RunWay::Graph && !task.slow;
  if (!parts_.device.limits().synchronous && !is_graph) return false;
  for (const LoadStep& step : task.body.loads) {
    if (step.source == LoadStep::Source::Zero) return false;
  }
  for (std::size_t i = 0; i < task.loads.size(); ++i) {
    if (task.loads[i].version() == 0) continue;
    const std::uint16_t allocation = plan.loads[i].allocation();
    const bool becomes_cached =
        plan.allocations[allocation].cacheable_load == i && task.blocks[allocation];
    if (!task.pins[i] || becomes_cached) return false;
  }
  return task.repeated->idle.size() < kFramesMax;
}

void ExecutorRunner::keep(RunTask& task) {
  make_room_to_keep(task);
  forget_run(task);
  task.kept = true;
  ++kept_;
  ++task.plan->frames_kept;
  kept_staging_bytes_ += task.plan->staging_bytes;
  task.repeated->idle.push_back(&task);
}

// The one that has not run for longest goes first, whoever's it is.
void ExecutorRunner::make_room_to_keep(const RunTask& task) {
  while (kept_ >= kKeptMax ||
         kept_staging_bytes_ + task.plan->staging_bytes > kKeptStagingBytesMax) {
    RunTask* oldest = nullptr;
    for (const auto& other : tasks_) {
      if (other->kept && (oldest == nullptr || other->start < oldest->start)) oldest = other.get();
    }
    unkeep(*oldest);
  }
}

// It is about to run, or not kept any more.
void ExecutorRunner::uncount(RunTask& task) {
  task.kept = false;
  --kept_;
  --task.plan->frames_kept;
  kept_staging_bytes_ -= task.plan->staging_bytes;
}

// One of which a run waits is prepared anew.
void ExecutorRunner::unkeep(RunTask& task) {
  uncount(task);
  RunPreparation::release(task);
  const bool was_idle = task.repeated != nullptr && std::erase(task.repeated->idle, &task) != 0;
  if (was_idle) recycle(task);
}

bool ExecutorRunner::release_kept(std::optional<std::uint32_t> segment) {
  const auto has_open = [&](const RunTask& task) {
    return std::any_of(task.segments.begin(), task.segments.end(),
                       [&](const auto& open) { return open->terms().segment == *segment; });
  };
  bool released = false;
  for (const auto& task : tasks_) {
    if (kept_ == 0) break;
    if (!task->kept || (segment && !has_open(*task))) continue;
    unkeep(*task);
    released = true;
  }
  return released;
}

}  // namespace kaas
