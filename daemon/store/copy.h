// Copying bytes into objects. Internal to daemon/store.
#pragma once

#include <boost/container/small_vector.hpp>
#include <cstddef>
#include <cstdint>
#include <span>

#include "daemon/store/store.h"
#include "schema/ipc/result.h"

namespace kaas {

[[nodiscard]] std::uint64_t bytes_of(const ByteSource& source) noexcept;

// Copies all of `source`, which is as long as `target`. InvalidArgument if a file ends early or
// cannot be read; `target` then holds some of it.
Result<void> copy_bytes(std::span<std::byte> target, const ByteSource& source);

struct ByteGap {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};
using ByteGaps = boost::container::small_vector<ByteGap, 4>;
// What the slices leave uncovered of an object, in order. All slices lie inside it.
[[nodiscard]] ByteGaps gaps_between(std::span<const OutputSlice> slices,
                                    std::uint64_t object_bytes);

}  // namespace kaas
