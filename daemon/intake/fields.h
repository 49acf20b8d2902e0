// Checks of single fields that several messages share. Internal to intake. Threads: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/flow/field_limits.h"
#include "daemon/flow/request.h"
#include "daemon/intake/decode.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/result.h"
#include "schema/limits.h"

namespace kaas {

using StringVector = flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>;
using ByteVector = flatbuffers::Vector<std::uint8_t>;

[[nodiscard]] inline std::vector<std::byte> to_bytes(const ByteVector* bytes) {
  if (count(bytes) == 0) return {};
  const auto* begin = reinterpret_cast<const std::byte*>(bytes->data());
  return {begin, begin + bytes->size()};
}

[[nodiscard]] inline std::span<const std::byte> to_span(const ByteVector* bytes) {
  if (count(bytes) == 0) return {};
  return {reinterpret_cast<const std::byte*>(bytes->data()), bytes->size()};
}

// "literals: 65, limit 64".
[[nodiscard]] inline Result<void> check_count(std::string_view what, std::size_t found,
                                              std::size_t limit) {
  if (found <= limit) return {};
  return invalid(std::string(what) + ": " + std::to_string(found) + ", limit " +
                 std::to_string(limit));
}

[[nodiscard]] inline Result<void> check_buffer(std::size_t index, std::size_t buffer_count) {
  if (index < buffer_count) return {};
  return invalid("names buffer " + std::to_string(index) + ", request has " +
                 std::to_string(buffer_count) + " buffers");
}

// Each element of a message may be named many times, so its size does not bound their sum.
[[nodiscard]] inline Result<void> add_payload(std::size_t& total, std::size_t bytes) {
  total += bytes;
  return check_count("bytes of all raw literals and inline data", total, kPayloadBytesMax);
}

// The place that a wire Buffer or Binding names: only the fields that belong to its kind are given.
// A Store place may come back without a key. Defined for those two in place.cc.
template <class Named>
Result<Place> decode_place(const Named& wire);

}  // namespace kaas
