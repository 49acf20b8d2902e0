// The edges of a picture, computed without any kernel: what the function's results are compared
// with. Written from the definition of each step rather than as the kernels do it: in double, with
// one two-dimensional Gaussian, one thread.
// Threads: any.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/demo_client/picture.h"

namespace kaas {

// Of an RGB picture; one grey level a pixel.
[[nodiscard]] Picture reference_edges(const Picture& rgb, int radius);

struct Difference {
  int largest = 0;           // In grey levels.
  std::uint64_t pixels = 0;  // That differ at all.
};
// Of two grey pictures of one size.
[[nodiscard]] Difference difference_of(const Picture& a, const std::uint8_t* b);

}  // namespace kaas
