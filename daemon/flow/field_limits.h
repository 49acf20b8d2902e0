// Range checks of request fields. They say what is wrong with the field; `named` puts in front
// whose field it is, so that a request without faults costs no text. Numbers are checked when a
// request is decoded; what expressions give, and what a run binds anew, is checked by the same
// functions when it is known. Pure functions. Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/flow/request.h"
#include "schema/ipc/result.h"
#include "schema/limits.h"

namespace kaas {

inline constexpr std::array<std::uint32_t, 3> kGridLimits{kGridXMax, kGridYzMax, kGridYzMax};
inline constexpr std::array<std::uint32_t, 3> kBlockLimits{kBlockXyMax, kBlockXyMax, kBlockZMax};
inline constexpr std::array<const char*, 3> kGridFields{"grid.x", "grid.y", "grid.z"};
inline constexpr std::array<const char*, 3> kBlockFields{"block.x", "block.y", "block.z"};

[[nodiscard]] inline Status invalid(std::string message) {
  return Status{StatusCode::InvalidArgument, std::move(message)};
}

// The same result; an error is prefixed with what label() returns: "kernel 3 ('saxpy') grid.x ...".
template <class T, class Label>
[[nodiscard]] Result<T> named(Label label, Result<T> result) {
  if (result.has_value()) return result;
  Status status = std::move(result).error();
  status.message = label() + " " + status.message;
  return status;
}

// "grid.x is 0, allowed 1 to 2147483647".
[[nodiscard]] inline Result<void> check_between(std::string_view what, std::uint64_t found,
                                                std::uint64_t lowest, std::uint64_t highest) {
  if (found >= lowest && found <= highest) return {};
  return invalid(std::string(what) + " is " + std::to_string(found) + ", allowed " +
                 std::to_string(lowest) + " to " + std::to_string(highest));
}

// Each dimension is within kBlockLimits already.
[[nodiscard]] inline Result<void> check_block_threads(const std::array<std::uint64_t, 3>& block) {
  return check_between("block's number of threads", block[0] * block[1] * block[2], 1,
                       kBlockThreadsMax);
}

[[nodiscard]] inline Result<void> check_buffer_bytes(wire::Where where, std::uint64_t bytes) {
  if (where == wire::Where::Inline) return check_between("inline size", bytes, 1, kInlineBytesMax);
  return check_between("size", bytes, 1, kBufferBytesMax);
}

// What lies outside the part of its segment that the client means.
[[nodiscard]] inline Status outside_part(const Place& place, std::uint64_t offset,
                                         std::uint64_t bytes) {
  const std::string memory = "its memory in segment " + std::to_string(place.segment);
  if (offset < place.part_offset) {
    return invalid("offset " + std::to_string(offset) + " is before " + memory +
                   ", which begins at " + std::to_string(place.part_offset));
  }
  return invalid("offset " + std::to_string(offset - place.part_offset) + " + size " +
                 std::to_string(bytes) + " exceeds the " +
                 std::to_string(place.part_end - place.part_offset) + " bytes of " + memory);
}

// The last byte has a 64-bit address in its object, and is in the part of a segment that the client
// means. Whether the object is that large is for the store to say.
[[nodiscard]] inline Result<void> check_buffer_end(const Place& place, std::uint64_t offset,
                                                   std::uint64_t bytes) {
  const std::uint64_t base = place.where == wire::Where::Ipc ? place.ipc_base_offset : 0;
  constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();
  if (place.where == wire::Where::Inline && offset != 0) {
    return invalid("is inline and has offset " + std::to_string(offset) + ", allowed 0");
  }
  if (base <= kLast - offset && base + offset <= kLast - bytes) {
    const bool inside = offset >= place.part_offset && offset + bytes <= place.part_end;
    return inside ? Result<void>() : outside_part(place, offset, bytes);
  }
  return invalid("offset " + std::to_string(offset) + " + size " + std::to_string(bytes) +
                 (base > 0 ? " + base_offset " + std::to_string(base) : "") + " exceeds " +
                 std::to_string(kLast));
}

}  // namespace kaas
