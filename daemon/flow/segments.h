// Memory that messages name by number: arenas, registered regions, slabs, large objects; and device
// memory and events of clients, which have no bytes for kaasd.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/flow/closer.h"
#include "schema/ipc/handle.h"
#include "schema/kaas_generated.h"

namespace kaas {

enum class SegmentKind : std::uint8_t { Arena, Region, Slab, Object, Device, Event, Lane };

// How executors reach an allocation of a client's device memory. Passed on as it came: only they
// can tell whether it is true.
struct DeviceMemoryTerms {
  wire::DeviceMemoryKind kind = wire::DeviceMemoryKind::Legacy;
  std::vector<std::byte> handle;
  std::uint64_t bytes = 0;     // 0: not told; the executor knows when it has opened it.
  std::vector<std::byte> gpu;  // The GPU's UUID; empty: not told.
  std::string device;          // The same as a device's id, "GPU-<uuid>".
};

// One segment. Never changes once it has its number, so all threads may read it.
struct Segment {
  std::uint32_t id = 0;   // The daemon's number for it; SegmentRegistry::add sets it.
  Descriptor descriptor;  // What executors, and clients of an object, are sent. Device memory of
                          // kind Legacy and events have none.
  std::uint64_t bytes = 0;
  SegmentKind kind = SegmentKind::Arena;
  bool guarded = false;       // Not sealed: may shrink. Copied by pread and pwrite, never mapped.
  bool writable = false;      // Executors may write it; else `descriptor` is read-only or sealed.
  uid_t owner_uid = 0;        // Whose bytes it holds. Only executors of that domain may map it,
                              // unless it is an Object: its readers were checked one by one.
  std::uint64_t session = 0;  // Arena, Region, Device, Event: the session it belongs to.
  std::optional<DeviceMemoryTerms> device;  // Device.
  std::vector<std::byte> event;             // Event: its handle.
  // Its share of the byte budget; given back after the descriptor is closed. May be null.
  std::shared_ptr<const void> charge;
};

// Whoever holds one keeps the segment alive.
using SegmentRef = std::shared_ptr<const Segment>;

// Gives out segment numbers and tells when a segment's last holder let go.
// Owns:    nothing but numbers; holders own the segments, which may outlive the registry.
// Threads: all functions from any thread.
class SegmentRegistry {
 public:
  // `released(id)` is called once for each segment, after its last SegmentRef is gone and its
  // descriptor closed or handed to the closer, on the thread that let go. Executors may still have
  // it attached then: the dispatcher sends them DetachSegment. It must be safe on any thread, must
  // not throw and must not wait for a thread that may hold a segment. May be empty.
  using Released = std::function<void(std::uint32_t id)>;

  // Descriptors of large segments are closed by `closer`, which must outlive all segments; null:
  // by whoever lets go, like the others.
  explicit SegmentRegistry(Released released, Closer* closer = nullptr);
  ~SegmentRegistry();
  SegmentRegistry(const SegmentRegistry&) = delete;
  SegmentRegistry& operator=(const SegmentRegistry&) = delete;

  // Takes the segment and numbers it, from kFirstSegment up. A number comes again only after all
  // 2^32 others went by, and never while its segment is alive.
  [[nodiscard]] SegmentRef add(Segment segment);

  // The living segment of that number; null when there is none.
  [[nodiscard]] SegmentRef find(std::uint32_t id) const;

  [[nodiscard]] std::size_t alive() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace kaas
