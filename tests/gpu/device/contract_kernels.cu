#include <cuda_runtime.h>
#include <kaas/kernel.h>

#include <cstdint>
#include <stdexcept>

#include "tests/gpu/device/contract_functions.h"

namespace {

__global__ void count_blocks(std::uint32_t* out) {
  extern __shared__ char shared[];
  for (unsigned i = threadIdx.x; i < 8 * blockDim.x; i += blockDim.x) shared[i] = 1;
  if (threadIdx.x == 0) out[blockIdx.x] += blockIdx.x + 1;
}

// The last warp takes longer than the one that says so.
__global__ void count_blocks_ending(kaas_run_end end, std::uint32_t* out) {
  if (threadIdx.x == blockDim.x - 1) {
    __nanosleep(2000);
    out[blockIdx.x] += blockIdx.x + 1;
  }
  kaas::end_run(end);
}

__global__ void count_to_three(std::uint32_t* words) {
  if (threadIdx.x == 0) words[1] = ++words[0] >= 3 ? 1 : 0;
}

__global__ void add(const std::uint32_t* in, std::uint32_t* out, std::uint32_t number) {
  if (threadIdx.x == 0) *out = *in + number;
}

__global__ void fault(std::uint32_t* words) {
  *reinterpret_cast<volatile std::uint32_t*>(8) = words[0];
}

}  // namespace

extern "C" {

// As the original system's wrappers: on the legacy stream.
int contract_add_two(int grid, int block, void** buffers) {
  add<<<1, 1>>>(static_cast<const std::uint32_t*>(buffers[0]),
                static_cast<std::uint32_t*>(buffers[1]), static_cast<std::uint32_t>(grid * block));
  return 0;
}

int contract_throwing(const kaas_launch*, void* const*, void*, void*, char*, size_t) {
  throw std::runtime_error("from a kernel");
}

int contract_refusing(const kaas_launch*, void* const*, void*, void*, char* error, size_t bytes) {
  kaas_write_error(error, bytes, "no reason");
  return 3;
}

const void* contract_entry(const char* name) {
  switch (name[6]) {
    case 'b':
      return reinterpret_cast<const void*>(&count_blocks);
    case 't':
      return reinterpret_cast<const void*>(&count_to_three);
    default:
      return reinterpret_cast<const void*>(&fault);
  }
}

const void* contract_ending_entry() {
  return reinterpret_cast<const void*>(&count_blocks_ending);
}

int contract_resolve(const void* entry, void** function, char* error, size_t bytes) {
  cudaFunction_t found = nullptr;
  const cudaError_t result = cudaGetFuncBySymbol(&found, entry);
  *function = found;
  if (result != cudaSuccess) kaas_write_error(error, bytes, cudaGetErrorString(result));
  return static_cast<int>(result);
}
}
