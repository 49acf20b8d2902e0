#include "daemon/executor/library/nearest_names.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace kaas {
namespace {

// Insertions, deletions and exchanges of a character that make one of the other.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t exchanged = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, exchanged});
    }
  }
  return row[b.size()];
}

}  // namespace

std::vector<std::string> nearest_names(std::string_view wanted,
                                       const std::vector<std::string>& names) {
  constexpr std::size_t kSuggestions = 3;
  const std::size_t distance_max = std::max<std::size_t>(2, wanted.size() / 3);
  std::vector<std::pair<std::size_t, const std::string*>> near;
  for (const std::string& name : names) {
    const std::size_t longer = std::max(name.size(), wanted.size());
    if (longer - std::min(name.size(), wanted.size()) > distance_max) continue;
    const std::size_t distance = edit_distance(wanted, name);
    if (distance <= distance_max) near.emplace_back(distance, &name);
  }
  std::stable_sort(near.begin(), near.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  if (near.size() > kSuggestions) near.resize(kSuggestions);
  std::vector<std::string> result;
  for (const auto& candidate : near) result.push_back(*candidate.second);
  return result;
}

}  // namespace kaas
