// One client process: its socket, rings, segments, prepared plans and what it has under way.
// Owner:   the dispatcher. Threads: dispatcher only, except `socket` (any thread may send).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/flow/run.h"
#include "daemon/flow/segments.h"
#include "daemon/flow/template.h"
#include "daemon/session/access_index.h"
#include "daemon/session/device_memory.h"
#include "daemon/session/session_ring.h"
#include "schema/ipc/handle.h"

namespace kaas {

// What an unsettled run is about to publish under a key of one ring.
struct PendingWrite {
  std::uint64_t run = 0;
  VersionRef version;  // Null for slices.
};

// All that unsettled runs of one ring are about to publish under a key, the latest apart: nearly
// always it is the only one.
struct PendingWrites {
  PendingWrite latest;
  std::vector<PendingWrite> earlier;  // In the order of their runs.
};

// The name of a key in RingState::pending.
[[nodiscard]] inline std::string pending_name(std::uint32_t namespace_uid, std::string_view key) {
  return std::to_string(namespace_uid) + "/" + std::string(key);
}

// A ring and what its operations have under way, in the order they were sent.
// How long a put waits for a donated descriptor that it has overtaken, and how much of that the
// dispatcher stays awake for.
inline constexpr std::uint64_t kDonationWaitNs = 1'000'000'000;
inline constexpr std::uint64_t kDonationSpinNs = 200'000;

struct RingState {
  explicit RingState(std::uint32_t index, RingEndpoints endpoints)
      : ring(index, std::move(endpoints)) {}

  SessionRing ring;
  std::vector<Run*> runs;                                  // Unsettled; numbers ascend.
  std::unordered_map<std::string, PendingWrites> pending;  // By "uid/key".
  AccessIndex accesses;                                    // Of `runs`.
  // A message that can't be handled yet; the ring waits with it.
  std::uint64_t stalled_on = 0;        // A run's number.
  std::uint64_t stalled_token = 0;     // Or a put whose donated descriptor is still on its way ...
  std::uint64_t stalled_until_ns = 0;  // ... which is waited for until then.
  std::vector<std::byte> stalled_message;

  std::uint32_t lane = 0;  // That this ring has; 0: none.

  [[nodiscard]] bool stalled() const noexcept { return stalled_on != 0 || stalled_token != 0; }
};

struct PreparedPlan {
  CompiledRequest compiled;
  std::shared_ptr<PlanInstance> instance;
};

// A sealed memfd that came over the socket and waits for its Put.
struct Donation {
  Descriptor descriptor;
  std::uint64_t bytes = 0;
};

struct SessionCounters {
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;
  std::uint64_t puts = 0;
  std::uint64_t gets = 0;
};

struct Session {
  std::uint64_t id = 0;
  std::uint32_t uid = 0;
  std::uint32_t domain = 0;
  int pid = 0;
  std::string name;
  std::uint64_t connected_ns = 0;
  std::shared_ptr<const Descriptor> socket;  // Shared with the control thread, which reads it.
  std::vector<std::unique_ptr<RingState>> rings;
  std::unordered_map<std::uint32_t, SegmentRef> segments;
  DeviceMemoryTable device_memory;  // Those of `segments`, and what requests name by handle.
  std::unordered_map<std::uint32_t, PreparedPlan> plans;
  std::uint32_t next_plan = 1;
  std::unordered_map<std::uint64_t, Donation> donations;
  std::uint64_t next_token = 1;  // Of descriptors that kaasd sends.
  SessionCounters counters;
  std::size_t runs = 0;        // Under way.
  std::size_t work = 0;        // Of its messages, in this turn: dispatch/work.h.
  std::size_t first_ring = 0;  // Where its next turn begins.
};

}  // namespace kaas
