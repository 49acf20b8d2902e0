// Keeps an executor for each trust domain that wants one: starts it, restarts what died, reads what
// it prints.
// Threads: the control thread, in whose epoll its descriptors are.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "daemon/control/event_loop.h"
#include "daemon/control/log_book.h"
#include "daemon/dispatch/dispatcher.h"
#include "daemon/supervise/process.h"

namespace kaas {

class Supervisor {
 public:
  // `command` is the model for all executors; uid and epoch are filled in.
  Supervisor(ExecutorCommand command, EventLoop& events, Dispatcher& dispatcher, LogBook& log)
      : command_(std::move(command)), events_(events), dispatcher_(dispatcher), log_(log) {}
  ~Supervisor();

  // From now on the domain has an executor. No-op if it has.
  void want(std::uint32_t domain);
  // Ends an executor's process; it is restarted like any that died.
  void kill(std::uint32_t executor, const std::string& reason);
  // It has mapped its memory: nobody else may from now on.
  void ready(std::uint32_t executor);

  struct DomainState {
    std::uint32_t restarts = 0;         // After the first start.
    std::uint32_t failures_in_row = 0;  // Deaths before Ready.
    std::uint32_t executor = 0;         // 0: none now.
    bool is_ready = false;
    std::string last_cause;   // Of the last death.
    std::uint64_t retry = 0;  // Timer of the next start; 0: none.
  };
  [[nodiscard]] const std::map<std::uint32_t, DomainState>& domains() const noexcept {
    return domains_;
  }

 private:
  struct Child {
    std::uint32_t domain = 0;
    ExecutorProcess process;
    std::string reason;        // Why we killed it; empty: we did not.
    std::string partial_line;  // Of its output.
  };
  void start(std::uint32_t domain);
  void died(std::uint32_t executor);
  void failed(std::uint32_t domain, const Status& cause);
  void read_output(Child& child);
  void print_line(const Child& child, std::string_view line);

  ExecutorCommand command_;
  EventLoop& events_;
  Dispatcher& dispatcher_;
  LogBook& log_;
  std::map<std::uint32_t, DomainState> domains_;
  std::map<std::uint32_t, std::unique_ptr<Child>> children_;
  std::uint32_t next_executor_ = 1;
};

}  // namespace kaas
