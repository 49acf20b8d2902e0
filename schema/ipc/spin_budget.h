// How long it pays to look again before sleeping, and how.
//
// About one wake cost is the classic answer, but with few cores it has two stable states: while the
// answer comes within the budget nobody sleeps; once somebody has slept, each round trip contains a
// wake and is longer than the budget, so that everybody sleeps each time. So when several sleeps in
// a row turned out to be short the budget doubles, up to a limit; a long one resets it. One or two
// short ones are usual in a request that found everybody asleep, and there a spinner would only
// keep those who are waking from a core.
// Threads: one.
#pragma once

#include <sched.h>

#include <algorithm>
#include <cstdint>

namespace kaas {

// Between two looks of a spinner. With few cores whoever spins keeps a peer from running, so each
// pause yields; with many a yield costs more than the wait and is only made now and then.
// Threads: one.
class SpinPause {
 public:
  void operator()() noexcept {
    if (few_cores() || ++pauses_ % kPausesPerYield == 0) {
      ::sched_yield();
      return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  // Of those that this process may run on.
  static bool few_cores() noexcept {
    static const bool kFew = [] {
      cpu_set_t allowed;
      return ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 &&
             CPU_COUNT(&allowed) <= kFewCores;
    }();
    return kFew;
  }

 private:
  static constexpr int kFewCores = 4;
  static constexpr std::uint32_t kPausesPerYield = 512;

  std::uint32_t pauses_ = 0;
};

class SpinBudget {
 public:
  // `wake_ns`: what a wake costs on this machine.
  explicit constexpr SpinBudget(std::uint64_t wake_ns) noexcept
      : base_ns_(wake_ns), budget_ns_(wake_ns) {}

  [[nodiscard]] constexpr std::uint64_t ns() const noexcept { return budget_ns_; }

  // A sleep lasted so long, the wake included.
  constexpr void slept(std::uint64_t slept_ns) noexcept {
    if (slept_ns > base_ns_ + kWorthSpinningNs) {
      short_sleeps_ = 0;
      budget_ns_ = base_ns_;
    } else if (++short_sleeps_ >= kShortSleepsMin) {
      short_sleeps_ = 0;
      budget_ns_ = std::min(budget_ns_ * 2, base_ns_ + kWorthSpinningNs);
    }
  }

 private:
  static constexpr std::uint64_t kWorthSpinningNs = 100'000;
  static constexpr std::uint32_t kShortSleepsMin = 8;

  std::uint64_t base_ns_;
  std::uint64_t budget_ns_;
  std::uint32_t short_sleeps_ = 0;  // Since the last long one or change.
};

}  // namespace kaas
