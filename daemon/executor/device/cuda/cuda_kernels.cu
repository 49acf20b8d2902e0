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

// The release at system scope also covers what earlier kernels of the stream or graph wrote (PTX
// ISA, "Causality order").
__global__ void signal(unsigned* word, unsigned value) {
  asm volatile("st.release.sys.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
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

CUresult load_signal(CUfunction* function) {
  return load(function, reinterpret_cast<const void*>(&signal));
}

}  // namespace kaas
