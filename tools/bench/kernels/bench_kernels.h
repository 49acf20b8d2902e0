// The kernels that kaas-bench gpu and tests/latency measure with: run by kaasd from the library
// `bench`, and launched by kaas-bench-direct, which is built from this same source.
#pragma once

#include <kaas/kernel.h>

#ifndef __CUDACC__
#include <time.h>
#endif

namespace kaas {

// out[i] = in[i] + 1. The small kernel: 64 elements, one block.
KAAS_FUNCTION void increment(Block& block, uint64_t count, const float* in, float* out) {
  block.for_each_element(count, [&](uint64_t i) { out[i] = in[i] + 1; });
}

// out[i] = in[i] * factor. The kernel of payloads.
KAAS_FUNCTION void multiply(Block& block, uint64_t count, float factor, const float* in,
                            float* out) {
  block.for_each_element(count, [&](uint64_t i) { out[i] = in[i] * factor; });
}

// The kernel of null requests.
KAAS_FUNCTION void nothing(Block&) {}

// Nanoseconds of a clock that never goes back.
KAAS_FUNCTION uint64_t kernel_clock_ns() {
#ifdef __CUDACC__
  uint64_t time_ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time_ns));
  return time_ns;
#else
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
#endif
}

// Takes `duration_ns` by the clock, whatever else runs, and tells how long it was. Every block.
KAAS_FUNCTION void busy(Block& block, uint64_t duration_ns, uint64_t* taken_ns) {
  const uint64_t begin_ns = kernel_clock_ns();
  uint64_t taken = 0;
  while (taken < duration_ns) taken = kernel_clock_ns() - begin_ns;
  block.for_each_in_block(1, [&](uint32_t, uint64_t) { taken_ns[block.linear_index()] = taken; });
}

}  // namespace kaas
