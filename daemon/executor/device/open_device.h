// From a device's name to the device, and which there are.
// Threads: main thread.
#pragma once

#include <memory>
#include <string>

#include "daemon/executor/device/device.h"

namespace kaas {

struct DeviceChoice {
  std::string device = "host";     // "host", or "cuda:" and the id of a GPU.
  std::uint64_t memory_bytes = 0;  // Of the host device.
  std::uint32_t threads = 1;       // Of the host device.
  std::uint32_t reserved_sms = 0;  // Of a GPU: see DeviceLimits::confines_background.
};

// Fails: InvalidArgument (the name), Unavailable (it cannot be had now; says why), OutOfMemory.
Result<std::unique_ptr<Device>> open_device(const DeviceChoice& choice);

// All GPUs as one JSON object:
// {"devices":[{"id":"GPU-...","name":"...","memory_bytes":N,"problem":""}],"problem":""}.
std::string list_devices_json();

}  // namespace kaas
