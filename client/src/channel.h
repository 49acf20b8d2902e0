// One ring as the client uses it: submits operations, takes their answers in, waits for them.
//
// Whoever needs an answer takes in all that have arrived, in batches. Of several threads that wait
// on one channel, one leads: it alone reads the ring and sleeps on it; the others wait for its
// signal. While nobody leads, anyone with the lock may read.
// Owner:   its session, every future of it, and every thread that may be inside: the last one
//          destroys it.
// Threads: any, through its lock; with one thread a ring, as is usual, nobody contends for it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "client/src/bound_call.h"
#include "client/src/client_lane.h"
#include "client/src/link.h"
#include "client/src/pending.h"
#include "schema/ipc/doorbell.h"
#include "schema/ipc/ring.h"
#include "schema/ipc/segment.h"

namespace kaas {
inline namespace v1 {

inline constexpr std::uint64_t kNoDeadline = std::numeric_limits<std::uint64_t>::max();

// What a channel is made of.
struct ChannelParts {
  Mapping submit;      // Read-write; this process is its only writer.
  Mapping completion;  // Read-only.
  RingGeometry geometry;
  Doorbell doorbell;
  std::uint32_t ring = 0;
  std::uint64_t epoch = 0;
  std::uint64_t spin_ns = 0;
  bool lanes = true;  // Bound plans may ask for one.
};

enum class WhenFull { Wait, Fail };

class Channel : public std::enable_shared_from_this<Channel> {
 public:
  Channel(std::shared_ptr<Link> link, ChannelParts parts);
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Sends one operation. The record belongs to the caller until release(). Fails with
  // InvalidArgument when the message is too long for the ring, with ResourceExhausted when the
  // ring is full and `when_full` says so, with Unavailable when the session has ended.
  Result<Pending*> submit(EncodedSubmission message, Effect effect, std::uint64_t tag,
                          WhenFull when_full);
  // The same for a run of a bound plan: by the ring's lane if that serves it.
  Result<Pending*> submit(const std::shared_ptr<BoundCall>& bound, WhenFull when_full);
  // Whether the ring's lane serves it now.
  [[nodiscard]] bool serves(const BoundCall& bound);
  // Whether the answer is there; takes in what has arrived.
  bool ready(Pending& pending);
  // Waits for the answer until `deadline_ns`. False: it is not there yet.
  bool wait(Pending& pending, std::uint64_t deadline_ns);
  // The holder of the record no longer wants it.
  void release(Pending* pending);

  // Takes in what has arrived; returns how many answers. `rearm`: the next answer rings the
  // doorbell again.
  std::size_t poll(bool rearm);
  // From now on answers that others take in are shown on `event`, an eventfd of the session, and
  // the lane serves nobody. Waits for what is under way on it.
  void show_answers_on(int event);

  // The session has ended: operations under way end with it, and the session lets go.
  void close(const Status& reason);

  [[nodiscard]] int doorbell_descriptor() const noexcept { return parts_.doorbell.descriptor(); }
  [[nodiscard]] std::uint32_t ring() const noexcept { return parts_.ring; }
  [[nodiscard]] const std::shared_ptr<Link>& link() const noexcept { return link_; }
  [[nodiscard]] std::uint32_t message_bytes_max() const noexcept {
    return parts_.geometry.message_bytes_max();
  }

 private:
  using Lock = std::unique_lock<std::mutex>;

  template <class Done>
  bool wait_for(Lock& lock, Done done, std::uint64_t deadline_ns, std::uint64_t look_ns);
  template <class Done>
  void lead(Lock& lock, Done done, std::uint64_t deadline_ns, std::uint64_t look_ns);
  void sleep(Lock& lock, std::uint64_t slice_ns);
  void sleep_on_lane(Lock& lock, std::uint64_t slice_ns);

  // Whether answers are shown on the session's event: not by the one that polls.
  enum class Show { No, Yes };
  std::size_t take_in(Show show);
  std::size_t read_answers();
  bool take_answer(const wire::Answer& answer, std::span<const std::byte> message);
  void keep_answer(Pending& pending, const wire::Answer& answer,
                   std::span<const std::byte> message);
  void publish_and_wake(std::size_t count, bool freed_heap);
  void check_alive();
  void check_sometimes();
  void fail(const Status& reason);
  bool has_room(std::size_t bytes);
  void wake_daemon();
  Result<Pending*> submit_locked(Lock& lock, EncodedSubmission message, Effect effect,
                                 std::uint64_t tag, WhenFull when_full);

  // channel_lane.cc: the ring's lane. Operations are under way in the ring or in the lane, never in
  // both, so that their order stands.
  [[nodiscard]] bool is_served(const BoundCall& bound) const noexcept;
  Pending* try_lane(const std::shared_ptr<BoundCall>& bound);
  Result<void> leave_lane(Lock& lock, WhenFull when_full);
  void ask_for_lane(const std::shared_ptr<BoundCall>& bound);
  void take_grant(Pending& pending, const wire::Answer& answer);
  std::size_t read_lane();
  bool take_lane_answer(std::span<const std::byte> message);
  void end_lane_if_over();
  void send_again();
  [[nodiscard]] std::size_t in_ring() const noexcept { return in_flight_ - on_lane_; }

  Pending* claim(Effect effect, std::uint64_t tag);
  void recycle(Pending* pending);
  [[nodiscard]] std::uint64_t table_mask() const noexcept { return table_.size() - 1; }
  RingHeader& own() noexcept { return *submit_view_.header; }
  const RingHeader& peer() const noexcept { return *completion_view_.header; }

  const std::shared_ptr<Link> link_;
  ChannelParts parts_;
  RingView submit_view_;
  RingView completion_view_;

  std::mutex mutex_;             // Guards everything below.
  std::condition_variable led_;  // The leader has taken answers in, or leads no longer.
  RingWriter writer_;
  RingReader reader_;
  MessageBuffer buffer_;
  std::vector<Pending*> table_;  // In flight, at id modulo size.
  std::size_t in_flight_ = 0;    // In the ring and on the lane.
  std::unique_ptr<ClientLane> lane_;
  std::size_t on_lane_ = 0;     // Of in_flight_.
  std::deque<Pending*> again_;  // Were on a lane that ended; go by the ring when it has room.
  std::uint64_t next_id_ = 1;
  std::vector<std::unique_ptr<Pending[]>> chunks_;
  Pending* free_ = nullptr;
  std::optional<Status> failed_;
  std::uint64_t checked_ns_ = 0;   // When the daemon was last seen alive.
  std::size_t futures_ = 0;        // Records that someone wants.
  std::shared_ptr<Channel> self_;  // Keeps it for its futures when the session has let go.
  bool leading_ = false;
  std::size_t followers_ = 0;
  int event_ = -1;
};

}  // namespace v1
}  // namespace kaas
