// Work on a CUDA stream of its own. Programs are launched as the graph that prepare() made of them
// once that is ready, else kernel by kernel.
// Threads: as device.h says.
#pragma once

#include <array>
#include <memory>

#include "daemon/executor/device/cuda/cuda_device.h"

namespace kaas {

class CudaStream final : public DeviceStream {
 public:
  static Result<std::unique_ptr<CudaStream>> open(CudaDevice& device);
  ~CudaStream() override;

  Result<void> copy_to_device(DeviceAddress to, std::span<const std::byte> from) override;
  Result<void> copy_to_host(std::span<std::byte> to, DeviceAddress from) override;
  Result<void> copy(DeviceAddress to, DeviceAddress from, std::uint64_t bytes) override;
  Result<void> zero(DeviceAddress to, std::uint64_t bytes) override;
  Result<void> launch(const KernelProgram& program) override;

  void time(bool wanted) override;
  void mark(StreamMark mark) override;
  [[nodiscard]] std::uint64_t between_ns(StreamMark begin, StreamMark end) const override;
  [[nodiscard]] ProgramCounts counts() const override;

  Result<bool> poll() override;
  Result<void> wait() override;

 private:
  explicit CudaStream(CudaDevice& device) noexcept : device_(device), driver_(device.driver()) {}
  Result<void> launch_each(const KernelProgram& program, std::uint64_t iterations);
  Result<void> launch_until(const KernelProgram& program);
  Result<void> launch_opaque(const KernelLaunch& launch, const KernelProgram& program);
  Result<void> launch_original(const KernelLaunch& launch, const KernelProgram& program);
  Result<void> idle(CUresult result);

  CudaDevice& device_;
  const CudaDriver& driver_;
  CUstream stream_ = nullptr;
  CUevent order_ = nullptr;  // Between this stream and the legacy one; made when first needed.
  std::array<CUevent, kStreamMarks> marks_{};  // Made when times are first wanted.
  bool timed_ = false;
  std::uint64_t begin_ns_ = 0;  // By this process's clock, where no events measure.
  std::uint64_t end_ns_ = 0;
  ProgramCounts counts_;
  const std::uint64_t* iterations_ = nullptr;  // Where the device counts them; null: counted here.
  std::string doing_ = "a copy";               // For errors that show later.
};

// Enqueues one kernel that has a native function.
CUresult launch_kernel(const CudaDriver& driver, const KernelLaunch& launch, CUstream stream);

// The driver's form of a launch's attributes; returns how many.
unsigned launch_attributes(const KernelLaunch& launch,
                           std::array<CUlaunchAttribute, 2>& attributes);

}  // namespace kaas
