// On which device of its domain a run goes: pure functions of what the dispatcher knows.
// Places are as in flow/device.h.
// Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "daemon/flow/device.h"

namespace kaas {

// What ties a run to a device.
struct Ties {
  // Places where runs are in flight that it waits for: only there the order between them is kept,
  // and the versions that they make can be read.
  std::span<const std::uint32_t> in_flight;
  // Where the state of its libraries is, or will be; kAnyPlace: they keep none.
  std::uint32_t home = kAnyPlace;
};

// The only place that a run may go to; kAnyPlace: all are good; nullopt: none is, until something
// that it waits for has ended.
[[nodiscard]] std::optional<std::uint32_t> tied_place(const Ties& ties);

// What a place that may take a run now offers to it.
struct PlaceView {
  std::uint32_t runs_in_flight = 0;
  bool has_plan = false;          // The run's plan is loaded there.
  std::uint64_t input_bytes = 0;  // Of the run's large inputs, what was used there.
};

// So many more runs in flight than where they are fewest, and having the inputs or the plan does
// not count any more.
inline constexpr std::uint32_t kAffinityLead = 2;

// Index of the place to go to: of those that are not too busy the one with the most input bytes,
// then with the plan, then with the fewest runs, then the first. `places` is not empty.
[[nodiscard]] std::size_t choose_place(std::span<const PlaceView> places);

}  // namespace kaas
