// A lane as kaasd keeps it (schema/ipc/lane.h): what it was granted for, and what it holds.
// Owner: the dispatcher. Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/flow/bound.h"
#include "daemon/flow/plan_instance.h"
#include "daemon/flow/run.h"
#include "daemon/flow/segments.h"
#include "schema/ipc/doorbell.h"
#include "schema/ipc/lane.h"
#include "schema/ipc/segment.h"

namespace kaas {

// One invocation that the lane serves. Holds leases: its inputs and segments live as long.
struct LaneCall {
  std::shared_ptr<PlanInstance> plan;
  BoundRun bound;
  std::vector<LaneKey> keys;
};

struct Lane {
  std::uint32_t id = 0;
  std::uint64_t session = 0;  // It may be gone already.
  std::uint32_t uid = 0;      // Its user.
  std::uint32_t ring = 0;
  std::uint32_t executor = 0;
  SegmentRef in;
  SegmentRef out;
  SegmentRef bell;               // The executor's end.
  Descriptor client_in;          // Until it is granted, ...
  Doorbell client_bell;          // ... and the client's end of the bell.
  Mapping out_mapping;           // Read-only.
  bool announced = false;        // The executor knows it.
  bool granted = false;          // The client has its segments.
  std::optional<Status> reason;  // It is ending.
  std::uint32_t next_call = 1;
  std::size_t adding = 0;  // Calls that the executor has not answered for yet.
  std::map<std::uint32_t, LaneCall> calls;

  // The executor's words, as last seen. They are for the accounts, and to see what runs too long.
  std::uint64_t answered = 0;
  std::uint64_t oldest = 0;
  std::uint64_t busy_ns = 0;
  bool busy = false;                // Something was under way ...
  std::uint64_t busy_since_ns = 0;  // ... and the oldest of it, at the latest since then.
  std::uint64_t counted = 0;        // Of `answered`, what is in the accounts.
  std::uint64_t counted_ns = 0;     // When that was.

  [[nodiscard]] const RingHeader& out_header() const noexcept {
    return *RingView::at(out_mapping.data(), kLaneGeometry).header;
  }
};

}  // namespace kaas
