// Tasks that stay prepared for the next run in the same terms.
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
  task.sink = &sink;
  task.ticket = ticket;
  try {
    if (idle == nullptr) {
      task.plan = repeated.plan;
      task.repeated = &repeated;
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
  for (RunTask* task : repeated.idle) {
    unkeep(*task);
    recycle(*task);
  }
  repeated.idle.clear();
  for (const auto& task : tasks_) {
    if (task->repeated == &repeated) task->repeated = nullptr;
  }
}

// All that it needs is that of its last run.
ExecutorRunner::Start ExecutorRunner::start_kept(RunTask& task) {
  task.kept = false;
  --kept_;
  --task.plan->frames_kept;
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
  if (task.repeated == nullptr || kept_ >= kKeptMax || task.device_memory) return false;
  const ExecutorPlan& plan = *task.plan;
  if (plan.has_choice && plan.placement.decided() != task.way) return false;
  if (!task.wait_events.empty() || !task.record_events.empty()) return false;
  const bool is_graph = task.way_taken == wire::RunWay::Graph && !task.slow;
  if (!parts_.device.limits().synchronous && !is_graph) return false;
  for (const LoadStep& step : task.body.loads) {
    if (step.source == LoadStep::Source::Zero) return false;
  }
  for (std::size_t i = 0; i < task.loads.size(); ++i) {
    if (task.loads[i].version() != 0 && !task.pins[i]) return false;
  }
  return task.repeated->idle.size() < kFramesMax;
}

void ExecutorRunner::keep(RunTask& task) {
  forget_run(task);
  task.kept = true;
  ++kept_;
  ++task.plan->frames_kept;
  task.repeated->idle.push_back(&task);
}

void ExecutorRunner::unkeep(RunTask& task) {
  task.kept = false;
  --kept_;
  --task.plan->frames_kept;
  RunPreparation::release(task);
}

bool ExecutorRunner::release_kept() {
  if (kept_ == 0) return false;
  for (const auto& task : tasks_) {
    if (!task->kept) continue;
    unkeep(*task);
    // One of which a run waits is prepared anew.
    const bool was_idle =
        task->repeated != nullptr && std::erase(task->repeated->idle, task.get()) != 0;
    if (was_idle) recycle(*task);
  }
  return true;
}

}  // namespace kaas
