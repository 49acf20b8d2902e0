// Numbers that a peer wrote, and the one range check that everyone uses.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "schema/ipc/result.h"

namespace kaas {

// A number read once from memory that a peer can write. No arithmetic, no conversion: the only
// way out is a range check that names the field.
template <class T>
class Untrusted {
 public:
  explicit Untrusted(T raw) noexcept : raw_(raw) {}

  [[nodiscard]] Result<T> at_most(T limit, const char* what) const {
    if (raw_ <= limit) return raw_;
    return over_limit(StatusCode::InvalidArgument, what, raw_, limit);
  }

 private:
  T raw_;
};

// Whether [offset, offset + bytes) lies in an object of `size` bytes. Cannot overflow.
[[nodiscard]] constexpr bool range_fits(std::uint64_t offset, std::uint64_t bytes,
                                        std::uint64_t size) noexcept {
  return offset <= size && bytes <= size - offset;
}

// Whether two byte ranges share a byte. An empty range shares none. Cannot overflow for ranges
// that passed range_fits.
[[nodiscard]] constexpr bool ranges_overlap(std::uint64_t a_offset, std::uint64_t a_bytes,
                                            std::uint64_t b_offset,
                                            std::uint64_t b_bytes) noexcept {
  if (a_bytes == 0 || b_bytes == 0) return false;
  return a_offset < b_offset ? b_offset - a_offset < a_bytes : a_offset - b_offset < b_bytes;
}

// range_fits as a Result whose message names the range: "buffer 'x' range [8, 8 + 16) is outside
// 20 bytes". `what` is its name, or a function that makes it, called for the message only: a name
// that is put together for each request costs more than the check.
template <class What>
[[nodiscard]] Result<void> check_range(const What& what, std::uint64_t offset, std::uint64_t bytes,
                                       std::uint64_t size) {
  if (range_fits(offset, bytes, size)) return {};
  std::string name;
  if constexpr (std::is_invocable_v<const What&>) {
    name = what();
  } else {
    name = what;
  }
  return Status{StatusCode::InvalidArgument,
                name + " range [" + std::to_string(offset) + ", " + std::to_string(offset) + " + " +
                    std::to_string(bytes) + ") is outside " + std::to_string(size) + " bytes"};
}

}  // namespace kaas
