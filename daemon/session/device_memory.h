// The device memory that one session has named: one segment for each allocation, however often and
// in whichever way the client names it, so that bytes that overlap are seen to overlap.
//
// An allocation is known by kind and handle. A registered one stays until it was dropped as often
// as it was registered. One that a request names by its handle stays open for the next request: the
// kHandlesKeptPerSession latest of them, and those that are in use.
// Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>

#include "daemon/flow/segments.h"
#include "schema/ipc/result.h"

namespace kaas {

// A segment of device memory, without its number. A descriptor comes with all kinds but Legacy.
Segment device_segment(DeviceMemoryTerms terms, Descriptor descriptor, std::uint32_t uid,
                       std::uint64_t session);

class DeviceMemoryTable {
 public:
  // The segment of what device_segment() made. Fails: InvalidArgument (the allocation is known with
  // another size), ResourceExhausted (kSegmentsPerSessionMax are known).
  Result<SegmentRef> add_registered(Segment memory, SegmentRegistry& registry);
  // One registration less. True: it was the last; requests may not name the number any more.
  bool drop(std::uint32_t segment);

  // The segment of an allocation that a request names by its Legacy handle; `bytes` 0: not told.
  // Fails as add_registered.
  Result<SegmentRef> named(std::span<const std::byte> handle, std::uint64_t bytes,
                           std::uint32_t uid, std::uint64_t session, SegmentRegistry& registry);

  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

 private:
  struct Entry {
    SegmentRef segment;
    std::uint32_t registrations = 0;  // 0: named by its handle only.
    std::uint64_t used = 0;           // Which use was its last.
  };

  Result<void> make_room();

  // By kind and handle; what has no handle, by its number.
  std::unordered_map<std::string, Entry> entries_;
  std::uint64_t uses_ = 0;
};

}  // namespace kaas
