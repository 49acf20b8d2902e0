// Keeps an executor for each trust domain on each device where one is wanted: starts it, restarts
// what died, reads what it prints. Places are as in flow/device.h.
// Threads: the control thread, in whose epoll its descriptors are.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/control/event_loop.h"
#include "daemon/control/log_book.h"
#include "daemon/dispatch/dispatcher.h"
#include "daemon/supervise/process.h"

namespace kaas {

class Supervisor {
 public:
  // `command` is the model for all executors; device, uid and epoch are filled in.
  // `joined` has the uids that share a domain with another one.
  Supervisor(ExecutorCommand command, std::vector<DeviceSpec> devices,
             std::vector<std::uint32_t> joined, EventLoop& events, Dispatcher& dispatcher,
             LogBook& log)
      : command_(std::move(command)),
        devices_(std::move(devices)),
        joined_(std::move(joined)),
        events_(events),
        dispatcher_(dispatcher),
        log_(log) {}
  ~Supervisor();

  // From now on the domain has an executor there. No-op if it has.
  void want(std::uint32_t domain, std::uint32_t place);
  void want_everywhere(std::uint32_t domain);
  // From now on it needs none. One that runs already is told to the dispatcher, who releases it.
  void unwant(std::uint32_t domain, std::uint32_t place);
  // The dispatcher has let go of the executor. Destroys the link, the last reference, so that the
  // process ends by itself; it is killed if it takes too long, and not restarted.
  void release(std::shared_ptr<ExecutorLink> link);
  // Ends an executor's process; it is restarted like any that died.
  void kill(std::uint32_t executor, const std::string& reason);
  // It has mapped its memory: nobody else may from now on.
  void ready(std::uint32_t executor);
  // Calls `gone` when the processes that were released from these places have ended.
  void when_gone(std::vector<std::uint32_t> places, std::function<void()> gone);

  struct State {
    bool is_wanted = false;
    std::uint32_t restarts = 0;         // After the first start, of those that ended by themselves.
    std::uint32_t failures_in_row = 0;  // Deaths before Ready.
    std::uint32_t executor = 0;         // 0: none now.
    bool is_ready = false;
    std::string last_cause;   // Of the last death.
    std::uint64_t retry = 0;  // Timer of the next start; 0: none.
  };
  using Key = std::pair<std::uint32_t, std::uint32_t>;  // Domain, place.
  [[nodiscard]] const std::map<Key, State>& states() const noexcept { return states_; }
  // "GPU-..., domain 1000".
  [[nodiscard]] std::string name_of(Key key) const;

 private:
  struct Child {
    Key key;
    ExecutorProcess process;
    std::string reason;          // Why we killed it; empty: we did not.
    bool is_released = false;    // Its end is what was asked for.
    std::uint64_t patience = 0;  // Timer that kills it when it was released; 0: none.
    std::string partial_line;    // Of its output.
    bool says_why = false;       // The last line is the executor's own, not a kernel's.
    std::string last_line;
  };
  struct Waiting {
    std::vector<std::uint32_t> places;
    std::function<void()> gone;
  };
  void start(Key key);
  void watch(std::uint32_t executor, std::unique_ptr<Child> child);
  void died(std::uint32_t executor);
  void failed(Key key, const Status& cause, bool is_final);
  void tell_waiting();
  [[nodiscard]] bool is_ending(const std::vector<std::uint32_t>& places) const;
  void read_output(Child& child);
  void print_line(Child& child, std::string_view line);

  ExecutorCommand command_;
  std::vector<DeviceSpec> devices_;
  std::vector<std::uint32_t> joined_;
  EventLoop& events_;
  Dispatcher& dispatcher_;
  LogBook& log_;
  std::map<Key, State> states_;
  std::map<std::uint32_t, std::unique_ptr<Child>> children_;
  std::vector<Waiting> waiting_;
  std::uint32_t next_executor_ = 1;
};

}  // namespace kaas
