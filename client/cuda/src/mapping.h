// Device memory of another process, by its cuMem descriptor, mapped in this one.
// Threads: any; one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "client/cuda/src/driver.h"

namespace kaas {
inline namespace v1 {

class CopyMapping {
 public:
  // All `bytes` of it, for kernels of the GPU that it is on, and of the calling thread's current
  // device. The descriptor stays the caller's. `gpu`: its UUID, 16 bytes; `device`: its name, for
  // errors. InvalidArgument: this process does not see the GPU, the current device does not reach
  // it, or the descriptor is no such memory; Unavailable: no CUDA driver.
  static Result<CopyMapping> create(int descriptor, std::uint64_t bytes,
                                    std::span<const std::byte> gpu, const std::string& device);
  ~CopyMapping();
  CopyMapping(CopyMapping&& other) noexcept;
  CopyMapping& operator=(CopyMapping&&) = delete;

  [[nodiscard]] void* data() const noexcept {
    return reinterpret_cast<void*>(address_);  // NOLINT(performance-no-int-to-ptr)
  }

 private:
  CopyMapping() = default;
  CUdeviceptr address_ = 0;
  std::size_t bytes_ = 0;
  bool is_mapped_ = false;
};

}  // namespace v1
}  // namespace kaas
