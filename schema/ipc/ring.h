// A single-producer single-consumer slot ring over two shared segments, header-only, usable alone.
//
// Two parties, A and B, share two segments. Each segment has exactly one writer, so the other may
// map it read-only and the writer can be the only process that may ever write it:
//
//   segment of A (A writes, B reads)          segment of B (B writes, A reads)
//   +--------------------------------+        +--------------------------------+
//   | RingHeader                     |        | RingHeader                     |
//   |   consumed   of B's slots      |        |   consumed   of A's slots      |
//   |   sleeping   A is about to     |        |   sleeping   B is about to     |
//   |   wake_word  B sleeps on it    |        |   wake_word  A sleeps on it    |
//   +--------------------------------+        +--------------------------------+
//   | slot 0 .. slot_count-1  A -> B |        | slot 0 .. slot_count-1  B -> A |
//   +--------------------------------+        +--------------------------------+
//   | heap: messages over 240 bytes  |        | heap                           |
//   +--------------------------------+        +--------------------------------+
//
// Slot p is at index p mod slot_count. Its states, in the only legal order:
//
//   Free --writer claims--> Writing --writer stores sequence = p + 1 (release)--> Ready
//   Ready --reader loads sequence (acquire), copies--> Read
//   Read --reader stores consumed (release)--> Free
//
// Trust: a reader takes nothing from the peer's segment but what it read once, bounded and copied.
// slot_count and heap_bytes in the header are for tools; each party uses the values of its own
// handshake. A sequence that can't be is a Violation: the caller ends the session.
// Threads: one RingWriter and one RingReader per ring and party, each used by one thread at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "schema/limits.h"

namespace kaas {

inline constexpr std::size_t kCacheLineBytes = 64;  // ABI constant, not std::hardware_*.
inline constexpr std::size_t kPairBytes = 128;      // Two lines: the adjacent-line prefetcher.
inline constexpr std::uint32_t kRingMagic = 0x5341'414bu;  // "KAAS"
inline constexpr std::uint32_t kInSlot = 0xffff'ffffu;     // Slot::heap_offset of a short message.
inline constexpr std::size_t kSlotPayloadBytes = kSlotBytes - 16;

// Store-load barrier. ThreadSanitizer does not model fences; there a seq_cst read-modify-write
// stands for it.
inline void full_fence() noexcept {
#if defined(__SANITIZE_THREAD__)
  static std::atomic<int> order{0};
  order.fetch_add(0, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

struct RingHeader {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint32_t slot_count;
  std::uint32_t heap_bytes;
  std::uint64_t epoch;  // Of the daemon's life.
  std::byte reserved_identity[104];
  // Partner: the peer's RingWriter::refresh (acquire).
  alignas(kPairBytes) std::atomic<std::uint64_t> consumed;
  // Odd: this side sleeps or is about to; another value at each sleep. Partner:
  // RingWriter::wake_due.
  alignas(kPairBytes) std::atomic<std::uint32_t> sleeping;
  // Futex on which the peer sleeps. Bumped by this side when it wakes the peer.
  alignas(kPairBytes) std::atomic<std::uint32_t> wake_word;
  // Not zero: this side has closed the ring; a StatusCode of the reason.
  alignas(kPairBytes) std::atomic<std::uint32_t> closed;
  // Not zero: this side sleeps in poll on its doorbell rather than on the peer's wake_word.
  std::atomic<std::uint32_t> sleeps_on_doorbell;
  // Lanes (lane.h). Each word is used in some segments only, and zero in the others.
  // kaasd's: in a completion segment the last lane of the ring that has ended; in a work segment
  // how many lanes kaasd has asked the executor to end.
  alignas(kPairBytes) std::atomic<std::uint64_t> lanes_ended;
  alignas(kPairBytes) std::byte reserved_lanes[kPairBytes];
  // A lane's out segment: what the executor has answered, the time that its runs took, and how many
  // invocations it had taken before the oldest that is not answered; all, if none is under way.
  alignas(kPairBytes) std::atomic<std::uint64_t> answered;
  std::atomic<std::uint64_t> busy_ns;
  std::atomic<std::uint64_t> oldest;
  std::byte reserved_tail[104];
};
static_assert(sizeof(RingHeader) == 1024);
static_assert(offsetof(RingHeader, consumed) == 128 && offsetof(RingHeader, sleeping) == 256);
static_assert(offsetof(RingHeader, wake_word) == 384 && offsetof(RingHeader, closed) == 512);
static_assert(offsetof(RingHeader, lanes_ended) == 640 && offsetof(RingHeader, answered) == 896);
static_assert(std::is_standard_layout_v<RingHeader>);

struct alignas(kCacheLineBytes) Slot {
  std::atomic<std::uint64_t> sequence;  // Position + 1 when Ready.
  std::uint32_t bytes;                  // Of the message.
  std::uint32_t heap_offset;            // kInSlot: the message is in `payload`.
  std::byte payload[kSlotPayloadBytes];
};
static_assert(sizeof(Slot) == kSlotBytes && offsetof(Slot, payload) == 16);
static_assert(std::is_standard_layout_v<Slot>);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

// Sizes of one ring. slot_count is a power of two; heap_bytes a multiple of 64.
struct RingGeometry {
  std::uint32_t slot_count = kRingSlotsDefault;
  std::uint32_t heap_bytes = kRingHeapBytes;

  [[nodiscard]] constexpr std::size_t segment_bytes() const noexcept {
    return sizeof(RingHeader) + std::size_t{slot_count} * kSlotBytes + heap_bytes;
  }
  [[nodiscard]] constexpr std::uint32_t message_bytes_max() const noexcept {
    return heap_bytes / 2;
  }
};

// Where the parts of a mapped ring segment are. Borrows the mapping.
struct RingView {
  RingHeader* header = nullptr;
  Slot* slots = nullptr;
  std::byte* heap = nullptr;
  RingGeometry geometry;

  // `memory` is at least geometry.segment_bytes(), aligned to 128. A read-only mapping may be
  // given: only const members of it are then used by the reading side.
  static RingView at(void* memory, RingGeometry geometry) noexcept {
    auto* bytes = static_cast<std::byte*>(memory);
    return {reinterpret_cast<RingHeader*>(bytes),
            reinterpret_cast<Slot*>(bytes + sizeof(RingHeader)),
            bytes + sizeof(RingHeader) + std::size_t{geometry.slot_count} * kSlotBytes, geometry};
  }
  // Fills the identity words. By the one that made the segment, before anyone else maps it.
  void initialise(std::uint64_t epoch) const noexcept {
    header->magic = kRingMagic;
    header->version = kProtocolVersion;
    header->slot_count = geometry.slot_count;
    header->heap_bytes = geometry.heap_bytes;
    header->epoch = epoch;
  }
};

// The sleeper's side of the wake-up protocol. The waker's is RingWriter::wake_due.
//
//   sleeper: announce (flag up, fence) -> look at the ring once more -> sleep -> retract
//   waker:   publish slots -> fence -> look at the flag -> wake
//
// Both fences are needed: tests/model shows that a wake is lost without either.
inline void announce_sleep(RingHeader& own) noexcept {
  own.sleeping.store(own.sleeping.load(std::memory_order_relaxed) | 1u, std::memory_order_relaxed);
  full_fence();
}
inline void retract_sleep(RingHeader& own) noexcept {
  const std::uint32_t value = own.sleeping.load(std::memory_order_relaxed);
  if ((value & 1u) != 0) own.sleeping.store(value + 1, std::memory_order_release);
}

// Writes messages into this party's segment.
class RingWriter {
 public:
  RingWriter() = default;
  // `own` is this party's segment, `peer` the other's (only its header is read).
  RingWriter(RingView own, const RingHeader* peer)
      : own_(own), peer_(peer), heap_ends_(own.geometry.slot_count, 0) {}

  // Whether a message of `bytes` can be written now. False also when the peer's counter is wrong.
  [[nodiscard]] bool can_write(std::size_t bytes) noexcept {
    if (bytes > own_.geometry.message_bytes_max()) return false;
    if (room(bytes)) return true;
    refresh();
    return room(bytes);
  }

  // Copies one message into the next slot and makes it Ready. Returns false, having done nothing,
  // when there is no room. `bytes` <= geometry.message_bytes_max().
  [[nodiscard]] bool try_write(std::span<const std::byte> message) noexcept {
    if (!can_write(message.size())) return false;
    Slot& slot = own_.slots[position_ & mask()];
    slot.bytes = static_cast<std::uint32_t>(message.size());
    if (message.size() <= kSlotPayloadBytes) {
      slot.heap_offset = kInSlot;
      // An empty message has no address.
      if (!message.empty()) std::memcpy(slot.payload, message.data(), message.size());
    } else {
      heap_cursor_ = heap_start(message.size());
      slot.heap_offset = static_cast<std::uint32_t>(heap_cursor_ % own_.geometry.heap_bytes);
      std::memcpy(own_.heap + slot.heap_offset, message.data(), message.size());
      heap_cursor_ += padded(message.size());
    }
    heap_ends_[position_ & mask()] = heap_cursor_;
    slot.sequence.store(position_ + 1, std::memory_order_release);  // Partner: RingReader::read.
    ++position_;
    return true;
  }

  // To be called after a batch of writes: whether the peer sleeps and has not been woken from this
  // sleep yet. The caller then wakes it.
  [[nodiscard]] bool wake_due() noexcept {
    full_fence();  // Partner: announce_sleep.
    const std::uint32_t value = peer_->sleeping.load(std::memory_order_acquire);
    if ((value & 1u) == 0 || value == woken_) return false;
    woken_ = value;
    return true;
  }

  // Messages written, and of these consumed by the peer as far as is known.
  [[nodiscard]] std::uint64_t written() const noexcept { return position_; }
  [[nodiscard]] std::uint64_t consumed() noexcept {
    refresh();
    return consumed_;
  }
  // False once the peer's counter went backwards or ahead of what was written.
  [[nodiscard]] bool peer_is_sane() const noexcept { return sane_; }

 private:
  [[nodiscard]] std::uint64_t mask() const noexcept { return own_.geometry.slot_count - 1; }
  [[nodiscard]] static std::uint64_t padded(std::size_t bytes) noexcept {
    return (bytes + 63) & ~std::uint64_t{63};
  }
  // Where a heap message would begin: at the cursor, or at the next wrap if it would straddle it.
  [[nodiscard]] std::uint64_t heap_start(std::size_t bytes) const noexcept {
    const std::uint64_t in_lap = heap_cursor_ % own_.geometry.heap_bytes;
    if (in_lap + padded(bytes) <= own_.geometry.heap_bytes) return heap_cursor_;
    return heap_cursor_ - in_lap + own_.geometry.heap_bytes;
  }
  [[nodiscard]] bool room(std::size_t bytes) const noexcept {
    if (position_ - consumed_ >= own_.geometry.slot_count) return false;
    if (bytes <= kSlotPayloadBytes) return true;
    return heap_start(bytes) + padded(bytes) - heap_freed_ <= own_.geometry.heap_bytes;
  }
  void refresh() noexcept {
    const std::uint64_t seen = peer_->consumed.load(std::memory_order_acquire);
    if (seen == consumed_) return;
    if (seen < consumed_ || seen > position_) {
      sane_ = false;
      return;
    }
    consumed_ = seen;
    heap_freed_ = heap_ends_[(consumed_ - 1) & mask()];
  }

  RingView own_;
  const RingHeader* peer_ = nullptr;
  std::uint64_t position_ = 0;
  std::uint64_t consumed_ = 0;     // Last sane value of the peer's counter.
  std::uint64_t heap_cursor_ = 0;  // Bytes ever placed in the heap, laps included.
  std::uint64_t heap_freed_ = 0;
  std::uint32_t woken_ = 0;  // The peer's `sleeping` value that was already answered by a wake.
  bool sane_ = true;
  std::vector<std::uint64_t> heap_ends_;  // Heap cursor after the message in each slot.
};

// Private memory for one message of any legal size, aligned for FlatBuffers. One per thread.
class MessageBuffer {
 public:
  explicit MessageBuffer(std::size_t bytes_max = kWorkHeapBytes / 2)
      : words_(std::make_unique_for_overwrite<std::uint64_t[]>((bytes_max + 7) / 8)),
        bytes_max_(bytes_max) {}
  [[nodiscard]] std::byte* data() noexcept { return reinterpret_cast<std::byte*>(words_.get()); }
  [[nodiscard]] std::size_t bytes_max() const noexcept { return bytes_max_; }

 private:
  std::unique_ptr<std::uint64_t[]> words_;
  std::size_t bytes_max_;
};

enum class ReadOutcome { Empty, Message, Violation };

// Reads the peer's segment.
class RingReader {
 public:
  RingReader() = default;
  // `peer` is the other party's segment, `own` this one's header, where `consumed` is published.
  RingReader(RingView peer, RingHeader* own) : peer_(peer), own_(own) {}

  // Whether a message is waiting; a hint for deciding to sleep. Violations count as waiting.
  [[nodiscard]] bool waiting() const noexcept {
    return slot().sequence.load(std::memory_order_acquire) != last_lap();
  }

  // Copies the next message into `buffer` and sets `message` to it. Does not free the slot.
  // Violation: the slot's words can't come from a peer that follows the protocol.
  [[nodiscard]] ReadOutcome read(MessageBuffer& buffer,
                                 std::span<const std::byte>& message) noexcept {
    const Slot& next = slot();
    const std::uint64_t sequence = next.sequence.load(std::memory_order_acquire);
    if (sequence != position_ + 1) {
      return sequence == last_lap() ? ReadOutcome::Empty : ReadOutcome::Violation;
    }
    // Each word is read once: the peer may change it under our eyes.
    const std::uint32_t bytes = read_once(next.bytes);
    const std::uint32_t heap_offset = read_once(next.heap_offset);
    const std::byte* source = next.payload;
    if (heap_offset == kInSlot) {
      if (bytes > kSlotPayloadBytes) return ReadOutcome::Violation;
    } else {
      const std::uint32_t heap_bytes = peer_.geometry.heap_bytes;
      if (bytes > peer_.geometry.message_bytes_max() || heap_offset % 64 != 0 ||
          heap_offset > heap_bytes || bytes > heap_bytes - heap_offset) {
        return ReadOutcome::Violation;
      }
      source = peer_.heap + heap_offset;
    }
    if (bytes > buffer.bytes_max()) return ReadOutcome::Violation;
    std::memcpy(buffer.data(), source, bytes);
    message = {buffer.data(), bytes};
    return ReadOutcome::Message;
  }

  // Goes on to the next slot. The peer learns of it with publish().
  void advance() noexcept { ++position_; }
  void publish() noexcept {
    if (published_ == position_) return;
    published_ = position_;
    own_->consumed.store(position_, std::memory_order_release);  // Partner: RingWriter::refresh.
  }
  [[nodiscard]] std::uint64_t position() const noexcept { return position_; }
  [[nodiscard]] std::uint64_t unpublished() const noexcept { return position_ - published_; }

 private:
  static std::uint32_t read_once(const std::uint32_t& word) noexcept {
    return __atomic_load_n(&word, __ATOMIC_RELAXED);
  }
  [[nodiscard]] const Slot& slot() const noexcept {
    return peer_.slots[position_ & (peer_.geometry.slot_count - 1)];
  }
  // What an empty slot holds: the sequence of the lap before, or zero in the first.
  [[nodiscard]] std::uint64_t last_lap() const noexcept {
    const std::uint64_t lap = peer_.geometry.slot_count;
    return position_ < lap ? 0 : position_ + 1 - lap;
  }

  RingView peer_;
  RingHeader* own_ = nullptr;
  std::uint64_t position_ = 0;
  std::uint64_t published_ = 0;
};

}  // namespace kaas
