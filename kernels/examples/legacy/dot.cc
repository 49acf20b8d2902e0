// A wrapper library in the oldest form: plain functions f(grid, block, buffers), found by their
// symbols, without descriptors. It is enough for a kernel that has buffers only; an executor calls
// it on the legacy default stream and never captures it. New libraries use KAAS_KERNEL.
//
// A dot product takes both: prodKernel multiplies element by element, sumKernel adds up.
#include <kaas/kernel.h>

namespace {

// The number of elements is itself in a buffer, on the device, as this form has no literals.
KAAS_FUNCTION void product(kaas::Block& block, const uint64_t* count, const float* a,
                           const float* b, float* out) {
  block.for_each_element(*count, [&](uint64_t i) { out[i] = a[i] * b[i]; });
}

// One thread of one block adds up, in the order of the elements, so that any grid gives the same.
KAAS_FUNCTION void sum(kaas::Block& block, const uint64_t* count, const float* in, float* out) {
  block.for_each_element(1, [&](uint64_t) {
    double total = 0;
    for (uint64_t i = 0; i < *count; ++i) total += static_cast<double>(in[i]);
    out[0] = static_cast<float>(total);
  });
}

}  // namespace

#define KAAS_EXPORT extern "C" __attribute__((visibility("default")))

// buffers: u64 count (in), f32 a (in), f32 b (in), f32 out (out)
KAAS_EXPORT int prodKernel(int grid, int block, void** buffers) {
  return kaas::launch_on_default_stream<&product>(
      {static_cast<uint32_t>(grid)}, {static_cast<uint32_t>(block)}, 0,
      static_cast<const uint64_t*>(buffers[0]), static_cast<const float*>(buffers[1]),
      static_cast<const float*>(buffers[2]), static_cast<float*>(buffers[3]));
}

// buffers: u64 count (in), f32 in (in), f32 out (out, one element)
KAAS_EXPORT int sumKernel(int grid, int block, void** buffers) {
  return kaas::launch_on_default_stream<&sum>(
      {static_cast<uint32_t>(grid)}, {static_cast<uint32_t>(block)}, 0,
      static_cast<const uint64_t*>(buffers[0]), static_cast<const float*>(buffers[1]),
      static_cast<float*>(buffers[2]));
}
