#include "tools/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kaas {
namespace {

constexpr std::size_t kIntervalRoundsMin = 6;  // 2 * 0.5^6 is the first below 5 %.
constexpr double kNormal95 = 1.96;

}  // namespace

double Estimate::spread() const noexcept {
  if (high == low) return 0;
  return median == 0 ? std::numeric_limits<double>::infinity() : (high - low) / std::abs(median);
}

Estimate estimate(std::span<const double> rounds) {
  Estimate result;
  result.rounds = rounds.size();
  if (rounds.empty()) return result;
  std::vector<double> sorted(rounds.begin(), rounds.end());
  std::sort(sorted.begin(), sorted.end());
  const std::size_t count = sorted.size();
  result.median =
      count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
  std::size_t below = 0;
  if (count >= kIntervalRoundsMin) {
    const double n = static_cast<double>(count);
    below = static_cast<std::size_t>(std::max(0.0, std::floor((n - kNormal95 * std::sqrt(n)) / 2)));
  }
  result.low = sorted[below];
  result.high = sorted[count - 1 - below];
  return result;
}

double percentile_rank(double percent, std::uint64_t count) {
  constexpr double kHair = 1e-12;
  const double wanted = std::clamp(percent, 0.0, 100.0) * static_cast<double>(count) / 100;
  return std::ceil(wanted * (1 - kHair));
}

double percentile(std::vector<double>& values, double percent) {
  std::sort(values.begin(), values.end());
  const double wanted = percentile_rank(percent, values.size());
  const auto rank = std::max<std::size_t>(static_cast<std::size_t>(wanted), 1);
  return values[std::min(rank, values.size()) - 1];
}

std::vector<double> ratios(std::span<const double> a, std::span<const double> b) {
  std::vector<double> result;
  result.reserve(a.size());
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) result.push_back(a[i] / b[i]);
  return result;
}

}  // namespace kaas
