// Reductions of a whole buffer: each block leaves one partial result, and a second launch of one
// block reduces those.
#include "kernels/std/reduce.h"

#include <cmath>

namespace kaas {
namespace {

// Each block takes the elements that for_each_element would deal to it, so that sum(count, ...)
// with any grid, and again over `blocks` partial results with a grid of one, is the whole sum.
template <class Combine>
KAAS_FUNCTION void reduce_grid(Block& block, uint64_t count, float identity, const float* in,
                               float* partial) {
  const Combine combine;
  const uint32_t threads = block.threads();
  const uint64_t block_index = block.linear_index();
  float* values = block.shared<float>();
  block.for_each_thread([&](const Thread& thread) { values[thread.linear] = identity; });
  for (uint64_t chunk = block_index; chunk < count / threads + 1; chunk += block.blocks()) {
    const uint64_t first = chunk * threads;
    const uint64_t length = count - first < threads ? count - first : threads;
    block.for_each_in_block(length, [&](uint32_t thread, uint64_t i) {
      values[thread] = combine(values[thread], in[first + i]);
    });
  }
  reduce_block(block, values, combine);
  block.for_each_thread([&](const Thread& thread) {
    if (thread.linear == 0) partial[block_index] = values[0];
  });
}

KAAS_FUNCTION void sum(Block& block, uint64_t count, const float* in, float* partial) {
  reduce_grid<Add>(block, count, 0.0F, in, partial);
}

KAAS_FUNCTION void max(Block& block, uint64_t count, const float* in, float* partial) {
  reduce_grid<Max>(block, count, -INFINITY, in, partial);
}

// flag = 1 if |x[i] - y[i]| < eps for all i, else 0. Counts the elements that fail the comparison,
// so that a NaN is not taken for convergence. Needs the whole answer in one place: the first block
// does all, further blocks do nothing.
KAAS_FUNCTION void converged(Block& block, uint64_t count, float eps, const float* x,
                             const float* y, uint32_t* flag) {
  if (block.linear_index() != 0) return;
  const uint32_t violated = reduce_in_block(
      block, block.shared<uint32_t>(), count, uint32_t{0}, Max(),
      [&](uint64_t i) { return fabsf(x[i] - y[i]) < eps ? uint32_t{0} : uint32_t{1}; });
  block.for_each_thread([&](const Thread& thread) {
    if (thread.linear == 0) flag[0] = violated == 0 ? 1 : 0;
  });
}

}  // namespace

KAAS_KERNEL(sum, KernelOptions().shared_per_thread(sizeof(float)));
KAAS_KERNEL(max, KernelOptions().shared_per_thread(sizeof(float)));
KAAS_KERNEL(converged, KernelOptions().shared_per_thread(sizeof(uint32_t)));

}  // namespace kaas
