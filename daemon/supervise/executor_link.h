// kaasd's end of one executor process: its rings, its socket, and what it has been told so far.
// Mechanism only: who is sent what is decided in dispatch/, processes are started in process.h.
// Trust:   an executor is not trusted; its reports are verified FlatBuffers in private memory and
//          name only runs, plans and libraries that this link knows.
// Threads: dispatcher only, once constructed; destroyed by whoever owns it last.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "daemon/flow/device.h"
#include "daemon/flow/plan_instance.h"
#include "daemon/flow/segments.h"
#include "daemon/supervise/outbox.h"
#include "schema/ipc/doorbell.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/ring.h"
#include "schema/ipc/segment.h"

namespace kaas {

// The shared memory and sockets of one executor, as its process got the other ends.
struct ExecutorEndpoints {
  Mapping work;       // Read-write; kaasd is its only writer.
  Mapping report;     // Read-only.
  Mapping outbox;     // Read-only.
  Descriptor socket;  // SOCK_SEQPACKET, for AttachSegment.
  Doorbell doorbell;
  RingGeometry geometry;
};

struct ExecutorIdentity {
  std::uint32_t executor = 0;  // kaasd's number, never reused.
  std::uint32_t domain = 0;    // Trust domain.
  std::uint32_t place = 0;     // Of its device.
  std::string device;          // The device's id.
  int pid = 0;
};

// One run, ready to be encoded. Borrowed for the call.
struct RunMessage {
  std::uint64_t run = 0;
  const PlanInstance* plan = nullptr;
  std::uint32_t tenant = 0;
  std::span<const wire::Location> loads;
  std::span<const wire::Location> stores;
  std::span<const LiteralOverrideSpec> literals;
  std::span<const std::uint64_t> after;
  std::span<const std::uint32_t> wait_events;
  std::span<const std::uint32_t> record_events;
  std::span<const std::shared_ptr<const Segment>> segments;       // Read by the run.
  std::span<const std::shared_ptr<const Segment>> once_segments;  // Objects that it writes.
  std::uint64_t session = 0;
  std::uint64_t request = 0;
  bool profile = false;
  bool device_memory = false;
  bool background = false;
};

// What an AddLaneCall names besides the run.
struct LaneTerms {
  std::uint32_t lane = 0;
  std::uint32_t call = 0;
  std::uint32_t in_segment = 0;
  std::uint32_t out_segment = 0;
  std::uint32_t bell_segment = 0;
  bool starts = false;  // The executor does not know the lane yet.
};

// An object's bytes to be copied into memory of their own. Borrowed for the call.
struct ExportMessage {
  std::uint64_t number = 0;
  std::uint32_t segment = 0;  // What the memory is called from then on.
  wire::Location location;    // Of the bytes, as of a load.
  std::uint64_t bytes = 0;
  std::span<const std::shared_ptr<const Segment>> sources;  // What `location` lies in, if anything.
};

enum class PushOutcome {
  Sent,
  Full,      // The ring or the socket has no room now; nothing of the run was sent.
  Down,      // The executor has hung up.
  TooLarge,  // No message holds it, ever; too_large() says what and how large.
};

class ExecutorLink {
 public:
  ExecutorLink(ExecutorIdentity identity, ExecutorEndpoints endpoints);

  [[nodiscard]] const ExecutorIdentity& identity() const noexcept { return identity_; }
  [[nodiscard]] int doorbell_descriptor() const noexcept {
    return endpoints_.doorbell.descriptor();
  }
  [[nodiscard]] bool ready() const noexcept { return ready_; }

  // Sends a run, and before it whatever the executor has not yet: libraries, the plan, segments.
  // What precedes the run may have been sent when the outcome is Full; it is not sent again.
  PushOutcome push(const RunMessage& message);
  // The same for a call of a lane, which the run describes; a LaneCallAdded report follows.
  PushOutcome push_lane_call(const RunMessage& message, const LaneTerms& terms);
  // Sends only what precedes a run of the plan; its PlanLoaded report follows.
  PushOutcome push_plan(const PlanInstance& plan);

  // Asks for the bytes of a version that is on the device only: into `output`, an object's segment
  // that is attached for this once, or into the Fetched report if it is null.
  PushOutcome push_fetch(std::uint64_t version, std::uint64_t bytes, const SegmentRef& output);
  // ExportDone answers it.
  PushOutcome push_export(const ExportMessage& message);
  // The memory of an export that was reported well; the executor has it as `segment` now. Fails:
  // ProtocolViolation (the executor has not sent it), ResourceExhausted (kaasd has no descriptor
  // left for it).
  Result<Descriptor> take_exported(std::uint64_t number, std::uint32_t segment);

  // Why the last push was TooLarge.
  [[nodiscard]] const Status& too_large() const noexcept { return too_large_; }

  // The next report, verified. nullptr with `violation` false: none is waiting.
  // The report is valid until the next call.
  const wire::ReportItem* next_report(bool& violation);

  // Forgets on both sides. Best effort: what does not fit the ring now is sent by flush().
  void drop_plan(std::uint32_t plan);
  void drop_library(std::uint32_t library);
  // False: it has not got it. `acknowledge`: a SegmentDetached report follows.
  bool detach_segment(std::uint32_t segment, bool acknowledge = false);
  void drop_version(std::uint64_t version);
  // CountersReport answers it. While one is awaited no other is asked for.
  void ask_for_counters();
  void counters_have_come() noexcept { asked_for_counters_ = false; }
  // It has not read for so long that items for it had to be dropped: it must end.
  [[nodiscard]] bool is_overrun() const noexcept { return overrun_; }
  void remove_lane_call(std::uint32_t lane, std::uint32_t call);
  // From now on nothing is taken from any lane before the executor has seen to this. LaneEnded
  // answers it.
  void end_lane(std::uint32_t lane);
  // CancelDone answers it.
  void cancel_run(std::uint64_t run);
  // Sends what was held back and wakes the executor if it sleeps. Once a dispatcher step.
  void flush();

  // How many items its ring has had.
  [[nodiscard]] std::uint64_t items_sent() const noexcept { return writer_.written(); }

  void mark_ready() noexcept { ready_ = true; }
  [[nodiscard]] bool knows_plan(std::uint32_t plan) const { return plans_.count(plan) != 0; }
  [[nodiscard]] bool knows_library(std::uint32_t library) const {
    return libraries_.count(library) != 0;
  }
  // The executor could not load it: it is sent again when a run needs it.
  void forget_plan(std::uint32_t plan) { plans_.erase(plan); }
  void forget_library(std::uint32_t library) { libraries_.erase(library); }

  [[nodiscard]] Outbox& outbox() noexcept { return outbox_; }
  // Bytes that the executor wrote to a piece of the outbox. It may still write them: copy first.
  [[nodiscard]] std::span<const std::byte> outbox_bytes(std::uint64_t offset,
                                                        std::uint64_t bytes) const;

  // Sleep protocol of the dispatcher, as in ring.h.
  void announce() noexcept { announce_sleep(*own_.header); }
  void retract() noexcept { retract_sleep(*own_.header); }
  [[nodiscard]] bool waiting() const noexcept { return reader_.waiting(); }
  // Clears the doorbell; false: the executor has hung up.
  [[nodiscard]] bool clear_doorbell() const { return endpoints_.doorbell.clear(); }

 private:
  [[nodiscard]] PushOutcome send(flatbuffers::FlatBufferBuilder& builder, const char* what);
  [[nodiscard]] PushOutcome attach(std::span<const std::shared_ptr<const Segment>> segments,
                                   bool once);
  [[nodiscard]] PushOutcome load_libraries(const PlanInstance& plan);
  [[nodiscard]] PushOutcome load_plan(const PlanInstance& plan);
  [[nodiscard]] PushOutcome precede(const RunMessage& message);
  [[nodiscard]] flatbuffers::Offset<wire::Run> encode_run(const RunMessage& message);
  void encode_lane_call(const RunMessage& message, const LaneTerms& terms);
  [[nodiscard]] PushOutcome send_run(const RunMessage& message);
  void send_or_hold(flatbuffers::FlatBufferBuilder& builder);
  bool drain_held();
  void send_dropped_versions();

  ExecutorIdentity identity_;
  ExecutorEndpoints endpoints_;
  RingView own_;
  RingView peer_;
  RingWriter writer_;
  RingReader reader_;
  MessageBuffer buffer_;
  flatbuffers::FlatBufferBuilder builder_;
  Outbox outbox_;
  bool ready_ = false;
  bool asked_for_counters_ = false;
  bool overrun_ = false;
  std::uint64_t woken_for_ = 0;  // Items written when the executor's sleep was last looked at.
  Status too_large_;
  std::uint64_t lanes_ended_ = 0;
  std::unordered_set<std::uint32_t> plans_;
  std::unordered_set<std::uint32_t> libraries_;
  std::unordered_set<std::uint32_t> segments_;
  std::deque<std::uint64_t> dropped_versions_;
  std::deque<std::vector<std::byte>> held_;  // Small control items that found the ring full.
};

// Encodes a plan for the wire. Exposed for tests.
flatbuffers::Offset<wire::LoadPlan> encode_plan(flatbuffers::FlatBufferBuilder& builder,
                                                const PlanInstance& plan);

}  // namespace kaas
