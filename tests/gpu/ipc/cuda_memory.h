// Device memory of every kind, by the CUDA runtime; what fails ends the process with the reason.
// Threads: one.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/gpu/ipc/exporter_protocol.h"

namespace kaas {

inline void must(bool good, const char* what, int error = 0) {
  if (good) return;
  std::fprintf(stderr, "%s failed: %d\n", what, error);
  std::abort();
}
#define KAAS_MUST_CUDA(call)                                            \
  do {                                                                  \
    const auto kaas_error = (call);                                     \
    ::kaas::must(kaas_error == 0, #call, static_cast<int>(kaas_error)); \
  } while (false)

// GPUs of this machine; 0 without a driver.
inline int gpu_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

// A function of the driver API, which the runtime has loaded.
template <class Function>
Function driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  KAAS_MUST_CUDA(
      cudaGetDriverEntryPointByVersion(name, &function, CUDA_VERSION, cudaEnableDefault, &found));
  must(function != nullptr, name);
  return reinterpret_cast<Function>(function);
}
#define KAAS_DRIVER(name) ::kaas::driver_function<decltype(&(name))>(#name)

// cuMemCreate memory, mapped; a multiple of its granularity.
class MappedMemory {
 public:
  MappedMemory(int device, std::uint64_t bytes, bool is_shared) {
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    properties.location.id = device;
    if (is_shared) properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    std::size_t granularity = 0;
    KAAS_MUST_CUDA(KAAS_DRIVER(cuMemGetAllocationGranularity)(&granularity, &properties,
                                                              CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    bytes_ = (bytes + granularity - 1) / granularity * granularity;
    CUmemGenericAllocationHandle handle{};
    KAAS_MUST_CUDA(KAAS_DRIVER(cuMemCreate)(&handle, bytes_, &properties, 0));
    KAAS_MUST_CUDA(KAAS_DRIVER(cuMemAddressReserve)(&address_, bytes_, 0, 0, 0));
    KAAS_MUST_CUDA(KAAS_DRIVER(cuMemMap)(address_, bytes_, 0, handle, 0));
    KAAS_MUST_CUDA(KAAS_DRIVER(cuMemRelease)(handle));
    CUmemAccessDesc access{};
    access.location = properties.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    KAAS_MUST_CUDA(KAAS_DRIVER(cuMemSetAccess)(address_, bytes_, &access, 1));
  }
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;
  ~MappedMemory() {
    KAAS_DRIVER(cuMemUnmap)(address_, bytes_);
    KAAS_DRIVER(cuMemAddressFree)(address_, bytes_);
  }
  [[nodiscard]] void* get() const noexcept { return reinterpret_cast<void*>(address_); }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  CUdeviceptr address_ = 0;
  std::uint64_t bytes_ = 0;
};

// A pool whose memory can be shared.
class SharedPool {
 public:
  explicit SharedPool(int device) {
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.handleTypes = cudaMemHandleTypePosixFileDescriptor;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device;
    KAAS_MUST_CUDA(cudaMemPoolCreate(&pool_, &properties));
  }
  SharedPool(const SharedPool&) = delete;
  SharedPool& operator=(const SharedPool&) = delete;
  ~SharedPool() { cudaMemPoolDestroy(pool_); }

  void* allocate(std::uint64_t bytes) {
    void* memory = nullptr;
    KAAS_MUST_CUDA(cudaMallocFromPoolAsync(&memory, bytes, pool_, nullptr));
    KAAS_MUST_CUDA(cudaStreamSynchronize(nullptr));
    return memory;
  }
  static void free(void* memory) {
    KAAS_MUST_CUDA(cudaFreeAsync(memory, nullptr));
    KAAS_MUST_CUDA(cudaStreamSynchronize(nullptr));
  }

 private:
  cudaMemPool_t pool_ = nullptr;
};

inline void fill_words(void* to, std::uint64_t bytes, std::uint32_t value) {
  const std::vector<std::uint32_t> words(bytes / sizeof value, value);
  KAAS_MUST_CUDA(cudaMemcpy(to, words.data(), words.size() * sizeof value, cudaMemcpyHostToDevice));
}

inline bool all_words_are(const void* from, std::uint64_t bytes, std::uint32_t value) {
  std::vector<std::uint32_t> words(bytes / sizeof value);
  KAAS_MUST_CUDA(
      cudaMemcpy(words.data(), from, words.size() * sizeof value, cudaMemcpyDeviceToHost));
  for (const std::uint32_t word : words) {
    if (word != value) return false;
  }
  return true;
}

inline std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// The id by which kaasd knows a GPU.
inline std::string gpu_id(int device = 0) {
  cudaDeviceProp properties{};
  KAAS_MUST_CUDA(cudaGetDeviceProperties(&properties, device));
  std::string text = "GPU-";
  for (std::size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x",
                  static_cast<unsigned char>(properties.uuid.bytes[i]));
    text += digits;
  }
  return text;
}

inline std::uint64_t free_device_bytes() {
  std::size_t free = 0;
  std::size_t total = 0;
  KAAS_MUST_CUDA(cudaMemGetInfo(&free, &total));
  return free;
}

}  // namespace kaas
