// One operation from its submission until someone has taken its answer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"

namespace kaas {
inline namespace v1 {

class BoundCall;
class Channel;

// What the operation does if its answer is lost with the daemon.
enum class Effect : std::uint8_t {
  Reads,    // Nothing: it can be repeated. Ends with Unavailable.
  Changes,  // It may have happened. Ends with UnknownOutcome.
};

// States, with who moves them, under the channel's lock:
//   Free --submit--> InFlight --answer or end of the session--> Answered --future--> Free
// A future that is destroyed before the answer leaves an InFlight record with wanted == false,
// which the answer frees.
// Threads: the channel's lock, except that an Answered record belongs to its future alone.
struct Pending {
  Channel* channel = nullptr;
  Pending* next_free = nullptr;
  std::uint64_t id = 0;
  std::uint64_t tag = 0;  // RunOptions::tag.
  Effect effect = Effect::Reads;
  bool wanted = false;
  bool answered = false;

  // Runs of a BoundPlan, and the question for its lane.
  std::shared_ptr<BoundCall> bound;
  bool opens_lane = false;
  bool on_lane = false;             // It went by the lane, not by the ring ...
  std::uint64_t lane_position = 0;  // ... as the so manieth.

  // The answer. `words` is a private copy of the verified message where it says more than this.
  StatusCode code = StatusCode::Ok;
  std::uint32_t plan = 0;
  std::uint64_t version = 0;
  std::uint64_t bytes = 0;
  std::vector<std::uint64_t> words;
  Descriptor descriptor;  // Of a large object.
  std::string failure;    // In place of an answer's message, where there was no answer.
};

}  // namespace v1
}  // namespace kaas
