// Ends a session when kaasctl is interrupted, so that calls without a limit of their own return.
// Threads: one of its own, which waits for the interruption.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "tools/kaasctl/console.h"

namespace kaas {

// `client` and the daemon it is connected to are only looked at by the constructor. After an
// interruption all calls of the session fail with Cancelled: kaasd has ended it.
class SessionGuard {
 public:
  SessionGuard(const CommandLine& line, const Client& client);
  ~SessionGuard();
  SessionGuard(const SessionGuard&) = delete;
  SessionGuard& operator=(const SessionGuard&) = delete;

 private:
  void watch();

  CommandLine line_;  // Names the same daemon.
  std::uint64_t session_;
  std::mutex mutex_;
  std::condition_variable over_changed_;
  bool over_ = false;  // Guarded by mutex_.
  std::thread thread_;
};

}  // namespace kaas
