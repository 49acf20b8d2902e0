// A wrapper library of a third party: one kernel, for the host and for CUDA.
#include <kaas/kernel.h>

// The negative of an 8-bit image: out = 255 - in.
KAAS_FUNCTION void invert(kaas::Block& block, uint64_t count, const uint8_t* in, uint8_t* out) {
  block.for_each_element(count, [&](uint64_t i) { out[i] = static_cast<uint8_t>(255 - in[i]); });
}

KAAS_KERNEL(invert);
KAAS_LIBRARY("invert");
