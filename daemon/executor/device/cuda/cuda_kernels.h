// The executor's own kernels, each for one thread.
// Threads: any, with a context current.
#pragma once

#include <cuda.h>

namespace kaas {

// end_iteration: decides whether a graph's loop goes on. Its parameters, in this order:
//   handle of the loop
//   const u32* until        stop when it is not zero; device memory
//   u64* iteration          device memory, zero before and after a run
//   u64* iterations         host memory; written when the loop ends
//   u64  iterations_max
CUresult load_end_iteration(CUfunction* function);

// signal: writes a word of host memory when all before it is done and visible to the host.
//   u32* word, u32 value
CUresult load_signal(CUfunction* function);

}  // namespace kaas
