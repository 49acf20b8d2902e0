// From what the operator wants, "auto" or a list, to the devices that kaasd runs on. Pure.
// Threads: any.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/control/device_query.h"
#include "daemon/flow/device.h"
#include "daemon/plan/library_path.h"

namespace kaas {

inline constexpr std::size_t kDevicesMax = 64;

struct DeviceChoice {
  DeviceKind kind = DeviceKind::Host;
  std::vector<DeviceSpec> devices;  // At least one, all of that kind.
  std::string note;                 // For the log: what is there and is not used; may be empty.
};

struct DeviceWish {
  std::string devices = "auto";
  std::uint64_t device_bytes = 0;  // Of an executor at most; 0: as it says.
  std::uint64_t host_bytes = 0;    // What all executors on the host share if device_bytes is 0.
};

// `wish.devices` is
//   auto          all GPUs that can be used; the host if there is none
//   host          the CPU
//   cuda          all GPUs that can be used, at least one
//   a,b,...       each an id, what only one id begins with, cuda:N, or host; only one kind
// `ask` is called only if GPUs are in question.
// Fails: InvalidArgument: the list itself. NotFound: names none or several of what there is.
//        Unavailable: it is there and can't be used, or nothing is there. The message says what is.
using AskDevices = std::function<Result<DeviceInventory>()>;
Result<DeviceChoice> choose_devices(const DeviceWish& wish, const AskDevices& ask);

}  // namespace kaas
