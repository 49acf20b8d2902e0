// The session's socket as the client uses it: administration calls, and the descriptors that kaasd
// sends. It outlives the session for as long as a ring of it is in use.
// Threads: any. Lock order: a channel's lock before this one's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/src/fork_guard.h"
#include "schema/ipc/clock.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/socket.h"

namespace kaas {
inline namespace v1 {

// One verified answer on the socket, in memory of its own.
struct ControlAnswer {
  std::vector<std::uint64_t> words;  // Aligned for FlatBuffers.
  std::vector<Descriptor> descriptors;
  const wire::ControlReply* root = nullptr;  // In `words`.
};

class Link {
 public:
  static constexpr std::uint64_t kCallTimeoutNs = 30'000'000'000;
  static constexpr std::size_t kUnansweredMax = 64;

  // `path` is for messages.
  Link(Descriptor socket, std::string path);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Sends one request with copies of `descriptors` and waits for its answer. Fails with the code
  // of an answer that is not Ok, with Unavailable when the daemon has gone, with InvalidArgument
  // when a descriptor is none, and with DeadlineExceeded after `timeout_ns`. `fill` writes the
  // request's table into a builder and returns its offset.
  template <class Fill>
  Result<ControlAnswer> call(Fill fill, std::span<const int> descriptors = {},
                             std::uint64_t timeout_ns = kCallTimeoutNs) {
    const std::lock_guard lock(call_mutex_);
    const std::uint64_t id = build(fill);
    return exchange(id, finished(builder_), descriptors, timeout_ns);
  }
  // Sends one request whose answer is dropped. Does not wait for it, unless kUnansweredMax answers
  // are still to come: the socket has room for so many unread ones and for what kaasd says by
  // itself. Never fails: a session that has ended has forgotten what the request would change.
  template <class Fill>
  void post(Fill fill, std::span<const int> descriptors = {}) {
    const std::lock_guard lock(call_mutex_);
    const std::uint64_t id = build(fill);
    send_posted(id, finished(builder_), descriptors);
  }

  // Takes everything that has arrived; never blocks.
  void drain();
  // The descriptor that came with `token`; nothing if kaasd did not send it before its answer.
  std::optional<Descriptor> take_token(std::uint64_t token);

  // Why a lane has ended; what a session that does not know says.
  Status lane_reason(std::uint32_t lane);

  // Notices a hang-up. False: dead.
  bool check();
  [[nodiscard]] bool dead() const noexcept { return dead_.load(std::memory_order_acquire); }
  // Why, as the failure of an operation that was never sent.
  [[nodiscard]] Status reason();
  // Ends the session for both sides; the first reason is kept.
  void kill(Status reason);

  [[nodiscard]] int socket() const noexcept { return socket_.get(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] const ForkGuard& fork_guard() const noexcept { return fork_guard_; }
  [[nodiscard]] Status forked_status() const;

 private:
  SendOutcome send(std::span<const std::byte> message, std::span<const int> descriptors,
                   std::uint64_t deadline_ns);
  Result<ControlAnswer> exchange(std::uint64_t id, std::span<const std::byte> message,
                                 std::span<const int> descriptors, std::uint64_t timeout_ns);
  void send_posted(std::uint64_t id, std::span<const std::byte> message,
                   std::span<const int> descriptors);
  bool expect_posted();
  void drain_locked();
  void kill_locked(Status reason);
  void take_in(Received received);

  template <class Fill>
  std::uint64_t build(Fill& fill) {
    builder_.Clear();
    const auto table = fill(builder_);
    const std::uint64_t id = next_id_++;
    builder_.Finish(wire::CreateControlRequest(builder_, id, control_of(table), table.Union()));
    return id;
  }
  template <class Table>
  static constexpr wire::Control control_of(flatbuffers::Offset<Table>) noexcept {
    return wire::ControlTraits<Table>::enum_value;
  }

  const Descriptor socket_;
  const std::string path_;
  ForkGuard fork_guard_;
  std::atomic<bool> dead_{false};  // Partner: dead().

  std::mutex call_mutex_;  // One call at a time; guards builder_ and next_id_.
  flatbuffers::FlatBufferBuilder builder_{1024};
  std::uint64_t next_id_ = 1;

  std::mutex mutex_;  // Guards what follows. After call_mutex_.
  Status reason_;
  std::unique_ptr<std::uint64_t[]> buffer_;
  std::unordered_map<std::uint64_t, Descriptor> tokens_;
  std::unordered_map<std::uint32_t, Status> ended_lanes_;
  std::uint64_t awaited_id_ = 0;
  std::optional<ControlAnswer> answer_;
  std::size_t unanswered_ = 0;  // Requests whose answers are still to come and will be dropped.
};

}  // namespace v1
}  // namespace kaas
