// The dispatcher's thread: steps it, spins for about a wake cost, then sleeps in epoll.
// Threads: run() on one thread, stop() from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "daemon/dispatch/dispatcher.h"
#include "schema/ipc/handle.h"
#include "schema/ipc/spin_budget.h"

namespace kaas {

// What the loop passes on to the control thread. Called on the dispatcher thread; must not block.
struct LoopEvents {
  std::function<void(std::uint32_t domain, std::uint32_t place)> want_executor;
  std::function<void(std::uint32_t domain, std::uint32_t place)> unwant_executor;
  std::function<void(std::shared_ptr<ExecutorLink> link)> release_executor;  // The last reference.
  std::function<void(std::uint32_t executor, const std::string& reason)> kill_executor;
  std::function<void(std::uint32_t executor)> executor_ready;
  std::function<void(std::uint64_t session, const Status& reason)> session_closed;
  std::function<void(StatusCode code, const std::string& line)> log;
};

class DispatcherLoop final : public DispatcherHost {
 public:
  // Spins about `spin_ns` after the last message before it sleeps, see spin_budget.h.
  static Result<std::unique_ptr<DispatcherLoop>> create(LoopEvents events, std::uint64_t spin_ns);

  // Steps `dispatcher` until stop().
  void run(Dispatcher& dispatcher);
  void stop() noexcept;
  // Ends a sleep. Any thread.
  void wake() const noexcept;

  [[nodiscard]] std::uint64_t now_ns() override;
  void want_executor(std::uint32_t domain, std::uint32_t place) override {
    events_.want_executor(domain, place);
  }
  void unwant_executor(std::uint32_t domain, std::uint32_t place) override {
    events_.unwant_executor(domain, place);
  }
  void release_executor(std::unique_ptr<ExecutorLink> link) override {
    events_.release_executor(std::move(link));
  }
  void kill_executor(std::uint32_t executor, const std::string& reason) override {
    events_.kill_executor(executor, reason);
  }
  void executor_ready(std::uint32_t executor) override { events_.executor_ready(executor); }
  void session_closed(std::uint64_t session, const Status& reason) override {
    events_.session_closed(session, reason);
  }
  void watch(int descriptor, std::uint64_t session, std::uint32_t executor) override;
  void unwatch(int descriptor) override;
  void log(StatusCode code, const std::string& line) override { events_.log(code, line); }

 private:
  DispatcherLoop(LoopEvents events, std::uint64_t spin_ns) noexcept
      : events_(std::move(events)), spin_(spin_ns) {}
  void sleep(Dispatcher& dispatcher);

  LoopEvents events_;
  SpinBudget spin_;
  Descriptor epoll_;
  Descriptor wake_;  // An eventfd of this process alone.
  std::atomic<bool> stopping_{false};
};

// What a futex wake of another thread costs here, in nanoseconds: how long it pays to spin first.
[[nodiscard]] std::uint64_t measure_wake_ns();

}  // namespace kaas
