// All runs under way, by number. Pooled: a run's vectors keep their memory for the next one.
// Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "daemon/flow/run.h"

namespace kaas {

// A number is (counter << kSlotBits | slot): never reused, and found without hashing.
class RunTable {
 public:
  static constexpr std::uint32_t kSlotBits = 16;
  static constexpr std::size_t kRunsMax = std::size_t{1} << kSlotBits;

  // A fresh run with its number, or null when kRunsMax are under way.
  Run* create() {
    if (free_.empty()) {
      if (slots_.size() == kRunsMax) return nullptr;
      free_.push_back(static_cast<std::uint32_t>(slots_.size()));
      slots_.push_back(std::make_unique<Run>());
    }
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    Run& run = *slots_[slot];
    run.number = (++counter_ << kSlotBits) | slot;
    return &run;
  }

  // The run of that number, or null.
  [[nodiscard]] Run* find(std::uint64_t number) const {
    const std::size_t slot = number & (kRunsMax - 1);
    if (number == 0 || slot >= slots_.size() || slots_[slot]->number != number) return nullptr;
    return slots_[slot].get();
  }

  // Forgets a run; its leases go with it.
  void destroy(Run& run) {
    const auto slot = static_cast<std::uint32_t>(run.number & (kRunsMax - 1));
    reset(run);
    free_.push_back(slot);
  }

  [[nodiscard]] std::size_t size() const noexcept { return slots_.size() - free_.size(); }
  [[nodiscard]] std::size_t room() const noexcept { return kRunsMax - size(); }

  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& run : slots_) {
      if (run->number != 0) visit(*run);
    }
  }

 private:
  static void reset(Run& run) {
    run.bound.clear();
    run.literals.clear();
    run.depends_on.clear();
    run.dependents.clear();
    run.reads.clear();
    run.cancels.clear();
    run.outbox_offsets.clear();
    run.plan.reset();
    run.options = RunOptions{};
    run.number = run.id = 0;
    run.kind = Run::Kind::Execute;
    run.state = Run::State::Waiting;
    run.answered = run.input_is_lost = false;
    run.strikes = run.executor = run.prepared_plan = 0;
    run.place = kAnyPlace;
    run.session = nullptr;
    run.accepted_ns = run.decoded_ns = run.planned_ns = run.sent_ns = run.reported_ns = 0;
    run.started_ns = 0;
    run.lane = run.lane_call = 0;
    run.lane_is_stale = false;
    run.lane_keys.clear();
  }

  std::vector<std::unique_ptr<Run>> slots_;
  std::vector<std::uint32_t> free_;
  std::uint64_t counter_ = 0;
};

}  // namespace kaas
