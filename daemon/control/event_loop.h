// Descriptors, timers and posted calls of one thread.
// Threads: all functions on the loop's thread, except post() and stop().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"

namespace kaas {

class EventLoop {
 public:
  static Result<std::unique_ptr<EventLoop>> create();

  // Calls back when `descriptor` is readable or hung up, level-triggered, until unwatch().
  Result<void> watch(int descriptor, std::function<void()> readable);
  void unwatch(int descriptor);

  // Calls back once, `delay_ns` from now. Returns the timer's number.
  std::uint64_t after(std::uint64_t delay_ns, std::function<void()> call);
  void cancel(std::uint64_t timer);

  // Any thread: calls back on the loop's thread.
  void post(std::function<void()> call);
  void stop() noexcept;

  void run();

 private:
  EventLoop() = default;
  void wake() const noexcept;
  void run_posted();
  int run_timers();

  struct Timer {
    std::uint64_t id;
    std::function<void()> call;
  };
  Descriptor epoll_;
  Descriptor wake_;  // An eventfd of this process alone.
  // A callback may unwatch any descriptor, its own included: shared, so that it outlives the call.
  std::unordered_map<int, std::shared_ptr<std::function<void()>>> watched_;
  std::multimap<std::uint64_t, Timer> timers_;  // By due time.
  std::uint64_t next_timer_ = 1;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // Guarded by mutex_.
};

}  // namespace kaas
