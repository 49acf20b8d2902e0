// One request on its way through kaasd, from binding to its answer.
// Owner: Runs (dispatch/runs.h). Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/flow/bound.h"
#include "daemon/flow/device.h"
#include "daemon/flow/plan_instance.h"
#include "daemon/flow/request.h"
#include "schema/ipc/result.h"

namespace kaas {

struct Session;

// Get, Stat and Export of a key that a run is about to publish: answered, or begun, when it is
// settled.
struct DeferredRead {
  std::uint64_t id = 0;
  std::string key;
  uid_t namespace_uid = 0;
  bool stat = false;
  std::optional<ExportSpec> exported = {};  // Export.
};

// A key of the user's own that a call of a lane reads, and the version that it was bound to.
struct LaneKey {
  std::string key;
  std::uint64_t version = 0;
};

// States, with who moves them:
//
//   Waiting --all it depends on is settled, or in flight on one device--> Queued (policy)
//   Queued --an executor has room--> InFlight
//   InFlight --RunDone--> settled, answered, gone
//   InFlight --executor died, replayable--> Waiting
//   any --session closed, cancelled, deadline--> answered or dropped
struct Run {
  enum class State : std::uint8_t { Waiting, Queued, InFlight };
  enum class Kind : std::uint8_t { Execute, Prepare, LaneCall };

  std::uint64_t number = 0;  // Never reused.
  Kind kind = Kind::Execute;
  State state = State::Waiting;
  bool answered = false;      // The client has its answer (deadline); the result is discarded.
  std::uint32_t strikes = 0;  // Executors that died with it in flight.
  // A later run that was in flight with it may have overwritten what it reads in place.
  bool input_is_lost = false;

  Session* session = nullptr;  // Null: closed; it finishes into nothing.
  std::uint32_t ring = 0;      // Index in the session.
  std::uint64_t id = 0;        // The client's number of the operation.
  std::uint32_t domain = 0;
  std::uint32_t uid = 0;
  std::uint64_t session_id = 0;  // For lists and logs, also after the session closed.

  std::shared_ptr<PlanInstance> plan;
  std::uint32_t prepared_plan = 0;  // Prepare: the session's number for the plan.
  std::uint32_t lane = 0;           // LaneCall: the lane that it was sent for, ...
  std::uint32_t lane_call = 0;      // ... and its number there.
  bool lane_is_stale = false;       // LaneCall: a segment that it uses was dropped.
  std::vector<LaneKey> lane_keys;   // LaneCall.
  BoundRun bound;
  RunOptions options;
  std::vector<LiteralOverrideSpec> literals;

  std::vector<Run*> depends_on;  // Unsettled; numbers ascend, here and in the next.
  std::vector<Run*> dependents;
  std::vector<DeferredRead> reads;
  // Those who asked for its cancellation and wait to hear whether it came in time.
  std::vector<std::function<void(const Result<void>&)>> cancels;

  std::uint32_t place = kAnyPlace;            // Queued: the only one it may go to, or any.
  std::uint32_t executor = 0;                 // InFlight: where. Else 0.
  std::vector<std::uint64_t> outbox_offsets;  // InFlight: per store; kNoOutbox: none.

  std::uint64_t accepted_ns = 0;  // When its message was taken.
  std::uint64_t decoded_ns = 0;   // These, only with options.profile.
  std::uint64_t started_ns = 0;   // InFlight, when there is a limit on running time.
  std::uint64_t planned_ns = 0;
  std::uint64_t sent_ns = 0;
  std::uint64_t reported_ns = 0;
};

inline constexpr std::uint64_t kNoOutbox = ~std::uint64_t{0};

// A lane's call is only told to the executor: what comes behind it comes behind those before it.
[[nodiscard]] inline bool touches_bytes(const Run& run) noexcept {
  return run.kind != Run::Kind::LaneCall;
}

}  // namespace kaas
