// Waiting for what another process does, without sleeping longer than needed.
#pragma once

#include <poll.h>

#include <cstdint>
#include <utility>

#include "schema/ipc/clock.h"

namespace kaas {

// Whether `condition` becomes true within `timeout_ns`; looks every millisecond.
template <class Condition>
[[nodiscard]] bool eventually(Condition condition, std::uint64_t timeout_ns = 20'000'000'000) {
  const std::uint64_t end_ns = now_ns() + timeout_ns;
  for (;;) {
    if (condition()) return true;
    if (now_ns() >= end_ns) return false;
    ::poll(nullptr, 0, 1);
  }
}

}  // namespace kaas
