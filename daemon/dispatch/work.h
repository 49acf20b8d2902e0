// What messages and reports make kaasd do, so that nobody has more of it in a step than the others.
//
// A unit is about what it costs to bind one buffer of a request. Each session may have
// kWorkPerTurn of its messages handled in a step, and goes on in the next one; the message that
// goes beyond is the last. The same holds for what an executor reports, and for what is sent to the
// executors of a domain. Messages that make little work are limited by their number alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "schema/limits.h"

namespace kaas {

inline constexpr std::size_t kWorkPerTurn = 1024;

// Of one message or report; what it takes beyond this is counted.
inline constexpr std::size_t kUncountedWork = 16;

// To compile a buffer or a kernel.
inline constexpr std::size_t kPartWork = 4;

[[nodiscard]] constexpr std::size_t counted_work(std::size_t work) noexcept {
  return work > kUncountedWork ? work - kUncountedWork : 0;
}

// To copy and verify a message; to decode and compile the request in it.
[[nodiscard]] constexpr std::size_t work_of_reading(std::size_t bytes) noexcept {
  return bytes / 256;
}
[[nodiscard]] constexpr std::size_t work_of_compiling(std::size_t bytes) noexcept {
  return bytes / 32;
}
// To make an object, beside filling it: the memory of a large one comes from the system.
[[nodiscard]] constexpr std::size_t work_of_object(std::uint64_t bytes) noexcept {
  return bytes > kSlabObjectBytesMax ? 64 : 1;
}
[[nodiscard]] constexpr std::size_t work_of_copying(std::uint64_t bytes) noexcept {
  return bytes / 4096;
}
// To find what a request has to follow.
[[nodiscard]] constexpr std::size_t work_of_searching(std::size_t steps) noexcept {
  return steps / 32;
}

}  // namespace kaas
