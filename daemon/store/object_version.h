// One immutable value of a key: what a put or a request's output made.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "daemon/flow/segments.h"
#include "daemon/store/slab.h"
#include "schema/ipc/result.h"
#include "schema/kaas_generated.h"

namespace kaas {

// Where bytes lie: [offset, offset + bytes) of a segment. Holding it keeps the segment, not the
// version: a slab's piece is used again when its version is gone, so hold that too.
struct BytesPlace {
  SegmentRef segment;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

struct StoreCore;  // What versions share with their store: slabs, accounts, the listener.
struct Account;    // The figures of one uid.

// States, with the Store functions that move them:
//   Pending --settle--> Ready       Pending --fail--> Failed
//   Pending --settle_on_device--> Resident --settle--> Ready
//                                 Resident --lose--> Lost
//   Ready, Resident --retract--> Failed, if it was never published
// Bytes never change once Ready or Resident. The memory is given back when the last VersionRef is
// gone, that of a Lost one at once.
// Threads: states are moved by the one thread that settles; all else from any thread.
class ObjectVersion {
 public:
  enum class State : std::uint8_t {
    Pending,
    Ready,
    Failed,
    Resident,  // Computed; its bytes are in the memory of one executor's device only.
    Lost       // They were, and that executor has ended.
  };

  // Never reused in this daemon's life. Executors cache device copies under it.
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  // The namespace that it is made for: whose slabs hold it, whose account it is charged to.
  [[nodiscard]] uid_t owner_uid() const noexcept { return owner_uid_; }
  [[nodiscard]] State state() const noexcept { return state_.load(std::memory_order_acquire); }
  // At most kSlabObjectBytesMax: a piece of a slab. Else a segment of its own.
  [[nodiscard]] bool is_small() const noexcept { return bytes_ <= kSlabObjectBytesMax; }

  // Small and Ready: the bytes in kaasd's own mapping, valid while the version is held. Else empty.
  [[nodiscard]] std::span<const std::byte> small_bytes() const noexcept;

  // Large and Ready: the whole object, its descriptor read-only: for clients, and for executors of
  // any uid that may read it. Else null.
  [[nodiscard]] SegmentRef segment() const noexcept;

  // Ready or Resident.
  [[nodiscard]] bool is_complete() const noexcept;
  // Where its bytes are, for people: the host if it is neither Resident nor Lost.
  [[nodiscard]] wire::ObjectPlace place() const noexcept;
  // Resident or Lost: the executor and the id of its device. Do not change.
  [[nodiscard]] std::uint32_t executor() const noexcept { return executor_; }
  [[nodiscard]] const std::string& device() const noexcept { return device_; }
  // Lost: DataLost, with the cause. It does not change.
  [[nodiscard]] const Status& loss() const noexcept { return loss_; }

  // Large, Pending or Resident: the segment that the executor writes (AttachSegment with `writable`
  // and `once`). Else null. Thread: the one that settles.
  [[nodiscard]] const SegmentRef& output_segment() const noexcept { return output_segment_; }

  ObjectVersion(const ObjectVersion&) = delete;
  ObjectVersion& operator=(const ObjectVersion&) = delete;
  ~ObjectVersion();

 private:
  friend class Store;
  ObjectVersion(std::shared_ptr<StoreCore> core, std::shared_ptr<Account> account, uid_t owner_uid,
                std::uint64_t bytes) noexcept;

  // Declared first: both outlive the pieces below.
  const std::shared_ptr<StoreCore> core_;
  const std::shared_ptr<Account> account_;
  const std::uint64_t id_;
  const std::uint64_t bytes_;
  const uid_t owner_uid_;
  std::atomic<State> state_{State::Pending};  // The Store releases; state() acquires.
  std::uint32_t executor_ = 0;                // Set before Resident.
  std::string device_;
  Status loss_;         // Set before Lost.
  SlabPiece piece_;     // Small.
  SegmentRef segment_;  // Large; given out only when Ready.
  SegmentRef output_segment_;
  std::shared_ptr<Reservation> charge_;  // Large; also held by the segments.

  std::mutex copies_mutex_;
  std::map<uid_t, SlabPiece> copies_;  // Small: for executors of other uids.
};

// Whoever holds one keeps the version's bytes. May outlive the Store, not its budget and registry.
using VersionRef = std::shared_ptr<ObjectVersion>;

}  // namespace kaas
