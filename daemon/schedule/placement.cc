#include "daemon/schedule/placement.h"

#include <algorithm>
#include <tuple>

namespace kaas {

std::optional<std::uint32_t> tied_place(const Ties& ties) {
  std::uint32_t only = ties.home;
  for (const std::uint32_t place : ties.in_flight) {
    if (only != kAnyPlace && only != place) return std::nullopt;
    only = place;
  }
  return only;
}

std::size_t choose_place(std::span<const PlaceView> places) {
  std::uint32_t fewest = UINT32_MAX;
  for (const PlaceView& place : places) fewest = std::min(fewest, place.runs_in_flight);
  const auto rank = [&](const PlaceView& place) {
    const bool is_near = place.runs_in_flight - fewest <= kAffinityLead;
    return std::tuple(is_near ? place.input_bytes : 0, is_near && place.has_plan,
                      UINT32_MAX - place.runs_in_flight);
  };
  std::size_t best = 0;
  for (std::size_t i = 1; i < places.size(); ++i) {
    if (rank(places[i]) > rank(places[best])) best = i;
  }
  return best;
}

}  // namespace kaas
