// What administrators and users are told, as JSON text; and who may know and do what.
// Threads: the functions that take a Dispatcher run on its thread.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "daemon/control/log_book.h"
#include "daemon/dispatch/dispatcher.h"

namespace kaas {

// Who asks. The operator (uid 0, or the daemon's own uid) sees and does everything; others see
// and touch what is of their own uid.
struct Caller {
  std::uint32_t uid = 0;
  std::uint32_t domain = 0;
  bool is_operator = false;
  [[nodiscard]] bool may_see(std::uint32_t other) const noexcept {
    return is_operator || other == uid;
  }
  [[nodiscard]] bool may_see_domain(std::uint32_t other) const noexcept {
    return is_operator || other == domain;
  }
};

// What the control thread knows of a domain's executor on a device.
struct ExecutorFacts {
  std::uint32_t restarts = 0;
  std::string failure;  // Why none can be started; empty: it can.
};

// What the control thread adds to the status.
struct DaemonFacts {
  std::string version;
  std::uint64_t epoch = 0;
  std::string socket;
  std::uint64_t started_ns = 0;
  std::size_t arenas_ready = 0;
  std::string health;  // "ok", "starting", "degraded".
  std::string health_reason;
  std::map<std::pair<std::uint32_t, std::uint32_t>, ExecutorFacts> executors;  // Domain, place.
  std::string config_json;
};

std::string status_json(Dispatcher& dispatcher, ByteBudget& budget, const DaemonFacts& facts,
                        const Caller& caller);
std::string clients_json(Dispatcher& dispatcher, const Caller& caller, std::uint64_t now_ns);
std::string functions_json(Dispatcher& dispatcher, const Caller& caller);
std::string libraries_json(Dispatcher& dispatcher, const Caller& caller);
std::string logs_json(const LogBook& log, const Caller& caller, std::uint64_t after,
                      std::size_t limit);
std::string list_json(const ObjectList& list);

}  // namespace kaas
