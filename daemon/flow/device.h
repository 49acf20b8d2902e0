// A device that kaasd runs kernels on, as it was chosen at kaasd's start.
// A *place* is the number of a device: its index in kaasd's list, plus 1. 0 is none, or any.
// Threads: values.
#pragma once

#include <cstdint>
#include <string>

namespace kaas {

inline constexpr std::uint32_t kAnyPlace = 0;

struct DeviceSpec {
  std::string id;                        // "host", "host-1", "GPU-<uuid>", "MIG-<uuid>"; unique.
  std::string argument;                  // What kaas-executor is told by --device.
  std::string name;                      // For people.
  std::uint64_t memory_limit_bytes = 0;  // Of each of its executors; 0: the executor's default.
};

}  // namespace kaas
