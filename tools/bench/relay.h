// The bare relay: what a null request is measured against.
//
//   this process            relay                  end
//   (as a client)           (as kaasd)             (as an executor)
//        | --- 256-byte slot ---> | --- 256-byte slot ---> |
//        | <-- 256-byte slot ---- | <-- 256-byte slot ---- |
//
// Three processes, the rings and doorbells of schema/ipc in memfds, and nothing else: no message
// format, no checks, no plans. They wait as the client library, kaasd and kaas-executor do: look,
// sched_yield, and after a budget sleep, in epoll on doorbells or (this process) in a futex.
//
// Owns:    both processes; they end with it, and when this process dies.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <memory>

#include "schema/ipc/result.h"

namespace kaas {

// How long each party looks for work before it sleeps.
struct RelayWaits {
  std::uint64_t client_spin_ns = 50'000;
  std::uint64_t daemon_spin_ns = 50'000;
};

class Relay {
 public:
  // Forks the two processes. Call it before this process has threads.
  static Result<Relay> start(const RelayWaits& waits);
  Relay(Relay&& other) noexcept;
  Relay& operator=(Relay&& other) noexcept;
  ~Relay();

  // Sends one slot and waits until it has come back. Unavailable: a process is gone.
  Result<void> round_trip();

 private:
  struct Impl;
  explicit Relay(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kaas
