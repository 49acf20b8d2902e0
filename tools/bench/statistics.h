// Repeated rounds of one measurement, and when to stop repeating.
// Threads: values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kaas {

// The median of the rounds with the interval in which the true median lies in 95 of 100 cases,
// whatever the distribution (order statistics). With fewer than six rounds no such interval exists,
// and low and high are the extremes.
struct Estimate {
  double median = 0;
  double low = 0;
  double high = 0;
  std::size_t rounds = 0;

  // The interval's width over the median; infinite when the median is 0 and the interval is not.
  [[nodiscard]] double spread() const noexcept;
};

[[nodiscard]] Estimate estimate(std::span<const double> rounds);

// Which of `count` ascending values, from 1 on, `percent` of 0 to 100 of them do not exceed. Not
// clamped at 1. What is whole stays so: 99.9 % of 1000 is 999, whatever floating point makes of it.
[[nodiscard]] double percentile_rank(double percent, std::uint64_t count);

// Nearest-rank percentile of `values`, which it sorts. `values` is not empty.
[[nodiscard]] double percentile(std::vector<double>& values, double percent);

// Element-wise a / b. Of equal length.
[[nodiscard]] std::vector<double> ratios(std::span<const double> a, std::span<const double> b);

}  // namespace kaas
