#include "daemon/executor/device/cuda/cuda_driver.h"

#include <dlfcn.h>

namespace kaas {
namespace {

constexpr const char* kDriverLibrary = "libcuda.so.1";

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Status unavailable(std::string why) {
  return Status{StatusCode::Unavailable, std::move(why)};
}

// The table lives for ever: the driver must not be unloaded while static objects still use it.
Result<const CudaDriver*> load() {
  void* library = ::dlopen(kDriverLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return unavailable(std::string("no CUDA driver: ") + ::dlerror());
  }
  const auto get_version =
      reinterpret_cast<decltype(&cuDriverGetVersion)>(::dlsym(library, "cuDriverGetVersion"));
  auto* driver = new CudaDriver;
  if (get_version != nullptr) get_version(&driver->version);
  const std::string needed = "; this program needs a driver for CUDA " + version_text(CUDA_VERSION);
#define KAAS_CUDA_LOAD(name)                                                              \
  {                                                                                       \
    const char* symbol = KAAS_CUDA_SYMBOL(name);                                          \
    void* function = ::dlsym(library, symbol);                                            \
    if (function == nullptr) {                                                            \
      return unavailable("the CUDA driver is too old: it has no " + std::string(symbol) + \
                         ", it is for CUDA " + version_text(driver->version) + needed);   \
    }                                                                                     \
    driver->name = reinterpret_cast<decltype(driver->name)>(function);                    \
  }
  KAAS_CUDA_FUNCTIONS(KAAS_CUDA_LOAD)
#undef KAAS_CUDA_LOAD
  const CUresult initialised = driver->Init(0);
  if (initialised == CUDA_ERROR_NO_DEVICE) return unavailable("the CUDA driver finds no device");
  if (initialised != CUDA_SUCCESS) {
    const char* text = nullptr;
    driver->GetErrorString(initialised, &text);
    return unavailable(std::string("the CUDA driver does not start: ") +
                       (text == nullptr ? "unknown error" : text));
  }
  return static_cast<const CudaDriver*>(driver);
}

StatusCode code_of(CUresult result) noexcept {
  switch (result) {
    case CUDA_ERROR_OUT_OF_MEMORY:
      return StatusCode::OutOfMemory;
    case CUDA_ERROR_INVALID_VALUE:
    case CUDA_ERROR_INVALID_IMAGE:
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
    case CUDA_ERROR_INVALID_PTX:
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
    case CUDA_ERROR_INVALID_SOURCE:
    case CUDA_ERROR_INVALID_HANDLE:
    case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES:
    case CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE:
    case CUDA_ERROR_NOT_SUPPORTED:
    case CUDA_ERROR_NOT_PERMITTED:
    case CUDA_ERROR_INVALID_CLUSTER_SIZE:
      return StatusCode::InvalidArgument;
    case CUDA_ERROR_NOT_FOUND:
      return StatusCode::NotFound;
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_DEVICE:
      return StatusCode::Unavailable;
    default:
      return ends_the_context(result) ? StatusCode::KernelFault : StatusCode::Internal;
  }
}

}  // namespace

const Result<const CudaDriver*>& cuda_driver() {
  static const Result<const CudaDriver*> kDriver = load();
  return kDriver;
}

Status cuda_status(CUresult result, const std::string& what) {
  const char* name = nullptr;
  const char* text = nullptr;
  if (cuda_driver().has_value()) {
    (*cuda_driver())->GetErrorName(result, &name);
    (*cuda_driver())->GetErrorString(result, &text);
  }
  return Status{code_of(result), what + ": " + (text == nullptr ? "unknown error" : text) + " (" +
                                     (name == nullptr ? std::to_string(result) : name) + ")"};
}

bool ends_the_context(CUresult result) noexcept {
  switch (result) {
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_TENSOR_MEMORY_LEAK:
    case CUDA_ERROR_CONTAINED:
    case CUDA_ERROR_MPS_CLIENT_TERMINATED:
      return true;
    default:
      return false;
  }
}

}  // namespace kaas
