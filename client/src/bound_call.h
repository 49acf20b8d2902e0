// A plan bound for good, as channels know it: its messages, and whether its ring's lane serves it.
// Owner:   its BoundPlan, and every operation of it that is under way.
// Threads: one at a time uses a BoundPlan; answers to it may be taken in by another one.
#pragma once

#include <kaas/client.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "client/src/encode.h"

namespace kaas {
inline namespace v1 {

// A whole Submission but for its id.
struct StoredSubmission {
  explicit StoredSubmission(const EncodedSubmission& from)
      : bytes(from.bytes.begin(), from.bytes.end()), id_offset(from.id_offset) {}
  std::vector<std::byte> bytes;
  std::size_t id_offset;
};

class BoundCall {
 public:
  BoundCall(StoredSubmission invoke_message, StoredSubmission open_message)
      : invoke(std::move(invoke_message)), open(std::move(open_message)) {}

  const StoredSubmission invoke;
  const StoredSubmission open;  // Asks for a lane.

  // The lane that serves it and its number there; kaasd uses no lane's number twice. 0: none.
  [[nodiscard]] std::uint64_t ticket() const noexcept {
    return ticket_.load(std::memory_order_acquire);
  }
  static constexpr std::uint64_t ticket_of(std::uint32_t lane, std::uint32_t call) noexcept {
    return std::uint64_t{lane} << 32 | call;
  }
  // `outputs`: what each run of it tells of its outputs, which is always the same.
  void granted(std::uint64_t ticket, bool replayable, std::vector<Output> outputs) {
    {
      const std::lock_guard lock(mutex_);
      outputs_ = std::move(outputs);
    }
    replayable_.store(replayable, std::memory_order_relaxed);
    ticket_.store(ticket, std::memory_order_release);  // Partner: ticket().
  }
  [[nodiscard]] bool replayable() const noexcept {
    return replayable_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::vector<Output> outputs() const {
    const std::lock_guard lock(mutex_);
    return outputs_;
  }

  // Whether now is the time to ask for a lane: it has been run often, and the last refusal is a
  // while ago. Counts a run.
  [[nodiscard]] bool wants_lane(std::uint64_t now_ns) noexcept;
  void refused(StatusCode code, std::uint64_t now_ns) noexcept;
  [[nodiscard]] bool asks() const noexcept { return asks_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t kRunsFirst = 8;
  static constexpr std::uint64_t kWaitFirstNs = 10'000'000;
  static constexpr std::uint64_t kWaitMaxNs = 1'000'000'000;

  std::atomic<std::uint64_t> ticket_{0};
  std::atomic<bool> replayable_{false};
  std::atomic<std::uint32_t> runs_{0};
  std::atomic<std::uint64_t> again_ns_{0};
  std::atomic<std::uint64_t> wait_ns_{kWaitFirstNs};
  std::atomic<bool> never_{false};  // It can't go by a lane.
  std::atomic<bool> asks_{false};   // An answer to `open` is awaited.
  mutable std::mutex mutex_;        // Guards the next one.
  std::vector<Output> outputs_;
};

}  // namespace v1
}  // namespace kaas
