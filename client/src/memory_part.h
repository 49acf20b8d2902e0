// Memory of the session that a buffer is bound to: a part of a segment, whose size is known here.
// Threads: pure functions over values.
#pragma once

#include <kaas/client.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "schema/ipc/result.h"

namespace kaas {
inline namespace v1 {

struct MemoryPart {
  std::uint64_t offset = 0;  // In the segment.
  std::uint64_t bytes = 0;
  bool is_segment = false;  // All of it: kaasd knows its size, too.
};

[[nodiscard]] inline MemoryPart part_of(const Buffer& buffer) noexcept {
  return {buffer.offset(), buffer.size(), false};
}

// Nothing: an event, which has no bytes; kaasd says so.
[[nodiscard]] inline std::optional<MemoryPart> part_of(const Region& region) noexcept {
  if (region.size() == 0) return std::nullopt;
  return MemoryPart{0, region.size(), true};
}

// Where in the segment `offset` of a buffer's memory is. What overflows is beyond every segment.
[[nodiscard]] inline std::uint64_t position_in_segment(const Buffer& buffer,
                                                       std::uint64_t offset) noexcept {
  const std::uint64_t last = std::numeric_limits<std::uint64_t>::max() - buffer.offset();
  return buffer.offset() + (offset < last ? offset : last);
}

// Whether `size` bytes from `offset` of the segment on are in the memory; `buffer` is the name in
// the request. Fails: InvalidArgument.
[[nodiscard]] inline Result<void> check_inside(const MemoryPart& part, std::string_view buffer,
                                               std::uint64_t offset, std::uint64_t size) {
  const std::string what = "buffer '" + std::string(buffer) + "' offset ";
  if (offset < part.offset) {
    return Status{StatusCode::InvalidArgument, what + std::to_string(offset) +
                                                   " is before its memory, which begins at " +
                                                   std::to_string(part.offset) + " of its segment"};
  }
  const std::uint64_t inside = offset - part.offset;
  if (inside <= part.bytes && size <= part.bytes - inside) return {};
  return Status{StatusCode::InvalidArgument,
                what + std::to_string(inside) +
                    (size == 0 ? "" : " + size " + std::to_string(size)) + " exceeds the " +
                    std::to_string(part.bytes) + " bytes of its memory"};
}

}  // namespace v1
}  // namespace kaas
