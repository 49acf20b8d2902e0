// Binding: a template's buffers meet the session's segments, the store, and the runs before it.
// Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/flow/bound.h"
#include "daemon/store/store.h"

namespace kaas {

// A buffer's place in this run: the template's, or what a binding put in its stead.
struct BufferPlace {
  const Place* place = nullptr;
  std::uint64_t offset = 0;
};

// A key as users write it: "name", or "@1000/name" in the namespace of uid 1000.
struct ScopedKey {
  uid_t namespace_uid = 0;
  std::string_view key;
};
Result<ScopedKey> parse_key(std::string_view key, uid_t own_uid);

// What earlier, unsettled runs of the same ring are about to do.
class RingHistory {
 public:
  virtual ~RingHistory() = default;

  struct PendingWrite {
    std::uint64_t run = 0;  // 0: none.
    VersionRef version;     // Null: known only when the run is settled (slices).
  };
  [[nodiscard]] virtual PendingWrite pending_write(uid_t namespace_uid,
                                                   std::string_view key) const = 0;
  // Appends the unsettled runs that a run with these accesses has to follow; some perhaps again.
  virtual void conflicts(std::span<const SegmentAccess> accesses,
                         std::vector<std::uint64_t>& runs) const = 0;
};

// The session's segments for allocations that buffers name by CUDA IPC handle.
class DeviceHandles {
 public:
  virtual ~DeviceHandles() = default;
  // ResourceExhausted: too many are open.
  virtual Result<SegmentRef> segment_of(const Place& place) = 0;
};

struct BindContext {
  Store& store;
  const RingHistory& history;
  uid_t uid = 0;                                                  // Of the session.
  const std::unordered_map<std::uint32_t, SegmentRef>& segments;  // Of the session.
  DeviceHandles& handles;                                         // Of the session.
  // Versions of the template's own inline inputs, made once and kept with the plan.
  std::vector<VersionRef>& inline_versions;
};

// `blocked_on` not 0: nothing was bound; bind again when that run is settled.
struct BindOutcome {
  std::uint64_t blocked_on = 0;
};

// Fills `bound`. Errors name the buffer, what was found and what is allowed; `bound` is then
// cleared and nothing stays leased.
Result<BindOutcome> bind_run(const PlanTemplate& plan, std::span<const BufferPlace> places,
                             const BindContext& context, BoundRun& bound);

}  // namespace kaas
