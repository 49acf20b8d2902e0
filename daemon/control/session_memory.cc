#include "daemon/control/session_memory.h"

#include <fcntl.h>

#include <bit>

#include "schema/ipc/messages.h"
#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

std::vector<std::byte> bytes_of(const flatbuffers::Vector<std::uint8_t>* from) {
  if (from == nullptr) return {};
  const auto* begin = reinterpret_cast<const std::byte*>(from->data());
  return {begin, begin + from->size()};
}

}  // namespace

Result<RingMemory> make_ring(ByteBudget& budget, std::uint32_t slots, std::uint64_t epoch) {
  if (slots == 0) slots = kRingSlotsDefault;
  if (!std::has_single_bit(slots) || slots < kRingSlotsMin || slots > kRingSlotsMax) {
    return Status{StatusCode::InvalidArgument,
                  "ring_slots is " + std::to_string(slots) + ", allowed: powers of two from " +
                      std::to_string(kRingSlotsMin) + " to " + std::to_string(kRingSlotsMax)};
  }
  const RingGeometry geometry{slots, kRingHeapBytes};
  const std::size_t bytes = geometry.segment_bytes();
  RingMemory ring;
  KAAS_ASSIGN_OR_RETURN(Reservation reservation, budget.reserve(2 * bytes, "ring"));
  ring.endpoints.charge = std::make_shared<Reservation>(std::move(reservation));
  KAAS_ASSIGN_OR_RETURN(ring.submit, create_segment("kaas-submit", bytes));
  {
    KAAS_ASSIGN_OR_RETURN(
        const Mapping writable,
        Mapping::create(ring.submit.get(), bytes, Mapping::Mode::ReadWrite, "a submit ring"));
    RingView::at(writable.data(), geometry).initialise(epoch);
  }
  KAAS_RETURN_IF_ERROR(add_seals(ring.submit.get(), Seals::Seal));
  KAAS_ASSIGN_OR_RETURN(
      ring.endpoints.submit_mapping,
      Mapping::create(ring.submit.get(), bytes, Mapping::Mode::ReadOnly, "a submit ring"));
  KAAS_ASSIGN_OR_RETURN(const Descriptor completion, create_segment("kaas-completion", bytes));
  KAAS_ASSIGN_OR_RETURN(
      ring.endpoints.completion_mapping,
      Mapping::create(completion.get(), bytes, Mapping::Mode::ReadWrite, "a completion ring"));
  ring.endpoints.submit = RingView::at(ring.endpoints.submit_mapping.data(), geometry);
  ring.endpoints.completion = RingView::at(ring.endpoints.completion_mapping.data(), geometry);
  ring.endpoints.completion.initialise(epoch);
  KAAS_RETURN_IF_ERROR(add_seals(completion.get(), Seals::FutureWrite | Seals::Seal));
  KAAS_ASSIGN_OR_RETURN(ring.completion, reopen_read_only(completion.get()));
  auto doorbell = Doorbell::create_pair();
  if (!doorbell) {
    return Status{StatusCode::ResourceExhausted, "no descriptors are left for a doorbell"};
  }
  ring.endpoints.doorbell = std::move(doorbell->first);
  ring.client_doorbell = doorbell->second.release();
  return ring;
}

Result<ArenaPool::Blank> ArenaPool::make(std::uint64_t bytes, bool touch) {
  KAAS_ASSIGN_OR_RETURN(Reservation reservation, budget_.reserve(bytes, "arena"));
  KAAS_ASSIGN_OR_RETURN(Descriptor descriptor, create_segment("kaas-arena", bytes));
  KAAS_RETURN_IF_ERROR(add_seals(descriptor.get(), Seals::Seal));
  // The pages are there before the first client needs them, or the pool says that they are not.
  if (touch && ::fallocate(descriptor.get(), 0, 0, static_cast<off_t>(bytes)) == 0) {
    reservation.mark_touched();
  }
  return Blank{std::move(descriptor), std::make_shared<Reservation>(std::move(reservation))};
}

Result<Segment> ArenaPool::take(std::uint64_t bytes, std::uint32_t uid, std::uint64_t session) {
  // Before it is rounded up: a size near 2^64 would become none.
  if (bytes > kSegmentBytesMax) {
    return over_limit(StatusCode::InvalidArgument, "arena_bytes", bytes, kSegmentBytesMax);
  }
  Segment segment;
  segment.bytes = bytes == 0 ? arena_bytes_ : (bytes + 4095) & ~std::uint64_t{4095};
  segment.kind = SegmentKind::Arena;
  segment.writable = true;
  segment.owner_uid = uid;
  segment.session = session;
  Blank blank;
  if (segment.bytes == arena_bytes_ && !ready_.empty()) {
    blank = std::move(ready_.front());
    ready_.pop_front();
  } else {
    KAAS_ASSIGN_OR_RETURN(blank, make(segment.bytes, false));
  }
  segment.descriptor = std::move(blank.descriptor);
  segment.charge = std::move(blank.charge);
  return segment;
}

bool ArenaPool::refill_one() {
  if (ready_.size() >= ready_max_) return false;
  auto blank = make(arena_bytes_, true);
  if (!blank.has_value()) return false;  // Clients make their own, or are refused with the numbers.
  ready_.push_back(*std::move(blank));
  return true;
}

Result<Segment> import_region(Descriptor descriptor, std::uint64_t bytes, bool writable,
                              std::uint32_t uid, std::uint64_t session) {
  if (bytes == 0 || bytes > kSegmentBytesMax) {
    return Status{StatusCode::InvalidArgument, "region bytes is " + std::to_string(bytes) +
                                                   ", allowed: 1 to " +
                                                   std::to_string(kSegmentBytesMax)};
  }
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t size, segment_bytes_of(descriptor.get(), "the region"));
  if (bytes > size) {
    return over_limit(StatusCode::InvalidArgument, "region bytes", bytes, size);
  }
  const int mode = ::fcntl(descriptor.get(), F_GETFL) & O_ACCMODE;
  if (mode == O_WRONLY || (writable && mode != O_RDWR)) {
    return Status{StatusCode::PermissionDenied,
                  writable ? "the region is to be written, its descriptor is not open for reading "
                             "and writing"
                           : "the region's descriptor is not open for reading"};
  }
  Segment segment;
  segment.bytes = bytes;
  segment.kind = SegmentKind::Region;
  segment.writable = writable;
  segment.owner_uid = uid;
  segment.session = session;
  // What can shrink is never mapped: pread and pwrite fail where a mapping would kill.
  const Seals seals = seals_of(descriptor.get());
  const bool fixed = has_seals(seals, Seals::Size);
  const bool frozen = has_seals(seals, Seals::Write) || has_seals(seals, Seals::FutureWrite);
  if (writable && frozen) {
    return Status{StatusCode::PermissionDenied, "the region is to be written, and is sealed"};
  }
  segment.guarded = !fixed;
  if (fixed && !writable) {
    KAAS_ASSIGN_OR_RETURN(segment.descriptor, reopen_read_only(descriptor.get()));
  } else {
    segment.descriptor = std::move(descriptor);
  }
  return segment;
}

Result<Segment> import_device_memory(const wire::DeviceMemory& memory, Descriptor descriptor,
                                     std::uint32_t uid, std::uint64_t session) {
  using Kind = wire::DeviceMemoryKind;
  const auto invalid = [](std::string text) {
    return Status{StatusCode::InvalidArgument, "device memory " + std::move(text)};
  };
  const Kind kind = memory.kind();
  if (kind > Kind::MAX) {
    return invalid("kind is " + std::to_string(static_cast<int>(kind)) + ", limit " +
                   std::to_string(static_cast<int>(Kind::MAX)));
  }
  const std::string name = wire::EnumNameDeviceMemoryKind(kind);
  const std::size_t handle_bytes = count(memory.handle());
  const bool has_name_only = kind == Kind::CuMem;
  if (has_name_only ? handle_bytes > kIpcHandleBytes : handle_bytes != kIpcHandleBytes) {
    return invalid("handle of kind " + name + " has " + std::to_string(handle_bytes) +
                   " bytes, allowed: " + (has_name_only ? "at most " : "") +
                   std::to_string(kIpcHandleBytes));
  }
  if (const std::size_t found = count(memory.gpu()); found != 0 && found != kGpuUuidBytes) {
    return invalid("gpu has " + std::to_string(found) + " bytes, a UUID has " +
                   std::to_string(kGpuUuidBytes));
  }
  if (memory.bytes() == 0 || memory.bytes() > kSegmentBytesMax) {
    return invalid("bytes is " + std::to_string(memory.bytes()) + ", allowed: 1 to " +
                   std::to_string(kSegmentBytesMax));
  }
  const bool wants_descriptor = kind != Kind::Legacy;
  if (wants_descriptor != static_cast<bool>(descriptor)) {
    return invalid("of kind " + name + " came with " + (descriptor ? "1" : "0") +
                   " descriptors, wanted is " + (wants_descriptor ? "1" : "none"));
  }
  DeviceMemoryTerms terms;
  terms.kind = kind;
  terms.bytes = memory.bytes();
  terms.handle = bytes_of(memory.handle());
  terms.gpu = bytes_of(memory.gpu());
  return device_segment(std::move(terms), std::move(descriptor), uid, session);
}

Result<Segment> import_event(const wire::RegisterEvent& event, std::uint32_t uid,
                             std::uint64_t session) {
  if (count(event.handle()) != kIpcHandleBytes) {
    return Status{StatusCode::InvalidArgument,
                  "an event's handle has " + std::to_string(count(event.handle())) +
                      " bytes, allowed: " + std::to_string(kIpcHandleBytes)};
  }
  Segment segment;
  segment.kind = SegmentKind::Event;
  segment.owner_uid = uid;
  segment.session = session;
  segment.event = bytes_of(event.handle());
  return segment;
}

}  // namespace kaas
