// The end of an iteration inside a graph: decides whether the graph's loop goes on.
// Threads: any, with a context current.
#pragma once

#include <cuda.h>

namespace kaas {

// What the kernel gets, in this order.
struct LoopParameters {
  CUgraphConditionalHandle loop;
  const unsigned* until;           // Stop when it is not zero; device memory.
  unsigned long long* iteration;   // Device memory, zero before and after a run.
  unsigned long long* iterations;  // Host memory; written when the loop ends.
  unsigned long long iterations_max;
};

// The kernel, for one thread.
CUresult load_loop_kernel(CUfunction* function);

}  // namespace kaas
