// From an accepted run to a body that can be executed: where its bytes come from and go to, its
// memory, its parameters.
// Threads: main thread only.
#pragma once

#include "daemon/executor/cache/device_cache.h"
#include "daemon/executor/run/run_task.h"
#include "daemon/executor/run/segments.h"

namespace kaas {

class RunPreparation {
 public:
  // Borrowed for the call of prepare().
  RunPreparation(RunTask& task, Device& device, DeviceCache& cache, ExecutorSegments& segments)
      : task_(task), plan_(*task.plan), device_(device), cache_(cache), segments_(segments) {}

  // Fills everything of the task that execution needs but the stream. On failure, release() gives
  // back what was taken; the task can then be prepared again.
  // Fails: DependencyFailed, Unavailable (a version is not on the device any more), OutOfMemory
  //        (names the working set, the limit and what others use), InvalidArgument.
  Result<void> prepare();

  // Does without cached copies of what the host has as well: a run that does not fit beside the
  // copies of its own inputs may fit without them. Before prepare().
  void avoid_copies() noexcept { avoids_copies_ = true; }

  // Gives back memory, cached copies, segments and the frame.
  static void release(RunTask& task);

 private:
  Result<void> find_sources();
  Result<void> find_pending_source(std::size_t load);
  [[nodiscard]] std::uint64_t needed_bytes(std::size_t load) const noexcept;
  [[nodiscard]] bool serves_as_allocation(std::size_t load) const noexcept;
  Result<void> take_frame();
  Result<void> find_foreign_memory();
  Result<void> note_foreign(const wire::PlanRange& range, const wire::Location& location,
                            const char* what, std::size_t index);
  [[nodiscard]] bool is_foreign(std::size_t allocation) const noexcept {
    return !task_.foreign.empty() && task_.foreign[allocation] != 0;
  }
  Result<void> take_memory();
  [[nodiscard]] bool works_in_staging(std::size_t allocation);
  [[nodiscard]] DeviceAddress registered_place(std::size_t allocation);
  Result<void> take_block(std::size_t allocation);
  [[nodiscard]] std::byte* staged(const wire::PlanRange& range) const noexcept;
  Result<void> add_loads();
  Result<void> add_load(std::size_t load);
  void add_copies(std::size_t load, const CacheEntry& entry);
  Result<void> add_host_load(std::size_t load);
  Result<void> add_stores();
  void add_fetched_store(const wire::PlanRange& range);
  bool move(std::vector<Move>& moves, DeviceAddress to, DeviceAddress from,
            const wire::PlanRange& range) const;
  // `what` and `index` name the location in errors.
  Result<std::shared_ptr<ExecutorSegment>> segment_of(const wire::Location& location,
                                                      std::uint64_t bytes, const char* what,
                                                      std::size_t index);
  Result<void> add_events(const std::vector<std::uint32_t>& segments,
                          std::vector<ImportedEvent*>& events);
  Result<void> set_parameters();
  Result<void> override_literals();

  RunTask& task_;
  const ExecutorPlan& plan_;
  Device& device_;
  DeviceCache& cache_;
  ExecutorSegments& segments_;
  bool avoids_copies_ = false;
};

}  // namespace kaas
