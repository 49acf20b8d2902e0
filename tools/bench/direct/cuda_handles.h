// CUDA handles of programs with a context of their own, and its errors as texts.
// Owns:    each what its name says.
// Threads: one.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>

namespace kaas {

// Empty for success; else "cudaMalloc: out of memory (2)".
inline std::string cuda_text(const char* what, cudaError_t status) {
  if (status == cudaSuccess) return {};
  return std::string(what) + ": " + cudaGetErrorString(status) + " (" + std::to_string(status) +
         ")";
}

struct FreeDevice {
  void operator()(void* memory) const noexcept { cudaFree(memory); }
};
struct FreePinned {
  void operator()(void* memory) const noexcept { cudaFreeHost(memory); }
};
struct DestroyStream {
  void operator()(cudaStream_t stream) const noexcept { cudaStreamDestroy(stream); }
};
struct DestroyEvent {
  void operator()(cudaEvent_t event) const noexcept { cudaEventDestroy(event); }
};
struct DestroyGraph {
  void operator()(cudaGraph_t graph) const noexcept { cudaGraphDestroy(graph); }
};
struct DestroyGraphExec {
  void operator()(cudaGraphExec_t graph) const noexcept { cudaGraphExecDestroy(graph); }
};
template <class T>
using DeviceArray = std::unique_ptr<T[], FreeDevice>;
template <class T>
using PinnedArray = std::unique_ptr<T[], FreePinned>;
using OwnedStream = std::unique_ptr<CUstream_st, DestroyStream>;
using OwnedEvent = std::unique_ptr<CUevent_st, DestroyEvent>;
using OwnedGraph = std::unique_ptr<CUgraph_st, DestroyGraph>;
using OwnedGraphExec = std::unique_ptr<CUgraphExec_st, DestroyGraphExec>;

template <class T>
std::string allocate(DeviceArray<T>& array, std::uint64_t count) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, count * sizeof(T));
  if (status == cudaSuccess) array.reset(static_cast<T*>(memory));
  return cuda_text("cudaMalloc", status);
}

template <class T>
std::string allocate(PinnedArray<T>& array, std::uint64_t count) {
  void* memory = nullptr;
  const cudaError_t status = cudaHostAlloc(&memory, count * sizeof(T), cudaHostAllocDefault);
  if (status == cudaSuccess) array.reset(static_cast<T*>(memory));
  return cuda_text("cudaHostAlloc", status);
}

}  // namespace kaas
