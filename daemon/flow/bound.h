// A template bound to bytes for one run: what binding (plan stage) makes of a template, the
// session's segments and the store. Holds leases: while it lives, its inputs and segments do.
// Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/flow/segments.h"
#include "daemon/flow/template.h"
#include "daemon/store/object_version.h"

namespace kaas {

// Where one load of the template finds its bytes.
struct BoundLoad {
  VersionRef version;  // Store and inline buffers; may be Pending (then `producer` says whose).
  SegmentRef segment;  // Segment and IPC buffers.
  std::uint64_t offset = 0;     // In the object or segment.
  std::uint64_t available = 0;  // Bytes there from `offset`; less than the buffer if zero-filled.
  std::uint64_t producer = 0;   // Run number that makes a Pending version.
};

// Where one store of the template puts its bytes.
struct BoundStore {
  enum class Kind : std::uint8_t {
    Version,  // A whole new version of a key.
    Slice,    // Bytes [offset, offset + bytes) of a key; assembled when the run is settled.
    Segment,  // In place, in a segment of the session; device memory included.
    Inline,   // In the answer.
  };
  Kind kind = Kind::Version;
  std::uint16_t buffer = 0;  // Of the template.
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;  // In the object or segment.
  uid_t namespace_uid = 0;   // Version, Slice.
  std::string key;           // Version, Slice.
  VersionRef version;        // Version: Pending until settled. Slice: carries a large one.
  SegmentRef segment;        // Segment.
  bool on_device = false;    // Version, in flight: its bytes stay there.
};

// Bytes of a session segment that a run reads or writes: what orders runs of one ring.
struct SegmentAccess {
  std::uint32_t segment = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  bool writes = false;
};

struct BoundRun {
  std::vector<BoundLoad> loads;    // As PlanTemplate::loads.
  std::vector<BoundStore> stores;  // As PlanTemplate::stores.
  std::vector<SegmentAccess> accesses;
  std::vector<std::uint64_t> after;  // Run numbers of the same ring that must end first.
  bool idempotent = true;            // A second execution gives the same (template.h).
  bool device_memory = false;        // Reads or writes a client's device memory: runs once at most.
  std::vector<SegmentRef> events;    // Waited for, then recorded; a run with any runs once at most.

  void clear() {
    loads.clear();
    stores.clear();
    accesses.clear();
    after.clear();
    idempotent = true;
    device_memory = false;
    events.clear();
  }
};

}  // namespace kaas
