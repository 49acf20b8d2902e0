// A cubin, fatbin or PTX that the CUDA driver has loaded.
// Threads: one at a time, as device.h says.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/executor/device/cuda/cuda_device.h"

namespace kaas {

class CudaModule final : public DeviceModule {
 public:
  // Loads an image into the device's context. InvalidArgument: damaged, for another GPU, or PTX
  // that the driver does not compile; the message has the driver's log.
  static Result<std::shared_ptr<CudaModule>> load(const CudaDevice& device,
                                                  const ModuleCode& image);
  ~CudaModule() override;
  CudaModule(const CudaModule&) = delete;
  CudaModule& operator=(const CudaModule&) = delete;

  [[nodiscard]] const std::vector<std::string>& kernels() const noexcept override {
    return kernels_;
  }
  [[nodiscard]] const std::vector<std::string>& variables() const noexcept override {
    return variables_;
  }
  [[nodiscard]] bool lists_variables() const noexcept override { return lists_variables_; }
  Result<ModuleFunction> find(const std::string& kernel) override;
  Result<ModuleVariable> variable(const std::string& name) override;

 private:
  CudaModule(const CudaDevice& device, std::string what) noexcept
      : device_(device), what_(std::move(what)) {}
  Result<void> load_image(std::span<const std::byte> image);
  Result<void> list_kernels();
  [[nodiscard]] std::string log_of(const std::vector<char>& image) const;

  const CudaDevice& device_;
  std::string what_;
  CUlibrary library_ = nullptr;
  std::vector<std::string> kernels_;  // Sorted.
  std::vector<std::string> variables_;
  bool lists_variables_ = true;
};

}  // namespace kaas
