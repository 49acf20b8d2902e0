// A lane: a ring pair between one thread of a client and an executor, for invocations that are
// always the same. kaasd grants it, reads it for the accounts, and ends it; it is on no request's
// way.
//
//   lane in  (client writes; executor and kaasd read)     slots of LaneInvoke
//   lane out (executor writes; client and kaasd read)     slots of LaneAnswer
//
// Both are rings of ring.h with its sleep protocol; a message is the struct itself, no FlatBuffer.
// A client that finds its executor asleep, after it has published a slot, rings the lane's bell: a
// Doorbell of which it has one end and the executor the other. kaasd makes it, with the segments.
//
// Life of a lane, with who moves it:
//
//   asked for --kaasd: bound as an invocation is, sent to the executor--> added
//   added --executor: LaneCallAdded--> granted: kaasd seals `lane out`, sends all to the client
//   granted --kaasd: EndLane, or the executor: a violation--> ending: nothing more is taken
//   ending --executor: all that was taken is answered, LaneEnded--> ended
//   ended --kaasd: tells the client on the socket, then in RingHeader::lanes_ended--> forgotten
//
// Order: a client has operations under way in its ring or in its lane, never in both.
// Revocation: kaasd counts in the work segment's lanes_ended how many lanes it has asked to end
// before it does what needs that, such as publishing a key that the lane reads. An executor takes
// nothing from any lane while it has not seen to all of these: it reads a slot first, and the count
// then.
// Trust:   an executor reads each slot once; `call` must be one of the lane's, nothing else in a
// slot means anything to it. A bell that is rung kLaneRingsInVainMax times in a row without an
// invocation that could be taken ends the lane.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "schema/ipc/ring.h"

namespace kaas {

struct LaneInvoke {
  std::uint64_t id;    // The client's number; comes back in the answer.
  std::uint32_t call;  // Of the grant.
  std::uint32_t reserved;
};
static_assert(sizeof(LaneInvoke) == 16 && std::is_trivially_copyable_v<LaneInvoke>);

struct LaneAnswer {
  std::uint64_t id;
  std::uint32_t code;  // wire::StatusCode.
  std::uint32_t text_bytes;
  // Followed by that many bytes of text.
};
static_assert(sizeof(LaneAnswer) == 16 && std::is_trivially_copyable_v<LaneAnswer>);

inline constexpr std::size_t kLaneTextBytesMax = kSlotPayloadBytes - sizeof(LaneAnswer);
// A slot is one cache line to both sides: answers without text, and invocations.
inline constexpr RingGeometry kLaneGeometry{kLaneSlots, 2 * kSlotBytes};

// Reads a message of exactly this type. Null: it has another size.
template <class T>
bool read_lane_message(std::span<const std::byte> message, T& out) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  if (message.size() < sizeof out) return false;
  std::memcpy(&out, message.data(), sizeof out);
  return true;
}

template <class T>
std::span<const std::byte> lane_message(const T& message) noexcept {
  return std::as_bytes(std::span<const T, 1>(&message, 1));
}

}  // namespace kaas
