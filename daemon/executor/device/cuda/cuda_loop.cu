#include <cuda_runtime.h>

#include "daemon/executor/device/cuda/cuda_loop.h"

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

}  // namespace

namespace kaas {

CUresult load_loop_kernel(CUfunction* function) {
  cudaFunction_t found = nullptr;
  const cudaError_t result =
      cudaGetFuncBySymbol(&found, reinterpret_cast<const void*>(&end_iteration));
  *function = found;
  return result == cudaSuccess ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

}  // namespace kaas
