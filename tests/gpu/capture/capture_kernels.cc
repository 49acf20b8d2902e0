// Opaque launch functions: some keep what they declare, others do not.
#include <kaas/kernel.h>

#if defined(__CUDACC__)

namespace {

__global__ void scale(uint64_t count, float factor, const float* in, float* out) {
  const uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) out[i] = in[i] * factor;
}
__global__ void add_one(uint64_t count, float* data) {
  const uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) data[i] += 1.0f;
}

constexpr unsigned kThreads = 128;
unsigned blocks(uint64_t count) {
  return static_cast<unsigned>((count + kThreads - 1) / kThreads);
}
cudaStream_t stream_of(const kaas::OpaqueCall& call) {
  return static_cast<cudaStream_t>(call.stream);
}

// out = in * factor + 1.
int enqueue(const kaas::OpaqueCall& call, uint64_t count, float factor, const float* in,
            float* out) {
  scale<<<blocks(count), kThreads, 0, stream_of(call)>>>(count, factor, in, out);
  add_one<<<blocks(count), kThreads, 0, stream_of(call)>>>(count, out);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? 0 : call.fail(cudaGetErrorString(error));
}

int two_kernels(const kaas::OpaqueCall& call, uint64_t count, float factor, const float* in,
                float* out) {
  return enqueue(call, count, factor, in, out);
}
// The same, not declared.
int undeclared(const kaas::OpaqueCall& call, uint64_t count, float factor, const float* in,
               float* out) {
  return enqueue(call, count, factor, in, out);
}
// Synchronises, and looks at no error.
int synchronises(const kaas::OpaqueCall& call, uint64_t count, float factor, const float* in,
                 float* out) {
  const int outcome = enqueue(call, count, factor, in, out);
  cudaStreamSynchronize(stream_of(call));
  return outcome;
}
int synchronises_all(const kaas::OpaqueCall& call, uint64_t count, float factor, const float* in,
                     float* out) {
  const int outcome = enqueue(call, count, factor, in, out);
  cudaDeviceSynchronize();
  return outcome;
}
// Allocates, and says when it can't.
int allocates(const kaas::OpaqueCall& call, uint64_t count, float factor, const float* in,
              float* out) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, 4096);
  if (error != cudaSuccess) return call.fail(cudaGetErrorString(error));
  const int outcome = enqueue(call, count, factor, in, out);
  cudaFree(memory);
  return outcome;
}
// Ends what it did not begin.
int ends_capture(const kaas::OpaqueCall& call, uint64_t count, float factor, const float* in,
                 float* out) {
  const int outcome = enqueue(call, count, factor, in, out);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(stream_of(call), &status);
  cudaGraph_t graph = nullptr;
  if (status == cudaStreamCaptureStatusActive) cudaStreamEndCapture(stream_of(call), &graph);
  return outcome;
}

}  // namespace

KAAS_OPAQUE_KERNEL(two_kernels, kaas::KernelOptions().capture_pure());
KAAS_OPAQUE_KERNEL(undeclared, kaas::KernelOptions());
KAAS_OPAQUE_KERNEL(synchronises, kaas::KernelOptions().capture_pure());
KAAS_OPAQUE_KERNEL(synchronises_all, kaas::KernelOptions().capture_pure());
KAAS_OPAQUE_KERNEL(allocates, kaas::KernelOptions().capture_pure());
KAAS_OPAQUE_KERNEL(ends_capture, kaas::KernelOptions().capture_pure());

#endif

KAAS_LIBRARY("capture");
