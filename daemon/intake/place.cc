#include <limits>

#include "daemon/flow/text.h"
#include "daemon/intake/fields.h"

namespace kaas {
namespace {

// Fields of another kind of place are a mistake that would otherwise pass unseen.
Result<void> check_alone(bool given, const char* field, wire::Where where) {
  if (!given) return {};
  return invalid(std::string("is in ") + wire::EnumNameWhere(where) + " and gives " + field +
                 ", which that kind of place does not have");
}

Result<void> decode_handle(const wire::IpcHandle* ipc, Place& place) {
  if (ipc == nullptr) return invalid("is in Ipc and gives no handle");
  if (count(ipc->handle()) != kIpcHandleBytes) {
    return invalid("IPC handle has " + std::to_string(count(ipc->handle())) + " bytes, must have " +
                   std::to_string(kIpcHandleBytes));
  }
  place.ipc_handle = to_bytes(ipc->handle());
  place.ipc_base_offset = ipc->base_offset();
  place.ipc_base_bytes = ipc->base_bytes();
  if (place.ipc_base_bytes > kSegmentBytesMax) {
    return invalid("IPC base_bytes is " + std::to_string(place.ipc_base_bytes) + ", limit " +
                   std::to_string(kSegmentBytesMax));
  }
  return {};
}

Result<void> decode_part(const wire::SegmentRange* part, Place& place) {
  if (part == nullptr) return {};
  constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();
  if (part->bytes() > kLast - part->offset()) {
    return invalid("part of the segment has offset " + std::to_string(part->offset()) +
                   " + bytes " + std::to_string(part->bytes()) + ", limit " +
                   std::to_string(kLast));
  }
  place.part_offset = part->offset();
  place.part_end = part->offset() + part->bytes();
  return {};
}

}  // namespace

template <class Named>
Result<Place> decode_place(const Named& wire) {
  using wire::Where;
  Place place;
  place.where = wire.where();
  if (place.where > Where::MAX) {
    return invalid("has place " + std::to_string(static_cast<int>(place.where)) + ", limit " +
                   std::to_string(static_cast<int>(Where::MAX)));
  }
  const Where where = place.where;
  KAAS_RETURN_IF_ERROR(
      check_alone(where != Where::Segment && wire.segment() != 0, "a segment", where));
  KAAS_RETURN_IF_ERROR(
      check_alone(where != Where::Segment && wire.part() != nullptr, "a part of a segment", where));
  KAAS_RETURN_IF_ERROR(
      check_alone(where != Where::Inline && count(wire.data()) > 0, "inline data", where));
  KAAS_RETURN_IF_ERROR(
      check_alone(where != Where::Ipc && wire.ipc() != nullptr, "an IPC handle", where));
  KAAS_RETURN_IF_ERROR(
      check_alone(where == Where::Inline && wire.key() != nullptr, "a key", where));
  if (wire.key() != nullptr) {
    KAAS_ASSIGN_OR_RETURN(place.key, decode_name(wire.key(), "key", kKeyBytesMax));
  }
  if (where == Where::Segment && wire.segment() == 0) {
    return invalid("is in Segment and gives no segment");
  }
  place.segment = wire.segment();
  KAAS_RETURN_IF_ERROR(decode_part(wire.part(), place));
  if (where == Where::Inline) {
    KAAS_RETURN_IF_ERROR(check_count("inline data bytes", count(wire.data()), kInlineBytesMax));
    place.data = to_bytes(wire.data());
  }
  if (where == Where::Ipc) KAAS_RETURN_IF_ERROR(decode_handle(wire.ipc(), place));
  return place;
}

template Result<Place> decode_place(const wire::Buffer&);
template Result<Place> decode_place(const wire::Binding&);

}  // namespace kaas
