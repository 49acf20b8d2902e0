#include "tools/bench/histogram.h"

#include <algorithm>
#include <bit>

#include "tools/bench/statistics.h"

namespace kaas {
namespace {

constexpr unsigned kExactBits = 8;  // Below 2^8 each nanosecond has its bucket.
constexpr std::uint64_t kExact = 1u << kExactBits;
constexpr std::uint64_t kSteps = kExact / 2;  // Buckets of each power of two above.
constexpr unsigned kTopBits = 42;
constexpr std::uint64_t kTop = (std::uint64_t{1} << kTopBits) - 1;
constexpr std::size_t kBuckets = kExact + (kTopBits - kExactBits) * kSteps;

}  // namespace

LatencyHistogram::LatencyHistogram() : buckets_(kBuckets, 0) {}

std::size_t LatencyHistogram::bucket_of(std::uint64_t latency_ns) noexcept {
  const std::uint64_t value = std::min(latency_ns, kTop);
  if (value < kExact) return static_cast<std::size_t>(value);
  const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - kExactBits;
  // value >> shift is in [kSteps, kExact): its leading bit is always set.
  return static_cast<std::size_t>(kExact + (shift - 1) * kSteps + ((value >> shift) - kSteps));
}

std::uint64_t LatencyHistogram::middle_ns(std::size_t bucket) noexcept {
  if (bucket < kExact) return bucket;
  const std::uint64_t above = bucket - kExact;
  const unsigned shift = static_cast<unsigned>(above / kSteps) + 1;
  return ((kSteps + above % kSteps) << shift) + (std::uint64_t{1} << (shift - 1));
}

std::uint64_t LatencyHistogram::reported_ns(std::size_t bucket) const noexcept {
  // A value beyond the top lies in the last bucket, whose middle would be far too small.
  if (bucket + 1 == kBuckets) return max_ns_;
  return std::clamp(middle_ns(bucket), min_ns_, max_ns_);
}

void LatencyHistogram::add(std::uint64_t latency_ns) noexcept {
  ++buckets_[bucket_of(latency_ns)];
  ++count_;
  min_ns_ = std::min(min_ns_, latency_ns);
  max_ns_ = std::max(max_ns_, latency_ns);
  sum_ns_ += static_cast<long double>(latency_ns);
}

void LatencyHistogram::merge(const LatencyHistogram& other) noexcept {
  for (std::size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  min_ns_ = std::min(min_ns_, other.min_ns_);
  max_ns_ = std::max(max_ns_, other.max_ns_);
  sum_ns_ += other.sum_ns_;
}

void LatencyHistogram::clear() noexcept {
  std::fill(buckets_.begin(), buckets_.end(), 0);
  count_ = 0;
  min_ns_ = UINT64_MAX;
  max_ns_ = 0;
  sum_ns_ = 0;
}

double LatencyHistogram::mean_ns() const noexcept {
  return count_ == 0 ? 0.0 : static_cast<double>(sum_ns_ / static_cast<long double>(count_));
}

std::uint64_t LatencyHistogram::percentile_ns(double percent) const noexcept {
  if (count_ == 0) return 0;
  const double wanted = percentile_rank(percent, count_);
  const auto rank = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(wanted), 1, count_);
  if (rank == count_) return max_ns_;
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    if (seen >= rank) return reported_ns(i);
  }
  return max_ns_;
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> LatencyHistogram::counts() const {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> points;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    if (buckets_[i] != 0) points.emplace_back(reported_ns(i), buckets_[i]);
  }
  return points;
}

std::vector<std::pair<std::uint64_t, double>> LatencyHistogram::cumulative() const {
  std::vector<std::pair<std::uint64_t, double>> points;
  std::uint64_t seen = 0;
  for (const auto& [latency_ns, count] : counts()) {
    seen += count;
    points.emplace_back(latency_ns, static_cast<double>(seen) / static_cast<double>(count_));
  }
  return points;
}

}  // namespace kaas
