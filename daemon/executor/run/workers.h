// Threads that execute what would keep the main thread too long. TBB's, in an arena of their own,
// so that the kernels they run deal their blocks out to the same threads.
// Threads: enqueue() and take_finished() by the main thread; the rest is said at each function.
#pragma once

#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <atomic>
#include <cstdint>
#include <functional>

#include "daemon/executor/run/run_task.h"

namespace kaas {

class ExecutorWorkers {
 public:
  // `wake` is called by a worker that has finished something while the main thread sleeps.
  ExecutorWorkers(std::uint32_t threads, std::function<void()> wake);
  ~ExecutorWorkers() { drain(); }
  ExecutorWorkers(const ExecutorWorkers&) = delete;
  ExecutorWorkers& operator=(const ExecutorWorkers&) = delete;

  [[nodiscard]] std::uint32_t threads() const noexcept { return threads_; }

  // Executes task.body on a worker. The task must stay until take_finished() returns it.
  void enqueue(RunTask& task);
  // Waits until nothing is executing: a kernel that never ends keeps it for ever.
  void drain() noexcept;
  // Tasks that were executed since the last call, linked by next_finished, first finished first.
  RunTask* take_finished() noexcept;

  // The main thread is about to sleep; false: something has finished meanwhile, don't.
  bool announce_sleep() noexcept;
  void retract_sleep() noexcept { sleeping_.store(false, std::memory_order_relaxed); }

 private:
  void finished(RunTask& task) noexcept;

  std::uint32_t threads_;
  std::function<void()> wake_;
  tbb::global_control control_;
  tbb::task_arena arena_;
  std::atomic<RunTask*> finished_{nullptr};  // A stack; partners: finished(), take_finished().
  std::atomic<bool> sleeping_{false};        // Partners: announce_sleep(), finished().
  std::atomic<std::uint32_t> in_flight_{0};
};

}  // namespace kaas
