// Versions of runs in the device's cache: those that a run counts on, and those that it leaves.
#include <cstring>
#include <memory>
#include <utility>

#include "daemon/executor/run/runner.h"

namespace kaas {

// Versions without host bytes are pinned now: kaasd counts on their being here at this moment.
void ExecutorRunner::pin_pending(RunTask& task) {
  task.parts.resize(task.loads.size());
  for (std::size_t i = 0; i < task.loads.size(); ++i) {
    const wire::Location& location = task.loads[i];
    const std::uint64_t bytes = task.plan->loads[i].bytes();
    if (location.segment() != 0 || location.version() == 0 ||
        location.object_offset() > UINT64_MAX - bytes) {
      continue;
    }
    task.parts[i] = parts_.cache.find_parts({location.version(), location.object_offset(), bytes});
    for (const CachePin& part : task.parts[i]) {
      if (part->state() == CacheEntry::State::Pending) wait_for(task, part->producer(), true);
    }
  }
}

void ExecutorRunner::expect_outputs(RunTask& task) {
  task.outputs.resize(task.stores.size());
  for (std::size_t i = 0; i < task.stores.size(); ++i) {
    const wire::Location& location = task.stores[i];
    const std::uint64_t bytes = task.plan->stores[i].bytes();
    if (location.version() == 0 || location.object_offset() > UINT64_MAX - bytes) continue;
    task.outputs[i] =
        parts_.cache.expect({location.version(), location.object_offset(), bytes}, task.run);
  }
}

// Loaded versions whose allocation nobody wrote become cached copies.
void ExecutorRunner::keep_loaded(RunTask& task) {
  for (std::size_t i = 0; i < task.plan->allocations.size(); ++i) {
    const auto& load = task.plan->allocations[i].cacheable_load;
    if (!load || !task.blocks[i]) continue;
    const wire::Location& location = task.loads[*load];
    if (location.version() == 0) continue;
    parts_.cache.insert(
        {location.version(), location.object_offset(), task.plan->loads[*load].bytes()},
        task.blocks[i], 0);
  }
}

void ExecutorRunner::settle_outputs(RunTask& task) {
  for (std::size_t i = 0; i < task.stores.size(); ++i) {
    if (i >= task.outputs.size() || !task.outputs[i]) {
      // Refused before anyone could wait for it. A failed run has no version to show for.
      const std::uint64_t version = task.stores[i].version();
      if (task.failure && version != 0) parts_.cache.fail_version(version);
      continue;
    }
    CacheEntry& entry = *task.outputs[i];
    if (task.failure) {
      parts_.cache.fail(entry);
      continue;
    }
    const wire::PlanRange& range = task.plan->stores[i];
    const bool resident = task.stores[i].segment() == 0;
    // What went to the host by way of staging memory is still there, and the frame keeps its block.
    const auto& staging = task.plan->allocations[range.allocation()].staging_offset;
    if (staging && !resident) {
      auto copy = std::make_unique<std::byte[]>(range.bytes());
      std::memcpy(copy.get(), task.frame->staged(*staging) + range.offset(), range.bytes());
      parts_.cache.settle_on_host(entry, std::move(copy));
      continue;
    }
    if (const BlockRef& block = task.blocks[range.allocation()]) {
      parts_.cache.settle(entry, block, range.offset(), resident);
      continue;
    }
    // No kernel writes it, and a cached copy served: that is the output, too.
    const std::size_t load = *task.plan->allocations[range.allocation()].cacheable_load;
    const CacheEntry& source = *task.pins[load];
    const std::uint64_t inside = task.loads[load].object_offset() - source.key().offset;
    parts_.cache.settle(entry, source.block(), source.block_offset() + inside + range.offset(),
                        resident);
  }
}

// Before the report: kaasd seals such a segment then, which needs that nobody maps it writable.
void ExecutorRunner::forget_once_segments(RunTask& task) {
  for (const wire::Location& location : task.stores) {
    if (location.segment() == 0) continue;
    const auto segment = parts_.segments.find(location.segment());
    if (segment && (*segment)->terms().once) parts_.segments.detach(location.segment());
  }
}

void ExecutorRunner::hold_stored(RunTask& task) {
  const std::uint64_t reports = parts_.reports.written() + parts_.reports.waiting();
  for (CachePin& output : task.outputs) {
    if (output) unacknowledged_.push_back({reports, std::move(output)});
  }
}

void ExecutorRunner::acknowledged(std::uint64_t reports) {
  while (!unacknowledged_.empty() && unacknowledged_.front().reports <= reports) {
    unacknowledged_.pop_front();
  }
}

}  // namespace kaas
