// Twenty kernels of an ordinary CUDA program, as people write them: compiled to a cubin, to PTX, to
// a fatbin, and at run time by NVRTC. So it includes nothing that NVRTC lacks.
#include <cooperative_groups.h>

__constant__ float table[4] = {1, 2, 3, 4};
__constant__ unsigned char bytes_table[3] = {7, 8, 9};
static __device__ int counter;

namespace kaas {
__device__ double deep[2];
}

struct Range {
  const float* from;
  float* to;
  unsigned count;
  float factor;
};

struct Pair {
  int first;
  double second;
};

__device__ unsigned thread_index() {
  return blockIdx.x * blockDim.x + threadIdx.x;
}

// --- Plain signatures ----------------------------------------------------------------------------

__global__ void nothing() {}

__global__ void add(unsigned count, const float* a, const float* b, float* out) {
  const unsigned i = thread_index();
  if (i < count) out[i] = a[i] + b[i];
}

__global__ void saxpy(unsigned long long count, float factor, const float* x, float* y) {
  const unsigned i = thread_index();
  if (i < count) y[i] += factor * x[i];
}

// Buffers before numbers: a request gives an order.
__global__ void subtract(const float* a, const float* b, float* out, int count) {
  const int i = static_cast<int>(thread_index());
  if (i < count) out[i] = a[i] - b[i];
}

extern "C" __global__ void plain_c(int value, int* out) {
  if (thread_index() == 0) *out = value + 1;
}

__global__ void mixed(signed char small, short half, double wide, long long big, double* out) {
  if (thread_index() == 0) *out = small + half + wide + static_cast<double>(big);
}

// Two of one name, told apart by their parameters.
__global__ void store(int value, int* out) {
  if (thread_index() == 0) *out = value;
}
__global__ void store(float value, float* out) {
  if (thread_index() == 0) *out = value;
}

namespace kaas {
__global__ void twice(unsigned count, int* data) {
  const unsigned i = thread_index();
  if (i < count) data[i] *= 2;
}
}  // namespace kaas

// --- Structs by value ----------------------------------------------------------------------------

__global__ void scale_range(Range range) {
  const unsigned i = thread_index();
  if (i < range.count) range.to[i] = range.factor * range.from[i];
}

__global__ void sum_pair(Pair pair, double* out) {
  if (thread_index() == 0) *out = pair.first + pair.second;
}

// --- Templates -----------------------------------------------------------------------------------

template <typename T>
__global__ void scale(unsigned count, T factor, T* data) {
  const unsigned i = thread_index();
  if (i < count) data[i] *= factor;
}
template __global__ void scale<float>(unsigned, float, float*);
template __global__ void scale<int>(unsigned, int, int*);

template <typename T, unsigned kShift>
__global__ void shift(unsigned count, const T* in, T* out) {
  const unsigned i = thread_index();
  if (i < count) out[(i + kShift) % count] = in[i];
}
template __global__ void shift<int, 3>(unsigned, const int*, int*);

// --- Shared memory, clusters, grids --------------------------------------------------------------

__global__ void reverse_static(const int* in, int* out) {
  __shared__ int tile[256];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

// All of the block's dynamic memory, which may be more than 48 KiB.
__global__ void reverse_dynamic(unsigned count, const int* in, int* out) {
  extern __shared__ int values[];
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) values[i] = in[i];
  __syncthreads();
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) out[i] = values[count - 1 - i];
}

// Each block adds up what all blocks wrote before the barrier of the grid.
__global__ void grid_sum(int* partial, int* out) {
  if (threadIdx.x == 0) partial[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
  cooperative_groups::this_grid().sync();
  if (threadIdx.x != 0) return;
  int sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += partial[i];
  out[blockIdx.x] = sum;
}

__global__ void cluster_rank(unsigned* out) {
  unsigned rank = 0;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  if (threadIdx.x == 0) out[blockIdx.x] = rank;
}

// --- Variables -----------------------------------------------------------------------------------

__global__ void look_up(unsigned count, const int* index, float* out) {
  const unsigned i = thread_index();
  if (i < count) out[i] = table[index[i] & 3] + static_cast<float>(bytes_table[0]);
}

__global__ void count_calls(int* out) {
  if (thread_index() == 0) *out = ++counter;
}

__global__ void read_deep(double* out) {
  if (thread_index() < 2) out[thread_index()] = kaas::deep[thread_index()];
}
