// One seed's world from its first client to its last byte: who acts next, what fails, and what must
// hold all the time and at the end.
// Threads: one.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace kaas {

struct SimulationOptions {
  std::uint64_t seed = 1;
  std::uint64_t steps = 1500;
  bool verbose = false;  // Prints every event.
  // Not null: once it is true, the turns end and the world is wound up. A signal handler may set
  // it.
  const std::atomic<bool>* stop = nullptr;
};

struct SimulationResult {
  std::string failure;  // Empty: everything held.
  std::uint64_t trace_hash = 0;
  std::uint64_t sent = 0;
  std::uint64_t ok = 0;
  std::uint64_t failed = 0;
  std::uint64_t lost = 0;      // Answers that say DataLost.
  std::uint64_t resident = 0;  // Objects that were seen to be on a device.
  std::uint64_t executor_deaths = 0;
  std::uint64_t suspensions = 0;
  std::uint64_t releases = 0;  // Executors that were let go.
  std::uint64_t sessions = 0;
  std::uint64_t lanes = 0;    // That were granted to honest clients.
  std::uint64_t by_lane = 0;  // Of those sent.
};

SimulationResult simulate(const SimulationOptions& options);

}  // namespace kaas
