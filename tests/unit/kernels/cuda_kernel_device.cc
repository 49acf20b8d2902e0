#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include "tests/unit/kernels/kernel_device.h"

namespace kaas {
namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
  std::abort();
}

// A driver function, found through the runtime, so that the test starts where there is no driver.
template <class Function>
Function driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found), name);
  return reinterpret_cast<Function>(function);
}

class CudaKernelDevice : public KernelDevice {
 public:
  CudaKernelDevice()
      : launch_kernel_(driver_function<decltype(&cuLaunchKernel)>("cuLaunchKernel")),
        set_attribute_(driver_function<decltype(&cuFuncSetAttribute)>("cuFuncSetAttribute")) {}

  [[nodiscard]] unsigned kind() const override { return KAAS_DEVICE_CUDA; }
  [[nodiscard]] std::string library_suffix() const override { return ".cuda.so"; }

  [[nodiscard]] void* allocate(std::size_t bytes) override {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes == 0 ? 1 : bytes), "cudaMalloc");
    return memory;
  }
  void free(void* memory) override { check(cudaFree(memory), "cudaFree"); }
  void upload(void* to, const void* from, std::size_t bytes) override {
    check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "upload");
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "download");
  }

  void run(const kaas_library& library, const kaas_kernel_descriptor& kernel,
           const kaas_launch& launch, void* const* params) override {
    void* found = nullptr;
    char error[256] = "";
    if (library.resolve(kernel.device_entry, &found, error, sizeof(error)) != 0) {
      std::fprintf(stderr, "%s: %s\n", kernel.name, error);
      std::abort();
    }
    auto* function = static_cast<CUfunction>(found);
    const auto shared_bytes = static_cast<unsigned>(launch.shared_bytes);
    check_driver(set_attribute_(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                static_cast<int>(shared_bytes)),
                 kernel.name);
    check_driver(launch_kernel_(function, launch.grid[0], launch.grid[1], launch.grid[2],
                                launch.block[0], launch.block[1], launch.block[2], shared_bytes,
                                nullptr, const_cast<void**>(params), nullptr),
                 kernel.name);
    check(cudaDeviceSynchronize(), kernel.name);
  }

 private:
  static void check_driver(CUresult status, const char* what) {
    if (status == CUDA_SUCCESS) return;
    std::fprintf(stderr, "%s: CUDA driver error %d\n", what, static_cast<int>(status));
    std::abort();
  }

  decltype(&cuLaunchKernel) launch_kernel_;
  decltype(&cuFuncSetAttribute) set_attribute_;
};

}  // namespace

std::unique_ptr<KernelDevice> make_kernel_device() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return nullptr;
  check(cudaSetDevice(0), "cudaSetDevice");
  check(cudaFree(nullptr), "context");
  return std::make_unique<CudaKernelDevice>();
}

}  // namespace kaas
