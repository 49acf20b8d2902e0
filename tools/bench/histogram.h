// Latencies, counted in buckets that are linear within a power of two.
//
//   value      0 .. 255       one bucket a nanosecond
//   2^k .. 2^(k+1), k >= 8    128 buckets of 2^(k-7) ns
//
// So a percentile is at most 0.4 % away from the true one (a bucket's middle is reported); minimum,
// maximum and count are exact. Values above 2^42 ns (73 minutes) are counted as that; max() still
// tells the truth.
// Threads: one at a time; each thread fills its own, and merge() joins them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace kaas {

class LatencyHistogram {
 public:
  LatencyHistogram();

  void add(std::uint64_t latency_ns) noexcept;
  void merge(const LatencyHistogram& other) noexcept;
  void clear() noexcept;

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t min_ns() const noexcept { return count_ == 0 ? 0 : min_ns_; }
  [[nodiscard]] std::uint64_t max_ns() const noexcept { return max_ns_; }
  [[nodiscard]] double mean_ns() const noexcept;
  // The smallest latency that at least `percent` of 0 to 100 of the values do not exceed; 0 when
  // there are none.
  [[nodiscard]] std::uint64_t percentile_ns(double percent) const noexcept;
  // (latency in ns, how many values), ascending, one for each bucket used.
  [[nodiscard]] std::vector<std::pair<std::uint64_t, std::uint64_t>> counts() const;
  // For plots: (latency in ns, fraction of values up to it), ascending, one for each bucket used.
  [[nodiscard]] std::vector<std::pair<std::uint64_t, double>> cumulative() const;

 private:
  [[nodiscard]] static std::size_t bucket_of(std::uint64_t latency_ns) noexcept;
  [[nodiscard]] static std::uint64_t middle_ns(std::size_t bucket) noexcept;
  [[nodiscard]] std::uint64_t reported_ns(std::size_t bucket) const noexcept;

  std::vector<std::uint64_t> buckets_;
  std::uint64_t count_ = 0;
  std::uint64_t min_ns_ = UINT64_MAX;
  std::uint64_t max_ns_ = 0;
  long double sum_ns_ = 0;
};

}  // namespace kaas
