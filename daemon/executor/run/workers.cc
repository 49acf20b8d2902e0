#include "daemon/executor/run/workers.h"

#include <exception>
#include <utility>

#include "schema/ipc/ring.h"

namespace kaas {
namespace {

// enqueue() may run out of memory; nothing else in it throws.
Result<void> try_enqueue(RunTask& task) noexcept {
  try {
    return enqueue(task);
  } catch (const std::exception& failure) {
    return Status{StatusCode::ResourceExhausted, std::string("executing: ") + failure.what()};
  }
}

// What the device was given before a failure still uses the run's memory, so it is awaited, too.
Result<void> execute(RunTask& task) noexcept {
  const Result<void> enqueued = try_enqueue(task);
  Result<void> done = task.body.stream->wait();
  if (!enqueued) return enqueued;
  return done ? collect(task) : std::move(done);
}

}  // namespace

ExecutorWorkers::ExecutorWorkers(std::uint32_t threads, std::function<void()> wake)
    : threads_(threads),
      wake_(std::move(wake)),
      // TBB counts the main thread, which never works in the arena.
      control_(tbb::global_control::max_allowed_parallelism, threads + 1),
      arena_(static_cast<int>(threads), 0) {}

void ExecutorWorkers::drain() noexcept {
  for (std::uint32_t left = in_flight_.load(); left != 0; left = in_flight_.load()) {
    in_flight_.wait(left);
  }
}

void ExecutorWorkers::enqueue(RunTask& task) {
  in_flight_.fetch_add(1, std::memory_order_relaxed);
  task.handed.store(true, std::memory_order_release);  // Partner: the load in the worker.
  arena_.enqueue([this, &task] {
    static_cast<void>(task.handed.load(std::memory_order_acquire));
    if (auto outcome = execute(task); !outcome) task.failure = std::move(outcome).error();
    finished(task);
  });
}

void ExecutorWorkers::finished(RunTask& task) noexcept {
  RunTask* head = finished_.load(std::memory_order_relaxed);
  do {
    task.next_finished = head;
  } while (!finished_.compare_exchange_weak(head, &task, std::memory_order_release,
                                            std::memory_order_relaxed));
  // The task may be gone from here on.
  full_fence();  // Partner: announce_sleep.
  if (sleeping_.load(std::memory_order_relaxed) && wake_) wake_();
  if (in_flight_.fetch_sub(1, std::memory_order_release) == 1) in_flight_.notify_all();
}

RunTask* ExecutorWorkers::take_finished() noexcept {
  if (finished_.load(std::memory_order_relaxed) == nullptr) return nullptr;
  RunTask* last_first = finished_.exchange(nullptr, std::memory_order_acquire);
  RunTask* first_first = nullptr;
  while (last_first != nullptr) {
    RunTask* next = std::exchange(last_first->next_finished, first_first);
    first_first = std::exchange(last_first, next);
  }
  return first_first;
}

bool ExecutorWorkers::announce_sleep() noexcept {
  sleeping_.store(true, std::memory_order_relaxed);
  full_fence();  // Partner: finished.
  if (finished_.load(std::memory_order_relaxed) == nullptr) return true;
  retract_sleep();
  return false;
}

}  // namespace kaas
