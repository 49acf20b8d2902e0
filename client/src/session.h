// One connection with kaasd: the handshake, the channels of its threads, and its shared memory.
// Owner:   the client, and whatever the client handed out: buffers, regions, plans.
// Threads: any.
#pragma once

#include <kaas/client.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "client/src/arena.h"
#include "client/src/channel.h"
#include "client/src/device_copy.h"
#include "client/src/link.h"

namespace kaas {
inline namespace v1 {

class ThreadRings;

class Session : public std::enable_shared_from_this<Session> {
 public:
  static Result<std::shared_ptr<Session>> connect(const ClientOptions& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Ends the session: operations under way end, later calls fail.
  void close();
  // The channel of the calling thread; made at its first call. One for this operation alone where
  // the thread's end has taken its own. Fails with Unavailable in a fork or at the end of the
  // session. Valid for this thread until it asks again, also if the session ends meanwhile.
  Result<std::shared_ptr<Channel>> channel();
  // A thread has ended: its channel serves the next one.
  void give_back(const Channel& channel) noexcept;

  Result<Buffer> allocate(std::uint64_t bytes);
  void free(const Buffer& buffer) noexcept;
  Result<Region> register_region(int descriptor, std::uint64_t bytes, bool writable);
  Result<Region> register_device_memory(const DeviceAllocation& memory);
  Result<Region> register_event(std::span<const std::byte> handle);
  // Takes what kaasd has exported.
  DeviceCopy adopt(ExportAnswer answer);
  void free(const Region& region) noexcept;
  // Offers a sealed memfd; returns the token for its Put.
  Result<std::uint64_t> donate(int descriptor, std::uint64_t bytes);

  // An administration call.
  template <class Fill>
  Result<ControlAnswer> call(Fill fill, std::span<const int> descriptors = {},
                             std::uint64_t timeout_ns = Link::kCallTimeoutNs) {
    if (forked()) return link_->forked_status();
    return link_->call(fill, descriptors, timeout_ns);
  }

  int event_fd() noexcept;
  std::size_t poll() noexcept;
  Result<void> alive() noexcept;

  // Wraps what was submitted for a future of type T.
  template <class T>
  static Future<T> future(Result<Pending*> pending) {
    if (pending.has_value()) return Future<T>(*pending);
    return Future<T>(std::move(pending).error());
  }
  // The record of a future.
  static Pending* record(const FutureBase& future) noexcept { return future.pending_; }
  // A plan that kaasd has given a number.
  static Plan plan(std::shared_ptr<const Plan::Impl> impl) { return Plan(std::move(impl)); }

  [[nodiscard]] bool forked() const noexcept { return link_->fork_guard().in_child(); }
  [[nodiscard]] const std::shared_ptr<Link>& link() const noexcept { return link_; }
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] std::uint64_t serial() const noexcept { return serial_; }
  [[nodiscard]] const std::string& daemon_version() const noexcept { return daemon_version_; }

 private:
  struct Slot {
    std::shared_ptr<Channel> channel;
    std::size_t threads = 0;
  };
  struct SharedArena {
    std::uint32_t segment = 0;
    Mapping mapping;
    Arena arena{0};
  };

  Session(std::shared_ptr<Link> link, const ClientOptions& options);
  Result<void> greet(const ClientOptions& options, std::uint64_t deadline_ns);
  Result<ChannelParts> open_ring(const wire::RingInfo& info,
                                 std::span<Descriptor> descriptors) const;
  Result<void> open_arena(const wire::SegmentInfo& info, int descriptor);
  Result<std::shared_ptr<Channel>> assign_channel(ThreadRings* rings);
  Result<void> add_channel(std::unique_lock<std::mutex>& lock);
  Result<ChannelParts> ask_for_channel();
  // InvalidArgument where only administration works.
  [[nodiscard]] Result<void> check_serves_requests() const;
  Result<void> add_arena(std::uint64_t bytes);
  std::optional<Buffer> allocate_locked(std::uint64_t bytes);
  void watch(Channel& channel) noexcept;

  const std::shared_ptr<Link> link_;
  const std::uint64_t serial_;  // Tells sessions of this process apart, dead ones included.
  const std::uint64_t spin_ns_;
  const std::uint32_t ring_slots_;
  const bool lanes_;
  const bool administration_only_;
  std::uint64_t id_ = 0;
  std::uint64_t epoch_ = 0;
  std::string daemon_version_;

  std::mutex channels_mutex_;  // Guards the next five. Before a channel's lock.
  std::vector<Slot> channels_;
  std::size_t opening_ = 0;  // That kaasd has been asked for.
  Descriptor epoll_;         // What event_fd() returns; none until then.
  Descriptor event_;         // In it: answers that another call has taken in.
  bool watching_daemon_ = false;

  std::mutex arenas_mutex_;  // Guards the next two.
  std::vector<SharedArena> arenas_;
  std::uint64_t arena_bytes_ = 0;  // Of the first one: what a further one has at least.
};

}  // namespace v1
}  // namespace kaas
