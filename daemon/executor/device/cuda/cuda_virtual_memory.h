// Owners of what the CUDA driver's virtual memory management gives out, for the files of this
// folder that map memory by descriptor.
// Reference: the CUDA driver API manual, "Virtual Memory Management".
// Threads: the executor's main thread.
#pragma once

#include <cstddef>
#include <utility>

#include "daemon/executor/device/cuda/cuda_driver.h"

namespace kaas {

// Makes a context current, and the one before when it ends.
class ContextScope {
 public:
  ContextScope(const CudaDriver& driver, CUcontext context) noexcept : driver_(driver) {
    driver_.CtxGetCurrent(&before_);
    changed_ = before_ != context;
    if (changed_) driver_.CtxSetCurrent(context);
  }
  ~ContextScope() {
    if (changed_) driver_.CtxSetCurrent(before_);
  }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  const CudaDriver& driver_;
  CUcontext before_ = nullptr;
  bool changed_ = false;
};

// A reserved range of addresses and what is mapped there.
struct VirtualRange {
  const CudaDriver* driver = nullptr;
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
  bool is_mapped = false;

  VirtualRange() noexcept = default;
  VirtualRange(VirtualRange&& other) noexcept
      : driver(std::exchange(other.driver, nullptr)),
        address(other.address),
        bytes(other.bytes),
        is_mapped(other.is_mapped) {}
  VirtualRange& operator=(VirtualRange&&) = delete;
  ~VirtualRange() {
    if (driver == nullptr) return;
    if (is_mapped) driver->MemUnmap(address, bytes);
    driver->MemAddressFree(address, bytes);
  }
};

// An allocation by handle; a mapping keeps it as well. Move-only.
struct PhysicalMemory {
  const CudaDriver* driver = nullptr;
  CUmemGenericAllocationHandle handle = 0;

  explicit PhysicalMemory(const CudaDriver& with) noexcept : driver(&with) {}
  PhysicalMemory(PhysicalMemory&& other) noexcept
      : driver(other.driver), handle(std::exchange(other.handle, 0)) {}
  PhysicalMemory& operator=(PhysicalMemory&&) = delete;
  ~PhysicalMemory() {
    if (handle != 0) driver->MemRelease(handle);
  }
};

}  // namespace kaas
