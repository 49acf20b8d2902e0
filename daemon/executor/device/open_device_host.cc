// Built without CUDA: the host is all there is.
#include "daemon/executor/device/host_device.h"
#include "daemon/executor/device/open_device.h"

namespace kaas {
namespace {

constexpr const char* kNoCuda = "this build has no CUDA parts (no CUDA toolkit was found)";

}  // namespace

Result<std::unique_ptr<Device>> open_device(const DeviceChoice& choice) {
  if (choice.device == "host") {
    return std::unique_ptr<Device>(
        std::make_unique<HostDevice>(choice.memory_bytes, choice.threads));
  }
  if (choice.device.starts_with("cuda:")) return Status{StatusCode::Unavailable, kNoCuda};
  return Status{StatusCode::InvalidArgument,
                "device is '" + choice.device + "', allowed: host, cuda:ID"};
}

std::string list_devices_json() {
  return std::string(R"({"devices":[],"problem":")") + kNoCuda + "\"}";
}

}  // namespace kaas
