// One budget for all shared memory that kaasd makes or adopts: arenas, slabs, objects.
//
// kaasd refuses before it allocates, because the kernel does not: a memfd is not bounded by
// /dev/shm, and a memory cgroup that is over-full kills a process instead of failing a call.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "schema/ipc/result.h"

namespace kaas {

// How much more memory the machine, or a control group around us, would give.
struct MemoryReading {
  std::uint64_t headroom_bytes = 0;  // Can be allocated now, own reserve already taken off.
  std::uint64_t total_bytes = 0;     // Of the machine.
  std::string bound;                 // What sets the headroom, for messages: "MemAvailable".
};

// Where a budget learns of the machine's memory. Implementations: SystemMemory (memory_source.h)
// and the tests' own. Threads: read() is called by one thread at a time.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  // Fails with Internal if nothing can be read; the budget then keeps its last limit.
  virtual Result<MemoryReading> read() = 0;
};

class ByteBudget;

// Bytes taken from a budget; given back when it dies. Move-only. The budget must outlive it.
// Threads: one owner.
class [[nodiscard]] Reservation {
 public:
  Reservation() noexcept = default;
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation();

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

  // Says that pages of the first `bytes` now exist, so that the machine's own figures contain them
  // and they are not counted a second time. At most bytes(); never less than before.
  void mark_touched(std::uint64_t bytes) noexcept;
  void mark_touched() noexcept { mark_touched(bytes_); }

  // Gives back all but `bytes`, which is at most bytes().
  void shrink_to(std::uint64_t bytes) noexcept;

  // Joins another reservation of the same budget to this one.
  void absorb(Reservation other) noexcept;

 private:
  friend class ByteBudget;
  Reservation(ByteBudget* budget, std::uint64_t bytes) noexcept : budget_(budget), bytes_(bytes) {}

  ByteBudget* budget_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::uint64_t touched_bytes_ = 0;
};

// Threads: all functions from any thread.
class ByteBudget {
 public:
  struct Options {
    // The operator's limit. Absent: kShareOfTotal of the machine's memory. Either way the budget
    // never promises more than the source's headroom.
    std::optional<std::uint64_t> limit_bytes;
    // Null: the limit alone counts.
    std::unique_ptr<MemorySource> source;
    // At most so often is the source read.
    std::uint64_t reread_ns = 100'000'000;
  };

  explicit ByteBudget(Options options);
  ~ByteBudget();
  ByteBudget(const ByteBudget&) = delete;
  ByteBudget& operator=(const ByteBudget&) = delete;

  // Takes `bytes`, rounded up to whole pages, or refuses with ResourceExhausted:
  // "object 'x' of 70000 bytes does not fit: used 4096 of limit 65536 (configured)".
  // `what` is the noun of the message: "object 'x'", "arena".
  Result<Reservation> reserve(std::uint64_t bytes, const std::string& what);
  // The same for memory that exists already: it is in the machine's own figures, so these are read
  // again only before a refusal.
  Result<Reservation> reserve_existing(std::uint64_t bytes, const std::string& what);

  // Called before a refusal, to wait for what is being given back elsewhere. Set before use by
  // other threads.
  void set_last_resort(std::function<void()> settle) { last_resort_ = std::move(settle); }

  [[nodiscard]] std::uint64_t used_bytes() const noexcept;

  struct Limit {
    std::uint64_t bytes = 0;
    std::string bound;  // "configured", "3/4 of memory", "MemAvailable", "cgroup /user.slice".
  };
  // Of used_bytes(), now.
  [[nodiscard]] Limit limit();

 private:
  friend class Reservation;
  [[nodiscard]] std::optional<Reservation> try_reserve(std::uint64_t bytes) noexcept;
  Status refusal(std::uint64_t bytes, const std::string& what);
  void refresh_if_due();
  void give_back(std::uint64_t bytes, std::uint64_t touched_bytes) noexcept;

  const std::optional<std::uint64_t> configured_bytes_;
  const std::unique_ptr<MemorySource> source_;
  const std::uint64_t reread_ns_;
  // Partners: reserve (compare and swap) and give_back.
  std::atomic<std::uint64_t> used_bytes_{0};
  // The part of used_bytes_ whose pages exist. Partner: refresh_if_due.
  std::atomic<std::uint64_t> touched_bytes_{0};
  // Written under source_mutex_, read by reserve without it.
  std::atomic<std::uint64_t> limit_bytes_{0};
  std::atomic<std::uint64_t> reread_due_ns_{0};
  mutable std::mutex source_mutex_;  // Held while the source is read; guards bound_.
  std::string bound_;
  std::function<void()> last_resort_;
};

}  // namespace kaas
