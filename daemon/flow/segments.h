// Memory that messages name by number: arenas, registered regions, slabs, large objects; and what
// has a number and no bytes for kaasd: device memory and events of clients, exported memory of
// executors, bells of lanes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/flow/closer.h"
#include "schema/ipc/handle.h"
#include "schema/kaas_generated.h"

namespace kaas {

enum class SegmentKind : std::uint8_t { Arena, Region, Slab, Object, Device, Event, Lane, Bell };

// How executors reach an allocation of a client's device memory. Passed on as it came: only they
// can tell whether it is true.
struct DeviceMemoryTerms {
  wire::DeviceMemoryKind kind = wire::DeviceMemoryKind::Legacy;
  std::vector<std::byte> handle;
  std::uint64_t bytes = 0;     // 0: not told; the executor knows when it has opened it.
  std::vector<std::byte> gpu;  // The GPU's UUID; empty: not told.
  std::string device;          // The same as a device's id, "GPU-<uuid>".
};

// Device memory that an executor made for a client. It stays as long as the client has it mapped,
// also when the executor is gone.
struct ExportTerms {
  std::uint32_t place = 0;             // Of the device, see flow/device.h.
  std::uint64_t allocation_bytes = 0;  // What it is charged with.
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
  std::optional<ExportTerms> exported;      // Device: made by kaasd's side, not the client's own.
  std::vector<std::byte> event;             // Event: its handle.
  // Its share of the byte budget; given back after the descriptor is closed. May be null.
  std::shared_ptr<const void> charge;
};

// Whoever holds one keeps the segment alive.
using SegmentRef = std::shared_ptr<const Segment>;

// A number that is kept for a segment that is not there yet. Move-only; gives the number up if no
// segment was made of it. Threads: any, one at a time.
class SegmentNumber {
 public:
  SegmentNumber() noexcept = default;
  SegmentNumber(SegmentNumber&& other) noexcept
      : give_up_(std::move(other.give_up_)), id_(std::exchange(other.id_, 0)) {}
  SegmentNumber& operator=(SegmentNumber&& other) noexcept {
    SegmentNumber dropped(std::move(other));
    std::swap(give_up_, dropped.give_up_);
    std::swap(id_, dropped.id_);
    return *this;
  }
  ~SegmentNumber() {
    if (id_ != 0) give_up_(id_);
  }
  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }

 private:
  friend class SegmentRegistry;
  std::function<void(std::uint32_t)> give_up_;
  std::uint32_t id_ = 0;
};

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
  // The same in two steps, for a segment whose number must be told before it can be made.
  [[nodiscard]] SegmentNumber reserve();
  [[nodiscard]] SegmentRef add(Segment segment, SegmentNumber number);

  // The living segment of that number; null when there is none.
  [[nodiscard]] SegmentRef find(std::uint32_t id) const;

  [[nodiscard]] std::size_t alive() const;

 private:
  struct State;
  SegmentRef adopt(std::unique_ptr<Segment> owned);
  std::shared_ptr<State> state_;
};

}  // namespace kaas
