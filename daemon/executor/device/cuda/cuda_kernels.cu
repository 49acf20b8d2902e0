#include "daemon/executor/device/cuda/cuda_kernels.h"

#include <cuda_runtime.h>

namespace {

__global__ void end_iteration(cudaGraphConditionalHandle loop, const unsigned* until,
                              unsigned long long* iteration, unsigned long long* iterations,
                              unsigned long long iterations_max) {
  const unsigned long long done = *iteration + 1;
  const bool goes_on = *until == 0 && done < iterations_max;
  *iteration = goes_on ? done : 0;
  if (!goes_on) *iterations = done;
  cudaGraphSetConditional(loop, goes_on ? 1 : 0);
}

__device__ void move(const kaas::MoveTable& table) {
  for (unsigned m = 0; m < table.count; ++m) {
    const kaas::MoveTable::Entry& entry = table.entries[m];
    auto* to = reinterpret_cast<uint4*>(entry.to);
    const auto* from = reinterpret_cast<const uint4*>(entry.from);
    const std::uint64_t pieces = (entry.bytes + sizeof(uint4) - 1) / sizeof(uint4);
    for (std::uint64_t i = threadIdx.x; i < pieces; i += blockDim.x) to[i] = from[i];
  }
}

__global__ void begin_run(const __grid_constant__ kaas::MoveTable table) {
  move(table);
}

// The release at system scope also covers what the block's other threads wrote before the barrier,
// and earlier kernels of the stream or graph (PTX ISA, "Causality order").
__global__ void end_run(const __grid_constant__ kaas::MoveTable table, unsigned* word,
                        unsigned value) {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();  // It may have been started before what it is behind was done.
#endif
  move(table);
  __syncthreads();
  if (threadIdx.x == 0) {
    asm volatile("st.release.sys.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
  }
}

CUresult load(CUfunction* function, const void* symbol) {
  cudaFunction_t found = nullptr;
  const cudaError_t result = cudaGetFuncBySymbol(&found, symbol);
  *function = found;
  return result == cudaSuccess ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

}  // namespace

namespace kaas {

CUresult load_end_iteration(CUfunction* function) {
  return load(function, reinterpret_cast<const void*>(&end_iteration));
}

CUresult load_begin_run(CUfunction* function) {
  return load(function, reinterpret_cast<const void*>(&begin_run));
}

CUresult load_end_run(CUfunction* function) {
  return load(function, reinterpret_cast<const void*>(&end_run));
}

}  // namespace kaas
