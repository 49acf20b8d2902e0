// Runs one launch on the CPU: how a host kernel of each form is called.
// Threads: any; the launch and its parameters are only read.
#pragma once

#include "daemon/executor/device/device.h"

namespace kaas {

// Number of blocks of a launch. Cannot overflow for a launch that passed the limits.
[[nodiscard]] constexpr std::uint64_t block_count(const kaas_launch& shape) noexcept {
  return std::uint64_t{shape.grid[0]} * shape.grid[1] * shape.grid[2];
}
[[nodiscard]] constexpr std::uint32_t block_threads(const kaas_launch& shape) noexcept {
  return shape.block[0] * shape.block[1] * shape.block[2];
}

// Whether the kernel can run on the CPU at all; the error says for what it was built.
Result<DeviceFunction> load_host_function(const KernelEntry& entry);

// Blocks [first, first + count) of a kernel with host_blocks, on the calling thread.
void run_host_blocks(const KernelLaunch& launch, std::uint64_t first, std::uint64_t count);

// A launch of any form as a whole, on the calling thread. KernelFault: it said or threw an error.
Result<void> run_host_launch(const KernelLaunch& launch);

}  // namespace kaas
