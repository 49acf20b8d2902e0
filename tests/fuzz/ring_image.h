// A ring segment as a fuzz input: its bytes from the first one, as many as there are.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "schema/ipc/ring.h"
#include "tools/sim/client.h"

namespace kaas {

// Overwrites the segment with the input; what the input does not reach stays as it is.
inline void overwrite(const RingView& view, const std::uint8_t* data, std::size_t size) {
  const std::size_t bytes = std::min(size, view.geometry.segment_bytes());
  if (bytes > 0) std::memcpy(static_cast<void*>(view.header), data, bytes);
}

// The segment's bytes up to the last that is not zero.
inline std::vector<std::byte> image_of(const RingView& view) {
  const auto* bytes = reinterpret_cast<const std::byte*>(view.header);
  std::size_t end = view.geometry.segment_bytes();
  while (end > 0 && bytes[end - 1] == std::byte{0}) --end;
  return {bytes, bytes + end};
}

}  // namespace kaas
