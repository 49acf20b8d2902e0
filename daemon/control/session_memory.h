// The segments of a session: ring pairs and arenas, made by kaasd, passed to the client.
// PROTOCOL.md has the table of who may do what with each.
// Threads: the control thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "daemon/session/session.h"
#include "daemon/store/budget.h"

namespace kaas {

// A ring pair, kaasd's side and what the client is sent.
struct RingMemory {
  RingEndpoints endpoints;
  Descriptor submit;      // Read-write.
  Descriptor completion;  // Read-only.
  Descriptor client_doorbell;
};

// `slots`: 0 for the default; refused with InvalidArgument if not a power of two within limits.
// ResourceExhausted when the byte budget refuses.
Result<RingMemory> make_ring(ByteBudget& budget, std::uint32_t slots, std::uint64_t epoch);

// Arenas that nobody has seen yet, made and touched before a client asks. An arena that was handed
// out never comes back: its receiver, or a fork of it, may hold it for ever.
class ArenaPool {
 public:
  ArenaPool(ByteBudget& budget, std::uint64_t arena_bytes, std::size_t ready_max)
      : budget_(budget), arena_bytes_(arena_bytes), ready_max_(ready_max) {}

  // An arena of `bytes` (0: the default size) for a session of `uid`, not yet numbered. One from
  // the pool if the size fits, else a fresh one. ResourceExhausted when the byte budget refuses.
  Result<Segment> take(std::uint64_t bytes, std::uint32_t uid, std::uint64_t session);

  // Makes one arena if some are missing. True: one was made, call again when there is time.
  bool refill_one();
  [[nodiscard]] std::size_t ready() const noexcept { return ready_.size(); }
  [[nodiscard]] std::uint64_t arena_bytes() const noexcept { return arena_bytes_; }

 private:
  struct Blank {
    Descriptor descriptor;
    std::shared_ptr<const void> charge;
  };
  Result<Blank> make(std::uint64_t bytes, bool touch);

  ByteBudget& budget_;
  std::uint64_t arena_bytes_;
  std::size_t ready_max_;
  std::deque<Blank> ready_;
};

// A client's own shared memory, to be named in requests. `bytes` as the client says them; checked.
Result<Segment> import_region(Descriptor descriptor, std::uint64_t bytes, bool writable,
                              std::uint32_t uid, std::uint64_t session);

// A client's own device memory, to be named in requests: what it says of it, checked as far as one
// can without a GPU. `descriptor` is empty if none came.
Result<Segment> import_device_memory(const wire::DeviceMemory& memory, Descriptor descriptor,
                                     std::uint32_t uid, std::uint64_t session);

// A client's own event, to be named in run options.
Result<Segment> import_event(const wire::RegisterEvent& event, std::uint32_t uid,
                             std::uint64_t session);

}  // namespace kaas
