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
  Descriptor client_in;          // Until it is granted.
  Mapping out_mapping;           // Read-only.
  bool announced = false;        // The executor knows it.
  bool granted = false;          // The client has its segments.
  std::optional<Status> reason;  // It is ending.
  std::uint32_t next_call = 1;
  std::size_t adding = 0;  // Calls that the executor has not answered for yet.
  std::map<std::uint32_t, LaneCall> calls;

  // As last seen in the executor's words, which are for the accounts only.
  std::uint64_t answered = 0;
  std::uint64_t busy_ns = 0;
  std::uint64_t progress_ns = 0;  // When `answered` last changed, or nothing was under way.

  [[nodiscard]] const RingHeader& out_header() const noexcept {
    return *RingView::at(out_mapping.data(), kLaneGeometry).header;
  }
};

}  // namespace kaas
