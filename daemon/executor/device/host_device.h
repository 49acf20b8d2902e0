// The host as a device: its memory, its kernels on the CPU. What a machine without a GPU uses.
// Synchronous: a stream's calls return when their work is done. A program that is not brief deals
// the blocks of large grids out to TBB's workers; everything else runs on the calling thread.
// Threads: as device.h says.
#pragma once

#include "daemon/executor/device/device.h"

namespace kaas {

class HostDevice final : public Device {
 public:
  // `memory_bytes`: how much may be allocated. `threads`: how many run kernels.
  HostDevice(std::uint64_t memory_bytes, std::uint32_t threads);
  ~HostDevice() override;

  [[nodiscard]] const DeviceLimits& limits() const noexcept override { return limits_; }
  Result<DeviceMemory> allocate(std::uint64_t bytes) override;
  [[nodiscard]] std::uint64_t allocated_bytes() const noexcept override { return allocated_; }
  Result<DeviceMemory> allocate_host(std::uint64_t bytes) override;
  Result<HostRegistration> register_host(std::span<std::byte> memory, bool writable) override;
  Result<DeviceFunction> load(const KernelEntry& entry) override;
  std::unique_ptr<PreparedProgram> prepare(const KernelProgram& program) override;
  Result<std::unique_ptr<DeviceStream>> open_stream() override;

 private:
  void release(DeviceAddress address, std::uint64_t bytes) noexcept override;
  void unregister_host(std::byte* memory, std::uint64_t bytes) noexcept override;

  DeviceLimits limits_;
  std::uint64_t allocated_ = 0;
};

}  // namespace kaas
