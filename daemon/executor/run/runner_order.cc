// Who comes behind whom: waiting for a run's end, following it on the device, ending after it.
#include <iterator>

#include "daemon/executor/run/runner.h"
#include "schema/ipc/untrusted.h"

namespace kaas {

// Nothing to wait for if that run has ended, or never was.
void ExecutorRunner::wait_for(RunTask& task, std::uint64_t run, bool until_end) {
  const auto found = active_.find(run);
  if (found != active_.end()) return come_behind(task, *found->second, until_end);
  const auto early = ended_early_.find(run);
  if (early == ended_early_.end()) return;
  for (const std::uint64_t other : early->second) wait_for(task, other, until_end);
}

void ExecutorRunner::come_behind(RunTask& task, RunTask& earlier, bool until_end) {
  if (until_end || !may_follow(task, earlier)) {
    earlier.dependents.push_back({&task, RunTask::Expects::End});
    ++task.waits;
  } else if (!earlier.enqueued) {
    earlier.dependents.push_back({&task, RunTask::Expects::Enqueued});
    ++task.waits;
  } else {
    earlier.dependents.push_back({&task, RunTask::Expects::Order});
    task.follows.push_back(&earlier);
    ++task.unordered;
  }
}

// A run that ends, refused or cancelled, before those that it was to come behind: whoever comes
// behind it comes behind them.
void ExecutorRunner::pass_on_order(RunTask& task) {
  for (auto early = ended_early_.begin(); early != ended_early_.end();) {
    std::erase(early->second, task.run);
    early = early->second.empty() ? ended_early_.erase(early) : std::next(early);
  }
  if (task.follows.empty()) return;
  for (RunTask* earlier : task.follows) {
    ended_early_[task.run].push_back(earlier->run);
    for (const RunTask::Dependent& dependent : task.dependents) {
      come_behind(*dependent.task, *earlier, false);
    }
  }
}

// Host bytes that the earlier one writes are there when it has ended, not before. Those in a
// client's device memory are there for whoever follows on the device.
bool ExecutorRunner::may_follow(const RunTask& task, const RunTask& earlier) const {
  if (parts_.device.limits().synchronous) return false;
  // Where its bytes will be is not known before.
  if (task.plan->loading || earlier.plan->loading) return false;
  if (is_overwritten_at_end(task, earlier)) return false;
  for (std::size_t i = 0; i < task.loads.size(); ++i) {
    const wire::Location& load = task.loads[i];
    if (load.segment() == 0) continue;
    const std::uint64_t bytes = task.plan->loads[i].bytes();
    for (std::size_t s = 0; s < earlier.stores.size(); ++s) {
      const wire::Location& store = earlier.stores[s];
      if (store.segment() == load.segment() &&
          ranges_overlap(load.offset(), bytes, store.offset(), earlier.plan->stores[s].bytes()) &&
          !(task.device_memory && is_device_memory(load.segment()))) {
        return false;
      }
    }
  }
  return true;
}

// Whether the end of the earlier one could write over what this one has written: it takes small
// stores from staging memory to their place when all of it is idle, and the device writes large
// ones of this one there directly.
bool ExecutorRunner::is_overwritten_at_end(const RunTask& task, const RunTask& earlier) {
  const auto is_staged = [](const RunTask& one, std::size_t store) {
    const std::uint16_t allocation = one.plan->stores[store].allocation();
    return one.plan->allocations[allocation].staging_offset.has_value();
  };
  for (std::size_t own = 0; own < task.stores.size(); ++own) {
    if (task.stores[own].segment() == 0 || is_staged(task, own)) continue;
    for (std::size_t s = 0; s < earlier.stores.size(); ++s) {
      if (earlier.stores[s].segment() == task.stores[own].segment() && is_staged(earlier, s) &&
          ranges_overlap(task.stores[own].offset(), task.plan->stores[own].bytes(),
                         earlier.stores[s].offset(), earlier.plan->stores[s].bytes())) {
        return true;
      }
    }
  }
  return false;
}

bool ExecutorRunner::is_device_memory(std::uint32_t segment) const {
  const auto found = parts_.segments.find(segment);
  return found && (*found)->is_device_memory();
}

// Runs that touch segments by way of their own staging memory only, and keep no state, need no
// order on the device: it is enough that they end in order.
Result<void> ExecutorRunner::follow_earlier(RunTask& task) {
  const bool needs_order = !task.all_staged || task.plan->stateful;
  for (const RunTask* earlier : task.follows) {
    if (!needs_order && earlier->all_staged && !earlier->plan->stateful) continue;
    KAAS_RETURN_IF_ERROR(task.body.stream->follow(*earlier->body.stream));
  }
  return {};
}

// Those that only had to come behind it can go on.
void ExecutorRunner::enqueued(RunTask& task) {
  task.enqueued = true;
  for (RunTask::Dependent& dependent : task.dependents) {
    if (dependent.expects != RunTask::Expects::Enqueued) continue;
    dependent.expects = RunTask::Expects::Order;
    dependent.task->follows.push_back(&task);
    ++dependent.task->unordered;
    if (--dependent.task->waits == 0) ready_.push_back(dependent.task);
  }
}

// A task that ends before it was enqueued refers to nobody any more.
void ExecutorRunner::forget_followed(RunTask& task) {
  for (RunTask* earlier : task.follows) {
    std::erase_if(earlier->dependents, [&](const RunTask::Dependent& dependent) {
      return dependent.task == &task && dependent.expects == RunTask::Expects::Order;
    });
  }
  task.follows.clear();
  task.unordered = 0;
}

void ExecutorRunner::release_dependents(RunTask& task) {
  for (const RunTask::Dependent& dependent : task.dependents) {
    RunTask& later = *dependent.task;
    if (dependent.expects == RunTask::Expects::Order) {
      std::erase(later.follows, &task);
      --later.unordered;
    } else if (--later.waits == 0) {
      ready_.push_back(&later);
    }
  }
}

}  // namespace kaas
