// The only source of chance in the simulation. The same seed gives the same numbers everywhere:
// std's distributions may differ between libraries.
// Threads: one.
#pragma once

#include <cstdint>
#include <random>

namespace kaas {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  std::uint64_t bits() { return engine_(); }
  // From 0 to limit - 1; limit > 0.
  std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
  // From low to high, both included.
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return low + below(high - low + 1);
  }
  // True once in `n` times.
  bool one_in(std::uint64_t n) { return below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace kaas
