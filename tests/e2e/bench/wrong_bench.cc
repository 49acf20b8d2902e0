// The library `bench` with kernels that compute something else: workers must notice.
#include <kaas/kernel.h>

KAAS_LIBRARY("bench");

namespace kaas {

KAAS_FUNCTION void increment(Block& block, uint64_t count, const float* in, float* out) {
  block.for_each_element(count, [&](uint64_t i) { out[i] = in[i] + (i + 1 == count ? 2 : 1); });
}

// All but the last element.
KAAS_FUNCTION void multiply(Block& block, uint64_t count, float factor, const float* in,
                            float* out) {
  block.for_each_element(count - 1, [&](uint64_t i) { out[i] = in[i] * factor; });
}

KAAS_FUNCTION void busy(Block& block, uint64_t duration_ns, uint64_t* taken_ns) {
  block.for_each_in_block(1, [&](uint32_t, uint64_t) { *taken_ns = duration_ns - 1; });
}

KAAS_KERNEL(increment);
KAAS_KERNEL(multiply);
KAAS_KERNEL(busy);

}  // namespace kaas
