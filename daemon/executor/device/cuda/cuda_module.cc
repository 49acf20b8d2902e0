#include "daemon/executor/device/cuda/cuda_module.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "daemon/executor/library/module_image.h"

namespace kaas {
namespace {

constexpr std::size_t kLogBytes = 8u << 10;
constexpr std::size_t kParametersMax = 4096;

}  // namespace

Result<std::shared_ptr<CudaModule>> CudaModule::load(const CudaDevice& device,
                                                     const ModuleCode& image) {
  KAAS_ASSIGN_OR_RETURN(ModuleImage seen, inspect_image(image.bytes, image.what));
  std::shared_ptr<CudaModule> module(new CudaModule(device, image.what));
  module->variables_ = std::move(seen.variables);
  module->lists_variables_ = seen.lists_variables;
  KAAS_RETURN_IF_ERROR(module->load_image(image.bytes));
  KAAS_RETURN_IF_ERROR(module->list_kernels());
  return module;
}

CudaModule::~CudaModule() {
  if (library_ == nullptr || device_.lost()) return;
  device_.enter();
  device_.driver().LibraryUnload(library_);
}

// The driver may load code when it is first used, but errors belong here.
Result<void> CudaModule::load_image(std::span<const std::byte> image) {
  const CudaDriver& driver = device_.driver();
  // PTX is text that ends with a zero.
  std::vector<char> copy(image.size() + 1, '\0');
  std::memcpy(copy.data(), image.data(), image.size());
  CUmodule module = nullptr;
  CUresult result =
      driver.LibraryLoadData(&library_, copy.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  if (result != CUDA_SUCCESS) library_ = nullptr;
  if (result == CUDA_SUCCESS) result = driver.LibraryGetModule(&module, library_);
  if (result == CUDA_SUCCESS) return {};
  Status why = device_.failed(
      result, what_ + " can't be loaded on " + device_.limits().name + ", which is sm_" +
                  std::to_string(device_.architecture()) + " with a driver for CUDA " +
                  std::to_string(driver.version / 1000) + "." +
                  std::to_string(driver.version % 1000 / 10));
  if (device_.lost()) return why;
  const std::string log = log_of(copy);
  if (!log.empty()) why.message += ": " + log;
  return why;
}

// What the driver has to say of an image that it does not load.
std::string CudaModule::log_of(const std::vector<char>& image) const {
  std::vector<char> log(kLogBytes, '\0');
  std::array<CUjit_option, 2> options = {CU_JIT_ERROR_LOG_BUFFER,
                                         CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  std::array<void*, 2> values = {log.data(), reinterpret_cast<void*>(log.size())};  // NOLINT
  CUmodule module = nullptr;
  const CUresult result = device_.driver().ModuleLoadDataEx(
      &module, image.data(), static_cast<unsigned>(options.size()), options.data(), values.data());
  if (result == CUDA_SUCCESS) device_.driver().ModuleUnload(module);
  log.back() = '\0';
  std::string text(log.data());
  text.erase(text.find_last_not_of(" \n\r") + 1);
  return text;
}

Result<void> CudaModule::list_kernels() {
  const CudaDriver& driver = device_.driver();
  const std::string what = "looking into " + what_;
  unsigned count = 0;
  CUresult result = driver.LibraryGetKernelCount(&count, library_);
  if (result != CUDA_SUCCESS) return device_.failed(result, what);
  if (count == 0 && variables_.empty() && lists_variables_) {
    return Status{StatusCode::InvalidArgument, what_ + " has neither kernels nor variables"};
  }
  std::vector<CUkernel> found(count);
  if (count != 0) result = driver.LibraryEnumerateKernels(found.data(), count, library_);
  if (result != CUDA_SUCCESS) return device_.failed(result, what);
  for (CUkernel kernel : found) {
    const char* name = nullptr;
    result = driver.KernelGetName(&name, kernel);
    if (result != CUDA_SUCCESS) return device_.failed(result, what);
    kernels_.emplace_back(name);
  }
  std::sort(kernels_.begin(), kernels_.end());
  return {};
}

Result<ModuleFunction> CudaModule::find(const std::string& kernel) {
  device_.enter();
  const CudaDriver& driver = device_.driver();
  const std::string what = "loading kernel '" + kernel + "' of " + what_;
  CUkernel handle = nullptr;
  CUresult result = driver.LibraryGetKernel(&handle, library_, kernel.c_str());
  if (result != CUDA_SUCCESS) return device_.failed(result, what);
  CUfunction function = nullptr;
  result = driver.KernelGetFunction(&function, handle);
  if (result != CUDA_SUCCESS) return device_.failed(result, what);
  ModuleFunction found;
  found.native = function;
  for (std::size_t i = 0; i < kParametersMax; ++i) {
    std::size_t offset = 0;
    std::size_t bytes = 0;
    result = driver.KernelGetParamInfo(handle, i, &offset, &bytes);
    if (result == CUDA_ERROR_INVALID_VALUE) return found;  // Behind the last one.
    if (result != CUDA_SUCCESS) return device_.failed(result, what);
    found.parameter_bytes.push_back(static_cast<std::uint32_t>(bytes));
  }
  return over_limit(StatusCode::InvalidArgument, what + ": number of parameters", kParametersMax,
                    kParametersMax - 1);
}

Result<ModuleVariable> CudaModule::variable(const std::string& name) {
  device_.enter();
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
  const CUresult result =
      device_.driver().LibraryGetGlobal(&address, &bytes, library_, name.c_str());
  if (result != CUDA_SUCCESS) {
    return device_.failed(result, "looking for variable '" + name + "' of " + what_);
  }
  return ModuleVariable{static_cast<DeviceAddress>(address), bytes};
}

}  // namespace kaas
