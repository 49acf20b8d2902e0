// Whether work comes at regular intervals, such as the frames of a camera, and when it is due next:
// a process that wakes a moment before spares it the wake, which after a long pause takes longer
// than a small request.
//
// After each arrival it is awaited once, where the last ones have come so; looking out costs at
// most the window, a few percent of the interval. Work of several rhythms at once has none.
// Threads: one at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace kaas {

class WorkRhythm {
 public:
  static constexpr std::uint64_t kShortestNs = 30'000'000;
  static constexpr std::uint64_t kLongestNs = 2'000'000'000;

  // Work came after a pause.
  constexpr void came(std::uint64_t now_ns) noexcept {
    const std::uint64_t gap_ns = now_ns - last_ns_;
    if (last_ns_ != 0 && is_near(gap_ns)) {
      regular_ = std::min(regular_ + 1, kRegularMax);
      gap_ns_ = (3 * gap_ns_ + gap_ns) / 4;
    } else if (last_ns_ != 0) {
      if (!missed_) doubt();
      if (regular_ == 0) gap_ns_ = gap_ns;
    }
    last_ns_ = now_ns;
    missed_ = false;
  }

  // Whether work is awaited from due_ns() - window_ns() on, until due_ns() + window_ns().
  [[nodiscard]] constexpr bool is_awaited(std::uint64_t now_ns) const noexcept {
    return regular_ >= kRegularMin && !missed_ && gap_ns_ >= kShortestNs && gap_ns_ <= kLongestNs &&
           now_ns < due_ns() + window_ns();
  }
  [[nodiscard]] constexpr std::uint64_t due_ns() const noexcept { return last_ns_ + gap_ns_; }
  [[nodiscard]] constexpr std::uint64_t window_ns() const noexcept {
    return std::clamp<std::uint64_t>(gap_ns_ / 128, 250'000, 1'000'000);
  }
  // It was awaited, and did not come. It is not awaited again before it has come.
  constexpr void missed() noexcept {
    missed_ = true;
    doubt();
  }

 private:
  static constexpr int kRegularMin = 3;
  static constexpr int kRegularMax = 8;

  [[nodiscard]] constexpr bool is_near(std::uint64_t gap_ns) const noexcept {
    const std::uint64_t off = gap_ns > gap_ns_ ? gap_ns - gap_ns_ : gap_ns_ - gap_ns;
    return off <= window_ns();
  }
  constexpr void doubt() noexcept { regular_ = std::max(regular_ - 1, 0); }

  std::uint64_t last_ns_ = 0;  // Arrival; 0: none yet.
  std::uint64_t gap_ns_ = 0;   // Between arrivals, an average of those that were regular.
  int regular_ = 0;            // How sure it is.
  bool missed_ = false;        // Since the last arrival.
};

}  // namespace kaas
