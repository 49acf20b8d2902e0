// What the probe kernels write, for the kernels and for their tests.
#ifndef KAAS_TESTS_UNIT_KERNELS_PROBE_KERNELS_H_
#define KAAS_TESTS_UNIT_KERNELS_PROBE_KERNELS_H_

#include <cstdint>

namespace kaas {

struct Coordinates {
  std::uint32_t index[3], dim[3], grid[3], thread[3];
  std::uint32_t linear;
};

struct Raw {
  std::uint8_t first;
  double second;
  std::uint16_t third[3];
};

struct Everything {
  std::int32_t a;
  std::uint32_t b;
  std::int64_t c;
  std::uint64_t d;
  float e;
  double f;
  Raw raw;
};

}  // namespace kaas

#endif  // KAAS_TESTS_UNIT_KERNELS_PROBE_KERNELS_H_
