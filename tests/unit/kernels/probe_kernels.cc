// Kernels that show how a block, its threads and its barriers behave. Built for the host and CUDA.
#include "tests/unit/kernels/probe_kernels.h"

#include <kaas/kernel.h>

namespace kaas {
namespace {

// Each thread keeps a number across barriers; in each round it adds, times the round, what its
// neighbour has published. Shared memory is used twice a round, so that a missing barrier shows.
KAAS_FUNCTION void rounds(Block& block, uint32_t count, uint32_t* out) {
  const uint32_t threads = block.threads();
  const uint64_t first = block.linear_index() * threads;
  auto* published = block.shared<uint32_t>();
  auto state = block.per_thread<uint32_t>(1);
  block.for_each_thread([&](const Thread& thread) { state[thread] += thread.linear; });
  for (uint32_t round = 1; round <= count; ++round) {
    block.for_each_thread([&](const Thread& thread) { published[thread.linear] = state[thread]; });
    block.barrier();
    block.for_each_thread([&](const Thread& thread) {
      state[thread] += round * published[(thread.linear + 1) % threads];
    });
    block.barrier();
  }
  block.for_each_thread(
      [&](const Thread& thread) { out[first + thread.linear] = state[thread.linear]; });
}

// Where every thread of the grid thinks it is.
KAAS_FUNCTION void coordinates(Block& block, Coordinates* out) {
  block.for_each_thread([&](const Thread& thread) {
    out[block.linear_index() * block.threads() + thread.linear] = {
        {block.index.x, block.index.y, block.index.z},
        {block.dim.x, block.dim.y, block.dim.z},
        {block.grid.x, block.grid.y, block.grid.z},
        {thread.x, thread.y, thread.z},
        thread.linear};
  });
}

// How often each element, pixel and index was visited.
KAAS_FUNCTION void visits(Block& block, uint32_t width, uint32_t height, uint32_t* elements,
                          uint32_t* pixels, uint32_t* in_block) {
  block.for_each_element(uint64_t{width} * height,
                         [&](uint64_t i) { atomic_add(&elements[i], 1U); });
  block.for_each_element_2d(width, height, [&](uint32_t x, uint32_t y) {
    atomic_add(&pixels[uint64_t{y} * width + x], 1U);
  });
  block.for_each_in_block(width, [&](uint32_t thread, uint64_t i) {
    // Thread t gets t, t + threads and so on; what another thread got is not counted.
    if (i % block.threads() == thread) atomic_add(&in_block[i], 1U);
  });
}

// Every type of parameter, in an order of its own.
KAAS_FUNCTION void parameters(Block& block, Everything* out, int32_t a, uint32_t b, int64_t c,
                              uint64_t d, float e, double f, Raw raw) {
  block.for_each_element(1, [&](uint64_t) { out[0] = {a, b, c, d, e, f, raw}; });
}

// Changes what it got by value, after using it: the next block must see the original.
KAAS_FUNCTION void consume(Block& block, uint32_t value, uint32_t* out) {
  const uint64_t at = block.linear_index();
  block.for_each_thread([&](const Thread& thread) {
    if (thread.linear == 0) out[at] = value;
  });
  value = 0;
}

KAAS_FUNCTION void totals(Block& block, uint64_t count, uint64_t* integer, int32_t* negative,
                          float* single, double* real) {
  block.for_each_element(count, [&](uint64_t i) {
    atomic_add(integer, i);
    atomic_add(negative, -1);
    atomic_add(single, 0.5F);
    atomic_add(real, 0.25);
  });
}

KAAS_FUNCTION void shared_size(Block& block, uint64_t* bytes) {
  block.for_each_element(1, [&](uint64_t) { bytes[0] = block.shared_bytes(); });
}

// A kernel that calls others as its steps, each on what the one before has left.
KAAS_FUNCTION void steps(Block& block, uint32_t count, uint32_t* out) {
  rounds(block, count, out);
  block.barrier();
  block.for_each_thread([&](const Thread& thread) {
    const uint64_t first = block.linear_index() * block.threads();
    if (thread.linear == 0) out[first] += out[first + block.threads() - 1];
  });
  block.barrier();
  const uint32_t value = out[block.linear_index() * block.threads()];
  block.for_each_thread([&](const Thread& thread) {
    if (thread.linear != 0) out[block.linear_index() * block.threads() + thread.linear] = value;
  });
}

// Runs another kernel with blocks of 3 x 2 threads, four of them for each block of this launch.
KAAS_FUNCTION void smaller_steps(Block& block, uint32_t count, uint32_t* out) {
  const Dim3 grid{4, static_cast<uint32_t>(block.blocks()), 1};
  for (uint32_t i = 0; i < grid.x; ++i) {
    Block step = block.step({{i, static_cast<uint32_t>(block.linear_index()), 0}, {3, 2, 1}, grid});
    rounds(step, count, out);
    block.barrier();
  }
}

}  // namespace

KAAS_KERNEL(rounds, KernelOptions().shared_per_thread(sizeof(uint32_t)));
KAAS_KERNEL(coordinates);
KAAS_KERNEL(visits);
KAAS_KERNEL(parameters);
KAAS_KERNEL(consume, KernelOptions().stateful());
KAAS_KERNEL(totals);
KAAS_KERNEL(shared_size, KernelOptions().shared_fixed(100).shared_per_thread(8));
KAAS_KERNEL(smaller_steps, KernelOptions().shared_per_thread(sizeof(uint32_t)));
KAAS_KERNEL(steps, KernelOptions().shared_per_thread(sizeof(uint32_t)));

}  // namespace kaas

KAAS_LIBRARY("probe");
