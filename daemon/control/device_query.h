// Asks the executor's program which GPUs there are: kaasd itself never loads a driver.
// Threads: any; the caller waits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

struct FoundDevice {
  std::string id;    // "GPU-<uuid>", "MIG-<uuid>".
  std::string name;  // "NVIDIA H100 80GB HBM3".
  std::uint64_t memory_bytes = 0;
  std::string problem;  // Why it can't be used; empty: it can.
};

struct DeviceInventory {
  std::vector<FoundDevice> devices;  // In the order of the driver: cuda:0 is the first.
  std::string problem;               // Why there are none; may be empty.
};

inline constexpr std::uint64_t kDeviceQueryNs = 15'000'000'000;

// Runs `program --list-devices`, without the prefix that executors are started under: a debugger
// would wait for somebody. The process is killed after `timeout_ns`.
// Fails: NotFound (no such program), Unavailable (its end or its answer are not as they should be;
//        the message has what it said).
Result<DeviceInventory> query_devices(const std::string& program,
                                      std::uint64_t timeout_ns = kDeviceQueryNs);

// What the program prints. Fails with Unavailable, naming the field.
Result<DeviceInventory> parse_inventory(std::string_view json);

}  // namespace kaas
