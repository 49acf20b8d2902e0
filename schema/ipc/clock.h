// The one clock: CLOCK_MONOTONIC in nanoseconds, the same for every process of the machine.
#pragma once

#include <time.h>

#include <cstdint>

namespace kaas {

[[nodiscard]] inline std::uint64_t now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace kaas
